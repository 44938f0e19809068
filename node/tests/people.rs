//! Who users are and what they did, through the whole service and a real PostgreSQL.

#![expect(clippy::unwrap_used, reason = "a test ends where something is not as expected")]

mod servers;
mod support;

use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Command, Stdio};
use std::time::Duration;

use herenow::config::{Config, Secret};
use herenow::{Embedded, Wiring};
use herenow_gateway_server::auth::{Algorithm, AuthConfig, KeySource};
use herenow_protocol::api::Cause;
use herenow_protocol::history::Opened;
use herenow_protocol::{Epoch, Placement, Status, UserId, Version, WallTime};
use herenow_store::{ActivityLog as _, ActivityRecord, Postgres, PostgresConfig};
use serde_json::{Value, json};
use servers::postgres::{PASSWORD, Server};
use support::http::{Answer, delete, get, put, segment};
use support::{AUDIENCE, Client, ISSUER, KEY, PATIENCE, backend};

const SECRET: &str = "a cluster secret of the tests, long enough";
const BITS: u32 = 3;
const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;
/// A midnight.
const DAY: u64 = 19_000 * 24 * HOUR;

struct Service {
    node: Embedded,
    at: SocketAddr,
}

impl Service {
    async fn start(people: PostgresConfig) -> Self {
        let config = config(people);
        let wiring = Wiring::local().with_store(&config).await.unwrap();
        let node = Embedded::start(config, wiring).await.unwrap();
        tokio::time::timeout(PATIENCE, node.ready()).await.expect("ready in time");
        let at = node.address().unwrap();
        Self { node, at }
    }

    async fn get(&self, path: &str) -> Answer {
        get(self.at, path, Some(&backend("presence:admin"))).await
    }

    async fn put(&self, user: &str, body: &Value) -> Answer {
        let path = format!("/users/{}", segment(user));
        put(self.at, &path, Some(&backend("presence:admin")), &body.to_string()).await
    }

    fn metric(&self, name: &str) -> u64 {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.node.registry()).unwrap();
        text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok()).unwrap_or(0)
    }
}

fn config(people: PostgresConfig) -> Config {
    let auth = AuthConfig::new(Algorithm::HS256, KeySource::Secret(KEY.to_owned()), ISSUER, AUDIENCE);
    let mut gateway = herenow_gateway_server::Config::new(auth);
    gateway.listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    gateway.shards = 1;
    let mut config = Config { gateway: Some(gateway), people: Some(people), ..Config::default() };
    config.cluster.secret = Some(Secret::new(SECRET));
    config.cluster.partition_bits = BITS;
    config.activity.keep = true;
    config.activity.retention = Duration::from_hours(24 * 3_650);
    config
}

fn ana() -> Value {
    json!({ "username": "Ana 😀", "email": "ana@example.com", "creationDate": "2024-01-31T08:00:00.000Z" })
}

#[tokio::test]
async fn who_somebody_is_is_kept_until_it_is_erased() {
    let Some(server) = Server::shared() else { return };
    let service = Service::start(server.config()).await;
    assert_eq!(service.get("/users/ana").await.status, 404);
    for odd in ["ana", "a.b.*", "😀"] {
        let answer = service.put(odd, &ana()).await;
        let mut known = ana();
        known["userId"] = json!(odd);
        assert_eq!((answer.status, answer.json()), (200, known.clone()));
        let answer = service.get(&format!("/v1/users/{}", segment(odd))).await;
        assert_eq!((answer.status, answer.json()), (200, known));
    }
    let mut later = ana();
    later["email"] = json!("new@example.com");
    assert_eq!(service.put("ana", &later).await.status, 200);
    assert_eq!(service.get("/users/ana").await.json()["email"], "new@example.com");
    let erased = delete(service.at, "/status/ana", Some(&backend("presence:admin"))).await;
    assert_eq!(erased.status, 200, "{erased:?}");
    assert_eq!(service.get("/users/ana").await.status, 404);
    assert_eq!(service.get("/users/a.b.%2A").await.status, 200);
}

#[tokio::test]
async fn what_is_too_long_or_no_address_is_refused_and_named() {
    let Some(server) = Server::shared() else { return };
    let service = Service::start(server.config()).await;
    let with = |key: &str, value: String| {
        let mut person = ana();
        person[key] = json!(value);
        person
    };
    let address = |bytes: usize| format!("@{}", "x".repeat(bytes - 1));
    assert_eq!(service.put("ana", &with("username", "x".repeat(256))).await.status, 200);
    assert_eq!(service.put("ana", &with("email", address(320))).await.status, 200);
    for (person, key) in [
        (with("username", "x".repeat(257)), "username"),
        (with("username", String::new()), "username"),
        (with("username", "a\nb".to_owned()), "username"),
        (with("email", address(321)), "email"),
        (with("email", "ana.example.com".to_owned()), "email"),
    ] {
        let answer = service.put("ana", &person).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, "invalid_value"));
        assert!(answer.json()["detail"].as_str().unwrap().starts_with(key), "{answer:?}");
    }
}

fn change(user: &str, ms: u64, from: Status, to: Status) -> ActivityRecord {
    let user = UserId::new(user).unwrap();
    ActivityRecord {
        key: Placement::new(SECRET.as_bytes(), BITS).key(&user),
        user,
        at: WallTime::from_millis(DAY + ms),
        version: Version { epoch: Epoch { counter: 1, nonce: 2 }, n: ms },
        from,
        to,
        cause: Cause::Connected,
        // Who comes does so with one session.
        opened: Opened { web: u8::from(from == Status::Offline), ..Opened::default() },
    }
}

/// Ana is there from 0:00 to 1:30, Ben from 0:15 to 0:45.
async fn remember(people: &PostgresConfig) {
    use Status::{Idle, Offline, Online};
    let wrote = vec![
        change("ana", 0, Offline, Online),
        change("ben", 15 * MINUTE, Offline, Online),
        change("ana", 30 * MINUTE, Online, Idle),
        change("ben", 45 * MINUTE, Online, Offline),
        change("ana", 90 * MINUTE, Idle, Offline),
    ];
    Postgres::open(people).await.unwrap().append_batch(wrote).await.unwrap();
}

fn time(ms: u64) -> String {
    WallTime::from_millis(DAY + ms).to_string()
}

#[tokio::test]
async fn questions_about_the_history_are_answered() {
    let Some(server) = Server::shared() else { return };
    let people = server.config();
    remember(&people).await;
    let service = Service::start(people).await;
    let ask = async |question: String| {
        let answer = service.get(&format!("/analytics/{question}")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    };
    assert_eq!(
        ask(format!("statuses?at={}", time(35 * MINUTE))).await,
        json!({ "at": time(35 * MINUTE), "statuses": { "online": 1, "idle": 1, "dnd": 0, "offline": 0 } })
    );
    assert_eq!(
        ask(format!("who-was-online?at={}", time(20 * MINUTE))).await,
        json!({ "at": time(20 * MINUTE), "users": [
            { "userId": "ana", "status": "online" }, { "userId": "ben", "status": "online" }] })
    );
    assert_eq!(
        ask(format!("who-was-online?at={}&after=ana", time(20 * MINUTE))).await["users"],
        json!([{ "userId": "ben", "status": "online" }])
    );
    assert_eq!(
        ask(format!("online-per-hour?from={}&to={}", time(0), time(2 * HOUR))).await,
        json!({ "hours": [
            { "hour": time(0), "peak": 2, "average": 1.5 }, { "hour": time(HOUR), "peak": 1, "average": 0.5 }] })
    );
    assert_eq!(
        ask(format!("time-online?userId=ana&from={}&to={}", time(0), time(2 * HOUR))).await,
        json!({ "userId": "ana", "days": [{ "day": time(0), "onlineMs": 90 * MINUTE }] })
    );
    assert_eq!(
        ask(format!("sessions-by-device?from={}&to={}", time(0), time(2 * HOUR))).await,
        json!({ "hours": [{ "hour": time(0), "web": 2, "mobile": 0, "desktop": 0, "server": 0 }] })
    );
    assert_eq!(
        ask(format!("transitions-per-minute?from={}&to={}", time(0), time(30 * MINUTE))).await,
        json!({ "minutes": [
            { "minute": time(0), "transitions": 1 }, { "minute": time(15 * MINUTE), "transitions": 1 }] })
    );
}

#[tokio::test]
async fn a_span_that_is_one_millisecond_too_long_is_refused() {
    let Some(server) = Server::shared() else { return };
    let service = Service::start(server.config()).await;
    for (question, days) in [
        ("online-per-hour?", 31),
        ("time-online?userId=ana&", 366),
        ("transitions-per-minute?", 1),
        ("sessions-by-device?", 31),
    ] {
        let longest = days * 24 * HOUR;
        let ask = async |length: u64| {
            service.get(&format!("/analytics/{question}from={}&to={}", time(0), time(length))).await
        };
        assert_eq!(ask(longest).await.status, 200);
        let answer = ask(longest + 1).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, "invalid_value"), "{question}");
        assert!(answer.json()["detail"].as_str().unwrap().starts_with("span: "), "{answer:?}");
    }
}

#[tokio::test]
async fn a_page_has_a_thousand_users_and_the_next_has_the_rest() {
    let Some(server) = Server::shared() else { return };
    let people = server.config();
    let came = |n: u64| change(&format!("u{n:04}"), n, Status::Offline, Status::Online);
    Postgres::open(&people).await.unwrap().append_batch((0..1_001).map(came).collect()).await.unwrap();
    let service = Service::start(people).await;
    let ask = async |after: &str| {
        let answer = service.get(&format!("/analytics/who-was-online?at={}{after}", time(HOUR))).await;
        answer.json()
    };
    let first = ask("").await;
    assert_eq!((first["users"].as_array().unwrap().len(), &first["next"]), (1_000, &json!("u0999")));
    let second = ask("&after=u0999").await;
    assert_eq!((second["users"][0]["userId"].as_str(), second.get("next")), (Some("u1000"), None));
}

#[tokio::test]
async fn who_is_online_now_is_told_from_what_happens() {
    let Some(server) = Server::shared() else { return };
    let service = Service::start(server.config()).await;
    let _ana = Client::connect(service.at, "ana").await;
    let online = async {
        while service.get("/analytics/statuses").await.json()["statuses"]["online"] != 1 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, online).await.expect("online in time");
}

#[tokio::test]
async fn without_its_server_people_are_unavailable_and_presence_goes_on() {
    let Some(mut server) = Server::start() else { return };
    let service =
        Service::start(PostgresConfig { timeout: Duration::from_millis(500), ..server.config() }).await;
    assert_eq!(service.put("ana", &ana()).await.status, 200);
    server.kill();
    let answer = service.get("/users/ana").await;
    assert_eq!((answer.status, answer.code().as_str()), (503, "unavailable"));
    assert_eq!(service.get("/analytics/statuses").await.status, 503);
    assert!(service.metric("herenow_people_failures_total{reason=\"unavailable\"}") >= 2);
    let status = get(service.at, "/status/ana", Some(&backend("presence:read"))).await;
    assert_eq!((status.status, &status.json()["status"]), (200, &json!("offline")));
    server.restart();
    let back = async {
        while service.get("/users/ana").await.status != 200 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, back).await.expect("back in time");
}

/// `herenow users import`: what it ends with, and what it says on both streams.
fn import(people: &PostgresConfig, file: &std::path::Path) -> (Option<i32>, String, String) {
    let binary = std::env::var("HERENOW_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_herenow").to_owned());
    let output = Command::new(binary)
        .args(["users", "import"])
        .arg(file)
        .env("HERENOW__PEOPLE__PORT", people.port.to_string())
        .env("HERENOW__PEOPLE__DATABASE", &people.database)
        .env("HERENOW__PEOPLE__SCHEMA", &people.schema)
        .env("HERENOW__PEOPLE__PASSWORD", PASSWORD)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[tokio::test]
async fn users_are_imported_from_files_and_again() {
    let Some(server) = Server::shared() else { return };
    let people = server.config();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("users.csv");
    let line = |n: usize| format!("u{n},\"User, {n}\",u{n}@example.com,2024-01-31T08:00:00Z\n");
    let lines: String = (0..2_500).map(line).collect();
    std::fs::write(&file, format!("userId,username,email,creationDate\n{lines}")).unwrap();
    for _ in 0..2 {
        let (code, said, errors) = import(&people, &file);
        assert_eq!((code, said.as_str()), (Some(0), "2500 users are written.\n"), "{errors}");
    }
    std::fs::write(&file, format!("userId,username,email,creationDate\nana,Ana,nowhere,x\n{}", line(7)))
        .unwrap();
    let (code, said, errors) = import(&people, &file);
    assert_eq!((code, said.as_str()), (Some(1), "1 users are written.\n"), "{errors}");
    assert!(errors.contains("line 2: ") && errors.contains("1 lines cannot be used"), "{errors}");
    assert!(!errors.contains("nowhere"), "{errors}");
    let service = Service::start(people).await;
    let user = service.get("/users/u2499").await.json();
    assert_eq!((&user["username"], &user["email"]), (&json!("User, 2499"), &json!("u2499@example.com")));
}

#[tokio::test]
async fn an_import_that_cannot_begin_says_why() {
    let (code, _, errors) = import(
        &PostgresConfig { port: 1, ..PostgresConfig::default() },
        std::path::Path::new("/nonexistent.csv"),
    );
    assert_eq!(code, Some(1));
    assert!(errors.contains("/nonexistent.csv cannot be read"), "{errors}");
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("users.csv");
    std::fs::write(&file, "userId,username,email,creationDate\n").unwrap();
    let nobody = PostgresConfig { port: 1, ..PostgresConfig::default() };
    let (code, _, errors) = import(&nobody, &file);
    assert!(code == Some(78) && errors.contains("people"), "{errors}");
}
