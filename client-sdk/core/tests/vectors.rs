//! Runs `protocol/vectors`: the clauses that every SDK keeps.
#![allow(clippy::unwrap_used, reason = "helpers of tests may panic")]

use std::collections::BTreeMap;
use std::time::Duration;

use herenow_client_core::{
    Failure, Incoming, PresenceMap, after_reconnect_frame, after_refusal, attempt_after, backoff, parse,
};
use herenow_protocol::code::{Duty, duty};
use herenow_protocol::frame::{ClientFrame, ServerFrame, encode};
use herenow_protocol::{MonoTime, Presence, UserId, Version, WallTime};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

fn load<T: DeserializeOwned>(name: &str) -> T {
    let path = format!("{}/../../protocol/vectors/{name}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

#[derive(Deserialize)]
struct FrameCase {
    clause: String,
    name: String,
    frame: String,
    fields: Value,
    json: Value,
}

fn field<T: DeserializeOwned>(fields: &Value, name: &str) -> T {
    serde_json::from_value(fields[name].clone()).unwrap()
}

fn build(kind: &str, fields: &Value) -> ClientFrame {
    let expires: Option<u64> = field(fields, "expiresAtMs");
    match kind {
        "auth" => ClientFrame::Auth {
            token: field(fields, "token"),
            device: field(fields, "device"),
            kind: field(fields, "kind"),
            activity: field(fields, "activity"),
            id: field(fields, "id"),
        },
        "heartbeat" => {
            ClientFrame::Heartbeat { activity: field(fields, "activity"), id: field(fields, "id") }
        }
        "watch" => ClientFrame::Watch { id: field(fields, "id"), users: field(fields, "users") },
        "unwatch" => ClientFrame::Unwatch { id: field(fields, "id"), users: field(fields, "users") },
        "query" => ClientFrame::Query { id: field(fields, "id"), users: field(fields, "users") },
        "status" => ClientFrame::Status {
            id: field(fields, "id"),
            status: field(fields, "status"),
            text: field(fields, "text"),
            emoji: field(fields, "emoji"),
            expires_at: expires.map(WallTime::from_millis),
        },
        "bye" => ClientFrame::Bye {},
        other => panic!("no frame is called {other}"),
    }
}

#[test]
fn client_frames() {
    for case in load::<Vec<FrameCase>>("client_frames.json") {
        let text = encode(&build(&case.frame, &case.fields));
        let label = format!("{} {}", case.clause, case.name);
        assert!(text.starts_with("{\"type\":"), "{label}: {text}");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), case.json, "{label}");
        assert!(ClientFrame::parse(&text).is_ok(), "{label}: the gateway reads it");
    }
}

#[derive(Deserialize)]
struct ReadCase {
    clause: String,
    name: String,
    text: String,
    understood: Option<Value>,
}

fn error_json(id: Option<u64>, failure: &Failure) -> Value {
    let Failure { code, message, remediation, retry_after } = failure;
    let mut value = json!({"type": "error", "code": code, "message": message, "remediation": remediation});
    if let Some(id) = id {
        value["id"] = json!(id);
    }
    if let Some(wait) = retry_after {
        value["retryAfterMs"] = json!(wait.as_millis());
    }
    value
}

#[test]
fn server_frames() {
    for case in load::<Vec<ReadCase>>("server_frames.json") {
        let understood = parse(&case.text).map(|incoming| match incoming {
            Incoming::Frame(frame) => serde_json::to_value(&frame).unwrap(),
            Incoming::Error { id, failure } => error_json(id, &failure),
        });
        assert_eq!(understood, case.understood, "{} {}", case.clause, case.name);
    }
}

#[derive(Deserialize)]
struct MapCase {
    clause: String,
    name: String,
    steps: Vec<Step>,
}

#[derive(Deserialize)]
struct Step {
    at: u64,
    #[serde(flatten)]
    what: What,
    changed: Vec<UserId>,
    view: BTreeMap<UserId, Presence>,
}

#[derive(Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", rename_all_fields = "camelCase")]
enum What {
    Connected { server_time: WallTime, fresh_for_ms: u64 },
    Watch { users: Vec<UserId> },
    Unwatch { users: Vec<UserId> },
    Frame { frame: Value },
    Heard,
    Disconnected,
    Advance,
}

fn take(map: &mut PresenceMap, step: Step) -> Vec<Presence> {
    let now = MonoTime::from_millis(step.at);
    let mut changed = Vec::new();
    while map.poll_timeout().is_some_and(|due| due <= now) {
        let due = map.poll_timeout().unwrap();
        map.handle_timeout(due, &mut changed);
    }
    match step.what {
        What::Connected { server_time, fresh_for_ms } => {
            map.connected(server_time, Duration::from_millis(fresh_for_ms), now);
        }
        What::Watch { users } => {
            for user in users {
                map.watch(user);
            }
        }
        What::Unwatch { users } => {
            for user in users {
                map.unwatch(&user);
            }
        }
        What::Frame { frame } => {
            map.heard(now);
            match parse(&frame.to_string()) {
                Some(Incoming::Frame(
                    ServerFrame::Snapshot { users, .. } | ServerFrame::Presence { users },
                )) => {
                    map.take(users, &mut changed);
                }
                other => panic!("{other:?}"),
            }
        }
        What::Heard => map.heard(now),
        What::Disconnected => map.disconnected(),
        What::Advance => {}
    }
    map.handle_timeout(now, &mut changed);
    changed
}

#[test]
fn presence_map() {
    for case in load::<Vec<MapCase>>("presence_map.json") {
        let mut map = PresenceMap::new();
        for (index, step) in case.steps.into_iter().enumerate() {
            let label = format!("{} {}, step {index}", case.clause, case.name);
            let (view, mut expected) = (step.view.clone(), step.changed.clone());
            let told = take(&mut map, step);
            let held: BTreeMap<UserId, Presence> =
                map.records().map(|record| (record.user_id.clone(), record.clone())).collect();
            assert_eq!(held, view, "{label}");
            for record in &told {
                assert_eq!(view.get(&record.user_id), Some(record), "{label}: told the value that holds");
            }
            let mut users: Vec<UserId> = told.into_iter().map(|record| record.user_id).collect();
            users.sort();
            expected.sort();
            assert_eq!(users, expected, "{label}: told of");
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BackoffFile {
    base_ms: u64,
    cap_ms: u64,
    backoff: Vec<BackoffCase>,
    after_connection: Vec<LastedCase>,
    after_refusal: Vec<ToldCase>,
    after_reconnect_frame: Vec<LeaveCase>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BackoffCase {
    attempt: u32,
    random: f64,
    delay_ms: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LastedCase {
    attempt: u32,
    lasted_ms: u64,
    next: u32,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ToldCase {
    told_ms: u64,
    random: f64,
    delay_ms: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LeaveCase {
    after_ms: u64,
    within_ms: u64,
    random: f64,
    delay_ms: u64,
}

#[test]
fn waits() {
    let ms = Duration::from_millis;
    let file: BackoffFile = load("backoff.json");
    for case in file.backoff {
        let wait = backoff(ms(file.base_ms), ms(file.cap_ms), case.attempt, case.random);
        assert_eq!(wait, ms(case.delay_ms), "SDK-B1 attempt {} random {}", case.attempt, case.random);
    }
    for case in file.after_connection {
        let next = attempt_after(ms(file.cap_ms), case.attempt, ms(case.lasted_ms));
        assert_eq!(next, case.next, "SDK-B1 attempt {} after {} ms", case.attempt, case.lasted_ms);
    }
    for case in file.after_refusal {
        let wait = after_refusal(ms(case.told_ms), ms(file.base_ms), case.random);
        assert_eq!(wait, ms(case.delay_ms), "SDK-B3 told {} random {}", case.told_ms, case.random);
    }
    for case in file.after_reconnect_frame {
        let wait = after_reconnect_frame(ms(case.after_ms), ms(case.within_ms), case.random);
        assert_eq!(wait, ms(case.delay_ms), "SDK-B2 after {} within {}", case.after_ms, case.within_ms);
    }
}

#[derive(Deserialize)]
struct CloseCase {
    clause: String,
    code: Option<u16>,
    duty: String,
}

#[test]
fn close_codes() {
    use herenow_client_core::Closure;
    for case in load::<Vec<CloseCase>>("close_codes.json") {
        let closure = case.code.map_or_else(|| Closure::Lost(Failure::lost()), Closure::Code);
        let word = match closure.duty() {
            Duty::Done => "done",
            Duty::Reconnect => "reconnect",
            Duty::RenewToken => "renew_token",
            Duty::Stay => "stay",
        };
        assert_eq!(word, case.duty, "{} {:?}", case.clause, case.code);
        assert!(case.code.is_none_or(|code| duty(code) == closure.duty()));
    }
}

#[derive(Deserialize)]
struct VersionFile {
    ascending: Vec<VersionCase>,
    invalid: Vec<VersionCase>,
}

#[derive(Deserialize)]
struct VersionCase {
    version: String,
}

#[test]
fn versions() {
    let file: VersionFile = load("versions.json");
    let versions: Vec<Version> = file.ascending.iter().map(|case| case.version.parse().unwrap()).collect();
    assert!(versions.windows(2).all(|pair| pair[0] < pair[1]));
    for case in file.invalid {
        assert!(case.version.parse::<Version>().is_err(), "{:?}", case.version);
    }
}
