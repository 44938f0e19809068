//! The last status of users.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use futures::future::{BoxFuture, FutureExt as _};
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use herenow_protocol::record::Record;
use herenow_protocol::{UserKey, Version};
use scylla::client::session::Session;
use scylla::statement::batch::{Batch, BatchType};
use scylla::statement::prepared::PreparedStatement;
use scylla::value::CqlTimestamp;

use super::{Cassandra, prepare, rows};
use crate::codec::{read_record, version_bytes, write_erased, write_record, written};
use crate::error::at_most;
use crate::{BATCH, KeyRange, PAGE, Page, StatusStore, StoreError, Written, names};

/// Partitions of the table: the first ten bits of the key, so that a range of keys is a range of them.
const BUCKET_BITS: u32 = 10;
/// Bytes of rows in one batch: the server refuses 50 KiB, and warns of 5.
const BATCH_BYTES: usize = 16 * 1024;
/// Bytes of a row beside its body and id, about.
const ROW_BYTES: usize = 64;
/// Buckets that a scan reads ahead.
const AHEAD: usize = 16;
/// Newer than any number of a write, which has 48 bits: removes the rows of older epochs for good.
const AFTER_ALL: i64 = 1 << 60;

pub(super) struct Statements {
    read: PreparedStatement,
    write: PreparedStatement,
    clean: PreparedStatement,
    scan: PreparedStatement,
}

impl Statements {
    pub(super) async fn prepare(name: &str, session: &Session) -> Result<Self, StoreError> {
        let read = "SELECT user_key, body FROM user_status WHERE bucket = ? AND user_key IN ?";
        let write = "INSERT INTO user_status (bucket, user_key, epoch, user_id, status, last_updated, body)
            VALUES (?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?";
        let clean =
            "DELETE FROM user_status USING TIMESTAMP ? WHERE bucket = ? AND user_key = ? AND epoch < ?";
        let scan = "SELECT user_key, body FROM user_status
            WHERE bucket = ? AND user_key >= ? AND user_key <= ? LIMIT ?";
        Ok(Self {
            read: prepare(name, session, read).await?,
            write: prepare(name, session, write).await?,
            clean: prepare(name, session, clean).await?,
            scan: prepare(name, session, scan).await?,
        })
    }
}

type WriteRow = (i16, Vec<u8>, Vec<u8>, String, &'static str, CqlTimestamp, Vec<u8>, i64);
type CleanRow = (i64, i16, Vec<u8>, Vec<u8>);

/// What is to be written of a user.
struct New {
    key: UserKey,
    version: Version,
    user: String,
    status: &'static str,
    updated: i64,
    body: Vec<u8>,
}

impl New {
    fn of(record: &Record) -> Result<Self, StoreError> {
        let updated =
            record.seen.since.map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX));
        Ok(Self {
            key: record.key,
            version: record.written,
            user: record.user.as_str().to_owned(),
            status: names::of_status(record.seen.status),
            updated,
            body: write_record(record)?,
        })
    }

    /// Empty values, not nulls: each null would be kept as a deletion.
    fn erased(key: UserKey, version: Version) -> Self {
        Self { key, version, user: String::new(), status: "", updated: 0, body: write_erased(version) }
    }

    fn row(self) -> Result<WriteRow, StoreError> {
        let n = i64::try_from(self.version.n).ok().filter(|n| *n < AFTER_ALL);
        let n =
            n.ok_or_else(|| StoreError::Unavailable("a version has a number over its limit".to_owned()))?;
        let (key, epoch) = (self.key.to_bytes().to_vec(), epoch(self.version));
        Ok((bucket(self.key), key, epoch, self.user, self.status, CqlTimestamp(self.updated), self.body, n))
    }
}

/// The bytes of a version's epoch, which order as epochs do.
fn epoch(version: Version) -> Vec<u8> {
    let [a, b, c, d, e, f, g, h, ..] = version_bytes(version);
    vec![a, b, c, d, e, f, g, h]
}

fn bucket(key: UserKey) -> i16 {
    let [a, b, ..] = key.to_bytes();
    i16::try_from(u16::from_be_bytes([a, b]) >> (16 - BUCKET_BITS)).unwrap_or(0)
}

fn by_bucket<T>(all: impl Iterator<Item = T>, key: impl Fn(&T) -> UserKey) -> BTreeMap<i16, Vec<T>> {
    let mut buckets: BTreeMap<i16, Vec<T>> = BTreeMap::new();
    for one in all {
        buckets.entry(bucket(key(&one))).or_default().push(one);
    }
    buckets
}

impl Cassandra {
    /// The newest bodies of users.
    async fn bodies(&self, keys: &[UserKey]) -> Result<HashMap<UserKey, Vec<u8>>, StoreError> {
        let buckets = by_bucket(keys.iter().copied(), |key| *key);
        let reads = buckets.into_iter().map(|(bucket, mut keys)| async move {
            keys.sort_unstable();
            keys.dedup();
            let keys: Vec<Vec<u8>> = keys.iter().map(|key| key.to_bytes().to_vec()).collect();
            let read = self.inner.session.execute_unpaged(&self.inner.status.read, (bucket, keys)).await;
            rows::<(Vec<u8>, Vec<u8>)>(&self.inner.name, read)
        });
        let read: Vec<_> = stream::iter(reads).buffer_unordered(self.inner.concurrency).try_collect().await?;
        let mut bodies = HashMap::with_capacity(keys.len());
        for (key, body) in read.into_iter().flatten() {
            // The newest epoch of a user comes first.
            bodies.entry(self.key(&key)?).or_insert(body);
        }
        Ok(bodies)
    }

    fn key(&self, bytes: &[u8]) -> Result<UserKey, StoreError> {
        bytes.try_into().map(UserKey::from_bytes).map_err(|_| self.unreadable())
    }

    fn version(&self, body: &[u8]) -> Result<Version, StoreError> {
        written(Path::new(&self.inner.name), body)
    }

    fn record(&self, key: UserKey, body: &[u8]) -> Result<Option<Record>, StoreError> {
        read_record(Path::new(&self.inner.name), key, body)
    }

    /// Writes what is newer than what is there. Looking first saves writing, and says how many were older; that the
    /// newer stays is seen to by epochs and timestamps, whoever else writes meanwhile.
    async fn write(&self, mut new: Vec<New>) -> Result<Written, StoreError> {
        let keys: Vec<UserKey> = new.iter().map(|one| one.key).collect();
        let there = self.bodies(&keys).await?;
        // Of one key the newest comes first, and the others are older.
        new.sort_by(|a, b| (a.key, b.version).cmp(&(b.key, a.version)));
        let (mut outcome, mut newer, mut before) = (Written::default(), Vec::new(), None);
        for one in new {
            let old = there.get(&one.key).map(|body| self.version(body)).transpose()?;
            if before == Some(one.key) || old.is_some_and(|old| old >= one.version) {
                outcome.older += 1;
                continue;
            }
            before = Some(one.key);
            outcome.stored += 1;
            let outlived = old.is_some_and(|old| old.epoch != one.version.epoch);
            newer.push((one, outlived));
        }
        let batches = by_bucket(newer.into_iter(), |(one, _)| one.key);
        let writes = batches.into_values().map(|rows| self.write_bucket(rows));
        stream::iter(writes).buffer_unordered(self.inner.concurrency).try_collect::<()>().await?;
        Ok(outcome)
    }

    /// Rows of one partition: batches of them are written as one.
    async fn write_bucket(&self, rows: Vec<(New, bool)>) -> Result<(), StoreError> {
        let (mut part, mut bytes) = (Vec::new(), 0);
        for row in rows {
            let size = row.0.body.len() + row.0.user.len() + ROW_BYTES;
            if bytes + size > BATCH_BYTES && !part.is_empty() {
                self.write_part(std::mem::take(&mut part)).await?;
                bytes = 0;
            }
            bytes += size;
            part.push(row);
        }
        if part.is_empty() { Ok(()) } else { self.write_part(part).await }
    }

    async fn write_part(&self, rows: Vec<(New, bool)>) -> Result<(), StoreError> {
        let statements = &self.inner.status;
        let mut batch = Batch::new(BatchType::Unlogged);
        batch.set_is_idempotent(true);
        let mut written = Vec::with_capacity(rows.len());
        let mut cleaned: Vec<CleanRow> = Vec::new();
        for (one, outlived) in rows {
            if outlived {
                cleaned.push((AFTER_ALL, bucket(one.key), one.key.to_bytes().to_vec(), epoch(one.version)));
            }
            batch.append_statement(statements.write.clone());
            written.push(one.row()?);
        }
        let done = self.inner.session.batch(&batch, written).await;
        done.map_err(|error| self.failed(&error))?;
        // Only once the newer one is there: rows of epochs that are over.
        for row in cleaned {
            let done = self.inner.session.execute_unpaged(&statements.clean, row).await;
            done.map_err(|error| self.failed(&error))?;
        }
        Ok(())
    }

    /// The first rows of a bucket from a key on, one more than a page may need.
    async fn bucket_rows(
        &self,
        bucket: i16,
        first: UserKey,
        last: UserKey,
    ) -> Result<Vec<(UserKey, Vec<u8>)>, StoreError> {
        let limit = i32::try_from(PAGE + 1).unwrap_or(i32::MAX);
        let (mut found, mut first) = (Vec::new(), first);
        loop {
            let values = (bucket, first.to_bytes().to_vec(), last.to_bytes().to_vec(), limit);
            let read = self.inner.session.execute_unpaged(&self.inner.status.scan, values).await;
            let read = rows::<(Vec<u8>, Vec<u8>)>(&self.inner.name, read)?;
            let is_all = read.len() <= PAGE;
            for (key, body) in read {
                let key = self.key(&key)?;
                // Rows of older epochs, and the one that the last read ended with.
                if found.last().is_none_or(|(last, _)| *last < key) {
                    found.push((key, body));
                }
            }
            match found.last() {
                Some((end, _)) if !is_all && found.len() <= PAGE && *end > first => first = *end,
                _ => return Ok(found),
            }
        }
    }

    async fn page(&self, range: KeyRange, from: Option<UserKey>) -> Result<Page, StoreError> {
        let (first, last) = (from.map_or(range.0, |from| from.max(range.0)), range.1);
        let mut page = Page::default();
        if first > last {
            return Ok(page);
        }
        let reads = (bucket(first)..=bucket(last)).map(|bucket| self.bucket_rows(bucket, first, last));
        let mut buckets = stream::iter(reads).buffered(AHEAD);
        while let Some(rows) = buckets.try_next().await? {
            for (key, body) in rows {
                if page.records.len() == PAGE {
                    page.next = Some(key);
                    return Ok(page);
                }
                page.newest = page.newest.max(self.version(&body)?.epoch);
                page.records.extend(self.record(key, &body)?);
            }
        }
        Ok(page)
    }
}

impl StatusStore for Cassandra {
    fn put_batch(&self, records: Vec<Record>) -> BoxFuture<'_, Result<Written, StoreError>> {
        async move {
            at_most(BATCH, records.len())?;
            self.write(records.iter().map(New::of).collect::<Result<_, _>>()?).await
        }
        .boxed()
    }

    fn get_many(&self, keys: Vec<UserKey>) -> BoxFuture<'_, Result<Vec<Option<Record>>, StoreError>> {
        async move {
            at_most(BATCH, keys.len())?;
            let bodies = self.bodies(&keys).await?;
            let one = |key: &UserKey| bodies.get(key).map_or(Ok(None), |body| self.record(*key, body));
            keys.iter().map(one).collect()
        }
        .boxed()
    }

    fn scan(&self, range: KeyRange, from: Option<UserKey>) -> BoxFuture<'_, Result<Page, StoreError>> {
        self.page(range, from).boxed()
    }

    fn erase(&self, users: Vec<(UserKey, Version)>) -> BoxFuture<'_, Result<Written, StoreError>> {
        async move {
            at_most(BATCH, users.len())?;
            self.write(users.into_iter().map(|(key, version)| New::erased(key, version)).collect()).await
        }
        .boxed()
    }
}
