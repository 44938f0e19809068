//! Measures the embedded store: `measure DIRECTORY MILLIONS`. The directory is made anew, and removed at the end.
#![expect(clippy::print_stdout, clippy::disallowed_methods, reason = "a benchmark reads clocks and prints")]
#![allow(clippy::unwrap_used, reason = "a benchmark may break off")]

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use herenow_protocol::record::{Record, Seen};
use herenow_protocol::{Placement, Status, UserId, UserKey, Version, WallTime};
use herenow_store::testing::version;
use herenow_store::{Embedded, StatusStore as _};

/// Records of one write.
const BATCH: u64 = 10_000;
/// Keys of one read, as of one call of `POST /statuses`.
const READ: u64 = 100;
/// How many reads.
const READS: u64 = 10_000;

/// What most users have: a status and a time.
fn record(placement: &Placement, i: u64, written: Version) -> Record {
    let user = UserId::new(&format!("user-{i:010}")).unwrap();
    let since = Some(WallTime::from_millis(1_700_000_000_000 + written.n));
    let seen = Seen { version: written, status: Status::Online, since, text: None, emoji: None };
    let key = placement.key(&user);
    Record { key, user, written, seen, manual: None, api: None, virtual_sessions: Vec::new() }
}

fn rate(what: u64, took: Duration) -> String {
    format!("{:.2} s, {:.0} users/s", took.as_secs_f64(), what as f64 / took.as_secs_f64())
}

fn memory() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.unwrap_or("unknown").trim().to_owned()
}

/// Users in an order that no key has: a walk through all of them by a step that has no factor in common.
fn scattered(users: u64) -> impl Iterator<Item = u64> + Clone {
    let step = 982_451_653 % users;
    (0..users).map(move |i| i.wrapping_mul(step) % users)
}

async fn write_all(store: &Embedded, placement: &Placement, users: u64, epoch: u32) -> Duration {
    let began = Instant::now();
    let mut next = scattered(users);
    for n in 0..users.div_ceil(BATCH) {
        let batch = next.by_ref().take(usize::try_from(BATCH).unwrap());
        store.put_batch(batch.map(|i| record(placement, i, version(epoch, n))).collect()).await.unwrap();
    }
    began.elapsed()
}

async fn read_some(store: &Embedded, placement: &Placement, users: u64) {
    let mut times = Vec::new();
    let mut next = scattered(users).cycle();
    let mut found = 0;
    for _ in 0..READS {
        let user = |i| UserId::new(&format!("user-{i:010}")).unwrap();
        let keys =
            next.by_ref().take(usize::try_from(READ).unwrap()).map(|i| placement.key(&user(i))).collect();
        let began = Instant::now();
        found += store.get_many(keys).await.unwrap().iter().flatten().count();
        times.push(began.elapsed());
    }
    times.sort_unstable();
    let at = |share: usize| times[(times.len() - 1) * share / 100];
    println!("read {READ} at a time: {}", rate(READS * READ, times.iter().sum()));
    println!("  a call: p50 {:?}, p99 {:?}, max {:?}; {found} found", at(50), at(99), at(100));
}

async fn scan_all(store: &Embedded, placement: &Placement) {
    let began = Instant::now();
    let mut found = 0;
    for partition in placement.all() {
        let mut from = None;
        loop {
            let page = store.scan(placement.keys_of(partition), from).await.unwrap();
            found += page.records.len() as u64;
            from = page.next;
            if from.is_none() {
                break;
            }
        }
    }
    println!("scan of every partition: {}", rate(found, began.elapsed()));
}

fn bytes_under(path: &Path) -> u64 {
    let entries = fs::read_dir(path).unwrap().flatten();
    let size = |path: &Path, meta: fs::Metadata| {
        if meta.is_dir() { bytes_under(path) } else { std::os::unix::fs::MetadataExt::blocks(&meta) * 512 }
    };
    entries.map(|entry| size(&entry.path(), entry.metadata().unwrap())).sum()
}

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let path = Path::new(arguments.get(1).expect("a directory"));
    let users: u64 = arguments.get(2).expect("how many millions").parse::<u64>().unwrap() * 1_000_000;
    let placement = Placement::new(b"a secret of the benchmark", 8);
    let _ = fs::remove_dir_all(path);
    println!("{users} users, batches of {BATCH}, each synced to the disk");
    let store = Embedded::open(path, &placement).await.unwrap();
    println!("first write: {}", rate(users, write_all(&store, &placement, users, 1).await));
    println!("each again, newer: {}", rate(users, write_all(&store, &placement, users, 2).await));
    read_some(&store, &placement, users).await;
    scan_all(&store, &placement).await;
    println!("memory: {}", memory());
    drop(store);
    println!(
        "disk: {:.1} MiB, {} B a user",
        bytes_under(path) as f64 / 1_048_576.0,
        bytes_under(path) / users
    );
    let began = Instant::now();
    let store = Embedded::open(path, &placement).await.unwrap();
    println!("open: {:.3} s", began.elapsed().as_secs_f64());
    let some: Vec<UserKey> =
        scattered(users).take(100).map(|i| record(&placement, i, version(1, 1)).key).collect();
    assert!(store.get_many(some).await.unwrap().iter().all(Option::is_some), "what was written is there");
    read_some(&store, &placement, users).await;
    drop(store);
    fs::remove_dir_all(path).unwrap();
}
