use std::time::Duration;

use serde_json::json;

use crate::support::*;

#[test]
fn what_breaks_the_protocol_is_closed_with_its_code_and_harms_nobody() {
    let server = server();
    let mut neighbour = session_of(&server, &token_of(json!({ "sub": "bo" })));
    let fragments: Vec<u8> =
        [frame(0x01, b"a")].into_iter().chain((0..16).map(|_| frame(0x00, b"a"))).flatten().collect();
    let head_of = |length: u64| [&[0x81, 0xff][..], &length.to_be_bytes(), &[1, 2, 3, 4]].concat();
    let cases = [
        ("binary", frame(0x82, b"x"), 1003),
        ("over 64 KiB", frame(0x81, &vec![b'x'; 65_537]), 1009),
        ("a claim of 64 MiB", head_of(64 << 20), 1009),
        ("a claim of 2^63", head_of(1 << 63), 1009),
        ("bad UTF-8", frame(0x81, &[0xff]), 1007),
        ("unmasked", vec![0x81, 2, b'h', b'i'], 1002),
        ("reserved bit", frame(0xc1, b"x"), 1002),
        ("continuation first", frame(0x80, b"x"), 1002),
        ("17 fragments", fragments, 1008),
        ("bye", text(r#"{"type":"bye"}"#), 1000),
    ];
    for (what, bytes, code) in cases {
        let mut peer = session(&server);
        peer.send(&bytes);
        assert_eq!(peer.closed(), code, "{what}");
    }
    assert!(neighbour.is_alive());
    let text = metrics(&server);
    assert!(text.contains("closes_total{code=\"frame_too_big\"} 3"), "{text}");
    assert!(text.contains("closes_total{code=\"binary_frame\"} 1"));
}

#[test]
fn bad_frames_get_an_error_and_the_socket_stays_open() {
    let server = server();
    let mut peer = session(&server);
    let cases = [
        ("nonsense", "invalid_json"),
        ("[]", "invalid_json"),
        ("{}", "invalid_frame"),
        (r#"{"type":"teleport"}"#, "unknown_frame"),
        (r#"{"type":"watch","id":1,"users":"ana"}"#, "invalid_frame"),
        (r#"{"type":"watch","id":1,"users":[]}"#, "empty_batch"),
        (r#"{"type":"watch","id":1,"users":[""]}"#, "invalid_user_id"),
        (r#"{"type":"status","id":1,"status":"away"}"#, "invalid_status"),
    ];
    for (payload, code) in cases {
        peer.send(&text(payload));
        let error = peer.frame();
        assert_eq!(
            (error["type"].as_str(), error["code"].as_str()),
            (Some("error"), Some(code)),
            "{payload}"
        );
        assert!(!error["remediation"].as_str().unwrap().is_empty());
    }
    assert!(peer.is_alive());
    assert!(metrics(&server).contains("frame_errors_total{code=\"invalid_json\"} 2"));
}

#[test]
fn a_heartbeat_with_an_id_is_acknowledged_in_whatever_pieces_it_comes() {
    let server = server();
    let mut peer = session(&server);
    let beat = |id: u64| text(&json!({ "type": "heartbeat", "activity": "idle", "id": id }).to_string());
    for byte in beat(1) {
        peer.send(&[byte]);
    }
    assert_eq!(peer.frame(), json!({ "type": "ack", "id": 1 }));
    peer.send(&[beat(2), beat(3)].concat());
    assert_eq!((peer.frame()["id"].as_u64(), peer.frame()["id"].as_u64()), (Some(2), Some(3)));
    let payload = json!({ "type": "heartbeat", "id": 4 }).to_string();
    let (one, two) = payload.as_bytes().split_at(7);
    peer.send(&[frame(0x01, one), frame(0x89, b"between"), frame(0x80, two)].concat());
    let mut got = [peer.got(), peer.got()];
    got.sort_by_key(|one| matches!(one, Got::Text(_)));
    assert_eq!(got[0], Got::Pong(b"between".to_vec()));
    assert_eq!(got[1], Got::Text(r#"{"type":"ack","id":4}"#.to_owned()));
}

#[test]
fn a_frame_must_be_finished_in_time() {
    let server = server_with(|config| config.timeouts.frame = Duration::from_millis(200));
    let mut half = session(&server);
    half.send(&text(r#"{"type":"heartbeat"}"#)[..9]);
    assert_eq!(half.closed(), 1008);
    let mut fragment = session(&server);
    fragment.send(&frame(0x01, b"{"));
    assert_eq!(fragment.closed(), 1008);
}

#[test]
fn pings_are_answered_but_not_without_limit() {
    let server = server();
    let mut peer = session(&server);
    peer.send(&frame(0x89, b"hello"));
    assert_eq!(peer.got(), Got::Pong(b"hello".to_vec()));
    peer.send(&frame(0x8a, b"unasked"));
    assert!(peer.is_alive());
    for _ in 0..20 {
        peer.send(&frame(0x89, b"").repeat(100));
    }
    assert_eq!(peer.closed(), 4004);
}

#[test]
fn a_close_frame_is_answered_and_what_follows_is_ignored() {
    let server = server();
    let mut peer = session(&server);
    peer.send(&[frame(0x88, &1000_u16.to_be_bytes()), text("nonsense")].concat());
    assert_eq!(peer.closed(), 1000);
    assert!(metrics(&server).contains("closes_total{code=\"client\"} 1"));
}

#[test]
fn silence_ends_a_session() {
    let server = server_with(|config| {
        config.core.heartbeat_interval = Duration::from_millis(200);
        config.core.heartbeat_timeout = Duration::from_millis(400);
    });
    let mut silent = session(&server);
    assert_eq!(silent.closed(), 4001);
}

#[test]
fn what_only_an_owner_knows_is_unknown_without_one() {
    let server = server_with(|config| {
        config.core.pull_timeout = Duration::from_millis(50);
        config.core.request_timeout = Duration::from_millis(100);
    });
    let mut peer = session_of(&server, &token_of(json!({ "scope": "presence:read" })));
    peer.send(&text(r#"{"type":"watch","id":9,"users":["bo","*.> 😀"]}"#));
    let snapshot = peer.frame();
    assert_eq!((snapshot["type"].as_str(), snapshot["id"].as_u64()), (Some("snapshot"), Some(9)));
    assert_eq!(snapshot["users"].as_array().unwrap().len(), 2);
    assert_eq!(snapshot["users"][0]["status"], "unknown");
}

#[test]
fn a_newer_token_is_taken_on_the_open_socket() {
    let server = server();
    let mut peer = session(&server);
    let auth = |token: String| text(&json!({ "type": "auth", "token": token, "id": 1 }).to_string());
    peer.send(&auth(token()));
    assert_eq!(peer.frame(), json!({ "type": "ack", "id": 1 }));
    peer.send(&auth("a.b.c".to_owned()));
    assert_eq!(peer.frame()["code"], "invalid_token");
    peer.send(&auth(token_of(json!({ "sub": "eve" }))));
    assert_eq!(peer.closed(), 4502);
}
