//! The verification itself.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use herenow_protocol::{WallTime, limit};
use jsonwebtoken::{DecodingKey, crypto};
use serde::de::DeserializeOwned;

use super::claims::{Claims, Head};
use super::config::SECRET_BYTES;
use super::{Algorithm, AuthConfig, AuthError, KeySource, Verified};

/// Verifies tokens under one configuration. Holds no lock and reads no clock.
pub struct Verifier {
    algorithm: Algorithm,
    keys: Vec<DecodingKey>,
    issuer: String,
    audience: String,
    leeway: Duration,
    max_lifetime: Duration,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

impl Algorithm {
    const fn name(self) -> &'static str {
        match self {
            Self::HS256 => "HS256",
            Self::ES256 => "ES256",
            Self::EdDSA => "EdDSA",
            Self::RS256 => "RS256",
        }
    }

    const fn library(self) -> jsonwebtoken::Algorithm {
        match self {
            Self::HS256 => jsonwebtoken::Algorithm::HS256,
            Self::ES256 => jsonwebtoken::Algorithm::ES256,
            Self::EdDSA => jsonwebtoken::Algorithm::EdDSA,
            Self::RS256 => jsonwebtoken::Algorithm::RS256,
        }
    }
}

impl Verifier {
    /// Reads the keys.
    ///
    /// # Errors
    /// The configuration key at fault, and why: a file that cannot be read, a short secret, no such public key.
    pub fn load(config: &AuthConfig) -> Result<Self, String> {
        config.check()?;
        let keys: Result<_, _> = config.keys.iter().map(|key| load_key(config.algorithm, key)).collect();
        Ok(Self {
            algorithm: config.algorithm,
            keys: keys?,
            issuer: config.issuer.clone(),
            audience: config.audience.clone(),
            leeway: config.leeway,
            max_lifetime: config.max_lifetime,
        })
    }

    /// Verifies a token at a moment.
    ///
    /// # Errors
    /// Why it is not accepted.
    pub fn verify(&self, token: &str, now: WallTime) -> Result<Verified, AuthError> {
        let invalid = AuthError::Invalid;
        if token.is_empty() {
            return Err(AuthError::Missing);
        }
        if token.len() > limit::TOKEN_BYTES {
            return Err(invalid("over 4 KiB"));
        }
        let (message, signature) = token.rsplit_once('.').ok_or(invalid("not three parts"))?;
        let (head, body) = message.split_once('.').ok_or(invalid("not three parts"))?;
        if body.contains('.') {
            return Err(invalid("not three parts"));
        }
        let head: Head = part(head).ok_or(invalid("the head cannot be read"))?;
        if head.alg != self.algorithm.name() {
            return Err(invalid("another algorithm"));
        }
        if head.crit.is_some() {
            return Err(invalid("crit"));
        }
        if !self.signed(message, signature) {
            return Err(invalid("the signature is wrong"));
        }
        let claims: Claims = part(body).ok_or(invalid("a claim is missing or has the wrong type"))?;
        self.check(&claims, now)
    }

    fn signed(&self, message: &str, signature: &str) -> bool {
        let algorithm = self.algorithm.library();
        !signature.is_empty()
            && self
                .keys
                .iter()
                .any(|key| matches!(crypto::verify(signature, message.as_bytes(), key, algorithm), Ok(true)))
    }

    fn check(&self, claims: &Claims, now: WallTime) -> Result<Verified, AuthError> {
        let invalid = |why| Err(AuthError::Invalid(why));
        let (now, leeway) = (seconds(now), self.leeway.as_secs_f64());
        let longest = self.max_lifetime.as_secs_f64();
        if claims.iss != self.issuer {
            return invalid("another issuer");
        }
        if !claims.aud.has(&self.audience) {
            return invalid("another audience");
        }
        if claims.exp + leeway <= now {
            return Err(AuthError::Expired);
        }
        if claims.nbf.is_some_and(|nbf| nbf > now + leeway) {
            return invalid("not valid yet");
        }
        if claims.iat.is_some_and(|iat| iat > now + leeway) {
            return invalid("issued in the future");
        }
        if claims.exp > now + leeway + longest || claims.iat.is_some_and(|iat| claims.exp - iat > longest) {
            return invalid("good for too long");
        }
        let (viewer, scopes) = claims.rights().map_err(AuthError::Invalid)?;
        Ok(Verified { viewer, scopes, expires: wall(claims.exp) })
    }
}

/// A part of a token: base64url without padding, of one JSON object of reasonable depth.
fn part<T: DeserializeOwned>(text: &str) -> Option<T> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    // Fields nobody looks at are skipped without a limit of depth; reading them as values has one.
    serde_json::from_slice::<serde_json::Value>(&bytes).ok().filter(serde_json::Value::is_object)?;
    serde_json::from_slice(&bytes).ok()
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds of this era fit the 53 bits")]
fn seconds(time: WallTime) -> f64 {
    time.as_millis() as f64 / 1_000.0
}

/// Only for times already found to be near now.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "casts of floats saturate")]
fn wall(seconds: f64) -> WallTime {
    WallTime::from_millis((seconds * 1_000.0) as u64)
}

fn load_key(algorithm: Algorithm, source: &KeySource) -> Result<DecodingKey, String> {
    match source {
        KeySource::Secret(secret) => secret_key(secret.as_bytes()),
        KeySource::SecretFile(path) => secret_key(read(path)?.trim_ascii_end()),
        KeySource::PublicKeyFile(path) => public_key(algorithm, &read(path)?).map_err(|why| {
            format!("keys: {}: no public key for {}: {why}", path.display(), algorithm.name())
        }),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|why| format!("keys: {}: {why}", path.display()))
}

fn secret_key(secret: &[u8]) -> Result<DecodingKey, String> {
    if secret.len() < SECRET_BYTES {
        return Err(format!("keys: a secret must have at least {SECRET_BYTES} bytes"));
    }
    Ok(DecodingKey::from_secret(secret))
}

fn public_key(algorithm: Algorithm, pem: &[u8]) -> Result<DecodingKey, String> {
    let key = match algorithm {
        Algorithm::HS256 => return Err("HS256 has no public key".to_owned()),
        Algorithm::ES256 => DecodingKey::from_ec_pem(pem),
        Algorithm::EdDSA => DecodingKey::from_ed_pem(pem),
        Algorithm::RS256 => DecodingKey::from_rsa_pem(pem),
    };
    key.map_err(|why| why.to_string())
}
