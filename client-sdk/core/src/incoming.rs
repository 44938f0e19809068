//! Reading what a gateway sends, more leniently than it is written: a later gateway may say more.

use std::time::Duration;

use herenow_protocol::Presence;
use herenow_protocol::frame::ServerFrame;
use serde_json::Value;

use crate::Failure;

/// A frame from a gateway.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Incoming {
    /// Any frame but an error.
    Frame(ServerFrame),
    /// An error, whose code may be one this version does not know.
    Error {
        /// Of the frame that was not carried out, where it had one.
        id: Option<u64>,
        /// Why.
        failure: Failure,
    },
}

/// Reads a frame. `None`: this version does not understand it, and ignores it.
#[must_use]
pub fn parse(text: &str) -> Option<Incoming> {
    match ServerFrame::parse(text) {
        Ok(ServerFrame::Error { id, code, message, remediation, retry_after_ms }) => {
            let mut failure = Failure::new(code.word(), &message, &remediation);
            failure.retry_after = retry_after_ms.map(Duration::from_millis);
            Some(Incoming::Error { id, failure })
        }
        Ok(frame) => Some(Incoming::Frame(frame)),
        Err(_) => lenient(text),
    }
}

/// Takes of a frame what is understood (SDK-S4, SDK-S6). Off the usual path, so it may be slow.
fn lenient(text: &str) -> Option<Incoming> {
    let mut frame: Value = serde_json::from_str(text).ok()?;
    match frame.get("type")?.as_str()? {
        "error" => Some(lenient_error(&frame)),
        "presence" | "snapshot" => {
            let users = frame.get_mut("users")?.as_array_mut()?;
            users.retain(|user| serde_json::from_value::<Presence>(user.clone()).is_ok());
            serde_json::from_value(frame).ok().map(Incoming::Frame)
        }
        _ => None,
    }
}

fn lenient_error(frame: &Value) -> Incoming {
    let field = |name| frame.get(name).and_then(Value::as_str).unwrap_or_default();
    let mut failure = Failure::new(field("code"), field("message"), field("remediation"));
    failure.retry_after = frame.get("retryAfterMs").and_then(Value::as_u64).map(Duration::from_millis);
    Incoming::Error { id: frame.get("id").and_then(Value::as_u64), failure }
}
