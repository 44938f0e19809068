//! What every journal does, and what only that of a real server can.
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as expected")]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use herenow_bus::testing::NatsServer;
use herenow_bus::{
    Bus as _, Journal, JournalConfig, JournalError, LocalJournal, NatsBus, NatsConfig, NatsJournal, TAKEN,
};

const WAIT: Duration = Duration::from_secs(5);
const SOON: Duration = Duration::from_millis(50);

async fn append(journal: &dyn Journal, from: usize, to: usize) {
    for n in from..to {
        journal.append(Bytes::from(n.to_string())).await.unwrap();
    }
}

/// What it gives, as numbers, and nothing of it done.
async fn take(journal: &dyn Journal, most: usize) -> (Vec<herenow_bus::Taken>, Vec<usize>) {
    let taken = journal.take(most, WAIT).await.unwrap();
    let read = |taken: &herenow_bus::Taken| String::from_utf8_lossy(&taken.payload).parse().unwrap();
    let numbers = taken.iter().map(read).collect();
    (taken, numbers)
}

async fn done_through(journal: &dyn Journal) -> u64 {
    journal.backlog().await.unwrap().done_through
}

async fn assert_all_done(journal: &dyn Journal, last: u64) {
    let all = herenow_bus::Backlog { waiting: 0, in_hand: 0, done_through: last };
    assert_eq!(journal.backlog().await.unwrap(), all);
}

async fn in_order_and_once_while_in_hand(journal: &dyn Journal) {
    append(journal, 0, 10).await;
    let (first, numbers) = take(journal, 4).await;
    assert_eq!(numbers, [0, 1, 2, 3]);
    assert!(first.is_sorted_by_key(|taken| taken.number));
    let (second, numbers) = take(journal, 100).await;
    assert_eq!(numbers, [4, 5, 6, 7, 8, 9]);
    let backlog = journal.backlog().await.unwrap();
    assert_eq!((backlog.waiting, backlog.in_hand, backlog.done_through), (0, 10, 0));
    journal.done(&second).await.unwrap();
    assert_eq!(done_through(journal).await, 0, "what is older is in hand yet");
    journal.done(&first).await.unwrap();
    assert!(journal.take(100, SOON).await.unwrap().is_empty());
    assert_all_done(journal, 10).await;
}

/// Ten messages of the test before this one are done.
async fn what_is_to_come_again_does(journal: &dyn Journal) {
    append(journal, 0, 3).await;
    let (taken, _) = take(journal, 3).await;
    journal.done(&taken[..1]).await.unwrap();
    journal.again(&taken[1]).await;
    journal.done(&taken[2..]).await.unwrap();
    assert_eq!(done_through(journal).await, 11);
    let (again, numbers) = take(journal, 2).await;
    assert_eq!((numbers.as_slice(), again[0].number), ([1].as_slice(), 12));
    assert_eq!(done_through(journal).await, 11, "it is in hand again");
    journal.done(&again).await.unwrap();
    assert_all_done(journal, 13).await;
}

async fn who_waits_is_given_what_comes(journal: Arc<dyn Journal>) {
    let waiting = tokio::spawn({
        let journal = Arc::clone(&journal);
        async move { journal.take(TAKEN, WAIT).await.unwrap().len() }
    });
    tokio::task::yield_now().await;
    append(&*journal, 7, 8).await;
    assert_eq!(waiting.await.unwrap(), 1);
}

async fn no_more_than_the_limit_at_once(journal: &dyn Journal) {
    append(journal, 0, TAKEN + 1).await;
    let (taken, numbers) = take(journal, 10 * TAKEN).await;
    assert_eq!(numbers.len(), TAKEN);
    journal.done(&taken).await.unwrap();
    let (taken, numbers) = take(journal, 10 * TAKEN).await;
    assert_eq!(numbers, [TAKEN]);
    journal.done(&taken).await.unwrap();
}

async fn suite(journal: Arc<dyn Journal>) {
    in_order_and_once_while_in_hand(&*journal).await;
    what_is_to_come_again_does(&*journal).await;
    no_more_than_the_limit_at_once(&*journal).await;
    who_waits_is_given_what_comes(journal).await;
}

#[tokio::test]
async fn the_suite_in_memory() {
    suite(Arc::new(LocalJournal::new(1_000))).await;
}

#[tokio::test]
async fn one_more_than_the_limit_is_refused_in_memory() {
    let journal = LocalJournal::new(2);
    append(&journal, 0, 2).await;
    assert_eq!(journal.append(Bytes::new()).await, Err(JournalError::Full));
    let (taken, _) = take(&journal, 1).await;
    assert_eq!(journal.append(Bytes::new()).await, Err(JournalError::Full), "what is in hand counts");
    journal.done(&taken).await.unwrap();
    assert_eq!(journal.append(Bytes::new()).await, Ok(()));
}

async fn journal_of(server: &NatsServer, max_bytes: u64) -> (NatsBus, NatsJournal) {
    let config = NatsConfig { servers: vec![server.url.clone()], ..NatsConfig::default() };
    let bus = NatsBus::connect(&config).await.unwrap();
    let mut events = bus.events();
    while !bus.is_connected() {
        let _ = events.recv().await;
    }
    let journal = bus.journal(JournalConfig { max_bytes, replicas: 1 });
    (bus, journal)
}

#[tokio::test]
async fn the_suite_over_nats() {
    let server = NatsServer::start().await;
    let (_bus, journal) = journal_of(&server, 1 << 20).await;
    suite(Arc::new(journal)).await;
}

#[tokio::test]
async fn a_full_stream_refuses_and_a_message_done_makes_room() {
    let server = NatsServer::start().await;
    let (_bus, journal) = journal_of(&server, 10_000).await;
    let big = Bytes::from(vec![b'x'; 4_000]);
    journal.append(big.clone()).await.unwrap();
    journal.append(big.clone()).await.unwrap();
    assert_eq!(journal.append(big.clone()).await, Err(JournalError::Full));
    let taken = journal.take(1, WAIT).await.unwrap();
    journal.done(&taken).await.unwrap();
    journal.append(big).await.unwrap();
}

#[tokio::test]
async fn what_was_appended_survives_kill_9_of_the_server() {
    let mut server = NatsServer::start().await;
    let (bus, journal) = journal_of(&server, 1 << 20).await;
    append(&journal, 0, 3).await;
    let (taken, _) = take(&journal, 1).await;
    journal.done(&taken).await.unwrap();
    server.kill();
    assert!(matches!(journal.append(Bytes::new()).await, Err(JournalError::Away(_))));
    let mut events = bus.events();
    assert!(server.restart().await);
    while !bus.is_connected() {
        let _ = events.recv().await;
    }
    let (taken, numbers) = take(&journal, 10).await;
    assert_eq!(numbers, [1, 2]);
    journal.done(&taken).await.unwrap();
}

#[tokio::test]
async fn what_nobody_can_use_is_put_aside_with_the_reason() {
    let server = NatsServer::start().await;
    let (_bus, journal) = journal_of(&server, 1 << 20).await;
    append(&journal, 0, 2).await;
    let (taken, _) = take(&journal, 2).await;
    journal.bury(&taken[0], "is nonsense").await.unwrap();
    journal.bury(&taken[0], "is nonsense").await.unwrap();
    journal.done(&taken[1..]).await.unwrap();
    let client = async_nats::connect(&server.url).await.unwrap();
    let dead = async_nats::jetstream::new(client).get_stream("HERENOW_ACTIVITY_DEAD").await.unwrap();
    assert_eq!(dead.get_info().await.unwrap().state.messages, 1, "once");
    let message = dead.get_raw_message(1).await.unwrap();
    assert_eq!(message.payload.as_ref(), b"0");
    assert_eq!(message.headers.get("Herenow-Reason").unwrap().as_str(), "is nonsense");
    assert_all_done(&journal, 2).await;
}
