//! Why something was not done, and what to do about it.

use std::time::Duration;

use herenow_protocol::code::{self, CloseCode, Duty, ErrorCode};

/// Why something was not done.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{message}; {remediation} ({code})")]
pub struct Failure {
    /// A stable word: of the server, or one of `timeout`, `closed`, `connection_lost`, `connect_timeout`,
    /// `heartbeat_timeout`, `token_unavailable`, `going_away`.
    pub code: Box<str>,
    /// What went wrong.
    pub message: Box<str>,
    /// What to do about it.
    pub remediation: Box<str>,
    /// When trying again makes sense, if the server said so.
    pub retry_after: Option<Duration>,
}

impl Failure {
    /// A failure in words.
    #[must_use]
    pub fn new(code: &str, message: &str, remediation: &str) -> Self {
        Self {
            code: code.into(),
            message: message.into(),
            remediation: remediation.into(),
            retry_after: None,
        }
    }

    pub(crate) fn refused(code: ErrorCode, message: &str) -> Self {
        Self::new(code.word(), message, code.remediation())
    }

    pub(crate) fn timeout() -> Self {
        Self::new(
            "timeout",
            "no answer came in time",
            "Try again; if it persists, check the connection state.",
        )
    }

    pub(crate) fn closed() -> Self {
        Self::new("closed", "the client was closed", "Connect a new client.")
    }

    /// The connection ended, and nobody said why.
    #[must_use]
    pub fn lost() -> Self {
        Self::new("connection_lost", "the connection was lost", "Nothing: the client comes back by itself.")
    }

    pub(crate) fn connect_timeout() -> Self {
        Self::new(
            "connect_timeout",
            "the gateway sent no welcome in time",
            "Check that the URL is that of a Herenow gateway; the client tries again by itself.",
        )
    }

    pub(crate) fn heartbeat_timeout() -> Self {
        let message = "nothing was heard for the heartbeat timeout";
        Self::new("heartbeat_timeout", message, "Nothing: the client comes back by itself.")
    }

    pub(crate) fn going_away(reason: &str) -> Self {
        let message = format!("the gateway asked to come back: {reason}");
        Self::new("going_away", &message, "Nothing: the client comes back by itself.")
    }

    pub(crate) fn from_close(number: u16) -> Self {
        let known = CloseCode::ALL.into_iter().find(|code| code.number() == number);
        let code = known.map_or("unknown_close_code", CloseCode::reason);
        Self::new(
            code,
            &format!("the gateway closed the connection with code {number}"),
            advice(code::duty(number)),
        )
    }

    /// Whether the same request may succeed a little later.
    pub(crate) fn is_passing(&self) -> bool {
        [ErrorCode::Unavailable, ErrorCode::Overloaded, ErrorCode::TooManyRequests]
            .iter()
            .any(|code| code.word() == &*self.code)
    }
}

const fn advice(duty: Duty) -> &'static str {
    match duty {
        Duty::Done => "Nothing: the session ended in order.",
        Duty::Reconnect => "Nothing: the client comes back by itself.",
        Duty::RenewToken => "Let the token provider return a new token.",
        Duty::Stay => "Coming back unchanged fails the same way: see docs/CODES.md.",
    }
}
