//! What bad input gets: a clear answer with a stable code, a count in a metric, and no harm to anybody else.

#![expect(clippy::unwrap_used, reason = "a test ends where something is not as expected")]

mod support;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use herenow::config::{Config, Secret};
use herenow::token::{Signer, Watch};
use herenow::{Embedded, Wiring};
use herenow_gateway_server::auth::{Algorithm, AuthConfig, KeySource};
use herenow_protocol::code::{CloseCode, ErrorCode};
use herenow_protocol::frame::ClientFrame;
use herenow_protocol::{Status, limit};
use serde_json::json;
use support::http::{exchange, get, post, segment};
use support::raw::{BINARY, CONTINUATION, Raw, TEXT};
use support::{AUDIENCE, Client, ISSUER, KEY, backend, person};
use tokio_tungstenite::tungstenite::Message;

struct Service {
    node: Embedded,
    at: SocketAddr,
    /// Somebody who is not to be harmed, and who watches for it.
    witness: Client,
    bystander: Client,
}

impl Service {
    async fn start() -> Self {
        let auth = AuthConfig::new(Algorithm::HS256, KeySource::Secret(KEY.to_owned()), ISSUER, AUDIENCE);
        let mut gateway = herenow_gateway_server::Config::new(auth);
        gateway.listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        gateway.shards = 1;
        gateway.origins = vec!["https://app.example".to_owned()];
        gateway.core.max_watches = 1_500;
        gateway.timeouts.header = Duration::from_secs(1);
        gateway.timeouts.auth = Duration::from_secs(1);
        let mut config = Config { gateway: Some(gateway), ..Config::default() };
        config.cluster.secret = Some(Secret::new("a cluster secret of the tests, long enough"));
        config.cluster.partition_bits = 2;
        let node = Embedded::start(config, Wiring::local()).await.unwrap();
        node.ready().await;
        let at = node.address().unwrap();
        let bystander = Client::connect(at, "bystander").await;
        let mut witness = Client::connect(at, "witness").await;
        witness.watch_until("bystander", Status::Online).await;
        Self { node, at, witness, bystander }
    }

    /// The bystander is where it was, and whoever watches still hears of it.
    async fn stays_unharmed(mut self) {
        assert_eq!(self.witness.query(&["bystander"]).await[0].status, Status::Online);
        self.bystander.bye().await;
        self.witness.sees("bystander", Status::Offline).await;
    }

    fn counted(&self, metric: &str, label: &str) {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.node.registry()).unwrap();
        let line = text.lines().find(|line| line.starts_with(metric) && line.contains(label));
        assert!(line.is_some_and(|line| !line.ends_with(" 0")), "{metric} {label}:\n{text}");
    }
}

#[tokio::test]
async fn bad_frames_get_an_error_and_the_socket_stays_open() {
    let service = Service::start().await;
    let mut client = Client::connect(service.at, "mallory").await;
    for (text, code) in [
        ("nonsense", ErrorCode::InvalidJson),
        ("[1]", ErrorCode::InvalidJson),
        ("{}", ErrorCode::InvalidFrame),
        (r#"{"type":7}"#, ErrorCode::InvalidFrame),
        (r#"{"type":"watch","id":1,"users":"ana"}"#, ErrorCode::InvalidFrame),
        (r#"{"type":"watch","id":1,"users":[7]}"#, ErrorCode::InvalidFrame),
        (r#"{"type":"teleport"}"#, ErrorCode::UnknownFrame),
        (r#"{"type":"status","id":1,"status":"asleep"}"#, ErrorCode::InvalidStatus),
        (r#"{"type":"watch","id":1,"users":[]}"#, ErrorCode::EmptyBatch),
        (r#"{"type":"watch","id":1,"users":[""]}"#, ErrorCode::InvalidUserId),
        (r#"{"type":"watch","id":1,"users":["a\u0000b"]}"#, ErrorCode::InvalidUserId),
        (r#"{"type":"query","id":1,"users":["a\nb"]}"#, ErrorCode::InvalidUserId),
    ] {
        client.send_text(text).await;
        assert_eq!(client.error().await, code, "{text}");
        service.counted("herenow_gateway_frame_errors_total", code.word());
    }
    let long = json!({ "type": "watch", "id": 1, "users": ["x".repeat(129)] }).to_string();
    client.send_text(long).await;
    assert_eq!(client.error().await, ErrorCode::InvalidUserId);
    service.stays_unharmed().await;
}

#[tokio::test]
async fn batches_and_watch_lists_have_limits() {
    let service = Service::start().await;
    let mut client = Client::connect(service.at, "mallory").await;
    let users = |from: usize, count: usize| (from..from + count).map(|n| format!("u{n}")).collect::<Vec<_>>();
    let id = client.id();
    client.send(&ClientFrame::Query { id, users: users(0, limit::USERS_PER_REQUEST + 1) }).await;
    assert_eq!(client.answer(id).await, Err(ErrorCode::BatchTooLong));
    let id = client.id();
    client.send(&ClientFrame::Watch { id, users: users(0, 1_000) }).await;
    let id = client.id();
    client.send(&ClientFrame::Watch { id, users: users(1_000, 501) }).await;
    assert_eq!(client.answer(id).await, Err(ErrorCode::TooManyWatches));
    let list: Vec<String> = users(1_000, 500);
    let list: Vec<&str> = list.iter().map(String::as_str).collect();
    assert_eq!(client.watch(&list).await.len(), 500, "exactly the limit is taken");
    service.counted("herenow_gateway_frame_errors_total", "batch_too_long");
    service.counted("herenow_gateway_frame_errors_total", "too_many_watches");
    service.stays_unharmed().await;
}

#[tokio::test]
async fn broken_sockets_are_closed_with_a_code() {
    let service = Service::start().await;
    let big = vec![b' '; limit::FRAME_BYTES + 1];
    for (what, number) in [
        ("binary", 1003),
        ("too big", 1009),
        ("bad utf-8", 1007),
        ("too many fragments", 1008),
        ("fragments too big", 1009),
        ("unmasked", 1002),
        ("reserved opcode", 1002),
        ("continuation of nothing", 1002),
    ] {
        let mut raw = Raw::open(service.at, "mallory").await;
        match what {
            "binary" => raw.frame(true, BINARY, b"{}").await,
            "too big" => raw.frame(true, TEXT, &big).await,
            "bad utf-8" => raw.frame(true, TEXT, b"\"\xff\xfe\"").await,
            "too many fragments" => {
                raw.frame(false, TEXT, b"{").await;
                for _ in 0..limit::FRAME_FRAGMENTS {
                    raw.frame(false, CONTINUATION, b" ").await;
                }
            }
            "fragments too big" => {
                raw.frame(false, TEXT, &big[..40_000]).await;
                raw.frame(true, CONTINUATION, &big[..40_000]).await;
            }
            "unmasked" => raw.unmasked(TEXT, br#"{"type":"heartbeat"}"#).await,
            "reserved opcode" => raw.frame(true, 5, b"").await,
            _ => raw.frame(true, CONTINUATION, b"x").await,
        }
        assert_eq!(raw.closed().await, Some(number), "{what}");
        let reason = CloseCode::ALL.into_iter().find(|code| code.number() == number).unwrap().reason();
        service.counted("herenow_gateway_closes_total", reason);
    }
    service.stays_unharmed().await;
}

#[tokio::test]
async fn a_frame_of_exactly_the_limit_is_read() {
    let service = Service::start().await;
    let mut client = Client::connect(service.at, "mallory").await;
    let mut text = r#"{"type":"heartbeat","id":7,"pad":""#.to_owned();
    text.push_str(&"x".repeat(limit::FRAME_BYTES - text.len() - 2));
    text.push_str("\"}");
    assert_eq!(text.len(), limit::FRAME_BYTES);
    client.send_message(Message::text(text)).await;
    assert_eq!(client.answer(7).await, Ok(()));
    service.stays_unharmed().await;
}

/// Tokens that are not accepted.
fn bad_tokens() -> Vec<(&'static str, String, &'static str)> {
    let minute = Duration::from_secs(60);
    let make = |key: &str, issuer: &str, audience: &str| {
        let signer =
            Signer::new(Algorithm::HS256, key.as_bytes(), Some(issuer.to_owned()), Some(audience.to_owned()))
                .unwrap();
        signer.sign("ana", "presence:read", Watch::Everybody, minute).unwrap()
    };
    let good = make(KEY, ISSUER, AUDIENCE);
    let parts: Vec<&str> = good.split('.').collect();
    // {"alg":"none","typ":"JWT"}
    let none = format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{}.", parts[1]);
    vec![
        ("wrong key", make("another key, which has 32 bytes too", ISSUER, AUDIENCE), "invalid_token"),
        ("wrong issuer", make(KEY, "somebody", AUDIENCE), "invalid_token"),
        ("wrong audience", make(KEY, ISSUER, "another"), "invalid_token"),
        ("alg none", none, "invalid_token"),
        ("no signature", format!("{}.{}.", parts[0], parts[1]), "invalid_token"),
        ("nonsense", "nonsense".to_owned(), "invalid_token"),
        ("expired", expired(), "token_expired"),
    ]
}

fn expired() -> String {
    #[derive(serde::Serialize)]
    struct Claims {
        sub: &'static str,
        iat: u64,
        exp: u64,
        iss: &'static str,
        aud: &'static str,
    }
    let claims = Claims { sub: "ana", iat: 1_000_000_000, exp: 1_000_000_060, iss: ISSUER, aud: AUDIENCE };
    let key = jsonwebtoken::EncodingKey::from_secret(KEY.as_bytes());
    jsonwebtoken::encode(&jsonwebtoken::Header::new(jsonwebtoken::Algorithm::HS256), &claims, &key).unwrap()
}

fn handshake(path: &str, headers: &str) -> Vec<u8> {
    format!(
        "GET {path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
    )
    .into_bytes()
}

#[tokio::test]
async fn bad_tokens_are_refused_before_the_upgrade_and_over_rest() {
    let service = Service::start().await;
    for (what, token, code) in bad_tokens() {
        let header = format!("Authorization: Bearer {token}\r\n");
        let answer = exchange(service.at, &handshake("/v1/connect", &header)).await.unwrap();
        assert_eq!((answer.status, answer.code().as_str()), (401, code), "{what}");
        let answer = get(service.at, "/status/ana", Some(&token)).await;
        assert_eq!((answer.status, answer.code().as_str()), (401, code), "{what}");
    }
    let answer = get(service.at, "/status/ana", None).await;
    assert_eq!((answer.status, answer.code().as_str()), (401, "missing_token"));
    for code in ["invalid_token", "token_expired", "missing_token"] {
        service.counted("herenow_gateway_request_errors_total", code);
    }
    service.counted("herenow_gateway_handshakes_total", "refused");
    service.stays_unharmed().await;
}

#[tokio::test]
async fn bad_handshakes_are_refused() {
    let service = Service::start().await;
    let bearer = format!("Authorization: Bearer {}\r\n", person("ana"));
    let foreign = format!("{bearer}Origin: https://evil.example\r\n");
    let leaked = format!("/v1/connect?token={}", person("ana"));
    let version =
        String::from_utf8(handshake("/v1/connect", &bearer)).unwrap().replace("Version: 13", "Version: 8");
    for (what, request, status, code) in [
        ("origin", handshake("/v1/connect", &foreign), 403, "origin_not_allowed"),
        ("token in query", handshake(&leaked, ""), 400, "token_in_query"),
        ("version", version.into_bytes(), 426, "unsupported_version"),
    ] {
        let answer = exchange(service.at, &request).await.unwrap();
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{what}");
        service.counted("herenow_gateway_request_errors_total", code);
    }
    let plain = get(service.at, "/v1/connect", Some(&person("ana"))).await;
    assert_eq!(plain.code(), "invalid_handshake");
    service.stays_unharmed().await;
}

#[tokio::test]
async fn half_a_request_is_hung_up_on() {
    let service = Service::start().await;
    // Whether something is answered first does not matter: the exchange ends.
    let _ = exchange(service.at, b"GET /status/ana HTTP/1.1\r\nHost: x\r\nAuthoriz").await;
    service.counted("herenow_gateway_broken_requests_total", "half");
    let _ = exchange(service.at, b"\x16\x03\x01 this is no HTTP\r\n\r\n").await;
    service.counted("herenow_gateway_broken_requests_total", "malformed");
    service.stays_unharmed().await;
}

#[tokio::test]
async fn bad_requests_get_a_problem_with_a_code() {
    let service = Service::start().await;
    let token = backend("presence:read presence:write");
    let many: Vec<String> = (0..=limit::USERS_PER_REQUEST).map(|n| n.to_string()).collect();
    let (many, none) = (json!({ "userIds": many }).to_string(), json!({ "userIds": [] }).to_string());
    let big = format!(r#"{{"userId":"{}"}}"#, "x".repeat(limit::BODY_BYTES));
    for (path, body, status, code) in [
        ("/status", "nonsense", 400, "invalid_json"),
        ("/status", "[]", 400, "invalid_json"),
        ("/status", r#"{"userId":7,"status":"idle"}"#, 400, "invalid_frame"),
        ("/status", r#"{"userId":"ana"}"#, 400, "invalid_frame"),
        ("/status", r#"{"userId":"ana","status":"asleep"}"#, 400, "invalid_status"),
        ("/status", r#"{"userId":"","status":"idle"}"#, 400, "invalid_user_id"),
        ("/status", r#"{"userId":"a\u0007","status":"idle"}"#, 400, "invalid_user_id"),
        ("/status", r#"{"userId":"ana","status":"idle","ttlSeconds":0}"#, 400, "invalid_value"),
        ("/status", &big, 413, "body_too_big"),
        ("/statuses", &none, 400, "empty_batch"),
        ("/statuses", &many, 400, "batch_too_long"),
        ("/nowhere", "{}", 404, "not_found"),
    ] {
        let answer = post(service.at, path, Some(&token), body).await;
        let shown = &body[..body.len().min(60)];
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{path} {shown}");
        service.counted("herenow_gateway_request_errors_total", code);
    }
    let long = format!("/status/{}", segment(&"é".repeat(65)));
    assert_eq!(get(service.at, &long, Some(&token)).await.code(), "invalid_user_id");
    service.stays_unharmed().await;
}
