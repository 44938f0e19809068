//! Tokens for the load's users.

use std::fmt;

use anyhow::bail;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::json;

/// Longer than any measurement, shorter than what gateways accept.
const LIFETIME_SECONDS: u64 = 3_600;

/// Signs tokens with a shared secret.
#[derive(Clone)]
pub(crate) struct Issuer {
    algorithm: Algorithm,
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
        Self { algorithm: Algorithm::HS256, key: EncodingKey::from_secret(secret), issuer, audience }
    }

    /// Signs with a private key in PEM: ES256, EdDSA or RS256.
    ///
    /// # Errors
    /// The algorithm is none of them, or the key is none of it.
    pub(crate) fn with_key(
        algorithm: &str,
        pem: &[u8],
        issuer: Option<String>,
        audience: Option<String>,
    ) -> anyhow::Result<Self> {
        let (algorithm, key) = match algorithm {
            "ES256" => (Algorithm::ES256, EncodingKey::from_ec_pem(pem)?),
            "EdDSA" => (Algorithm::EdDSA, EncodingKey::from_ed_pem(pem)?),
            "RS256" => (Algorithm::RS256, EncodingKey::from_rsa_pem(pem)?),
            other => bail!("{other} is none of ES256, EdDSA, RS256"),
        };
        Ok(Self { algorithm, key, issuer, audience })
    }

    /// A token that lets `user` watch everybody.
    pub(crate) fn token(&self, user: &str) -> anyhow::Result<String> {
        self.token_at(user, crate::clock::unix_seconds())
    }

    /// The same as of another time, in seconds since 1970.
    pub(crate) fn token_at(&self, user: &str, now: u64) -> anyhow::Result<String> {
        self.sign(json!({"sub": user, "iat": now, "exp": now + LIFETIME_SECONDS, "watch": "*"}))
    }

    /// A token of a backend, with these scopes.
    pub(crate) fn backend(&self, scope: &str) -> anyhow::Result<String> {
        let now = crate::clock::unix_seconds();
        self.sign(json!({"sub": "backend", "iat": now, "exp": now + LIFETIME_SECONDS, "scope": scope}))
    }

    fn sign(&self, mut claims: serde_json::Value) -> anyhow::Result<String> {
        if let Some(issuer) = &self.issuer {
            claims["iss"] = json!(issuer);
        }
        if let Some(audience) = &self.audience {
            claims["aud"] = json!(audience);
        }
        Ok(jsonwebtoken::encode(&Header::new(self.algorithm), &claims, &self.key)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_signed_with_a_private_key_too() {
        let key = rcgen::KeyPair::generate().unwrap();
        let issuer = Issuer::with_key("ES256", key.serialize_pem().as_bytes(), None, None).unwrap();
        let token = issuer.token("ana").unwrap();
        assert_eq!(jsonwebtoken::decode_header(&token).unwrap().alg, Algorithm::ES256);
        for (algorithm, key) in
            [("HS256", key.serialize_pem()), ("none", key.serialize_pem()), ("ES256", String::new())]
        {
            assert!(Issuer::with_key(algorithm, key.as_bytes(), None, None).is_err(), "{algorithm}");
        }
    }
}
