use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::support::*;

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

#[test]
fn a_drain_tells_every_client_to_come_back_and_closes_who_stays() {
    let server = server();
    let mut peer = session(&server);
    let address = server.address;
    let began = Instant::now();
    let drained = std::thread::spawn(move || block_on(server.running.drain(Duration::from_millis(300))));
    let reconnect = peer.frame();
    assert_eq!(reconnect["type"], "reconnect");
    assert!(reconnect["withinMs"].as_u64().unwrap() <= 300);
    assert_eq!(peer.closed(), 4000);
    drained.join().unwrap();
    assert!(began.elapsed() >= Duration::from_millis(300), "not before the window is over");
    assert!(TcpStream::connect(address).is_err(), "nobody listens any more");
}

#[test]
fn a_drain_ends_as_soon_as_everybody_has_left() {
    let server = server();
    let mut peer = session(&server);
    let began = Instant::now();
    let drained = std::thread::spawn(move || block_on(server.running.drain(Duration::from_secs(60))));
    assert_eq!(peer.frame()["type"], "reconnect");
    peer.send(&frame(0x88, &1001_u16.to_be_bytes()));
    assert_eq!(peer.closed(), 1001);
    drained.join().unwrap();
    assert!(began.elapsed() < Duration::from_secs(30));
}

#[test]
fn that_it_has_left_is_said_more_than_once() {
    use futures::StreamExt as _;
    use herenow_bus::Bus as _;
    use herenow_protocol::{codec, message::GatewayBeat, subject};
    let server = server();
    let mut beats = block_on(server.bus.subscribe(subject::GATEWAY_BEATS, None)).unwrap();
    block_on(server.running.drain(Duration::from_millis(300)));
    let mut farewells = 0;
    while let Some(Some(beat)) = futures::FutureExt::now_or_never(beats.next()) {
        farewells += usize::from(codec::decode::<GatewayBeat>(&beat.payload).unwrap().left);
    }
    assert!(farewells > 1, "one may be lost: {farewells}");
}

#[test]
fn a_shard_on_the_thread_that_started_it_serves_drains_and_ends() {
    use tokio::task::LocalSet;
    let (tell, told) = std::sync::mpsc::channel();
    let (come, came) = tokio::sync::oneshot::channel();
    let served = std::thread::spawn(move || {
        block_on(LocalSet::new().run_until(async {
            let server = start(Knows { on_this_thread: true, ..Knows::default() }, config());
            tell.send(server.address).unwrap();
            came.await.unwrap();
            server.running.drain(Duration::from_millis(300)).await;
        }));
    });
    let address = told.recv().unwrap();
    let mut peer = session_at(address, &token());
    come.send(()).unwrap();
    assert_eq!(peer.frame()["type"], "reconnect");
    assert_eq!(peer.closed(), 4000);
    served.join().unwrap();
    assert!(TcpStream::connect(address).is_err(), "nobody listens any more");
}

#[test]
fn several_shards_share_one_port() {
    let server = server_with(|config| config.shards = 3);
    let mut sessions: Vec<_> = (0..20)
        .map(|i| session_of(&server, &token_of(serde_json::json!({ "sub": format!("u{i}") }))))
        .collect();
    assert!(sessions.iter_mut().all(Peer::is_alive));
    drop(sessions);
    block_on(server.running.drain(Duration::from_secs(5)));
}

#[test]
fn a_wrong_setting_is_named_at_the_start() {
    use herenow_gateway_server::config::TlsConfig;
    let start = |change: &dyn Fn(&mut herenow_gateway_server::Config)| {
        let mut config = config();
        change(&mut config);
        let mut registry = prometheus_client::registry::Registry::default();
        let parts = herenow_gateway_server::Parts {
            process: herenow_protocol::id::ProcessId::new("test").unwrap(),
            placement: herenow_protocol::Placement::new(b"tests", 2),
            bus: std::sync::Arc::new(herenow_bus::LocalBus::new()),
            registry: &mut registry,
            violations: Default::default(),
            extra: None,
            directory: None,
            last_known: None,
            on_this_thread: false,
        };
        herenow_gateway_server::GatewayServer::start(config, parts).unwrap_err().to_string()
    };
    let files = TlsConfig { certificate: "/nonexistent".into(), key: "/nonexistent".into() };
    assert!(start(&|c| c.tls = Some(files.clone())).starts_with("tls.certificate"));
    assert!(start(&|c| c.auth.issuer.clear()).starts_with("auth.issuer"));
    assert!(start(&|c| c.listen = "192.0.2.1:1".parse().unwrap()).starts_with("listen: 192.0.2.1:1"));
}
