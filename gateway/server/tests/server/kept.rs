//! What is told of users whose owner is not heard.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt as _};
use herenow_gateway_server::LastKnown;
use herenow_protocol::record::Seen;
use herenow_protocol::{Epoch, Status, UserId, Version, WallTime};
use serde_json::{Value, json};

use crate::support::*;

/// Has ana and ben, of nobody else anything; fails for `broken`, never answers for `slow`.
#[derive(Default)]
struct Kept {
    reads: AtomicUsize,
}

fn seen(user: &UserId) -> Option<Seen> {
    let status = match user.as_str() {
        "ana" => Status::Idle,
        "ben" => Status::Offline,
        _ => return None,
    };
    Some(Seen {
        version: Version { epoch: Epoch { counter: 1, nonce: 2 }, n: 3 },
        status,
        since: Some(WallTime::from_millis(1_706_688_000_000)),
        text: Some("tea".into()),
        emoji: None,
    })
}

impl LastKnown for Kept {
    fn last_known(&self, users: Vec<UserId>) -> BoxFuture<'_, Result<Vec<Option<Seen>>, &'static str>> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        let has = |name: &str| users.iter().any(|user| user.as_str() == name);
        if has("slow") {
            return std::future::pending().boxed();
        }
        let found = if has("broken") { Err("unavailable") } else { Ok(users.iter().map(seen).collect()) };
        std::future::ready(found).boxed()
    }
}

fn remembering() -> (Server, Arc<Kept>) {
    let kept = Arc::new(Kept::default());
    let knows = Knows { last_known: Some(kept.clone()), ..Knows::default() };
    let server = server_knowing(knows, |config| {
        config.core.pull_timeout = Duration::from_millis(50);
        config.core.request_timeout = Duration::from_millis(500);
        config.caps.kept_reads = 2;
    });
    (server, kept)
}

fn reader() -> String {
    token_of(json!({ "scope": "presence:read" }))
}

/// What is said of users, to a backend that may see everybody.
fn ask(server: &Server, users: &[&str]) -> Vec<Value> {
    let answer = call(server, "POST", "/statuses", &reader(), &json!({ "userIds": users }).to_string());
    assert_eq!(answer.status, 200);
    answer.json()["statuses"].as_array().unwrap().clone()
}

fn counted(server: &Server, result: &str) -> u64 {
    let name = format!("herenow_gateway_degraded_reads_total{{result=\"{result}\"}}");
    metrics(server).lines().find_map(|line| line.strip_prefix(&name)?.trim().parse().ok()).unwrap_or(0)
}

#[test]
fn without_an_owner_users_are_told_as_they_are_kept() {
    let (server, kept) = remembering();
    let told = ask(&server, &["ben", "nobody", "ana", "ben"]);
    let statuses: Vec<_> = told.iter().map(|one| one["status"].as_str().unwrap()).collect();
    assert_eq!(statuses, ["offline", "unknown", "idle", "offline"]);
    for one in [&told[0], &told[2], &told[3]] {
        assert_eq!(one["asOf"], "2024-01-31T08:00:00.000Z");
        assert_eq!((&one["lastUpdated"], &one["text"]), (&one["asOf"], &json!("tea")));
    }
    assert_eq!(told[1]["lastUpdated"], Value::Null);
    let one = call(&server, "GET", "/status/ana", &reader(), "").json();
    assert_eq!((&one["userId"], &one["status"]), (&json!("ana"), &json!("idle")));
    assert_eq!(kept.reads.load(Ordering::SeqCst), 2, "one read for each request");
    assert_eq!((counted(&server, "store"), counted(&server, "nothing")), (4, 1));
}

#[test]
fn whom_a_token_may_not_see_is_like_one_of_whom_nothing_is_kept() {
    let (server, kept) = remembering();
    let person = token_of(json!({ "watch": ["ben"] }));
    let body = json!({ "userIds": ["ana", "ben", "cleo"] }).to_string();
    let of_ana = call(&server, "POST", "/statuses", &person, &body).json();
    let statuses: Vec<_> = of_ana["statuses"].as_array().unwrap().iter().map(|one| &one["status"]).collect();
    // The token is ana's own.
    assert_eq!(statuses, ["idle", "offline", "unknown"]);
    let stranger = token_of(json!({ "sub": "eve" }));
    let (hidden, nothing) = (
        call(&server, "GET", "/status/ana", &stranger, "").json(),
        call(&server, "GET", "/status/cleo", &stranger, "").json(),
    );
    for what in ["status", "lastUpdated", "asOf", "text"] {
        assert_eq!(hidden[what], nothing[what], "{what}");
    }
    assert_eq!(kept.reads.load(Ordering::SeqCst), 1, "nobody reads what may not be told");
}

#[test]
fn a_store_that_fails_or_is_slow_leaves_it_unknown() {
    let (server, _) = remembering();
    for users in [["ana", "broken"], ["ana", "slow"]] {
        let told = ask(&server, &users);
        assert!(told.iter().all(|one| one["status"] == "unknown"), "{told:?}");
    }
    assert_eq!(counted(&server, "failed"), 4);
}

#[test]
fn one_request_more_than_may_read_is_unknown_at_once() {
    let (server, kept) = remembering();
    // Each waits as long for its owner, and then as long for the store.
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| assert_eq!(ask(&server, &["slow"])[0]["status"], "unknown"));
        }
    });
    assert_eq!(kept.reads.load(Ordering::SeqCst), 2);
    assert_eq!((counted(&server, "busy"), counted(&server, "failed")), (1, 2));
    assert_eq!(ask(&server, &["ana"])[0]["status"], "idle", "there is room again");
}

#[test]
fn without_a_store_nothing_is_guessed() {
    let server = server_with(|config| config.core.request_timeout = Duration::from_millis(200));
    assert_eq!(ask(&server, &["ana"])[0]["status"], "unknown");
    assert_eq!(counted(&server, "no_store"), 1);
}
