//! The way of the history over a real NATS server into a real Cassandra and a real PostgreSQL, where they are installed.
#![allow(
    dead_code,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test may fail so; its parts share what they have"
)]

#[path = "../support/mod.rs"]
mod common;
#[path = "../../../store/tests/support/mod.rs"]
mod support;

#[path = "../../../store/tests/cassandra/server.rs"]
mod cassandra;
#[path = "../../../store/tests/postgres/server.rs"]
mod postgres;

use std::sync::Arc;

use common::{entry, numbers, placement, until, user};
use herenow_archiver::{
    Archive, Archiver, ArchiverMetrics, IntoJournal, Outbox, OutboxConfig, OutboxMetrics, Said, Target,
};
use herenow_bus::testing::NatsServer;
use herenow_bus::{Bus as _, Journal, JournalConfig, NatsBus, NatsConfig};
use herenow_protocol::WallTime;
use herenow_store::{ActivityLog, Cassandra, People as _, Postgres, UserDetails};

async fn connect(server: &NatsServer) -> (NatsBus, Arc<dyn Journal>) {
    let config = NatsConfig { servers: vec![server.url.clone()], ..NatsConfig::default() };
    let bus = NatsBus::connect(&config).await.unwrap();
    let mut events = bus.events();
    while !bus.is_connected() {
        let _ = events.recv().await;
    }
    let journal = Arc::new(bus.journal(JournalConfig { max_bytes: 1 << 26, replicas: 1 }));
    (bus, journal)
}

fn outbox(journal: &Arc<dyn Journal>) -> Outbox {
    let outlet = Arc::new(IntoJournal(Arc::clone(journal)));
    Outbox::start(outlet, OutboxConfig::default(), OutboxMetrics::default())
}

fn say(outbox: &Outbox, name: &str, numbers: std::ops::RangeInclusive<u64>) {
    for n in numbers {
        outbox.say(Said::Entry(Box::new(entry(name, n))));
    }
}

async fn until_done(journal: &dyn Journal) {
    let done = async {
        loop {
            let backlog = journal.backlog().await.unwrap();
            if (backlog.waiting, backlog.in_hand) == (0, 0) {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(common::PATIENCE, done).await.expect("all done in time");
}

/// Everything is in the log exactly once, though NATS, and the archiver twice, are killed meanwhile.
async fn exactly_once_through_crashes(target: Target) {
    let log = Arc::clone(&target.log);
    let archive = Archive::new(placement(), vec![target]);
    let mut server = NatsServer::start().await;
    let (_bus, journal) = connect(&server).await;
    let outbox = outbox(&journal);
    let start = || Archiver::start(Arc::clone(&journal), archive.clone(), ArchiverMetrics::default());
    let archiver = start();
    say(&outbox, "ana", 1..=200);
    until(&*log, "ana", &(1..=200).collect::<Vec<_>>()).await;
    say(&outbox, "ana", 201..=400);
    drop(archiver);
    let archiver = start();
    server.kill();
    say(&outbox, "ana", 401..=600);
    assert!(server.restart().await);
    say(&outbox, "ana", 601..=800);
    let all: Vec<u64> = (1..=800).collect();
    until(&*log, "ana", &all).await;
    // What a crash kept from being confirmed comes again after 30 s; an erasure waits for it, and takes what is newer along.
    until_done(&*journal).await;
    say(&outbox, "ben", 1..=2);
    outbox.say(Said::Erase(user("ana")));
    say(&outbox, "ana", 900..=901);
    until(&*log, "ana", &[900, 901]).await;
    assert_eq!(numbers(&*log, "ben").await, [1, 2]);
    outbox.close().await;
    archiver.leave().await;
}

#[tokio::test]
async fn into_postgres_exactly_once_and_the_erasure_reaches_people() {
    let Some(server) = postgres::Server::shared() else { return };
    let store = Arc::new(Postgres::open(&server.config()).await.unwrap());
    let people = |name: &str| UserDetails {
        user: user(name),
        username: name.to_owned(),
        email: format!("{name}@example.com"),
        created: WallTime::from_millis(1),
    };
    store.put(vec![people("ana"), people("ben")]).await.unwrap();
    let target = Target { name: "postgres", log: store.clone(), people: Some(store.clone()) };
    exactly_once_through_crashes(target).await;
    assert_eq!(store.get(&user("ana")).await.unwrap(), None);
    assert_eq!(store.get(&user("ben")).await.unwrap(), Some(people("ben")));
}

#[tokio::test]
async fn into_cassandra_exactly_once() {
    let Some(server) = cassandra::Server::shared() else { return };
    let store: Arc<dyn ActivityLog> = Arc::new(Cassandra::open(&server.config()).await.unwrap());
    exactly_once_through_crashes(Target { name: "cassandra", log: store, people: None }).await;
}

/// What cannot be written now is not lost, nor is it given up.
#[tokio::test]
async fn a_store_that_is_away_gets_it_when_it_is_back() {
    let Some(mut server) = postgres::Server::start() else { return };
    let config = server.config();
    let store = Arc::new(Postgres::open(&config).await.unwrap());
    let archive = Archive::new(
        placement(),
        vec![Target { name: "postgres", log: store.clone(), people: Some(store.clone()) }],
    );
    let nats = NatsServer::start().await;
    let (_bus, journal) = connect(&nats).await;
    let outbox = outbox(&journal);
    let archiver = Archiver::start(Arc::clone(&journal), archive, ArchiverMetrics::default());
    say(&outbox, "ana", 1..=10);
    until(&*store, "ana", &(1..=10).collect::<Vec<_>>()).await;
    server.kill();
    say(&outbox, "ana", 11..=20);
    while journal.backlog().await.unwrap().in_hand == 0 {
        tokio::task::yield_now().await;
    }
    server.restart();
    until(&*store, "ana", &(1..=20).collect::<Vec<_>>()).await;
    archiver.leave().await;
}
