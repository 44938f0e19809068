//! The way of the history, without servers.
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as expected")]

mod support;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use herenow_archiver::{
    Archive, Archiver, ArchiverMetrics, IntoArchive, IntoJournal, Outbox, OutboxConfig, OutboxMetrics, Said,
    Target,
};
use herenow_bus::{Journal as _, LocalJournal};
use herenow_protocol::history::{HistoryMessage, HistorySaid};
use herenow_store::ActivityLog as _;
use prometheus_client::registry::Registry;
use support::{Forgotten, Moody, archive, entry, metric, numbers, placement, until, user};

fn message(said: HistorySaid) -> Bytes {
    Bytes::from(HistoryMessage::new(said).to_bytes())
}

fn said(name: &str, n: u64) -> Said {
    Said::Entry(Box::new(entry(name, n)))
}

async fn journal_with(said: Vec<HistorySaid>) -> LocalJournal {
    let journal = LocalJournal::new(1_000);
    for said in said {
        journal.append(message(said)).await.unwrap();
    }
    journal
}

fn start(journal: &LocalJournal, archive: Archive) -> (Archiver, Registry) {
    let mut registry = Registry::default();
    let metrics = ArchiverMetrics::register(&mut registry);
    (Archiver::start(Arc::new(journal.clone()), archive, metrics), registry)
}

#[tokio::test(start_paused = true)]
async fn what_a_coordinator_says_is_in_the_log_once() {
    let (journal, log) = (LocalJournal::new(1_000), Moody::new());
    let outlet = Arc::new(IntoJournal(Arc::new(journal.clone())));
    let outbox = Outbox::start(outlet, OutboxConfig::default(), OutboxMetrics::default());
    for n in 1..=1_000 {
        outbox.say(said("ana", n));
    }
    outbox.say(said("ben", 1));
    let (archiver, registry) = start(&journal, archive(log.clone()));
    let all: Vec<u64> = (1..=1_000).collect();
    until(&log, "ana", &all).await;
    until(&log, "ben", &[1]).await;
    assert_eq!(metric(&registry, "herenow_archiver_entries_written_total"), 1_001.0);
    archiver.leave().await;
    let backlog = journal.backlog().await.unwrap();
    assert_eq!((backlog.waiting, backlog.in_hand), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn who_dies_between_writing_and_being_done_changes_nothing() {
    let entries = (1..=3).map(|n| HistorySaid::Entries(vec![entry("ana", n)])).collect();
    let (journal, log) = (journal_with(entries).await, Moody::new());
    // What the first has written, and could not say that it had.
    let taken = journal.take(2, Duration::ZERO).await.unwrap();
    archive(log.clone()).write(&[entry("ana", 1), entry("ana", 2)]).await.unwrap();
    drop(taken);
    journal.abandon();
    let (archiver, _) = start(&journal, archive(log.clone()));
    until(&log, "ana", &[1, 2, 3]).await;
    archiver.leave().await;
    assert_eq!(journal.backlog().await.unwrap().in_hand, 0);
}

#[tokio::test(start_paused = true)]
async fn while_a_store_fails_what_waits_waits_in_the_journal() {
    let entries = (1..=250).map(|n| HistorySaid::Entries(vec![entry("ana", n)])).collect();
    let (journal, log) = (journal_with(entries).await, Moody::new());
    log.fails.store(true, Ordering::SeqCst);
    let (archiver, registry) = start(&journal, archive(log.clone()));
    while log.calls.load(Ordering::SeqCst) < 10 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let backlog = journal.backlog().await.unwrap();
    assert_eq!((backlog.waiting, backlog.in_hand), (150, 100), "one batch in hand, and no more is taken");
    let failures =
        metric(&registry, "herenow_archiver_failures_total{which=\"memory\",reason=\"unavailable\"}");
    assert!(failures >= 9.0, "{failures}");
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(metric(&registry, "herenow_archiver_messages_waiting"), 150.0);
    assert!(metric(&registry, "herenow_archiver_lag_seconds") >= 0.0);
    log.fails.store(false, Ordering::SeqCst);
    let all: Vec<u64> = (1..=250).collect();
    until(&log, "ana", &all).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(metric(&registry, "herenow_archiver_messages_waiting"), 0.0);
    archiver.leave().await;
}

#[tokio::test(start_paused = true)]
async fn a_message_that_nobody_can_use_is_put_aside_and_holds_up_nobody() {
    let journal = journal_with(vec![HistorySaid::Entries(vec![entry("ana", 1)])]).await;
    journal.append(Bytes::from_static(b"nonsense")).await.unwrap();
    journal.append(message(HistorySaid::Entries(vec![entry("ana", 2)]))).await.unwrap();
    let log = Moody::new();
    let (archiver, registry) = start(&journal, archive(log.clone()));
    until(&log, "ana", &[1, 2]).await;
    archiver.leave().await;
    let buried = journal.buried();
    assert_eq!(buried.len(), 1);
    assert_eq!(buried[0].0.as_ref(), b"nonsense");
    assert!(buried[0].1.contains("not understood"), "{}", buried[0].1);
    assert_eq!(metric(&registry, "herenow_archiver_messages_buried_total"), 1.0);
}

#[tokio::test(start_paused = true)]
async fn who_is_erased_keeps_what_comes_later_and_nothing_else() {
    let journal = journal_with(vec![
        HistorySaid::Entries(vec![entry("ana", 1), entry("ben", 1), entry("ana", 2)]),
        HistorySaid::Erase(user("ana")),
        HistorySaid::Entries(vec![entry("ana", 3)]),
    ])
    .await;
    let (log, people) = (Moody::new(), Arc::new(Forgotten::default()));
    let target = Target { name: "memory", log: Arc::new(log.clone()), people: Some(people.clone()) };
    let (archiver, registry) = start(&journal, Archive::new(placement(), vec![target]));
    until(&log, "ana", &[3]).await;
    assert_eq!(numbers(&log, "ben").await, [1]);
    assert_eq!(*people.0.lock().unwrap(), [user("ana")]);
    archiver.leave().await;
    assert_eq!(metric(&registry, "herenow_archiver_users_erased_total"), 1.0);
}

#[tokio::test(start_paused = true)]
async fn an_erasure_waits_for_what_another_archiver_has_in_hand() {
    let journal =
        journal_with(vec![HistorySaid::Entries(vec![entry("ana", 1)]), HistorySaid::Erase(user("ana"))])
            .await;
    // The other one has taken it, and writes it late.
    let others = journal.take(1, Duration::ZERO).await.unwrap();
    let log = Moody::new();
    let (archiver, registry) = start(&journal, archive(log.clone()));
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(
        log.calls.load(Ordering::SeqCst),
        0,
        "what the other writes now would come behind the erasure"
    );
    archive(log.log.clone()).write(&[entry("ana", 1)]).await.unwrap();
    journal.done(&others).await.unwrap();
    while metric(&registry, "herenow_archiver_users_erased_total") == 0.0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(numbers(&log, "ana").await.is_empty());
    archiver.leave().await;
}

#[tokio::test(start_paused = true)]
async fn an_erasure_does_not_wait_for_what_is_newer() {
    let journal = journal_with(vec![HistorySaid::Erase(user("ana"))]).await;
    let erasure = journal.take(1, Duration::ZERO).await.unwrap();
    journal.append(message(HistorySaid::Entries(vec![entry("ana", 1)]))).await.unwrap();
    // The other one has what is newer in hand, and does not end.
    let _others = journal.take(1, Duration::ZERO).await.unwrap();
    journal.again(&erasure[0]).await;
    let (archiver, registry) = start(&journal, archive(Moody::new()));
    while metric(&registry, "herenow_archiver_users_erased_total") == 0.0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    archiver.leave().await;
}

#[tokio::test(start_paused = true)]
async fn one_more_than_may_wait_is_dropped_and_an_erasure_has_room() {
    let mut registry = Registry::default();
    let log = Moody::new();
    log.fails.store(true, Ordering::SeqCst);
    let metrics = OutboxMetrics::register(&mut registry);
    let outlet = Arc::new(IntoArchive(archive(log.clone())));
    let outbox = Outbox::start(outlet, OutboxConfig { max_waiting: 3 }, metrics);
    for n in 1..=3 {
        outbox.say(said("ana", n));
    }
    assert_eq!(metric(&registry, "herenow_history_dropped_total"), 0.0);
    outbox.say(said("ana", 4));
    assert_eq!(metric(&registry, "herenow_history_dropped_total"), 1.0);
    outbox.say(Said::Erase(user("ben")));
    assert_eq!(metric(&registry, "herenow_history_dropped_total"), 2.0);
    assert_eq!(metric(&registry, "herenow_history_waiting"), 3.0);
    log.log.append_batch(vec![herenow_store::testing::entry("ben", 1, 1)]).await.unwrap();
    log.fails.store(false, Ordering::SeqCst);
    until(&log, "ana", &[2, 3]).await;
    until(&log, "ben", &[]).await;
    outbox.say(said("ana", 5));
    outbox.close().await;
    assert_eq!(numbers(&log, "ana").await, [2, 3, 5], "what waits at the end is handed on");
    assert_eq!(metric(&registry, "herenow_history_delivered_total"), 4.0);
}

#[tokio::test(start_paused = true)]
async fn a_journal_that_is_full_costs_nothing_but_time() {
    let journal = journal_with(Vec::new()).await;
    let small = LocalJournal::new(1);
    small.append(message(HistorySaid::Erase(user("x")))).await.unwrap();
    drop(journal);
    let mut registry = Registry::default();
    let outlet = Arc::new(IntoJournal(Arc::new(small.clone())));
    let outbox = Outbox::start(outlet, OutboxConfig::default(), OutboxMetrics::register(&mut registry));
    outbox.say(said("ana", 1));
    while metric(&registry, "herenow_history_failures_total{reason=\"full\"}") < 2.0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let taken = small.take(1, Duration::ZERO).await.unwrap();
    small.done(&taken).await.unwrap();
    let taken = small.take(1, Duration::from_secs(60)).await.unwrap();
    assert_eq!(taken.len(), 1);
    assert_eq!(taken[0].payload, message(HistorySaid::Entries(vec![entry("ana", 1)])));
}

#[tokio::test(start_paused = true)]
async fn days_that_were_kept_for_long_enough_go() {
    let log = Moody::new();
    archive(log.clone()).write(&[entry("ana", 1)]).await.unwrap();
    let day = Duration::from_hours(24);
    let long =
        herenow_archiver::Retention::start(archive(log.clone()), day * 36_500, ArchiverMetrics::default());
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(numbers(&log, "ana").await, [1]);
    drop(long);
    let _short =
        herenow_archiver::Retention::start(archive(log.clone()), Duration::ZERO, ArchiverMetrics::default());
    until(&log, "ana", &[]).await;
}
