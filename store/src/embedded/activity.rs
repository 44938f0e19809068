//! The table of the history. Keys begin with the day, so that days that are over lie together.

use futures::future::BoxFuture;
use herenow_protocol::{UserKey, WallTime};

use super::{Embedded, Inner, Tables, lock};
use crate::activity::day;
use crate::codec::{day_of_user, read_day, read_entry, write_entry};
use crate::error::at_most;
use crate::{ActivityLog, ActivityRecord, BATCH, PAGE, Span, StoreError};

impl ActivityLog for Embedded {
    fn append_batch(&self, entries: Vec<ActivityRecord>) -> BoxFuture<'_, Result<(), StoreError>> {
        self.on_tables(move |inner, tables| {
            at_most(BATCH, entries.len())?;
            let mut batch = tables.batch();
            for entry in &entries {
                let (key, value) = write_entry(entry)?;
                batch.insert(&tables.activity, key, value);
            }
            inner.commit(batch)
        })
    }

    fn query(&self, key: UserKey, span: Span) -> BoxFuture<'_, Result<Vec<ActivityRecord>, StoreError>> {
        self.on_tables(move |inner, tables| inner.query(tables, key, span))
    }

    fn erase(&self, key: UserKey) -> BoxFuture<'_, Result<(), StoreError>> {
        self.on_tables(move |inner, tables| {
            let mut next = inner.next_day(tables, 0)?;
            while let Some(day) = next {
                inner.remove(tables, &day_of_user(day, key))?;
                next = day.checked_add(1).map_or(Ok(None), |day| inner.next_day(tables, day))?;
            }
            Ok(())
        })
    }

    fn expire(&self, before: WallTime) -> BoxFuture<'_, Result<(), StoreError>> {
        self.on_tables(move |inner, tables| {
            while let Some(oldest) = inner.next_day(tables, 0)?.filter(|oldest| *oldest < day(before)) {
                inner.remove(tables, &oldest.to_be_bytes())?;
            }
            Ok(())
        })
    }
}

impl Inner {
    /// The first day, from this one on, that has an entry of anybody.
    fn next_day(&self, tables: &Tables, from: u32) -> Result<Option<u32>, StoreError> {
        let Some(first) = tables.activity.range(from.to_be_bytes()..).next() else { return Ok(None) };
        let key = first.key().map_err(|error| self.failed(&error))?;
        read_day(&self.path, &key).map(Some)
    }

    fn query(&self, tables: &Tables, key: UserKey, span: Span) -> Result<Vec<ActivityRecord>, StoreError> {
        let mut found = Vec::new();
        let mut next = self.next_day(tables, day(span.from))?;
        while let Some(today) = next.filter(|today| *today <= day(span.to) && found.len() < PAGE) {
            for entry in tables.activity.prefix(day_of_user(today, key)) {
                let (name, value) = entry.into_inner().map_err(|error| self.failed(&error))?;
                let entry = read_entry(&self.path, &name, &value)?;
                if span.contains(entry.at) {
                    found.push(entry);
                }
                if found.len() == PAGE {
                    break;
                }
            }
            next = today.checked_add(1).map_or(Ok(None), |today| self.next_day(tables, today))?;
        }
        Ok(found)
    }

    /// Removes every entry whose key begins so, a batch at a time.
    fn remove(&self, tables: &Tables, prefix: &[u8]) -> Result<(), StoreError> {
        let _alone = lock(&self.writing);
        let mut entries = tables.activity.prefix(prefix);
        loop {
            let mut batch = tables.batch();
            for entry in entries.by_ref().take(BATCH) {
                let key = entry.key().map_err(|error| self.failed(&error))?;
                batch.remove(&tables.activity, key);
            }
            if batch.is_empty() {
                return Ok(());
            }
            self.commit(batch)?;
        }
    }
}
