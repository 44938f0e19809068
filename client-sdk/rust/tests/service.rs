//! The client against the whole service in this process.
#![allow(clippy::unwrap_used, reason = "helpers of tests may panic")]

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use futures::StreamExt;
use herenow::config::{Config, Secret};
use herenow::token::{Signer, Watch as MayWatch};
use herenow::{Embedded, Wiring};
use herenow_client::{
    Activity, Client, ClientOptions, ConnectionState, DeviceKind, ManualStatus, NewStatus, Presence, Status,
    Watch,
};
use herenow_gateway_server::auth::{Algorithm, AuthConfig, KeySource};

const KEY: &str = "the key of the tests, at least 32 bytes long";
const LIMIT: Duration = Duration::from_secs(20);

async fn service(listen: SocketAddr) -> Embedded {
    let auth = AuthConfig::new(Algorithm::HS256, KeySource::Secret(KEY.to_owned()), "tests", "herenow");
    let mut gateway = herenow_gateway_server::Config::new(auth);
    gateway.listen = listen;
    gateway.shards = 1;
    gateway.core.fresh_for = Duration::from_millis(2_500);
    let mut config = Config { gateway: Some(gateway), ..Config::default() };
    config.cluster.secret = Some(Secret::new("a cluster secret of the tests, long enough"));
    config.cluster.partition_bits = 2;
    config.coordinator.ready_after = Duration::ZERO;
    config.coordinator.settle_after = Duration::ZERO;
    let node = Embedded::start(config, Wiring::local()).await.unwrap();
    node.ready().await;
    node
}

fn anywhere() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}

fn options(at: SocketAddr, user: &'static str) -> ClientOptions {
    let token = move || async move {
        let (issuer, audience) = (Some("tests".to_owned()), Some("herenow".to_owned()));
        let signer = Signer::new(Algorithm::HS256, KEY.as_bytes(), issuer, audience);
        let token =
            signer.and_then(|signer| signer.sign(user, "", MayWatch::Everybody, Duration::from_secs(600)));
        token.map_err(std::io::Error::other)
    };
    ClientOptions::new(format!("ws://{at}"), token)
        .device(user, DeviceKind::Desktop)
        .activity(Activity::Active)
}

async fn client(at: SocketAddr, user: &'static str) -> Client {
    Client::connect(options(at, user)).await.unwrap()
}

async fn sees(watch: &mut Watch, status: Status) -> Presence {
    let look = async {
        loop {
            let presence = watch.next().await.unwrap().presence;
            if presence.status == status {
                return presence;
            }
        }
    };
    tokio::time::timeout(LIMIT, look).await.unwrap_or_else(|_| panic!("{status:?} is not seen"))
}

#[tokio::test]
async fn one_person_is_seen_by_another() {
    let node = service(anywhere()).await;
    let at = node.address().unwrap();
    let ben = client(at, "ben").await;
    let mut watch = ben.watch(["ana"]).unwrap();
    sees(&mut watch, Status::Offline).await;
    let ana = client(at, "ana").await;
    sees(&mut watch, Status::Online).await;
    ana.set_activity(Activity::Idle);
    sees(&mut watch, Status::Idle).await;
    ana.set_status(NewStatus::new(ManualStatus::Dnd).text("lunch").emoji("🍜")).await.unwrap();
    let presence = sees(&mut watch, Status::Dnd).await;
    assert_eq!((presence.text.as_deref(), presence.emoji.as_deref()), (Some("lunch"), Some("🍜")));
    assert_eq!(ben.presence("ana"), Some(presence));
    assert_eq!(ben.query(["ana"]).await.unwrap()[0].status, Status::Dnd);
    ana.set_status(NewStatus::new(ManualStatus::Auto)).await.unwrap();
    sees(&mut watch, Status::Idle).await;
    ana.close().await;
    sees(&mut watch, Status::Offline).await;
}

#[tokio::test]
async fn what_the_service_refuses_is_said() {
    let node = service(anywhere()).await;
    let at = node.address().unwrap();
    let ana = client(at, "ana").await;
    let error = ana.set_status(NewStatus::new(ManualStatus::Dnd).text("x".repeat(257))).await.unwrap_err();
    assert_eq!(&*error.code, "invalid_value");
    assert!(!error.remediation.is_empty());
    let error =
        Client::connect(ClientOptions::with_token(format!("ws://{at}"), "no.token.this")).await.unwrap_err();
    assert_eq!(&*error.code, "invalid_token");
}

#[tokio::test]
async fn a_service_that_begins_anew_with_nothing_is_believed() {
    let node = service(anywhere()).await;
    let at = node.address().unwrap();
    let mut quick = options(at, "ben");
    quick.config.backoff_base = Duration::from_millis(100);
    quick.config.backoff_cap = Duration::from_millis(200);
    let ben = Client::connect(quick).await.unwrap();
    let mut watch = ben.watch(["ana"]).unwrap();
    let ana = client(at, "ana").await;
    sees(&mut watch, Status::Online).await;
    ana.close().await;
    sees(&mut watch, Status::Offline).await;

    node.leave(Duration::ZERO).await;
    let mut states = ben.connection_state();
    let node = service(at).await;
    let back = async { while !matches!(states.next().await, Some(ConnectionState::Connected { .. })) {} };
    tokio::time::timeout(LIMIT, back).await.unwrap();
    let _ana = client(node.address().unwrap(), "ana").await;
    // The new versions may be lower than those before: then this takes `fresh_for`, and not for ever.
    sees(&mut watch, Status::Online).await;
}
