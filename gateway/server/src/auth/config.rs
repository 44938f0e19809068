//! How tokens are verified, as an operator says it.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use herenow_protocol::duration;
use serde::{Deserialize, Serialize, Serializer};

/// The one algorithm that tokens are signed with.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Algorithm {
    /// HMAC with SHA-256: whoever can verify can also sign.
    HS256,
    /// ECDSA on P-256.
    ES256,
    /// Ed25519.
    EdDSA,
    /// RSA PKCS#1 v1.5 with SHA-256, for issuers that know nothing else.
    RS256,
}

/// Where a key comes from.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeySource {
    /// The secret itself, for HS256; at least 32 bytes.
    Secret(String),
    /// A file with the secret, for HS256; white space at its end does not count.
    SecretFile(PathBuf),
    /// A PEM file with the public key, for the other algorithms.
    PublicKeyFile(PathBuf),
}

/// Secrets are never shown.
impl fmt::Debug for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Secret(_) => f.write_str("Secret(hidden)"),
            Self::SecretFile(path) => f.debug_tuple("SecretFile").field(path).finish(),
            Self::PublicKeyFile(path) => f.debug_tuple("PublicKeyFile").field(path).finish(),
        }
    }
}

/// Secrets are never written back.
impl Serialize for KeySource {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (index, key, value) = match self {
            Self::Secret(_) => (0, "secret", "<hidden>".into()),
            Self::SecretFile(path) => (1, "secret_file", path.to_string_lossy()),
            Self::PublicKeyFile(path) => (2, "public_key_file", path.to_string_lossy()),
        };
        serializer.serialize_newtype_variant("KeySource", index, key, &value)
    }
}

/// How tokens are verified.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthConfig {
    /// The algorithm, whatever a token says.
    pub algorithm: Algorithm,
    /// The keys. Several while one replaces another: a token is good under any of them. At most 8.
    pub keys: Vec<KeySource>,
    /// What `iss` must be.
    pub issuer: String,
    /// What `aud` must be, or hold.
    pub audience: String,
    /// How far the clocks of issuer and gateway may differ. Default 5 s, which is also the most.
    #[serde(default = "default_leeway", with = "duration")]
    pub leeway: Duration,
    /// The longest a token may be good for. Default 24 h.
    #[serde(default = "default_lifetime", with = "duration")]
    pub max_lifetime: Duration,
}

/// Fewest bytes of a secret: as many as SHA-256 has. Source: RFC 7518 §3.2.
pub(super) const SECRET_BYTES: usize = 32;
const MAX_KEYS: usize = 8;
const MAX_LEEWAY: Duration = Duration::from_secs(5);

const fn default_leeway() -> Duration {
    MAX_LEEWAY
}

const fn default_lifetime() -> Duration {
    Duration::from_secs(24 * 3600)
}

impl AuthConfig {
    /// One key under one algorithm, with the default times.
    #[must_use]
    pub fn new(algorithm: Algorithm, key: KeySource, issuer: &str, audience: &str) -> Self {
        Self {
            algorithm,
            keys: vec![key],
            issuer: issuer.to_owned(),
            audience: audience.to_owned(),
            leeway: default_leeway(),
            max_lifetime: default_lifetime(),
        }
    }

    /// Checks ranges and relations. Reads no file.
    ///
    /// # Errors
    /// The key at fault and what it must be.
    pub fn check(&self) -> Result<(), String> {
        if self.keys.is_empty() || self.keys.len() > MAX_KEYS {
            return Err(format!("keys: must be 1 to {MAX_KEYS}"));
        }
        self.keys.iter().try_for_each(|key| self.check_key(key))?;
        if self.issuer.is_empty() {
            return Err("issuer: must not be empty".to_owned());
        }
        if self.audience.is_empty() {
            return Err("audience: must not be empty".to_owned());
        }
        if self.leeway > MAX_LEEWAY {
            return Err("leeway: must be at most 5s".to_owned());
        }
        if self.max_lifetime.is_zero() {
            return Err("max_lifetime: must be more than zero".to_owned());
        }
        Ok(())
    }

    fn check_key(&self, key: &KeySource) -> Result<(), String> {
        match (self.algorithm, key) {
            (Algorithm::HS256, KeySource::Secret(secret)) if secret.len() < SECRET_BYTES => {
                Err(format!("keys: a secret must have at least {SECRET_BYTES} bytes"))
            }
            (Algorithm::HS256, KeySource::Secret(_) | KeySource::SecretFile(_))
            | (Algorithm::ES256 | Algorithm::EdDSA | Algorithm::RS256, KeySource::PublicKeyFile(_)) => Ok(()),
            (Algorithm::HS256, KeySource::PublicKeyFile(_)) => {
                Err("keys: HS256 takes `secret` or `secret_file`".to_owned())
            }
            (Algorithm::ES256 | Algorithm::EdDSA | Algorithm::RS256, _) => {
                Err(format!("keys: {:?} takes `public_key_file`", self.algorithm))
            }
        }
    }
}
