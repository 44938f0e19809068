//! The cache in a reader: it passes the suite, saves reads, and gives nobody what is older than what was written here.
#![allow(clippy::unwrap_used, reason = "a test may fail so")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt as _, join_all, pending};
use herenow_protocol::record::Record;
use herenow_protocol::{MonoTime, UserKey, Version, WallTime};
use herenow_store::testing::{Opens, key, record, version};
use herenow_store::{
    KeyRange, MemoryStore, Near, NearClock, NearConfig, Page, StatusStore, StoreError, Written,
};
use support::Watched;

/// A cache in front of a store in memory; each opening has its own, as readers do.
struct Fresh(MemoryStore);

impl Opens<dyn StatusStore> for Fresh {
    fn open(&self) -> BoxFuture<'_, Arc<dyn StatusStore>> {
        let near = Near::new(&NearConfig::default(), Arc::new(self.0.clone())).unwrap();
        std::future::ready(Arc::new(near) as Arc<dyn StatusStore>).boxed()
    }
}

mod suite {
    use super::{Fresh, MemoryStore};
    herenow_store::status_store_suite!(Fresh(MemoryStore::new(20_000)));
}

/// A clock that stands until it is told to go.
#[derive(Clone, Default)]
struct Told(Arc<AtomicU64>);

impl Told {
    fn goes(&self, by: Duration) {
        self.0.fetch_add(u64::try_from(by.as_millis()).unwrap(), Ordering::SeqCst);
    }
}

impl NearClock for Told {
    fn mono(&self) -> MonoTime {
        MonoTime::from_millis(1_000 + self.0.load(Ordering::SeqCst))
    }

    fn wall(&self) -> WallTime {
        WallTime::from_millis(1_700_000_000_000 + self.0.load(Ordering::SeqCst))
    }
}

struct Reader {
    store: Arc<Watched>,
    near: Near,
    clock: Told,
}

impl Reader {
    /// Of a store with one user, `ana`.
    async fn of_ana() -> Self {
        let store = Watched::new(MemoryStore::new(20_000));
        store.store.put_batch(vec![record("ana", version(1, 1))]).await.unwrap();
        let clock = Told::default();
        let near = Near::with_clock(&NearConfig::default(), Arc::clone(&store) as _, Box::new(clock.clone()));
        Self { near: near.unwrap(), store, clock }
    }

    async fn get(&self, name: &str) -> Option<Record> {
        self.near.get_many(vec![key(name)]).await.unwrap().remove(0)
    }

    /// The number of the record that it has of `ana`.
    async fn ana(&self) -> Option<u64> {
        self.get("ana").await.map(|record| record.written.n)
    }

    /// What another process writes.
    async fn elsewhere(&self, n: u64) {
        self.store.store.put_batch(vec![record("ana", version(1, n))]).await.unwrap();
    }
}

#[tokio::test]
async fn what_was_read_is_kept_until_its_time_and_then_read_again() {
    let reader = Reader::of_ana().await;
    for _ in 0..3 {
        assert_eq!((reader.ana().await, reader.get("nobody").await), (Some(1), None));
    }
    assert_eq!(reader.store.reads(), 2);
    reader.elsewhere(2).await;
    assert_eq!(reader.ana().await, Some(1), "of what others write it knows later");
    reader.clock.goes(Duration::from_secs(30));
    assert_eq!(reader.ana().await, Some(2), "after the longest time at the latest");
    let counts = reader.near.counts();
    assert_eq!((counts.hits, counts.absent_hits, counts.misses, counts.expired), (3, 2, 2, 1));
    assert_eq!(counts.kept, 2);
    assert!((counts.hit_rate().unwrap() - 5.0 / 8.0).abs() < 1e-9);
}

/// How long what is read of `ana` is kept, after she was read every ten seconds for an hour.
async fn kept_for(changes: bool) -> Duration {
    let reader = Reader::of_ana().await;
    for n in 2..360 {
        if changes {
            let mut newer = record("ana", version(1, n));
            newer.seen.since = Some(reader.clock.wall());
            newer.seen.version = newer.written;
            reader.store.store.put_batch(vec![newer]).await.unwrap();
        }
        reader.clock.goes(Duration::from_secs(10));
        reader.ana().await;
    }
    // An end to what is kept, and from there on how long it is kept.
    reader.clock.goes(Duration::from_secs(30));
    reader.ana().await;
    let reads = reader.store.reads();
    let mut good = Duration::ZERO;
    while reader.store.reads() == reads {
        reader.clock.goes(Duration::from_millis(10));
        good += Duration::from_millis(10);
        reader.ana().await;
    }
    good
}

#[tokio::test]
async fn who_changes_often_is_kept_for_a_shorter_time() {
    let (lively, calm) = (kept_for(true).await, kept_for(false).await);
    assert!(lively * 5 < calm, "{lively:?} and {calm:?}");
    assert!(lively >= Duration::from_millis(100) && calm <= Duration::from_secs(30));
}

#[tokio::test]
async fn a_write_or_erasure_here_is_seen_at_once_and_for_good() {
    let reader = Reader::of_ana().await;
    assert_eq!(reader.ana().await, Some(1));
    reader.near.put_batch(vec![record("ana", version(1, 2))]).await.unwrap();
    assert_eq!(reader.ana().await, Some(2));
    reader.near.erase(vec![(key("ana"), version(1, 3))]).await.unwrap();
    assert_eq!(reader.ana().await, None);
    let counts = reader.near.counts();
    assert_eq!((counts.voided, counts.expired, counts.kept_newer), (2, 2, 0));
    // Who is not asked about here is not kept because it was written.
    reader.near.put_batch(vec![record("ben", version(1, 1))]).await.unwrap();
    assert_eq!(reader.near.counts().kept, 1);
}

#[tokio::test]
async fn many_who_miss_the_same_user_make_one_read() {
    let reader = Reader::of_ana().await;
    reader.store.shut_gate();
    let asking = join_all((0..100).map(|_| reader.ana()));
    let opens = async {
        reader.store.held_up(1).await;
        while reader.near.counts().joined < 99 {
            tokio::task::yield_now().await;
        }
        reader.store.open_gate();
    };
    let (answers, ()) = tokio::join!(asking, opens);
    assert!(answers.into_iter().all(|found| found == Some(1)));
    assert_eq!(reader.store.reads(), 1);
}

#[tokio::test]
async fn what_was_read_before_a_write_is_given_to_nobody_after_it() {
    let reader = Reader::of_ana().await;
    reader.store.shut_gate();
    let early = reader.ana();
    let late = async {
        reader.store.held_up(1).await;
        // The old one has been read and is on its way.
        reader.near.put_batch(vec![record("ana", version(1, 2))]).await.unwrap();
        let asked = reader.ana();
        let opens = async {
            while reader.store.reads() < 2 && reader.near.counts().joined == 0 {
                tokio::task::yield_now().await;
            }
            reader.store.open_gate();
        };
        tokio::join!(asked, opens).0
    };
    let (old, new) = tokio::join!(early, late);
    assert_eq!((old, new), (Some(1), Some(2)));
    assert_eq!(reader.ana().await, Some(2), "and the old one was not kept");
}

/// A store below that goes back in time, as a replica or another cache may.
#[tokio::test]
async fn nothing_older_takes_the_place_of_what_is_known() {
    let reader = Reader::of_ana().await;
    let older = Watched::new(MemoryStore::new(10));
    let old = Arc::new(Turns { now: Arc::clone(&reader.store) as _, then: older, is_then: false.into() });
    let clock = Told::default();
    let near =
        Near::with_clock(&NearConfig::default(), Arc::clone(&old) as _, Box::new(clock.clone())).unwrap();
    old.then.put_batch(vec![record("ana", version(1, 1))]).await.unwrap();
    reader.elsewhere(5).await;
    let ana = async || near.get_many(vec![key("ana")]).await.unwrap().remove(0).map(|ana| ana.written.n);
    assert_eq!(ana().await, Some(5));
    old.is_then.store(true, Ordering::SeqCst);
    clock.goes(Duration::from_secs(60));
    assert_eq!((ana().await, near.counts().kept_newer), (Some(5), 1));
    near.erase(vec![(key("ana"), version(1, 6))]).await.unwrap();
    clock.goes(Duration::from_secs(60));
    assert_eq!(ana().await, None, "who was erased stays so");
}

/// One store, and from some moment on another; what is erased is so in the first.
struct Turns {
    now: Arc<dyn StatusStore>,
    then: Arc<Watched>,
    is_then: AtomicBool,
}

impl StatusStore for Turns {
    fn put_batch(&self, records: Vec<Record>) -> BoxFuture<'_, Result<Written, StoreError>> {
        self.now.put_batch(records)
    }

    fn get_many(&self, keys: Vec<UserKey>) -> BoxFuture<'_, Result<Vec<Option<Record>>, StoreError>> {
        if self.is_then.load(Ordering::SeqCst) { self.then.get_many(keys) } else { self.now.get_many(keys) }
    }

    fn scan(&self, range: KeyRange, from: Option<UserKey>) -> BoxFuture<'_, Result<Page, StoreError>> {
        self.now.scan(range, from)
    }

    fn erase(&self, users: Vec<(UserKey, Version)>) -> BoxFuture<'_, Result<Written, StoreError>> {
        self.now.erase(users)
    }
}

/// A store of which every call has the same fault.
enum Faulty {
    Refuses,
    /// Answers nothing.
    Hangs,
}

impl Faulty {
    fn fails<T: Send + 'static>(&self) -> BoxFuture<'_, Result<T, StoreError>> {
        match self {
            Self::Refuses => std::future::ready(Err(StoreError::Unavailable("refused".to_owned()))).boxed(),
            Self::Hangs => pending().boxed(),
        }
    }
}

impl StatusStore for Faulty {
    fn put_batch(&self, _: Vec<Record>) -> BoxFuture<'_, Result<Written, StoreError>> {
        self.fails()
    }

    fn get_many(&self, _: Vec<UserKey>) -> BoxFuture<'_, Result<Vec<Option<Record>>, StoreError>> {
        self.fails()
    }

    fn scan(&self, _: KeyRange, _: Option<UserKey>) -> BoxFuture<'_, Result<Page, StoreError>> {
        self.fails()
    }

    fn erase(&self, _: Vec<(UserKey, Version)>) -> BoxFuture<'_, Result<Written, StoreError>> {
        self.fails()
    }
}

/// A reader that knows `ana` of a store that works, and now has one that does not.
async fn left_with(fault: Faulty) -> (Near, Told) {
    let whole = Watched::new(MemoryStore::new(10));
    whole.put_batch(vec![record("ana", version(1, 1))]).await.unwrap();
    let broken = Arc::new(Breaks { whole, fault, is_broken: false.into() });
    let clock = Told::default();
    let near = Near::with_clock(&NearConfig::default(), Arc::clone(&broken) as _, Box::new(clock.clone()));
    let near = near.unwrap();
    near.get_many(vec![key("ana")]).await.unwrap();
    broken.is_broken.store(true, Ordering::SeqCst);
    (near, clock)
}

struct Breaks {
    whole: Arc<Watched>,
    fault: Faulty,
    is_broken: AtomicBool,
}

impl Breaks {
    fn store(&self) -> &dyn StatusStore {
        if self.is_broken.load(Ordering::SeqCst) { &self.fault } else { &*self.whole }
    }
}

impl StatusStore for Breaks {
    fn put_batch(&self, records: Vec<Record>) -> BoxFuture<'_, Result<Written, StoreError>> {
        self.store().put_batch(records)
    }

    fn get_many(&self, keys: Vec<UserKey>) -> BoxFuture<'_, Result<Vec<Option<Record>>, StoreError>> {
        self.store().get_many(keys)
    }

    fn scan(&self, range: KeyRange, from: Option<UserKey>) -> BoxFuture<'_, Result<Page, StoreError>> {
        self.store().scan(range, from)
    }

    fn erase(&self, users: Vec<(UserKey, Version)>) -> BoxFuture<'_, Result<Written, StoreError>> {
        self.store().erase(users)
    }
}

#[tokio::test]
async fn a_store_that_refuses_is_told_to_who_misses_and_what_is_kept_is_answered() {
    let (near, clock) = left_with(Faulty::Refuses).await;
    assert!(near.get_many(vec![key("ana")]).await.unwrap()[0].is_some());
    for _ in 0..2 {
        assert_eq!(near.get_many(vec![key("ben")]).await.unwrap_err().label(), "unavailable");
    }
    assert_eq!(near.counts().failures, 2, "a failure is not kept");
    clock.goes(Duration::from_secs(30));
    let error = near.get_many(vec![key("ana")]).await.unwrap_err();
    assert_eq!(error.label(), "unavailable", "what is no longer good is no answer");
    let _ = near.put_batch(vec![record("ana", version(1, 2))]).await.unwrap_err();
    assert_eq!(near.counts().voided, 1, "of a write that failed nobody knows what it did");
}

#[tokio::test]
async fn a_slow_store_holds_up_who_misses_and_nobody_else() {
    let (near, _) = left_with(Faulty::Hangs).await;
    let missed = near.get_many(vec![key("ben")]).now_or_never();
    assert!(missed.is_none(), "whoever misses waits");
    assert!(near.get_many(vec![key("ana")]).now_or_never().unwrap().unwrap()[0].is_some());
    // A write that was given up after it began may have been made.
    assert!(near.put_batch(vec![record("ana", version(1, 2))]).now_or_never().is_none());
    assert!(near.get_many(vec![key("ana")]).now_or_never().is_none(), "so what is kept is void");
}

#[tokio::test]
async fn no_more_users_are_kept_than_may_be_and_those_asked_about_most_stay() {
    const MOST: u64 = 100;
    let config = NearConfig { max_users: MOST, ..NearConfig::default() };
    let store = Watched::new(MemoryStore::new(20_000));
    let near = Near::with_clock(&config, Arc::clone(&store) as _, Box::new(Told::default())).unwrap();
    let often: Vec<UserKey> = (0..50).map(|i| key(&format!("often{i}"))).collect();
    for _ in 0..20 {
        near.get_many(often.clone()).await.unwrap();
    }
    for i in 0..=MOST {
        near.get_many(vec![key(&format!("once{i}"))]).await.unwrap();
    }
    let counts = near.counts();
    assert!(counts.kept <= MOST && counts.evicted > 50, "{counts:?}");
    let reads = store.reads();
    near.get_many(often).await.unwrap();
    assert_eq!(store.reads(), reads, "who is asked about often is there still");
}

#[tokio::test]
async fn a_setting_that_cannot_be_used_is_named() {
    let config = NearConfig { max_users: 0, ..NearConfig::default() };
    let error = Near::new(&config, Arc::new(MemoryStore::new(1))).unwrap_err();
    assert!(error.to_string().starts_with("max_users: "), "{error}");
}
