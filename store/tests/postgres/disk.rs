//! PostgreSQL whose disk is full.

use herenow_protocol::UserKey;
use herenow_store::testing::{entry, key};
use herenow_store::{ActivityLog as _, ActivityRecord, Postgres, Span};

use crate::server::Server;
use crate::support::disk::{self, Ballast, Disk};

const ENTRIES: u64 = 5_000;

/// Entries of others, from a moment on.
fn batch(n: u64) -> Vec<ActivityRecord> {
    (0..ENTRIES).map(|i| entry(&format!("u{}", i % 50), 1_000 + n * ENTRIES + i, n)).collect()
}

async fn count(log: &Postgres, user: UserKey) -> usize {
    let (mut all, mut span) = (0, Span::ALL);
    loop {
        let page = log.query(user, span).await.unwrap();
        all += page.len();
        match page.last() {
            Some(last) if page.len() == herenow_store::PAGE => {
                span.from = herenow_protocol::WallTime::from_millis(last.at.as_millis() + 1);
            }
            _ => return all,
        }
    }
}

#[test]
fn a_full_disk_loses_nothing_that_was_acknowledged_and_takes_more_when_there_is_room() {
    disk::on(Disk::Memory(192), "disk::fill_the_disk");
}

#[tokio::test]
#[ignore = "is started by the test above, on a disk of its own"]
async fn fill_the_disk() {
    let Some(place) = disk::place() else { return };
    let Some(server) = Server::start() else { return };
    let log = Postgres::open(&server.config()).await.unwrap();
    log.append_batch(vec![entry("ana", 5, 1)]).await.unwrap();
    let ballast = Ballast::fill(&place);
    let mut acknowledged = 0;
    // Some room is in the files that are there.
    let error = loop {
        match log.append_batch(batch(acknowledged)).await {
            Ok(()) => acknowledged += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error.label(), "unavailable", "{error}");
    assert!(error.to_string().contains("No space left on device"), "{error}");
    // What was written is answered, and of the batch that did not fit there is nothing.
    assert_eq!(log.query(key("ana"), Span::ALL).await.unwrap(), [entry("ana", 5, 1)]);
    let each = usize::try_from(ENTRIES / 50 * acknowledged).unwrap();
    assert_eq!((count(&log, key("u0")).await, count(&log, key("u49")).await), (each, each));

    drop(ballast);
    log.append_batch(batch(acknowledged)).await.unwrap();
    let each = each + usize::try_from(ENTRIES / 50).unwrap();
    assert_eq!((count(&log, key("u0")).await, count(&log, key("u49")).await), (each, each));
    assert_eq!(log.query(key("ana"), Span::ALL).await.unwrap(), [entry("ana", 5, 1)]);
}
