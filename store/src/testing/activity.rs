//! What every history does.
#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    missing_docs,
    reason = "each is a test, named by what it shows"
)]

use herenow_protocol::WallTime;

use super::{Opens, entry, key};
use crate::{ActivityLog, ActivityRecord, BATCH, PAGE, Span, StoreError};

type Fresh<'a> = &'a dyn Opens<dyn ActivityLog>;

const DAY_MS: u64 = 86_400_000;

const fn span(from: u64, to: u64) -> Span {
    Span { from: WallTime::from_millis(from), to: WallTime::from_millis(to) }
}

pub async fn entries_come_in_the_order_of_time(fresh: Fresh<'_>) {
    let log = fresh.open().await;
    let mut wrote =
        vec![entry("ana", 3 * DAY_MS, 9), entry("ana", 5, 2), entry("ana", 5, 1), entry("ana", 40, 3)];
    wrote.push(entry("ben", 6, 1));
    log.append_batch(wrote).await.unwrap();
    let of_ana = [entry("ana", 5, 1), entry("ana", 5, 2), entry("ana", 40, 3), entry("ana", 3 * DAY_MS, 9)];
    assert_eq!(log.query(key("ana"), Span::ALL).await.unwrap(), of_ana);
    assert_eq!(log.query(key("ben"), Span::ALL).await.unwrap(), [entry("ben", 6, 1)]);
    assert_eq!(log.query(key("nobody"), Span::ALL).await.unwrap(), []);
}

pub async fn the_same_entry_again_is_one(fresh: Fresh<'_>) {
    let log = fresh.open().await;
    for _ in 0..3 {
        log.append_batch(vec![entry("ana", 5, 1), entry("ana", 5, 1)]).await.unwrap();
    }
    assert_eq!(log.query(key("ana"), Span::ALL).await.unwrap(), [entry("ana", 5, 1)]);
}

/// A newer entry of an earlier time, and one of an owner whose clock is years ahead.
pub async fn a_clock_that_went_back_loses_nothing(fresh: Fresh<'_>) {
    let log = fresh.open().await;
    let ahead = 30_000 * DAY_MS;
    for (at_ms, n) in [(5 * DAY_MS, 1), (ahead, 2), (4 * DAY_MS, 3), (5 * DAY_MS, 4)] {
        log.append_batch(vec![entry("ana", at_ms, n)]).await.unwrap();
    }
    let wanted = [(4 * DAY_MS, 3), (5 * DAY_MS, 1), (5 * DAY_MS, 4), (ahead, 2)];
    let wanted = wanted.map(|(at_ms, n)| entry("ana", at_ms, n));
    assert_eq!(log.query(key("ana"), Span::ALL).await.unwrap(), wanted);
}

pub async fn a_span_has_its_first_moment_and_not_its_last(fresh: Fresh<'_>) {
    let log = fresh.open().await;
    let all: Vec<ActivityRecord> = (0..10).map(|day| entry("ana", day * DAY_MS, day)).collect();
    log.append_batch(all.clone()).await.unwrap();
    assert_eq!(log.query(key("ana"), span(2 * DAY_MS, 5 * DAY_MS)).await.unwrap(), all[2..5]);
    assert_eq!(log.query(key("ana"), span(2 * DAY_MS + 1, 5 * DAY_MS + 1)).await.unwrap(), all[3..6]);
    assert_eq!(log.query(key("ana"), span(5, 5)).await.unwrap(), []);
    assert_eq!(log.query(key("ana"), span(9, 5)).await.unwrap(), []);
}

pub async fn history_survives_a_restart(fresh: Fresh<'_>) {
    let log = fresh.open().await;
    log.append_batch(vec![entry("ana", 5, 1)]).await.unwrap();
    drop(log);
    let log = fresh.open().await;
    assert_eq!(log.query(key("ana"), Span::ALL).await.unwrap(), [entry("ana", 5, 1)]);
}

pub async fn a_long_history_comes_in_pages(fresh: Fresh<'_>) {
    let log = fresh.open().await;
    let long = PAGE as u64 + 500;
    let all: Vec<ActivityRecord> = (0..long).map(|i| entry("ana", i, i)).collect();
    log.append_batch(all.clone()).await.unwrap();
    let first = log.query(key("ana"), Span::ALL).await.unwrap();
    assert_eq!(first, all[..PAGE]);
    let from = first.last().unwrap().at;
    assert_eq!(log.query(key("ana"), Span { from, ..Span::ALL }).await.unwrap(), all[PAGE - 1..]);
    let refused = log.append_batch(vec![entry("ana", 1, 1); BATCH + 1]).await;
    assert_eq!(refused, Err(StoreError::TooMany { given: BATCH + 1, limit: BATCH }));
}

pub async fn who_was_erased_has_no_history(fresh: Fresh<'_>) {
    let log = fresh.open().await;
    let of_ana: Vec<ActivityRecord> = (0..1_500).map(|i| entry("ana", i * DAY_MS / 100, i)).collect();
    log.append_batch(of_ana).await.unwrap();
    log.append_batch(vec![entry("ben", 5, 1)]).await.unwrap();
    log.erase(key("ana")).await.unwrap();
    log.erase(key("nobody")).await.unwrap();
    assert_eq!(log.query(key("ana"), Span::ALL).await.unwrap(), []);
    drop(log);
    let log = fresh.open().await;
    assert_eq!(log.query(key("ana"), Span::ALL).await.unwrap(), []);
    assert_eq!(log.query(key("ben"), Span::ALL).await.unwrap(), [entry("ben", 5, 1)]);
}

pub async fn days_that_are_over_are_forgotten(fresh: Fresh<'_>) {
    let log = fresh.open().await;
    for name in ["ana", "ben"] {
        let days = (0..10).map(|day| entry(name, day * DAY_MS + 7, day)).collect();
        log.append_batch(days).await.unwrap();
    }
    log.expire(WallTime::from_millis(4 * DAY_MS + 9)).await.unwrap();
    for name in ["ana", "ben"] {
        let left: Vec<ActivityRecord> = (4..10).map(|day| entry(name, day * DAY_MS + 7, day)).collect();
        assert_eq!(log.query(key(name), Span::ALL).await.unwrap(), left);
    }
}
