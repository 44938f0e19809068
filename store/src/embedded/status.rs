//! The table of users.

use futures::future::BoxFuture;
use herenow_protocol::record::Record;
use herenow_protocol::{UserKey, Version};

use super::{Embedded, Inner, Tables, lock};
use crate::codec::{read_key, read_record, write_erased, write_record, written};
use crate::error::at_most;
use crate::{BATCH, KeyRange, PAGE, Page, StatusStore, StoreError, Written};

impl StatusStore for Embedded {
    fn put_batch(&self, records: Vec<Record>) -> BoxFuture<'_, Result<Written, StoreError>> {
        self.on_tables(move |inner, tables| {
            at_most(BATCH, records.len())?;
            let value = |record: &Record| Ok((record.key, record.written, write_record(record)?));
            inner.write(tables, records.iter().map(value).collect::<Result<_, StoreError>>()?)
        })
    }

    fn get_many(&self, keys: Vec<UserKey>) -> BoxFuture<'_, Result<Vec<Option<Record>>, StoreError>> {
        self.on_tables(move |inner, tables| {
            at_most(BATCH, keys.len())?;
            keys.into_iter().map(|key| inner.read(tables, key)).collect()
        })
    }

    fn scan(&self, range: KeyRange, from: Option<UserKey>) -> BoxFuture<'_, Result<Page, StoreError>> {
        self.on_tables(move |inner, tables| inner.page(tables, range, from))
    }

    fn erase(&self, users: Vec<(UserKey, Version)>) -> BoxFuture<'_, Result<Written, StoreError>> {
        self.on_tables(move |inner, tables| {
            at_most(BATCH, users.len())?;
            let erased = |(key, version)| (key, version, write_erased(version));
            inner.write(tables, users.into_iter().map(erased).collect())
        })
    }
}

impl Inner {
    /// Writes what is newer than what is there, all in one batch.
    fn write(
        &self,
        tables: &Tables,
        mut new: Vec<(UserKey, Version, Vec<u8>)>,
    ) -> Result<Written, StoreError> {
        let _alone = lock(&self.writing);
        // Keys in order make the reads cheaper; of one key the newest comes first, and the others are older.
        new.sort_by(|a, b| (a.0, b.1).cmp(&(b.0, a.1)));
        let mut batch = tables.batch();
        let mut outcome = Written::default();
        let mut before = None;
        for (key, version, value) in new {
            if before == Some(key) || self.has_newer(tables, key, version)? {
                outcome.older += 1;
                continue;
            }
            before = Some(key);
            batch.insert(&tables.status, key.to_bytes(), value);
            outcome.stored += 1;
        }
        self.commit(batch)?;
        Ok(outcome)
    }

    fn has_newer(&self, tables: &Tables, key: UserKey, version: Version) -> Result<bool, StoreError> {
        let there = tables.status.get(key.to_bytes()).map_err(|error| self.failed(&error))?;
        Ok(there.map(|value| written(&self.path, &value)).transpose()?.is_some_and(|there| there >= version))
    }

    fn read(&self, tables: &Tables, key: UserKey) -> Result<Option<Record>, StoreError> {
        let value = tables.status.get(key.to_bytes()).map_err(|error| self.failed(&error))?;
        Ok(value.map(|value| read_record(&self.path, key, &value)).transpose()?.flatten())
    }

    fn page(&self, tables: &Tables, range: KeyRange, from: Option<UserKey>) -> Result<Page, StoreError> {
        let (first, last) = (from.map_or(range.0, |from| from.max(range.0)), range.1);
        let mut page = Page::default();
        if first > last {
            return Ok(page);
        }
        for entry in tables.status.range(first.to_bytes()..=last.to_bytes()) {
            let (key, value) = entry.into_inner().map_err(|error| self.failed(&error))?;
            let key = read_key(&self.path, &key)?;
            if page.records.len() == PAGE {
                page.next = Some(key);
                break;
            }
            page.newest = page.newest.max(written(&self.path, &value)?.epoch);
            page.records.extend(read_record(&self.path, key, &value)?);
        }
        Ok(page)
    }
}
