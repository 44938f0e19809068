//! What outlives a coordinator: written behind its back, read when it claims. Nothing here is waited for by the loop.

mod config;
mod load;
mod metrics;
mod waiting;
mod write;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use herenow_coordinator_core::Input;
use herenow_protocol::record::Record;
use herenow_protocol::{Epoch, Partition, Placement, UserKey, Version};
use herenow_store::{StatusStore, StoreError};
use prometheus_client::registry::Registry;
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::timeout;

pub use config::KeepConfig;
use load::{Load, Reader};
use metrics::Metrics;
use waiting::Wish;
use write::Writer;

/// Pages that were read and wait for the loop.
const PAGES: usize = 4;

/// A store for a coordinator.
#[derive(Clone)]
pub struct Keep {
    /// Where records are.
    pub store: Arc<dyn StatusStore>,
    /// How they are written and read.
    pub config: KeepConfig,
}

impl std::fmt::Debug for Keep {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keep").field("config", &self.config).finish_non_exhaustive()
    }
}

/// A coordinator's door to its store.
pub(crate) struct Keeper {
    placement: Placement,
    /// None once it is closed.
    writer: Option<Writer>,
    reader: Arc<Reader>,
    loads: BTreeMap<Partition, AbortHandle>,
    /// Until what was said of partitions that were let go is written.
    parting: Option<oneshot::Receiver<()>>,
}

impl Keeper {
    /// Begins to write; says where what is read arrives.
    pub(crate) fn start(
        keep: Keep,
        placement: Placement,
        registry: &mut Registry,
    ) -> (Self, mpsc::Receiver<Input>) {
        let metrics = Metrics::register(registry);
        let (pages, arriving) = mpsc::channel(PAGES);
        let writer = Writer::start(Arc::clone(&keep.store), keep.config, metrics.clone());
        let reader = Arc::new(Reader::new(keep.store, keep.config.timeout, metrics, pages));
        (Self { placement, writer: Some(writer), reader, loads: BTreeMap::new(), parting: None }, arriving)
    }

    /// Keeps a record, soon.
    pub(crate) fn keep(&self, record: Box<Record>) {
        self.wish(record.key, Wish::Keep(record));
    }

    /// Keeps nothing of a user, soon.
    pub(crate) fn forget(&self, key: UserKey, written: Version) {
        self.wish(key, Wish::Forget(written));
    }

    fn wish(&self, key: UserKey, wish: Wish) {
        if let Some(writer) = &self.writer {
            writer.wish(key, wish);
        }
    }

    /// Reads a partition. What was being read of it is not wanted any more.
    pub(crate) fn load(&mut self, partition: Partition, epoch: Epoch, attempt: u32) {
        let load = Load { range: self.placement.keys_of(partition), partition, epoch, attempt };
        let task = tokio::spawn(Arc::clone(&self.reader).read(load));
        if let Some(before) = self.loads.insert(partition, task.abort_handle()) {
            before.abort();
        }
    }

    /// The partition is another's: the next owner is to find what this one has said.
    pub(crate) fn let_go(&mut self, partition: Partition) {
        if let Some(load) = self.loads.remove(&partition) {
            load.abort();
        }
        self.parting = self.writer.as_ref().map(Writer::flush);
    }

    /// Where partitions were let go since this was asked last: until what was said of them is written. That they are free
    /// is told after it.
    pub(crate) const fn parting(&mut self) -> Option<oneshot::Receiver<()>> {
        self.parting.take()
    }

    /// Writes what waits, for as long as that may take at the end, and stops.
    pub(crate) async fn close(mut self) {
        if let Some(writer) = self.writer.take() {
            writer.close().await;
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        for load in self.loads.values() {
            load.abort();
        }
    }
}

/// A call of the store that does not answer has failed.
async fn in_time<T>(
    limit: Duration,
    call: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    let late = || Err(StoreError::Unavailable(format!("no answer for {limit:?}")));
    timeout(limit, call).await.unwrap_or_else(|_| late())
}
