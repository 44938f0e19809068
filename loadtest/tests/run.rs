//! A whole load, small, against the whole service in this process.
#![allow(clippy::unwrap_used, reason = "helpers of tests may panic")]

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Output;
use std::time::Duration;

use herenow::config::{Config, Secret};
use herenow::{Embedded, Wiring};
use herenow_gateway_server::auth::{Algorithm, AuthConfig, KeySource};
use serde_json::Value;
use tokio::process::Command;

const KEY: &str = "the key of the tests, at least 32 bytes long";

/// The service with timers five times shorter.
async fn service() -> Embedded {
    let auth = AuthConfig::new(Algorithm::HS256, KeySource::Secret(KEY.to_owned()), "tests", "herenow");
    let mut gateway = herenow_gateway_server::Config::new(auth);
    gateway.listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    gateway.shards = 1;
    gateway.core.heartbeat_interval = Duration::from_secs(1);
    gateway.core.heartbeat_timeout = Duration::from_secs(3);
    let mut config = Config { gateway: Some(gateway), ..Config::default() };
    config.cluster.secret = Some(Secret::new("a cluster secret of the tests, long enough"));
    config.cluster.partition_bits = 4;
    config.coordinator.grace_period = Duration::from_secs(2);
    let node = Embedded::start(config, Wiring::local()).await.unwrap();
    node.ready().await;
    node
}

/// What the load program says of a service whose promises are these.
async fn load(directory: &Path, promise: &str) -> (Output, Value) {
    let service = service().await;
    let address = service.address().unwrap();
    std::fs::write(directory.join("secret"), KEY).unwrap();
    let text = format!(
        r#"
            name = "smoke"
            [target]
            gateways = ["ws://{address}"]
            token_secret_file = "{}"
            issuer = "tests"
            audience = "herenow"
            [people]
            sessions = 240
            [watch]
            kind = "cliques"
            members = 12
            [phases]
            ramp = "1s"
            settle = "1s"
            measure = "7s"
            patience = "2s"
            [rates]
            flips = 30.0
            leaves = 5.0
            reloads = 5.0
            cuts = 4.0
            deaths = 3.0
            switches = 3.0
            churn = 10.0
            away = ["100ms", "1s"]
            reload = ["20ms", "800ms"]
            [promise]
            {promise}
        "#,
        directory.join("secret").display()
    );
    let (scenario, json) = (directory.join("smoke.toml"), directory.join("smoke.json"));
    std::fs::write(&scenario, text).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_herenow-loadtest"))
        .arg("run")
        .arg(&scenario)
        .args(["--quiet", "--per-worker", "120", "--json"])
        .arg(&json)
        .output()
        .await
        .unwrap();
    let result = std::fs::read_to_string(json).expect("a result, whatever it says");
    service.leave(Duration::ZERO).await;
    (output, serde_json::from_str(&result).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_keeps_its_promises_is_clean() {
    let directory = tempfile::tempdir().unwrap();
    // A machine that is busy with other tests is given more than the second that is promised.
    let promise = "grace = \"2s\"\nheartbeat_timeout = \"3s\"\nbound = \"1900ms\"";
    let (output, result) = load(directory.path(), promise).await;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("referee: clean"), "{said}");
    assert_eq!(result["workers"], 2);
    let measured = &result["measured"];
    let counts = &measured["counts"];
    // 220 changes at the least, each told to 11.
    assert!(measured["latency"]["count"].as_u64().unwrap() > 1_000, "{said}");
    assert!(measured["falseOnline"]["count"].as_u64().unwrap() > 0, "those who died and were cut: {said}");
    assert_eq!(counts["seen"], measured["latency"]["count"]);
    assert!(result["end"]["views"].as_u64().unwrap() > 2_000, "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_breaks_its_promises_is_found_out() {
    let directory = tempfile::tempdir().unwrap();
    // Nobody promised these, so that the service is taken for one that hides that people left.
    let promise = "grace = \"900ms\"\nheartbeat_timeout = \"3s\"\nbound = \"300ms\"\ngrace_longest = \"0s\"";
    let (output, result) = load(directory.path(), promise).await;
    assert_eq!(output.status.code(), Some(1));
    let [online, offline, _] =
        [0, 1, 2].map(|kind| result["measured"]["counts"]["overBound"][kind].as_u64().unwrap());
    assert!(online > 50, "each who was cut is shown for too long: {online}, {offline}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("falsely online"));
}
