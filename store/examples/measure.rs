//! Measures the embedded store: `measure DIRECTORY MILLIONS [--json FILE]`. The directory is made anew, and removed at
//! the end.
#![expect(clippy::print_stdout, clippy::disallowed_methods, reason = "a benchmark reads clocks and prints")]
#![allow(clippy::unwrap_used, clippy::cast_precision_loss, reason = "a benchmark may break off")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use herenow_protocol::record::{Record, Seen};
use herenow_protocol::{Placement, Status, UserId, UserKey, Version, WallTime};
use herenow_store::testing::version;
use herenow_store::{Embedded, StatusStore};

/// Records of one write.
const BATCH: u64 = 10_000;
/// Keys of one read, as of one call of `POST /statuses`.
const READ: u64 = 100;
/// How many reads.
const READS: u64 = 10_000;
/// How many users are written once more.
const AGAIN: u64 = 1_000_000;
/// 10 million users who each change once in 5 minutes, and 5 reads for every write.
const WRITES_PER_SECOND: u64 = 33_333;
const READS_PER_SECOND: u64 = 5 * WRITES_PER_SECOND;
/// How long both go on.
const PACED: Duration = Duration::from_secs(20);
/// How many of 256 partitions are read as a new owner reads them.
const SCANNED: usize = 32;
/// Who read at a time.
const READERS: u64 = 4;
/// How often what has changed is written, as owners do.
const INTERVAL: Duration = Duration::from_secs(1);

/// What is found.
#[derive(Default)]
struct Report(BTreeMap<String, f64>);

impl Report {
    fn told(&mut self, name: &str, value: f64) {
        println!("{name}: {value:.3}");
        self.0.insert(name.to_owned(), value);
    }

    fn times(&mut self, what: &str, mut times: Vec<Duration>) {
        times.sort_unstable();
        for (label, share) in [("p50", 50), ("p99", 99)] {
            let at = times[(times.len() - 1) * share / 100];
            self.told(&format!("{what} {label}, ms"), at.as_secs_f64() * 1e3);
        }
    }
}

/// What most users have: a status and a time.
fn record(placement: &Placement, i: u64, written: Version) -> Record {
    let user = UserId::new(&format!("user-{i:010}")).unwrap();
    let since = Some(WallTime::from_millis(1_700_000_000_000 + written.n));
    let seen = Seen { version: written, status: Status::Online, since, text: None, emoji: None };
    let key = placement.key(&user);
    Record { key, user, written, seen, manual: None, api: None, virtual_sessions: Vec::new() }
}

fn memory_mib() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_ascii_whitespace().next().unwrap().parse::<f64>().unwrap() / 1_024.0
}

/// Processor time of this process so far, in seconds.
fn processor() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let mut times = stat.rsplit_once(") ").unwrap().1.split_ascii_whitespace().skip(11);
    (0..2).map(|_| times.next().unwrap().parse::<f64>().unwrap()).sum::<f64>() / 100.0
}

/// Users in an order that no key has: a walk through all of them by a step that has no factor in common.
fn scattered(users: u64) -> impl Iterator<Item = u64> + Clone + Send {
    let step = 982_451_653 % users;
    (0..users).map(move |i| i.wrapping_mul(step) % users)
}

async fn write(
    store: &Embedded,
    placement: &Placement,
    mut next: impl Iterator<Item = u64>,
    many: u64,
    epoch: u32,
) -> f64 {
    let began = Instant::now();
    for n in 0..many.div_ceil(BATCH) {
        let batch = next.by_ref().take(usize::try_from(BATCH).unwrap());
        store.put_batch(batch.map(|i| record(placement, i, version(epoch, n))).collect()).await.unwrap();
    }
    many as f64 / began.elapsed().as_secs_f64()
}

/// Reads the next users; how long it took.
async fn read(
    store: &Embedded,
    placement: &Placement,
    next: &mut (impl Iterator<Item = u64> + Send),
) -> Duration {
    let key = |i| placement.key(&UserId::new(&format!("user-{i:010}")).unwrap());
    let keys: Vec<UserKey> = next.take(usize::try_from(READ).unwrap()).map(key).collect();
    let began = Instant::now();
    let found = store.get_many(keys).await.unwrap();
    let took = began.elapsed();
    assert!(found.iter().all(Option::is_some), "what was written is there");
    took
}

async fn read_some(store: &Embedded, placement: &Placement, users: u64, when: &str, report: &mut Report) {
    let mut next = scattered(users).cycle();
    let mut times = Vec::new();
    for _ in 0..READS {
        times.push(read(store, placement, &mut next).await);
    }
    let rate = (READS * READ) as f64 / times.iter().sum::<Duration>().as_secs_f64();
    report.told(&format!("{when}: users read/s, 100 at a time"), rate);
    report.times(&format!("{when}: read of 100"), times);
    let mut times = Vec::new();
    for _ in 0..READS {
        let user = UserId::new(&format!("user-{:010}", next.next().unwrap())).unwrap();
        let began = Instant::now();
        assert!(store.get_many(vec![placement.key(&user)]).await.unwrap()[0].is_some());
        times.push(began.elapsed());
    }
    report.times(&format!("{when}: read of one"), times);
}

/// Both at the rates of the seed: what changed in a second is written at its end, and reads are spread over it. What is
/// not done in time is not done.
async fn paced(store: &Embedded, placement: &Placement, users: u64, report: &mut Report) {
    let began = tokio::time::Instant::now();
    let spent = processor();
    let writer = async {
        let (mut times, mut next) = (Vec::new(), scattered(users).skip(77).cycle());
        for second in 1..=PACED.as_secs() {
            let due = began + INTERVAL * u32::try_from(second).unwrap();
            tokio::time::sleep_until(due).await;
            if began.elapsed() > PACED + INTERVAL {
                break;
            }
            let many = usize::try_from(WRITES_PER_SECOND).unwrap();
            let changed = next.by_ref().take(many).map(|i| record(placement, i, version(3, second)));
            let all: Vec<Record> = changed.collect();
            for batch in all.chunks(usize::try_from(BATCH).unwrap()) {
                store.put_batch(batch.to_vec()).await.unwrap();
            }
            times.push(due.elapsed());
        }
        times
    };
    let calls = READS_PER_SECOND * PACED.as_secs() / READ;
    let reader = |number: u64| async move {
        let mut times = Vec::new();
        let mut next = scattered(users).skip(usize::try_from(number * users / READERS).unwrap()).cycle();
        for call in (number..calls).step_by(usize::try_from(READERS).unwrap()) {
            let due = began + PACED.mul_f64(call as f64 / calls as f64);
            tokio::time::sleep_until(due).await;
            if began.elapsed() > PACED {
                break;
            }
            read(store, placement, &mut next).await;
            times.push(due.elapsed());
        }
        times
    };
    let (writes, reads) = tokio::join!(writer, futures::future::join_all((0..READERS).map(reader)));
    let reads: Vec<Duration> = reads.into_iter().flatten().collect();
    let took = began.elapsed().as_secs_f64();
    let name = "asked for 33,333 writes/s and 166,667 reads/s";
    report.told(&format!("{name}: writes/s"), (WRITES_PER_SECOND * writes.len() as u64) as f64 / took);
    report.told(&format!("{name}: users read/s"), (reads.len() as u64 * READ) as f64 / PACED.as_secs_f64());
    report.told(&format!("{name}: cores"), (processor() - spent) / took);
    report.times(&format!("{name}: read of 100 since it was due"), reads);
    report.times(&format!("{name}: write of one second's changes"), writes);
}

async fn scan_some(store: &Embedded, placement: &Placement) -> f64 {
    let (began, mut found) = (Instant::now(), 0);
    for partition in placement.all().take(SCANNED) {
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
    found as f64 / began.elapsed().as_secs_f64()
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
    let mut report = Report::default();
    let _ = fs::remove_dir_all(path);
    let store = Embedded::open(path, &placement).await.unwrap();
    report.told("users", users as f64);
    let first = write(&store, &placement, scattered(users), users, 1).await;
    report.told("first writes/s, 10,000 at a time, each synced", first);
    let again = write(&store, &placement, scattered(users), AGAIN, 2).await;
    report.told("newer writes/s, 10,000 at a time, each synced", again);
    read_some(&store, &placement, users, "after them", &mut report).await;
    paced(&store, &placement, users, &mut report).await;
    report
        .told("scan of partitions, as a new owner reads them, users/s", scan_some(&store, &placement).await);
    report.told("memory of the process, MiB", memory_mib());
    drop(store);
    report.told("disk, MiB", bytes_under(path) as f64 / 1_048_576.0);
    report.told("disk a user, B", (bytes_under(path) / users) as f64);
    let began = Instant::now();
    let store = Embedded::open(path, &placement).await.unwrap();
    report.told("time to open, s", began.elapsed().as_secs_f64());
    read_some(&store, &placement, users, "opened again", &mut report).await;
    drop(store);
    fs::remove_dir_all(path).unwrap();
    if let Some([_, file]) = arguments.windows(2).find(|pair| pair[0] == "--json") {
        fs::write(file, serde_json::to_string_pretty(&report.0).unwrap()).unwrap();
    }
}
