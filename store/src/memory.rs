//! Stores in memory, for tests and simulations. Clones share what they keep, as clients of one server do.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::future::{BoxFuture, FutureExt as _, ready};
use herenow_protocol::record::Record;
use herenow_protocol::{UserKey, Version, WallTime};

use crate::activity::day;
use crate::error::at_most;
use crate::{
    ActivityLog, ActivityRecord, BATCH, KeyRange, PAGE, Page, Span, StatusStore, StoreError, Written,
};

/// What there is of a user.
#[derive(Clone, Debug)]
enum Kept {
    Record(Box<Record>),
    Erased(Version),
}

impl Kept {
    const fn written(&self) -> Version {
        match self {
            Self::Record(record) => record.written,
            Self::Erased(version) => *version,
        }
    }

    fn record(&self) -> Option<&Record> {
        match self {
            Self::Record(record) => Some(record),
            Self::Erased(_) => None,
        }
    }
}

/// A status store in memory.
#[derive(Clone, Debug)]
pub struct MemoryStore {
    most: usize,
    kept: Arc<Mutex<BTreeMap<UserKey, Kept>>>,
}

impl MemoryStore {
    /// Keeps at most so many users, those that were erased among them; a write over that fails with
    /// [`StoreError::Full`].
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { most, kept: Arc::default() }
    }

    fn kept(&self) -> MutexGuard<'_, BTreeMap<UserKey, Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, all: impl ExactSizeIterator<Item = (UserKey, Kept)>) -> Result<Written, StoreError> {
        at_most(BATCH, all.len())?;
        let mut kept = self.kept();
        let mut written = Written::default();
        for (key, new) in all {
            let before = kept.get(&key).map(Kept::written);
            if before.is_none() && kept.len() >= self.most {
                return Err(StoreError::Full(self.most));
            }
            if before.is_none_or(|before| new.written() > before) {
                kept.insert(key, new);
                written.stored += 1;
            } else {
                written.older += 1;
            }
        }
        Ok(written)
    }

    fn page(&self, (first, last): KeyRange, from: Option<UserKey>) -> Page {
        let first = from.map_or(first, |from| from.max(first));
        if first > last {
            return Page::default();
        }
        let kept = self.kept();
        let mut page = Page::default();
        for (key, kept) in kept.range(first..=last) {
            if page.records.len() == PAGE {
                page.next = Some(*key);
                break;
            }
            page.newest = page.newest.max(kept.written().epoch);
            page.records.extend(kept.record().cloned());
        }
        page
    }
}

impl StatusStore for MemoryStore {
    fn put_batch(&self, records: Vec<Record>) -> BoxFuture<'_, Result<Written, StoreError>> {
        let all = records.into_iter().map(|record| (record.key, Kept::Record(Box::new(record))));
        ready(self.write(all)).boxed()
    }

    fn get_many(&self, keys: Vec<UserKey>) -> BoxFuture<'_, Result<Vec<Option<Record>>, StoreError>> {
        let kept = self.kept();
        let record = |key: &UserKey| kept.get(key).and_then(Kept::record).cloned();
        ready(at_most(BATCH, keys.len()).map(|()| keys.iter().map(record).collect())).boxed()
    }

    fn scan(&self, range: KeyRange, from: Option<UserKey>) -> BoxFuture<'_, Result<Page, StoreError>> {
        ready(Ok(self.page(range, from))).boxed()
    }

    fn erase(&self, users: Vec<(UserKey, Version)>) -> BoxFuture<'_, Result<Written, StoreError>> {
        ready(self.write(users.into_iter().map(|(key, version)| (key, Kept::Erased(version))))).boxed()
    }
}

type Entries = BTreeMap<(UserKey, WallTime, Version), ActivityRecord>;

/// A history in memory.
#[derive(Clone, Debug)]
pub struct MemoryLog {
    most: usize,
    entries: Arc<Mutex<Entries>>,
}

impl MemoryLog {
    /// Keeps at most so many entries; adding one over that fails with [`StoreError::Full`].
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { most, entries: Arc::default() }
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn append(&self, new: Vec<ActivityRecord>) -> Result<(), StoreError> {
        at_most(BATCH, new.len())?;
        let mut entries = self.entries();
        for entry in new {
            let name = (entry.key, entry.at, entry.version);
            if entries.len() >= self.most && !entries.contains_key(&name) {
                return Err(StoreError::Full(self.most));
            }
            entries.insert(name, entry);
        }
        Ok(())
    }
}

impl ActivityLog for MemoryLog {
    fn append_batch(&self, entries: Vec<ActivityRecord>) -> BoxFuture<'_, Result<(), StoreError>> {
        ready(self.append(entries)).boxed()
    }

    fn query(&self, key: UserKey, span: Span) -> BoxFuture<'_, Result<Vec<ActivityRecord>, StoreError>> {
        let entries = self.entries();
        let first = (key, span.from, Version::default());
        let of_user = entries.range(first..).map(|(_, entry)| entry).take_while(|entry| entry.key == key);
        let found = of_user.take_while(|entry| entry.at < span.to).take(PAGE).cloned().collect();
        ready(Ok(found)).boxed()
    }

    fn erase(&self, key: UserKey) -> BoxFuture<'_, Result<(), StoreError>> {
        self.entries().retain(|(of, _, _), _| *of != key);
        ready(Ok(())).boxed()
    }

    fn expire(&self, before: WallTime) -> BoxFuture<'_, Result<(), StoreError>> {
        self.entries().retain(|(_, at, _), _| day(*at) >= day(before));
        ready(Ok(())).boxed()
    }
}
