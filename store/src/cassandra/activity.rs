//! The history of users.

use std::collections::BTreeMap;

use futures::future::{BoxFuture, FutureExt as _};
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use herenow_protocol::history::Opened;
use herenow_protocol::{Status, UserId, UserKey, Version, WallTime};
use scylla::client::session::Session;
use scylla::statement::batch::{Batch, BatchType};
use scylla::statement::prepared::PreparedStatement;
use scylla::value::{CqlTimestamp, CqlTimeuuid, MaybeUnset};

use super::{Cassandra, prepare, rows};
use crate::activity::day;
use crate::codec::{read_version, version_bytes};
use crate::error::at_most;
use crate::{ActivityLog, ActivityRecord, BATCH, PAGE, Span, StoreError, names};

/// Rows of one batch, each of about 200 bytes: the server refuses 50 KiB.
const ROWS: usize = 50;
/// 1970 as UUIDs count, from 1582-10-15 in steps of 100 ns. Source: RFC 9562, 5.1.
const UUID_EPOCH: u64 = 0x01B2_1DD2_1381_4000;

pub(super) struct Statements {
    add: PreparedStatement,
    add_day: PreparedStatement,
    days: PreparedStatement,
    read: PreparedStatement,
    erase: PreparedStatement,
    erase_days: PreparedStatement,
    horizon: PreparedStatement,
    set_horizon: PreparedStatement,
}

impl Statements {
    pub(super) async fn prepare(name: &str, session: &Session) -> Result<Self, StoreError> {
        let add =
            "INSERT INTO user_activity (user_key, day, timestamp, version, activity_id, user_id, event_type,
            from_status, to_status, cause, opened) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) USING TTL ?";
        let read =
            "SELECT timestamp, version, user_id, from_status, to_status, cause, opened FROM user_activity
            WHERE user_key = ? AND day = ? AND timestamp >= ? AND timestamp < ? LIMIT ?";
        let set_horizon = "INSERT INTO horizon (name, day) VALUES ('activity', ?) USING TIMESTAMP ?";
        let prepare = |text: &'static str| prepare(name, session, text);
        Ok(Self {
            add: prepare(add).await?,
            add_day: prepare("INSERT INTO user_days (user_key, day) VALUES (?, ?) USING TTL ?").await?,
            days: prepare("SELECT day FROM user_days WHERE user_key = ? AND day >= ? AND day <= ?").await?,
            read: prepare(read).await?,
            erase: prepare("DELETE FROM user_activity WHERE user_key = ? AND day = ?").await?,
            erase_days: prepare("DELETE FROM user_days WHERE user_key = ?").await?,
            horizon: prepare("SELECT day FROM horizon WHERE name = 'activity'").await?,
            set_horizon: prepare(set_horizon).await?,
        })
    }
}

type Row = (
    Vec<u8>,
    i32,
    CqlTimestamp,
    Vec<u8>,
    CqlTimeuuid,
    String,
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    MaybeUnset<Vec<u8>>,
    i32,
);

type Found = (CqlTimestamp, Vec<u8>, String, String, String, String, Option<Vec<u8>>);

fn day_of(at: WallTime) -> i32 {
    i32::try_from(day(at)).unwrap_or(i32::MAX)
}

fn stamp(at: WallTime) -> CqlTimestamp {
    CqlTimestamp(i64::try_from(at.as_millis()).unwrap_or(i64::MAX))
}

/// A UUID of the entry's time (RFC 9562, version 1). It follows from the entry, so that the same entry has the same one.
fn activity_id(entry: &ActivityRecord) -> CqlTimeuuid {
    let steps = u128::from(entry.at.as_millis().saturating_mul(10_000).saturating_add(UUID_EPOCH));
    let Version { epoch, n } = entry.version;
    let sequence = u128::from(epoch.counter.rotate_left(7) ^ epoch.nonce) & 0x3fff;
    let id = (steps & 0xffff_ffff) << 96
        | (steps >> 32 & 0xffff) << 80
        | (steps >> 48 & 0x0fff | 0x1000) << 64
        | (sequence | 0x8000) << 48
        | u128::from(n & 0xffff_ffff_ffff);
    CqlTimeuuid::from_bytes(id.to_be_bytes())
}

const fn event(from: Status, to: Status) -> &'static str {
    const fn is_there(status: Status) -> bool {
        matches!(status, Status::Online | Status::Idle | Status::Dnd)
    }
    match (is_there(from), is_there(to)) {
        (false, true) => "login",
        (true, false) => "logout",
        (true, true) | (false, false) => "status_change",
    }
}

impl Cassandra {
    fn row(&self, entry: &ActivityRecord) -> Row {
        (
            entry.key.to_bytes().to_vec(),
            day_of(entry.at),
            stamp(entry.at),
            version_bytes(entry.version).to_vec(),
            activity_id(entry),
            entry.user.as_str().to_owned(),
            event(entry.from, entry.to),
            names::of_status(entry.from),
            names::of_status(entry.to),
            names::of_cause(entry.cause),
            match entry.opened {
                none if none.is_none() => MaybeUnset::Unset,
                some => MaybeUnset::Set(some.to_bytes().to_vec()),
            },
            self.inner.activity_ttl,
        )
    }

    /// Entries of one user and day. The day is noted first: entries of one that is not noted would not be found.
    async fn append(&self, key: UserKey, day: i32, entries: Vec<ActivityRecord>) -> Result<(), StoreError> {
        let (session, statements) = (&self.inner.session, &self.inner.activity);
        let noted = (key.to_bytes().to_vec(), day, self.inner.activity_ttl);
        let done = session.execute_unpaged(&statements.add_day, noted).await;
        done.map_err(|error| self.failed(&error))?;
        for part in entries.chunks(ROWS) {
            let mut batch = Batch::new(BatchType::Unlogged);
            batch.set_is_idempotent(true);
            part.iter().for_each(|_| batch.append_statement(statements.add.clone()));
            let rows: Vec<Row> = part.iter().map(|entry| self.row(entry)).collect();
            session.batch(&batch, rows).await.map_err(|error| self.failed(&error))?;
        }
        Ok(())
    }

    /// The days of a user, in order.
    async fn days(&self, key: UserKey, first: i32, last: i32) -> Result<Vec<i32>, StoreError> {
        let asked = (key.to_bytes().to_vec(), first, last);
        let read = self.inner.session.execute_unpaged(&self.inner.activity.days, asked).await;
        Ok(rows::<(i32,)>(&self.inner.name, read)?.into_iter().map(|(day,)| day).collect())
    }

    /// The first day that is not forgotten.
    async fn horizon(&self) -> Result<i32, StoreError> {
        let read = self.inner.session.execute_unpaged(&self.inner.activity.horizon, ()).await;
        Ok(rows::<(i32,)>(&self.inner.name, read)?.first().map_or(0, |(day,)| *day))
    }

    async fn read_day(&self, key: UserKey, day: i32, span: Span) -> Result<Vec<ActivityRecord>, StoreError> {
        let limit = i32::try_from(PAGE).unwrap_or(i32::MAX);
        let asked = (key.to_bytes().to_vec(), day, stamp(span.from), stamp(span.to), limit);
        let read = self.inner.session.execute_unpaged(&self.inner.activity.read, asked).await;
        let read = rows::<Found>(&self.inner.name, read)?;
        let entry = |(at, version, user, from, to, cause, opened): Found| {
            let opened = opened.map(|bytes| bytes.try_into().ok().map(Opened::from_bytes));
            Some(ActivityRecord {
                key,
                user: UserId::new(&user).ok()?,
                at: WallTime::from_millis(u64::try_from(at.0).ok()?),
                version: read_version(version.try_into().ok()?),
                from: names::status(&from)?,
                to: names::status(&to)?,
                cause: names::cause(&cause)?,
                opened: opened.unwrap_or_else(|| Some(Opened::default()))?,
            })
        };
        read.into_iter().map(|row| entry(row).ok_or_else(|| self.unreadable())).collect()
    }
}

impl ActivityLog for Cassandra {
    fn append_batch(&self, entries: Vec<ActivityRecord>) -> BoxFuture<'_, Result<(), StoreError>> {
        async move {
            at_most(BATCH, entries.len())?;
            let mut parts: BTreeMap<(UserKey, i32), Vec<ActivityRecord>> = BTreeMap::new();
            for entry in entries {
                parts.entry((entry.key, day_of(entry.at))).or_default().push(entry);
            }
            let writes = parts.into_iter().map(|((key, day), entries)| self.append(key, day, entries));
            stream::iter(writes).buffer_unordered(self.inner.concurrency).try_collect::<()>().await
        }
        .boxed()
    }

    fn query(&self, key: UserKey, span: Span) -> BoxFuture<'_, Result<Vec<ActivityRecord>, StoreError>> {
        async move {
            let first = day_of(span.from).max(self.horizon().await?);
            let mut found = Vec::new();
            for day in self.days(key, first, day_of(span.to)).await? {
                found.extend(self.read_day(key, day, span).await?);
                if found.len() >= PAGE {
                    found.truncate(PAGE);
                    break;
                }
            }
            Ok(found)
        }
        .boxed()
    }

    fn erase(&self, key: UserKey) -> BoxFuture<'_, Result<(), StoreError>> {
        async move {
            let (session, statements) = (&self.inner.session, &self.inner.activity);
            for day in self.days(key, 0, i32::MAX).await? {
                let done = session.execute_unpaged(&statements.erase, (key.to_bytes().to_vec(), day)).await;
                done.map_err(|error| self.failed(&error))?;
            }
            let done = session.execute_unpaged(&statements.erase_days, (key.to_bytes().to_vec(),)).await;
            done.map(drop).map_err(|error| self.failed(&error))
        }
        .boxed()
    }

    /// Nobody is shown them from now on; what they take is freed by their TTL.
    fn expire(&self, before: WallTime) -> BoxFuture<'_, Result<(), StoreError>> {
        async move {
            let day = day_of(before);
            let set = (day, i64::from(day));
            let done = self.inner.session.execute_unpaged(&self.inner.activity.set_horizon, set).await;
            done.map(drop).map_err(|error| self.failed(&error))
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{entry, version};

    #[test]
    fn an_id_is_of_the_time_of_its_entry_and_of_no_other_entry() {
        let one = entry("ana", 1_700_000_000_123, 7);
        let id = u128::from_be_bytes(*activity_id(&one).as_bytes());
        assert_eq!((id >> 76 & 0xf, id >> 62 & 0b11), (1, 0b10), "version 1, and the variant of the RFC");
        let steps = id >> 96 | (id >> 80 & 0xffff) << 32 | (id >> 64 & 0xfff) << 48;
        assert_eq!(steps, u128::from(1_700_000_000_123 * 10_000 + UUID_EPOCH));
        assert_eq!(activity_id(&one), activity_id(&one.clone()));
        let later = ActivityRecord { version: version(1, 8), ..one.clone() };
        assert_ne!(activity_id(&later), activity_id(&one));
    }

    #[test]
    fn coming_and_going_are_named() {
        assert_eq!(event(Status::Offline, Status::Idle), "login");
        assert_eq!(event(Status::Unknown, Status::Online), "login");
        assert_eq!(event(Status::Dnd, Status::Offline), "logout");
        assert_eq!(event(Status::Online, Status::Idle), "status_change");
    }
}
