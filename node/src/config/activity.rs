//! The history of transitions, and who users are.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::check::ensure;
use super::{BusKind, Config, LoadError, Role, StoreKind};

const DAY: Duration = Duration::from_hours(24);
/// Fewest bytes of the stream: some messages of the longest must fit.
const LEAST_STREAM: u64 = 1024 * 1024;

/// The history of transitions: who came, went and changed when, and why.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Activity {
    /// Whether there is one; the same in every process. With `cluster.bus = "local"` it goes to the store and to
    /// PostgreSQL (`people`), as far as there are any; with `"nats"` to the stream `HERENOW_ACTIVITY`, and from there
    /// archivers write it. Default false.
    pub keep: bool,
    /// Most transitions that wait in a coordinator while they cannot be handed on; later ones are dropped and counted.
    /// At least 1. Default 100,000.
    pub max_waiting: usize,
    /// How long it is kept, in whole days as UTC has them: 1 to 3650 days. Default 30 days. In Cassandra
    /// `store.cassandra.activity_ttl` ends it too.
    #[serde(with = "herenow_protocol::duration")]
    pub retention: Duration,
    /// Most bytes of messages that wait in NATS for an archiver; read when the stream is first made. At least 1 MiB.
    /// Default 512 MiB.
    pub stream_bytes: u64,
    /// On how many servers of a NATS cluster the stream is kept: 1, 3 or 5; read when it is first made. Default 1.
    pub stream_replicas: usize,
}

impl Default for Activity {
    fn default() -> Self {
        Self {
            keep: false,
            max_waiting: 100_000,
            retention: 30 * DAY,
            stream_bytes: 512 * 1024 * 1024,
            stream_replicas: 1,
        }
    }
}

impl Config {
    pub(super) fn check_activity(&self) -> Result<(), LoadError> {
        let Activity { keep, max_waiting, retention, stream_bytes, stream_replicas } = self.activity;
        ensure(max_waiting > 0, "activity.max_waiting", "must be at least 1")?;
        let range = DAY..=3650 * DAY;
        ensure(range.contains(&retention), "activity.retention", "must be 1day to 3650days")?;
        ensure(stream_bytes >= LEAST_STREAM, "activity.stream_bytes", "must be at least 1048576")?;
        let replicas = matches!(stream_replicas, 1 | 3 | 5);
        ensure(replicas, "activity.stream_replicas", "must be 1, 3 or 5")?;
        if let Some(people) = &self.people {
            people.check().map_err(|error| LoadError::under("people", &error.to_string()))?;
        }
        let alone = self.cluster.bus == BusKind::Local;
        let archives = self.plays(Role::Archiver);
        ensure(!(archives && alone), "node.roles", "needs no \"archiver\" with cluster.bus = \"local\"")?;
        ensure(!archives || keep, "activity.keep", "must be true for an archiver")?;
        let somewhere = self.store.kind != StoreKind::Memory || self.people.is_some();
        let needed = archives || (alone && keep);
        let reason = "needs somewhere to keep the history: a store.kind other than \"memory\", or [people]";
        ensure(!needed || somewhere, "activity.keep", reason)
    }
}
