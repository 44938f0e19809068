//! What only a bus with a server between its participants can do: lose it, find it again, and be refused by it.
#![allow(clippy::unwrap_used, reason = "a test may fail so")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use herenow_bus::testing::{NatsServer, check_config};
use herenow_bus::{
    Bus, EpochStore, Event, Journal as _, JournalConfig, NatsBus, NatsConfig, PublishError, Recorded, Secret,
    Subscription,
};
use herenow_protocol::subject as subjects;
use herenow_protocol::{CoordinatorId, Epoch, Partition};
use tokio::sync::broadcast::Receiver;
use tokio::time::timeout;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(10);
/// Within which the loss of a server must be known, and said by whoever publishes.
const NOTICED: Duration = Duration::from_secs(2);
const SILENCE: Duration = Duration::from_millis(300);
const FIRST: Epoch = Epoch { counter: 1, nonce: 1 };

const PASSWORDS: [(&str, &str); 6] = [
    ("HERENOW_NATS_NODE_PASSWORD", "of-the-node"),
    ("HERENOW_NATS_GATEWAY_PASSWORD", "of-the-gateway"),
    ("HERENOW_NATS_COORDINATOR_PASSWORD", "of-the-coordinator"),
    ("HERENOW_NATS_ARCHIVER_PASSWORD", "of-the-archiver"),
    ("HERENOW_NATS_BACKEND_PASSWORD", "of-the-backend"),
    ("HERENOW_NATS_OPERATOR_PASSWORD", "of-the-operator"),
];

fn to(server: &NatsServer) -> NatsConfig {
    NatsConfig { servers: vec![server.url.clone()], ..NatsConfig::default() }
}

async fn connected(config: &NatsConfig) -> NatsBus {
    let bus = NatsBus::connect(config).await.unwrap();
    let mut events = bus.events();
    while !bus.is_connected() {
        said(&mut events, Event::Connected).await;
    }
    bus
}

async fn said(events: &mut Receiver<Event>, expected: Event) {
    let event = timeout(PATIENCE, events.recv()).await.expect("something is said").unwrap();
    assert_eq!(event, expected);
}

async fn refused(bus: &NatsBus, subject: &str) {
    let until_refused = async {
        while bus.publish(subject, Bytes::from_static(b"into the void")) != Err(PublishError::Disconnected) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(NOTICED, until_refused).await.expect("the loss is noticed in time");
}

async fn next(subscription: &mut Subscription) -> String {
    let message = timeout(PATIENCE, subscription.next()).await.expect("a message comes").expect("it goes on");
    String::from_utf8(message.payload.to_vec()).unwrap()
}

async fn silent(subscription: &mut Subscription) {
    let came = timeout(SILENCE, subscription.next()).await;
    assert!(came.is_err(), "{came:?}");
}

#[tokio::test]
async fn a_killed_server_is_noticed_and_found_again() {
    let mut server = NatsServer::start().await;
    let bus = connected(&to(&server)).await;
    let mut events = bus.events();
    let mut bulk = bus.subscribe("t.x", None).await.unwrap();
    let mut beats = bus.subscribe(subjects::GATEWAY_BEATS, None).await.unwrap();

    server.kill();
    refused(&bus, "t.x").await;
    refused(&bus, subjects::GATEWAY_BEATS).await;
    said(&mut events, Event::Disconnected).await;
    assert!(!bus.is_connected());

    assert!(server.restart().await);
    said(&mut events, Event::Connected).await;
    assert!(bus.is_connected());
    while let Ok(Some(stale)) = timeout(SILENCE, bulk.next()).await {
        assert!(stale.payload.is_empty(), "nothing stale is replayed: {stale:?}");
    }
    bus.publish("t.x", "again".into()).unwrap();
    bus.publish(subjects::GATEWAY_BEATS, "alive".into()).unwrap();
    assert_eq!(next(&mut bulk).await, "again");
    assert_eq!(next(&mut beats).await, "alive");
}

#[tokio::test]
async fn what_was_published_before_a_flush_outlives_the_process() {
    let server = NatsServer::start().await;
    let here = connected(&to(&server)).await;
    let mut bulk = here.subscribe("t.x", None).await.unwrap();
    let mut beats = here.subscribe(subjects::GATEWAY_BEATS, None).await.unwrap();
    let config = to(&server);
    // A runtime of its own that ends is as a process that does: nothing of it runs on.
    let ended = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let bus = connected(&config).await;
            for n in 0..100 {
                bus.publish("t.x", n.to_string().into()).unwrap();
            }
            bus.publish(subjects::GATEWAY_BEATS, "last".into()).unwrap();
            bus.flush().await;
        });
    });
    for n in 0..100 {
        assert_eq!(next(&mut bulk).await, n.to_string());
    }
    assert_eq!(next(&mut beats).await, "last");
    ended.join().unwrap();
}

#[tokio::test]
async fn a_frozen_server_is_noticed_too() {
    let server = NatsServer::start().await;
    let bus = connected(&to(&server)).await;
    let mut events = bus.events();
    server.freeze();
    let lost = timeout(NOTICED + Duration::from_secs(1), events.recv()).await;
    assert_eq!(lost.unwrap().unwrap(), Event::Disconnected);
    refused(&bus, "t.x").await;
    refused(&bus, subjects::GATEWAY_BEATS).await;
    server.thaw();
    said(&mut events, Event::Connected).await;
}

#[tokio::test]
async fn a_server_about_to_stop_is_left_before_it_does() {
    let (old, mut new) = (NatsServer::start().await, NatsServer::start().await);
    new.kill();
    let bus = connected(&NatsConfig { servers: vec![old.url.clone(), new.url.clone()], ..to(&old) }).await;
    let mut events = bus.events();
    assert!(new.restart().await);
    // By itself, the server would wait ten seconds before it closes the first connection.
    old.send_clients_away();
    let moved = timeout(Duration::from_secs(5), async {
        said(&mut events, Event::Disconnected).await;
        said(&mut events, Event::Connected).await;
    });
    moved.await.expect("it moves at once");
    drop(old);
    let mut messages = bus.subscribe("t.x", None).await.unwrap();
    let until_heard = async {
        while bus.publish("t.x", "hello".into()).is_err() || timeout(SILENCE, messages.next()).await.is_err()
        {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, until_heard).await.expect("messages flow over the other server");
}

#[tokio::test]
async fn a_full_queue_refuses_and_takes_again_when_it_has_room() {
    let server = NatsServer::start().await;
    let bus = connected(&NatsConfig { client_capacity: 16, ..to(&server) }).await;
    // On this one thread, nothing is sent before the next await.
    for _ in 0..16 {
        assert_eq!(bus.publish("t.x", "x".into()), Ok(()));
    }
    assert_eq!(bus.publish("t.x", "x".into()), Err(PublishError::Full));
    assert_eq!(
        bus.publish(subjects::GATEWAY_BEATS, "alive".into()),
        Ok(()),
        "beats have a queue of their own"
    );
    let mut messages = timeout(PATIENCE, bus.subscribe("t.x", None)).await.unwrap().unwrap();
    bus.publish("t.x", "room".into()).unwrap();
    assert_eq!(next(&mut messages).await, "room");
}

#[tokio::test]
async fn a_server_may_come_after_its_clients() {
    let mut server = NatsServer::start().await;
    server.kill();
    let bus = NatsBus::connect(&to(&server)).await.unwrap();
    let mut events = bus.events();
    let mut early = bus.subscribe("t.x", None).await.unwrap();
    assert_eq!(bus.publish("t.x", "x".into()), Err(PublishError::Disconnected));
    assert!(server.restart().await);
    said(&mut events, Event::Connected).await;
    bus.publish("t.x", "hello".into()).unwrap();
    assert_eq!(next(&mut early).await, "hello");
}

#[tokio::test]
async fn without_its_server_the_arbiter_says_so_in_time_and_forgets_nothing() {
    let mut server = NatsServer::start().await;
    let bus = connected(&to(&server)).await;
    let mut events = bus.events();
    let epochs = bus.epochs();
    while epochs.record(Partition(1), FIRST, "c1").await != Recorded::Yes {}

    server.kill();
    let next_epoch = Epoch { counter: 2, nonce: 7 };
    let answer = timeout(Duration::from_secs(1), epochs.record(Partition(1), next_epoch, "c1")).await;
    assert_eq!(answer, Ok(Recorded::Unavailable));
    assert_eq!(timeout(Duration::from_secs(1), epochs.load()).await.unwrap(), []);

    assert!(server.restart().await);
    while !bus.is_connected() {
        timeout(PATIENCE, events.recv()).await.unwrap().unwrap();
    }
    let mut answer = Recorded::Unavailable;
    while answer == Recorded::Unavailable {
        answer = epochs.record(Partition(1), FIRST, "c2").await;
    }
    assert_eq!(answer, Recorded::Conflict(FIRST));
}

#[tokio::test]
async fn a_wrong_password_is_told_apart_from_a_bad_configuration() {
    let server = NatsServer::start_with_config(&production_config(), &PASSWORDS).await;
    let config =
        NatsConfig { user: Some("gateway".into()), password: Some(Secret::new("wrong")), ..to(&server) };
    // The server may learn the password later, so this is no error; but nothing gets through.
    let bus = NatsBus::connect(&config).await.unwrap();
    assert!(timeout(SILENCE, bus.events().recv()).await.is_err());
    assert_eq!(bus.publish("t.x", "x".into()), Err(PublishError::Disconnected));
    let config = NatsConfig { servers: vec![], ..NatsConfig::default() };
    assert!(NatsBus::connect(&config).await.is_err());
    let config = NatsConfig { token_file: Some("/nowhere/token".into()), ..NatsConfig::default() };
    let error = NatsBus::connect(&config).await.unwrap_err();
    assert!(error.to_string().starts_with("nats.token_file: cannot read /nowhere/token"), "{error}");
}

fn production_config() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/nats/nats-server.conf")
}

async fn as_user(server: &NatsServer, name: &str) -> NatsBus {
    let password = Secret::new(format!("of-the-{name}"));
    connected(&NatsConfig { user: Some(name.to_owned()), password: Some(password), ..to(server) }).await
}

#[test]
fn the_configuration_for_production_is_accepted_by_the_server() {
    assert_eq!(check_config(&production_config(), &PASSWORDS), Ok(()));
    assert!(check_config(&production_config(), &PASSWORDS[1..]).is_err(), "no password is ever assumed");
}

#[tokio::test]
async fn the_configuration_for_production_lets_each_role_do_its_work_and_no_more() {
    let server = NatsServer::start_with_config(&production_config(), &PASSWORDS).await;
    let gateway = as_user(&server, "gateway").await;
    let coordinator = as_user(&server, "coordinator").await;
    let node = as_user(&server, "node").await;
    let owner = CoordinatorId::new("c1").unwrap();

    for (from, to, subject) in [
        (&gateway, &coordinator, subjects::up(Partition(3))),
        (&gateway, &coordinator, subjects::owner(&owner)),
        (&gateway, &coordinator, subjects::GATEWAY_BEATS.to_owned()),
        (&gateway, &gateway, subjects::GATEWAY_BEATS.to_owned()),
        (&coordinator, &gateway, subjects::COORDINATOR_BEATS.to_owned()),
        (&coordinator, &coordinator, subjects::COORDINATOR_BEATS.to_owned()),
        (&coordinator, &gateway, subjects::down(Partition(3))),
        (&node, &gateway, subjects::down(Partition(4))),
        (&gateway, &node, subjects::up(Partition(4))),
    ] {
        assert!(passes(from, to, &subject).await, "{subject}");
    }
    assert!(
        !passes(&gateway, &gateway, &subjects::down(Partition(5))).await,
        "only owners say who is present"
    );
    assert!(!passes(&gateway, &gateway, subjects::COORDINATOR_BEATS).await, "only coordinators beat as such");
    assert!(!passes(&coordinator, &coordinator, &subjects::up(Partition(5))).await, "only gateways report");
    assert!(!passes(&coordinator, &coordinator, &subjects::owner(&owner)).await, "only gateways ask");

    for epochs in [coordinator.epochs(), node.epochs()] {
        while epochs.record(Partition(1), FIRST, "c1").await != Recorded::Yes {}
        while epochs.load().await.is_empty() {}
    }
    assert_eq!(gateway.epochs().record(Partition(1), FIRST, "c1").await, Recorded::Unavailable);
}

#[tokio::test]
async fn the_configuration_for_production_lets_archivers_take_and_nobody_else() {
    let server = NatsServer::start_with_config(&production_config(), &PASSWORDS).await;
    let config = JournalConfig { max_bytes: 1 << 20, replicas: 1 };
    let archiver = as_user(&server, "archiver").await.journal(config);
    let coordinator = as_user(&server, "coordinator").await.journal(config);
    let node = as_user(&server, "node").await.journal(config);
    while coordinator.append("1".into()).await.is_err() {}
    while node.append("2".into()).await.is_err() {}
    let taken = archiver.take(10, PATIENCE).await.unwrap();
    assert_eq!(taken.len(), 2);
    archiver.busy(&taken).await;
    archiver.done(&taken[..1]).await.unwrap();
    archiver.bury(&taken[1], "a reason").await.unwrap();
    let done = herenow_bus::Backlog { waiting: 0, in_hand: 0, done_through: 2 };
    assert_eq!(archiver.backlog().await.unwrap(), done);
    assert!(coordinator.take(1, SILENCE).await.is_err(), "only archivers take");
}

#[tokio::test]
async fn the_configuration_for_production_answers_backends_and_shows_them_nothing_else() {
    let server = NatsServer::start_with_config(&production_config(), &PASSWORDS).await;
    let gateway = as_user(&server, "gateway").await;
    let coordinator = as_user(&server, "coordinator").await;
    let options = async_nats::ConnectOptions::new();
    let options = options.user_and_password("backend".to_owned(), "of-the-backend".to_owned());
    let backend = options.connect(&server.url).await.unwrap();

    let mut questions = gateway.subscribe(subjects::GET, Some(subjects::BACKEND_QUEUE)).await.unwrap();
    let asked = tokio::spawn({
        let backend = backend.clone();
        async move {
            loop {
                // Until the subscription has reached the server, nobody answers.
                if let Ok(answer) = backend.request(subjects::GET, "?".into()).await {
                    return answer.payload;
                }
            }
        }
    });
    let question = timeout(PATIENCE, questions.next()).await.unwrap().unwrap();
    gateway.publish(&question.reply.unwrap(), "answer".into()).unwrap();
    assert_eq!(timeout(PATIENCE, asked).await.unwrap().unwrap(), "answer");

    let mut changes = backend.subscribe(subjects::ALL_CHANGES).await.unwrap();
    let mut inner = backend.subscribe("herenow.i1.>").await.unwrap();
    backend.flush().await.unwrap();
    let until_heard = async {
        loop {
            coordinator.publish(&subjects::down(Partition(0)), "inner".into()).unwrap();
            coordinator.publish(&subjects::changes(Partition(0)), "outer".into()).unwrap();
            if let Ok(Some(change)) = timeout(SILENCE, changes.next()).await {
                return change.payload;
            }
        }
    };
    assert_eq!(timeout(PATIENCE, until_heard).await.unwrap(), "outer");
    let leaked = timeout(SILENCE, inner.next()).await;
    assert!(!matches!(leaked, Ok(Some(_))), "{leaked:?}");
}

/// Whether what one publishes on a subject reaches the other.
async fn passes(from: &NatsBus, to: &NatsBus, subject: &str) -> bool {
    let mut subscription = to.subscribe(subject, None).await.unwrap();
    for _ in 0..10 {
        from.publish(subject, "x".into()).unwrap();
        if matches!(timeout(SILENCE / 3, subscription.next()).await, Ok(Some(_))) {
            return true;
        }
    }
    silent(&mut subscription).await;
    false
}
