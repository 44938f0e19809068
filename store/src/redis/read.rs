//! Reading through the cache.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use futures::future::{BoxFuture, FutureExt as _};
use herenow_protocol::record::Record;
use herenow_protocol::{UserKey, Version};

use super::Inner;
use super::entries::Entries;
use crate::StoreError;
use crate::codec::read_record;
use crate::flights::Found;

impl Inner {
    /// The records of users, from the cache where it has them.
    pub(super) async fn read(
        self: &Arc<Self>,
        keys: &[UserKey],
    ) -> Result<HashMap<UserKey, Option<Record>>, StoreError> {
        let (believed, doubted) = self.debts.believed(keys);
        self.counters.bypassed.add(doubted.len());
        let mut found = HashMap::with_capacity(keys.len());
        let mut missing = doubted;
        match self.cached(&believed).await {
            Some(values) => {
                for (key, value) in believed.into_iter().zip(values) {
                    match value.and_then(|value| read_record(Path::new("cache"), key, &value).ok()) {
                        Some(record) => {
                            found.insert(key, record);
                        }
                        None => missing.push(key),
                    }
                }
            }
            None => missing.extend(believed),
        }
        if !missing.is_empty() {
            let boarded = self.flights.board(&missing, |number, own| Arc::clone(self).fly(number, own));
            self.counters.joined.add(boarded.joined);
            found.extend(boarded.landed().await?);
        }
        Ok(found)
    }

    /// What the cache has; `None`: it does not answer. Counts.
    async fn cached(&self, keys: &[UserKey]) -> Option<Vec<Option<Vec<u8>>>> {
        if keys.is_empty() {
            return Some(Vec::new());
        }
        let Ok(values) = self.cache.get(keys).await else {
            self.counters.errors.add(1);
            self.counters.bypassed.add(keys.len());
            return None;
        };
        let there = values.iter().flatten().count();
        let empty = values.iter().flatten().filter(|value| value.len() == crate::codec::VERSION).count();
        self.counters.hits.add(there - empty);
        self.counters.absent_hits.add(empty);
        self.counters.misses.add(keys.len() - there);
        Some(values)
    }

    /// Reads users from the store for all who wait, and fills the cache. It goes on when nobody waits any more.
    fn fly(
        self: Arc<Self>,
        number: u64,
        keys: Vec<UserKey>,
    ) -> BoxFuture<'static, Result<Found, StoreError>> {
        let task = tokio::spawn(async move {
            let read = self.store.get_many(keys.clone()).await;
            let read =
                read.map(|records| Arc::new(keys.iter().copied().zip(records).collect::<HashMap<_, _>>()));
            if let Ok(found) = &read {
                self.fill(number, &keys, found).await;
            }
            self.flights.land(number, &keys);
            read
        });
        task.map(|ended| ended.unwrap_or_else(|error| Err(StoreError::Unavailable(error.to_string()))))
            .boxed()
    }

    /// Puts into the cache what was read, but for users that were written meanwhile.
    async fn fill(&self, number: u64, keys: &[UserKey], found: &Found) {
        if self.cache.is_down() {
            return;
        }
        let current = self.flights.current(number, keys);
        let mut entries = Entries::with_capacity(current.len());
        for key in current {
            match found.get(&key) {
                Some(Some(record)) if entries.push(record).is_err() => return,
                Some(Some(_)) | None => {}
                Some(None) => entries.push_nothing(key, Version::default()),
            }
        }
        if !entries.users().is_empty() {
            self.tell(&entries).await;
        }
    }
}
