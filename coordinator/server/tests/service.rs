//! The loop over the in-process bus: what goes in by subject comes out by subject.

#![expect(clippy::unwrap_used, reason = "a test ends where something is not as expected")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::future::{BoxFuture, FutureExt as _};
use herenow_bus::{Bus, Event, LocalBus, LocalEpochs, Message, PublishError, SubscribeError, Subscription};
use herenow_coordinator_core::Config;
use herenow_coordinator_server::{CoordinatorServer, Counting, Discard, Setup, StartError, TransitionSink};
use herenow_protocol::api::Changes;
use herenow_protocol::id::ProcessId;
use herenow_protocol::message::{
    CoordinatorBeat, Delta, GatewayBeat, Pull, Report, SessionChange, SessionRecord, Sync, ToGateway, Up,
};
use herenow_protocol::{
    Activity, DeviceId, DeviceKind, Epoch, GatewayId, Incarnation, Origin, Partition, Placement,
    SessionNumber, Status, UserId, WallTime, codec, subject,
};
use prometheus_client::registry::Registry;
use serde::de::DeserializeOwned;
use tokio::sync::broadcast;

const BITS: u32 = 2;
const PATIENCE: Duration = Duration::from_secs(10);

fn placement() -> Placement {
    Placement::new(b"a secret of the cluster", BITS)
}

fn setup(name: &str) -> Setup {
    let config = Config {
        ready_after: Duration::ZERO,
        settle_after: Duration::ZERO,
        heartbeat_interval: Duration::from_millis(20),
        dead_after: Duration::from_millis(500),
        hand_over_after: Duration::from_millis(50),
        ..Config::default()
    };
    Setup {
        config,
        id: ProcessId::new(name).unwrap(),
        incarnation: Incarnation(1),
        placement: placement(),
        seed: 7,
        violations: Default::default(),
        keep: None,
    }
}

async fn start(
    name: &str,
    bus: &LocalBus,
    epochs: &LocalEpochs,
    sink: Box<dyn TransitionSink>,
) -> CoordinatorServer {
    let (bus, epochs) = (Arc::new(bus.clone()), Arc::new(epochs.clone()));
    CoordinatorServer::start(setup(name), bus, epochs, sink, &mut Registry::default()).await.unwrap()
}

async fn owns(server: &CoordinatorServer, partitions: usize) {
    let mut status = server.watch();
    let waited = tokio::time::timeout(PATIENCE, status.wait_for(|status| status.owned == partitions)).await;
    waited.expect("in time").expect("runs");
}

async fn next<T: DeserializeOwned>(from: &mut Subscription) -> T {
    let message = tokio::time::timeout(PATIENCE, from.next()).await.expect("in time").expect("a message");
    codec::decode(&message.payload).unwrap()
}

/// What one gateway was told at once.
fn read(message: &Message) -> Vec<ToGateway> {
    codec::decode_bundle(&message.payload).unwrap()
}

fn origin() -> Origin {
    let gateway = GatewayId { process: ProcessId::new("gateway").unwrap(), shard: 0 };
    Origin { gateway, incarnation: Incarnation(1) }
}

fn send<T: serde::Serialize>(bus: &LocalBus, subject: &str, message: &T) {
    bus.publish(subject, Bytes::from(codec::encode(message).unwrap())).unwrap();
}

fn opened(user: &UserId) -> SessionChange {
    SessionChange::Opened(SessionRecord {
        number: SessionNumber(1),
        key: placement().key(user),
        user: user.clone(),
        device: DeviceId::new("d").unwrap(),
        kind: DeviceKind::Web,
        activity: Activity::Active,
        since: WallTime::from_millis(1),
    })
}

/// Answers the request for a sync of a partition as a gateway without sessions would; returns the owner's epoch.
async fn sync(bus: &LocalBus, inbox: &mut Subscription, partition: Partition) -> Epoch {
    loop {
        let message =
            tokio::time::timeout(PATIENCE, inbox.next()).await.expect("in time").expect("a message");
        let epoch_for = |told| {
            let ToGateway::Resync { partition: asked, epoch, .. } = told else { return None };
            (asked == partition).then_some(epoch)
        };
        if let Some(epoch) = read(&message).into_iter().find_map(epoch_for) {
            answer(bus, partition, epoch);
            return epoch;
        }
    }
}

fn answer(bus: &LocalBus, partition: Partition, epoch_seen: Epoch) {
    let (sessions, ended) = (Vec::new(), Vec::new());
    let sync = Sync {
        origin: origin(),
        partition,
        epoch_seen,
        seq: 0,
        page: 0,
        last: true,
        sessions,
        ended,
        forgot_ms: None,
    };
    send(bus, &subject::up(partition), &Up::Sync(sync));
}

fn metrics(registry: &Registry) -> String {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, registry).unwrap();
    text
}

#[tokio::test]
async fn a_report_becomes_a_delta_a_change_and_a_transition() {
    let (bus, epochs, sink) = (LocalBus::new(), LocalEpochs::new(), Counting::new(10));
    let server = start("one", &bus, &epochs, Box::new(sink.clone())).await;
    owns(&server, 4).await;
    assert!(server.ready());
    let user = UserId::new("ana * > . 😀").unwrap();
    let partition = placement().partition(placement().key(&user));
    let mut downs = bus.subscribe(&subject::down(partition), None).await.unwrap();
    let mut changes = bus.subscribe(&subject::changes(partition), None).await.unwrap();
    let mut inbox = bus.subscribe(&subject::gateway(&origin().gateway), None).await.unwrap();
    send(
        &bus,
        subject::GATEWAY_BEATS,
        &GatewayBeat { origin: origin(), streams: vec![], interests: vec![], left: false },
    );
    let epoch_seen = sync(&bus, &mut inbox, partition).await;
    let report = Report { origin: origin(), partition, epoch_seen, seq: 1, changes: vec![opened(&user)] };
    send(&bus, &subject::up(partition), &Up::Report(report));
    let delta: Delta = next(&mut downs).await;
    assert_eq!(delta.entries[0].public.status, Status::Online);
    let message = tokio::time::timeout(PATIENCE, changes.next()).await.unwrap().unwrap();
    let batch: Changes = serde_json::from_slice(&message.payload).unwrap();
    assert_eq!(batch.changes[0].presence.user_id, user);
    assert_eq!(sink.count(), 1);
    assert_eq!(sink.last()[0].user, user);
    server.drain().await;
}

#[tokio::test]
async fn what_one_gateway_asks_at_once_is_answered_at_once() {
    let (bus, epochs) = (LocalBus::new(), LocalEpochs::new());
    let server = start("one", &bus, &epochs, Box::new(Discard)).await;
    owns(&server, 4).await;
    let mut inbox = bus.subscribe(&subject::gateway(&origin().gateway), None).await.unwrap();
    let mut asked = codec::Bundle::default();
    for partition in placement().all() {
        let (request, users) = (u64::from(partition.0), vec![Default::default()]);
        let pull = Pull { origin: origin(), partition, request, interest: None, users };
        assert_eq!(asked.add(&Up::Pull(pull)), Ok(None));
    }
    let owner = subject::owner(&ProcessId::new("one").unwrap());
    bus.publish(&owner, Bytes::from(asked.take().unwrap())).unwrap();
    let message = tokio::time::timeout(PATIENCE, inbox.next()).await.expect("in time").unwrap();
    let answered = read(&message).into_iter().filter_map(|told| {
        let ToGateway::Snapshot(snapshot) = told else { return None };
        Some((snapshot.partition.0, snapshot.request, snapshot.last))
    });
    assert_eq!(answered.collect::<Vec<_>>(), [0, 1, 2, 3].map(|n| (n, u64::from(n), true)));
    server.drain().await;
}

#[tokio::test]
async fn what_cannot_be_read_is_counted_and_harms_nothing() {
    let (bus, epochs) = (LocalBus::new(), LocalEpochs::new());
    let mut registry = Registry::default();
    let server = CoordinatorServer::start(
        setup("one"),
        Arc::new(bus.clone()),
        Arc::new(epochs),
        Box::new(Discard),
        &mut registry,
    );
    let server = server.await.unwrap();
    owns(&server, 4).await;
    let (up, owner) = (subject::up(Partition(0)), subject::owner(&ProcessId::new("one").unwrap()));
    for subject in [subject::COORDINATOR_BEATS, subject::GATEWAY_BEATS, &up, &owner] {
        bus.publish(subject, Bytes::from_static(b"")).unwrap();
        bus.publish(subject, Bytes::from_static(b"\xff\xff\xff")).unwrap();
    }
    let mut beats = bus.subscribe(subject::COORDINATOR_BEATS, None).await.unwrap();
    next::<CoordinatorBeat>(&mut beats).await;
    next::<CoordinatorBeat>(&mut beats).await;
    assert!(server.running());
    let text = metrics(&registry);
    assert!(text.contains("herenow_coordinator_decode_errors_total{reason=\"empty\"} 4"), "{text}");
    assert!(text.contains("herenow_coordinator_decode_errors_total{reason=\"version\"} 4"), "{text}");
    assert!(text.contains("herenow_coordinator_partitions 4"), "{text}");
    assert!(text.contains("herenow_coordinator_turn_seconds_bucket"), "{text}");
}

/// A bus whose first subscriptions to partitions fail.
struct Flaky(LocalBus, AtomicUsize);

impl Bus for Flaky {
    fn publish(&self, subject: &str, payload: Bytes) -> Result<(), PublishError> {
        self.0.publish(subject, payload)
    }

    fn subscribe<'a>(
        &'a self,
        subject: &'a str,
        queue: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Subscription, SubscribeError>> {
        let partition = subject.starts_with("herenow.i1.up.");
        if partition && self.1.fetch_add(1, Ordering::Relaxed) < 6 {
            // A pattern that no bus takes.
            return self.0.subscribe("..", None);
        }
        self.0.subscribe(subject, queue)
    }

    fn events(&self) -> broadcast::Receiver<Event> {
        self.0.events()
    }
}

#[tokio::test]
async fn a_subscription_that_fails_is_tried_again() {
    let bus = LocalBus::new();
    let flaky = Arc::new(Flaky(bus.clone(), AtomicUsize::new(0)));
    let epochs = Arc::new(LocalEpochs::new());
    let mut registry = Registry::default();
    let server = CoordinatorServer::start(setup("one"), flaky, epochs, Box::new(Discard), &mut registry);
    let server = server.await.unwrap();
    owns(&server, 4).await;
    let mut inbox = bus.subscribe(&subject::gateway(&origin().gateway), None).await.unwrap();
    send(
        &bus,
        subject::GATEWAY_BEATS,
        &GatewayBeat { origin: origin(), streams: vec![], interests: vec![], left: false },
    );
    // It asks again until it hears the answer, and it hears the answer once it listens.
    let mut beats = bus.subscribe(subject::COORDINATOR_BEATS, None).await.unwrap();
    let heard = async {
        while !metrics(&registry).contains("herenow_coordinator_syncs_total 4") {
            next::<CoordinatorBeat>(&mut beats).await;
            send(
                &bus,
                subject::GATEWAY_BEATS,
                &GatewayBeat { origin: origin(), streams: vec![], interests: vec![], left: false },
            );
            while let Some(Some(message)) = inbox.next().now_or_never() {
                for told in read(&message) {
                    if let ToGateway::Resync { partition, epoch, .. } = told {
                        answer(&bus, partition, epoch);
                    }
                }
            }
        }
    };
    tokio::time::timeout(PATIENCE, heard).await.expect("heard in time");
    assert!(metrics(&registry).contains("herenow_coordinator_subscribe_failures_total 6"));
    server.drain().await;
}

#[tokio::test]
async fn two_coordinators_share_and_a_leaving_one_gives_away() {
    let (bus, epochs) = (LocalBus::new(), LocalEpochs::new());
    let one = start("one", &bus, &epochs, Box::new(Discard)).await;
    owns(&one, 4).await;
    let two = start("two", &bus, &epochs, Box::new(Discard)).await;
    let mut status = two.watch();
    tokio::time::timeout(PATIENCE, status.wait_for(|status| status.owned > 0)).await.unwrap().unwrap();
    one.drain().await;
    owns(&two, 4).await;
    two.drain().await;
}

#[tokio::test]
async fn a_crash_is_taken_over() {
    let (bus, epochs) = (LocalBus::new(), LocalEpochs::new());
    let one = start("one", &bus, &epochs, Box::new(Discard)).await;
    let two = start("two", &bus, &epochs, Box::new(Discard)).await;
    let mut status = one.watch();
    tokio::time::timeout(PATIENCE, status.wait_for(|status| status.owned > 0)).await.unwrap().unwrap();
    drop(one);
    owns(&two, 4).await;
}

#[tokio::test]
async fn a_wrong_configuration_is_named() {
    let mut wrong = setup("one");
    wrong.config.dead_after = Duration::ZERO;
    let (bus, epochs) = (Arc::new(LocalBus::new()), Arc::new(LocalEpochs::new()));
    let started =
        CoordinatorServer::start(wrong, bus, epochs, Box::new(Discard), &mut Registry::default()).await;
    let Err(StartError::Config(message)) = started else { panic!("it started") };
    assert!(message.starts_with("dead_after: "), "{message}");
}
