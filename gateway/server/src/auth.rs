//! Tokens: who somebody is, and what it may see and do.
//!
//! The algorithm and the keys are configuration. Nothing a token says about its own verification is believed: `alg`
//! must be the configured one, `crit` is refused, `kid`, `jku`, `x5u` and `jwk` are not looked at.

mod claims;
mod config;
mod verify;

#[cfg(test)]
pub(crate) mod tests;

use herenow_gateway_core::Viewer;
use herenow_protocol::WallTime;
use herenow_protocol::code::ErrorCode;

pub use config::{Algorithm, AuthConfig, KeySource};
pub use verify::Verifier;

/// What a good token says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Verified {
    /// Whose token it is, and whom it may see.
    pub viewer: Viewer,
    /// What it may do.
    pub scopes: Scopes,
    /// When it runs out.
    pub expires: WallTime,
}

/// What a token may do beyond its own user.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Scopes {
    /// `presence:write`: set anybody's status. Included in `presence:admin`.
    pub write: bool,
    /// `presence:admin`: explain and erase.
    pub admin: bool,
}

/// Why a token is not accepted. Strangers are told only the code; the reason is for logs and never holds any part
/// of the token.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AuthError {
    /// None was given.
    #[error("no token was given")]
    Missing,
    /// It is not accepted.
    #[error("the token is not accepted: {0}")]
    Invalid(&'static str),
    /// It ran out.
    #[error("the token ran out")]
    Expired,
}

impl AuthError {
    /// The stable code.
    #[must_use]
    pub const fn code(self) -> ErrorCode {
        match self {
            Self::Missing => ErrorCode::MissingToken,
            Self::Invalid(_) => ErrorCode::InvalidToken,
            Self::Expired => ErrorCode::TokenExpired,
        }
    }

    /// What a stranger is told.
    #[must_use]
    pub const fn detail(self) -> &'static str {
        match self {
            Self::Missing => "no token was given",
            Self::Invalid(_) => "the token is not accepted",
            Self::Expired => "the token ran out",
        }
    }
}
