//! Compares times that follow each user with one time for everybody: `adaptive [--json FILE]`. Time is simulated.
//!
//! 100,000 users are asked about 2,000 times a second, by Zipf's law, and change at rates of their own, elsewhere; 20,000
//! of them can be kept. Counted after a warm-up: how many answers came from what is kept, and how many were old.
#![expect(clippy::print_stdout, reason = "a benchmark prints")]
#![expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "numbers of a simulation are small"
)]
#![allow(clippy::unwrap_used, reason = "a benchmark may break off")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt as _, ready};
use herenow_protocol::record::{Record, Seen};
use herenow_protocol::{MonoTime, Status, UserId, UserKey, Version, WallTime};
use herenow_store::testing::version;
use herenow_store::{KeyRange, Near, NearClock, NearConfig, Page, StatusStore, StoreError, Written};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

const USERS: usize = 100_000;
const READS_PER_SECOND: f64 = 2_000.0;
const KEPT: u64 = 20_000;
/// Seconds: before counting, and in all.
const WARM_UP: f64 = 200.0;
const WHOLE: f64 = 500.0;
const EPOCH_MS: u64 = 1_700_000_000_000;

/// How often users change: a share of them, and the seconds between two changes.
type Mix = &'static [(f64, f64)];
/// A load: how users change, and whether everybody's habits are dealt anew in the middle of what is counted.
struct Load {
    name: &'static str,
    mix: Mix,
    is_dealt_anew: bool,
}

const LOADS: [Load; 3] = [
    Load { name: "everybody changes every 5 min", mix: &[(1.0, 300.0)], is_dealt_anew: false },
    Load {
        name: "10 % change every 10 s, 40 % every 5 min, 50 % every hour",
        mix: &[(0.1, 10.0), (0.4, 300.0), (0.5, 3_600.0)],
        is_dealt_anew: false,
    },
    Load {
        name: "the same, and all habits change in the middle",
        mix: &[(0.1, 10.0), (0.4, 300.0), (0.5, 3_600.0)],
        is_dealt_anew: true,
    },
];

#[derive(Clone, Default)]
struct Clock(Arc<AtomicU64>);

impl Clock {
    fn seconds(&self) -> f64 {
        self.0.load(Ordering::Relaxed) as f64 / 1e3
    }
}

impl NearClock for Clock {
    fn mono(&self) -> MonoTime {
        MonoTime::from_millis(self.0.load(Ordering::Relaxed) + 1)
    }

    fn wall(&self) -> WallTime {
        WallTime::from_millis(EPOCH_MS + self.0.load(Ordering::Relaxed))
    }
}

/// Users who change by themselves: the truth.
struct Truth {
    clock: Clock,
    users: Mutex<Vec<User>>,
    ids: Vec<UserId>,
    mix: Mix,
    /// When habits are dealt anew.
    anew: f64,
    reads: AtomicU64,
}

struct User {
    rng: ChaCha8Rng,
    number: u64,
    changed: f64,
    next: f64,
    every: f64,
    has_new_habits: bool,
}

/// A time of exponential law.
fn wait(rng: &mut ChaCha8Rng, every: f64) -> f64 {
    -every * (1.0 - rng.random::<f64>()).ln()
}

fn habit(mix: Mix, draw: f64) -> f64 {
    let mut left = draw;
    for (share, every) in mix {
        left -= share;
        if left < 0.0 {
            return *every;
        }
    }
    mix.last().unwrap().1
}

impl Truth {
    fn new(load: &Load, clock: Clock) -> Self {
        let user = |i: usize| {
            let mut rng = ChaCha8Rng::seed_from_u64(i as u64);
            let every = habit(load.mix, rng.random());
            // The last change before the start was as long ago as the next is ahead, by the same law.
            let changed = -wait(&mut rng, every);
            let next = wait(&mut rng, every);
            User { rng, number: 1, changed, next, every, has_new_habits: false }
        };
        let anew = if load.is_dealt_anew { f64::midpoint(WARM_UP, WHOLE) } else { f64::INFINITY };
        Self {
            clock,
            users: Mutex::new((0..USERS).map(user).collect()),
            ids: (0..USERS).map(|i| UserId::new(&format!("u{i}")).unwrap()).collect(),
            mix: load.mix,
            anew,
            reads: AtomicU64::new(0),
        }
    }

    fn key(user: usize) -> UserKey {
        // Spread as hashes are.
        let spread = (user as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        UserKey::from_bytes((u128::from(spread) << 64 | user as u128).to_be_bytes())
    }

    fn user(key: UserKey) -> usize {
        let [.., a, b, c, d] = key.to_bytes();
        u32::from_be_bytes([a, b, c, d]) as usize
    }

    /// How often a user has changed by now, and when it did last.
    fn now(&self, user: usize) -> (u64, f64) {
        let now = self.clock.seconds();
        let mut users = self.users.lock().unwrap();
        let user = &mut users[user];
        if now >= self.anew && !user.has_new_habits {
            user.has_new_habits = true;
            user.every = habit(self.mix, user.rng.random());
            user.next = self.anew.max(user.changed) + wait(&mut user.rng, user.every);
        }
        while user.next <= now {
            user.number += 1;
            user.changed = user.next;
            user.next += wait(&mut user.rng, user.every);
        }
        (user.number, user.changed)
    }

    fn record(&self, key: UserKey) -> Record {
        let user = Self::user(key);
        let (number, changed) = self.now(user);
        let written: Version = version(1, number);
        let since = Some(WallTime::from_millis((EPOCH_MS as f64 + changed * 1e3) as u64));
        let seen = Seen { version: written, status: Status::Online, since, text: None, emoji: None };
        let user = self.ids[user].clone();
        Record { key, user, written, seen, manual: None, api: None, virtual_sessions: Vec::new() }
    }
}

impl StatusStore for Truth {
    fn put_batch(&self, _: Vec<Record>) -> BoxFuture<'_, Result<Written, StoreError>> {
        ready(Ok(Written::default())).boxed()
    }

    fn get_many(&self, keys: Vec<UserKey>) -> BoxFuture<'_, Result<Vec<Option<Record>>, StoreError>> {
        self.reads.fetch_add(keys.len() as u64, Ordering::Relaxed);
        ready(Ok(keys.into_iter().map(|key| Some(self.record(key))).collect())).boxed()
    }

    fn scan(&self, _: KeyRange, _: Option<UserKey>) -> BoxFuture<'_, Result<Page, StoreError>> {
        ready(Ok(Page::default())).boxed()
    }

    fn erase(&self, _: Vec<(UserKey, Version)>) -> BoxFuture<'_, Result<Written, StoreError>> {
        ready(Ok(Written::default())).boxed()
    }
}

/// Who is asked about: the user of rank `k` as often as `1/k`.
struct Zipf(Vec<f64>);

impl Zipf {
    fn new() -> Self {
        let mut sum = 0.0;
        Self(
            (1..=USERS)
                .map(|rank| {
                    sum += 1.0 / rank as f64;
                    sum
                })
                .collect(),
        )
    }

    fn draw(&self, rng: &mut ChaCha8Rng) -> usize {
        let at = rng.random::<f64>() * self.0.last().unwrap();
        self.0.partition_point(|sum| *sum < at).min(USERS - 1)
    }
}

/// What came of one way to keep, in parts of all answers.
#[derive(Clone, Copy, Debug)]
struct Outcome {
    missed: f64,
    old: f64,
}

async fn run(load: &Load, zipf: &Zipf, config: &NearConfig) -> Outcome {
    let clock = Clock::default();
    let truth = Arc::new(Truth::new(load, clock.clone()));
    let near = Near::with_clock(config, Arc::clone(&truth) as _, Box::new(clock.clone())).unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let (mut at, mut asked, mut old, mut read_before) = (0.0, 0.0, 0.0, 0);
    loop {
        at += wait(&mut rng, 1.0 / READS_PER_SECOND);
        if at > WHOLE {
            break;
        }
        clock.0.store((at * 1e3) as u64, Ordering::Relaxed);
        let user = zipf.draw(&mut rng);
        let answer = near.get_many(vec![Truth::key(user)]).await.unwrap().remove(0).unwrap();
        if at < WARM_UP {
            read_before = truth.reads.load(Ordering::Relaxed);
        } else {
            asked += 1.0;
            old += f64::from(u8::from(answer.written.n != truth.now(user).0));
        }
    }
    let missed = (truth.reads.load(Ordering::Relaxed) - read_before) as f64;
    Outcome { missed: missed / asked, old: old / asked }
}

fn fixed(seconds: f64) -> NearConfig {
    let ttl = Duration::from_secs_f64(seconds);
    NearConfig { max_users: KEPT, min_ttl: ttl, max_ttl: ttl, ..NearConfig::default() }
}

fn following(old_costs: f64) -> NearConfig {
    let max_ttl = Duration::from_mins(5);
    NearConfig { max_users: KEPT, max_ttl, old_costs, ..NearConfig::default() }
}

fn told(name: &str, outcome: Outcome) {
    let Outcome { missed, old } = outcome;
    println!("  {name:<22} {:>9.2} % {:>9.3} %", 100.0 * (1.0 - missed), 100.0 * old);
}

type Of = fn(&Outcome) -> f64;

/// What the curve through these outcomes has beside a value: between two of them a line, where all is in powers.
fn at(curve: &[Outcome], value: f64, of: Of, beside: Of) -> Option<f64> {
    curve.windows(2).find_map(|pair| {
        let (a, b) = (of(&pair[0]).ln(), of(&pair[1]).ln());
        let part = (value.ln() - a) / (b - a);
        let (from, to) = (beside(&pair[0]).ln(), beside(&pair[1]).ln());
        (0.0..=1.0).contains(&part).then(|| (from + part * (to - from)).exp())
    })
}

async fn compare(load: &Load, zipf: &Zipf, figures: &mut BTreeMap<String, f64>) {
    println!("{}\n  {:<22} {:>11} {:>11}", load.name, "kept for", "hit rate", "old answers");
    let mut curve = Vec::new();
    for old_costs in [2.0, 10.0, 50.0, 250.0, 1_000.0] {
        let outcome = run(load, zipf, &following(old_costs)).await;
        told(&format!("own time, price {old_costs}"), outcome);
        curve.push(outcome);
    }
    let default = NearConfig { max_users: KEPT, ..NearConfig::default() };
    let outcome = run(load, zipf, &default).await;
    told("own time, default", outcome);
    figures.insert(format!("{}: hit rate by default, %", load.name), 100.0 * (1.0 - outcome.missed));
    figures.insert(format!("{}: old answers by default, %", load.name), 100.0 * outcome.old);
    for seconds in [1.0, 4.0, 16.0] {
        let outcome = run(load, zipf, &fixed(seconds)).await;
        told(&format!("{seconds} s"), outcome);
        let (missed, old): (Of, Of) = (|o| o.missed, |o| o.old);
        let Some((fewer_old, fewer_read)) =
            at(&curve, outcome.missed, missed, old).zip(at(&curve, outcome.old, old, missed))
        else {
            continue;
        };
        let (hit, other) = (100.0 * (1.0 - outcome.missed), 100.0 * (1.0 - fewer_read));
        println!(
            "    own times: old answers by {:.2} at its hit rate; hit rate {other:.2} % at its old answers",
            fewer_old / outcome.old
        );
        let name = format!("{}: beside {seconds} s", load.name);
        figures.insert(format!("{name}: old answers at equal hit rate, times"), fewer_old / outcome.old);
        figures.insert(format!("{name}: hit rate, %"), hit);
        figures.insert(format!("{name}: hit rate at equally many old answers, %"), other);
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let zipf = Zipf::new();
    let mut figures = BTreeMap::new();
    for load in &LOADS {
        compare(load, &zipf, &mut figures).await;
    }
    if let Some([_, file]) = arguments.windows(2).find(|pair| pair[0] == "--json") {
        std::fs::write(file, serde_json::to_string_pretty(&figures).unwrap()).unwrap();
    }
}
