//! A cache in the process of a reader, in front of any status store.
//!
//! How long an answer is kept follows how often its user changes and is asked about ([`policy`]); who is kept, when not
//! all can be, follows how often each is asked about (W-TinyLFU, by `moka`). What was learned of a user stays while its
//! answer has ended, so that the next one is kept for the right time.
//!
//! A write or erasure through the cache makes its users' answers void before it returns, whatever became of it, and a
//! read that began before it fills in nothing. Of what other processes write a reader learns when its answers end:
//! after [`NearConfig::max_ttl`] at the latest.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use futures::future::{BoxFuture, FutureExt as _};
use herenow_protocol::record::Record;
use herenow_protocol::{UserKey, Version};
use moka::notification::RemovalCause;
use moka::sync::Cache;

use crate::error::at_most;
use crate::flights::{Flights, Found};
use crate::{BATCH, KeyRange, Page, StatusStore, StoreError, Written};

mod clock;
mod config;
mod counts;
mod entry;
mod policy;

pub use clock::NearClock;
use clock::System;
pub use config::NearConfig;
use counts::Counters;
pub use counts::NearCounts;
use entry::{Entry, Known, Now};
use policy::Policy;

/// A user that nobody asked about for this many of the longest lives is forgotten.
const FORGOTTEN_AFTER: u32 = 20;

/// A status store behind a cache in this process. Clones share both.
#[derive(Clone)]
pub struct Near {
    inner: Arc<Inner>,
}

struct Inner {
    store: Arc<dyn StatusStore>,
    clock: Box<dyn NearClock>,
    policy: Policy,
    kept: Cache<UserKey, Arc<Entry>>,
    flights: Flights,
    counters: Arc<Counters>,
}

impl fmt::Debug for Near {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Near").field("counts", &self.counts()).finish_non_exhaustive()
    }
}

impl Near {
    /// Puts a cache in front of a store.
    ///
    /// # Errors
    /// [`StoreError::Setting`] for a value that cannot be used.
    pub fn new(config: &NearConfig, store: Arc<dyn StatusStore>) -> Result<Self, StoreError> {
        Self::with_clock(config, store, Box::new(System::new()))
    }

    /// The same, by another clock than the system's.
    ///
    /// # Errors
    /// [`StoreError::Setting`] for a value that cannot be used.
    pub fn with_clock(
        config: &NearConfig,
        store: Arc<dyn StatusStore>,
        clock: Box<dyn NearClock>,
    ) -> Result<Self, StoreError> {
        config.check()?;
        let counters = Arc::new(Counters::default());
        let counted = Arc::clone(&counters);
        let kept = Cache::builder()
            .max_capacity(config.max_users)
            .time_to_idle(config.max_ttl * FORGOTTEN_AFTER)
            .eviction_listener(move |_, _, cause| {
                if cause == RemovalCause::Size {
                    counted.evicted.add(1);
                }
            })
            .build();
        let inner =
            Inner { store, clock, policy: config.policy(), kept, flights: Flights::default(), counters };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// What the cache did.
    #[must_use]
    pub fn counts(&self) -> NearCounts {
        self.inner.kept.run_pending_tasks();
        self.inner.counters.read(self.inner.kept.entry_count())
    }
}

impl Inner {
    fn now(&self) -> Now {
        Now { mono: self.clock.mono(), wall: self.clock.wall() }
    }

    async fn read(self: &Arc<Self>, keys: &[UserKey]) -> Result<Vec<Option<Record>>, StoreError> {
        let (mut answers, missing) = self.kept(keys);
        if !missing.is_empty() {
            let wanted: Vec<UserKey> = missing.iter().map(|(_, key)| *key).collect();
            let boarded = self.flights.board(&wanted, |number, own| Arc::clone(self).fly(number, own));
            self.counters.joined.add(boarded.joined);
            let landed = boarded.landed().await?;
            for (place, key) in missing {
                if let Some(answer) = answers.get_mut(place) {
                    *answer = landed.get(&key).cloned().flatten();
                }
            }
        }
        Ok(answers)
    }

    /// What is kept and good, in the order asked, and the places of the others. Counts.
    fn kept(&self, keys: &[UserKey]) -> (Vec<Option<Record>>, Vec<(usize, UserKey)>) {
        let now = self.clock.mono();
        let (mut missing, mut there, mut absent, mut expired) = (Vec::new(), 0, 0, 0);
        let mut answer = |(place, key): (usize, &UserKey)| {
            let kept = self.kept.get(key);
            if let Some(entry) = &kept {
                if entry.asked(now) {
                    let record = entry.known.record();
                    *if record.is_some() { &mut there } else { &mut absent } += 1;
                    return record.cloned();
                }
                expired += 1;
            }
            missing.push((place, *key));
            None
        };
        let answers = keys.iter().enumerate().map(&mut answer).collect();
        self.counters.hits.add(there);
        self.counters.absent_hits.add(absent);
        self.counters.expired.add(expired);
        self.counters.misses.add(missing.len() - expired);
        (answers, missing)
    }

    /// Reads users from the store for all who wait. It goes on when nobody waits any more.
    fn fly(
        self: Arc<Self>,
        number: u64,
        keys: Vec<UserKey>,
    ) -> BoxFuture<'static, Result<Found, StoreError>> {
        let task = tokio::spawn(async move {
            let _landing = Landing { flights: &self.flights, number, keys: &keys };
            let read = self.store.get_many(keys.clone()).await;
            match read {
                Ok(records) => Ok(self.fill(number, &keys, records)),
                Err(error) => {
                    self.counters.failures.add(1);
                    Err(error)
                }
            }
        });
        task.map(|ended| ended.unwrap_or_else(|error| Err(StoreError::Unavailable(error.to_string()))))
            .boxed()
    }

    /// Keeps what was read, but for users that were written meanwhile, and where something newer is known.
    fn fill(&self, number: u64, keys: &[UserKey], records: Vec<Option<Record>>) -> Found {
        let now = self.now();
        let mut found: HashMap<UserKey, Option<Record>> = keys.iter().copied().zip(records).collect();
        self.flights.for_current(number, keys, |key| {
            let Some(answer) = found.get_mut(&key) else { return };
            let read = answer.take();
            let entry = match self.kept.get(&key) {
                Some(before) => {
                    let (entry, kept_newer) = before.again(&self.policy, read, now);
                    self.counters.kept_newer.add(usize::from(kept_newer));
                    entry
                }
                None => Entry::first(&self.policy, Known::of(read), now),
            };
            *answer = entry.known.record().cloned();
            self.kept.insert(key, Arc::new(entry));
        });
        Arc::new(found)
    }

    /// Writes, and makes what is kept of these users void, whatever becomes of it.
    async fn write(
        &self,
        users: Vec<(UserKey, Known)>,
        store: BoxFuture<'_, Result<Written, StoreError>>,
    ) -> Result<Written, StoreError> {
        let mut writing = Writing { inner: self, users, is_done: false };
        let written = store.await?;
        writing.is_done = true;
        Ok(written)
    }
}

/// A read of the store: when it ends, however it does, nobody boards it any more.
struct Landing<'a> {
    flights: &'a Flights,
    number: u64,
    keys: &'a [UserKey],
}

impl Drop for Landing<'_> {
    fn drop(&mut self) {
        self.flights.land(self.number, self.keys);
    }
}

/// A write: when it ends, however it does, what is kept of its users is void.
struct Writing<'a> {
    inner: &'a Inner,
    users: Vec<(UserKey, Known)>,
    /// The store has it, or what is newer.
    is_done: bool,
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        let Inner { flights, kept, counters, .. } = self.inner;
        // First: what is being read now is filled in either before the answers are void, or never.
        flights.forget(self.users.iter().map(|(key, _)| *key));
        for (key, known) in self.users.drain(..) {
            // Who is not asked about here is not kept because it was written.
            let voided = kept.entry(key).and_compute_with(|entry| match entry {
                Some(entry) => moka::ops::compute::Op::Put(Arc::new(
                    entry.into_value().void(self.is_done.then_some(known)),
                )),
                None => moka::ops::compute::Op::Nop,
            });
            counters.voided.add(usize::from(voided.into_entry().is_some()));
        }
    }
}

impl StatusStore for Near {
    fn put_batch(&self, records: Vec<Record>) -> BoxFuture<'_, Result<Written, StoreError>> {
        let users = |record: &Record| (record.key, Known::Record(Box::new(record.clone())));
        async move {
            at_most(BATCH, records.len())?;
            let users = records.iter().map(users).collect();
            self.inner.write(users, self.inner.store.put_batch(records)).await
        }
        .boxed()
    }

    fn get_many(&self, keys: Vec<UserKey>) -> BoxFuture<'_, Result<Vec<Option<Record>>, StoreError>> {
        async move {
            at_most(BATCH, keys.len())?;
            self.inner.read(&keys).await
        }
        .boxed()
    }

    fn scan(&self, range: KeyRange, from: Option<UserKey>) -> BoxFuture<'_, Result<Page, StoreError>> {
        self.inner.store.scan(range, from)
    }

    fn erase(&self, users: Vec<(UserKey, Version)>) -> BoxFuture<'_, Result<Written, StoreError>> {
        async move {
            at_most(BATCH, users.len())?;
            let known = users.iter().map(|(key, version)| (*key, Known::Absent(*version))).collect();
            self.inner.write(known, self.inner.store.erase(users)).await
        }
        .boxed()
    }
}
