//! The whole service in one process, from sockets and HTTP: what a user of it may rely on. Timers are ten times
//! shorter than the defaults.

#![expect(clippy::unwrap_used, reason = "a test ends where something is not as expected")]

mod support;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt as _;
use herenow::config::{BusKind, Config, Role, Secret};
use herenow::{Embedded, Wiring};
use herenow_bus::{Bus as _, LocalBus};
use herenow_gateway_server::auth::{Algorithm, AuthConfig, KeySource};
use herenow_protocol::frame::{ClientFrame, ManualStatus};
use herenow_protocol::{Presence, Status, WallTime, subject};
use serde_json::{Value, json};
use support::http::{delete, get, post, segment};
use support::{AUDIENCE, Client, ISSUER, KEY, PATIENCE, backend};

const GRACE: Duration = Duration::from_secs(1);
const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(3);
const SLACK: Duration = Duration::from_secs(1);
/// Ids that are legal and would break what they are pasted into.
const ODD: [&str; 10] = ["*", ">", ".", "a.b.*", " ", "a b", "😀", "%2F/..", "$SYS.>", "\"quoted\\"];

struct Service {
    node: Embedded,
    bus: LocalBus,
    at: SocketAddr,
}

impl Service {
    async fn start() -> Self {
        Self::with(|_| ()).await
    }

    async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let mut config = config();
        change(&mut config);
        let bus = LocalBus::new();
        let node = Embedded::start(config, Wiring::over(bus.clone())).await.unwrap();
        tokio::time::timeout(PATIENCE, node.ready()).await.expect("ready in time");
        let at = node.address().unwrap();
        Self { node, bus, at }
    }

    async fn client(&self, user: &str) -> Client {
        Client::connect(self.at, user).await
    }

    /// What a backend reads of a user.
    async fn status(&self, user: &str) -> Value {
        let answer =
            get(self.at, &format!("/status/{}", segment(user)), Some(&backend("presence:read"))).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    }

    async fn set(&self, body: Value) -> Value {
        let answer = post(self.at, "/status", Some(&backend("presence:write")), &body.to_string()).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    }

    /// Asks as a backend on the bus.
    async fn ask(&self, subject: &str, body: Value) -> Value {
        let reply = "_INBOX.test";
        let mut inbox = self.bus.subscribe(reply, None).await.unwrap();
        self.bus.publish_with_reply(subject, reply, Bytes::from(body.to_string())).unwrap();
        let message = tokio::time::timeout(PATIENCE, inbox.next()).await.expect("an answer in time").unwrap();
        serde_json::from_slice(&message.payload).unwrap()
    }
}

fn config() -> Config {
    let auth = AuthConfig::new(Algorithm::HS256, KeySource::Secret(KEY.to_owned()), ISSUER, AUDIENCE);
    let mut gateway = herenow_gateway_server::Config::new(auth);
    gateway.listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    gateway.shards = 2;
    gateway.core.heartbeat_interval = Duration::from_secs(2);
    gateway.core.heartbeat_timeout = HEARTBEAT_TIMEOUT;
    gateway.core.idle_after = Duration::from_secs(30);
    let mut config = Config { gateway: Some(gateway), ..Config::default() };
    config.cluster.secret = Some(Secret::new("a cluster secret of the tests, long enough"));
    config.cluster.partition_bits = 3;
    config.coordinator.grace_period = GRACE;
    config
}

#[expect(clippy::disallowed_methods, reason = "a test measures")]
fn now() -> Instant {
    Instant::now()
}

fn statuses(heard: &[Presence]) -> Vec<Status> {
    heard.iter().map(|presence| presence.status).collect()
}

#[tokio::test]
async fn one_person_sees_another_come_and_go() {
    let service = Service::start().await;
    let mut ben = service.client("ben").await;
    ben.watch_until("ana", Status::Offline).await;
    let first = ben.query(&["ana"]).await;
    assert_eq!(first[0].last_updated, None, "never seen");
    let ana = service.client("ana").await;
    let seen = ben.sees("ana", Status::Online).await;
    assert!(seen.version > first[0].version);
    assert!(seen.last_updated.is_some() && seen.as_of.is_none());
    ana.bye().await;
    let gone = ben.sees("ana", Status::Offline).await;
    assert!(gone.version > seen.version && gone.last_updated >= seen.last_updated);
}

#[tokio::test]
async fn who_watches_before_owners_are_heard_is_told_when_they_are() {
    for _ in 0..10 {
        let service = Service::start().await;
        let _ana = service.client("ana").await;
        let mut ben = service.client("ben").await;
        ben.watch_until("ana", Status::Online).await;
    }
}

#[tokio::test]
async fn a_transition_is_seen_in_a_moment() {
    let service = Service::start().await;
    let mut ben = service.client("ben").await;
    ben.watch(&["ana"]).await;
    let began = now();
    let _ana = service.client("ana").await;
    ben.sees("ana", Status::Online).await;
    // 50 ms is the promise on a machine of its own; builders share this one.
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
}

#[tokio::test]
async fn bye_is_offline_at_once() {
    let service = Service::with(|config| config.coordinator.grace_period = Duration::from_secs(10)).await;
    let mut ben = service.client("ben").await;
    let ana = service.client("ana").await;
    ben.watch_until("ana", Status::Online).await;
    let began = now();
    let close = ana.bye().await.unwrap();
    assert_eq!(u16::from(close.code), 1000);
    ben.sees("ana", Status::Offline).await;
    assert!(began.elapsed() < SLACK, "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_killed_client_is_offline_after_the_grace_period() {
    let service = Service::start().await;
    let mut ben = service.client("ben").await;
    let ana = service.client("ana").await;
    ben.watch_until("ana", Status::Online).await;
    let began = now();
    ana.kill().await;
    ben.sees("ana", Status::Offline).await;
    let took = began.elapsed();
    assert!(took >= GRACE && took < GRACE + SLACK, "{took:?}");
}

#[tokio::test]
async fn a_silent_client_is_offline_after_the_heartbeat_timeout() {
    let service = Service::start().await;
    let mut ben = service.client("ben").await;
    let ana = service.client("ana").await;
    ben.watch_until("ana", Status::Online).await;
    ana.silence();
    let began = now();
    ben.sees("ana", Status::Offline).await;
    let took = began.elapsed();
    // The last heartbeat was up to half a second before.
    let least = HEARTBEAT_TIMEOUT - Duration::from_millis(600);
    assert!(took >= least && took < HEARTBEAT_TIMEOUT + SLACK, "{took:?}");
    assert_eq!(ana.closed().await.map(|frame| u16::from(frame.code)), Some(4001));
}

#[tokio::test]
async fn a_reload_within_the_grace_period_is_never_seen() {
    let service = Service::start().await;
    let mut ben = service.client("ben").await;
    let mut ana = service.client("ana").await;
    ben.watch_until("ana", Status::Online).await;
    for _ in 0..3 {
        ana.kill().await;
        ana = service.client("ana").await;
    }
    let heard = ben.hears_for(GRACE + SLACK).await;
    assert_eq!(heard, [], "nothing happened");
    assert_eq!(service.status("ana").await["status"], "online");
}

#[tokio::test]
async fn closing_one_of_two_tabs_changes_nothing() {
    let service = Service::start().await;
    let mut ben = service.client("ben").await;
    let (one, two) = (service.client("ana").await, service.client("ana").await);
    ben.watch_until("ana", Status::Online).await;
    one.bye().await;
    assert_eq!(ben.hears_for(GRACE + SLACK).await, [], "one tab is left");
    two.kill().await;
    ben.sees("ana", Status::Offline).await;
}

#[tokio::test]
async fn devices_merge_to_the_most_active() {
    let service = Service::start().await;
    let mut ben = service.client("ben").await;
    ben.watch(&["ana"]).await;
    let phone =
        Client::connect_with(service.at, &support::person("ana"), "?kind=mobile&activity=background").await;
    let seen = ben.sees("ana", Status::Idle).await;
    assert!(seen.reachable);
    let laptop =
        Client::connect_with(service.at, &support::person("ana"), "?kind=desktop&activity=active").await;
    ben.sees("ana", Status::Online).await;
    laptop.send_text(r#"{"type":"heartbeat","activity":"idle"}"#).await;
    ben.sees("ana", Status::Idle).await;
    phone.send_text(r#"{"type":"heartbeat","activity":"active"}"#).await;
    ben.sees("ana", Status::Online).await;
}

#[tokio::test]
async fn manual_claims_override_activity_and_end() {
    let service = Service::start().await;
    let mut ben = service.client("ben").await;
    let mut ana = service.client("ana").await;
    ben.watch_until("ana", Status::Online).await;
    claim(&mut ana, ManualStatus::Dnd, Some("in a meeting"), None).await;
    let seen = ben.sees("ana", Status::Dnd).await;
    assert_eq!(seen.text.as_deref(), Some("in a meeting"));
    claim(&mut ana, ManualStatus::Invisible, None, None).await;
    let hidden = ben.sees("ana", Status::Offline).await;
    assert!(!hidden.invisible, "nobody else is told");
    claim(&mut ana, ManualStatus::Auto, None, None).await;
    let back = ben.sees("ana", Status::Online).await;
    assert_eq!(back.text, None);
    let soon = WallTime::from_millis(wall_millis() + 1_000);
    claim(&mut ana, ManualStatus::Dnd, None, Some(soon)).await;
    ben.sees("ana", Status::Dnd).await;
    ben.sees("ana", Status::Online).await;
}

#[tokio::test]
async fn the_invisible_know_it_of_themselves() {
    let service = Service::start().await;
    let mut ana = service.client("ana").await;
    ana.watch_until("ana", Status::Online).await;
    claim(&mut ana, ManualStatus::Invisible, None, None).await;
    let own = ana.until("ana", |presence| presence.invisible).await;
    assert_eq!(own.status, Status::Online);
    assert_eq!(service.status("ana").await["status"], "offline");
}

#[expect(clippy::disallowed_methods, reason = "a claim ends at a time of the wall clock")]
fn wall_millis() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    u64::try_from(since.as_millis()).unwrap()
}

async fn claim(client: &mut Client, status: ManualStatus, text: Option<&str>, expires_at: Option<WallTime>) {
    let id = client.id();
    let text = text.map(str::to_owned);
    client.send(&ClientFrame::Status { id, status, text, emoji: None, expires_at }).await;
}

#[tokio::test]
async fn backends_set_and_read() {
    let service = Service::start().await;
    let mut ben = service.client("ben").await;
    ben.watch(&["bot"]).await;
    let never = service.status("bot").await;
    assert_eq!((&never["status"], &never["lastUpdated"]), (&json!("offline"), &Value::Null));
    let set = service.set(json!({ "userId": "bot", "status": "online", "ttlSeconds": 2 })).await;
    assert_eq!((&set["success"], &set["status"]), (&json!(true), &json!("online")));
    assert!(set["expiresAt"].is_string());
    assert_eq!(service.status("bot").await["status"], "online", "what was posted is read");
    ben.sees("bot", Status::Online).await;
    service.set(json!({ "userId": "bot", "status": "dnd", "text": "deploying" })).await;
    let read = service.status("bot").await;
    assert_eq!((&read["status"], &read["text"]), (&json!("dnd"), &json!("deploying")));
    service.set(json!({ "userId": "bot", "status": "online", "ttlSeconds": 1 })).await;
    ben.sees("bot", Status::Online).await;
    ben.sees("bot", Status::Offline).await;
    service.set(json!({ "userId": "bot", "status": "online" })).await;
    service.set(json!({ "userId": "bot", "status": "offline" })).await;
    assert_eq!(service.status("bot").await["status"], "offline");
}

#[tokio::test]
async fn a_claim_below_a_manual_one_says_so() {
    let service = Service::start().await;
    let mut ben = service.client("ben").await;
    let mut ana = service.client("ana").await;
    ben.watch_until("ana", Status::Online).await;
    claim(&mut ana, ManualStatus::Dnd, None, None).await;
    ben.sees("ana", Status::Dnd).await;
    let set = service.set(json!({ "userId": "ana", "status": "idle" })).await;
    assert_eq!(set["status"], "dnd");
    assert_ne!(set["message"], "Status updated successfully.", "{set}");
}

#[tokio::test]
async fn batches_answer_in_the_order_asked() {
    let service = Service::start().await;
    let _ana = service.client("ana").await;
    let body = json!({ "userIds": ["nobody", "ana", "nobody"] }).to_string();
    let answer = post(service.at, "/v1/statuses", Some(&backend("presence:read")), &body).await;
    let all = answer.json();
    let pairs: Vec<_> =
        all["statuses"].as_array().unwrap().iter().map(|one| (&one["userId"], &one["status"])).collect();
    let (nobody, ana) = ((&json!("nobody"), &json!("offline")), (&json!("ana"), &json!("online")));
    assert_eq!(pairs, [nobody, ana, nobody]);
}

#[tokio::test]
async fn backends_on_the_bus_get_set_and_follow() {
    let service = Service::start().await;
    let mut changes = service.bus.subscribe(subject::ALL_CHANGES, None).await.unwrap();
    let set = service.ask(subject::SET, json!({ "userId": "bot", "status": "online" })).await;
    assert_eq!(set["status"], "online", "{set}");
    let got = service.ask(subject::GET, json!({ "userIds": ["bot"] })).await;
    assert_eq!(got["statuses"][0]["status"], "online", "{got}");
    let message = tokio::time::timeout(PATIENCE, changes.next()).await.expect("in time").unwrap();
    let batch: Value = serde_json::from_slice(&message.payload).unwrap();
    let change = &batch["changes"][0];
    assert_eq!(
        (&change["userId"], &change["from"], &change["status"]),
        (&json!("bot"), &json!("offline"), &json!("online"))
    );
    let page = service.ask(subject::GET, json!({ "partition": batch["partition"] })).await;
    assert_eq!(page["users"][0]["userId"], "bot", "{page}");
    assert_eq!(page["settled"], true);
    let refused = service.ask(subject::SET, json!({ "userId": "bot", "status": "asleep" })).await;
    assert_eq!(refused["code"], "invalid_status");
}

#[tokio::test]
async fn odd_user_ids_work_end_to_end() {
    let service = Service::start().await;
    let mut ben = service.client("ben").await;
    ben.watch(&ODD).await;
    for odd in ODD {
        let client = service.client(odd).await;
        ben.sees(odd, Status::Online).await;
        assert_eq!(service.status(odd).await["userId"], odd);
        let got = service.ask(subject::GET, json!({ "userIds": [odd] })).await;
        assert_eq!(got["statuses"][0]["status"], "online", "{odd}");
        client.bye().await;
        ben.sees(odd, Status::Offline).await;
    }
}

#[tokio::test]
async fn without_permission_one_sees_only_oneself() {
    let service = Service::start().await;
    let _ana = service.client("ana").await;
    let lonely = support::signer();
    let token = lonely.sign("ben", "", herenow::token::Watch::Nobody, Duration::from_secs(60)).unwrap();
    let mut ben = Client::connect_with(service.at, &token, "").await;
    let seen = ben.watch(&["ana", "never", "ben"]).await;
    let of = |user: &str| seen.iter().find(|presence| presence.user_id.as_str() == user).unwrap();
    assert_eq!(of("ben").status, Status::Online);
    assert_eq!((of("ana").status, of("ana").last_updated), (of("never").status, of("never").last_updated));
    let forbidden = post(service.at, "/status", Some(&token), r#"{"userId":"ana","status":"idle"}"#).await;
    assert_eq!((forbidden.status, forbidden.code().as_str()), (403, "forbidden"));
    let own = post(service.at, "/status", Some(&token), r#"{"userId":"ben","status":"idle"}"#).await;
    assert_eq!(own.status, 200, "{own:?}");
}

#[tokio::test]
async fn operators_are_told_why_and_can_erase() {
    let service = Service::start().await;
    service.set(json!({ "userId": "bot", "status": "online", "sessionId": "job-7" })).await;
    let admin = backend("presence:admin");
    let why = get(service.at, "/status/bot?explain=true", Some(&admin)).await;
    assert_eq!(why.status, 200, "{why:?}");
    assert!(why.text.contains("job-7"), "{why:?}");
    let stranger = get(service.at, "/status/bot?explain=true", Some(&backend("presence:read"))).await;
    assert_eq!(stranger.status, 403);
    let erased = delete(service.at, "/status/bot", Some(&admin)).await;
    assert!(erased.status < 300, "{erased:?}");
    assert_eq!(service.status("bot").await["status"], "offline");
}

#[tokio::test]
async fn leaving_tells_clients_to_come_back() {
    let service = Service::start().await;
    let mut ana = service.client("ana").await;
    let leaving = tokio::spawn(async move { service.node.leave(Duration::from_millis(500)).await });
    loop {
        if let herenow_protocol::frame::ServerFrame::Reconnect { within_ms, .. } = ana.frame().await {
            assert!(within_ms <= 500);
            break;
        }
    }
    let close = ana.closed().await.unwrap();
    assert_eq!(u16::from(close.code), 4000);
    leaving.await.unwrap();
}

#[tokio::test]
async fn metrics_count_and_name_nobody() {
    let service = Service::start().await;
    let mut ben = service.client("ben-the-watcher").await;
    ben.watch(&["ana-the-watched"]).await;
    let _ana = service.client("ana-the-watched").await;
    ben.sees("ana-the-watched", Status::Online).await;
    let heard = statuses(&ben.hears_for(Duration::from_millis(600)).await);
    assert_eq!(heard, []);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &service.node.registry()).unwrap();
    assert!(text.contains("herenow_gateway_sessions"), "{text}");
    assert!(text.contains("herenow_coordinator_transitions_total{cause=\"connected\"} 2"), "{text}");
    let violations: Vec<_> =
        text.lines().filter(|line| line.starts_with("herenow_invariant_violations_total{")).collect();
    for role in ["gateway", "coordinator"] {
        let role = format!("role=\"{role}\"");
        assert!(violations.iter().any(|line| line.contains(&role) && line.ends_with(" 0")), "{text}");
    }
    assert_eq!(text.matches("# HELP herenow_invariant_violations ").count(), 1, "one metric of both roles");
    assert!(!text.contains("-the-watche"), "{text}");
}

#[tokio::test]
async fn what_happens_last_at_a_gateway_that_leaves_is_told() {
    let service = Service::start().await;
    let mut ben = service.client("ben").await;
    let mut config = config();
    config.node.roles = vec![Role::Gateway];
    // As in a cluster; the bus itself is that of the service.
    config.cluster.bus = BusKind::Nats;
    config.node.name = Some("second".to_owned());
    if let Some(gateway) = &mut config.gateway {
        gateway.core.report_window = Duration::from_millis(500);
    }
    let second = Embedded::start(config, Wiring::over(service.bus.clone())).await.unwrap();
    let ana = Client::connect(second.address().unwrap(), "ana").await;
    ben.watch_until("ana", Status::Online).await;
    let began = now();
    // Its coming was just reported, so that its going waits for the window, which the gateway does not outlive.
    ana.bye().await;
    second.leave(Duration::from_secs(10)).await;
    ben.sees("ana", Status::Offline).await;
    assert!(began.elapsed() < GRACE + SLACK, "as an orderly leave, without grace: {:?}", began.elapsed());
}
