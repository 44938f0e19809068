//! Analytics against histories whose answers are counted by hand.

use std::time::Duration;

use herenow_protocol::history::Opened;
use herenow_protocol::{Status, WallTime};
use herenow_store::testing::{entry, key, user, version};
use herenow_store::{
    ActivityLog as _, ActivityRecord, Analytics as _, HourOnline, HourSessions, Postgres, PostgresConfig,
    Span, StoreError,
};

use crate::server::Server;

const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
/// The beginning of a day.
const NOON_LESS_12: u64 = 19_000 * DAY;

fn at(ms: u64) -> WallTime {
    WallTime::from_millis(NOON_LESS_12 + ms)
}

fn span(from: u64, to: u64) -> Span {
    Span { from: at(from), to: at(to) }
}

fn change(name: &str, ms: u64, from: Status, to: Status) -> ActivityRecord {
    let opened = Opened::default();
    ActivityRecord { at: at(ms), version: version(1, ms), from, to, opened, ..entry(name, 0, 0) }
}

/// Ana is there from 22:00 of the day before to 1:30, and away for a while in it; Ben from 0:15 to 0:45; Cleo comes at
/// 1:00 and stays.
async fn night() -> Option<(std::sync::Arc<Server>, Postgres)> {
    use Status::{Dnd, Idle, Offline, Online};
    let server = Server::shared()?;
    let store = Postgres::open(&server.config()).await.unwrap();
    let mut came = change("ana", 0, Offline, Online);
    came.at = WallTime::from_millis(NOON_LESS_12 - 2 * HOUR);
    let wrote = vec![
        came,
        change("ben", 15 * MINUTE, Offline, Online),
        change("ana", 30 * MINUTE, Online, Idle),
        change("ben", 45 * MINUTE, Online, Offline),
        change("cleo", HOUR, Offline, Dnd),
        change("ana", 90 * MINUTE, Idle, Offline),
    ];
    store.append_batch(wrote).await.unwrap();
    Some((server, store))
}

#[tokio::test]
async fn statuses_and_who_was_there_at_a_moment() {
    let Some((_server, store)) = night().await else { return };
    let counts = store.statuses_at(at(35 * MINUTE)).await.unwrap();
    assert_eq!(counts, [(Status::Idle, 1), (Status::Online, 1)]);
    let counts = store.statuses_at(at(3 * HOUR)).await.unwrap();
    assert_eq!(counts, [(Status::Dnd, 1), (Status::Offline, 2)]);
    let there = store.who_was_there(at(HOUR), None).await.unwrap();
    assert_eq!(there, [(user("ana"), Status::Idle), (user("cleo"), Status::Dnd)]);
    let behind = store.who_was_there(at(HOUR), Some(user("ana"))).await.unwrap();
    assert_eq!(behind, [(user("cleo"), Status::Dnd)]);
    assert_eq!(store.who_was_there(at(40 * DAY), None).await.unwrap(), []);
}

#[tokio::test]
async fn peak_and_average_of_every_hour() {
    let Some((_server, store)) = night().await else { return };
    let hours = store.online_per_hour(span(0, 3 * HOUR)).await.unwrap();
    let hour = |n: u64, peak, average| HourOnline { hour: at(n * HOUR), peak, average };
    assert_eq!(hours, [hour(0, 2, 1.5), hour(1, 2, 1.5), hour(2, 1, 1.0)]);
    // A part of an hour, which begins in the middle of it.
    let part = store.online_per_hour(span(30 * MINUTE, HOUR)).await.unwrap();
    assert_eq!(part, [hour(0, 2, 1.5)]);
    assert_eq!(store.online_per_hour(span(5, 5)).await.unwrap(), []);
    assert_eq!(store.online_per_hour(span(9, 5)).await.unwrap(), []);
}

#[tokio::test]
async fn time_online_by_day() {
    let Some((_server, store)) = night().await else { return };
    let whole = Span { from: WallTime::from_millis(NOON_LESS_12 - DAY), to: at(DAY) };
    let days = store.time_online(key("ana"), whole).await.unwrap();
    let yesterday = WallTime::from_millis(NOON_LESS_12 - DAY);
    assert_eq!(days, [(yesterday, Duration::from_hours(2)), (at(0), Duration::from_mins(90))]);
    // Who was there before the span, and who is there still.
    assert_eq!(
        store.time_online(key("ana"), span(HOUR, 2 * HOUR)).await.unwrap(),
        [(at(0), Duration::from_mins(30))]
    );
    assert_eq!(
        store.time_online(key("cleo"), span(0, 2 * HOUR)).await.unwrap(),
        [(at(0), Duration::from_hours(1))]
    );
    assert_eq!(store.time_online(key("nobody"), span(0, DAY)).await.unwrap(), []);
}

#[tokio::test]
async fn transitions_by_minute() {
    let Some((_server, store)) = night().await else { return };
    let more = change("dora", 15 * MINUTE + 59_999, Status::Offline, Status::Online);
    store.append_batch(vec![more]).await.unwrap();
    let minutes = store.transitions_per_minute(span(0, HOUR)).await.unwrap();
    assert_eq!(minutes, [(at(15 * MINUTE), 2), (at(30 * MINUTE), 1), (at(45 * MINUTE), 1)]);
}

/// Ana comes by web and opens two sessions on her phone meanwhile; Ben comes by the desktop an hour later.
#[tokio::test]
async fn sessions_by_kind_of_device() {
    let Some((_server, store)) = night().await else { return };
    let opened = |record: ActivityRecord, opened| ActivityRecord { opened, ..record };
    let (came, left) = (Status::Online, Status::Offline);
    let wrote = vec![
        opened(change("dora", 5 * HOUR, left, came), Opened { web: 1, ..Opened::default() }),
        opened(change("dora", 5 * HOUR + MINUTE, came, left), Opened { mobile: 2, ..Opened::default() }),
        opened(change("eve", 6 * HOUR, left, came), Opened { desktop: 1, server: 255, ..Opened::default() }),
    ];
    store.append_batch(wrote).await.unwrap();
    let none = HourSessions { hour: at(5 * HOUR), web: 0, mobile: 0, desktop: 0, server: 0 };
    let first = HourSessions { web: 1, mobile: 2, ..none };
    let second = HourSessions { hour: at(6 * HOUR), desktop: 1, server: 255, ..none };
    assert_eq!(store.sessions_by_device(span(0, 6 * HOUR)).await.unwrap(), [first]);
    assert_eq!(store.sessions_by_device(span(0, 6 * HOUR + 1)).await.unwrap(), [first, second]);
    assert_eq!(store.sessions_by_device(span(7 * HOUR, 8 * HOUR)).await.unwrap(), []);
    let long = store.sessions_by_device(span(0, 31 * DAY + 1)).await;
    assert!(matches!(long, Err(StoreError::Setting { key: "span", .. })), "{long:?}");
}

#[tokio::test]
async fn one_more_than_the_longest_span_is_refused() {
    let Some((_server, store)) = night().await else { return };
    let refused = |answer: Result<usize, StoreError>| {
        assert!(matches!(answer, Err(StoreError::Setting { key: "span", .. })), "{answer:?}");
    };
    refused(store.online_per_hour(span(0, 31 * DAY + 1)).await.map(|found| found.len()));
    refused(store.time_online(key("ana"), span(0, 366 * DAY + 1)).await.map(|found| found.len()));
    refused(store.transitions_per_minute(span(0, DAY + 1)).await.map(|found| found.len()));
    assert_eq!(store.online_per_hour(span(0, 31 * DAY)).await.unwrap().len(), 31 * 24);
}

#[tokio::test]
async fn who_did_nothing_for_longer_than_is_looked_back_is_not_counted() {
    let Some((server, _)) = night().await else { return };
    let config = PostgresConfig { lookback: Duration::from_hours(1), ..server.config() };
    let store = Postgres::open(&config).await.unwrap();
    store.append_batch(vec![change("ana", 0, Status::Offline, Status::Online)]).await.unwrap();
    assert_eq!(store.statuses_at(at(HOUR - 1)).await.unwrap(), [(Status::Online, 1)]);
    assert_eq!(store.statuses_at(at(HOUR)).await.unwrap(), []);
}

/// People read the tables too.
#[tokio::test]
async fn the_history_in_the_words_of_people() {
    let Some(server) = Server::shared() else { return };
    let config = server.config();
    let store = Postgres::open(&config).await.unwrap();
    let wrote = vec![
        change("ana", 1, Status::Offline, Status::Online),
        change("ana", 2, Status::Online, Status::Idle),
        change("ana", 3, Status::Idle, Status::Offline),
    ];
    store.append_batch(wrote).await.unwrap();
    let ask = format!(
        "SET search_path = {}; SELECT event_type FROM user_activity ORDER BY \"timestamp\"",
        config.schema
    );
    let rows = server.client().await.simple_query(&ask).await.unwrap();
    let mut events = Vec::new();
    for row in rows {
        if let tokio_postgres::SimpleQueryMessage::Row(row) = row {
            events.push(row.get(0).unwrap().to_owned());
        }
    }
    assert_eq!(events, ["login", "status_change", "logout"]);
}
