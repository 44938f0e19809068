//! What a connection to NATS needs to know.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_nats::{ConnectOptions, ServerAddr};
use serde::{Deserialize, Serialize};

use crate::SUBSCRIPTION_MESSAGES;

/// A password or the like: never printed, not even for debugging.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Keeps a text from being printed.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

impl Serialize for Secret {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("(secret)")
    }
}

/// How to reach NATS. At most one of user and password, token file, and credentials file.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct NatsConfig {
    /// Addresses of servers of one cluster, such as `nats://10.0.0.1:4222` or `tls://nats.example:4222`; at least
    /// one, without a password in them. Others of the cluster are learned. Default: the local server.
    pub servers: Vec<String>,
    /// What the server's monitoring shows for this process. Default: `herenow`.
    pub name: String,
    /// The user to log in as. Default: none.
    pub user: Option<String>,
    /// The user's password. Default: none.
    pub password: Option<Secret>,
    /// A file with the user's password in its first line, instead of `password`. Default: none.
    pub password_file: Option<PathBuf>,
    /// A file with a token in its first line. Default: none.
    pub token_file: Option<PathBuf>,
    /// A file with a user's JWT and seed, as `nsc` writes it. Default: none.
    pub credentials_file: Option<PathBuf>,
    /// TLS, when the servers do not have certificates of well-known authorities, or ask for one of ours. Default:
    /// none.
    pub tls: Option<NatsTls>,
    /// How often a server is asked for a sign of life. One that leaves three unanswered is given up. 100 ms to 10 s.
    /// Default: 500 ms, so that a frozen server is noticed within 1.5 s.
    #[serde(with = "herenow_protocol::duration")]
    pub ping_interval: Duration,
    /// How long one attempt to connect may take. 100 ms to 10 s. Default: 800 ms.
    #[serde(with = "herenow_protocol::duration")]
    pub connection_timeout: Duration,
    /// Messages that wait to be written before [`crate::PublishError::Full`]. At least 16. Default: 8192.
    pub client_capacity: usize,
    /// Messages that wait in one subscription before the newest are dropped. At least 1. Default:
    /// [`SUBSCRIPTION_MESSAGES`].
    pub subscription_capacity: usize,
    /// On how many servers of a cluster the record of claims is kept: 1, 3 or 5. Read when the record is first
    /// made. Default: 1.
    pub epoch_replicas: usize,
}

/// Certificates and keys, in PEM files.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct NatsTls {
    /// The authorities to trust instead of the machine's. Default: the machine's.
    pub ca: Option<PathBuf>,
    /// The certificate to show; needs `key`. Default: none.
    pub cert: Option<PathBuf>,
    /// Its key; needs `cert`. Default: none.
    pub key: Option<PathBuf>,
}

impl Default for NatsConfig {
    fn default() -> Self {
        Self {
            servers: vec!["nats://127.0.0.1:4222".to_owned()],
            name: "herenow".to_owned(),
            user: None,
            password: None,
            password_file: None,
            token_file: None,
            credentials_file: None,
            tls: None,
            ping_interval: Duration::from_millis(500),
            connection_timeout: Duration::from_millis(800),
            client_capacity: 8192,
            subscription_capacity: SUBSCRIPTION_MESSAGES,
            epoch_replicas: 1,
        }
    }
}

/// A value that cannot be used, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {reason}")]
pub struct ConfigError {
    /// The key within [`NatsConfig`].
    pub key: &'static str,
    /// What is wrong with its value, without the value where it may be secret.
    pub reason: String,
}

impl ConfigError {
    fn new(key: &'static str, reason: impl Into<String>) -> Self {
        Self { key, reason: reason.into() }
    }
}

impl NatsConfig {
    /// Checks every value and relation that can be checked without a server.
    ///
    /// # Errors
    /// The first key whose value cannot be used.
    pub fn check(&self) -> Result<(), ConfigError> {
        let when = |wrong: bool, key, reason: &str| {
            if wrong { Err(ConfigError::new(key, reason)) } else { Ok(()) }
        };
        let duration = Duration::from_millis(100)..=Duration::from_secs(10);
        self.addresses()?;
        self.check_login()?;
        when(!duration.contains(&self.ping_interval), "ping_interval", "must be 100ms to 10s")?;
        when(!duration.contains(&self.connection_timeout), "connection_timeout", "must be 100ms to 10s")?;
        when(self.client_capacity < 16, "client_capacity", "must be at least 16")?;
        when(self.subscription_capacity == 0, "subscription_capacity", "must be at least 1")?;
        when(!matches!(self.epoch_replicas, 1 | 3 | 5), "epoch_replicas", "must be 1, 3 or 5")?;
        let halves = self.tls.as_ref().is_some_and(|tls| tls.cert.is_some() != tls.key.is_some());
        when(halves, "tls", "`cert` and `key` need each other")
    }

    fn check_login(&self) -> Result<(), ConfigError> {
        let passwords = usize::from(self.password.is_some()) + usize::from(self.password_file.is_some());
        let ways = [self.user.is_some(), self.token_file.is_some(), self.credentials_file.is_some()];
        if passwords > 1 {
            Err(ConfigError::new("password", "give either `password` or `password_file`"))
        } else if self.user.is_some() != (passwords == 1) {
            Err(ConfigError::new("user", "`user` and a password need each other"))
        } else if ways.into_iter().filter(|way| *way).count() > 1 {
            Err(ConfigError::new("user", "give one of user and password, `token_file`, `credentials_file`"))
        } else {
            Ok(())
        }
    }

    pub(super) fn addresses(&self) -> Result<Vec<ServerAddr>, ConfigError> {
        if self.servers.is_empty() {
            return Err(ConfigError::new("servers", "name at least one server"));
        }
        self.servers.iter().map(|server| address(server)).collect()
    }

    /// The options that all our connections have in common.
    pub(super) async fn options(&self) -> Result<ConnectOptions, ConfigError> {
        let mut options = ConnectOptions::new()
            .ping_interval(self.ping_interval)
            .connection_timeout(self.connection_timeout)
            .client_capacity(self.client_capacity)
            .subscription_capacity(self.subscription_capacity)
            .skip_subject_validation(true)
            .retry_on_initial_connect();
        options = self.with_login(options).await?;
        if let Some(tls) = &self.tls {
            options = options.require_tls(true);
            if let Some(ca) = &tls.ca {
                options = options.add_root_certificates(readable("tls.ca", ca).await?);
            }
            if let (Some(cert), Some(key)) = (&tls.cert, &tls.key) {
                let (cert, key) = (readable("tls.cert", cert).await?, readable("tls.key", key).await?);
                options = options.add_client_certificate(cert, key);
            }
        }
        Ok(options)
    }

    async fn with_login(&self, options: ConnectOptions) -> Result<ConnectOptions, ConfigError> {
        if let Some(path) = &self.token_file {
            return Ok(options.token(first_line("token_file", path).await?));
        }
        if let Some(path) = &self.credentials_file {
            let read = options.credentials_file(path).await;
            return read.map_err(|error| ConfigError::new("credentials_file", error.to_string()));
        }
        let Some(user) = &self.user else { return Ok(options) };
        let password = match (&self.password, &self.password_file) {
            (Some(Secret(password)), _) => password.clone(),
            (None, Some(path)) => first_line("password_file", path).await?,
            (None, None) => String::new(),
        };
        Ok(options.user_and_password(user.clone(), password))
    }
}

fn address(server: &str) -> Result<ServerAddr, ConfigError> {
    // The address itself is left out of the reason: it may carry a password.
    let address: ServerAddr = server
        .parse()
        .map_err(|_| ConfigError::new("servers", "must be addresses such as nats://host:4222"))?;
    if address.has_user_pass() {
        return Err(ConfigError::new(
            "servers",
            "put the password into `password_file`, not into the address",
        ));
    }
    Ok(address)
}

async fn first_line(key: &'static str, path: &Path) -> Result<String, ConfigError> {
    let text = tokio::fs::read_to_string(path).await.map_err(|error| unreadable(key, path, &error))?;
    match text.lines().next().map(str::trim) {
        Some(line) if !line.is_empty() => Ok(line.to_owned()),
        Some(_) | None => {
            Err(ConfigError::new(key, format!("{} has nothing in its first line", path.display())))
        }
    }
}

async fn readable(key: &'static str, path: &Path) -> Result<PathBuf, ConfigError> {
    tokio::fs::File::open(path).await.map_err(|error| unreadable(key, path, &error))?;
    Ok(path.to_owned())
}

fn unreadable(key: &'static str, path: &Path, error: &std::io::Error) -> ConfigError {
    ConfigError::new(key, format!("cannot read {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key_of(change: impl FnOnce(&mut NatsConfig)) -> Option<&'static str> {
        let mut config = NatsConfig::default();
        change(&mut config);
        config.check().err().map(|error| error.key)
    }

    #[test]
    fn the_wrong_key_is_named() {
        assert_eq!(key_of(|_| ()), None);
        assert_eq!(key_of(|c| c.servers.clear()), Some("servers"));
        assert_eq!(key_of(|c| c.servers = vec!["nats://a:b@c:4222".into()]), Some("servers"));
        assert_eq!(key_of(|c| c.servers = vec!["nats://:x:y".into()]), Some("servers"));
        assert_eq!(key_of(|c| c.user = Some("a".into())), Some("user"));
        assert_eq!(key_of(|c| c.password = Some(Secret::new("a"))), Some("user"));
        assert_eq!(key_of(|c| c.ping_interval = Duration::from_millis(99)), Some("ping_interval"));
        assert_eq!(key_of(|c| c.connection_timeout = Duration::from_secs(11)), Some("connection_timeout"));
        assert_eq!(key_of(|c| c.client_capacity = 15), Some("client_capacity"));
        assert_eq!(key_of(|c| c.subscription_capacity = 0), Some("subscription_capacity"));
        assert_eq!(key_of(|c| c.epoch_replicas = 2), Some("epoch_replicas"));
        let tls = NatsTls { cert: Some("c".into()), ..NatsTls::default() };
        assert_eq!(key_of(|c| c.tls = Some(tls)), Some("tls"));
        let two_ways = |c: &mut NatsConfig| {
            c.token_file = Some("t".into());
            c.credentials_file = Some("c".into());
        };
        assert_eq!(key_of(two_ways), Some("user"));
    }

    #[test]
    fn secrets_are_not_printed() {
        let config = NatsConfig {
            user: Some("gateway".into()),
            password: Some(Secret::new("hunter2")),
            ..NatsConfig::default()
        };
        assert!(!format!("{config:?}").contains("hunter2"));
        assert!(!serde_json::to_string(&config).unwrap().contains("hunter2"));
        let error =
            NatsConfig { servers: vec!["nats://u:hunter2@h:1".into()], ..config }.check().unwrap_err();
        assert!(!error.to_string().contains("hunter2"));
    }

    #[test]
    fn unknown_keys_are_refused() {
        let read = serde_json::from_str::<NatsConfig>;
        assert!(read(r#"{"servers":["nats://a:4222"],"ping_interval":"1s"}"#).is_ok());
        assert!(read(r#"{"server":["nats://a:4222"]}"#).is_err());
        assert!(read(r#"{"tls":{"certificate":"x"}}"#).is_err());
    }
}
