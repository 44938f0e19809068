//! What Herenow keeps: the last status, last seen and claims of users ([`StatusStore`]), and the history of their
//! transitions ([`ActivityLog`]).
//!
//! Nobody who decides or publishes waits for a store: owners write behind and read once, when they claim a partition.
//! A record is fenced by its version: of two, the newer stays, whatever order they come in.
//!
//! Every implementation is held to the same conformance suite (`testing`).

use futures::future::BoxFuture;
use herenow_protocol::record::Record;
use herenow_protocol::{Epoch, UserKey, Version, WallTime};

mod activity;
#[cfg(feature = "cassandra")]
mod cassandra;
#[cfg(any(feature = "near", feature = "redis", feature = "tls"))]
mod check;
#[cfg(any(feature = "near", feature = "redis"))]
mod clock;
mod codec;
#[cfg(any(feature = "near", feature = "redis"))]
mod counts;
mod embedded;
mod error;
#[cfg(any(feature = "near", feature = "redis"))]
mod flights;
mod memory;
#[cfg(any(feature = "postgres", feature = "cassandra"))]
mod names;
#[cfg(feature = "near")]
mod near;
mod people;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "redis")]
mod redis;
#[cfg(any(feature = "redis", feature = "tls"))]
mod server;
#[cfg(feature = "testing")]
pub mod testing;

pub use activity::{ActivityRecord, Span};
#[cfg(feature = "cassandra")]
pub use cassandra::{CASSANDRA_SCHEMA, Cassandra, CassandraConfig};
pub use embedded::{Embedded, FORMAT};
pub use error::StoreError;
pub use memory::{MemoryLog, MemoryStore};
#[cfg(feature = "near")]
pub use near::{Near, NearClock, NearConfig, NearCounts};
pub use people::{Analytics, HourOnline, HourSessions, People, UserDetails};
#[cfg(feature = "postgres")]
pub use postgres::{POSTGRES_SCHEMA, Postgres, PostgresConfig};
#[cfg(feature = "redis")]
pub use redis::{CacheCounts, Cached, RedisConfig};
#[cfg(any(feature = "redis", feature = "tls"))]
pub use server::{Secret, Tls};

/// Most records of one [`StatusStore::put_batch`], keys of one [`StatusStore::get_many`] or
/// [`StatusStore::erase`], entries of one [`ActivityLog::append_batch`].
pub const BATCH: usize = 10_000;
/// Most records of one page of [`StatusStore::scan`], entries of one answer of [`ActivityLog::query`].
pub const PAGE: usize = 1_000;

/// A range of keys: the first and the last, both in it.
pub type KeyRange = (UserKey, UserKey);

/// What became of a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Written {
    /// Records, or erasures, that are now what the store has.
    pub stored: usize,
    /// Those that were not newer than what the store has.
    pub older: usize,
}

/// A page of records, in the order of keys.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Page {
    /// The records.
    pub records: Vec<Record>,
    /// Where the next page goes on; `None`: there is none.
    pub next: Option<UserKey>,
    /// The newest epoch that wrote or erased anybody of the page.
    pub newest: Epoch,
}

/// Keeps one record per user.
///
/// Every call may fail with [`StoreError`], and takes at most [`BATCH`] items. What a call that failed has written is
/// not known; it is made again, and writing the same twice changes nothing.
pub trait StatusStore: Send + Sync {
    /// Writes those records that are newer than what is there of the user. When it returns `Ok` they survive the loss of
    /// the process and of power. Each record is there whole or not at all.
    fn put_batch(&self, records: Vec<Record>) -> BoxFuture<'_, Result<Written, StoreError>>;

    /// The records of these users, in the order asked; `None` where nothing is kept.
    fn get_many(&self, keys: Vec<UserKey>) -> BoxFuture<'_, Result<Vec<Option<Record>>, StoreError>>;

    /// The records of a range, at most [`PAGE`] of them, from `from` on where it is given.
    fn scan(&self, range: KeyRange, from: Option<UserKey>) -> BoxFuture<'_, Result<Page, StoreError>>;

    /// Forgets users. What is written later with an older version than the erasure's does not bring a user back; for
    /// that the store remembers the key and the version, and nothing else.
    fn erase(&self, users: Vec<(UserKey, Version)>) -> BoxFuture<'_, Result<Written, StoreError>>;
}

/// Keeps the history of transitions.
pub trait ActivityLog: Send + Sync {
    /// Adds entries. Adding one again changes nothing. When it returns `Ok` they survive the loss of the process and
    /// of power. At most [`BATCH`].
    fn append_batch(&self, entries: Vec<ActivityRecord>) -> BoxFuture<'_, Result<(), StoreError>>;

    /// The entries of a user in a span of time, in the order of time and then of versions, at most [`PAGE`]; more are
    /// had by asking from the time of the last on.
    fn query(&self, key: UserKey, span: Span) -> BoxFuture<'_, Result<Vec<ActivityRecord>, StoreError>>;

    /// Forgets all entries of a user that there are now.
    fn erase(&self, key: UserKey) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Forgets, of everybody, the days that were over at a moment; days as UTC has them.
    fn expire(&self, before: WallTime) -> BoxFuture<'_, Result<(), StoreError>>;
}
