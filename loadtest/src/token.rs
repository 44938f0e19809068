//! Tokens for the load's users.

use std::fmt;

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::json;

/// Longer than any measurement, shorter than what gateways accept.
const LIFETIME_SECONDS: u64 = 3_600;

/// Signs tokens with a shared secret.
#[derive(Clone)]
pub(crate) struct Issuer {
    key: EncodingKey,
    issuer: Option<String>,
    audience: Option<String>,
}

impl fmt::Debug for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issuer").finish_non_exhaustive()
    }
}

impl Issuer {
    pub(crate) fn new(secret: &[u8], issuer: Option<String>, audience: Option<String>) -> Self {
        Self { key: EncodingKey::from_secret(secret), issuer, audience }
    }

    /// A token that lets `user` watch everybody.
    pub(crate) fn token(&self, user: &str) -> anyhow::Result<String> {
        let now = crate::clock::unix_seconds();
        let mut claims = json!({"sub": user, "iat": now, "exp": now + LIFETIME_SECONDS, "watch": "*"});
        if let Some(issuer) = &self.issuer {
            claims["iss"] = json!(issuer);
        }
        if let Some(audience) = &self.audience {
            claims["aud"] = json!(audience);
        }
        Ok(jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.key)?)
    }
}
