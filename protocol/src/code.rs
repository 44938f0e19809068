//! Every code that leaves Herenow: close codes, and the stable codes of errors. `docs/CODES.md` is made from here.

use serde::{Deserialize, Serialize};

/// Why a gateway closes a socket. 4000 to 4499: come back; 4500 to 4999: do not, until something is changed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum CloseCode {
    /// The client said `bye`.
    Normal,
    /// A frame broke RFC 6455.
    Protocol,
    /// A binary frame.
    Unsupported,
    /// Text that is not UTF-8.
    InvalidText,
    /// Too many fragments, or fragments that dragged on.
    Policy,
    /// A frame over 64 KiB.
    TooBig,
    /// The gateway shuts down.
    Shutdown,
    /// Nothing was heard for the heartbeat timeout.
    HeartbeatTimeout,
    /// The client does not read what it is sent.
    SlowConsumer,
    /// The gateway holds as many sessions as it may.
    GatewayFull,
    /// More frames than the gateway accepts from one session.
    RateLimited,
    /// The token ran out: come back with a new one.
    TokenExpired,
    /// No token came in time.
    AuthTimeout,
    /// The token is not accepted.
    Unauthorized,
    /// The token names another user than the session's.
    UserChanged,
    /// The user has as many sessions as it may.
    UserSessions,
}

/// What the client should do about a close.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Duty {
    /// Nothing: it asked for it.
    Done,
    /// Come back, with back-off.
    Reconnect,
    /// Get a new token, then come back.
    RenewToken,
    /// Stay away: coming back unchanged fails the same way.
    Stay,
}

impl CloseCode {
    /// Every close code, for documents and metrics.
    pub const ALL: [Self; 16] = [
        Self::Normal,
        Self::Protocol,
        Self::Unsupported,
        Self::InvalidText,
        Self::Policy,
        Self::TooBig,
        Self::Shutdown,
        Self::HeartbeatTimeout,
        Self::SlowConsumer,
        Self::GatewayFull,
        Self::RateLimited,
        Self::TokenExpired,
        Self::AuthTimeout,
        Self::Unauthorized,
        Self::UserChanged,
        Self::UserSessions,
    ];

    /// The number on the wire.
    #[must_use]
    pub const fn number(self) -> u16 {
        match self {
            Self::Normal => 1000,
            Self::Protocol => 1002,
            Self::Unsupported => 1003,
            Self::InvalidText => 1007,
            Self::Policy => 1008,
            Self::TooBig => 1009,
            Self::Shutdown => 4000,
            Self::HeartbeatTimeout => 4001,
            Self::SlowConsumer => 4002,
            Self::GatewayFull => 4003,
            Self::RateLimited => 4004,
            Self::TokenExpired => 4401,
            Self::AuthTimeout => 4408,
            Self::Unauthorized => 4501,
            Self::UserChanged => 4502,
            Self::UserSessions => 4503,
        }
    }

    /// The reason on the wire: a stable word, also the label of the metric.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Normal => "bye",
            Self::Protocol => "protocol_error",
            Self::Unsupported => "binary_frame",
            Self::InvalidText => "invalid_utf8",
            Self::Policy => "too_many_fragments",
            Self::TooBig => "frame_too_big",
            Self::Shutdown => "shutdown",
            Self::HeartbeatTimeout => "heartbeat_timeout",
            Self::SlowConsumer => "slow_consumer",
            Self::GatewayFull => "gateway_full",
            Self::RateLimited => "rate_limited",
            Self::TokenExpired => "token_expired",
            Self::AuthTimeout => "auth_timeout",
            Self::Unauthorized => "unauthorized",
            Self::UserChanged => "user_changed",
            Self::UserSessions => "user_sessions",
        }
    }

    /// What the client should do.
    #[must_use]
    pub const fn duty(self) -> Duty {
        duty(self.number())
    }
}

/// What a client should do about any close code, also one it has never seen. Without a close frame, reconnect.
#[must_use]
pub const fn duty(number: u16) -> Duty {
    match number {
        1000 => Duty::Done,
        4401 => Duty::RenewToken,
        1002 | 1003 | 1007 | 1008 | 1009 | 4500..=4999 => Duty::Stay,
        _ => Duty::Reconnect,
    }
}

/// A stable code of an `error` frame, a REST problem or a NATS answer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The text is not JSON, or not one object.
    InvalidJson,
    /// A field is missing or has the wrong type.
    InvalidFrame,
    /// The `type` is none that this version knows.
    UnknownFrame,
    /// A second `auth` names another user, or `auth` came where none is expected.
    InvalidAuth,
    /// A user id is empty, too long, or has control characters.
    InvalidUserId,
    /// The status is none that may be set here.
    InvalidStatus,
    /// A text, emoji, expiry or other value is out of its range.
    InvalidValue,
    /// A batch without users.
    EmptyBatch,
    /// A batch over 1,000 users.
    BatchTooLong,
    /// The session watches as many users as it may.
    TooManyWatches,
    /// The session, or the gateway, has as many requests open as it may.
    TooManyRequests,
    /// No token was given.
    MissingToken,
    /// The token is not accepted; the message does not say why to a stranger.
    InvalidToken,
    /// The token ran out.
    TokenExpired,
    /// A token in the query string, where logs would keep it.
    TokenInQuery,
    /// The page that opens the socket is not on the list of origins.
    OriginNotAllowed,
    /// The token does not allow this.
    Forbidden,
    /// No such resource.
    NotFound,
    /// The resource does not know this method.
    MethodNotAllowed,
    /// A request that is not a WebSocket handshake, or a malformed one.
    InvalidHandshake,
    /// A WebSocket version other than 13.
    UnsupportedVersion,
    /// A request body that is not JSON by its content type.
    UnsupportedMediaType,
    /// A request body over 256 KiB.
    BodyTooBig,
    /// A request whose body did not arrive in time.
    RequestTimeout,
    /// The partition's owner, or the database of people, did not answer in time; try again.
    Unavailable,
    /// The gateway holds as many sessions as it may; try again later, or elsewhere.
    Overloaded,
    /// More sessions are opened at once than the gateway admits; each is told when to try again.
    Busy,
}

impl ErrorCode {
    /// Every error code, for documents and metrics.
    pub const ALL: [Self; 27] = [
        Self::InvalidJson,
        Self::InvalidFrame,
        Self::UnknownFrame,
        Self::InvalidAuth,
        Self::InvalidUserId,
        Self::InvalidStatus,
        Self::InvalidValue,
        Self::EmptyBatch,
        Self::BatchTooLong,
        Self::TooManyWatches,
        Self::TooManyRequests,
        Self::MissingToken,
        Self::InvalidToken,
        Self::TokenExpired,
        Self::TokenInQuery,
        Self::OriginNotAllowed,
        Self::Forbidden,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::InvalidHandshake,
        Self::UnsupportedVersion,
        Self::UnsupportedMediaType,
        Self::BodyTooBig,
        Self::RequestTimeout,
        Self::Unavailable,
        Self::Overloaded,
        Self::Busy,
    ];

    /// The code on the wire, also the label of the metric.
    #[must_use]
    pub const fn word(self) -> &'static str {
        self.facts().0
    }

    /// The HTTP status that goes with it.
    #[must_use]
    pub const fn http(self) -> u16 {
        self.facts().1
    }

    /// What the caller can do about it.
    #[must_use]
    pub const fn remediation(self) -> &'static str {
        self.facts().2
    }

    const fn facts(self) -> (&'static str, u16, &'static str) {
        match self {
            Self::InvalidJson => ("invalid_json", 400, "Send one JSON object."),
            Self::InvalidFrame => {
                ("invalid_frame", 400, "Send the fields with the types that docs/PROTOCOL.md lists.")
            }
            Self::UnknownFrame => ("unknown_frame", 400, "Send a frame type that docs/PROTOCOL.md lists."),
            Self::InvalidAuth => {
                ("invalid_auth", 400, "Send `auth` first, or again with a token of the same user.")
            }
            Self::InvalidUserId => {
                ("invalid_user_id", 400, "User ids have 1 to 128 bytes and no control characters.")
            }
            Self::InvalidStatus => ("invalid_status", 400, "Send a status that this call accepts."),
            Self::InvalidValue => {
                ("invalid_value", 400, "Keep the value within the range the message names.")
            }
            Self::EmptyBatch => ("empty_batch", 400, "Name at least one user."),
            Self::BatchTooLong => ("batch_too_long", 400, "Name at most 1,000 users a request."),
            Self::TooManyWatches => ("too_many_watches", 429, "Unwatch users who are no longer on screen."),
            Self::TooManyRequests => ("too_many_requests", 429, "Wait for earlier requests to be answered."),
            Self::MissingToken => ("missing_token", 401, "Send `Authorization: Bearer <token>`."),
            Self::InvalidToken => ("invalid_token", 401, "Get a token signed for this service."),
            Self::TokenExpired => ("token_expired", 401, "Get a new token."),
            Self::TokenInQuery => {
                ("token_in_query", 400, "Never put a token into a URL: send it as a header.")
            }
            Self::OriginNotAllowed => {
                ("origin_not_allowed", 403, "Add the page's origin to gateway.origins.")
            }
            Self::Forbidden => ("forbidden", 403, "Use a token with the scope this call needs."),
            Self::NotFound => ("not_found", 404, "See GET /openapi.json for what exists."),
            Self::MethodNotAllowed => ("method_not_allowed", 405, "See GET /openapi.json for what exists."),
            Self::InvalidHandshake => ("invalid_handshake", 400, "Open the socket with a WebSocket library."),
            Self::UnsupportedVersion => ("unsupported_version", 426, "Speak WebSocket version 13."),
            Self::UnsupportedMediaType => {
                ("unsupported_media_type", 415, "Send `Content-Type: application/json`.")
            }
            Self::BodyTooBig => ("body_too_big", 413, "Send at most 256 KiB."),
            Self::RequestTimeout => ("request_timeout", 408, "Send the whole request within 10 seconds."),
            Self::Unavailable => ("unavailable", 503, "Try again in a second."),
            Self::Overloaded => ("overloaded", 503, "Try again after the time in Retry-After."),
            Self::Busy => ("busy", 503, "Try again after the time in `retryAfterMs`, or elsewhere."),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_range_of_a_close_code_tells_whether_to_come_back() {
        for code in CloseCode::ALL {
            let number = code.number();
            let comes_back = matches!(code.duty(), Duty::Reconnect | Duty::RenewToken);
            if (4000..4500).contains(&number) {
                assert!(comes_back, "{number}");
            }
            if (4500..5000).contains(&number) {
                assert!(!comes_back, "{number}");
            }
        }
        assert_eq!(duty(1006), Duty::Reconnect);
    }

    #[test]
    fn words_are_what_serde_writes() {
        for code in ErrorCode::ALL {
            assert_eq!(serde_json::to_string(&code).unwrap(), format!("\"{}\"", code.word()));
        }
    }
}
