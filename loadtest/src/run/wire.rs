//! The public protocol, as far as a load speaks it: the handshake, and frames. Read and written here by themselves,
//! from docs/PROTOCOL.md: a judge that used the types of the service would share its mistakes.

use std::borrow::Cow;

use fastwebsockets::{Frame, Payload, handshake};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::json;

use super::referee::Told;
use super::truth::May;

/// The longest frame that is read; a page of a snapshot has at most 200 records.
const FRAME_BYTES: usize = 4 * 1024 * 1024;

/// A frame of a gateway (WS-20 to WS-26).
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Heard<'a> {
    #[serde(rename = "type", borrow)]
    pub(super) kind: Cow<'a, str>,
    #[serde(borrow, default)]
    pub(super) users: Vec<Record<'a>>,
    pub(super) complete: Option<bool>,
    pub(super) heartbeat_interval_ms: Option<u64>,
    pub(super) heartbeat_timeout_ms: Option<u64>,
    #[serde(borrow)]
    pub(super) code: Option<Cow<'a, str>>,
    pub(super) after_ms: Option<u64>,
    pub(super) within_ms: Option<u64>,
}

/// A record (COM-4).
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Record<'a> {
    #[serde(borrow)]
    user_id: Cow<'a, str>,
    #[serde(borrow)]
    status: Cow<'a, str>,
    #[serde(borrow)]
    version: Cow<'a, str>,
    as_of: Option<IgnoredAny>,
}

impl Record<'_> {
    /// What it says, where it is as the protocol has it and of a user of this load.
    pub(super) fn told(&self, prefix: &str) -> Option<Told> {
        let shown = match &*self.status {
            "online" => Some(May::ON),
            "idle" => Some(May::IDLE),
            "offline" => Some(May::OFF),
            "unknown" => None,
            // Nobody here claims anything.
            _ => return None,
        };
        if self.version.len() != 28 {
            return None;
        }
        Some(Told {
            user: self.user_id.strip_prefix(prefix)?.parse().ok()?,
            shown,
            epoch: u64::from_str_radix(self.version.get(..16)?, 16).ok()?,
            n: u64::from_str_radix(self.version.get(16..)?, 16).ok()?,
        })
    }

    /// It may be out of date.
    pub(super) const fn is_stale(&self) -> bool {
        self.as_of.is_some()
    }
}

/// What the first bytes that were read are.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// A whole text frame, and how many bytes it took.
    Text(&'a [u8], usize),
    /// The code of a close frame.
    Close(u16),
    /// A ping with its payload; and how many bytes it took.
    Ping(&'a [u8], usize),
    /// A frame that matters not, of so many bytes.
    Other(usize),
    /// Bytes are missing.
    Part,
    /// This is not what a gateway sends.
    Broken,
}

/// Finds the first frame. Gateways neither mask nor fragment.
pub(super) fn first_frame(bytes: &[u8]) -> Piece<'_> {
    let [head, second, rest @ ..] = bytes else { return Piece::Part };
    let (length, extra) = match (second & 0x7f, rest) {
        (126, [a, b, ..]) => (usize::from(u16::from_be_bytes([*a, *b])), 2),
        (127, [0, 0, 0, 0, a, b, c, d, ..]) => (u32::from_be_bytes([*a, *b, *c, *d]) as usize, 8),
        (127, rest) if rest.len() >= 8 => return Piece::Broken,
        (126 | 127, _) => return Piece::Part,
        (short, _) => (usize::from(short), 0),
    };
    if second & 0x80 != 0 || head & 0xf0 != 0x80 || length > FRAME_BYTES {
        return Piece::Broken;
    }
    let end = 2 + extra + length;
    let Some(payload) = bytes.get(2 + extra..end) else { return Piece::Part };
    match (head & 0x0f, payload) {
        (1, _) => Piece::Text(payload, end),
        (8, [high, low, ..]) => Piece::Close(u16::from_be_bytes([*high, *low])),
        // No status code is present.
        (8, _) => Piece::Close(1005),
        (9, _) => Piece::Ping(payload, end),
        (10, _) => Piece::Other(end),
        _ => Piece::Broken,
    }
}

/// A text frame as it goes over the wire, masked as the standard wants it of clients.
pub(super) fn text_frame(text: &str) -> Vec<u8> {
    masked(Frame::text(Payload::Borrowed(text.as_bytes())))
}

/// The answer to a ping.
pub(super) fn pong_frame(payload: &[u8]) -> Vec<u8> {
    masked(Frame::pong(Payload::Borrowed(payload)))
}

fn masked(mut frame: Frame<'_>) -> Vec<u8> {
    frame.mask();
    let mut bytes = Vec::new();
    let length = frame.write(&mut bytes).len();
    bytes.truncate(length);
    bytes
}

/// WS-1 to WS-3.
pub(super) fn request(authority: &str, token: &str, device: u8, idle: bool) -> String {
    let activity = activity(idle);
    let key = handshake::generate_key();
    format!(
        "GET /v1/connect?kind=web&device=d{device}&activity={activity} HTTP/1.1\r\nHost: {authority}\r\n\
         Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Protocol: herenow.v1.json\r\nAuthorization: Bearer {token}\r\n\r\n"
    )
}

/// WS-9.
pub(super) const fn heartbeat(idle: bool) -> &'static str {
    if idle {
        r#"{"type":"heartbeat","activity":"idle"}"#
    } else {
        r#"{"type":"heartbeat","activity":"active"}"#
    }
}

/// WS-14.
pub(super) const BYE: &str = r#"{"type":"bye"}"#;

/// WS-10.
pub(super) fn watch(id: u64, users: &[String]) -> String {
    json!({"type": "watch", "id": id, "users": users}).to_string()
}

/// WS-11.
pub(super) fn unwatch(id: u64, user: &str) -> String {
    json!({"type": "unwatch", "id": id, "users": [user]}).to_string()
}

/// WS-17.
pub(super) fn auth(token: &str) -> String {
    json!({"type": "auth", "token": token}).to_string()
}

const fn activity(idle: bool) -> &'static str {
    if idle { "idle" } else { "active" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_found_whole_and_no_byte_earlier() {
        for length in [0, 5, 125, 126, 65_535, 65_536] {
            let mut bytes = Vec::new();
            let payload = vec![b'x'; length];
            let mut frame = Frame::text(Payload::Borrowed(&payload));
            let size = frame.write(&mut bytes).len();
            bytes.truncate(size);
            assert_eq!(first_frame(&bytes), Piece::Text(&payload, size));
            bytes.push(0x81);
            assert_eq!(first_frame(&bytes), Piece::Text(&payload, size));
            for part in [1, 2, 3, size / 2, size - 1] {
                if part < size {
                    assert_eq!(first_frame(&bytes[..part]), Piece::Part, "{part} of {length}");
                }
            }
        }
    }

    #[test]
    fn what_a_gateway_does_not_send_is_broken() {
        let masked = text_frame("{}");
        assert_eq!(first_frame(&masked), Piece::Broken);
        assert_eq!(masked.len(), 2 + 4 + 2);
        assert_eq!(first_frame(&[0xc1, 0]), Piece::Broken, "a reserved bit");
        assert_eq!(first_frame(&[0x01, 0]), Piece::Broken, "a fragment");
        assert_eq!(first_frame(&[0x82, 0]), Piece::Broken, "binary");
        assert_eq!(first_frame(&[0x81, 127, 0, 0, 0, 1, 0, 0, 0, 0]), Piece::Broken);
        assert_eq!(first_frame(&[0x88, 2, 0x0f, 0xa1]), Piece::Close(4001));
        assert_eq!(first_frame(&[0x89, 1, 7]), Piece::Ping(&[7], 3));
    }

    #[test]
    fn records_are_read() {
        let text = r#"{"type":"presence","users":[{"userId":"a-17","status":"online","lastUpdated":null,
            "version":"00000001a3f09b7c00000000002a","asOf":"2026-01-31T08:15:30.123Z"}]}"#;
        let heard: Heard<'_> = serde_json::from_str(text).unwrap();
        let told = heard.users[0].told("a-").unwrap();
        assert_eq!((told.user, told.shown, told.n), (17, Some(May::ON), 42));
        assert_eq!(told.epoch, 0x1_a3f0_9b7c);
        assert!(heard.users[0].is_stale());
        assert!(heard.users[0].told("b-").is_none());
    }
}
