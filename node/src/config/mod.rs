//! What an operator may set, all of it in one tree. Each role's part stands beside its code; here are the parts
//! of the process, and the relations between all of them ([`Config::check`]).

mod activity;
mod check;
mod load;
mod secret;
mod store;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use activity::Activity;
pub use load::{ENV_PREFIX, LoadError, Sources};
pub use secret::Secret;
pub use store::{Store, StoreKind};

/// The example that `herenow config print --default` prints, with a comment for every key.
pub const EXAMPLE: &str = include_str!("../../../deploy/herenow.example.toml");

/// Everything that can be set about a process.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// This process.
    pub node: Node,
    /// What all processes of a deployment share.
    pub cluster: Cluster,
    /// How to reach NATS; only with `cluster.bus = "nats"`.
    pub nats: herenow_bus::NatsConfig,
    /// The gateway role; required to play it, because how tokens are verified has no default.
    pub gateway: Option<herenow_gateway_server::Config>,
    /// The coordinator role.
    pub coordinator: herenow_coordinator_core::Config,
    /// What is kept beyond the life of a coordinator.
    pub store: Store,
    /// The history of transitions.
    pub activity: Activity,
    /// PostgreSQL, for who users are, and for questions about the history of everybody. Default: none.
    pub people: Option<herenow_store::PostgresConfig>,
    /// The listener for operators.
    pub admin: Admin,
    /// Logs.
    pub log: Log,
    /// How the process ends.
    pub shutdown: Shutdown,
}

/// A role that a process can play.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Holds the connections of clients and answers backends.
    Gateway,
    /// Owns partitions and decides who is present.
    Coordinator,
    /// Writes the history into its stores.
    Archiver,
}

impl Role {
    /// The role as it is written.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Coordinator => "coordinator",
            Self::Archiver => "archiver",
        }
    }
}

/// This process.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Node {
    /// The name of the process, unique in the deployment and the same after a restart: 1 to 32 letters, digits, `_`
    /// or `-`. Required with `cluster.bus = "nats"`; else the default is `herenow`.
    pub name: Option<String>,
    /// The roles it plays. Default: gateway and coordinator.
    pub roles: Vec<Role>,
}

impl Default for Node {
    fn default() -> Self {
        Self { name: None, roles: vec![Role::Gateway, Role::Coordinator] }
    }
}

/// How roles reach each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BusKind {
    /// Within this one process, which then plays both roles.
    #[default]
    Local,
    /// Over NATS.
    Nats,
}

/// What all processes of a deployment share.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cluster {
    /// How roles reach each other: `local` or `nats`. Default `local`.
    pub bus: BusKind,
    /// The secret from which the places of users are reckoned, at least 32 bytes; the same in every process. No
    /// default. Better in `secret_file` or in the environment than here.
    pub secret: Option<Secret>,
    /// A file whose first line is the secret.
    pub secret_file: Option<PathBuf>,
    /// Two to the power of this is the number of partitions, 0 to 8; the same in every process, and fixed for the
    /// life of the deployment. Default 8: 256 partitions.
    pub partition_bits: u32,
}

impl Default for Cluster {
    fn default() -> Self {
        Self { bus: BusKind::Local, secret: None, secret_file: None, partition_bits: 8 }
    }
}

/// The listener for operators: metrics, health, draining. It asks for no credentials.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Admin {
    /// Where it listens. Default `127.0.0.1:9090`; port 0 takes any free one.
    pub listen: SocketAddr,
    /// Allows an address that other machines can reach. Default false.
    pub allow_public: bool,
}

impl Default for Admin {
    fn default() -> Self {
        Self { listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 9090)), allow_public: false }
    }
}

/// How logs look.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Logs, on the standard error stream.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// `text` or `json`. Default `text`.
    pub format: LogFormat,
    /// `error`, `warn`, `info`, `debug` or `trace`, or by module: `info,herenow_bus=debug`. Default `info`.
    pub level: String,
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::Text, level: "info".to_owned() }
    }
}

/// How the process ends.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Shutdown {
    /// The time over which clients are spread when they are told to come back elsewhere; the process ends after it.
    /// 0 s to 10 min. Default 10 s; zero: at once.
    #[serde(with = "herenow_protocol::duration")]
    pub window: Duration,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self { window: Duration::from_secs(10) }
    }
}

impl Config {
    /// Whether the process plays a role.
    #[must_use]
    pub fn plays(&self, role: Role) -> bool {
        self.node.roles.contains(&role)
    }

    /// Whether the process is a gateway of one shard and nothing else: then one thread is enough for all of it.
    #[must_use]
    pub fn is_one_gateway(&self) -> bool {
        let shards = self.gateway.as_ref().map(herenow_gateway_server::Config::shard_count);
        self.node.roles == [Role::Gateway] && shards == Some(1)
    }

    /// The gateway's part.
    ///
    /// # Errors
    /// There is none.
    pub fn gateway(&self) -> Result<&herenow_gateway_server::Config, LoadError> {
        let missing =
            || LoadError::new("gateway.auth", "must be given: how tokens are verified has no default");
        self.gateway.as_ref().ok_or_else(missing)
    }

    /// The whole of it as TOML, with secrets masked.
    ///
    /// # Errors
    /// A value that TOML cannot say.
    pub fn print(&self) -> Result<String, toml::ser::Error> {
        toml::to_string_pretty(self)
    }
}
