use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::*;

#[test]
fn a_token_in_the_header_opens_a_session() {
    let server = server();
    let mut peer = connect(&server);
    peer.send(handshake(&bearer(&token())).as_bytes());
    let answer = peer.answer();
    assert_eq!(answer.status, 101);
    assert!(answer.head.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="), "{}", answer.head);
    assert!(!answer.head.contains("extensions"));
    let welcome = peer.frame();
    assert_eq!((welcome["type"].as_str(), welcome["userId"].as_str()), (Some("welcome"), Some("ana")));
}

#[test]
fn a_browser_sends_its_token_as_a_subprotocol() {
    let server = server();
    let mut peer = connect(&server);
    let offer = format!("Sec-WebSocket-Protocol: herenow.v1.json, bearer.{}\r\n", token());
    peer.send(handshake(&format!("Origin: https://app.example\r\n{offer}")).as_bytes());
    let answer = peer.answer();
    assert!(answer.head.contains("sec-websocket-protocol: herenow.v1.json\r\n"), "{}", answer.head);
    assert!(!answer.head.contains("bearer"));
    assert_eq!(peer.frame()["type"], "welcome");
}

#[test]
fn a_token_in_the_first_frame_opens_a_session() {
    let server = server();
    let mut peer = connect(&server);
    let auth = json!({ "type": "auth", "token": token(), "device": "phone", "kind": "mobile", "id": 3 });
    // In one segment with the handshake: nothing behind it is lost.
    let mut bytes = handshake("").into_bytes();
    bytes.extend(text(&auth.to_string()));
    peer.send(&bytes);
    assert_eq!(peer.answer().status, 101);
    assert_eq!(peer.frame()["type"], "welcome");
    assert!(peer.is_alive());
}

#[test]
fn before_its_token_a_client_is_told_nothing_else() {
    let server = server_with(|config| config.timeouts.auth = Duration::from_millis(200));
    let first = |payload: &str| {
        let mut peer = connect(&server);
        peer.send(handshake("").as_bytes());
        assert_eq!(peer.answer().status, 101);
        if !payload.is_empty() {
            peer.send(&text(payload));
            let error = peer.frame();
            assert_eq!(error["type"], "error");
            return (error["code"].as_str().unwrap().to_owned(), peer.closed());
        }
        (String::new(), peer.closed())
    };
    let auth = |token: String| json!({ "type": "auth", "token": token }).to_string();
    assert_eq!(first(r#"{"type":"heartbeat"}"#), ("invalid_auth".to_owned(), 4501));
    assert_eq!(first("nonsense"), ("invalid_json".to_owned(), 4501));
    assert_eq!(first(&auth("a.b.c".to_owned())), ("invalid_token".to_owned(), 4501));
    assert_eq!(first(&auth(expired())), ("token_expired".to_owned(), 4401));
    assert_eq!(first(""), (String::new(), 4408));
    let mut silent = connect(&server);
    silent.send(handshake("").as_bytes());
    assert_eq!(silent.answer().status, 101);
    let ping = frame(0x89, b"");
    silent.send(&ping);
    assert_eq!(silent.closed(), 4408, "pings do not win time");
}

#[test]
fn bad_handshakes_are_refused_before_the_upgrade() {
    let server = server();
    let good = handshake("");
    let cases = [
        ("token", handshake(&bearer("a.b.c")), 401, "invalid_token"),
        ("expired", handshake(&bearer(&expired())), 401, "token_expired"),
        ("query", good.replace("device=d1", "token=canary"), 400, "token_in_query"),
        ("origin", handshake("Origin: https://evil.example\r\n"), 403, "origin_not_allowed"),
        ("method", good.replace("GET", "POST"), 405, "method_not_allowed"),
        ("version", good.replace("Version: 13", "Version: 8"), 426, "unsupported_version"),
        ("HTTP/1.0", good.replace("HTTP/1.1", "HTTP/1.0"), 400, "invalid_handshake"),
        ("key", good.replace(KEY, "aGVsbG8="), 400, "invalid_handshake"),
        ("body", handshake("Content-Length: 2\r\n") + "hi", 400, "invalid_handshake"),
        ("no upgrade", good.replace("Upgrade: websocket\r\n", ""), 400, "invalid_handshake"),
        ("long URI", good.replace("device=d1", &"x".repeat(3_000)), 400, "invalid_value"),
    ];
    for (what, bytes, status, code) in cases {
        let answer = request(&server, &bytes);
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{what}: {}", answer.head);
        assert!(answer.head.contains("application/problem+json"), "{what}");
    }
    let answer = request(&server, &handshake("").replace("Version: 13", "Version: 7"));
    assert!(answer.head.contains("sec-websocket-version: 13"));
    assert!(metrics(&server).contains("handshakes_total{result=\"refused\"} 12"));
}

#[test]
fn a_refused_handshake_is_no_tunnel() {
    let server = server();
    let mut peer = connect(&server);
    peer.send(handshake("Origin: null\r\n").as_bytes());
    assert_eq!(peer.answer().status, 403);
    peer.send(&text(r#"{"type":"heartbeat"}"#));
    let answer = peer.answer();
    assert!(answer.status == 400 || answer.status == 0, "{answer:?}");
}

#[test]
fn malformed_http_harms_nobody() {
    let server = server_with(|config| config.timeouts.header = Duration::from_millis(300));
    let mut neighbour = session(&server);
    let many: String = (0..70).map(|i| format!("X-{i}: y\r\n")).collect();
    let cases = [
        ("headers", handshake(&many), 431),
        ("a long header", handshake(&format!("X: {}\r\n", "y".repeat(20_000))), 431),
        ("garbage", "\u{1}\u{2}\u{3}\r\n\r\n".to_owned(), 400),
        ("HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), 400),
        ("a space before the colon", handshake("X : y\r\n"), 400),
        ("two lengths", handshake("Content-Length: 1\r\nContent-Length: 2\r\n"), 400),
    ];
    for (what, bytes, status) in cases {
        let answer = request(&server, &bytes);
        assert!(answer.status == status || answer.status == 0, "{what}: {answer:?}");
    }
    let began = Instant::now();
    let mut slow = connect(&server);
    slow.send(b"GET /v1/conn");
    let answer = slow.answer();
    assert!(answer.status == 408 || answer.status == 0, "{answer:?}");
    assert!(began.elapsed() < Duration::from_secs(3));
    assert!(neighbour.is_alive());
}

#[test]
fn connections_have_a_limit() {
    let server = server_with(|config| config.caps.sockets = 1);
    let mut first = session(&server);
    let answer = request(&server, &handshake(&bearer(&token())));
    assert_eq!((answer.status, answer.code().as_str()), (503, "overloaded"));
    let told = answer.json()["retryAfterMs"].as_u64().unwrap();
    assert!((2_000..=10_000).contains(&told), "{told}");
    assert!(answer.head.contains(&format!("retry-after: {}\r\n", told.div_ceil(1_000))), "{}", answer.head);
    assert!(first.is_alive());
    first.send(&frame(0x88, &[]));
    assert_eq!(first.closed(), 0);
    drop(first);
    let began = Instant::now();
    let free = std::iter::repeat_with(|| request(&server, &handshake(&bearer(&token()))).status)
        .take_while(|_| began.elapsed() < Duration::from_secs(5))
        .any(|status| status == 101);
    assert!(free, "the place of a closed connection is free again");
}

#[test]
fn sessions_have_a_limit_and_one_more_is_told_before_its_token_is_looked_at() {
    let server = server_with(|config| config.core.max_sessions = 1);
    let mut first = session(&server);
    let answer = request(&server, &handshake(&bearer("a.b.c")));
    assert_eq!((answer.status, answer.code().as_str()), (503, "overloaded"));
    assert!(answer.json()["retryAfterMs"].as_u64().is_some());
    assert!(first.is_alive());
}

#[test]
fn more_sessions_at_once_than_are_admitted_are_told_when_to_come_back_and_nobody_else_notices() {
    let server = server_with(|config| {
        config.admission.sessions_per_second = 1;
        config.admission.burst = 2;
    });
    let (mut first, mut second) = (session(&server), session(&server));
    let told: Vec<u64> = (0..4)
        .map(|_| {
            let answer = request(&server, &handshake(&bearer("a.b.c")));
            assert_eq!(
                (answer.status, answer.code().as_str()),
                (503, "busy"),
                "before the token is looked at"
            );
            let told = answer.json()["retryAfterMs"].as_u64().unwrap();
            assert!(answer.head.contains(&format!("retry-after: {}\r\n", told.div_ceil(1_000))));
            told
        })
        .collect();
    assert!(told.windows(2).all(|two| two[0] != two[1]), "{told:?}");
    assert!(told.iter().all(|ms| (500..=5_100).contains(ms)), "{told:?}");
    assert!(first.is_alive() && second.is_alive());
    let bad = handshake("").replace("Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 8");
    assert_eq!(request(&server, &bad).status, 426, "what is no handshake takes nobody's place");
    assert_ne!(request(&server, "GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n").status, 503);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &server.registry).unwrap();
    assert!(text.contains("herenow_gateway_handshakes_total{result=\"delayed\"} 4"), "{text}");
    let began = Instant::now();
    let later = std::iter::repeat_with(|| request(&server, &handshake(&bearer(&token()))).status)
        .take_while(|_| began.elapsed() < Duration::from_secs(5))
        .any(|status| status == 101);
    assert!(later, "the rate goes on");
}

#[test]
fn handshakes_in_flight_have_a_limit() {
    let server = server_with(|config| config.caps.handshakes = 2);
    let mut held: Vec<_> = (0..2).map(|_| connect(&server)).collect();
    for peer in &mut held {
        peer.send(b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!(peer.answer().status, 404, "and is kept open");
    }
    assert_eq!(request(&server, "GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n").status, 0);
    assert!(metrics(&server).contains("handshakes_total{result=\"shed\"} 1"));
}

#[test]
fn a_user_has_a_limit_of_sessions() {
    let server = server_with(|config| config.core.max_sessions_per_user = 1);
    let mut first = session(&server);
    let mut second = connect(&server);
    second.send(handshake(&bearer(&token())).as_bytes());
    assert_eq!(second.answer().status, 101);
    assert_eq!(second.closed(), 4503);
    assert!(first.is_alive());
}
