//! What is kept beyond the life of a coordinator.

use std::path::PathBuf;
use std::time::Duration;

use herenow_coordinator_server::KeepConfig;
use herenow_store::{CassandraConfig, NearConfig, RedisConfig};
use serde::{Deserialize, Serialize};

use super::check::ensure;
use super::{BusKind, Config, LoadError};

/// Where claims, virtual sessions and last seen are kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StoreKind {
    /// In the coordinator only: a restart of the process forgets them.
    #[default]
    Memory,
    /// In a directory of this machine, without a server.
    Embedded,
    /// In Cassandra, for all coordinators of a deployment.
    Cassandra,
}

/// What is kept beyond the life of a coordinator.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Store {
    /// `memory`, `embedded` or `cassandra`. Default `memory`. With `cluster.bus = "nats"` not `embedded`: what one machine
    /// keeps is old when another has owned a partition meanwhile.
    pub kind: StoreKind,
    /// The directory of an embedded store, made where it is not there; nothing is written outside of it. No default.
    pub path: Option<PathBuf>,
    /// How old a change is at most when it is written: what a process that dies may lose of what it acknowledged, as long
    /// as a write takes less than half of this. 10 ms to 1 min. Default 1 s.
    #[serde(with = "herenow_protocol::duration")]
    pub interval: Duration,
    /// How long a new owner of a partition says nothing while it reads. 10 ms to 30 s. Default 2 s.
    #[serde(with = "herenow_protocol::duration")]
    pub load_timeout: Duration,
    /// How long one call of the store may take before it is made again. 100 ms to 5 min. Default 10 s.
    #[serde(with = "herenow_protocol::duration")]
    pub timeout: Duration,
    /// Most users that wait to be written, each with its last value. Default 1,000,000.
    pub max_waiting: usize,
    /// How to reach Cassandra; only with `kind = "cassandra"`. The same in every coordinator. A gateway reads there how users
    /// were while their owners are not heard: for that it needs the right to select alone.
    pub cassandra: CassandraConfig,
    /// A cache in Redis in front of the store, which coordinators and gateways share; not with `kind = "memory"`. Default:
    /// none.
    pub redis: Option<RedisConfig>,
    /// What a gateway keeps in its memory of what it has read there, for who is asked for again while owners are not heard;
    /// only with `kind = "cassandra"`. `max_users = 0`: nothing. Default: 100,000 users, each for 30 s at most.
    pub near: NearConfig,
}

impl Default for Store {
    fn default() -> Self {
        let KeepConfig { interval, load_timeout, timeout, max_waiting } = KeepConfig::default();
        let cassandra = CassandraConfig::default();
        let (kind, path, redis) = (StoreKind::Memory, None, None);
        let near = NearConfig::default();
        Self { kind, path, interval, load_timeout, timeout, max_waiting, cassandra, redis, near }
    }
}

impl Store {
    /// The coordinator's part of it.
    #[must_use]
    pub const fn keep(&self) -> KeepConfig {
        let Self { interval, load_timeout, timeout, max_waiting, .. } = *self;
        KeepConfig { interval, load_timeout, timeout, max_waiting }
    }
}

impl Store {
    /// What a gateway keeps in its memory; `None`: nothing.
    #[must_use]
    pub fn near(&self) -> Option<&NearConfig> {
        Some(&self.near).filter(|near| self.kind == StoreKind::Cassandra && near.max_users > 0)
    }
}

impl Config {
    pub(super) fn check_store(&self) -> Result<(), LoadError> {
        self.store.keep().check().map_err(|error| LoadError::under("store", &error))?;
        let embedded = self.store.kind == StoreKind::Embedded;
        let alone = self.cluster.bus == BusKind::Local;
        ensure(!embedded || alone, "store.kind", "must not be \"embedded\" with cluster.bus = \"nats\"")?;
        if self.store.kind == StoreKind::Cassandra {
            let checked = self.store.cassandra.check();
            checked.map_err(|error| LoadError::under("store.cassandra", &error.to_string()))?;
        } else {
            let unused = self.store.cassandra == CassandraConfig::default();
            ensure(unused, "store.cassandra", "is used only with store.kind = \"cassandra\"")?;
        }
        if let Some(near) = self.store.near() {
            near.check().map_err(|error| LoadError::under("store.near", &error.to_string()))?;
        } else if self.store.kind != StoreKind::Cassandra {
            let unused = self.store.near == NearConfig::default();
            ensure(unused, "store.near", "is used only with store.kind = \"cassandra\"")?;
        }
        if let Some(redis) = &self.store.redis {
            let behind = self.store.kind != StoreKind::Memory;
            ensure(behind, "store.redis", "needs a store behind it: store.kind must not be \"memory\"")?;
            redis.check().map_err(|error| LoadError::under("store.redis", &error.to_string()))?;
        }
        ensure(
            !embedded || self.store.path.is_some(),
            "store.path",
            "must be given with store.kind = \"embedded\"",
        )?;
        let unused = self.store.path.is_some() && !embedded;
        ensure(!unused, "store.path", "is used only with store.kind = \"embedded\"")
    }
}
