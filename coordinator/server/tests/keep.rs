//! What a coordinator keeps, over a store in memory that can be away: written behind, read by the next.

#![expect(clippy::unwrap_used, reason = "a test ends where something is not as expected")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::future::{BoxFuture, FutureExt as _};
use herenow_bus::{Bus as _, LocalBus, LocalEpochs};
use herenow_coordinator_core::Config;
use herenow_coordinator_server::{CoordinatorServer, Discard, Keep, KeepConfig, Setup, StartError};
use herenow_protocol::frame::ManualStatus;
use herenow_protocol::id::ProcessId;
use herenow_protocol::message::{ApiStatus, ClaimCommand, ClaimRequest, Claimed, ToGateway, Up};
use herenow_protocol::record::Record;
use herenow_protocol::{GatewayId, Incarnation, Origin, Placement, UserId, UserKey, Version, codec, subject};
use herenow_store::{KeyRange, MemoryStore, Page, StatusStore, StoreError, Written};
use prometheus_client::registry::Registry;

const PATIENCE: Duration = Duration::from_secs(10);

/// A store that answers only while it is neither away nor silent.
#[derive(Clone)]
struct Moody {
    store: MemoryStore,
    away: Arc<AtomicBool>,
    silent: Arc<AtomicBool>,
    /// What is written is there after so many milliseconds.
    slow: Arc<AtomicU64>,
}

impl Moody {
    fn new() -> Self {
        let store = MemoryStore::new(1_000);
        Self { store, away: Arc::default(), silent: Arc::default(), slow: Arc::default() }
    }

    fn set_silent(&self, silent: bool) {
        self.silent.store(silent, Ordering::Relaxed);
    }

    fn set_away(&self, away: bool) {
        self.away.store(away, Ordering::Relaxed);
    }

    fn or_away<'a, T: Send + 'a>(
        &self,
        answer: BoxFuture<'a, Result<T, StoreError>>,
    ) -> BoxFuture<'a, Result<T, StoreError>> {
        if self.silent.load(Ordering::Relaxed) {
            return futures::future::pending().boxed();
        }
        if self.away.load(Ordering::Relaxed) {
            return futures::future::ready(Err(StoreError::Unavailable("away".to_owned()))).boxed();
        }
        answer
    }
}

impl StatusStore for Moody {
    fn put_batch(&self, records: Vec<Record>) -> BoxFuture<'_, Result<Written, StoreError>> {
        let slow = Duration::from_millis(self.slow.load(Ordering::Relaxed));
        let later = async move {
            tokio::time::sleep(slow).await;
            self.store.put_batch(records).await
        };
        self.or_away(later.boxed())
    }

    fn get_many(&self, keys: Vec<UserKey>) -> BoxFuture<'_, Result<Vec<Option<Record>>, StoreError>> {
        self.or_away(self.store.get_many(keys))
    }

    fn scan(&self, range: KeyRange, from: Option<UserKey>) -> BoxFuture<'_, Result<Page, StoreError>> {
        self.or_away(self.store.scan(range, from))
    }

    fn erase(&self, users: Vec<(UserKey, Version)>) -> BoxFuture<'_, Result<Written, StoreError>> {
        self.or_away(self.store.erase(users))
    }
}

fn placement() -> Placement {
    Placement::new(b"a secret of the cluster", 2)
}

fn key(name: &str) -> UserKey {
    placement().key(&UserId::new(name).unwrap())
}

struct Node {
    bus: LocalBus,
    server: CoordinatorServer,
    registry: Registry,
    requests: u64,
}

impl Node {
    async fn start(store: &Moody, change: impl FnOnce(&mut KeepConfig)) -> Self {
        let mut keep = KeepConfig { interval: Duration::from_millis(20), ..KeepConfig::default() };
        keep.load_timeout = Duration::from_millis(200);
        change(&mut keep);
        let setup = setup(Some(Keep { store: Arc::new(store.clone()), config: keep }));
        let node = Self::join(&LocalBus::new(), &Arc::new(LocalEpochs::new()), setup).await;
        node.owns_all().await;
        node
    }

    async fn join(bus: &LocalBus, epochs: &Arc<LocalEpochs>, setup: Setup) -> Self {
        let (bus, epochs, mut registry) = (bus.clone(), Arc::clone(epochs), Registry::default());
        let requests = setup.seed * 100;
        let server =
            CoordinatorServer::start(setup, Arc::new(bus.clone()), epochs, Box::new(Discard), &mut registry);
        Self { bus, server: server.await.unwrap(), registry, requests }
    }

    async fn owns_all(&self) {
        let mut status = self.server.watch();
        tokio::time::timeout(PATIENCE, status.wait_for(|status| status.settled == 4)).await.unwrap().unwrap();
    }

    /// A user says some words.
    async fn claim(&mut self, name: &str, text: &str) {
        let text = Some(text.into());
        let command = ClaimCommand::Manual { status: ManualStatus::Dnd, text, emoji: None, expires_at: None };
        self.ask(name, command).await;
    }

    async fn ask(&mut self, name: &str, command: ClaimCommand) -> Claimed {
        self.requests += 1;
        let process = ProcessId::new("gateway").unwrap();
        let origin = Origin { gateway: GatewayId { process, shard: 0 }, incarnation: Incarnation(1) };
        let mut inbox = self.bus.subscribe(&subject::gateway(&origin.gateway), None).await.unwrap();
        let partition = placement().partition(key(name));
        let user = UserId::new(name).unwrap();
        let request =
            ClaimRequest { origin, partition, request: self.requests, key: key(name), user, command };
        let message = codec::encode(&Up::Claim(request)).unwrap();
        self.bus.publish(&subject::up(partition), Bytes::from(message)).unwrap();
        loop {
            let answer = tokio::time::timeout(PATIENCE, inbox.next()).await.unwrap().unwrap();
            if let ToGateway::ClaimDone(done) = codec::decode(&answer.payload).unwrap() {
                assert_eq!(done.request, self.requests);
                return done.outcome.unwrap();
            }
        }
    }

    fn metric(&self, name: &str) -> u64 {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|value| value.parse().ok()).unwrap_or_default()
    }

    async fn until(&self, name: &str, enough: impl Fn(u64) -> bool) {
        let reached = async {
            while !enough(self.metric(name)) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, reached).await.expect(name);
    }
}

fn setup(keep: Option<Keep>) -> Setup {
    let config = Config {
        ready_after: Duration::ZERO,
        settle_after: Duration::ZERO,
        heartbeat_interval: Duration::from_millis(20),
        dead_after: Duration::from_millis(500),
        ..Config::default()
    };
    Setup {
        config,
        id: ProcessId::new("one").unwrap(),
        incarnation: Incarnation(1),
        placement: placement(),
        seed: 7,
        keep,
        violations: Default::default(),
    }
}

async fn kept(store: &Moody, name: &str) -> Option<String> {
    let record = store.store.get_many(vec![key(name)]).await.unwrap().remove(0)?;
    record.manual?.text.map(String::from)
}

const STORED: &str = "herenow_store_records_written_total{outcome=\"stored\"}";
const FAILED: &str = "herenow_store_failures_total{call=\"put\",reason=\"unavailable\"}";

#[tokio::test]
async fn what_is_claimed_is_written_and_of_one_user_only_the_last() {
    let store = Moody::new();
    let mut node = Node::start(&store, |config| config.interval = Duration::from_millis(300)).await;
    for i in 0..20 {
        node.claim("ana", &format!("saying {i}")).await;
    }
    node.until(STORED, |stored| stored > 0).await;
    assert_eq!(kept(&store, "ana").await.as_deref(), Some("saying 19"));
    assert!(node.metric(STORED) < 20, "many changes are one write");
}

#[tokio::test]
async fn while_the_store_is_away_the_last_value_waits_and_too_many_users_are_counted() {
    let store = Moody::new();
    let mut node = Node::start(&store, |config| config.max_waiting = 2).await;
    store.set_away(true);
    node.claim("ana", "first").await;
    node.until(FAILED, |failures| failures >= 3).await;
    node.claim("ana", "second").await;
    node.claim("ben", "one").await;
    node.until("herenow_store_waiting", |waiting| waiting == 2).await;
    node.claim("cleo", "one too many").await;
    node.until("herenow_store_dropped_total", |dropped| dropped > 0).await;
    assert_eq!(kept(&store, "ana").await, None);
    store.set_away(false);
    node.until(STORED, |stored| stored >= 2).await;
    assert_eq!(kept(&store, "ana").await.as_deref(), Some("second"));
    assert_eq!(kept(&store, "ben").await.as_deref(), Some("one"));
    assert_eq!(kept(&store, "cleo").await, None);
}

#[tokio::test]
async fn who_is_erased_is_erased_whoever_else_waits() {
    let store = Moody::new();
    let mut node = Node::start(&store, |config| config.max_waiting = 1).await;
    node.claim("ana", "soon gone").await;
    node.until(STORED, |stored| stored > 0).await;
    store.set_away(true);
    node.claim("ben", "dropped").await;
    node.ask("ana", ClaimCommand::Erase).await;
    node.until("herenow_store_dropped_total", |dropped| dropped == 1).await;
    store.set_away(false);
    node.until(STORED, |stored| stored > 1).await;
    assert_eq!((kept(&store, "ana").await, kept(&store, "ben").await), (None, None));
}

#[tokio::test]
async fn calls_that_are_not_answered_are_made_again() {
    let store = Moody::new();
    store.set_silent(true);
    let mut node = Node::start(&store, |config| config.timeout = Duration::from_millis(100)).await;
    node.until("herenow_store_failures_total{call=\"scan\",reason=\"unavailable\"}", |failures| failures > 4)
        .await;
    store.set_silent(false);
    node.until("herenow_coordinator_partitions_unread", |unread| unread == 0).await;
    store.set_silent(true);
    node.claim("ana", "patient").await;
    node.until(FAILED, |failures| failures > 0).await;
    store.set_silent(false);
    node.until(STORED, |stored| stored > 0).await;
    assert_eq!(kept(&store, "ana").await.as_deref(), Some("patient"));
}

#[tokio::test]
async fn who_leaves_in_order_has_written_everything_and_the_next_reads_it() {
    let store = Moody::new();
    let mut node = Node::start(&store, |config| config.interval = Duration::from_secs(60)).await;
    node.claim("ana", "see you").await;
    node.server.drain().await;
    assert_eq!(kept(&store, "ana").await.as_deref(), Some("see you"));
    // The arbiter of the next one knows of no epoch; the store does.
    let next = Node::start(&store, |_| {}).await;
    next.until("herenow_store_records_read_total", |read| read > 0).await;
    next.until("herenow_coordinator_partitions_unread", |unread| unread == 0).await;
    next.until("herenow_coordinator_users", |users| users == 1).await;
}

/// Two coordinators and a store that takes its time: what was said a moment before a partition is given away, and is
/// not written yet, is what its next owner knows.
#[tokio::test]
async fn a_claim_survives_the_hand_over_of_its_partition() {
    let store = Moody::new();
    let (bus, epochs) = (LocalBus::new(), Arc::new(LocalEpochs::new()));
    let join = |name: &str, seed: u64| {
        let config = KeepConfig { interval: Duration::from_secs(60), ..KeepConfig::default() };
        let mut setup = setup(Some(Keep { store: Arc::new(store.clone()), config }));
        (setup.id, setup.seed) = (ProcessId::new(name).unwrap(), seed);
        (setup.config.heartbeat_interval, setup.config.dead_after) =
            (Duration::from_millis(250), Duration::from_secs(1));
        // The second one hears the first before it may claim anything.
        setup.config.ready_after = Duration::from_millis(500);
        Node::join(&bus, &epochs, setup)
    };
    let mut one = join("one", 1).await;
    one.owns_all().await;
    let mut two = join("two", 2).await;
    let mut status = two.server.watch();
    tokio::time::timeout(PATIENCE, status.wait_for(|status| status.ready)).await.unwrap().unwrap();
    store.slow.store(100, Ordering::Relaxed);
    let people = ["ana", "ben", "cleo", "dan", "eve", "fay", "gus", "hal"];
    for name in people {
        one.claim(name, "my last words here").await;
    }
    assert_eq!(kept(&store, "ana").await, None, "nothing is written yet");
    assert_eq!((one.server.status().owned, two.server.status().owned), (4, 0));
    tokio::join!(one.server.drain(), two.owns_all());
    for name in people {
        let below = ClaimCommand::Api { status: ApiStatus::Idle, text: None, ttl_ms: None, session: None };
        let claimed = two.ask(name, below).await;
        let shown = &claimed.entry.public;
        assert!(claimed.covered, "{name}: the claim that it made of itself is above: {shown:?}");
        assert_eq!(shown.text.as_deref(), Some("my last words here"));
    }
}

#[tokio::test]
async fn a_store_that_is_away_at_the_start_delays_settling_and_nothing_else() {
    let store = Moody::new();
    store.set_away(true);
    let mut node = Node::start(&store, |_| {}).await;
    node.until("herenow_coordinator_partitions_unread", |unread| unread == 4).await;
    node.claim("ana", "here all the same").await;
    store.set_away(false);
    node.until("herenow_coordinator_partitions_unread", |unread| unread == 0).await;
    node.until(STORED, |stored| stored > 0).await;
    assert_eq!(kept(&store, "ana").await.as_deref(), Some("here all the same"));
}

#[tokio::test]
async fn a_key_of_the_store_that_is_wrong_is_named() {
    let config = KeepConfig { max_waiting: 0, ..KeepConfig::default() };
    let setup = setup(Some(Keep { store: Arc::new(Moody::new()), config }));
    let (bus, epochs) = (Arc::new(LocalBus::new()), Arc::new(LocalEpochs::new()));
    let refused =
        CoordinatorServer::start(setup, bus, epochs, Box::new(Discard), &mut Registry::default()).await;
    assert!(matches!(refused, Err(StartError::Store(why)) if why.starts_with("max_waiting")));
}
