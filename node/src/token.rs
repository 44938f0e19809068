//! Makes tokens: for trying things out, and for backends that do not make their own.

use std::time::Duration;

use herenow_gateway_server::auth::Algorithm;
use jsonwebtoken::{EncodingKey, Header};
use serde::Serialize;

/// Whom a token lets its bearer watch.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(untagged)]
pub enum Watch {
    /// Nobody but its user.
    #[default]
    Nobody,
    /// Everybody.
    #[serde(serialize_with = "star")]
    Everybody,
    /// These.
    Some(Vec<String>),
}

fn star<S: serde::Serializer>(serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str("*")
}

impl Watch {
    fn is_nobody(&self) -> bool {
        *self == Self::Nobody
    }

    /// Reads what was given on the command line: user ids, or `*` for everybody.
    #[must_use]
    pub fn of(users: Vec<String>) -> Self {
        if users.is_empty() {
            Self::Nobody
        } else if users.iter().any(|user| user == "*") {
            Self::Everybody
        } else {
            Self::Some(users)
        }
    }
}

/// What a token says.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Claims {
    /// Whose token it is.
    pub sub: String,
    /// When it was made, in seconds since 1970.
    pub iat: u64,
    /// When it runs out, in seconds since 1970.
    pub exp: u64,
    /// Who made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iss: Option<String>,
    /// For whom.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aud: Option<String>,
    /// What it allows, words between spaces.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub scope: String,
    /// Whom its bearer may watch.
    #[serde(skip_serializing_if = "Watch::is_nobody")]
    pub watch: Watch,
}

/// A key that signs tokens.
pub struct Signer {
    algorithm: jsonwebtoken::Algorithm,
    key: EncodingKey,
    issuer: Option<String>,
    audience: Option<String>,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

impl Signer {
    /// A signer. For HS256 `key` is the shared secret itself, for the others a private key in PEM (PKCS#8).
    ///
    /// # Errors
    /// The key is none for the algorithm.
    pub fn new(
        algorithm: Algorithm,
        key: &[u8],
        issuer: Option<String>,
        audience: Option<String>,
    ) -> anyhow::Result<Self> {
        let (library, read) = match algorithm {
            Algorithm::HS256 => (jsonwebtoken::Algorithm::HS256, Ok(EncodingKey::from_secret(key))),
            Algorithm::ES256 => (jsonwebtoken::Algorithm::ES256, EncodingKey::from_ec_pem(key)),
            Algorithm::EdDSA => (jsonwebtoken::Algorithm::EdDSA, EncodingKey::from_ed_pem(key)),
            Algorithm::RS256 => (jsonwebtoken::Algorithm::RS256, EncodingKey::from_rsa_pem(key)),
        };
        let key =
            read.map_err(|error| anyhow::anyhow!("the key is no private key for {algorithm:?}: {error}"))?;
        Ok(Self { algorithm: library, key, issuer, audience })
    }

    /// Makes a token.
    ///
    /// # Errors
    /// The key cannot sign.
    pub fn sign(&self, user: &str, scope: &str, watch: Watch, ttl: Duration) -> anyhow::Result<String> {
        let now = crate::clock::wall().as_millis() / 1_000;
        let claims = Claims {
            sub: user.to_owned(),
            iat: now,
            exp: now.saturating_add(ttl.as_secs()),
            iss: self.issuer.clone(),
            aud: self.audience.clone(),
            scope: scope.to_owned(),
            watch,
        };
        Ok(jsonwebtoken::encode(&Header::new(self.algorithm), &claims, &self.key)?)
    }
}
