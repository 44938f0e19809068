//! What waits in a coordinator to be handed on: in order, up to a limit, never waited for.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use herenow_protocol::UserId;
use herenow_protocol::history::HistoryEntry;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::{OutboxConfig, OutboxMetrics, Outlet};

/// Most that is handed on in one call.
const AT_ONCE: usize = 4_000;
/// For how long after the first what follows is gathered.
const GATHER: Duration = Duration::from_millis(20);
/// How long after a failure it is tried again, growing from the first to the last.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_LAST: Duration = Duration::from_secs(5);
/// How long what waits at the end may take.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);

/// What happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Said {
    /// A transition.
    Entry(Box<HistoryEntry>),
    /// A user is to be forgotten, with all that was said of it before.
    Erase(UserId),
}

/// Takes what happened at once, and has it handed on by a task of its own. Clones share it. When the last is dropped,
/// what waits is dropped, as a crash would.
#[derive(Clone, Debug)]
pub struct Outbox {
    waiting: Arc<Waiting>,
    metrics: OutboxMetrics,
    task: Arc<Mutex<Option<Task>>>,
}

#[derive(Debug)]
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[derive(Debug)]
struct Waiting {
    said: Mutex<VecDeque<Said>>,
    most: usize,
    more: Notify,
    close: Notify,
    closing: AtomicBool,
}

impl Outbox {
    /// Begins to hand on.
    #[must_use]
    pub fn start(outlet: Arc<dyn Outlet>, config: OutboxConfig, metrics: OutboxMetrics) -> Self {
        let waiting = Arc::new(Waiting {
            said: Mutex::default(),
            most: config.max_waiting,
            more: Notify::new(),
            close: Notify::new(),
            closing: AtomicBool::new(false),
        });
        let work = Work { waiting: Arc::clone(&waiting), outlet, metrics: metrics.clone(), failures: 0 };
        let task = Task(tokio::spawn(work.run()));
        Self { waiting, metrics, task: Arc::new(Mutex::new(Some(task))) }
    }

    /// Takes what happened. Where there is no room, a transition is dropped and counted; for an erasure one that waits is.
    pub fn say(&self, said: Said) {
        let mut waiting = self.waiting.said();
        if waiting.len() >= self.waiting.most {
            self.metrics.dropped();
            let entry = waiting.iter().position(|other| matches!(other, Said::Entry(_)));
            match (&said, entry) {
                (Said::Erase(_), Some(entry)) => drop(waiting.remove(entry)),
                (Said::Erase(_), None) | (Said::Entry(_), _) => return,
            }
        }
        waiting.push_back(said);
        self.metrics.waiting(waiting.len());
        drop(waiting);
        self.waiting.more.notify_one();
    }

    /// Hands on what waits, for at most 5 s, and stops.
    pub async fn close(&self) {
        self.waiting.closing.store(true, Ordering::SeqCst);
        self.waiting.close.notify_one();
        let task = lock(&self.task).take();
        let Some(mut task) = task else { return };
        let _ = timeout(CLOSE_LIMIT, &mut task.0).await;
        let left = self.waiting.said().len();
        if left > 0 {
            tracing::error!(left, "the last transitions could not be handed on to the history");
        }
    }
}

impl Waiting {
    fn said(&self) -> MutexGuard<'_, VecDeque<Said>> {
        lock(&self.said)
    }
}

/// The outlet took it not.
struct Failed;

struct Work {
    waiting: Arc<Waiting>,
    outlet: Arc<dyn Outlet>,
    metrics: OutboxMetrics,
    failures: u32,
}

impl Work {
    async fn run(mut self) {
        let waiting = Arc::clone(&self.waiting);
        loop {
            let closing = waiting.closing.load(Ordering::SeqCst);
            let outcome = self.hand_on().await;
            if closing {
                return;
            }
            match outcome {
                Ok(()) => tokio::select! {
                    () = waiting.more.notified() => sleep(GATHER).await,
                    () = waiting.close.notified() => {}
                },
                Err(Failed) => tokio::select! {
                    () = sleep(self.pause()) => {}
                    () = waiting.close.notified() => {}
                },
            }
        }
    }

    /// Until nothing waits, or the outlet fails.
    async fn hand_on(&mut self) -> Result<(), Failed> {
        loop {
            let next: Vec<Said> = self.waiting.said().iter().take(AT_ONCE).cloned().collect();
            if next.is_empty() {
                return Ok(());
            }
            match self.outlet.deliver(&next).await {
                Ok(()) => self.delivered(&next),
                Err(error) => {
                    self.failed(&error);
                    return Err(Failed);
                }
            }
        }
    }

    fn pause(&self) -> Duration {
        let doublings = self.failures.saturating_sub(1).min(10);
        (RETRY_FIRST * 2u32.pow(doublings)).min(RETRY_LAST)
    }

    /// Removes what was handed on. Meanwhile an erasure may have taken the place of some of it.
    fn delivered(&mut self, next: &[Said]) {
        let mut waiting = self.waiting.said();
        for one in next {
            if waiting.front() == Some(one) {
                waiting.pop_front();
            }
        }
        self.metrics.waiting(waiting.len());
        drop(waiting);
        self.metrics.delivered(next.len());
        if std::mem::take(&mut self.failures) > 0 {
            tracing::info!("transitions are handed on to the history again");
        }
    }

    fn failed(&mut self, error: &crate::OutletError) {
        self.metrics.failed(error.label);
        if self.failures == 0 {
            tracing::error!(%error, "transitions cannot be handed on to the history; they wait");
        }
        self.failures = self.failures.saturating_add(1);
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}
