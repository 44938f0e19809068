//! The history of users.

use std::collections::BTreeSet;

use deadpool_postgres::Client;
use futures::future::{BoxFuture, FutureExt as _};
use herenow_protocol::history::Opened;
use herenow_protocol::{UserId, UserKey, WallTime};
use tokio_postgres::Row;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;

use super::{LATEST_MS, Postgres, failure, moment, wall};
use crate::activity::day;
use crate::codec::{read_version, version_bytes};
use crate::error::at_most;
use crate::names;
use crate::{ActivityLog, ActivityRecord, BATCH, PAGE, Span, StoreError};

/// Most days that the entries of one call may lie on: each may need a table.
const DAYS: usize = 366;

/// Where rows come in before those that are there already are left out; of each connection its own.
const INCOMING: &str = "CREATE TEMP TABLE IF NOT EXISTS incoming (
    user_key bytea, user_id text, at timestamptz, version bytea, from_status text, to_status text, cause text,
    opened_web smallint, opened_mobile smallint, opened_desktop smallint, opened_server smallint
) ON COMMIT DELETE ROWS";
const COPY: &str = "COPY incoming FROM STDIN BINARY";
const COLUMNS: [Type; 11] = [
    Type::BYTEA,
    Type::TEXT,
    Type::TIMESTAMPTZ,
    Type::BYTEA,
    Type::TEXT,
    Type::TEXT,
    Type::TEXT,
    Type::INT2,
    Type::INT2,
    Type::INT2,
    Type::INT2,
];
const TAKE_OVER: &str = "INSERT INTO activity (user_key, user_id, at, version, from_status, to_status, cause,
        opened_web, opened_mobile, opened_desktop, opened_server)
    SELECT user_key, user_id, at, version, from_status, to_status, cause,
        opened_web, opened_mobile, opened_desktop, opened_server
    FROM incoming ON CONFLICT DO NOTHING";
const QUERY: &str = "SELECT user_id, at, version, from_status, to_status, cause,
        opened_web, opened_mobile, opened_desktop, opened_server FROM activity
    WHERE user_key = $1 AND at >= $2 AND at < $3 ORDER BY at, version LIMIT $4";

impl ActivityLog for Postgres {
    fn append_batch(&self, entries: Vec<ActivityRecord>) -> BoxFuture<'_, Result<(), StoreError>> {
        async move {
            at_most(BATCH, entries.len())?;
            let days: BTreeSet<u32> = entries.iter().map(|entry| day(entry.at)).collect();
            at_most(DAYS, days.len())?;
            if entries.iter().any(|entry| entry.at.as_millis() > LATEST_MS) {
                return Err(StoreError::Unavailable("an entry is of a year after 9999".to_owned()));
            }
            self.make(&days).await?;
            if self.append(&entries).await? == Appended::NoTable {
                // Somebody dropped a day since. Once more: a day that is dropped all the time is an error.
                self.days().clear();
                self.make(&days).await?;
                if self.append(&entries).await? == Appended::NoTable {
                    return Err(StoreError::Unavailable(format!("{}: a day has no table", self.inner.name)));
                }
            }
            Ok(())
        }
        .boxed()
    }

    fn query(&self, key: UserKey, span: Span) -> BoxFuture<'_, Result<Vec<ActivityRecord>, StoreError>> {
        async move {
            let (from, to) = (moment(span.from), moment(span.to));
            let rows = self
                .call(move |client| {
                    async move {
                        let statement = client.prepare_cached(QUERY).await?;
                        let limit = i64::try_from(PAGE).unwrap_or(i64::MAX);
                        client.query(&statement, &[&key.to_bytes().as_slice(), &from, &to, &limit]).await
                    }
                    .boxed()
                })
                .await?;
            rows.iter().map(|row| read(key, row).ok_or_else(|| self.unreadable())).collect()
        }
        .boxed()
    }

    fn erase(&self, key: UserKey) -> BoxFuture<'_, Result<(), StoreError>> {
        self.call(move |client| {
            async move {
                let erase = "DELETE FROM activity WHERE user_key = $1";
                client.execute(erase, &[&key.to_bytes().as_slice()]).await.map(drop)
            }
            .boxed()
        })
        .boxed()
    }

    fn expire(&self, before: WallTime) -> BoxFuture<'_, Result<(), StoreError>> {
        async move {
            let first = day(before).min(day(WallTime::from_millis(LATEST_MS)));
            let asked = i32::try_from(first).unwrap_or(i32::MAX);
            self.call(move |client| {
                async move { client.execute("SELECT drop_days($1)", &[&asked]).await.map(drop) }.boxed()
            })
            .await?;
            self.days().retain(|day| *day >= first);
            Ok(())
        }
        .boxed()
    }
}

#[derive(PartialEq, Eq)]
enum Appended {
    Done,
    /// A day's table is not there.
    NoTable,
}

impl Postgres {
    /// Makes the tables of days that this process has not seen.
    async fn make(&self, days: &BTreeSet<u32>) -> Result<(), StoreError> {
        let new: Vec<u32> = days.difference(&*self.days()).copied().collect();
        for day in new {
            let asked = i32::try_from(day).unwrap_or(i32::MAX);
            self.call(move |client| {
                async move { client.execute("SELECT make_day($1)", &[&asked]).await.map(drop) }.boxed()
            })
            .await?;
            self.days().insert(day);
        }
        Ok(())
    }

    async fn append(&self, entries: &[ActivityRecord]) -> Result<Appended, StoreError> {
        let mut client = self.client().await?;
        match tokio::time::timeout(self.inner.timeout, copy(&mut client, entries)).await {
            Ok(Ok(())) => Ok(Appended::Done),
            Ok(Err(error)) if error.code() == Some(&SqlState::CHECK_VIOLATION) => Ok(Appended::NoTable),
            Ok(Err(error)) => Err(failure::of(&self.inner.name, &error)),
            Err(_) => Err(self.too_slow(client)),
        }
    }
}

async fn copy(client: &mut Client, entries: &[ActivityRecord]) -> Result<(), tokio_postgres::Error> {
    client.batch_execute(INCOMING).await?;
    let transaction = client.transaction().await?;
    let mut writer = std::pin::pin!(BinaryCopyInWriter::new(transaction.copy_in(COPY).await?, &COLUMNS));
    for entry in entries {
        let (key, version) = (entry.key.to_bytes(), version_bytes(entry.version));
        let [web, mobile, desktop, server] = entry.opened.to_bytes().map(i16::from);
        writer
            .as_mut()
            .write(&[
                &key.as_slice(),
                &entry.user.as_str(),
                &moment(entry.at),
                &version.as_slice(),
                &names::of_status(entry.from),
                &names::of_status(entry.to),
                &names::of_cause(entry.cause),
                &web,
                &mobile,
                &desktop,
                &server,
            ])
            .await?;
    }
    writer.finish().await?;
    transaction.execute(TAKE_OVER, &[]).await?;
    transaction.commit().await
}

fn read(key: UserKey, row: &Row) -> Option<ActivityRecord> {
    let version: &[u8] = row.try_get(2).ok()?;
    let opened = |column| u8::try_from(row.try_get::<_, i16>(column).ok()?).ok();
    Some(ActivityRecord {
        key,
        user: UserId::new(row.try_get::<_, &str>(0).ok()?).ok()?,
        at: wall(row.try_get(1).ok()?),
        version: read_version(version.try_into().ok()?),
        from: names::status(row.try_get(3).ok()?)?,
        to: names::status(row.try_get(4).ok()?)?,
        cause: names::cause(row.try_get(5).ok()?)?,
        opened: Opened::from_bytes([opened(6)?, opened(7)?, opened(8)?, opened(9)?]),
    })
}
