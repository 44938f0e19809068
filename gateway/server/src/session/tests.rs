//! What needs a socket that does as it is told.

use std::sync::Arc;
use std::time::Duration;

use herenow_bus::LocalBus;
use herenow_protocol::id::ProcessId;
use herenow_protocol::{GatewayId, Incarnation, Origin, Placement};
use prometheus_client::registry::Registry;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::task::{JoinHandle, LocalSet, spawn_local};

use super::*;
use crate::auth::Verifier;
use crate::auth::tests::{good_verified, hs256_config};
use crate::clock::Clock;
use crate::config::Config;
use crate::metrics::{Metrics, Violations};
use crate::shard::Common;

fn shard(change: impl FnOnce(&mut Config)) -> Rc<Shard> {
    let mut config = Config::new(hs256_config());
    change(&mut config);
    let common = Common {
        clock: Clock::starting(),
        verifier: Arc::new(Verifier::load(&config.auth).unwrap()),
        config: Arc::new(config),
        metrics: Metrics::register(&mut Registry::default(), Violations::default()),
        bus: Arc::new(LocalBus::new()),
    };
    let gateway = GatewayId { process: ProcessId::new("test").unwrap(), shard: 0 };
    let origin = Origin { gateway, incarnation: Incarnation(1) };
    Shard::new(common, origin, Placement::new(b"tests", 2), 1)
}

/// A session over a pipe of `size` bytes.
fn session(shard: &Rc<Shard>, size: usize) -> (DuplexStream, JoinHandle<()>) {
    let (client, socket) = duplex(size);
    let seat = Seat::take(shard).unwrap();
    let session =
        Session::begin(socket, seat, Greeting::default(), Some(good_verified(shard.now().wall)), &[]);
    (client, spawn_local(session))
}

async fn run(test: impl Future<Output = ()>) {
    let limited = tokio::time::timeout(Duration::from_secs(10), test);
    LocalSet::new().run_until(limited).await.unwrap();
}

#[tokio::test]
async fn an_idle_session_has_nothing_but_its_socket_and_seat() {
    assert!(
        size_of::<Session<tokio::net::TcpStream>>() <= 96,
        "{}",
        size_of::<Session<tokio::net::TcpStream>>()
    );
    run(async {
        let shard = shard(|_| {});
        let (client, socket) = duplex(4_096);
        let seat = Seat::take(&shard).unwrap();
        let mut session =
            Session::begin(socket, seat, Greeting::default(), Some(good_verified(shard.now().wall)), &[]);
        assert!(futures::poll!(&mut session).is_pending());
        assert!(session.rare.is_none() && session.rest.is_none());
        drop((client, session));
        assert_eq!(shard.sockets(), 0);
    })
    .await;
}

#[tokio::test]
async fn a_socket_that_takes_nothing_is_dropped() {
    run(async {
        let shard = shard(|config| config.timeouts.write = Duration::from_millis(100));
        let (client, task) = session(&shard, 16);
        task.await.unwrap();
        assert_eq!(shard.sockets(), 0);
        drop(client);
    })
    .await;
}

#[tokio::test]
async fn a_socket_that_takes_a_little_at_a_time_gets_everything() {
    run(async {
        let shard = shard(|config| config.timeouts.write = Duration::from_millis(500));
        let (mut client, task) = session(&shard, 7);
        let mut got = Vec::new();
        let mut one = [0];
        // The welcome frame names its length in two bytes after its head.
        while got.len() < 4 || got.len() < 4 + usize::from(u16::from_be_bytes([got[2], got[3]])) {
            client.read_exact(&mut one).await.unwrap();
            got.push(one[0]);
        }
        assert!(std::str::from_utf8(&got[4..]).unwrap().starts_with("{\"type\":\"welcome\""));
        client.shutdown().await.unwrap();
        drop(client);
        task.await.unwrap();
        assert_eq!(shard.sockets(), 0);
    })
    .await;
}

#[tokio::test]
async fn a_peer_that_never_hangs_up_is_left_behind() {
    run(async {
        let shard = shard(|config| config.timeouts.close = Duration::from_millis(100));
        let (mut client, task) = session(&shard, 4_096);
        client.write_all(&[0x82, 0x81, 1, 2, 3, 4, 5]).await.unwrap();
        task.await.unwrap();
        let mut got = Vec::new();
        client.read_to_end(&mut got).await.unwrap();
        assert!(got.ends_with(b"\x03\xebbinary_frame"), "{got:?}");
    })
    .await;
}

#[tokio::test]
async fn a_task_that_is_aborted_gives_its_seat_back() {
    run(async {
        let shard = shard(|_| {});
        let (client, task) = session(&shard, 4_096);
        tokio::task::yield_now().await;
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
        assert_eq!(shard.sockets(), 0);
        drop(client);
    })
    .await;
}
