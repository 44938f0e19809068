//! What the cache needs to know.

use std::path::PathBuf;
use std::time::Duration;

use redis::{ClientTlsConfig, ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _, TlsCertificates};
use serde::{Deserialize, Serialize};

use crate::server::{Login, Secret, Tls, ensure, setting, within};
use crate::{BATCH, StoreError};

/// How to reach Redis, and what to keep there. A name is checked when the cache is opened.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct RedisConfig {
    /// The server, such as `redis://10.0.0.1:6379` or, for TLS, `rediss://redis.example:6379/0`; without a password.
    /// One server, with replicas or not; no Redis Cluster. Default: the local one.
    pub url: String,
    /// The user to log in as. Default: the server's default user.
    pub user: Option<String>,
    /// The password. Default: none.
    pub password: Option<Secret>,
    /// A file with the password in its first line, instead of `password`. Default: none.
    pub password_file: Option<PathBuf>,
    /// Certificates for `rediss://`. Default: the machine's authorities.
    pub tls: Option<Tls>,
    /// What begins the names of all keys: 1 to 64 bytes. Processes that share a cache have the same. Default `herenow`.
    pub prefix: String,
    /// How long an entry is kept at most; up to a fifth less, so that entries made together do not end together. What
    /// another process reads is never older than this, even when Redis was cut off from the one that wrote. 100 ms
    /// to 1 h. Default 30 s.
    #[serde(with = "herenow_protocol::duration")]
    pub ttl: Duration,
    /// The same for the entry that nothing is kept of a user. 100 ms to `ttl`. Default 5 s.
    #[serde(with = "herenow_protocol::duration")]
    pub absent_ttl: Duration,
    /// How long the server may take for one call before the store is asked instead. 10 ms to 10 s. Default 250 ms.
    #[serde(with = "herenow_protocol::duration")]
    pub timeout: Duration,
    /// How long a server that failed is left alone. 10 ms to 1 min. Default 1 s.
    #[serde(with = "herenow_protocol::duration")]
    pub retry_after: Duration,
    /// Most users whose entries may be old while the server cannot be told; one more, and the whole cache is declared
    /// void once it can. At least [`BATCH`]. Default 100,000.
    pub max_owed: usize,
}

impl Default for RedisConfig {
    fn default() -> Self {
        Self {
            url: "redis://127.0.0.1:6379".to_owned(),
            user: None,
            password: None,
            password_file: None,
            tls: None,
            prefix: "herenow".to_owned(),
            ttl: Duration::from_secs(30),
            absent_ttl: Duration::from_secs(5),
            timeout: Duration::from_millis(250),
            retry_after: Duration::from_secs(1),
            max_owed: 100_000,
        }
    }
}

impl RedisConfig {
    /// Checks every value and relation that can be checked without a server.
    ///
    /// # Errors
    /// [`StoreError::Setting`]: the first key whose value cannot be used.
    pub fn check(&self) -> Result<(), StoreError> {
        let info = self.server()?;
        let is_tls = matches!(info.addr(), ConnectionAddr::TcpTls { .. });
        ensure(self.tls.is_none() || is_tls, "tls", "needs an address that begins with rediss://")?;
        self.tls.as_ref().map_or(Ok(()), Tls::check)?;
        self.login().check()?;
        ensure((1..=64).contains(&self.prefix.len()), "prefix", "must be 1 to 64 bytes")?;
        within(self.ttl, 100..=3_600_000, "ttl", "must be 100ms to 1h")?;
        within(self.absent_ttl, 100..=3_600_000, "absent_ttl", "must be 100ms to 1h")?;
        ensure(self.absent_ttl <= self.ttl, "absent_ttl", "must not be longer than `ttl`")?;
        within(self.timeout, 10..=10_000, "timeout", "must be 10ms to 10s")?;
        within(self.retry_after, 10..=60_000, "retry_after", "must be 10ms to 1min")?;
        ensure(self.max_owed >= BATCH, "max_owed", "must be at least 10000, the most of one batch")
    }

    fn login(&self) -> Login<'_> {
        Login {
            user: self.user.as_deref(),
            password: self.password.as_ref(),
            password_file: self.password_file.as_deref(),
        }
    }

    /// The server's address. It is left out of the reason: it may carry a password.
    fn server(&self) -> Result<ConnectionInfo, StoreError> {
        let info = self.url.as_str().into_connection_info();
        let info = info
            .map_err(|_| setting("url", "must be an address such as redis://host:6379 or rediss://host"))?;
        let named = info.redis_settings().password().or(info.redis_settings().username());
        ensure(named.is_none(), "url", "put the password into `password_file`, not into the address")?;
        Ok(info)
    }

    /// What messages call the server.
    pub(super) fn name(&self) -> String {
        format!("Redis at {}", self.server().map_or_else(|_| String::new(), |info| info.addr().to_string()))
    }

    /// A client with the password and certificates read.
    pub(super) async fn client(&self) -> Result<redis::Client, StoreError> {
        self.check()?;
        let info = self.server()?;
        let mut settings = info.redis_settings().clone();
        if let Some(password) = self.login().password().await? {
            settings = settings.set_password(password);
        }
        if let Some(user) = &self.user {
            settings = settings.set_username(user);
        }
        let info = info.set_redis_settings(settings);
        let unusable = |error: redis::RedisError| setting("tls", error.to_string());
        if !matches!(info.addr(), ConnectionAddr::TcpTls { .. }) {
            return redis::Client::open(info).map_err(unusable);
        }
        // The client takes the process's library of cryptography, and panics where there is none.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let pem = match &self.tls {
            Some(tls) => tls.read().await?,
            None => crate::server::Pem::default(),
        };
        let client_tls = pem.own.map(|(client_cert, client_key)| ClientTlsConfig { client_cert, client_key });
        let certificates = TlsCertificates { client_tls, root_cert: pem.ca };
        redis::Client::build_with_tls(info, certificates).map_err(unusable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key_of(change: impl FnOnce(&mut RedisConfig)) -> Option<&'static str> {
        crate::check::refused_key(RedisConfig::check, change)
    }

    #[test]
    fn the_wrong_key_is_named() {
        assert_eq!(key_of(|_| ()), None);
        assert_eq!(key_of(|c| c.url = "http://x".into()), Some("url"));
        assert_eq!(key_of(|c| c.url = "redis://:opensesame@x:1".into()), Some("url"));
        assert_eq!(key_of(|c| c.tls = Some(Tls::default())), Some("tls"));
        assert_eq!(key_of(|c| c.user = Some("a".into())), Some("user"));
        assert_eq!(key_of(|c| c.prefix.clear()), Some("prefix"));
        assert_eq!(key_of(|c| c.prefix = "p".repeat(65)), Some("prefix"));
        assert_eq!(key_of(|c| c.ttl = Duration::from_millis(99)), Some("ttl"));
        assert_eq!(key_of(|c| c.absent_ttl = Duration::from_secs(31)), Some("absent_ttl"));
        assert_eq!(key_of(|c| c.timeout = Duration::from_millis(10_001)), Some("timeout"));
        assert_eq!(key_of(|c| c.retry_after = Duration::from_millis(60_001)), Some("retry_after"));
        assert_eq!(key_of(|c| c.max_owed = BATCH - 1), Some("max_owed"));
    }
}
