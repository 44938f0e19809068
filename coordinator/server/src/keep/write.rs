//! Write-behind: the last value of each user that changed, written in batches every interval.
//!
//! A store that is away costs memory for one value per user that changes meanwhile, up to a limit, and nothing else.
//! What could not be written is written later, unless something newer of that user has come.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use herenow_protocol::record::Record;
use herenow_protocol::{UserKey, Version};
use herenow_store::{BATCH, StatusStore, StoreError, Written};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::config::KeepConfig;
use super::in_time;
use super::metrics::Metrics;
use crate::clock::Clock;

/// How long what waits at the end may take to be written.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);

/// What is to become of a user's record.
pub(super) enum Wish {
    Keep(Box<Record>),
    Forget(Version),
}

impl Wish {
    const fn written(&self) -> Version {
        match self {
            Self::Keep(record) => record.written,
            Self::Forget(version) => *version,
        }
    }
}

type Wishes = HashMap<UserKey, Wish>;

/// Drops the change of somebody else for an erasure.
fn make_room(users: &mut Wishes, wish: &Wish) -> bool {
    if matches!(wish, Wish::Keep(_)) {
        return false;
    }
    let change = users.iter().find(|(_, other)| matches!(other, Wish::Keep(_))).map(|(key, _)| *key);
    change.is_some_and(|key| users.remove(&key).is_some())
}

struct Waiting {
    users: Mutex<Wishes>,
    most: usize,
    hurry: Notify,
    close: Notify,
    /// Who wants to know when all that waits now is written.
    flushes: Mutex<Vec<oneshot::Sender<()>>>,
}

/// Takes wishes at once, and has them carried out by a task of its own. Dropping it drops what waits, as a crash would.
pub(super) struct Writer {
    waiting: Arc<Waiting>,
    metrics: Metrics,
    task: Option<JoinHandle<()>>,
}

impl Writer {
    pub(super) fn start(store: Arc<dyn StatusStore>, config: KeepConfig, metrics: Metrics) -> Self {
        let waiting = Arc::new(Waiting {
            users: Mutex::default(),
            most: config.max_waiting,
            hurry: Notify::new(),
            close: Notify::new(),
            flushes: Mutex::default(),
        });
        let work = Work {
            store,
            config,
            waiting: Arc::clone(&waiting),
            metrics: metrics.clone(),
            clock: Clock::start(),
            failing: false,
        };
        Self { waiting, metrics, task: Some(tokio::spawn(work.run())) }
    }

    /// Takes a wish, in place of an earlier one about the same user. Where there is no room, a change is not kept; for
    /// somebody who is to be forgotten there is always room, as long as changes of others wait.
    pub(super) fn wish(&self, key: UserKey, wish: Wish) {
        let mut users = self.waiting.users();
        if users.len() >= self.waiting.most && !users.contains_key(&key) {
            self.metrics.dropped();
            if !make_room(&mut users, &wish) {
                return;
            }
        }
        users.insert(key, wish);
    }

    /// Writes what waits now, rather than at the end of the interval. Says when it is written; where it could not be,
    /// that ends without a word.
    pub(super) fn flush(&self) -> oneshot::Receiver<()> {
        let (done, written) = oneshot::channel();
        let mut flushes = lock(&self.waiting.flushes);
        flushes.retain(|flush| !flush.is_closed());
        flushes.push(done);
        self.waiting.hurry.notify_one();
        written
    }

    /// Writes what waits, and stops.
    pub(super) async fn close(mut self) {
        self.waiting.close.notify_one();
        let Some(mut task) = self.task.take() else { return };
        if timeout(CLOSE_LIMIT, &mut task).await.is_err() {
            task.abort();
            let left = self.waiting.users().len();
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

impl Waiting {
    fn users(&self) -> MutexGuard<'_, Wishes> {
        lock(&self.users)
    }

    /// Some of what waits.
    fn take(&self) -> Vec<(UserKey, Wish)> {
        let mut users = self.users();
        if users.len() <= BATCH {
            return users.drain().collect();
        }
        let some: Vec<UserKey> = users.keys().take(BATCH).copied().collect();
        some.into_iter().filter_map(|key| users.remove_entry(&key)).collect()
    }

    /// Takes back what could not be written. What has come since is newer. These users were counted already, so there
    /// is room for them.
    fn put_back(&self, wishes: Vec<(UserKey, Wish)>) {
        let mut users = self.users();
        for (key, wish) in wishes {
            users.entry(key).or_insert(wish);
        }
    }
}

/// The task.
struct Work {
    store: Arc<dyn StatusStore>,
    config: KeepConfig,
    waiting: Arc<Waiting>,
    metrics: Metrics,
    clock: Clock,
    failing: bool,
}

impl Work {
    async fn run(mut self) {
        let waiting = Arc::clone(&self.waiting);
        loop {
            let last = tokio::select! {
                () = waiting.close.notified() => true,
                () = waiting.hurry.notified() => false,
                () = tokio::time::sleep(self.config.interval) => false,
            };
            // Whoever asks from now on has its wishes written by the next turn.
            let flushes = std::mem::take(&mut *lock(&waiting.flushes));
            if self.write_all().await {
                for flush in flushes {
                    let _ = flush.send(());
                }
            }
            let left = waiting.users().len();
            self.metrics.waiting(left);
            if last {
                if left > 0 {
                    tracing::error!(left, "the last changes could not be kept");
                }
                return;
            }
        }
    }

    /// Writes until nothing waits, or the store fails; whether it did not.
    async fn write_all(&mut self) -> bool {
        loop {
            let wishes = self.waiting.take();
            if wishes.is_empty() {
                return true;
            }
            let began = self.clock.elapsed();
            let outcome = self.write(&wishes).await;
            self.metrics.took(self.clock.elapsed().saturating_sub(began));
            match outcome {
                Ok(()) => self.recovered(),
                Err((call, error)) => {
                    self.waiting.put_back(wishes);
                    self.failed(call, &error);
                    return false;
                }
            }
        }
    }

    async fn write(&self, wishes: &[(UserKey, Wish)]) -> Result<(), (&'static str, StoreError)> {
        let kept = wishes.iter().filter_map(|(_, wish)| match wish {
            Wish::Keep(record) => Some((**record).clone()),
            Wish::Forget(_) => None,
        });
        let forgotten = wishes.iter().filter_map(|(key, wish)| match wish {
            Wish::Keep(_) => None,
            Wish::Forget(_) => Some((*key, wish.written())),
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
        if !std::mem::replace(&mut self.failing, true) {
            tracing::error!(%error, "changes cannot be kept; the last of each user waits");
        }
    }

    fn recovered(&mut self) {
        if std::mem::take(&mut self.failing) {
            tracing::info!("changes are kept again");
        }
    }
}
