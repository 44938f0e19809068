//! What a process with an embedded store says after kill -9.

#![expect(clippy::unwrap_used, reason = "a test ends where something is not as expected")]

mod support;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
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
    /// Until it is ready, on what is kept in a directory.
    async fn start(kept: &Path) -> Self {
        let binary =
            std::env::var("HERENOW_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_herenow").to_owned());
        let (admin, at) = (free(), free());
        let child = Command::new(binary)
            .args(["serve", "--listen", &at.to_string(), "--admin-listen", &admin.to_string()])
            .envs(settings())
            .env("HERENOW__STORE__PATH", kept)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut process = Self { child, admin, at };
        tokio::time::timeout(PATIENCE, process.ready()).await.expect("ready in time");
        process
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

fn settings() -> [(&'static str, &'static str); 10] {
    [
        ("HERENOW__CLUSTER__SECRET", "a cluster secret of the tests, long enough"),
        ("HERENOW__CLUSTER__PARTITION_BITS", "4"),
        ("HERENOW__GATEWAY__AUTH__ALGORITHM", "HS256"),
        ("HERENOW__GATEWAY__AUTH__KEYS__0__SECRET", KEY),
        ("HERENOW__GATEWAY__AUTH__ISSUER", ISSUER),
        ("HERENOW__GATEWAY__AUTH__AUDIENCE", AUDIENCE),
        ("HERENOW__GATEWAY__SHARDS", "1"),
        ("HERENOW__STORE__KIND", "embedded"),
        ("HERENOW__STORE__INTERVAL", "50ms"),
        ("HERENOW__LOG__LEVEL", "warn"),
    ]
}

#[tokio::test]
async fn claims_and_last_seen_survive_kill_9_and_who_was_erased_does_not() {
    let directory = tempfile::tempdir().unwrap();
    let kept = directory.path().join("store");
    let mut process = Process::start(&kept).await;
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
        process = Process::start(&kept).await;
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
