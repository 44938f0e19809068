//! A cache that processes share, in front of a status store.
//!
//! The store is always right; the cache saves asking it. Reads ask the cache first and fill it with what it did not
//! have; writes go to the store and then to the cache. A script in the server keeps, of two entries of a user, the
//! newer, so that whoever comes late changes nothing. A user whose entry may be old, as far as this process knows, is
//! read from the store ([`debts`]); an entry ends by itself, so that what this process cannot know is bounded too.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt as _};
use herenow_protocol::record::Record;
use herenow_protocol::{UserKey, Version};

use crate::error::at_most;
use crate::flights::Flights;
use crate::{BATCH, KeyRange, Page, StatusStore, StoreError, Written};

mod breaker;
mod cache;
mod config;
mod counts;
mod debts;
mod entries;
mod life;
mod pay;
mod read;

use cache::Cache;
pub use config::RedisConfig;
pub use counts::CacheCounts;
use counts::Counters;
use debts::Debts;
use entries::Entries;
use life::Life;

/// A status store behind a cache in Redis. Clones share both.
#[derive(Clone)]
pub struct Cached {
    inner: Arc<Inner>,
}

struct Inner {
    store: Arc<dyn StatusStore>,
    cache: Cache,
    life: Life,
    retry_after: Duration,
    debts: Debts,
    /// Whether somebody pays them.
    paying: AtomicBool,
    flights: Flights,
    counters: Counters,
}

impl fmt::Debug for Cached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cached").field("counts", &self.counts()).finish_non_exhaustive()
    }
}

impl Cached {
    /// Puts a cache in front of a store. A server that is down is no error: until it is up, the store is asked.
    ///
    /// # Errors
    /// [`StoreError::Setting`] for a value that cannot be used; [`StoreError::Denied`] when the server does not let
    /// this user in, or not do what is needed.
    pub async fn open(config: &RedisConfig, store: Arc<dyn StatusStore>) -> Result<Self, StoreError> {
        let cache = Cache::new(config).await?;
        cache.greet().await?;
        let inner = Inner {
            store,
            cache,
            life: Life { whole: config.ttl, absent: config.absent_ttl },
            retry_after: config.retry_after,
            debts: Debts::new(config.max_owed),
            paying: AtomicBool::new(false),
            flights: Flights::default(),
            counters: Counters::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// What the cache did.
    #[must_use]
    pub fn counts(&self) -> CacheCounts {
        let owed = u64::try_from(self.inner.debts.owed()).unwrap_or(u64::MAX);
        self.inner.counters.read(owed)
    }

    /// Whether the server failed and is left alone.
    #[must_use]
    pub fn is_down(&self) -> bool {
        self.inner.cache.is_down()
    }
}

impl Inner {
    /// Writes to the store and then tells the cache. Whatever happens on the way, users whose entries may be old now
    /// are owed.
    async fn write(
        self: &Arc<Self>,
        entries: Entries,
        store: BoxFuture<'_, Result<Written, StoreError>>,
    ) -> Result<Written, StoreError> {
        let writing = Owing { writing: Some(self.debts.write(entries.users().to_vec())), inner: self };
        let written = store.await?;
        self.flights.forget(entries.users().iter().map(|(key, _)| *key));
        if self.tell(&entries).await {
            writing.settle();
        }
        Ok(written)
    }

    /// Tells the cache. Returns whether it knows.
    async fn tell(&self, entries: &Entries) -> bool {
        let count = entries.users().len();
        match self.cache.put(entries, self.life).await {
            Ok(written) => {
                self.counters.written.add(written);
                self.counters.older.add(count - written.min(count));
                true
            }
            Err(cache::Unreachable) => {
                self.counters.errors.add(1);
                false
            }
        }
    }
}

/// Sees to it that what is owed is paid.
struct Owing<'a> {
    writing: Option<debts::Writing<'a>>,
    inner: &'a Arc<Inner>,
}

impl Owing<'_> {
    fn settle(mut self) {
        if let Some(writing) = self.writing.take() {
            writing.settle();
        }
    }
}

impl Drop for Owing<'_> {
    fn drop(&mut self) {
        if let Some(writing) = self.writing.take() {
            drop(writing);
            pay::begin(self.inner);
        }
    }
}

impl StatusStore for Cached {
    fn put_batch(&self, records: Vec<Record>) -> BoxFuture<'_, Result<Written, StoreError>> {
        async move {
            at_most(BATCH, records.len())?;
            let entries = Entries::of_records(&records)?;
            self.inner.write(entries, self.inner.store.put_batch(records)).await
        }
        .boxed()
    }

    fn get_many(&self, keys: Vec<UserKey>) -> BoxFuture<'_, Result<Vec<Option<Record>>, StoreError>> {
        async move {
            at_most(BATCH, keys.len())?;
            let found: HashMap<UserKey, Option<Record>> = self.inner.read(&keys).await?;
            Ok(keys.iter().map(|key| found.get(key).cloned().flatten()).collect())
        }
        .boxed()
    }

    fn scan(&self, range: KeyRange, from: Option<UserKey>) -> BoxFuture<'_, Result<Page, StoreError>> {
        self.inner.store.scan(range, from)
    }

    fn erase(&self, users: Vec<(UserKey, Version)>) -> BoxFuture<'_, Result<Written, StoreError>> {
        async move {
            at_most(BATCH, users.len())?;
            let entries = Entries::of_erased(&users);
            self.inner.write(entries, self.inner.store.erase(users)).await
        }
        .boxed()
    }
}
