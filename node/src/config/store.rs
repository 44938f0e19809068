//! What is kept beyond the life of a coordinator.

use std::path::PathBuf;
use std::time::Duration;

use herenow_coordinator_server::KeepConfig;
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
}

/// What is kept beyond the life of a coordinator.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Store {
    /// `memory` or `embedded`. Default `memory`. With `cluster.bus = "nats"` only `memory`: what one machine keeps is old
    /// when another has owned a partition meanwhile.
    pub kind: StoreKind,
    /// The directory of an embedded store, made where it is not there; nothing is written outside of it. No default.
    pub path: Option<PathBuf>,
    /// How often what has changed is written: what a process that dies may lose. 10 ms to 1 min. Default 1 s.
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
}

impl Default for Store {
    fn default() -> Self {
        let KeepConfig { interval, load_timeout, timeout, max_waiting } = KeepConfig::default();
        Self { kind: StoreKind::Memory, path: None, interval, load_timeout, timeout, max_waiting }
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

impl Config {
    pub(super) fn check_store(&self) -> Result<(), LoadError> {
        self.store.keep().check().map_err(|error| LoadError::under("store", &error))?;
        let embedded = self.store.kind == StoreKind::Embedded;
        let alone = self.cluster.bus == BusKind::Local;
        ensure(!embedded || alone, "store.kind", "must be \"memory\" with cluster.bus = \"nats\"")?;
        ensure(
            !embedded || self.store.path.is_some(),
            "store.path",
            "must be given with store.kind = \"embedded\"",
        )?;
        let unused = self.store.path.is_some() && !embedded;
        ensure(!unused, "store.path", "is used only with store.kind = \"embedded\"")
    }
}
