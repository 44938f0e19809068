//! The store that needs no server: an LSM tree in a directory of its own, by one process at a time.
//!
//! Every batch is one entry of a journal that is synced to the disk before the call returns, so a batch is there whole
//! or not at all, whatever moment the process or the machine dies at.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fjall::{Database, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch, PersistMode};
use futures::future::{BoxFuture, FutureExt as _};
use herenow_protocol::Placement;
use tokio::sync::Semaphore;

use crate::StoreError;

mod activity;
mod failure;
mod format;
mod status;

pub use format::FORMAT;

/// Bytes of blocks that are kept in memory.
const CACHE_BYTES: u64 = 64 * 1024 * 1024;
/// Bytes of new entries that are kept in memory before they are sorted into files; of each of the two tables.
const MEMTABLE_BYTES: u64 = 32 * 1024 * 1024;
/// Most bytes of journal: what has to be read again when the store is opened.
const JOURNAL_BYTES: u64 = 256 * 1024 * 1024;
/// Threads that sort and merge.
const WORKERS: usize = 2;
/// Calls at work at once. A disk that hangs holds so many threads, whatever callers that gave up call anew.
const CALLS: usize = 64;

/// A store in a directory. Clones share it.
#[derive(Clone)]
pub struct Embedded {
    inner: Arc<Inner>,
}

struct Inner {
    path: PathBuf,
    /// None after a write that failed: what the files then are is found by opening them anew.
    open: Mutex<Option<Tables>>,
    /// Held while versions are compared and written.
    writing: Mutex<()>,
    calls: Arc<Semaphore>,
}

/// The open files.
#[derive(Clone)]
struct Tables {
    database: Database,
    status: Keyspace,
    activity: Keyspace,
}

impl std::fmt::Debug for Embedded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Embedded").field("path", &self.inner.path).finish_non_exhaustive()
    }
}

impl Embedded {
    /// Opens the store in `path`, which is made if it is not there; nothing is written outside of it. Users are kept
    /// under keys of `placement`, so a store belongs to one cluster secret.
    ///
    /// # Errors
    /// Why it cannot be used: [`StoreError::NotWritable`], [`StoreError::NoSpace`], [`StoreError::Locked`],
    /// [`StoreError::Format`], [`StoreError::OtherSecret`], [`StoreError::Damaged`]. Each says what to do.
    pub async fn open(path: impl AsRef<Path>, placement: &Placement) -> Result<Self, StoreError> {
        let (path, mark) = (path.as_ref().to_owned(), placement.mark());
        run(path.clone(), move || {
            format::check(&path, mark)?;
            let tables = open_tables(&path)?;
            Ok(Self {
                inner: Arc::new(Inner {
                    path,
                    open: Mutex::new(Some(tables)),
                    writing: Mutex::default(),
                    calls: Arc::new(Semaphore::new(CALLS)),
                }),
            })
        })
        .await
    }

    /// Bytes that it takes on the disk now, as far as files have been sorted; without the journal.
    #[must_use]
    pub fn disk_bytes(&self) -> u64 {
        let open = lock(&self.inner.open);
        open.as_ref().map_or(0, |tables| tables.status.disk_space() + tables.activity.disk_space())
    }

    /// Does something with the tables on a thread that may wait.
    fn on_tables<T: Send + 'static>(
        &self,
        what: impl FnOnce(&Inner, &Tables) -> Result<T, StoreError> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, StoreError>> {
        let (inner, path) = (Arc::clone(&self.inner), self.inner.path.clone());
        async move {
            let permit = Arc::clone(&inner.calls).acquire_owned().await;
            let work = move || {
                let _held_to_the_end = permit;
                what(&inner, &inner.tables()?)
            };
            run(path, work).await
        }
        .boxed()
    }
}

impl Inner {
    /// The open tables; opened anew after a failure.
    fn tables(&self) -> Result<Tables, StoreError> {
        let mut open = lock(&self.open);
        if let Some(tables) = &*open {
            return Ok(tables.clone());
        }
        let tables = open_tables(&self.path)?;
        tracing::info!(path = %self.path.display(), "the store was opened anew");
        Ok(open.insert(tables).clone())
    }

    /// Writes a batch, synced. One that fails closes the tables: the engine takes no write after it.
    fn commit(&self, batch: OwnedWriteBatch) -> Result<(), StoreError> {
        batch.commit().map_err(|error| {
            *lock(&self.open) = None;
            failure::of(&self.path, &error)
        })
    }

    fn failed(&self, error: &fjall::Error) -> StoreError {
        failure::of(&self.path, error)
    }
}

impl Tables {
    fn batch(&self) -> OwnedWriteBatch {
        self.database.batch().durability(Some(PersistMode::SyncData))
    }
}

fn open_tables(path: &Path) -> Result<Tables, StoreError> {
    let table = || KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE_BYTES);
    let open = || {
        let database = Database::builder(path.join("tables"))
            .cache_size(CACHE_BYTES)
            .max_journaling_size(JOURNAL_BYTES)
            .worker_threads(WORKERS)
            .open()?;
        let (status, activity) = (database.keyspace("status", table)?, database.keyspace("activity", table)?);
        Ok(Tables { database, status, activity })
    };
    open().map_err(|error| failure::of(path, &error))
}

/// Runs what may wait for the disk. A panic in the engine, which damaged files may bring about, is an error here.
async fn run<T: Send + 'static>(
    path: PathBuf,
    what: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::task::spawn_blocking(what).await {
        Ok(outcome) => outcome,
        Err(error) => Err(StoreError::Damaged { path, reason: format!("the engine broke off: {error}") }),
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}
