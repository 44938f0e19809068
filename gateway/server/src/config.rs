//! What an operator may set about the sockets, HTTP and TLS of a gateway. Its rules are `core`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use herenow_protocol::duration;
use serde::{Deserialize, Serialize};

pub use crate::admission::Admission;
use crate::auth::AuthConfig;

/// A gateway server's settings. Only `auth` has no default.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where clients and backends connect. Default `0.0.0.0:8080`.
    #[serde(default = "default_listen")]
    pub listen: SocketAddr,
    /// How many shards, each with its own thread and runtime. Default 0: one for each core.
    #[serde(default)]
    pub shards: u16,
    /// The exact origins of pages that may open sockets, such as `https://app.example`. A page of any other origin
    /// is refused; programs that send no origin are not affected. Default: none.
    #[serde(default)]
    pub origins: Vec<String>,
    /// Certificate and key. Default: none, plain TCP, for use behind something that terminates TLS.
    #[serde(default)]
    pub tls: Option<TlsConfig>,
    /// How tokens are verified.
    pub auth: AuthConfig,
    /// How long anything is waited for.
    #[serde(default)]
    pub timeouts: Timeouts,
    /// How much is held at once.
    #[serde(default)]
    pub caps: Caps,
    /// How many sessions are opened a second.
    #[serde(default)]
    pub admission: Admission,
    /// The rules of presence at this gateway, for each shard.
    #[serde(default)]
    pub core: herenow_gateway_core::Config,
}

/// Where the certificate and its key are.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// A PEM file with the certificate chain, the server's own first.
    pub certificate: PathBuf,
    /// A PEM file with the private key.
    pub key: PathBuf,
}

/// How long anything is waited for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Timeouts {
    /// For the TLS handshake. Default 5 s.
    #[serde(with = "duration")]
    pub tls: Duration,
    /// For the whole head of a request, also of the next one on a kept connection. Default 5 s.
    #[serde(with = "duration")]
    pub header: Duration,
    /// For the whole body of a request. Default 10 s.
    #[serde(with = "duration")]
    pub body: Duration,
    /// For the first `auth` frame where the handshake had no token. Default 5 s.
    #[serde(with = "duration")]
    pub auth: Duration,
    /// For a started frame to be whole, fragments together. Default 10 s.
    #[serde(with = "duration")]
    pub frame: Duration,
    /// For a socket to take anything while bytes wait for it. Default 5 s.
    #[serde(with = "duration")]
    pub write: Duration,
    /// For the other side to hang up after a close frame or a refusal. Default 1 s.
    #[serde(with = "duration")]
    pub close: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            tls: Duration::from_secs(5),
            header: Duration::from_secs(5),
            body: Duration::from_secs(10),
            auth: Duration::from_secs(5),
            frame: Duration::from_secs(10),
            write: Duration::from_secs(5),
            close: Duration::from_secs(1),
        }
    }
}

/// How much is held at once, in each shard.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Caps {
    /// Most connections that are no session: in their handshakes, or of backends over REST. One more is hung up on.
    /// Default 2,000.
    pub handshakes: usize,
    /// Most WebSocket connections, with those that have not shown a token yet. One more gets 503. Default 110,000;
    /// sessions have their own limit, `core.max_sessions`.
    pub sockets: usize,
    /// Most calls of backends that wait for the shard to take them. One more gets 503. Default 4,096.
    pub calls: usize,
    /// Most requests at a time for which the store is read, because owners are not heard. The users of one more are
    /// `unknown`. Default 64.
    pub kept_reads: usize,
}

impl Default for Caps {
    fn default() -> Self {
        Self { handshakes: 2_000, sockets: 110_000, calls: 4_096, kept_reads: 64 }
    }
}

fn default_listen() -> SocketAddr {
    SocketAddr::from(([0, 0, 0, 0], 8080))
}

impl Config {
    /// The defaults, with this way to verify tokens.
    #[must_use]
    pub fn new(auth: AuthConfig) -> Self {
        Self {
            listen: default_listen(),
            shards: 0,
            origins: Vec::new(),
            tls: None,
            auth,
            timeouts: Timeouts::default(),
            caps: Caps::default(),
            admission: Admission::default(),
            core: herenow_gateway_core::Config::default(),
        }
    }

    /// Checks ranges and relations. Reads no file.
    ///
    /// # Errors
    /// The key at fault and what it must be.
    pub fn check(&self) -> Result<(), String> {
        self.auth.check().map_err(|why| format!("auth.{why}"))?;
        self.core.check().map_err(|why| format!("core.{why}"))?;
        for (key, value) in self.timeouts.all() {
            if value.is_zero() || value > Duration::from_secs(300) {
                return Err(format!("timeouts.{key}: must be more than zero and at most 5min"));
            }
        }
        let caps = [
            ("handshakes", self.caps.handshakes),
            ("sockets", self.caps.sockets),
            ("calls", self.caps.calls),
            ("kept_reads", self.caps.kept_reads),
        ];
        if let Some((key, _)) = caps.iter().find(|(_, value)| !(1..=4_000_000).contains(value)) {
            return Err(format!("caps.{key}: must be from 1 to 4,000,000"));
        }
        self.admission.check().map_err(|why| format!("admission.{why}"))?;
        self.origins.iter().try_for_each(|origin| check_origin(origin))
    }

    /// How many shards there will be.
    #[must_use]
    pub fn shard_count(&self) -> u16 {
        if self.shards > 0 {
            return self.shards;
        }
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        u16::try_from(cores).unwrap_or(u16::MAX)
    }
}

impl Timeouts {
    fn all(&self) -> [(&'static str, Duration); 7] {
        [
            ("tls", self.tls),
            ("header", self.header),
            ("body", self.body),
            ("auth", self.auth),
            ("frame", self.frame),
            ("write", self.write),
            ("close", self.close),
        ]
    }
}

/// An origin that no browser would send never matches: better said at the start than never found.
fn check_origin(origin: &str) -> Result<(), String> {
    let fail = || format!("origins: {origin:?} is no origin such as \"https://app.example\"");
    let (scheme, rest) = origin.split_once("://").ok_or_else(fail)?;
    let plain = |text: &str| !text.is_empty() && !text.contains(['/', '?', '#', '*', ' ', '@']);
    let lower = origin.chars().all(|c| !c.is_uppercase() && !c.is_control());
    if plain(scheme) && plain(rest) && lower { Ok(()) } else { Err(fail()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::tests::hs256_config;

    #[test]
    fn the_defaults_are_accepted_and_the_wrong_key_is_named() {
        let good = Config::new(hs256_config());
        assert_eq!(good.check(), Ok(()));
        let mut bad = good.clone();
        bad.timeouts.write = Duration::ZERO;
        assert!(bad.check().unwrap_err().starts_with("timeouts.write"));
        let mut bad = good.clone();
        bad.caps.handshakes = 0;
        assert!(bad.check().unwrap_err().starts_with("caps.handshakes"));
        let mut bad = good;
        bad.core.fresh_for = Duration::ZERO;
        assert!(bad.check().unwrap_err().starts_with("core."));
    }

    #[test]
    fn only_origins_that_browsers_send_can_be_listed() {
        for good in ["https://app.example", "http://127.0.0.1:8080", "https://[::1]"] {
            assert_eq!(check_origin(good), Ok(()), "{good}");
        }
        for bad in ["*", "app.example", "https://app.example/", "https://*.example", "HTTPS://a", "null", ""]
        {
            assert!(check_origin(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn unknown_keys_are_refused() {
        let mut json = serde_json::to_value(Config::new(hs256_config())).unwrap();
        json["auth"]["keys"] = serde_json::json!([{ "secret": "0123456789abcdef0123456789abcdef" }]);
        assert!(serde_json::from_value::<Config>(json.clone()).is_ok());
        json["shardz"] = 1.into();
        assert!(serde_json::from_value::<Config>(json).unwrap_err().to_string().contains("shardz"));
    }
}
