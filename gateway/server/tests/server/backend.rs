use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use herenow_bus::{Bus as _, Message};
use herenow_protocol::subject;
use serde_json::{Value, json};

use crate::support::*;

/// Sends a request as a backend does, again until the gateway has subscribed, and waits for the answer.
async fn ask(server: &Server, subject: &str, body: &str) -> Value {
    let mut answers = server.bus.subscribe("_INBOX.1", None).await.unwrap();
    loop {
        let body = Bytes::copy_from_slice(body.as_bytes());
        server.bus.publish_with_reply(subject, "_INBOX.1", body).unwrap();
        let answer: Result<Option<Message>, _> =
            tokio::time::timeout(Duration::from_millis(500), answers.next()).await;
        if let Ok(answer) = answer {
            return serde_json::from_slice(&answer.unwrap().payload).unwrap();
        }
    }
}

fn quick() -> Server {
    server_with(|config| {
        config.core.pull_timeout = Duration::from_millis(50);
        config.core.request_timeout = Duration::from_millis(100);
    })
}

#[tokio::test]
async fn backends_read_and_write_as_over_http() {
    let server = quick();
    let answer = ask(&server, subject::GET, r#"{"userIds":["ana","bo"]}"#).await;
    assert_eq!(answer["statuses"][1]["userId"], "bo");
    assert_eq!(answer["statuses"][1]["status"], "unknown");
    let answer = ask(&server, subject::SET, r#"{"userId":"ana","status":"dnd"}"#).await;
    assert_eq!((answer["status"].as_u64(), answer["code"].as_str()), (Some(503), Some("unavailable")));
}

#[tokio::test]
async fn bad_requests_of_backends_are_answered_with_a_problem() {
    let server = quick();
    let cases = [
        (subject::GET, "nonsense", "invalid_json"),
        (subject::GET, "[]", "invalid_json"),
        (subject::GET, "{}", "invalid_frame"),
        (subject::GET, r#"{"userIds":[]}"#, "empty_batch"),
        (subject::GET, r#"{"partition":4}"#, "invalid_value"),
        (subject::GET, r#"{"partition":0,"after":"x"}"#, "invalid_value"),
        (subject::SET, r#"{"userId":"ana","status":"away"}"#, "invalid_status"),
    ];
    for (subject, body, code) in cases {
        assert_eq!(ask(&server, subject, body).await["code"], json!(code), "{body}");
    }
}

#[tokio::test]
async fn a_page_of_a_partition_is_asked_of_its_owner() {
    use herenow_protocol::message::Up;
    let server = quick();
    let mut up = server.bus.subscribe("herenow.i1.up.3", None).await.unwrap();
    let list = loop {
        let body = Bytes::from_static(br#"{"partition":3}"#);
        server.bus.publish_with_reply(subject::GET, "_INBOX.2", body).unwrap();
        if let Ok(message) = tokio::time::timeout(Duration::from_millis(500), up.next()).await {
            break herenow_protocol::codec::decode::<Up>(&message.unwrap().payload).unwrap();
        }
    };
    let Up::List(list) = list else { panic!("{list:?}") };
    assert_eq!((list.partition.0, list.reply.as_str(), list.after), (3, "_INBOX.2", None));
}

#[tokio::test]
async fn an_answer_never_goes_where_only_roles_publish() {
    let server = quick();
    assert!(ask(&server, subject::GET, r#"{"userIds":["ana"]}"#).await["statuses"].is_array());
    let mut up = server.bus.subscribe("herenow.v1.changes.*", None).await.unwrap();
    let body = Bytes::from_static(br#"{"userIds":[]}"#);
    server.bus.publish_with_reply(subject::GET, "herenow.v1.changes.1", body).unwrap();
    // The next request of the same subscription is answered after the first would have been.
    assert_eq!(ask(&server, subject::GET, "{}").await["code"], "invalid_frame");
    assert!(futures::poll!(up.next()).is_pending());
}

#[tokio::test]
async fn messages_that_cannot_be_read_are_counted() {
    let server = quick();
    assert!(ask(&server, subject::GET, r#"{"userIds":["ana"]}"#).await["statuses"].is_array());
    for body in [&b""[..], b"\x09x", b"\x01\xff\xff\xff"] {
        for subject in ["herenow.i1.gateway.test-0", subject::COORDINATOR_BEATS] {
            server.bus.publish(subject, Bytes::from_static(body)).unwrap();
        }
    }
    let counted = async {
        while !metrics(&server).contains("decode_errors_total 6") {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), counted).await.unwrap();
}
