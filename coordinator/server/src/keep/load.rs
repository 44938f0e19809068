//! Reads a partition, page by page, for as long as it takes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use herenow_coordinator_core::Input;
use herenow_protocol::{Epoch, Partition, UserKey};
use herenow_store::{KeyRange, Page, StatusStore, StoreError};
use tokio::sync::{Semaphore, mpsc};

use super::in_time;
use super::metrics::Metrics;

/// How long after a failure a page is asked for again.
const RETRY: Duration = Duration::from_millis(500);
/// Partitions that are read at once.
const AT_ONCE: usize = 4;

/// What reads of all partitions share.
pub(super) struct Reader {
    store: Arc<dyn StatusStore>,
    timeout: Duration,
    metrics: Metrics,
    pages: mpsc::Sender<Input>,
    permits: Semaphore,
    failing: AtomicBool,
}

/// One partition to be read.
pub(super) struct Load {
    pub(super) range: KeyRange,
    pub(super) partition: Partition,
    pub(super) epoch: Epoch,
    pub(super) attempt: u32,
}

impl Reader {
    pub(super) fn new(
        store: Arc<dyn StatusStore>,
        timeout: Duration,
        metrics: Metrics,
        pages: mpsc::Sender<Input>,
    ) -> Self {
        let permits = Semaphore::new(AT_ONCE);
        Self { store, timeout, metrics, pages, permits, failing: AtomicBool::new(false) }
    }

    /// Hands in page after page. The loop takes them when it can, and that is waited for.
    pub(super) async fn read(self: Arc<Self>, load: Load) {
        let Load { range, partition, epoch, attempt } = load;
        let mut from = None;
        loop {
            match self.page(range, from).await {
                Ok(page) => {
                    self.recovered(page.records.len());
                    from = page.next;
                    let (records, newest, last) = (page.records, page.newest, from.is_none());
                    let input = Input::Restored { partition, epoch, attempt, records, newest, last };
                    if self.pages.send(input).await.is_err() || last {
                        return;
                    }
                }
                Err(error) => {
                    self.failed(&error);
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    /// A permit is held for one page, so that a store that fails for one partition leaves the others their turn.
    async fn page(&self, range: KeyRange, from: Option<UserKey>) -> Result<Page, StoreError> {
        let _permit = self.permits.acquire().await;
        in_time(self.timeout, self.store.scan(range, from)).await
    }

    /// Says it once, and not for every partition that waits.
    fn failed(&self, error: &StoreError) {
        self.metrics.failed("scan", error);
        if !self.failing.swap(true, Ordering::Relaxed) {
            tracing::error!(%error, "what is kept cannot be read, trying again");
        }
    }

    fn recovered(&self, records: usize) {
        self.metrics.read(records);
        if self.failing.swap(false, Ordering::Relaxed) {
            tracing::info!("what is kept can be read again");
        }
    }
}
