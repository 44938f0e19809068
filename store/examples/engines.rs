//! Measures Cassandra, Redis and PostgreSQL through the store, and beside it a plain loop over the same driver that sends
//! the same to the same server: `engines [--only ENGINE] [--json FILE]`. The servers are those of the tests; one that is
//! not installed is left out. Each rate is of the median of some rounds, which take turns.
#![expect(clippy::print_stdout, clippy::disallowed_methods, reason = "a benchmark reads clocks and prints")]
#![allow(clippy::unwrap_used, clippy::cast_precision_loss, reason = "a benchmark may break off")]

#[path = "engines/cassandra.rs"]
mod cassandra;
#[path = "../tests/cassandra/server.rs"]
#[allow(dead_code, unreachable_pub, reason = "tests use the rest")]
mod cassandra_server;
#[path = "engines/postgres.rs"]
mod postgres;
#[path = "../tests/postgres/server.rs"]
#[allow(dead_code, unreachable_pub, reason = "tests use the rest")]
mod postgres_server;
#[path = "engines/redis.rs"]
mod redis_cache;
#[path = "../tests/redis/server.rs"]
#[allow(dead_code, unreachable_pub, reason = "tests use the rest")]
mod redis_server;
#[path = "../tests/support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use herenow_protocol::record::{Record, Seen};
use herenow_protocol::{Placement, Status, UserId, UserKey, WallTime};
use herenow_store::testing::version;

/// Records of one write.
const BATCH: u64 = 10_000;
/// Keys of one read, as of one call of `POST /statuses`.
const READ: usize = 100;
/// How often each is measured.
const ROUNDS: u64 = 3;

/// What is measured, by who does it: times of the same work.
#[derive(Default)]
struct Times(BTreeMap<&'static str, Taken>);

#[derive(Default)]
struct Taken {
    rounds: Vec<Duration>,
    /// Processor time of this process, without the server's.
    processor: Duration,
}

impl Times {
    async fn take<F: Future<Output = ()>>(&mut self, who: &'static str, work: F) {
        let (began, spent) = (Instant::now(), processor());
        work.await;
        let taken = self.0.entry(who).or_default();
        taken.rounds.push(began.elapsed());
        taken.processor += processor().saturating_sub(spent);
    }

    fn median(&self, who: &str) -> f64 {
        let mut times = self.0[who].rounds.clone();
        times.sort_unstable();
        times[times.len() / 2].as_secs_f64()
    }

    /// Prints and keeps the rates, and how much longer the store takes than each of the others. Prints what one item
    /// costs this process, which does not depend on what else the machine does.
    fn told(&self, what: &str, items: u64, figures: &mut BTreeMap<String, f64>) {
        let store = self.median("store");
        for (who, taken) in &self.0 {
            let seconds = self.median(who);
            let rate = items as f64 / seconds;
            let each = taken.processor.as_secs_f64() * 1e6 / (items * taken.rounds.len() as u64) as f64;
            println!("{what}: {who} {rate:.0}/s; {each:.2} us of processor each");
            figures.insert(format!("{what}: {who}, /s"), rate);
            if *who != "store" {
                println!("{what}: the store takes {:.2} times as long", store / seconds);
                figures.insert(format!("{what}: the store by {who}, times"), store / seconds);
            }
        }
    }
}

/// Processor time of this process so far, to 10 ms.
fn processor() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let times = stat.rsplit_once(") ").unwrap().1.split_ascii_whitespace().skip(11).take(2);
    Duration::from_millis(times.map(|ticks| ticks.parse::<u64>().unwrap() * 10).sum())
}

/// What most users have: a status and a time.
fn record(placement: &Placement, i: u64, n: u64) -> Record {
    let user = UserId::new(&format!("user-{i:010}")).unwrap();
    let since = Some(WallTime::from_millis(1_700_000_000_000 + n));
    let written = version(1, n);
    let seen = Seen { version: written, status: Status::Online, since, text: None, emoji: None };
    let key = placement.key(&user);
    Record { key, user, written, seen, manual: None, api: None, virtual_sessions: Vec::new() }
}

fn placement() -> Placement {
    Placement::new(b"a secret of the benchmark", 8)
}

/// Batches of everybody, as of one write.
fn batches(users: u64, n: u64) -> Vec<Vec<Record>> {
    let placement = placement();
    let batch = |first| (first..first + BATCH).map(|i| record(&placement, i, n)).collect();
    (0..users / BATCH).map(|number| batch(number * BATCH)).collect()
}

/// Keys of reads, from all over.
fn reads(users: u64, calls: usize) -> Vec<Vec<UserKey>> {
    let placement = placement();
    let key = |i: u64| record(&placement, i * 982_451_653 % users, 0).key;
    let mut next = (0..).map(key);
    (0..calls).map(|_| next.by_ref().take(READ).collect()).collect()
}

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let option = |name| arguments.windows(2).find(|pair| pair[0] == name).map(|pair| pair[1].as_str());
    let wanted = |engine| option("--only").is_none_or(|only| only == engine);
    let mut figures = BTreeMap::new();
    if wanted("redis") {
        redis_cache::measure(&mut figures).await;
    }
    if wanted("postgres") {
        postgres::measure(&mut figures).await;
    }
    if wanted("cassandra") {
        cassandra::measure(&mut figures).await;
    }
    if let Some(file) = option("--json") {
        std::fs::write(file, serde_json::to_string_pretty(&figures).unwrap()).unwrap();
    }
}
