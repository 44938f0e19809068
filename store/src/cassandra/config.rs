//! What the engine in Cassandra needs to know.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::StoreError;
use crate::server::{Login, Secret, Tls, ensure, within};

/// How to reach Cassandra.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct CassandraConfig {
    /// Nodes, such as `10.0.0.1:9042`; at least one. The others of the cluster are learned. Default: the local one.
    pub nodes: Vec<String>,
    /// The data centre to ask. Default: none is preferred.
    pub datacenter: Option<String>,
    /// The keyspace, made where it is not there: a lower-case letter, then up to 39 of letters, digits and
    /// underscores. Default `herenow`.
    pub keyspace: String,
    /// Copies in each data centre, when the keyspace is made. 1 to 9. Default 3.
    pub replication: u8,
    /// The user to log in as. Default: none.
    pub user: Option<String>,
    /// Its password. Default: none.
    pub password: Option<Secret>,
    /// A file with the password in its first line, instead of `password`. Default: none.
    pub password_file: Option<PathBuf>,
    /// TLS. Default: none, the connections are not encrypted.
    pub tls: Option<Tls>,
    /// How long one request may take, with all its tries. 100 ms to 5 min. Default 10 s.
    #[serde(with = "herenow_protocol::duration")]
    pub timeout: Duration,
    /// How long a node may take for a read before another is asked too. 1 ms to 10 s. Default 50 ms.
    #[serde(with = "herenow_protocol::duration")]
    pub speculate_after: Duration,
    /// Most requests of one call at a time. 1 to 4096. Default 256.
    pub concurrency: usize,
    /// How long the history is kept. 1 day to 3650 days. Default 30 days.
    #[serde(with = "herenow_protocol::duration")]
    pub activity_ttl: Duration,
}

impl Default for CassandraConfig {
    fn default() -> Self {
        Self {
            nodes: vec!["127.0.0.1:9042".to_owned()],
            datacenter: None,
            keyspace: "herenow".to_owned(),
            replication: 3,
            user: None,
            password: None,
            password_file: None,
            tls: None,
            timeout: Duration::from_secs(10),
            speculate_after: Duration::from_millis(50),
            concurrency: 256,
            activity_ttl: Duration::from_hours(30 * 24),
        }
    }
}

impl CassandraConfig {
    /// Checks every value and relation that can be checked without a server.
    ///
    /// # Errors
    /// [`StoreError::Setting`]: the first key whose value cannot be used.
    pub fn check(&self) -> Result<(), StoreError> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        let keyspace = self.keyspace.starts_with(|c: char| c.is_ascii_lowercase())
            && self.keyspace.len() <= 40
            && self.keyspace.chars().all(plain);
        let nodes = !self.nodes.is_empty() && self.nodes.iter().all(|node| !node.is_empty());
        ensure(nodes, "nodes", "must be at least one, such as 10.0.0.1:9042")?;
        ensure(
            keyspace,
            "keyspace",
            "must be a lower-case letter, then letters, digits and _, at most 40 in all",
        )?;
        ensure((1..=9).contains(&self.replication), "replication", "must be 1 to 9")?;
        self.login().check()?;
        let named = self.password.is_none() && self.password_file.is_none() || self.user.is_some();
        ensure(named, "user", "a password needs `user`")?;
        self.tls.as_ref().map_or(Ok(()), Tls::check)?;
        within(self.timeout, 100..=300_000, "timeout", "must be 100ms to 5min")?;
        within(self.speculate_after, 1..=10_000, "speculate_after", "must be 1ms to 10s")?;
        ensure((1..=4096).contains(&self.concurrency), "concurrency", "must be 1 to 4096")?;
        within(self.activity_ttl, 86_400_000..=315_360_000_000, "activity_ttl", "must be 1day to 3650days")
    }

    pub(super) fn login(&self) -> Login<'_> {
        Login {
            user: self.user.as_deref(),
            password: self.password.as_ref(),
            password_file: self.password_file.as_deref(),
        }
    }

    /// What messages call the cluster.
    pub(super) fn name(&self) -> String {
        format!("Cassandra at {}/{}", self.nodes.join(","), self.keyspace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key_of(change: impl FnOnce(&mut CassandraConfig)) -> Option<&'static str> {
        crate::check::refused_key(CassandraConfig::check, change)
    }

    #[test]
    fn the_wrong_key_is_named() {
        assert_eq!(key_of(|_| ()), None);
        assert_eq!(key_of(|c| c.nodes.clear()), Some("nodes"));
        assert_eq!(key_of(|c| c.keyspace = "a;drop".into()), Some("keyspace"));
        assert_eq!(key_of(|c| c.replication = 10), Some("replication"));
        assert_eq!(key_of(|c| c.user = Some("a".into())), Some("user"));
        assert_eq!(key_of(|c| c.password = Some(Secret::new("a"))), Some("user"));
        assert_eq!(key_of(|c| c.timeout = Duration::from_millis(99)), Some("timeout"));
        assert_eq!(key_of(|c| c.speculate_after = Duration::ZERO), Some("speculate_after"));
        assert_eq!(key_of(|c| c.concurrency = 4097), Some("concurrency"));
        assert_eq!(key_of(|c| c.activity_ttl = Duration::from_hours(23)), Some("activity_ttl"));
    }
}
