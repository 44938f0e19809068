//! The listener for operators, by itself and around a whole process.

#![expect(clippy::unwrap_used, reason = "a test ends where something is not as expected")]

mod support;

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::FutureExt as _;
use herenow::admin::{Admin, Readiness};
use prometheus_client::registry::Registry;
use support::http::{Answer, exchange, get, post};
use support::{AUDIENCE, Client, ISSUER, KEY, PATIENCE};
use tokio::sync::Notify;

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

async fn send(to: SocketAddr, method: &str, path: &str, header: &str) -> Answer {
    let request = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{header}\r\n");
    exchange(to, request.as_bytes()).await.unwrap()
}

#[tokio::test]
async fn readiness_is_told_by_status() {
    let ready = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&ready);
    let readiness = move || Readiness { ready: asked.load(Ordering::Relaxed), ..Readiness::default() };
    let admin = Admin::new(Arc::new(Registry::default()), readiness, Arc::default());
    let (at, _task) = admin.serve(LOOPBACK).await.unwrap();
    assert_eq!(get(at, "/readyz", None).await.status, 503);
    assert_eq!(get(at, "/livez", None).await.status, 200);
    ready.store(true, Ordering::Relaxed);
    assert_eq!(get(at, "/readyz", None).await.status, 200);
    let metrics = get(at, "/metrics", None).await;
    assert!(metrics.head.contains("application/openmetrics-text"), "{metrics:?}");
    assert!(metrics.text.ends_with("# EOF\n"), "{metrics:?}");
}

#[tokio::test]
async fn only_programs_are_answered() {
    let bell = Arc::new(Notify::new());
    let admin = Admin::new(Arc::new(Registry::default()), Readiness::default, Arc::clone(&bell));
    let (at, _task) = admin.serve(LOOPBACK).await.unwrap();
    for header in ["Origin: https://evil.example\r\n", "Sec-Fetch-Site: cross-site\r\n", "Origin: null\r\n"] {
        assert_eq!(send(at, "POST", "/drain", header).await.status, 403, "{header}");
        assert_eq!(send(at, "GET", "/metrics", header).await.status, 403, "{header}");
    }
    assert_eq!(send(at, "GET", "/drain", "").await.status, 405);
    assert!(bell.notified().now_or_never().is_none(), "nobody was heard");
    assert_eq!(send(at, "POST", "/drain", "").await.status, 202);
    assert!(bell.notified().now_or_never().is_some());
}

fn free() -> SocketAddr {
    std::net::TcpListener::bind(LOOPBACK).unwrap().local_addr().unwrap()
}

#[tokio::test]
async fn a_process_of_its_own_serves_and_drains() {
    let (clients, admin) = (free(), free());
    let process = tokio::process::Command::new(env!("CARGO_BIN_EXE_herenow"))
        .args(["serve", "--listen", &clients.to_string(), "--admin-listen", &admin.to_string()])
        .env("HERENOW__CLUSTER__SECRET", "a cluster secret of the tests, long enough")
        .env("HERENOW__GATEWAY__AUTH__ALGORITHM", "HS256")
        .env("HERENOW__GATEWAY__AUTH__KEYS__0__SECRET", KEY)
        .env("HERENOW__GATEWAY__AUTH__ISSUER", ISSUER)
        .env("HERENOW__GATEWAY__AUTH__AUDIENCE", AUDIENCE)
        .env("HERENOW__SHUTDOWN__WINDOW", "300ms")
        .env("HERENOW__LOG__FORMAT", "json")
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let ready = async {
        while exchange(admin, b"GET /readyz HTTP/1.0\r\n\r\n").await.is_none_or(|answer| answer.status != 200)
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, ready).await.expect("ready in time");
    let ana = Client::connect(clients, "ana-whom-no-log-names").await;
    assert_eq!(post(admin, "/drain", None, "").await.status, 202);
    assert_eq!(ana.closed().await.map(|frame| u16::from(frame.code)), Some(4000));
    let ended = process.wait_with_output();
    let output = tokio::time::timeout(PATIENCE, ended).await.expect("an end in time").unwrap();
    assert_eq!(output.status.code(), Some(0));
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(log.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()), "{log}");
    assert!(log.contains("herenow serves") && !log.contains("ana-whom-no-log-names"), "{log}");
}
