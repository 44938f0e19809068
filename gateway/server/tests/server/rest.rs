use std::time::Duration;

use serde_json::json;

use crate::support::*;

fn quick() -> Server {
    server_with(|config| {
        config.core.pull_timeout = Duration::from_millis(50);
        config.core.request_timeout = Duration::from_millis(100);
        config.timeouts.body = Duration::from_millis(300);
    })
}

#[test]
fn bad_requests_are_refused_with_a_stable_code() {
    let server = quick();
    let (ana, writer) = (token(), token_of(json!({ "scope": "presence:write" })));
    let set = |user: &str, status: &str| json!({ "userId": user, "status": status }).to_string();
    let many = json!({ "userIds": vec!["u"; 1_001] }).to_string();
    let deep = format!("{{\"userIds\":{}", "[".repeat(10_000));
    let cases = [
        ("GET", "/nothing", &ana, "", 404, "not_found"),
        ("GET", "/status/", &ana, "", 404, "not_found"),
        ("PUT", "/status/ana", &ana, "", 405, "method_not_allowed"),
        ("GET", "/statuses", &ana, "", 405, "method_not_allowed"),
        ("GET", "/status/%00", &ana, "", 400, "invalid_user_id"),
        ("GET", "/status/%zz", &ana, "", 400, "invalid_value"),
        ("GET", "/status/%ff", &ana, "", 400, "invalid_user_id"),
        ("GET", &format!("/status/{}", "x".repeat(129)), &ana, "", 400, "invalid_user_id"),
        ("GET", "/status/ana?explain=perhaps", &ana, "", 400, "invalid_value"),
        ("GET", "/status/ana?explain=true", &ana, "", 403, "forbidden"),
        ("GET", "/status/ana?access_token=canary", &ana, "", 400, "token_in_query"),
        ("DELETE", "/status/ana", &writer, "", 403, "forbidden"),
        ("POST", "/status", &ana, &set("bo", "online"), 403, "forbidden"),
        ("POST", "/status", &writer, &set("bo", "away"), 400, "invalid_status"),
        ("POST", "/status", &writer, &set("", "online"), 400, "invalid_user_id"),
        ("POST", "/status", &writer, "", 400, "invalid_json"),
        ("POST", "/status", &writer, "[]", 400, "invalid_json"),
        ("POST", "/status", &writer, "{\"userId\":7}", 400, "invalid_frame"),
        ("POST", "/v1/statuses", &ana, "{\"userIds\":[]}", 400, "empty_batch"),
        ("POST", "/statuses", &ana, &many, 400, "batch_too_long"),
        ("POST", "/statuses", &ana, &deep, 400, "invalid_frame"),
        ("POST", "/statuses", &ana, &"x".repeat(256 * 1024 + 1), 413, "body_too_big"),
        ("GET", "/v1/status/ana", &"a.b.c".to_owned(), "", 401, "invalid_token"),
        ("GET", "/status/ana", &expired(), "", 401, "token_expired"),
    ];
    for (method, path, token, body, status, code) in cases {
        let answer = call(&server, method, path, token, body);
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (status, code),
            "{method} {path} {}",
            answer.head
        );
        assert!(answer.head.contains("application/problem+json"), "{method} {path}");
        assert!(!answer.json()["remediation"].as_str().unwrap().is_empty());
    }
    assert!(metrics(&server).contains("request_errors_total{code=\"forbidden\"} 3"));
}

#[test]
fn a_token_and_a_content_type_are_needed() {
    let server = quick();
    let answer = request(&server, "GET /status/ana HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!((answer.status, answer.code().as_str()), (401, "missing_token"));
    assert!(answer.head.contains("www-authenticate: bearer"));
    for kind in ["", "Content-Type: text/plain\r\n", "Content-Type: application/json; charset=utf-16\r\n"] {
        let head = format!(
            "POST /statuses HTTP/1.1\r\nHost: x\r\n{}{kind}Content-Length: 2\r\n\r\n",
            bearer(&token())
        );
        let answer = request(&server, &(head + "{}"));
        assert_eq!((answer.status, answer.code().as_str()), (415, "unsupported_media_type"), "{kind}");
    }
    let answer = request(&server, "PUT /status HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(answer.head.contains("allow: post"), "{}", answer.head);
}

#[test]
fn a_slow_body_is_given_up() {
    let server = quick();
    let mut peer = connect(&server);
    let head = format!(
        "POST /statuses HTTP/1.1\r\nHost: x\r\n{}Content-Type: application/json\r\nContent-Length: 50\r\n\r\n{{",
        bearer(&token())
    );
    peer.send(head.as_bytes());
    let answer = peer.answer();
    assert_eq!((answer.status, answer.code().as_str()), (408, "request_timeout"));
}

#[test]
fn without_an_owner_reads_are_unknown_and_writes_unavailable() {
    let server = quick();
    let (ana, reader) = (token(), token_of(json!({ "scope": "presence:read" })));
    let answer = call(&server, "GET", "/status/ana", &ana, "");
    assert_eq!(
        (answer.status, &answer.json()["userId"], &answer.json()["status"]),
        (200, &json!("ana"), &json!("unknown"))
    );
    let answer = call(&server, "POST", "/v1/statuses", &reader, r#"{"userIds":["c","a.b","c"]}"#);
    let names: Vec<_> =
        answer.json()["statuses"].as_array().unwrap().iter().map(|s| s["userId"].clone()).collect();
    assert_eq!((answer.status, names), (200, vec![json!("c"), json!("a.b"), json!("c")]));
    let answer = call(&server, "POST", "/status", &ana, r#"{"userId":"ana","status":"online"}"#);
    assert_eq!((answer.status, answer.code().as_str()), (503, "unavailable"));
    assert!(answer.head.contains("retry-after"));
}

#[test]
fn the_documents_describe_every_path_and_code() {
    let server = server();
    let openapi = request(&server, "GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n").json();
    for path in
        ["/status", "/status/{userId}", "/statuses", "/openapi.json", "/asyncapi.json", "/users/{userId}"]
    {
        assert!(openapi["paths"][path].is_object(), "{path}");
    }
    let questions = [
        "statuses",
        "who-was-online",
        "online-per-hour",
        "time-online",
        "transitions-per-minute",
        "sessions-by-device",
    ];
    for path in questions.map(|question| format!("/analytics/{question}")) {
        assert!(openapi["paths"][path.as_str()].is_object(), "{path}");
    }
    let codes = &openapi["components"]["schemas"]["Problem"]["properties"]["code"]["enum"];
    for code in herenow_protocol::code::ErrorCode::ALL {
        assert!(codes.as_array().unwrap().contains(&json!(code.word())), "{}", code.word());
    }
    let asyncapi = request(&server, "GET /asyncapi.json HTTP/1.1\r\nHost: x\r\n\r\n").json();
    assert_eq!(asyncapi["asyncapi"], "3.0.0");
    let text = asyncapi.to_string();
    for word in
        ["auth", "heartbeat", "watch", "unwatch", "query", "status", "bye", "welcome", "snapshot", "presence"]
    {
        assert!(text.contains(&format!("\"const\":\"{word}\"")), "{word}");
    }
    for subject in [herenow_protocol::subject::ACTIVITY, herenow_protocol::subject::ACTIVITY_DEAD] {
        assert!(text.contains(&format!("\"address\":\"{subject}\"")), "{subject}");
    }
    for code in herenow_protocol::code::CloseCode::ALL {
        assert!(text.contains(&format!("{} ", code.number())), "{}", code.number());
    }
}
