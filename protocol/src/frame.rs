//! Frames between clients and gateways: one JSON object each, `type` first. Clauses: `docs/PROTOCOL.md` §2.
//!
//! Unknown fields are ignored by both sides. An unknown type is an error that leaves the socket open.

use serde::{Deserialize, Serialize};

use crate::code::ErrorCode;
use crate::{Activity, DeviceKind, Presence, UserId, WallTime, limit};

/// The subprotocol that carries these frames.
pub const SUBPROTOCOL: &str = "herenow.v1.json";
/// What a browser puts before its token in a second subprotocol entry.
pub const BEARER_PREFIX: &str = "bearer.";

/// A frame from a client.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", rename_all_fields = "camelCase")]
pub enum ClientFrame {
    /// The token: as the first frame, or a newer one on the open socket.
    Auth {
        /// The token.
        token: String,
        /// The device, when the handshake did not name it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        device: Option<String>,
        /// Its kind, when the handshake did not name it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        kind: Option<DeviceKind>,
        /// What its person does, when the handshake did not say.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        activity: Option<Activity>,
        /// Asks for an `ack`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<u64>,
    },
    /// A sign of life.
    Heartbeat {
        /// What the person does; not given: as before.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        activity: Option<Activity>,
        /// Asks for an `ack`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<u64>,
    },
    /// Adds users to the watch list.
    Watch {
        /// Comes back in the snapshot.
        id: u64,
        /// The users to add.
        users: Vec<String>,
    },
    /// Takes users off the watch list.
    Unwatch {
        /// Comes back in the `ack`.
        id: u64,
        /// The users to take off.
        users: Vec<String>,
    },
    /// Asks for users once.
    Query {
        /// Comes back in the snapshot.
        id: u64,
        /// The users asked for.
        users: Vec<String>,
    },
    /// Sets, or with `auto` ends, the manual claim of the session's user.
    Status {
        /// Comes back in the `ack`.
        id: u64,
        /// What to show.
        status: ManualStatus,
        /// What to say beside it, at most 256 bytes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        text: Option<String>,
        /// An emoji beside it, at most 64 bytes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        emoji: Option<String>,
        /// When the claim ends by itself.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expires_at: Option<WallTime>,
    },
    /// The session ends now, without grace.
    Bye {},
}

/// What a user may claim by hand.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ManualStatus {
    /// Nothing: sessions decide.
    Auto,
    /// Online while any session lives, even an idle one.
    Online,
    /// Idle while any session lives.
    Idle,
    /// Not to be disturbed while any session lives.
    Dnd,
    /// Offline to others, whatever the sessions say.
    Invisible,
}

/// Why a text is no frame. `id` is given where the text had one, so that the client can match the error.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{message}")]
pub struct FrameError {
    /// The stable code.
    pub code: ErrorCode,
    /// What is wrong, naming the field.
    pub message: String,
    /// The frame's id.
    pub id: Option<u64>,
}

#[derive(Deserialize)]
struct Head<'a> {
    #[serde(rename = "type", borrow)]
    kind: std::borrow::Cow<'a, str>,
}

#[derive(Deserialize)]
struct HeadId {
    id: Option<u64>,
}

const CLIENT_TYPES: [&str; 7] = ["auth", "heartbeat", "watch", "unwatch", "query", "status", "bye"];

impl ClientFrame {
    /// Reads a frame.
    ///
    /// # Errors
    /// `invalid_json`, `unknown_frame`, `invalid_status` or `invalid_frame`, with the field at fault.
    pub fn parse(text: &str) -> Result<Self, FrameError> {
        serde_json::from_str(text).map_err(|error| explain(text, &error))
    }
}

/// Finds out why, on the way of the error only.
fn explain(text: &str, error: &serde_json::Error) -> FrameError {
    let id = serde_json::from_str::<HeadId>(text).ok().and_then(|head| head.id);
    let fail = |code, message: String| FrameError { code, message, id };
    if !matches!(serde_json::from_str(text), Ok(serde_json::Value::Object(_))) {
        return fail(ErrorCode::InvalidJson, "the frame is not one JSON object".to_owned());
    }
    let Ok(head) = serde_json::from_str::<Head<'_>>(text) else {
        return fail(ErrorCode::InvalidFrame, "the field `type` is missing or is no string".to_owned());
    };
    if !CLIENT_TYPES.contains(&head.kind.as_ref()) {
        return fail(ErrorCode::UnknownFrame, "the frame type is not known".to_owned());
    }
    let cause = plain_cause(error);
    if head.kind == "status" && cause.starts_with("unknown variant") {
        return fail(
            ErrorCode::InvalidStatus,
            "the field `status` is none of auto, online, idle, dnd, invisible".to_owned(),
        );
    }
    fail(ErrorCode::InvalidFrame, format!("the `{}` frame is wrong: {cause}", head.kind))
}

/// The cause without its position, and without echoing more than a little of what was sent.
fn plain_cause(error: &serde_json::Error) -> String {
    let full = error.to_string();
    let cause = full.split(" at line ").next().unwrap_or_default();
    cause.chars().filter(|c| !c.is_control()).take(160).collect()
}

/// Checks the users of a request.
///
/// # Errors
/// `empty_batch`, `batch_too_long`, or `invalid_user_id` naming the index.
pub fn check_users(users: &[String]) -> Result<Vec<UserId>, (ErrorCode, String)> {
    if users.is_empty() {
        return Err((ErrorCode::EmptyBatch, "the list of users is empty".to_owned()));
    }
    if users.len() > limit::USERS_PER_REQUEST {
        let message = format!("{} users were named, {} are allowed", users.len(), limit::USERS_PER_REQUEST);
        return Err((ErrorCode::BatchTooLong, message));
    }
    users
        .iter()
        .enumerate()
        .map(|(index, user)| {
            UserId::new(user)
                .map_err(|error| (ErrorCode::InvalidUserId, format!("user at index {index}: {error}")))
        })
        .collect()
}

/// A frame from a gateway.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", rename_all_fields = "camelCase")]
pub enum ServerFrame {
    /// The session is open.
    Welcome(Welcome),
    /// Full values of users asked for or newly watched.
    Snapshot {
        /// Of the `watch` or `query` frame.
        id: u64,
        /// The values.
        users: Vec<Presence>,
        /// False when more pages follow.
        complete: bool,
    },
    /// Changes of watched users; per user the latest value wins.
    Presence {
        /// The changed values.
        users: Vec<Presence>,
    },
    /// The frame with this id was carried out.
    Ack {
        /// Of the frame.
        id: u64,
    },
    /// A frame was not carried out; the socket stays open.
    Error {
        /// Of the frame, where it had one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<u64>,
        /// The stable code.
        code: ErrorCode,
        /// What went wrong.
        message: String,
        /// What to do.
        remediation: String,
        /// When trying again makes sense.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_after_ms: Option<u64>,
    },
    /// The token runs out soon: send `auth` with a newer one.
    TokenExpiring {
        /// When it runs out.
        expires_at: WallTime,
    },
    /// The gateway goes away: come back, spread over the window.
    Reconnect {
        /// Not before.
        after_ms: u64,
        /// At a random moment within.
        within_ms: u64,
        /// Why.
        reason: String,
    },
}

/// What a client is told when its session opens.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Welcome {
    /// The session, for support and for `explain`.
    pub session: String,
    /// Whose session it is, as the token says.
    pub user_id: UserId,
    /// Send a heartbeat this often.
    pub heartbeat_interval_ms: u64,
    /// Silent for this long, the session is over.
    pub heartbeat_timeout_ms: u64,
    /// A session that never says what its person does becomes idle after this.
    pub idle_after_ms: u64,
    /// Cut off for this long, a client must show `unknown`.
    pub fresh_for_ms: u64,
    /// The gateway's wall clock.
    pub server_time: WallTime,
}

impl ServerFrame {
    /// An `error` frame with the remediation of its code.
    #[must_use]
    pub fn error(id: Option<u64>, code: ErrorCode, message: String) -> Self {
        Self::Error { id, code, message, remediation: code.remediation().to_owned(), retry_after_ms: None }
    }

    /// Reads a frame, as clients do.
    ///
    /// # Errors
    /// Not a frame this version knows; clients ignore it.
    pub fn parse(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }
}

/// Writes a frame of either direction as JSON text.
///
/// # Panics
/// Never: the types have only string keys and finite numbers.
#[must_use]
pub fn encode<T: Serialize>(frame: &T) -> String {
    serde_json::to_string(frame).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> ErrorCode {
        ClientFrame::parse(text).unwrap_err().code
    }

    #[test]
    fn frames_are_read_with_or_without_their_optional_fields() {
        assert_eq!(
            ClientFrame::parse(r#"{"type":"heartbeat"}"#),
            Ok(ClientFrame::Heartbeat { activity: None, id: None })
        );
        let full = r#"{"type":"heartbeat","activity":"idle","id":7,"future":[1]}"#;
        assert_eq!(
            ClientFrame::parse(full),
            Ok(ClientFrame::Heartbeat { activity: Some(Activity::Idle), id: Some(7) })
        );
        assert_eq!(ClientFrame::parse(r#"{"type":"bye"}"#), Ok(ClientFrame::Bye {}));
    }

    /// A field more in every object, as a later version may have.
    fn with_more(value: serde_json::Value) -> serde_json::Value {
        use serde_json::Value;
        match value {
            Value::Object(fields) => {
                let fields = fields.into_iter().map(|(name, value)| (name, with_more(value)));
                Value::Object(fields.chain([("later".to_owned(), serde_json::json!({"a": [1]}))]).collect())
            }
            Value::Array(all) => Value::Array(all.into_iter().map(with_more).collect()),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value,
        }
    }

    #[test]
    fn whatever_a_later_client_adds_to_a_frame_is_ignored() {
        let frames = [
            r#"{"type":"auth","token":"t","device":"d","kind":"web","activity":"idle","id":1}"#,
            r#"{"type":"heartbeat","activity":"idle","id":7}"#,
            r#"{"type":"watch","id":1,"users":["ana"]}"#,
            r#"{"type":"unwatch","id":2,"users":["ana"]}"#,
            r#"{"type":"query","id":3,"users":["ana"]}"#,
            r#"{"type":"status","id":4,"status":"dnd","text":"t","emoji":"e"}"#,
            r#"{"type":"bye"}"#,
        ];
        assert_eq!(frames.len(), CLIENT_TYPES.len());
        for frame in frames {
            let later = with_more(serde_json::from_str(frame).unwrap()).to_string();
            assert_eq!(ClientFrame::parse(&later), Ok(ClientFrame::parse(frame).unwrap()), "{later}");
        }
    }

    #[test]
    fn whatever_a_later_gateway_adds_to_a_frame_is_ignored() {
        let record = r#"{"userId":"ana","status":"online","lastUpdated":null,"version":"00000001a3f09b7c000000000001"}"#;
        let frames = [
            r#"{"type":"welcome","session":"s","userId":"ana","heartbeatIntervalMs":1,"heartbeatTimeoutMs":2,"idleAfterMs":3,"freshForMs":4,"serverTime":"2026-01-31T08:15:30.123Z"}"#,
            &format!(r#"{{"type":"snapshot","id":1,"users":[{record}],"complete":true}}"#),
            &format!(r#"{{"type":"presence","users":[{record}]}}"#),
            r#"{"type":"ack","id":1}"#,
            r#"{"type":"error","id":1,"code":"invalid_frame","message":"m","remediation":"r","retryAfterMs":5}"#,
            r#"{"type":"token_expiring","expiresAt":"2026-01-31T08:15:30.123Z"}"#,
            r#"{"type":"reconnect","afterMs":1,"withinMs":2,"reason":"drain"}"#,
        ];
        for frame in frames {
            let later = with_more(serde_json::from_str(frame).unwrap()).to_string();
            assert_eq!(ServerFrame::parse(&later).unwrap(), ServerFrame::parse(frame).unwrap(), "{later}");
        }
    }

    #[test]
    fn each_kind_of_bad_frame_has_its_code() {
        for text in ["", "nonsense", "[]", "null", "1", r#"{"type":"bye"} x"#, "{\"type\":", "\u{feff}{}"] {
            assert_eq!(code(text), ErrorCode::InvalidJson, "{text}");
        }
        assert_eq!(code("{}"), ErrorCode::InvalidFrame);
        assert_eq!(code(r#"{"type":1}"#), ErrorCode::InvalidFrame);
        assert_eq!(code(r#"{"type":"teleport"}"#), ErrorCode::UnknownFrame);
        assert_eq!(code(r#"{"type":"watch","id":1,"users":"ana"}"#), ErrorCode::InvalidFrame);
        assert_eq!(code(r#"{"type":"watch","users":[]}"#), ErrorCode::InvalidFrame);
        assert_eq!(code(r#"{"type":"heartbeat","id":-1}"#), ErrorCode::InvalidFrame);
        assert_eq!(code(r#"{"type":"status","id":1,"status":"away"}"#), ErrorCode::InvalidStatus);
    }

    #[test]
    fn an_error_names_the_field_and_keeps_the_id() {
        let error = ClientFrame::parse(r#"{"type":"watch","id":9,"users":[1]}"#).unwrap_err();
        assert_eq!(error.id, Some(9));
        assert!(error.message.contains("watch"), "{}", error.message);
    }

    #[test]
    fn deep_nesting_is_an_error_and_not_a_crash() {
        assert_eq!(code(&"[".repeat(10_000)), ErrorCode::InvalidJson);
        let nested = format!(r#"{{"type":"heartbeat","x":{}1{}}}"#, "[".repeat(5_000), "]".repeat(5_000));
        assert_eq!(code(&nested), ErrorCode::InvalidJson);
    }

    #[test]
    fn user_lists_are_bounded() {
        let users = |n: usize| vec!["u".to_owned(); n];
        assert_eq!(check_users(&users(0)).unwrap_err().0, ErrorCode::EmptyBatch);
        assert_eq!(check_users(&users(1_000)).unwrap().len(), 1_000);
        assert_eq!(check_users(&users(1_001)).unwrap_err().0, ErrorCode::BatchTooLong);
        let (code, message) = check_users(&["a".to_owned(), String::new()]).unwrap_err();
        assert_eq!(code, ErrorCode::InvalidUserId);
        assert!(message.contains("index 1"));
    }
}
