//! What a kill would lose, by a clock that only moves when everybody waits.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::future::{BoxFuture, FutureExt as _};
use herenow_protocol::record::Record;
use herenow_protocol::{UserKey, Version};
use herenow_store::testing::{key, record, version};
use herenow_store::{KeyRange, MemoryStore, Page};
use prometheus_client::registry::Registry;
use tokio::time::{Instant, sleep};

use super::*;

const INTERVAL: Duration = Duration::from_secs(1);

/// A store that takes its time: what is written is there at its end.
#[derive(Clone)]
struct Slow {
    store: MemoryStore,
    /// How long each write takes, ms: the first is for the first of them, and so on in turn.
    takes: Arc<Vec<u64>>,
    writes: Arc<AtomicU64>,
    away: Arc<AtomicU64>,
}

impl Slow {
    fn new(takes: &[u64]) -> Self {
        let takes = Arc::new(takes.to_vec());
        Self { store: MemoryStore::new(100_000), takes, writes: Arc::default(), away: Arc::default() }
    }

    /// How many fail from now on.
    fn go_away_for(&self, writes: u64) {
        self.away.store(writes, Ordering::Relaxed);
    }

    fn writes(&self) -> u64 {
        self.writes.load(Ordering::Relaxed)
    }

    /// The number of the write that is there of a user; 0: none is.
    async fn has(&self, user: UserKey) -> u64 {
        self.store.get_many(vec![user]).await.unwrap().remove(0).map_or(0, |record| record.written.n)
    }
}

impl StatusStore for Slow {
    fn put_batch(&self, records: Vec<Record>) -> BoxFuture<'_, Result<Written, StoreError>> {
        async move {
            let number = self.writes.fetch_add(1, Ordering::Relaxed);
            let turn = usize::try_from(number).unwrap() % self.takes.len();
            sleep(Duration::from_millis(self.takes[turn])).await;
            let fails = |left: u64| left.checked_sub(1);
            if self.away.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fails).is_ok() {
                return Err(StoreError::Unavailable("away".to_owned()));
            }
            self.store.put_batch(records).await
        }
        .boxed()
    }

    fn get_many(&self, keys: Vec<UserKey>) -> BoxFuture<'_, Result<Vec<Option<Record>>, StoreError>> {
        self.store.get_many(keys)
    }

    fn scan(&self, range: KeyRange, from: Option<UserKey>) -> BoxFuture<'_, Result<Page, StoreError>> {
        self.store.scan(range, from)
    }

    fn erase(&self, users: Vec<(UserKey, Version)>) -> BoxFuture<'_, Result<Written, StoreError>> {
        self.store.erase(users)
    }
}

fn writer(store: &Slow) -> Writer {
    let config = KeepConfig { interval: INTERVAL, ..KeepConfig::default() };
    Writer::start(Arc::new(store.clone()), config, Metrics::register(&mut Registry::default()))
}

/// Changes of some users in turn, one every `every`, each with the number and the moment.
struct Changes {
    names: Vec<String>,
    /// How many there were.
    n: u64,
    /// Those that were not yet found written, with nothing but such before them.
    said: VecDeque<(Instant, UserKey, u64)>,
}

impl Changes {
    fn of(users: usize) -> Self {
        Self { names: (0..users).map(|user| format!("user {user}")).collect(), n: 0, said: VecDeque::new() }
    }

    fn say(&mut self, writer: &Writer) {
        self.n += 1;
        let name = &self.names[usize::try_from(self.n).unwrap() % self.names.len()];
        writer.wish(key(name), Wish::Keep(Box::new(record(name, version(1, self.n)))));
        self.said.push_back((now(), key(name), self.n));
    }

    /// How old the oldest change is that a kill would lose now.
    async fn oldest_lost(&mut self, store: &Slow) -> Duration {
        while let Some((at, user, n)) = self.said.front() {
            if store.has(*user).await < *n {
                return now() - *at;
            }
            self.said.pop_front();
        }
        Duration::ZERO
    }
}

#[expect(clippy::disallowed_methods, reason = "the clock of the test")]
fn now() -> Instant {
    Instant::now()
}

/// The age of the oldest change that a kill at any moment of ten intervals would lose.
async fn worst(store: &Slow, changes: &mut Changes, every: Duration) -> Duration {
    let writer = writer(store);
    let (end, mut worst) = (now() + INTERVAL * 10, Duration::ZERO);
    while now() < end {
        changes.say(&writer);
        sleep(every).await;
        worst = worst.max(changes.oldest_lost(store).await);
    }
    worst
}

#[tokio::test(start_paused = true)]
async fn a_kill_loses_nothing_that_is_older_than_the_interval_whatever_a_write_takes() {
    for takes in [&[0][..], &[20], &[200], &[450], &[30, 60, 30, 110, 30, 200]] {
        let store = Slow::new(takes);
        let worst = worst(&store, &mut Changes::of(7), Duration::from_millis(10)).await;
        assert!(worst <= INTERVAL, "{takes:?}: {worst:?}");
        assert!(worst > INTERVAL / 4, "{takes:?}: {worst:?} is written more often than is needed");
    }
}

#[tokio::test(start_paused = true)]
async fn one_change_is_one_write_at_the_end_of_the_interval() {
    let store = Slow::new(&[1]);
    let every = INTERVAL * 3 + Duration::from_millis(7);
    let worst = worst(&store, &mut Changes::of(1), every).await;
    assert!(worst.is_zero(), "{worst:?}");
    assert_eq!(store.writes(), 4);
}

#[tokio::test(start_paused = true)]
async fn who_changes_all_the_time_does_not_keep_others_waiting() {
    let store = Slow::new(&[100]);
    let writer = writer(&store);
    let mut others = Changes::of(BATCH + 500);
    let end = now() + INTERVAL * 3;
    while now() < end {
        (0..BATCH / 20).for_each(|_| others.say(&writer));
        sleep(Duration::from_millis(10)).await;
        let lost = others.oldest_lost(&store).await;
        assert!(lost <= INTERVAL, "{lost:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_is_tried_again_after_an_interval_and_not_before() {
    let store = Slow::new(&[10]);
    let writer = writer(&store);
    let mut changes = Changes::of(1);
    store.go_away_for(3);
    changes.say(&writer);
    sleep(INTERVAL * 3).await;
    assert_eq!((store.writes(), changes.oldest_lost(&store).await.is_zero()), (3, false));
    sleep(INTERVAL).await;
    assert_eq!((store.writes(), changes.oldest_lost(&store).await), (4, Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn what_is_wanted_written_now_is() {
    let store = Slow::new(&[10]);
    let writer = writer(&store);
    let mut changes = Changes::of(2);
    changes.say(&writer);
    let began = now();
    assert_eq!(writer.flush().await, Ok(()));
    assert_eq!(changes.oldest_lost(&store).await, Duration::ZERO);
    changes.say(&writer);
    writer.close().await;
    assert_eq!(changes.oldest_lost(&store).await, Duration::ZERO);
    assert!(now() - began < Duration::from_millis(100));
}
