//! Write-behind: the last value of each user that changed, written in batches before any is older than the interval.
//!
//! A store that is away costs memory for one value per user that changes meanwhile, up to a limit, and nothing else.
//! What could not be written is written later, unless something newer of that user has come.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use herenow_coordinator_core::WriteBehind;
use herenow_protocol::{MonoTime, UserKey};
use herenow_store::{BATCH, StatusStore, StoreError, Written};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::config::KeepConfig;
use super::in_time;
use super::metrics::Metrics;
use super::waiting::{Taken, Taking, Waiting, Wish};
use crate::clock::Clock;

/// How long what waits at the end may take to be written.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);

/// What the loop and the task share.
struct Shared {
    waiting: Mutex<Waiting>,
    /// Somebody waits where nobody did.
    first: Notify,
    hurry: Notify,
    close: Notify,
    /// Who wants to know when all that waits now is written.
    flushes: Mutex<Vec<oneshot::Sender<()>>>,
}

/// Takes wishes at once, and has them carried out by a task of its own. Dropping it drops what waits, as a crash would.
pub(super) struct Writer {
    shared: Arc<Shared>,
    /// Most users that wait.
    most: usize,
    clock: Clock,
    metrics: Metrics,
    task: Option<JoinHandle<()>>,
}

impl Writer {
    pub(super) fn start(store: Arc<dyn StatusStore>, config: KeepConfig, metrics: Metrics) -> Self {
        let shared = Arc::new(Shared {
            waiting: Mutex::default(),
            first: Notify::new(),
            hurry: Notify::new(),
            close: Notify::new(),
            flushes: Mutex::default(),
        });
        let clock = Clock::start();
        let work = Work {
            store,
            config,
            shared: Arc::clone(&shared),
            metrics: metrics.clone(),
            clock,
            pace: WriteBehind::new(config.interval),
            failed_at: None,
        };
        Self { shared, most: config.max_waiting, clock, metrics, task: Some(tokio::spawn(work.run())) }
    }

    /// Takes a wish, in place of an earlier one about the same user.
    pub(super) fn wish(&self, key: UserKey, wish: Wish) {
        let mut waiting = self.shared.waiting();
        let nobody = waiting.oldest().is_none();
        match waiting.wish(key, wish, self.most, self.clock.now().mono) {
            Taking::Taken => {}
            Taking::InPlace | Taking::Dropped => self.metrics.dropped(),
        }
        if nobody {
            self.shared.first.notify_one();
        }
    }

    /// Writes what waits now, rather than when it is due. Says when it is written; where it could not be, that ends
    /// without a word.
    pub(super) fn flush(&self) -> oneshot::Receiver<()> {
        let (done, written) = oneshot::channel();
        let mut flushes = lock(&self.shared.flushes);
        flushes.retain(|flush| !flush.is_closed());
        flushes.push(done);
        self.shared.hurry.notify_one();
        written
    }

    /// Writes what waits, and stops.
    pub(super) async fn close(mut self) {
        self.shared.close.notify_one();
        let Some(mut task) = self.task.take() else { return };
        if timeout(CLOSE_LIMIT, &mut task).await.is_err() {
            task.abort();
            let left = self.shared.waiting().len();
            tracing::error!(left, limit = ?CLOSE_LIMIT, "the last changes could not be kept in time");
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        lock(&self.waiting)
    }
}

/// The task.
struct Work {
    store: Arc<dyn StatusStore>,
    config: KeepConfig,
    shared: Arc<Shared>,
    metrics: Metrics,
    clock: Clock,
    pace: WriteBehind,
    /// When the store last failed, if it has not answered since.
    failed_at: Option<MonoTime>,
}

impl Work {
    async fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        loop {
            let due = self.due();
            let last = tokio::select! {
                () = shared.close.notified() => true,
                () = shared.hurry.notified() => false,
                () = self.until(due) => false,
                // When something is due is to be asked anew.
                () = shared.first.notified() => continue,
            };
            // Whoever asks from now on has its wishes written by the next turn.
            let flushes = std::mem::take(&mut *lock(&shared.flushes));
            let written = self.write_all(due).await;
            if written {
                for flush in flushes {
                    let _ = flush.send(());
                }
            }
            let left = shared.waiting().len();
            self.metrics.waiting(left);
            if last {
                if left > 0 {
                    tracing::error!(left, "the last changes could not be kept");
                }
                return;
            }
        }
    }

    /// When what waits is to be written. After a failure the store is left alone for an interval.
    fn due(&self) -> Option<MonoTime> {
        let due = self.pace.due(self.shared.waiting().oldest()?);
        Some(self.failed_at.map_or(due, |failed| due.max(failed.after(self.config.interval))))
    }

    async fn until(&self, due: Option<MonoTime>) {
        match due.and_then(|due| self.clock.instant(due)) {
            Some(due) => tokio::time::sleep_until(due).await,
            None => std::future::pending().await,
        }
    }

    /// Writes all that waits now, or some of it until the store fails; whether it did not. It was due at `due`.
    async fn write_all(&mut self, due: Option<MonoTime>) -> bool {
        let began = self.clock.now().mono;
        let late = due.map(|due| began.since(due)).unwrap_or_default();
        let mut wrote = false;
        loop {
            let taken = self.shared.waiting().take(BATCH, began);
            let Some(oldest) = taken.iter().map(Taken::since).min() else { break };
            if let Err((call, error)) = self.write(&taken).await {
                self.shared.waiting().put_back(taken);
                self.failed(call, &error);
                return false;
            }
            self.recovered();
            self.metrics.age(self.clock.now().mono.since(oldest));
            wrote = true;
        }
        if wrote {
            self.pace.wrote(late + self.clock.now().mono.since(began));
        }
        true
    }

    /// One batch.
    async fn write(&self, taken: &[Taken]) -> Result<(), (&'static str, StoreError)> {
        let began = self.clock.elapsed();
        let outcome = self.put_and_erase(taken).await;
        self.metrics.took(self.clock.elapsed().saturating_sub(began));
        outcome
    }

    async fn put_and_erase(&self, taken: &[Taken]) -> Result<(), (&'static str, StoreError)> {
        let kept = taken.iter().filter_map(|taken| match &taken.wish {
            Wish::Keep(record) => Some((**record).clone()),
            Wish::Forget(_) => None,
        });
        let forgotten = taken.iter().filter_map(|taken| match taken.wish {
            Wish::Keep(_) => None,
            Wish::Forget(version) => Some((taken.key, version)),
        });
        let (kept, forgotten): (Vec<_>, Vec<_>) = (kept.collect(), forgotten.collect());
        if !kept.is_empty() {
            self.call("put", self.store.put_batch(kept)).await?;
        }
        if !forgotten.is_empty() {
            self.call("erase", self.store.erase(forgotten)).await?;
        }
        Ok(())
    }

    async fn call(
        &self,
        name: &'static str,
        call: impl Future<Output = Result<Written, StoreError>>,
    ) -> Result<(), (&'static str, StoreError)> {
        let written = in_time(self.config.timeout, call).await;
        written.map(|written| self.metrics.written(written)).map_err(|error| (name, error))
    }

    fn failed(&mut self, call: &'static str, error: &StoreError) {
        self.metrics.failed(call, error);
        if self.failed_at.replace(self.clock.now().mono).is_none() {
            tracing::error!(%error, "changes cannot be kept; the last of each user waits");
        }
    }

    fn recovered(&mut self) {
        if self.failed_at.take().is_some() {
            tracing::info!("changes are kept again");
        }
    }
}

#[cfg(test)]
mod tests;
