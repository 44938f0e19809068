//! What the engine in PostgreSQL needs to know.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio_postgres::config::SslMode;

use crate::StoreError;
use crate::server::{Login, Secret, Tls, ensure, within};

/// How to reach PostgreSQL.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct PostgresConfig {
    /// The server's name or address, or the directory of its socket. Default `127.0.0.1`.
    pub host: String,
    /// Its port. Default 5432.
    pub port: u16,
    /// The database. Default `herenow`.
    pub database: String,
    /// The schema within it, made where it is not there: a lower-case letter, then up to 39 of letters, digits and
    /// underscores. Default `herenow`.
    pub schema: String,
    /// The user to log in as. Default `herenow`.
    pub user: String,
    /// Its password. Default: none.
    pub password: Option<Secret>,
    /// A file with the password in its first line, instead of `password`. Default: none.
    pub password_file: Option<PathBuf>,
    /// TLS. Default: none, the connection is not encrypted.
    pub tls: Option<Tls>,
    /// Most connections at a time. 1 to 100. Default 4.
    pub connections: usize,
    /// How long one call may take, on both sides; waiting for a connection has as long again. 100 ms to 5 min. Default
    /// 10 s.
    #[serde(with = "herenow_protocol::duration")]
    pub timeout: Duration,
    /// How far back analytics look for the status of somebody at a moment: who has had no transition for longer is not
    /// counted. 1 h to 366 days. Default 7 days.
    #[serde(with = "herenow_protocol::duration")]
    pub lookback: Duration,
}

impl Default for PostgresConfig {
    fn default() -> Self {
        Self {
            host: "127.0.0.1".to_owned(),
            port: 5432,
            database: "herenow".to_owned(),
            schema: "herenow".to_owned(),
            user: "herenow".to_owned(),
            password: None,
            password_file: None,
            tls: None,
            connections: 4,
            timeout: Duration::from_secs(10),
            lookback: Duration::from_hours(7 * 24),
        }
    }
}

impl PostgresConfig {
    /// Checks every value and relation that can be checked without a server.
    ///
    /// # Errors
    /// [`StoreError::Setting`]: the first key whose value cannot be used.
    pub fn check(&self) -> Result<(), StoreError> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        let schema = self.schema.starts_with(|c: char| c.is_ascii_lowercase())
            && self.schema.len() <= 40
            && self.schema.chars().all(plain);
        ensure(!self.host.is_empty(), "host", "must be given")?;
        ensure(!self.database.is_empty(), "database", "must be given")?;
        ensure(!self.user.is_empty(), "user", "must be given")?;
        ensure(
            schema,
            "schema",
            "must be a lower-case letter, then letters, digits and _, at most 40 in all",
        )?;
        self.login().check()?;
        self.tls.as_ref().map_or(Ok(()), Tls::check)?;
        ensure((1..=100).contains(&self.connections), "connections", "must be 1 to 100")?;
        within(self.timeout, 100..=300_000, "timeout", "must be 100ms to 5min")?;
        within(self.lookback, 3_600_000..=31_622_400_000, "lookback", "must be 1h to 366days")
    }

    /// A server may let a user in without a password.
    fn login(&self) -> Login<'_> {
        let (password, password_file) = (self.password.as_ref(), self.password_file.as_deref());
        Login { user: None, password, password_file }
    }

    /// What messages call the server.
    pub(super) fn name(&self) -> String {
        format!("PostgreSQL at {}:{}/{}", self.host, self.port, self.database)
    }

    /// The driver's settings, with the password read.
    pub(super) async fn driver(&self) -> Result<tokio_postgres::Config, StoreError> {
        self.check()?;
        let mut driver = tokio_postgres::Config::new();
        driver.host(&self.host).port(self.port).dbname(&self.database).user(&self.user);
        driver.application_name("herenow").connect_timeout(self.timeout);
        // Plans of statements are for this schema, and days are those of UTC.
        let timeout = self.timeout.as_millis();
        driver.options(format!(
            "-c search_path={} -c statement_timeout={timeout} -c timezone=UTC",
            self.schema
        ));
        driver.ssl_mode(if self.tls.is_some() { SslMode::Require } else { SslMode::Disable });
        if let Some(password) = self.login().password().await? {
            driver.password(password);
        }
        Ok(driver)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key_of(change: impl FnOnce(&mut PostgresConfig)) -> Option<&'static str> {
        crate::check::refused_key(PostgresConfig::check, change)
    }

    #[test]
    fn the_wrong_key_is_named() {
        assert_eq!(key_of(|_| ()), None);
        assert_eq!(key_of(|c| c.host.clear()), Some("host"));
        assert_eq!(key_of(|c| c.database.clear()), Some("database"));
        assert_eq!(key_of(|c| c.user.clear()), Some("user"));
        for schema in ["", "1a", "a b", "a;drop", "Upper", &"a".repeat(41)] {
            assert_eq!(key_of(|c| c.schema = schema.into()), Some("schema"), "{schema}");
        }
        assert_eq!(key_of(|c| c.connections = 101), Some("connections"));
        assert_eq!(key_of(|c| c.timeout = Duration::from_millis(99)), Some("timeout"));
        assert_eq!(key_of(|c| c.lookback = Duration::from_hours(367 * 24)), Some("lookback"));
        let tls = Tls { key: Some("k".into()), ..Tls::default() };
        assert_eq!(key_of(|c| c.tls = Some(tls)), Some("tls"));
    }
}
