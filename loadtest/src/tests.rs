//! The measurement against two gateways that are a script: what the watched one is told, the other tells.

use std::time::Duration;

use futures::{SinkExt as _, StreamExt as _};
use herenow_protocol::frame::{ClientFrame, ServerFrame, Welcome, encode};
use herenow_protocol::{Activity, Epoch, Presence, Status, UserId, Version, WallTime};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};

use crate::latency::{Plan, run};
use crate::report::Report;
use crate::token::Issuer;

/// What a scripted gateway does with a change: how long it takes, or that it loses it.
type Fate = fn(u64) -> Option<Duration>;

fn record(user: &str, status: Status, n: u64) -> Presence {
    Presence {
        user_id: UserId::new(user).unwrap(),
        status,
        last_updated: None,
        version: Version { epoch: Epoch::NONE, n },
        text: None,
        emoji: None,
        reachable: false,
        devices: Vec::new(),
        invisible: false,
        as_of: None,
    }
}

#[expect(clippy::result_large_err, reason = "the shape that the handshake asks for")]
async fn serve(stream: TcpStream, changes: broadcast::Sender<Presence>, fate: Fate) {
    let mut query = String::new();
    let callback = |request: &Request, mut response: Response| -> Result<Response, ErrorResponse> {
        query = request.uri().query().unwrap_or_default().to_owned();
        assert!(request.headers()["authorization"].to_str().unwrap().starts_with("Bearer "));
        let protocol = request.headers()["sec-websocket-protocol"].clone();
        response.headers_mut().insert("sec-websocket-protocol", protocol);
        Ok(response)
    };
    let socket = tokio_tungstenite::accept_hdr_async(stream, callback).await.unwrap();
    let user = query
        .split("device=d")
        .nth(1)
        .and_then(|rest| rest.split('&').next())
        .map(|n| format!("loadtest-{n}"));
    let (mut write, mut read) = socket.split();
    let mut heard = changes.subscribe();
    let welcome = ServerFrame::Welcome(Welcome {
        session: "s".to_owned(),
        user_id: UserId::new("me").unwrap(),
        heartbeat_interval_ms: 20_000,
        heartbeat_timeout_ms: 30_000,
        idle_after_ms: 300_000,
        fresh_for_ms: 20_000,
        server_time: WallTime::default(),
    });
    write.send(Message::text(encode(&welcome))).await.unwrap();
    let mut number = 0;
    loop {
        tokio::select! {
            message = read.next() => {
                let Some(Ok(Message::Text(text))) = message else { return };
                match ClientFrame::parse(&text).unwrap() {
                    ClientFrame::Watch { id, users } => {
                        let users = users.iter().map(|user| record(user, Status::Online, 0)).collect();
                        let snapshot = ServerFrame::Snapshot { id, users, complete: true };
                        write.send(Message::text(encode(&snapshot))).await.unwrap();
                    }
                    ClientFrame::Heartbeat { activity: Some(activity), .. } => {
                        number += 1;
                        let status = if activity == Activity::Active { Status::Online } else { Status::Idle };
                        let (changes, user) = (changes.clone(), user.clone().unwrap());
                        let Some(wait) = fate(number) else { continue };
                        tokio::spawn(async move {
                            tokio::time::sleep(wait).await;
                            changes.send(record(&user, status, number)).unwrap();
                        });
                    }
                    ClientFrame::Heartbeat { .. } => {}
                    ClientFrame::Bye {} => return,
                    other @ (ClientFrame::Auth { .. }
                    | ClientFrame::Unwatch { .. }
                    | ClientFrame::Query { .. }
                    | ClientFrame::Status { .. }) => panic!("{other:?}"),
                }
            }
            presence = heard.recv() => {
                let frame = ServerFrame::Presence { users: vec![presence.unwrap()] };
                // The load may be gone already.
                let _ = write.send(Message::text(encode(&frame))).await;
            }
        }
    }
}

async fn gateway(fate: Fate) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}", listener.local_addr().unwrap());
    let (changes, _) = broadcast::channel(1_000);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(serve(stream, changes.clone(), fate));
        }
    });
    url
}

fn plan(url: String) -> Plan {
    Plan {
        watched_gateway: url.clone(),
        watcher_gateway: url,
        issuer: Issuer::new(&[7; 32], None, None),
        users: 4,
        warm_up: 4,
        changes: 40,
        rate: 200.0,
        patience: Duration::from_millis(500),
    }
}

#[tokio::test]
async fn every_change_is_timed_once_from_its_making() {
    let plan = plan(gateway(|_| Some(Duration::from_millis(5))).await);
    let outcome = run(&plan).await.unwrap();
    assert_eq!((outcome.latency.len(), outcome.conflated, outcome.missed), (40, 0, 0));
    assert!(outcome.latency.min() >= 5_000, "{}", outcome.latency.min());
    let json = serde_json::to_value(Report::of("latency", &plan, &outcome)).unwrap();
    assert_eq!(json["seen"], 40);
    assert!(json["latencyMicros"]["p50"].as_u64().unwrap() >= 5_000);
}

#[tokio::test]
async fn what_is_lost_is_counted_and_not_timed() {
    // Four rounds before, one to warm up and ten that count: the last of each user is never told.
    let plan = plan(gateway(|number| (number < 15).then_some(Duration::ZERO)).await);
    let outcome = run(&plan).await.unwrap();
    assert_eq!((outcome.latency.len(), outcome.missed), (36, 4));
}

#[tokio::test]
async fn a_gateway_that_is_not_there_is_named() {
    let error = run(&plan("ws://127.0.0.1:1".to_owned())).await.unwrap_err();
    assert!(format!("{error:#}").contains("127.0.0.1:1"), "{error:#}");
}
