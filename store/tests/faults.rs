//! The embedded store when the process dies, and when its disk is full, stands still, or may only be read: each in a
//! process of its own, which is this program again.
#![allow(clippy::unwrap_used, reason = "a test may fail so")]

mod support;

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use herenow_store::testing::{key, placement, record, version};
use herenow_store::{Embedded, StatusStore as _, StoreError};
use support::disk::{self, Ballast, Disk};

/// How often the writer is killed; many more by hand.
const ROUNDS: &str = "HERENOW_TEST_STORE_ROUNDS";
const FEW_ROUNDS: u64 = 6;

/// Users of one batch.
const USERS: u64 = 300;

fn batch(n: u64) -> Vec<herenow_protocol::record::Record> {
    (0..USERS).map(|i| record(&format!("u{i}"), version(1, n))).collect()
}

/// The number of the batch that the store has, which is the same for every user of it.
async fn kept(store: &Embedded) -> Option<u64> {
    let keys = (0..USERS).map(|i| key(&format!("u{i}"))).collect();
    let read = store.get_many(keys).await.unwrap();
    let first = read.first().unwrap().as_ref().map(|record| record.written.n);
    for (i, found) in read.into_iter().enumerate() {
        assert_eq!(
            found,
            first.map(|n| record(&format!("u{i}"), version(1, n))),
            "a batch is whole or not there"
        );
    }
    first
}

// ---- kill -9

#[tokio::test]
#[ignore = "is started by the test below, and killed"]
async fn write_for_ever() {
    let Some(place) = disk::place() else { return };
    let store = Embedded::open(place, &placement()).await.unwrap();
    let mut n = kept(&store).await.map_or(0, |n| n + 1);
    let mut out = std::io::stdout();
    loop {
        store.put_batch(batch(n)).await.unwrap();
        writeln!(out, "acknowledged {n}").unwrap();
        n += 1;
    }
}

struct Writer {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Writer {
    fn start(place: &Path) -> Self {
        let mut child = disk::this_program("write_for_ever", place).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// The next batch that was acknowledged; `None`: the writer is dead.
    fn acknowledged(&mut self) -> Option<u64> {
        self.lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix("acknowledged ")?.parse().ok())
    }

    /// kill -9 in the middle of writing; returns the last batch that was acknowledged.
    fn kill_after(mut self, batches: u64) -> u64 {
        let mut last = 0;
        for _ in 0..batches {
            last = self.acknowledged().expect("the writer writes");
        }
        self.child.kill().unwrap();
        while let Some(n) = self.acknowledged() {
            last = n;
        }
        self.child.wait().unwrap();
        last
    }
}

#[tokio::test]
async fn a_writer_that_is_killed_loses_nothing_it_acknowledged_and_breaks_nothing() {
    let rounds = std::env::var(ROUNDS).map_or(FEW_ROUNDS, |rounds| rounds.parse().unwrap());
    let directory = tempfile::tempdir().unwrap();
    let mut before = 0;
    for round in 0..rounds {
        let acknowledged = Writer::start(directory.path()).kill_after(1 + round * 7 % 23);
        assert!(acknowledged >= before, "a writer goes on where the last one was");
        let store = Embedded::open(directory.path(), &placement()).await.unwrap();
        before = kept(&store).await.unwrap();
        // The batch that was being written may be there or not.
        assert!(before == acknowledged || before == acknowledged + 1, "{before} after {acknowledged}");
    }
}

// ---- a disk of its own

#[test]
fn a_full_disk_is_named_and_once_there_is_room_writing_goes_on() {
    disk::on(Disk::Memory(24), "fill_the_disk");
}

#[tokio::test]
#[ignore = "is started by the test above, on a disk of its own"]
async fn fill_the_disk() {
    let Some(place) = disk::place() else { return };
    let path = place.join("store");
    let store = Embedded::open(&path, &placement()).await.unwrap();
    store.put_batch(batch(0)).await.unwrap();
    let ballast = Ballast::fill(&place);
    let mut acknowledged = 0;
    let error = loop {
        match store.put_batch(batch(acknowledged + 1)).await {
            Ok(_) => acknowledged += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error, StoreError::NoSpace(path.clone()));
    assert!(store.put_batch(batch(acknowledged + 1)).await.is_err(), "there is still no room");

    drop(ballast);
    // Opening anew may find the old tables closing still.
    let mut attempts = 0;
    while let Err(error) = store.put_batch(batch(acknowledged + 2)).await {
        attempts += 1;
        assert!(attempts < 5, "{error}");
    }
    assert_eq!(kept(&store).await, Some(acknowledged + 2));
    drop(store);
    let store = Embedded::open(&path, &placement()).await.unwrap();
    assert_eq!(kept(&store).await, Some(acknowledged + 2));
}

#[test]
fn a_disk_that_may_only_be_read_is_named_at_the_start() {
    disk::on(Disk::Memory(24), "find_it_read_only");
}

#[tokio::test]
#[ignore = "is started by the test above, on a disk of its own"]
async fn find_it_read_only() {
    let Some(place) = disk::place() else { return };
    let path = place.join("store");
    let store = Embedded::open(&path, &placement()).await.unwrap();
    store.put_batch(batch(0)).await.unwrap();
    drop(store);
    let remounted = Command::new("mount").args(["-o", "remount,ro"]).arg(&place).status().unwrap();
    assert!(remounted.success());
    let error = Embedded::open(&path, &placement()).await.unwrap_err();
    assert_eq!(error.label(), "not_writable", "{error}");
    assert!(error.to_string().contains("give it a directory"), "{error}");
    let error = Embedded::open(place.join("new"), &placement()).await.unwrap_err();
    assert_eq!(error.label(), "not_writable", "{error}");
}

#[test]
fn a_disk_that_stands_still_for_10_s_holds_up_writers_and_no_reader_and_loses_nothing() {
    disk::on(Disk::File(64), "write_to_a_disk_that_stands_still");
}

#[tokio::test]
#[ignore = "is started by the test above, on a disk of its own"]
async fn write_to_a_disk_that_stands_still() {
    const STANDS: Duration = Duration::from_secs(10);
    let Some(place) = disk::place() else { return };
    let path = place.join("store");
    let store = Embedded::open(&path, &placement()).await.unwrap();
    store.put_batch(batch(0)).await.unwrap();
    let mut lets_go = disk::stands_still(&place, STANDS);
    #[expect(clippy::disallowed_methods, reason = "a test measures")]
    let began = Instant::now();
    let (writer, given_up) = (store.clone(), store.clone());
    let write = tokio::spawn(async move { writer.put_batch(batch(2)).await });
    // Who gives up a write does not end it; whichever comes first, the newer stays.
    let late = tokio::time::timeout(Duration::from_millis(100), given_up.put_batch(batch(1))).await;
    assert!(late.is_err(), "the disk stands still");
    let mut reads = 0;
    while !write.is_finished() && began.elapsed() < STANDS / 2 {
        assert_eq!(kept(&store).await, Some(0));
        reads += 1;
    }
    assert!(reads > 100, "{reads} reads of {USERS} users, while a write waits");
    assert!(!write.is_finished(), "a write was acknowledged that is on no disk");
    assert_eq!(write.await.unwrap().unwrap().stored, 300);
    assert!(began.elapsed() > STANDS * 9 / 10, "{:?}", began.elapsed());
    assert!(lets_go.wait().unwrap().success());
    store.put_batch(batch(3)).await.unwrap();
    assert_eq!(kept(&store).await, Some(3));
    drop((store, given_up));
    let store = Embedded::open(&path, &placement()).await.unwrap();
    assert_eq!(kept(&store).await, Some(3));
}
