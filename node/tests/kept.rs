//! What a process with a store says after kill -9, and what it says of a store that it cannot use.

#![expect(clippy::unwrap_used, reason = "a test ends where something is not as expected")]

mod servers;
mod support;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use herenow_protocol::Placement;
use herenow_store::{Cassandra, CassandraConfig};
use serde_json::{Value, json};
use servers::cassandra::{SUPERUSER, Server};
use servers::postgres;
use support::http::{delete, get, post};
use support::{AUDIENCE, Client, ISSUER, KEY, PATIENCE, backend};

/// How often what has changed is written.
const INTERVAL: Duration = Duration::from_millis(50);

struct Process {
    child: Child,
    admin: SocketAddr,
    at: SocketAddr,
}

impl Process {
    /// Until it is ready, on what is kept.
    async fn start(store: &[Setting<'_>]) -> Self {
        let (admin, at) = (free(), free());
        let child = serve(admin, at, store).spawn().unwrap();
        let mut process = Self { child, admin, at };
        tokio::time::timeout(PATIENCE, process.ready()).await.expect("ready in time");
        process
    }

    /// Until a number of `/metrics` is above zero.
    async fn counts(&self, name: &str) {
        let counted = async {
            loop {
                let answer = support::http::exchange(self.admin, b"GET /metrics HTTP/1.0\r\n\r\n").await;
                let text = answer.map(|answer| answer.text).unwrap_or_default();
                let value = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
                if value.is_some_and(|value: u64| value > 0) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(PATIENCE * 2, counted).await.expect(name);
    }

    async fn ready(&mut self) {
        loop {
            let answer = support::http::exchange(self.admin, b"GET /readyz HTTP/1.0\r\n\r\n").await;
            if answer.is_some_and(|answer| answer.status == 200) {
                return;
            }
            assert!(self.child.try_wait().unwrap().is_none(), "the process ended");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn status(&self, user: &str) -> Value {
        let answer = get(self.at, &format!("/status/{user}"), Some(&backend("presence:read"))).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    }

    /// What it says of a user as soon as that is certain.
    async fn certain(&self, user: &str) -> Value {
        let certain = async {
            loop {
                let said = self.status(user).await;
                if said["status"] != "unknown" && said["asOf"].is_null() {
                    return said;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, certain).await.expect("certain in time")
    }

    async fn until_status(&self, user: &str, wanted: &str) {
        let shown = async {
            while self.status(user).await["status"] != wanted {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, shown).await.expect(wanted);
    }

    async fn set(&self, body: Value) {
        let answer = post(self.at, "/status", Some(&backend("presence:write")), &body.to_string()).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }

    /// `kill -9`.
    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}

type Setting<'a> = (&'a str, &'a str);

fn serve(admin: SocketAddr, at: SocketAddr, store: &[Setting<'_>]) -> Command {
    let binary = std::env::var("HERENOW_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_herenow").to_owned());
    let mut command = Command::new(binary);
    command.args(["serve", "--listen", &at.to_string(), "--admin-listen", &admin.to_string()]);
    command.envs(settings()).envs(store.iter().copied()).stdout(Stdio::null());
    command
}

fn settings() -> [Setting<'static>; 9] {
    [
        ("HERENOW__CLUSTER__SECRET", "a cluster secret of the tests, long enough"),
        ("HERENOW__CLUSTER__PARTITION_BITS", "4"),
        ("HERENOW__GATEWAY__AUTH__ALGORITHM", "HS256"),
        ("HERENOW__GATEWAY__AUTH__KEYS__0__SECRET", KEY),
        ("HERENOW__GATEWAY__AUTH__ISSUER", ISSUER),
        ("HERENOW__GATEWAY__AUTH__AUDIENCE", AUDIENCE),
        ("HERENOW__GATEWAY__SHARDS", "1"),
        ("HERENOW__STORE__INTERVAL", "50ms"),
        ("HERENOW__LOG__LEVEL", "warn"),
    ]
}

#[tokio::test]
async fn claims_and_last_seen_survive_kill_9_and_who_was_erased_does_not() {
    let directory = tempfile::tempdir().unwrap();
    let kept = directory.path().join("store");
    let store = [("HERENOW__STORE__KIND", "embedded"), ("HERENOW__STORE__PATH", kept.to_str().unwrap())];
    let mut process = Process::start(&store).await;
    let ana = Client::connect(process.at, "ana").await;
    ana.bye().await;
    process.set(json!({"userId": "ben", "status": "dnd", "text": "thinking"})).await;
    process.set(json!({"userId": "eve", "status": "online"})).await;
    let erased = delete(process.at, "/status/eve", Some(&backend("presence:admin"))).await;
    assert!(erased.status < 300, "{erased:?}");
    for round in 0..3 {
        let text = format!("round {round}");
        process.set(json!({"userId": "cleo", "status": "online", "text": text})).await;
        let (ana, ben, cleo) =
            (process.certain("ana").await, process.certain("ben").await, process.certain("cleo").await);
        assert_eq!((&ana["status"], ana["lastUpdated"].is_null()), (&json!("offline"), false), "{ana}");
        assert_eq!((&ben["status"], &ben["text"]), (&json!("dnd"), &json!("thinking")));
        tokio::time::sleep(INTERVAL * 10).await;
        process.kill();
        process = Process::start(&store).await;
        for (user, before) in [("ana", ana), ("ben", ben), ("cleo", cleo)] {
            let after = process.certain(user).await;
            for what in ["status", "text", "lastUpdated"] {
                assert_eq!(after[what], before[what], "{what} of {user}: {before}, then {after}");
            }
        }
        let eve = process.certain("eve").await;
        assert_eq!((&eve["status"], &eve["lastUpdated"]), (&json!("offline"), &Value::Null), "{eve}");
    }
}

fn in_cassandra<'a>(config: &'a CassandraConfig, password: &'a str) -> [Setting<'a>; 6] {
    [
        ("HERENOW__STORE__KIND", "cassandra"),
        ("HERENOW__STORE__CASSANDRA__NODES", config.nodes[0].as_str()),
        ("HERENOW__STORE__CASSANDRA__KEYSPACE", config.keyspace.as_str()),
        ("HERENOW__STORE__CASSANDRA__REPLICATION", "1"),
        ("HERENOW__STORE__CASSANDRA__USER", SUPERUSER),
        ("HERENOW__STORE__CASSANDRA__PASSWORD", password),
    ]
}

/// The code that a start ends with, and what it says.
fn refused(store: &[Setting<'_>]) -> (Option<i32>, String) {
    let output = serve(free(), free(), store).output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[tokio::test]
async fn what_will_not_mend_by_itself_ends_the_start() {
    let Some(server) = Server::shared() else { return };
    let (ours, others) = (server.config(), server.config());
    let (code, said) = refused(&in_cassandra(&ours, "wrong"));
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("store.cassandra") && said.contains("refuses"), "{said}");
    assert!(!said.contains("wrong"), "a password is never told: {said}");
    let store = Cassandra::open(&others).await.unwrap();
    store.claim_for(&Placement::new(b"the secret of somebody else", 4)).await.unwrap();
    let (code, said) = refused(&in_cassandra(&others, SUPERUSER));
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("store.cassandra") && said.contains("another cluster secret"), "{said}");
}

#[tokio::test]
async fn a_process_that_starts_without_its_servers_serves_and_keeps_when_they_come() {
    let Some(mut server) = Server::start() else { return };
    let config = server.config();
    server.kill();
    let store = in_cassandra(&config, SUPERUSER);
    let mut process = Process::start(&store).await;
    process.set(json!({"userId": "ben", "status": "dnd", "text": "all the same"})).await;
    process.counts("herenow_store_failures_total{call=\"scan\",reason=\"unavailable\"}").await;
    server.restart();
    process.counts("herenow_store_records_written_total{outcome=\"stored\"}").await;
    process.kill();
    process = Process::start(&store).await;
    let ben = process.certain("ben").await;
    assert_eq!((&ben["status"], &ben["text"]), (&json!("dnd"), &json!("all the same")), "{ben}");
}

/// What is in the log of a store of this user, as (from, to).
async fn history(log: &dyn herenow_store::ActivityLog, user: &str) -> Vec<(String, String)> {
    let placement = Placement::new(b"a cluster secret of the tests, long enough", 4);
    let key = placement.key(&herenow_protocol::UserId::new(user).unwrap());
    let entries = log.query(key, herenow_store::Span::ALL).await.unwrap();
    entries.into_iter().map(|entry| (format!("{:?}", entry.from), format!("{:?}", entry.to))).collect()
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(from, to)| ((*from).to_owned(), (*to).to_owned())).collect()
}

#[tokio::test]
async fn one_process_keeps_the_history_in_its_store_and_forgets_who_is_erased() {
    let directory = tempfile::tempdir().unwrap();
    let kept = directory.path().join("store");
    let store = [
        ("HERENOW__STORE__KIND", "embedded"),
        ("HERENOW__STORE__PATH", kept.to_str().unwrap()),
        ("HERENOW__ACTIVITY__KEEP", "true"),
    ];
    let mut process = Process::start(&store).await;
    for user in ["ana", "eve"] {
        let client = Client::connect(process.at, user).await;
        process.until_status(user, "online").await;
        client.bye().await;
        process.until_status(user, "offline").await;
    }
    let erased = delete(process.at, "/status/eve", Some(&backend("presence:admin"))).await;
    assert!(erased.status < 300, "{erased:?}");
    process.counts("herenow_history_delivered_total").await;
    tokio::time::sleep(INTERVAL * 20).await;
    process.kill();
    let placement = Placement::new(b"a cluster secret of the tests, long enough", 4);
    let log = herenow_store::Embedded::open(&kept, &placement).await.unwrap();
    assert_eq!(history(&log, "ana").await, pairs(&[("Offline", "Online"), ("Online", "Offline")]));
    assert!(history(&log, "eve").await.is_empty());
}

#[tokio::test]
async fn over_nats_an_archiver_writes_the_history() {
    let Some(server) = postgres::Server::shared() else { return };
    let (nats, config) = (herenow_bus::testing::NatsServer::start().await, server.config());
    let port = server.port.to_string();
    let shared = [
        ("HERENOW__CLUSTER__BUS", "nats"),
        ("HERENOW__NATS__SERVERS", nats.url.as_str()),
        ("HERENOW__ACTIVITY__KEEP", "true"),
        ("HERENOW__ACTIVITY__STREAM_BYTES", "1048576"),
    ];
    let archiver = [
        ("HERENOW__NODE__NAME", "archiver"),
        ("HERENOW__NODE__ROLES", "archiver"),
        ("HERENOW__PEOPLE__PORT", port.as_str()),
        ("HERENOW__PEOPLE__DATABASE", "postgres"),
        ("HERENOW__PEOPLE__SCHEMA", config.schema.as_str()),
        ("HERENOW__PEOPLE__PASSWORD", postgres::PASSWORD),
    ];
    let both: Vec<Setting<'_>> = shared.iter().chain(&[("HERENOW__NODE__NAME", "one")]).copied().collect();
    let archiver: Vec<Setting<'_>> = shared.iter().chain(&archiver).copied().collect();
    let process = Process::start(&both).await;
    let ana = Client::connect(process.at, "ana").await;
    process.until_status("ana", "online").await;
    // It comes later, and finds what has waited.
    let mut first = Process::start(&archiver).await;
    let store = herenow_store::Postgres::open(&config).await.unwrap();
    let wait_for = async |wanted: Vec<(String, String)>| {
        let there = async {
            while history(&store, "ana").await != wanted {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(PATIENCE * 2, there).await.expect("the history in time");
    };
    wait_for(pairs(&[("Offline", "Online")])).await;
    first.kill();
    ana.bye().await;
    process.until_status("ana", "offline").await;
    let second = Process::start(&archiver).await;
    wait_for(pairs(&[("Offline", "Online"), ("Online", "Offline")])).await;
    let erased = delete(process.at, "/status/ana", Some(&backend("presence:admin"))).await;
    assert!(erased.status < 300, "{erased:?}");
    second.counts("herenow_archiver_users_erased_total").await;
    assert!(history(&store, "ana").await.is_empty());
}

#[tokio::test]
async fn without_its_coordinator_a_gateway_tells_what_cassandra_has() {
    let Some(server) = Server::shared() else { return };
    let Some(redis) = servers::redis::Redis::start(&[]).await else { return };
    let (nats, config) = (herenow_bus::testing::NatsServer::start().await, server.config());
    let shared = [
        ("HERENOW__CLUSTER__BUS", "nats"),
        ("HERENOW__NATS__SERVERS", nats.url.as_str()),
        ("HERENOW__STORE__REDIS__URL", &redis.config().url),
    ];
    let role = |role: &'static str| -> Vec<Setting<'_>> {
        let own = [("HERENOW__NODE__NAME", role), ("HERENOW__NODE__ROLES", role)];
        shared.into_iter().chain(own).chain(in_cassandra(&config, SUPERUSER)).collect()
    };
    let mut coordinator = Process::start(&role("coordinator")).await;
    let gateway = Process::start(&role("gateway")).await;
    gateway.certain("ben").await;
    gateway.set(json!({"userId": "ben", "status": "dnd", "text": "thinking"})).await;
    let ben = gateway.certain("ben").await;
    coordinator.counts("herenow_store_records_written_total{outcome=\"stored\"}").await;
    coordinator.counts("herenow_cache_written_total").await;
    coordinator.kill();
    let told = async {
        loop {
            let said = gateway.status("ben").await;
            if said["asOf"].is_string() && said["status"] != "unknown" {
                return said;
            }
        }
    };
    let said = tokio::time::timeout(PATIENCE, told).await.expect("what is kept, in time");
    for what in ["status", "text", "lastUpdated", "version"] {
        assert_eq!(said[what], ben[what], "{what}: {said}, before: {ben}");
    }
    gateway.counts("herenow_gateway_degraded_reads_total{result=\"store\"}").await;
}

#[test]
fn a_history_needs_somewhere_to_be_kept_and_an_archiver_a_bus() {
    for (settings, key) in [
        (vec![("HERENOW__ACTIVITY__KEEP", "true")], "activity.keep"),
        (vec![("HERENOW__NODE__ROLES", "gateway,coordinator,archiver")], "node.roles"),
        (vec![("HERENOW__ACTIVITY__RETENTION", "1h")], "activity.retention"),
        (vec![("HERENOW__ACTIVITY__MAX_WAITING", "0")], "activity.max_waiting"),
        (vec![("HERENOW__ACTIVITY__STREAM_BYTES", "1048575")], "activity.stream_bytes"),
        (vec![("HERENOW__ACTIVITY__STREAM_REPLICAS", "2")], "activity.stream_replicas"),
        (vec![("HERENOW__PEOPLE__CONNECTIONS", "0")], "people.connections"),
        (vec![("HERENOW__STORE__REDIS__URL", "redis://127.0.0.1:1")], "store.redis"),
        (vec![("HERENOW__GATEWAY__CAPS__KEPT_READS", "0")], "gateway.caps.kept_reads"),
    ] {
        let (code, said) = refused(&settings);
        assert_eq!(code, Some(78), "{said}");
        assert!(said.contains(key), "{key}: {said}");
    }
}
