//! The embedded store when the process dies, the disk is full, or nothing may be written: each in a process of its own,
//! which is this program again.
#![allow(clippy::unwrap_used, reason = "a test may fail so")]

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use herenow_store::testing::{key, placement, record, version};
use herenow_store::{Embedded, StatusStore as _, StoreError};

/// What the other process is to do, and where.
const ROLE: &str = "HERENOW_TEST_STORE_ROLE";
const PLACE: &str = "HERENOW_TEST_STORE_PLACE";
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

fn this_program(role: &str, place: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "the_other_process", "--ignored", "--nocapture"]);
    command.env(ROLE, role).env(PLACE, place);
    command
}

#[tokio::test]
#[ignore = "is started by the other tests"]
async fn the_other_process() {
    let place = PathBuf::from(std::env::var_os(PLACE).expect("started by the other tests"));
    match std::env::var(ROLE).unwrap().as_str() {
        "writer" => write_for_ever(&place).await,
        "full" => fill_the_disk(&place).await,
        "read-only" => find_it_read_only(&place).await,
        role => panic!("no such role: {role}"),
    }
}

// ---- kill -9

async fn write_for_ever(place: &Path) {
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
        let mut child = this_program("writer", place).stdout(Stdio::piped()).spawn().unwrap();
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

// ---- a small disk of its own, which needs the right to mount

/// Runs a role where `place` is a disk of a few megabytes that nobody else sees.
fn on_a_small_disk(role: &str) {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().join("disk");
    fs::create_dir(&place).unwrap();
    let program = this_program(role, &place);
    let mut command = Command::new("unshare");
    command.args(["--mount", "--map-root-user", "--user", "sh", "-ec"]);
    command.arg(format!("mount -t tmpfs -o size=24m none {} && exec \"$0\" \"$@\"", place.display()));
    command.arg(program.get_program()).args(program.get_args());
    command.env(ROLE, role).env(PLACE, &place);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

#[test]
fn a_full_disk_is_named_and_once_there_is_room_writing_goes_on() {
    on_a_small_disk("full");
}

async fn fill_the_disk(place: &Path) {
    let path = place.join("store");
    let store = Embedded::open(&path, &placement()).await.unwrap();
    store.put_batch(batch(0)).await.unwrap();
    let ballast = place.join("ballast");
    let mut file = fs::File::create(&ballast).unwrap();
    while file.write_all(&[1; 65_536]).is_ok() {}
    drop(file);
    let mut acknowledged = 0;
    let error = loop {
        match store.put_batch(batch(acknowledged + 1)).await {
            Ok(_) => acknowledged += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error, StoreError::NoSpace(path.clone()));
    assert!(store.put_batch(batch(acknowledged + 1)).await.is_err(), "there is still no room");

    fs::remove_file(&ballast).unwrap();
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
    on_a_small_disk("read-only");
}

async fn find_it_read_only(place: &Path) {
    let path = place.join("store");
    let store = Embedded::open(&path, &placement()).await.unwrap();
    store.put_batch(batch(0)).await.unwrap();
    drop(store);
    let remounted = Command::new("mount").args(["-o", "remount,ro"]).arg(place).status().unwrap();
    assert!(remounted.success());
    let error = Embedded::open(&path, &placement()).await.unwrap_err();
    assert_eq!(error.label(), "not_writable", "{error}");
    assert!(error.to_string().contains("give it a directory"), "{error}");
    let error = Embedded::open(place.join("new"), &placement()).await.unwrap_err();
    assert_eq!(error.label(), "not_writable", "{error}");
}
