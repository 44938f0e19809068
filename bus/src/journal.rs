//! A durable queue: what is taken from it and not done comes again. In memory for tests; over NATS it is a stream.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt as _};
use tokio::sync::Notify;

/// Most messages of one [`Journal::take`].
pub const TAKEN: usize = 100;

/// How much later a message comes again that is to.
pub(crate) const AGAIN: Duration = Duration::from_secs(1);

/// Why a journal did not do what it was asked. Nobody knows then whether it did.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    /// It may do it later.
    #[error("the journal does not answer: {0}")]
    Away(String),
    /// It has as much as it may have.
    #[error("the journal is full")]
    Full,
}

impl JournalError {
    /// The error in a word, as metrics name it.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Away(_) => "away",
            Self::Full => "full",
        }
    }
}

/// A message that was taken.
#[derive(Debug)]
pub struct Taken {
    /// Its place in the journal; later ones have higher ones.
    pub number: u64,
    /// What was appended.
    pub payload: Bytes,
    /// With what the journal knows it again.
    pub(crate) receipt: String,
}

/// What a journal has to do yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Backlog {
    /// Messages that nobody has taken.
    pub waiting: u64,
    /// Messages that were taken and are not done.
    pub in_hand: u64,
    /// Every message up to this number is done. Zero where none is.
    pub done_through: u64,
}

/// A durable queue. Every message is taken at least once, and by one taker at a time.
pub trait Journal: Send + Sync {
    /// Adds a message behind the others. When it returns `Ok`, the journal keeps it.
    fn append(&self, payload: Bytes) -> BoxFuture<'_, Result<(), JournalError>>;

    /// The oldest messages that nobody has in hand, at most `most` of them and [`TAKEN`]; waits as long as `wait` for the
    /// first.
    fn take(&self, most: usize, wait: Duration) -> BoxFuture<'_, Result<Vec<Taken>, JournalError>>;

    /// These are done, and do not come again.
    fn done<'a>(&'a self, taken: &'a [Taken]) -> BoxFuture<'a, Result<(), JournalError>>;

    /// These take longer; they are not to be given to somebody else yet.
    fn busy<'a>(&'a self, taken: &'a [Taken]) -> BoxFuture<'a, ()>;

    /// This one is to come again, a little later.
    fn again<'a>(&'a self, taken: &'a Taken) -> BoxFuture<'a, ()>;

    /// Nobody can do anything with this one: it is put aside for people, with the reason, and is done.
    fn bury<'a>(&'a self, taken: &'a Taken, reason: &'a str) -> BoxFuture<'a, Result<(), JournalError>>;

    /// What is to be done yet.
    fn backlog(&self) -> BoxFuture<'_, Result<Backlog, JournalError>>;
}

/// A journal in memory. Clones share it.
#[derive(Clone, Debug)]
pub struct LocalJournal {
    most: usize,
    kept: Arc<Mutex<Kept>>,
    more: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Kept {
    last: u64,
    waiting: VecDeque<(u64, Bytes)>,
    in_hand: BTreeMap<u64, Bytes>,
    buried: Vec<(Bytes, String)>,
}

impl LocalJournal {
    /// Keeps at most so many messages.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { most, kept: Arc::default(), more: Arc::default() }
    }

    /// What was put aside, and why.
    #[must_use]
    pub fn buried(&self) -> Vec<(Bytes, String)> {
        self.kept().buried.clone()
    }

    /// Whoever had something in hand is gone: it all comes again.
    pub fn abandon(&self) {
        let mut kept = self.kept();
        while let Some(taken) = kept.in_hand.pop_last() {
            kept.waiting.push_front(taken);
        }
        self.more.notify_waiters();
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_now(&self, most: usize) -> Vec<Taken> {
        let mut kept = self.kept();
        let count = kept.waiting.len().min(most).min(TAKEN);
        let taken: Vec<(u64, Bytes)> = kept.waiting.drain(..count).collect();
        kept.in_hand.extend(taken.iter().cloned());
        let taken = taken.into_iter();
        taken.map(|(number, payload)| Taken { number, payload, receipt: String::new() }).collect()
    }
}

impl Journal for LocalJournal {
    fn append(&self, payload: Bytes) -> BoxFuture<'_, Result<(), JournalError>> {
        async move {
            let mut kept = self.kept();
            if kept.waiting.len() + kept.in_hand.len() >= self.most {
                return Err(JournalError::Full);
            }
            kept.last += 1;
            let number = kept.last;
            kept.waiting.push_back((number, payload));
            self.more.notify_waiters();
            Ok(())
        }
        .boxed()
    }

    fn take(&self, most: usize, wait: Duration) -> BoxFuture<'_, Result<Vec<Taken>, JournalError>> {
        async move {
            let more = self.more.notified();
            let taken = self.take_now(most);
            if !taken.is_empty() {
                return Ok(taken);
            }
            let _ = tokio::time::timeout(wait, more).await;
            Ok(self.take_now(most))
        }
        .boxed()
    }

    fn done<'a>(&'a self, taken: &'a [Taken]) -> BoxFuture<'a, Result<(), JournalError>> {
        async move {
            let mut kept = self.kept();
            for taken in taken {
                kept.in_hand.remove(&taken.number);
            }
            Ok(())
        }
        .boxed()
    }

    fn busy<'a>(&'a self, _taken: &'a [Taken]) -> BoxFuture<'a, ()> {
        std::future::ready(()).boxed()
    }

    fn again<'a>(&'a self, taken: &'a Taken) -> BoxFuture<'a, ()> {
        async move {
            tokio::time::sleep(AGAIN).await;
            let mut kept = self.kept();
            if let Some(payload) = kept.in_hand.remove(&taken.number) {
                kept.waiting.push_front((taken.number, payload));
            }
            self.more.notify_waiters();
        }
        .boxed()
    }

    fn bury<'a>(&'a self, taken: &'a Taken, reason: &'a str) -> BoxFuture<'a, Result<(), JournalError>> {
        async move {
            let mut kept = self.kept();
            if let Some(payload) = kept.in_hand.remove(&taken.number) {
                kept.buried.push((payload, reason.to_owned()));
            }
            Ok(())
        }
        .boxed()
    }

    fn backlog(&self) -> BoxFuture<'_, Result<Backlog, JournalError>> {
        let kept = self.kept();
        let (waiting, in_hand) = (kept.waiting.len() as u64, kept.in_hand.len() as u64);
        let waits = kept.waiting.iter().map(|(number, _)| *number).min();
        let oldest = waits.into_iter().chain(kept.in_hand.keys().next().copied()).min();
        let done_through = oldest.map_or(kept.last, |oldest| oldest - 1);
        std::future::ready(Ok(Backlog { waiting, in_hand, done_through })).boxed()
    }
}
