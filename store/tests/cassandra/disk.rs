//! Cassandra whose disk is full.

use std::time::Duration;

use herenow_protocol::record::Record;
use herenow_store::testing::{entry, key, record, version};
use herenow_store::{ActivityLog as _, Cassandra, CassandraConfig, Span, StatusStore as _};

use crate::server::Server;
use crate::support::disk::{self, Ballast, Disk};

const USERS: u64 = 1_000;

fn batch(n: u64) -> Vec<Record> {
    (0..USERS).map(|i| record(&format!("u{i}"), version(1, n))).collect()
}

/// The number of the oldest and the newest write that is there of anybody.
async fn kept(store: &Cassandra) -> (u64, u64) {
    let keys = (0..USERS).map(|i| key(&format!("u{i}"))).collect();
    let read = store.get_many(keys).await.unwrap();
    let numbers = || read.iter().map(|found| found.as_ref().unwrap().written.n);
    for (i, found) in read.iter().enumerate() {
        let found = found.as_ref().unwrap();
        assert_eq!(*found, record(&format!("u{i}"), found.written), "each record is whole");
    }
    (numbers().min().unwrap(), numbers().max().unwrap())
}

#[test]
fn a_full_disk_loses_nothing_that_was_acknowledged_and_takes_more_when_there_is_room() {
    disk::on(Disk::Memory(384), "disk::fill_the_disk");
}

#[tokio::test]
#[ignore = "is started by the test above, on a disk of its own"]
async fn fill_the_disk() {
    let Some(place) = disk::place() else { return };
    let Some(mut server) = Server::start() else { return };
    let slow = server.config();
    drop(Cassandra::open(&slow).await.unwrap());
    let config = CassandraConfig { timeout: Duration::from_secs(10), ..slow };
    let store = Cassandra::open(&config).await.unwrap();
    store.append_batch(vec![entry("ana", 5, 1)]).await.unwrap();
    store.put_batch(batch(0)).await.unwrap();
    let ballast = Ballast::fill(&place);
    let mut acknowledged = 0;
    let error = loop {
        match store.put_batch(batch(acknowledged + 1)).await {
            Ok(_) => acknowledged += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error.label(), "unavailable", "{error}");

    drop(ballast);
    server.restart();
    let mut attempts = 0;
    while let Err(error) = store.put_batch(batch(acknowledged + 2)).await {
        attempts += 1;
        assert!(attempts < 100, "{error}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(kept(&store).await, (acknowledged + 2, acknowledged + 2));
    assert_eq!(store.query(key("ana"), Span::ALL).await.unwrap(), [entry("ana", 5, 1)]);
}
