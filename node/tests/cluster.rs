//! Two gateways and two coordinators as processes of their own over a real NATS server: what their deaths change.

#![expect(clippy::unwrap_used, reason = "a test ends where something is not as expected")]

mod servers;
mod support;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use futures::{FutureExt as _, StreamExt as _};
use herenow_bus::testing::NatsServer;
use herenow_client::{ClientOptions, ConnectionState};
use herenow_protocol::{Activity, DeviceKind, Status};
use support::balancer::Balancer;
use support::http::{get, post};
use support::{AUDIENCE, Client, ISSUER, KEY, PATIENCE, backend};
use tokio::sync::{Mutex, MutexGuard};

const GRACE: Duration = Duration::from_secs(2);
const GATEWAY_TIMEOUT: Duration = Duration::from_secs(2);
const MOVING_WINDOW: Duration = Duration::from_secs(4);
const PARTITIONS: u64 = 16;
/// How often what has changed is written, where something is kept.
const INTERVAL: Duration = Duration::from_secs(1);
/// What may pass over a bound on a machine that others use too.
const SLACK: Duration = Duration::from_secs(2);

/// One cluster at a time: each is five processes.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

struct Process {
    child: Child,
    admin: SocketAddr,
    clients: SocketAddr,
}

impl Process {
    fn start(role: &str, name: &str, nats: &str, more: &[(&str, &str)]) -> Self {
        let binary =
            std::env::var("HERENOW_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_herenow").to_owned());
        let (admin, clients) = (free(), free());
        let child = Command::new(binary)
            .args(["serve", "--roles", role, "--name", name])
            .args(["--listen", &clients.to_string(), "--admin-listen", &admin.to_string()])
            .envs(settings(nats))
            .envs(more.iter().copied())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, admin, clients }
    }

    /// Waits until `/readyz` says so.
    async fn ready(&mut self) {
        let ready = async {
            loop {
                let answer = support::http::exchange(self.admin, b"GET /readyz HTTP/1.0\r\n\r\n").await;
                if answer.is_some_and(|answer| answer.status == 200) {
                    return;
                }
                assert!(self.child.try_wait().unwrap().is_none(), "the process ended");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(PATIENCE, ready).await.expect("ready in time");
    }

    /// A number of `/metrics`; zero when it is not there.
    async fn metric(&self, name: &str) -> u64 {
        let answer = support::http::exchange(self.admin, b"GET /metrics HTTP/1.0\r\n\r\n").await;
        let Some(answer) = answer else { return 0 };
        let value = answer.text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        value.unwrap_or(0)
    }

    /// Leaves in order, as for a signal.
    async fn leave(&mut self) {
        support::http::exchange(self.admin, b"POST /drain HTTP/1.0\r\n\r\n").await;
        let left = async {
            while self.child.try_wait().unwrap().is_none() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, left).await.expect("it leaves in time");
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

fn settings(nats: &str) -> Vec<(&'static str, String)> {
    [
        ("HERENOW__CLUSTER__BUS", "nats"),
        ("HERENOW__CLUSTER__SECRET", "a cluster secret of the tests, long enough"),
        ("HERENOW__CLUSTER__PARTITION_BITS", "4"),
        ("HERENOW__NATS__SERVERS", nats),
        ("HERENOW__GATEWAY__AUTH__ALGORITHM", "HS256"),
        ("HERENOW__GATEWAY__AUTH__KEYS__0__SECRET", KEY),
        ("HERENOW__GATEWAY__AUTH__ISSUER", ISSUER),
        ("HERENOW__GATEWAY__AUTH__AUDIENCE", AUDIENCE),
        ("HERENOW__GATEWAY__SHARDS", "1"),
        ("HERENOW__GATEWAY__CORE__BEAT_INTERVAL", "200ms"),
        ("HERENOW__COORDINATOR__GRACE_PERIOD", "2s"),
        ("HERENOW__COORDINATOR__GATEWAY_STALE", "1s"),
        ("HERENOW__COORDINATOR__GATEWAY_TIMEOUT", "2s"),
        ("HERENOW__COORDINATOR__SETTLE_AFTER", "2s 200ms"),
        ("HERENOW__COORDINATOR__HAND_OVER_AFTER", "500ms"),
        ("HERENOW__COORDINATOR__MOVING_WINDOW", "4s"),
        ("HERENOW__SHUTDOWN__WINDOW", "500ms"),
        ("HERENOW__LOG__LEVEL", "warn"),
    ]
    .map(|(key, value)| (key, value.to_owned()))
    .to_vec()
}

struct Cluster {
    gateways: [Process; 2],
    coordinators: [Process; 2],
    nats: NatsServer,
    _alone: MutexGuard<'static, ()>,
}

impl Cluster {
    async fn start() -> Self {
        Self::start_with(&[]).await
    }

    async fn start_with(more: &[(&str, &str)]) -> Self {
        let alone = ONE_AT_A_TIME.lock().await;
        let nats = NatsServer::start().await;
        let start =
            |role: &str, number: usize| Process::start(role, &format!("{role}-{number}"), &nats.url, more);
        let mut cluster = Self {
            gateways: [start("gateway", 1), start("gateway", 2)],
            coordinators: [start("coordinator", 1), start("coordinator", 2)],
            nats,
            _alone: alone,
        };
        for process in cluster.gateways.iter_mut().chain(&mut cluster.coordinators) {
            process.ready().await;
        }
        cluster.settled(&[0, 1]).await;
        cluster
    }

    /// Waits until these coordinators own and have settled everything between them, each something.
    async fn settled(&self, coordinators: &[usize]) {
        let settled = async {
            loop {
                let mut owned = Vec::new();
                for index in coordinators {
                    owned.push(
                        self.coordinators[*index].metric("herenow_coordinator_partitions_settled ").await,
                    );
                }
                if owned.iter().sum::<u64>() == PARTITIONS && !owned.contains(&0) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(PATIENCE, settled).await.expect("settled in time");
    }

    /// A backend says so of the crowd.
    async fn nobody_is_to_be_disturbed(&self, text: &str) {
        for person in crowd() {
            let body = serde_json::json!({"userId": person, "status": "dnd", "text": text}).to_string();
            let token = backend("presence:write");
            let answer = post(self.gateways[0].clients, "/status", Some(&token), &body).await;
            assert_eq!(answer.status, 200, "{answer:?}");
        }
    }

    /// Waits until it is certain of everybody of the crowd how they are shown: not to be disturbed, with these words.
    async fn everybody_says(&self, text: &str) {
        for person in crowd() {
            let path = format!("/status/{}", support::http::segment(&person));
            let certain = async {
                loop {
                    let token = backend("presence:read");
                    let answer = get(self.gateways[1].clients, &path, Some(&token)).await.json();
                    if answer["status"] != "unknown" && answer["asOf"].is_null() {
                        return answer;
                    }
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            };
            let answer = tokio::time::timeout(PATIENCE, certain).await.expect("certain in time");
            assert_eq!(
                (&answer["status"], &answer["text"]),
                (&"dnd".into(), &text.into()),
                "{person}: {answer}"
            );
        }
    }

    async fn client(&self, gateway: usize, user: &str) -> Client {
        Client::connect(self.gateways[gateway].clients, user).await
    }
}

#[expect(clippy::disallowed_methods, reason = "a test measures")]
fn now() -> Instant {
    Instant::now()
}

/// Enough people for every coordinator to own some.
fn crowd() -> Vec<String> {
    (0..12).map(|n| format!("person {n}")).collect()
}

#[tokio::test]
async fn people_on_different_gateways_see_each_other() {
    let cluster = Cluster::start().await;
    let mut ben = cluster.client(1, "ben").await;
    let crowd = crowd();
    ben.watch(&crowd.iter().map(String::as_str).collect::<Vec<_>>()).await;
    for person in &crowd {
        let client = cluster.client(0, person).await;
        ben.sees(person, Status::Online).await;
        let read = get(
            cluster.gateways[1].clients,
            &format!("/status/{}", support::http::segment(person)),
            Some(&backend("presence:read")),
        )
        .await;
        assert_eq!(read.json()["status"], "online");
        client.bye().await;
        ben.sees(person, Status::Offline).await;
    }
}

/// One gateway watches one person: of the crowd's coming and going at the other it is sent nothing.
#[tokio::test]
async fn a_gateway_is_sent_only_what_is_watched_there() {
    let cluster = Cluster::start_with(&[("HERENOW__COORDINATOR__INTEREST_BY_USER_FROM", "1")]).await;
    let mut ben = cluster.client(1, "ben").await;
    ben.watch(&["ana"]).await;
    let selective = async {
        loop {
            let mut sum = 0;
            for coordinator in &cluster.coordinators {
                sum += coordinator.metric("herenow_coordinator_partitions_selective ").await;
            }
            if sum == PARTITIONS {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, selective).await.expect("every gateway says what it needs");
    for person in &crowd() {
        let client = cluster.client(0, person).await;
        client.bye().await;
    }
    let ana = cluster.client(0, "ana").await;
    ben.sees("ana", Status::Online).await;
    ana.bye().await;
    ben.sees("ana", Status::Offline).await;
    // Sizes are taken once a second.
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    let of = |name: &str| format!("herenow_gateway_{name}{{shard=\"0\"}} ");
    let gateway = &cluster.gateways[1];
    let (gaps, pulls) = (gateway.metric(&of("gaps_total")).await, gateway.metric(&of("pulls_total")).await);
    assert_eq!((gaps, gateway.metric(&of("reinterests_total")).await), (0, 0));
    assert!(pulls < 8, "it asks for what it is not sent: {pulls} pulls");
    let delivered = gateway.metric(&of("deliveries_total")).await;
    assert!(delivered >= 2, "the names of the metrics are right");
}

#[tokio::test]
async fn a_killed_coordinator_changes_nobody() {
    let mut cluster = Cluster::start().await;
    let crowd = crowd();
    let mut people = Vec::new();
    for person in &crowd {
        people.push(cluster.client(0, person).await);
    }
    let mut ben = cluster.client(1, "ben").await;
    for name in &crowd {
        ben.watch_until(name, Status::Online).await;
    }
    ben.watch(&["late"]).await;
    cluster.coordinators[0].kill();
    cluster.settled(&[1]).await;
    let heard = ben.hears_for(GRACE + SLACK).await;
    assert!(heard.iter().all(|presence| presence.status == Status::Online), "{heard:?}");
    let late = cluster.client(0, "late").await;
    ben.sees("late", Status::Online).await;
    for (client, name) in people.into_iter().zip(&crowd) {
        client.bye().await;
        ben.sees(name, Status::Offline).await;
    }
    late.bye().await;
    ben.sees("late", Status::Offline).await;
}

/// A backend says of everybody that they are not to be disturbed, and the coordinators leave in order, come back and die
/// in turn.
#[tokio::test]
async fn what_is_kept_in_cassandra_outlives_every_coordinator() {
    let Some(server) = servers::cassandra::Server::shared() else { return };
    let kept = server.config();
    // Its tables are made now: later nothing waits for them.
    drop(herenow_store::Cassandra::open(&kept).await.unwrap());
    let store = [
        ("HERENOW__STORE__KIND", "cassandra"),
        // However busy the machine is: what is to be shown here is what is read.
        ("HERENOW__STORE__LOAD_TIMEOUT", "20s"),
        ("HERENOW__STORE__CASSANDRA__NODES", kept.nodes[0].as_str()),
        ("HERENOW__STORE__CASSANDRA__KEYSPACE", kept.keyspace.as_str()),
        ("HERENOW__STORE__CASSANDRA__USER", servers::cassandra::SUPERUSER),
        ("HERENOW__STORE__CASSANDRA__PASSWORD", servers::cassandra::SUPERUSER),
    ];
    let mut cluster = Cluster::start_with(&store).await;
    let start = |cluster: &Cluster, number: usize| {
        Process::start("coordinator", &format!("coordinator-{number}"), &cluster.nats.url, &store)
    };
    cluster.nobody_is_to_be_disturbed("for a while").await;
    tokio::time::sleep(INTERVAL * 2).await;
    cluster.coordinators[1].leave().await;
    cluster.settled(&[0]).await;
    cluster.everybody_says("for a while").await;
    cluster.coordinators[1] = start(&cluster, 2);
    cluster.settled(&[0, 1]).await;
    cluster.everybody_says("for a while").await;
    cluster.nobody_is_to_be_disturbed("for long").await;
    tokio::time::sleep(INTERVAL * 2).await;
    cluster.coordinators[0].kill();
    cluster.settled(&[1]).await;
    cluster.everybody_says("for long").await;
    cluster.coordinators[1].kill();
    cluster.coordinators[0] = start(&cluster, 1);
    cluster.settled(&[0]).await;
    cluster.everybody_says("for long").await;
}

#[tokio::test]
async fn a_killed_gateway_loses_only_those_who_do_not_come_back() {
    let mut cluster = Cluster::start().await;
    let (lost, moved) = (cluster.client(0, "lost").await, cluster.client(0, "moved").await);
    let mut ben = cluster.client(1, "ben").await;
    ben.watch_until("lost", Status::Online).await;
    ben.watch_until("moved", Status::Online).await;
    let began = now();
    cluster.gateways[0].kill();
    assert!(lost.closed().await.is_none() && moved.closed().await.is_none());
    let _moved = cluster.client(1, "moved").await;
    let mut heard = Vec::new();
    let gone = loop {
        let more = ben.hears_for(Duration::from_millis(100)).await;
        let gone = more.iter().any(|one| one.user_id.as_str() == "lost" && one.status == Status::Offline);
        heard.extend(more);
        if gone || began.elapsed() > PATIENCE {
            break began.elapsed();
        }
    };
    assert!(gone < GATEWAY_TIMEOUT + GRACE + SLACK, "{gone:?}: {heard:?}");
    heard.extend(ben.hears_for(GRACE + SLACK).await);
    let flickered = heard.iter().any(|one| one.user_id.as_str() == "moved" && one.status != Status::Online);
    assert!(!flickered, "{heard:?}");
}

#[tokio::test]
async fn a_leaving_process_ends_with_0_and_harms_nobody() {
    let mut cluster = Cluster::start().await;
    let ana = cluster.client(0, "ana").await;
    let mut ben = cluster.client(1, "ben").await;
    ben.watch_until("ana", Status::Online).await;
    terminate(&mut cluster.coordinators[1]).await;
    cluster.settled(&[0]).await;
    let leaving = terminate(&mut cluster.gateways[0]);
    let closed = ana.closed();
    let ((), close) = tokio::join!(leaving, closed);
    assert_eq!(close.map(|frame| u16::from(frame.code)), Some(4000));
    let _ana = cluster.client(1, "ana").await;
    let heard = ben.hears_for(GRACE + SLACK).await;
    assert!(heard.iter().all(|presence| presence.status == Status::Online), "{heard:?}");
}

/// A client as applications have it, through what stands before the gateways.
async fn moves(at: SocketAddr, user: &str, activity: Activity) -> herenow_client::Client {
    let options = ClientOptions::with_token(format!("ws://{at}"), support::person(user));
    herenow_client::Client::connect(options.device(user, DeviceKind::Web).activity(activity)).await.unwrap()
}

#[tokio::test]
async fn people_of_a_drained_gateway_come_back_unseen_and_who_does_not_is_gone_after_the_window() {
    let mut cluster = Cluster::start().await;
    let before = Balancer::before(cluster.gateways.iter().map(|gateway| gateway.clients).collect()).await;
    let names: Vec<String> = (0..50).map(|n| format!("mover {n}")).collect();
    let mut people = Vec::new();
    for (n, name) in names.iter().enumerate() {
        let activity = if n % 2 == 0 { Activity::Active } else { Activity::Idle };
        people.push(moves(before.address, name, activity).await);
    }
    let stays = cluster.client(0, "stays").await;
    let mut ben = cluster.client(1, "ben").await;
    for (n, name) in names.iter().enumerate() {
        ben.watch_until(name, if n % 2 == 0 { Status::Online } else { Status::Idle }).await;
    }
    ben.watch_until("stays", Status::Online).await;
    let mut seen_by_a_mover = people[0].watch(["late"]).unwrap();
    let mut states: Vec<_> = people.iter().map(herenow_client::Client::connection_state).collect();
    for states in &mut states {
        assert!(matches!(states.next().await, Some(ConnectionState::Connected { .. })));
    }
    let closed = stays.closed();
    let ((), close) = tokio::join!(terminate(&mut cluster.gateways[0]), closed);
    assert_eq!(close.map(|frame| u16::from(frame.code)), Some(4000));
    let heard = ben.hears_for(MOVING_WINDOW - SLACK).await;
    assert!(heard.is_empty(), "0 transitions: {heard:?}");
    assert_eq!(cluster.gateways[1].metric("herenow_gateway_sessions{shard=\"0\"} ").await, 51);
    let _late = cluster.client(1, "late").await;
    while seen_by_a_mover.next().await.unwrap().presence.status != Status::Online {}
    ben.sees("stays", Status::Offline).await;
    let heard = ben.hears_for(SLACK).await;
    assert!(heard.is_empty(), "{heard:?}");
    for coordinator in &cluster.coordinators {
        assert_eq!(coordinator.metric("herenow_coordinator_left_gateways_total ").await, 1);
        assert_eq!(coordinator.metric("herenow_coordinator_lapsed_gateways_total ").await, 0);
    }
    for states in &mut states {
        let told = states.next().now_or_never().flatten();
        assert!(matches!(told, Some(ConnectionState::Connected { .. })), "only of the new session: {told:?}");
    }
}

/// SIGTERM, and the wait for the end.
async fn terminate(process: &mut Process) {
    let sent = Command::new("kill").args(["-TERM", &process.child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    let ended = async {
        loop {
            if let Some(status) = process.child.try_wait().unwrap() {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let status = tokio::time::timeout(PATIENCE, ended).await.expect("an end in time");
    assert_eq!(status.code(), Some(0));
}
