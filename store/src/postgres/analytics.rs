//! Questions about everybody. Each answer is as long as its span of time allows, which has a limit.
//!
//! Somebody is there while online, idle or dnd. The status of somebody at a moment is the last one that the history
//! has of the `lookback` before it.

use std::time::{Duration, SystemTime};

use futures::future::{BoxFuture, FutureExt as _};
use herenow_protocol::{Status, UserId, UserKey, WallTime};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::{Postgres, moment, wall};
use crate::names;
use crate::server::ensure;
use crate::{Analytics, HourOnline, HourSessions, PAGE, Span, StoreError};

/// Longest span of answers by the hour.
const HOURS: Duration = Duration::from_hours(31 * 24);
/// Longest span of answers by the minute.
const MINUTES: Duration = Duration::from_hours(24);
/// Longest span of answers by the day.
const DAYS: Duration = Duration::from_hours(366 * 24);

/// $1 the moment, $2 seconds of looking back.
const STATUSES: &str = "SELECT to_status, count(*) FROM (
        SELECT DISTINCT ON (user_key) to_status FROM activity
        WHERE at > $1::timestamptz - make_interval(secs => $2) AND at <= $1
        ORDER BY user_key, at DESC, version DESC
    ) latest GROUP BY to_status ORDER BY to_status";

/// $3 the user to go on behind, $4 the limit.
const WHO: &str = "SELECT user_id, to_status FROM (
        SELECT DISTINCT ON (user_key) user_id, to_status FROM activity
        WHERE at > $1::timestamptz - make_interval(secs => $2) AND at <= $1
        ORDER BY user_key, at DESC, version DESC
    ) latest WHERE is_there(to_status) AND user_id COLLATE \"C\" > $3 ORDER BY user_id COLLATE \"C\" LIMIT $4";

/// $1 and $2 the span, $3 seconds of looking back. How many are there at its beginning, and every change of it, with
/// the full hours as changes by none: so that no stretch lies in two hours. What somebody was before is what the
/// history says, not what the entry does: one who took over without knowing it says offline.
const HOURLY: &str = "WITH latest AS (
        SELECT DISTINCT ON (user_key) user_key, is_there(to_status) AS there FROM activity
        WHERE at >= $1::timestamptz - make_interval(secs => $3) AND at < $1
        ORDER BY user_key, at DESC, version DESC
    ), before AS (
        SELECT count(*) AS there FROM latest WHERE there
    ), steps AS (
        SELECT user_key, at, is_there(to_status) AS there,
            lag(is_there(to_status)) OVER (PARTITION BY user_key ORDER BY at, version) AS was
        FROM activity WHERE at >= $1 AND at < $2
    ), changes AS (
        SELECT at, steps.there::int - coalesce(was, latest.there, false)::int AS by
        FROM steps LEFT JOIN latest USING (user_key)
        WHERE steps.there <> coalesce(was, latest.there, false)
        UNION ALL
        SELECT greatest(hour, $1::timestamptz), 0
        FROM generate_series(date_trunc('hour', $1::timestamptz), $2::timestamptz - interval '1 microsecond', interval '1 hour') AS hour
    ), stretches AS (
        SELECT at, (SELECT there FROM before) + sum(sum(by)) OVER (ORDER BY at) AS there,
            extract(epoch FROM lead(at, 1, $2::timestamptz) OVER (ORDER BY at) - at) AS seconds
        FROM changes GROUP BY at
    )
    SELECT date_trunc('hour', at) AS hour, max(there)::bigint,
        (sum(there * seconds) / sum(seconds))::double precision
    FROM stretches GROUP BY hour ORDER BY hour";

/// $1 the user's key, $2 and $3 the span, $4 seconds of looking back.
const TIME_ONLINE: &str = "WITH entries AS (
        (SELECT at, version, to_status FROM activity
         WHERE user_key = $1 AND at >= $2::timestamptz - make_interval(secs => $4) AND at < $2
         ORDER BY at DESC, version DESC LIMIT 1)
        UNION ALL
        SELECT at, version, to_status FROM activity WHERE user_key = $1 AND at >= $2 AND at < $3
    ), stretches AS (
        SELECT greatest(at, $2) AS begins, lead(at, 1, $3::timestamptz) OVER (ORDER BY at, version) AS ends, to_status
        FROM entries
    )
    SELECT day, sum(extract(epoch FROM
            least(ends, day + interval '1 day') - greatest(begins, day)) * 1000)::bigint
    FROM stretches, generate_series(date_trunc('day', begins), ends, interval '1 day') AS day
    WHERE is_there(to_status) AND least(ends, day + interval '1 day') > greatest(begins, day)
    GROUP BY day ORDER BY day";

const PER_MINUTE: &str = "SELECT date_trunc('minute', at) AS minute, count(*) FROM activity
    WHERE at >= $1 AND at < $2 GROUP BY minute ORDER BY minute";

const SESSIONS: &str =
    "SELECT date_trunc('hour', at) AS hour, sum(opened_web)::bigint, sum(opened_mobile)::bigint,
        sum(opened_desktop)::bigint, sum(opened_server)::bigint FROM activity
    WHERE at >= $1 AND at < $2 AND (opened_web, opened_mobile, opened_desktop, opened_server) <> (0, 0, 0, 0)
    GROUP BY hour ORDER BY hour";

impl Analytics for Postgres {
    fn statuses_at(&self, at: WallTime) -> BoxFuture<'_, Result<Vec<(Status, u64)>, StoreError>> {
        async move {
            let rows = self.ask(STATUSES, vec![Box::new(moment(at)), Box::new(self.lookback())]).await?;
            self.read(&rows, |row| Some((names::status(row.try_get(0).ok()?)?, count(row, 1)?)))
        }
        .boxed()
    }

    fn who_was_there(
        &self,
        at: WallTime,
        after: Option<UserId>,
    ) -> BoxFuture<'_, Result<Vec<(UserId, Status)>, StoreError>> {
        async move {
            let after = after.map_or_else(String::new, |user| user.as_str().to_owned());
            let limit = i64::try_from(PAGE).unwrap_or(i64::MAX);
            let parameters: Parameters =
                vec![Box::new(moment(at)), Box::new(self.lookback()), Box::new(after), Box::new(limit)];
            let rows = self.ask(WHO, parameters).await?;
            self.read(&rows, |row| {
                let user = UserId::new(row.try_get::<_, &str>(0).ok()?).ok()?;
                Some((user, names::status(row.try_get(1).ok()?)?))
            })
        }
        .boxed()
    }

    fn online_per_hour(&self, span: Span) -> BoxFuture<'_, Result<Vec<HourOnline>, StoreError>> {
        async move {
            let Some((from, to)) = moments(span, HOURS, "must be at most 31 days")? else {
                return Ok(Vec::new());
            };
            let parameters: Parameters = vec![Box::new(from), Box::new(to), Box::new(self.lookback())];
            let rows = self.ask(HOURLY, parameters).await?;
            self.read(&rows, |row| {
                let average = row.try_get(2).ok()?;
                Some(HourOnline { hour: wall(row.try_get(0).ok()?), peak: count(row, 1)?, average })
            })
        }
        .boxed()
    }

    fn time_online(
        &self,
        key: UserKey,
        span: Span,
    ) -> BoxFuture<'_, Result<Vec<(WallTime, Duration)>, StoreError>> {
        async move {
            let Some((from, to)) = moments(span, DAYS, "must be at most 366 days")? else {
                return Ok(Vec::new());
            };
            let key = key.to_bytes().to_vec();
            let parameters: Parameters =
                vec![Box::new(key), Box::new(from), Box::new(to), Box::new(self.lookback())];
            let rows = self.ask(TIME_ONLINE, parameters).await?;
            self.read(&rows, |row| Some((wall(row.try_get(0).ok()?), Duration::from_millis(count(row, 1)?))))
        }
        .boxed()
    }

    fn transitions_per_minute(&self, span: Span) -> BoxFuture<'_, Result<Vec<(WallTime, u64)>, StoreError>> {
        async move {
            let Some((from, to)) = moments(span, MINUTES, "must be at most 1 day")? else {
                return Ok(Vec::new());
            };
            let rows = self.ask(PER_MINUTE, vec![Box::new(from), Box::new(to)]).await?;
            self.read(&rows, |row| Some((wall(row.try_get(0).ok()?), count(row, 1)?)))
        }
        .boxed()
    }

    fn sessions_by_device(&self, span: Span) -> BoxFuture<'_, Result<Vec<HourSessions>, StoreError>> {
        async move {
            let Some((from, to)) = moments(span, HOURS, "must be at most 31 days")? else {
                return Ok(Vec::new());
            };
            let rows = self.ask(SESSIONS, vec![Box::new(from), Box::new(to)]).await?;
            self.read(&rows, |row| {
                Some(HourSessions {
                    hour: wall(row.try_get(0).ok()?),
                    web: count(row, 1)?,
                    mobile: count(row, 2)?,
                    desktop: count(row, 3)?,
                    server: count(row, 4)?,
                })
            })
        }
        .boxed()
    }
}

impl Postgres {
    /// In seconds, as the queries take it.
    fn lookback(&self) -> f64 {
        self.inner.lookback.as_secs_f64()
    }

    async fn ask(&self, query: &'static str, parameters: Parameters) -> Result<Vec<Row>, StoreError> {
        self.call(move |client| {
            async move {
                let statement = client.prepare_cached(query).await?;
                let parameters: Vec<&(dyn ToSql + Sync)> =
                    parameters.iter().map(|one| &**one as &(dyn ToSql + Sync)).collect();
                client.query(&statement, &parameters).await
            }
            .boxed()
        })
        .await
    }

    fn read<T>(&self, rows: &[Row], one: impl Fn(&Row) -> Option<T>) -> Result<Vec<T>, StoreError> {
        rows.iter().map(|row| one(row).ok_or_else(|| self.unreadable())).collect()
    }
}

type Parameters = Vec<Box<dyn ToSql + Sync + Send>>;

/// The ends of a span; `None` for one that has no moment.
fn moments(
    span: Span,
    longest: Duration,
    reason: &str,
) -> Result<Option<(SystemTime, SystemTime)>, StoreError> {
    let (from, to) = (moment(span.from), moment(span.to));
    let Ok(length) = to.duration_since(from) else { return Ok(None) };
    ensure(length <= longest, "span", reason)?;
    Ok((!length.is_zero()).then_some((from, to)))
}

fn count(row: &Row, column: usize) -> Option<u64> {
    u64::try_from(row.try_get::<_, i64>(column).ok()?).ok()
}
