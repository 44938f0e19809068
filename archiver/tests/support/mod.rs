//! What tests of the archiver share.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each file of tests uses a part, and may fail so"
)]

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt as _};
use herenow_archiver::{Archive, Target};
use herenow_protocol::api::Cause;
use herenow_protocol::history::{Event, HistoryEntry, Opened};
use herenow_protocol::{Epoch, Placement, Status, UserId, UserKey, Version, WallTime};
use herenow_store::{ActivityLog, ActivityRecord, MemoryLog, People, Span, StoreError, UserDetails};
use prometheus_client::registry::Registry;

/// How long anything that must happen is waited for.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub fn placement() -> Placement {
    Placement::new(b"a secret of the tests", 4)
}

pub fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

/// The `n`th transition of a user.
pub fn entry(name: &str, n: u64) -> HistoryEntry {
    let (from, to) =
        if n % 2 == 1 { (Status::Offline, Status::Online) } else { (Status::Online, Status::Offline) };
    HistoryEntry {
        user_id: user(name),
        event: Event::of(from, to),
        at: WallTime::from_millis(1_790_000_000_000 + n * 1_000),
        version: Version { epoch: Epoch { counter: 1, nonce: 2 }, n },
        from,
        to,
        cause: Cause::Connected,
        opened: Opened::default(),
    }
}

/// A log that can be told to fail, and counts its calls.
#[derive(Clone)]
pub struct Moody {
    pub log: MemoryLog,
    pub fails: Arc<AtomicBool>,
    pub calls: Arc<AtomicUsize>,
}

impl Moody {
    pub fn new() -> Self {
        Self { log: MemoryLog::new(100_000), fails: Arc::default(), calls: Arc::default() }
    }

    fn mood(&self) -> Result<(), StoreError> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        match self.fails.load(Ordering::SeqCst) {
            true => Err(StoreError::Unavailable("is told to fail".to_owned())),
            false => Ok(()),
        }
    }
}

impl ActivityLog for Moody {
    fn append_batch(&self, entries: Vec<ActivityRecord>) -> BoxFuture<'_, Result<(), StoreError>> {
        async move {
            self.mood()?;
            self.log.append_batch(entries).await
        }
        .boxed()
    }

    fn query(&self, key: UserKey, span: Span) -> BoxFuture<'_, Result<Vec<ActivityRecord>, StoreError>> {
        self.log.query(key, span)
    }

    fn erase(&self, key: UserKey) -> BoxFuture<'_, Result<(), StoreError>> {
        async move {
            self.mood()?;
            self.log.erase(key).await
        }
        .boxed()
    }

    fn expire(&self, before: WallTime) -> BoxFuture<'_, Result<(), StoreError>> {
        self.log.expire(before)
    }
}

/// People in memory: remembers who was forgotten.
#[derive(Default)]
pub struct Forgotten(pub Mutex<Vec<UserId>>);

impl People for Forgotten {
    fn put(&self, _users: Vec<UserDetails>) -> BoxFuture<'_, Result<(), StoreError>> {
        std::future::ready(Ok(())).boxed()
    }

    fn get<'a>(&'a self, _user: &'a UserId) -> BoxFuture<'a, Result<Option<UserDetails>, StoreError>> {
        std::future::ready(Ok(None)).boxed()
    }

    fn forget<'a>(&'a self, user: &'a UserId) -> BoxFuture<'a, Result<(), StoreError>> {
        self.0.lock().unwrap().push(user.clone());
        std::future::ready(Ok(())).boxed()
    }
}

pub fn archive(log: impl ActivityLog + 'static) -> Archive {
    Archive::new(placement(), vec![Target { name: "memory", log: Arc::new(log), people: None }])
}

/// The numbers of what a log has of a user.
pub async fn numbers(log: &dyn ActivityLog, name: &str) -> Vec<u64> {
    let found = log.query(placement().key(&user(name)), Span::ALL).await.unwrap();
    found.iter().map(|entry| entry.version.n).collect()
}

/// Until a log has this of a user.
pub async fn until(log: &dyn ActivityLog, name: &str, wanted: &[u64]) {
    let there = async {
        while numbers(log, name).await != wanted {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    if tokio::time::timeout(PATIENCE, there).await.is_err() {
        assert_eq!(numbers(log, name).await, wanted, "of {name}");
    }
}

/// A number of the metrics.
pub fn metric(registry: &Registry, name: &str) -> f64 {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, registry).unwrap();
    text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok()).unwrap_or(0.0)
}
