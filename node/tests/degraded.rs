//! What REST says while no coordinator can be heard: from Redis, from the store behind it, or that nobody knows. A gateway and
//! a coordinator over a real NATS server, with a real Redis between them and a store that can be told to fail.

#![expect(clippy::unwrap_used, reason = "a test ends where something is not as expected")]

mod servers;
mod support;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt as _};
use herenow::config::{BusKind, Config, Role, Secret};
use herenow::{Embedded, Wiring};
use herenow_bus::testing::NatsServer;
use herenow_gateway_server::auth::{Algorithm, AuthConfig, KeySource};
use herenow_protocol::record::{Record, Seen};
use herenow_protocol::{Epoch, MonoTime, Placement, Status, UserId, UserKey, Version, WallTime};
use herenow_store::{
    Cached, KeyRange, MemoryStore, Near, NearClock, NearConfig, Page, StatusStore, StoreError, Written,
};
use serde_json::{Value, json};
use servers::redis::Redis;
use support::http::{get, post};
use support::{AUDIENCE, Client, ISSUER, KEY, PATIENCE, backend};

/// A store that can be told to fail, and counts its reads.
#[derive(Clone)]
struct Moody {
    store: MemoryStore,
    fails: Arc<AtomicBool>,
    reads: Arc<AtomicUsize>,
}

impl Moody {
    fn new() -> Self {
        Self { store: MemoryStore::new(10_000), fails: Arc::default(), reads: Arc::default() }
    }

    fn mood(&self) -> Result<(), StoreError> {
        match self.fails.load(Ordering::SeqCst) {
            true => Err(StoreError::Unavailable("is told to fail".to_owned())),
            false => Ok(()),
        }
    }
}

impl StatusStore for Moody {
    fn put_batch(&self, records: Vec<Record>) -> BoxFuture<'_, Result<Written, StoreError>> {
        async move {
            self.mood()?;
            self.store.put_batch(records).await
        }
        .boxed()
    }

    fn get_many(&self, keys: Vec<UserKey>) -> BoxFuture<'_, Result<Vec<Option<Record>>, StoreError>> {
        async move {
            self.mood()?;
            self.reads.fetch_add(1, Ordering::SeqCst);
            self.store.get_many(keys).await
        }
        .boxed()
    }

    fn scan(&self, range: KeyRange, from: Option<UserKey>) -> BoxFuture<'_, Result<Page, StoreError>> {
        async move {
            self.mood()?;
            self.store.scan(range, from).await
        }
        .boxed()
    }

    fn erase(&self, users: Vec<(UserKey, Version)>) -> BoxFuture<'_, Result<Written, StoreError>> {
        async move {
            self.mood()?;
            self.store.erase(users).await
        }
        .boxed()
    }
}

struct Deployment {
    nats: NatsServer,
    redis: Redis,
    store: Moody,
}

impl Deployment {
    async fn start() -> Option<Self> {
        let redis = Redis::start(&[]).await?;
        Some(Self { nats: NatsServer::start().await, redis, store: Moody::new() })
    }

    async fn node(&self, name: &str, role: Role) -> Embedded {
        let config = config(&self.nats, name, role);
        let cache = Cached::open(&self.redis.config(), Arc::new(self.store.clone())).await.unwrap();
        let store: Arc<dyn StatusStore> = Arc::new(cache.clone());
        let mut wiring = Wiring::nats(&config.nats).await.unwrap();
        wiring.cache = Some(cache);
        match role {
            Role::Coordinator => wiring.store = Some(store),
            Role::Gateway | Role::Archiver => wiring.last_known = Some(store),
        }
        Embedded::start(config, wiring).await.unwrap()
    }
}

fn config(nats: &NatsServer, name: &str, role: Role) -> Config {
    let auth = AuthConfig::new(Algorithm::HS256, KeySource::Secret(KEY.to_owned()), ISSUER, AUDIENCE);
    let mut gateway = herenow_gateway_server::Config::new(auth);
    gateway.listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    gateway.shards = 1;
    let mut config = Config { gateway: Some(gateway), ..Config::default() };
    config.node.name = Some(name.to_owned());
    config.node.roles = vec![role];
    config.cluster.bus = BusKind::Nats;
    config.cluster.secret = Some(Secret::new("a cluster secret of the tests, long enough"));
    config.cluster.partition_bits = 2;
    config.nats.servers = vec![nats.url.clone()];
    config.store.interval = Duration::from_millis(20);
    config
}

async fn status(at: SocketAddr, user: &str) -> Value {
    let answer = get(at, &format!("/status/{user}"), Some(&backend("presence:read"))).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

async fn until(at: SocketAddr, user: &str, what: &str, is: impl Fn(&Value) -> bool) -> Value {
    let there = async {
        loop {
            let said = status(at, user).await;
            if is(&said) {
                return said;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE * 2, there).await.expect(what)
}

fn certain(said: &Value) -> bool {
    said["status"] != "unknown" && said["asOf"].is_null()
}

fn metric(node: &Embedded, name: &str) -> f64 {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &node.registry()).unwrap();
    text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok()).unwrap_or(0.0)
}

fn degraded(node: &Embedded, result: &str) -> f64 {
    metric(node, &format!("herenow_gateway_degraded_reads_total{{result=\"{result}\"}}"))
}

#[tokio::test]
async fn without_coordinators_rest_tells_what_is_kept_and_never_guesses() {
    let Some(mut deployment) = Deployment::start().await else { return };
    let gateway = deployment.node("gateway", Role::Gateway).await;
    let at = gateway.address().unwrap();
    let coordinator = deployment.node("coordinator", Role::Coordinator).await;
    until(at, "ana", "an owner in time", certain).await;
    let ana = Client::connect(at, "ana").await;
    until(at, "ana", "ana is there", |said| said["status"] == "online" && certain(said)).await;
    ana.bye().await;
    let set = json!({"userId": "ben", "status": "dnd", "text": "thinking", "sessionId": "phone"});
    let set = post(at, "/status", Some(&backend("presence:write")), &set.to_string()).await;
    assert_eq!(set.status, 200, "{set:?}");
    let ana = until(at, "ana", "ana is gone", |said| said["status"] == "offline" && certain(said)).await;
    let ben = until(at, "ben", "ben is there", |said| said["status"] == "dnd" && certain(said)).await;
    until_kept(&coordinator).await;
    assert_eq!(degraded(&gateway, "store"), 0.0);
    let reads = deployment.store.reads.load(Ordering::SeqCst);
    drop(coordinator);

    // From Redis: nobody else is asked.
    let kept = |said: &Value| said["asOf"].is_string() && said["status"] != "unknown";
    for before in [&ana, &ben] {
        let said = until(at, before["userId"].as_str().unwrap(), "what is kept", kept).await;
        for what in ["status", "text", "lastUpdated", "version"] {
            assert_eq!(said[what], before[what], "{what}: {said}, before: {before}");
        }
        assert!(said["asOf"].as_str() >= said["lastUpdated"].as_str(), "{said}");
    }
    assert_eq!(deployment.store.reads.load(Ordering::SeqCst), reads, "the cache had them");
    assert!(degraded(&gateway, "store") >= 2.0);
    assert!(metric(&gateway, "herenow_cache_hits_total") >= 2.0);
    assert!(metric(&gateway, "herenow_cache_hit_ratio") > 0.0);
    let carl = status(at, "carl").await;
    assert_eq!((&carl["status"], &carl["lastUpdated"]), (&json!("unknown"), &Value::Null), "{carl}");
    let body = json!({"userIds": ["ben", "carl", "ana"]}).to_string();
    let all = post(at, "/statuses", Some(&backend("presence:read")), &body).await.json();
    let all: Vec<&Value> = all["statuses"].as_array().unwrap().iter().map(|one| &one["status"]).collect();
    assert_eq!(all, ["dnd", "unknown", "offline"]);

    // Without Redis: slower, and the same.
    deployment.redis.kill();
    for before in [&ana, &ben] {
        let said = status(at, before["userId"].as_str().unwrap()).await;
        assert_eq!((&said["status"], &said["version"]), (&before["status"], &before["version"]), "{said}");
    }
    assert!(deployment.store.reads.load(Ordering::SeqCst) >= reads + 2);
    assert!(metric(&gateway, "herenow_cache_bypassed_total") >= 1.0);

    // Without anything: nobody knows.
    deployment.store.fails.store(true, Ordering::SeqCst);
    let said = status(at, "ben").await;
    assert_eq!((&said["status"], said.get("text")), (&json!("unknown"), None), "{said}");
    assert!(degraded(&gateway, "failed") >= 1.0);

    // With all of it back: for certain again.
    deployment.store.fails.store(false, Ordering::SeqCst);
    assert!(deployment.redis.restart().await);
    let coordinator = deployment.node("next", Role::Coordinator).await;
    let ben = until(at, "ben", "certain again", certain).await;
    assert_eq!((&ben["status"], &ben["text"]), (&json!("dnd"), &json!("thinking")));
    drop(coordinator);
}

/// Until everything that has changed is written.
async fn until_kept(coordinator: &Embedded) {
    let kept = async {
        let stored = "herenow_store_records_written_total{outcome=\"stored\"}";
        while metric(coordinator, stored) < 3.0 || metric(coordinator, "herenow_store_waiting") > 0.0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, kept).await.expect("kept in time");
}

/// A clock that stands until it is told to go.
#[derive(Clone, Default)]
struct Told(Arc<AtomicU64>);

impl Told {
    fn goes(&self, by: Duration) {
        self.0.fetch_add(u64::try_from(by.as_millis()).unwrap(), Ordering::SeqCst);
    }
}

impl NearClock for Told {
    fn mono(&self) -> MonoTime {
        MonoTime::from_millis(1_000 + self.0.load(Ordering::SeqCst))
    }

    fn wall(&self) -> WallTime {
        WallTime::from_millis(1_700_000_000_000 + self.0.load(Ordering::SeqCst))
    }
}

/// What a coordinator elsewhere writes.
fn record(placement: &Placement, name: &str, n: u64, text: &str) -> Record {
    let user = UserId::new(name).unwrap();
    let written = Version { epoch: Epoch { counter: 1, nonce: 7 }, n };
    let since = Some(WallTime::from_millis(1_600_000_000_000 + n));
    let text = Some(text.into());
    Record {
        key: placement.key(&user),
        user,
        written,
        seen: Seen { version: written, status: Status::Dnd, since, text, emoji: None },
        manual: None,
        api: None,
        virtual_sessions: Vec::new(),
    }
}

/// A gateway reads the store once for who is asked for again. What others write or erase meanwhile it tells after the
/// longest time at the latest.
#[tokio::test]
async fn what_a_gateway_has_read_is_told_from_memory_and_not_for_longer_than_it_may() {
    let (nats, store, clock) = (NatsServer::start().await, Moody::new(), Told::default());
    let config = config(&nats, "gateway", Role::Gateway);
    let placement = config.placement().unwrap();
    let write = |name, n, text| store.store.put_batch(vec![record(&placement, name, n, text)]);
    write("ana", 1, "first").await.unwrap();
    write("ben", 1, "first").await.unwrap();

    let limits = NearConfig::default();
    let near = Near::with_clock(&limits, Arc::new(store.clone()), Box::new(clock.clone())).unwrap();
    let mut wiring = Wiring::nats(&config.nats).await.unwrap();
    wiring.last_known = Some(Arc::new(near.clone()));
    wiring.near = Some(near);
    let gateway = Embedded::start(config, wiring).await.unwrap();
    let at = gateway.address().unwrap();
    let said = async |user| {
        let said = status(at, user).await;
        (said["status"].clone(), said["text"].clone(), said["asOf"].is_string())
    };
    let told = |text: &str| (json!("dnd"), json!(text), true);
    for _ in 0..3 {
        assert_eq!((said("ana").await, said("ben").await), (told("first"), told("first")));
    }
    assert_eq!(store.reads.load(Ordering::SeqCst), 2);
    let near = |name: &str| metric(&gateway, &format!("herenow_near_{name}"));
    assert_eq!((near("hits_total"), near("misses_total"), near("users")), (4.0, 2.0, 2.0));

    write("ana", 2, "second").await.unwrap();
    let erased = Version { epoch: Epoch { counter: 1, nonce: 7 }, n: 2 };
    store.store.erase(vec![(placement.key(&UserId::new("ben").unwrap()), erased)]).await.unwrap();
    assert_eq!(said("ana").await, told("first"), "what others write is not known at once");
    clock.goes(limits.max_ttl);
    assert_eq!(said("ana").await, told("second"));
    assert_eq!(said("ben").await.0, "unknown");
    assert_eq!(near("expired_total"), 2.0);
}
