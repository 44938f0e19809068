//! `herenow token`.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use herenow_gateway_server::auth::{Algorithm, AuthConfig, KeySource};

use super::config::FileArg;
use super::say;
use crate::config::Sources;
use crate::token::{Signer, Watch};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  herenow token --config herenow.toml --user ana --watch ben,cleo
      A token for ana, who may watch ben and cleo. With HS256 the key of gateway.auth also signs.
  herenow token --config herenow.toml --key-file private.pem --user ana --watch '*'
      The same with ES256, EdDSA or RS256: gateways have only the public key.
  herenow token --key-file secret --algorithm HS256 --issuer shop --audience herenow \\
      --user backend --scope presence:read,presence:write --ttl 30d
      A token for a backend that reads everybody and sets anybody's status.

Scopes: presence:read (see everybody), presence:write (set anybody's status), presence:admin (both, explain, erase).
The token is printed on one line. Treat it as a password.")]
pub(super) struct Token {
    #[command(flatten)]
    file: FileArg,
    /// The signing key: a file with the secret (HS256), or a private key in PEM
    #[arg(long, value_name = "FILE", required_unless_present = "config")]
    key_file: Option<PathBuf>,
    /// How to sign, instead of gateway.auth.algorithm
    #[arg(long, value_enum, ignore_case = true, required_unless_present = "config")]
    algorithm: Option<SignWith>,
    /// Who makes the token (iss), instead of gateway.auth.issuer
    #[arg(long)]
    issuer: Option<String>,
    /// For whom it is (aud), instead of gateway.auth.audience
    #[arg(long)]
    audience: Option<String>,
    /// Whose token it is (sub)
    #[arg(long)]
    user: String,
    /// What it allows; may be given several times
    #[arg(long, value_delimiter = ',', value_name = "SCOPE")]
    scope: Vec<String>,
    /// Whom its bearer may watch: user ids, or '*' for everybody; may be given several times
    #[arg(long, value_delimiter = ',', value_name = "USER")]
    watch: Vec<String>,
    /// How long it is good for; gateways take at most gateway.auth.max_lifetime
    #[arg(long, default_value = "1h", value_parser = humantime::parse_duration)]
    ttl: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum SignWith {
    #[value(name = "HS256")]
    Hs256,
    #[value(name = "ES256")]
    Es256,
    #[value(name = "EdDSA")]
    EdDsa,
    #[value(name = "RS256")]
    Rs256,
}

impl From<SignWith> for Algorithm {
    fn from(with: SignWith) -> Self {
        match with {
            SignWith::Hs256 => Self::HS256,
            SignWith::Es256 => Self::ES256,
            SignWith::EdDsa => Self::EdDSA,
            SignWith::Rs256 => Self::RS256,
        }
    }
}

impl Token {
    pub(super) fn run(self) -> anyhow::Result<()> {
        herenow_protocol::UserId::new(&self.user).context("--user")?;
        let (scope, watch, ttl) = (self.scope.join(" "), Watch::of(self.watch.clone()), self.ttl);
        let user = self.user.clone();
        let token = self.signer()?.sign(&user, &scope, watch, ttl)?;
        Ok(say(&format!("{token}\n"))?)
    }

    fn signer(self) -> anyhow::Result<Signer> {
        let auth = match self.file.config {
            Some(path) => Some(Sources::of_process(Some(path)).load()?.gateway()?.auth.clone()),
            None => None,
        };
        let algorithm = match (self.algorithm, &auth) {
            (Some(with), _) => Algorithm::from(with),
            (None, Some(auth)) => auth.algorithm,
            (None, None) => anyhow::bail!("--algorithm: must be given without --config"),
        };
        let key = match (&self.key_file, &auth) {
            (Some(path), _) => read_key(algorithm, path)?,
            (None, Some(auth)) => shared_key(auth)?,
            (None, None) => anyhow::bail!("--key-file: must be given without --config"),
        };
        let issuer = self.issuer.or_else(|| auth.as_ref().map(|auth| auth.issuer.clone()));
        let audience = self.audience.or_else(|| auth.as_ref().map(|auth| auth.audience.clone()));
        Signer::new(algorithm, &key, issuer, audience)
    }
}

/// The key that both verifies and signs: the first of the configuration.
fn shared_key(auth: &AuthConfig) -> anyhow::Result<Vec<u8>> {
    match auth.keys.first() {
        Some(KeySource::Secret(secret)) => Ok(secret.as_bytes().to_vec()),
        Some(KeySource::SecretFile(path)) => read_key(Algorithm::HS256, path),
        Some(KeySource::PublicKeyFile(_)) | None => {
            anyhow::bail!("--key-file: must be given, because the configuration has only the public key")
        }
    }
}

fn read_key(algorithm: Algorithm, path: &PathBuf) -> anyhow::Result<Vec<u8>> {
    let bytes = std::fs::read(path).with_context(|| format!("{} cannot be read", path.display()))?;
    Ok(if algorithm == Algorithm::HS256 { bytes.trim_ascii_end().to_vec() } else { bytes })
}
