//! Takes messages out of the journal and writes them into the archive.
//!
//! A message is done once every target has it, so whatever breaks off, it comes again. While a target fails nothing more
//! is taken: what waits, waits in the journal. An erasure is made once everything older is done; until then it comes
//! again, so that no entry that another archiver has in hand is written behind it.

use std::sync::Arc;
use std::time::Duration;

use herenow_bus::{Journal, JournalError, TAKEN, Taken};
use herenow_protocol::history::{HistoryEntry, HistoryMessage, HistorySaid};
use herenow_protocol::{UserId, WallTime};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{interval, sleep, timeout};

use crate::clock::wall;
use crate::{Archive, ArchiveError, ArchiverMetrics};

/// How long it waits for a message before it looks around.
const WAIT: Duration = Duration::from_secs(2);
/// How long after a failure it is tried again, growing from the first to the last.
const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_LAST: Duration = Duration::from_secs(10);
/// How often it says that what it has in hand takes longer.
const BUSY: Duration = Duration::from_secs(10);
/// How often the backlog is looked at.
const LOOK: Duration = Duration::from_secs(2);
/// How long leaving in order may take.
const LEAVE_LIMIT: Duration = Duration::from_secs(5);

/// A running archiver. Dropping it ends it at once, as a crash would; [`Self::leave`] is the orderly way.
#[derive(Debug)]
pub struct Archiver {
    stop: watch::Sender<bool>,
    work: JoinHandle<()>,
    look: JoinHandle<()>,
}

impl Archiver {
    /// Begins to archive.
    #[must_use]
    pub fn start(journal: Arc<dyn Journal>, archive: Archive, metrics: ArchiverMetrics) -> Self {
        let (stop, stopped) = watch::channel(false);
        let (newest, of_newest) = watch::channel(wall());
        let look = tokio::spawn(look(Arc::clone(&journal), metrics.clone(), of_newest));
        let work = Work { journal, archive, metrics, stopped, newest, failing: false };
        Self { stop, work: tokio::spawn(work.run()), look }
    }

    /// Waits until it ended by itself, which is a fault.
    pub async fn ended(&mut self) {
        if let Err(error) = (&mut self.work).await {
            tracing::error!(%error, "the archiver broke off");
        }
    }

    /// Writes what it has in hand, and ends; what cannot be written in 5 s comes again.
    pub async fn leave(mut self) {
        self.stop.send_replace(true);
        if timeout(LEAVE_LIMIT, &mut self.work).await.is_err() {
            tracing::warn!(limit = ?LEAVE_LIMIT, "what was in hand is left to other archivers");
        }
    }
}

impl Drop for Archiver {
    fn drop(&mut self) {
        self.work.abort();
        self.look.abort();
    }
}

/// It was asked to end.
struct Stopped;

struct Work {
    journal: Arc<dyn Journal>,
    archive: Archive,
    metrics: ArchiverMetrics,
    stopped: watch::Receiver<bool>,
    /// The time of the newest entry that is written.
    newest: watch::Sender<WallTime>,
    failing: bool,
}

impl Work {
    async fn run(mut self) {
        let mut failures = 0;
        let mut stopped = self.stopped.clone();
        loop {
            let taken = tokio::select! {
                _ = stopped.wait_for(|stop| *stop) => return,
                taken = self.journal.take(TAKEN, WAIT) => taken,
            };
            match taken {
                Ok(taken) => {
                    failures = 0;
                    if self.batch(taken).await.is_err() {
                        return;
                    }
                }
                Err(error) => {
                    self.journal_failed(&error);
                    failures += 1;
                    if self.pause(failures).await.is_err() {
                        return;
                    }
                }
            }
        }
    }

    /// Writes a batch, message after message in their order, as many entries at once as there are.
    async fn batch(&mut self, taken: Vec<Taken>) -> Result<(), Stopped> {
        let mut left = taken;
        // What comes again may come behind what is newer.
        left.sort_by_key(|taken| taken.number);
        let (mut entries, mut held) = (Vec::new(), Vec::new());
        while !left.is_empty() {
            let next = left.remove(0);
            match HistoryMessage::read(&next.payload) {
                Ok(HistorySaid::Entries(more)) => {
                    entries.extend(more);
                    held.push(next);
                }
                Ok(HistorySaid::Erase(user)) => {
                    self.write(&mut entries, &mut held, &left).await?;
                    self.erase(&user, next, &left).await?;
                }
                Err(reason) => self.bury(next, &reason).await?,
            }
        }
        self.write(&mut entries, &mut held, &[]).await
    }

    /// Writes entries, and is done with the messages that they came in.
    async fn write(
        &mut self,
        entries: &mut Vec<HistoryEntry>,
        held: &mut Vec<Taken>,
        left: &[Taken],
    ) -> Result<(), Stopped> {
        let archive = self.archive.clone();
        let (entries, held) = (std::mem::take(entries), std::mem::take(held));
        if !entries.is_empty() {
            let in_hand: Vec<&[Taken]> = vec![&held, left];
            self.until_done(&in_hand, || archive.write(&entries)).await?;
            self.metrics.wrote(entries.len());
            if let Some(newest) = entries.iter().map(|entry| entry.at).max() {
                self.newest.send_replace(newest);
            }
        }
        self.done(&held).await;
        Ok(())
    }

    async fn erase(&mut self, user: &UserId, taken: Taken, left: &[Taken]) -> Result<(), Stopped> {
        if !self.is_next(&taken).await {
            self.journal.again(&taken).await;
            return Ok(());
        }
        let archive = self.archive.clone();
        let taken = [taken];
        let in_hand: Vec<&[Taken]> = vec![&taken, left];
        self.until_done(&in_hand, || archive.erase(user)).await?;
        self.metrics.erased();
        self.done(&taken).await;
        Ok(())
    }

    /// Whether everything before a message is done.
    async fn is_next(&mut self, taken: &Taken) -> bool {
        match self.journal.backlog().await {
            Ok(backlog) => backlog.done_through + 1 >= taken.number,
            Err(error) => {
                self.journal_failed(&error);
                false
            }
        }
    }

    /// What is not confirmed comes again, and is the same then.
    async fn done(&mut self, taken: &[Taken]) {
        if let Err(error) = self.journal.done(taken).await {
            self.journal_failed(&error);
        }
    }

    async fn bury(&mut self, taken: Taken, reason: &str) -> Result<(), Stopped> {
        tracing::error!(number = taken.number, reason, "a message of the history is put aside");
        // Where that fails, it comes again.
        match self.journal.bury(&taken, reason).await {
            Ok(()) => self.metrics.buried(),
            Err(error) => self.journal_failed(&error),
        }
        Ok(())
    }

    /// Tries until the archive takes it, and says meanwhile that it is at work.
    async fn until_done<F>(
        &mut self,
        in_hand: &[&[Taken]],
        mut attempt: impl FnMut() -> F,
    ) -> Result<(), Stopped>
    where
        F: Future<Output = Result<(), ArchiveError>>,
    {
        let mut failures = 0;
        loop {
            let outcome = self.at_work(in_hand, attempt()).await;
            match outcome {
                Ok(()) => {
                    self.recovered();
                    return Ok(());
                }
                Err(error) => {
                    failures += 1;
                    self.archive_failed(&error);
                    let pause = pause(failures);
                    let mut stopped = self.stopped.clone();
                    tokio::select! {
                        _ = stopped.wait_for(|stop| *stop) => return Err(Stopped),
                        () = self.at_work(in_hand, sleep(pause)) => {}
                    }
                }
            }
        }
    }

    async fn at_work<T>(&self, in_hand: &[&[Taken]], work: impl Future<Output = T>) -> T {
        let mut tick = interval(BUSY);
        tick.tick().await;
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                _ = tick.tick() => for taken in in_hand {
                    self.journal.busy(taken).await;
                },
            }
        }
    }

    async fn pause(&self, failures: u32) -> Result<(), Stopped> {
        let mut stopped = self.stopped.clone();
        tokio::select! {
            _ = stopped.wait_for(|stop| *stop) => Err(Stopped),
            () = sleep(pause(failures)) => Ok(()),
        }
    }

    fn journal_failed(&mut self, error: &JournalError) {
        self.metrics.failed("journal", error.label());
        tracing::warn!(%error, "the journal of the history");
    }

    fn archive_failed(&mut self, error: &ArchiveError) {
        self.metrics.failed(error.target, error.error.label());
        if !std::mem::replace(&mut self.failing, true) {
            tracing::error!(%error, "the history cannot be written; it waits in the journal");
        }
    }

    fn recovered(&mut self) {
        if std::mem::take(&mut self.failing) {
            tracing::info!("the history is written again");
        }
    }
}

fn pause(failures: u32) -> Duration {
    (RETRY_FIRST * 2u32.pow(failures.saturating_sub(1).min(10))).min(RETRY_LAST)
}

/// Looks at the backlog from time to time.
async fn look(journal: Arc<dyn Journal>, metrics: ArchiverMetrics, newest: watch::Receiver<WallTime>) {
    loop {
        if let Ok(backlog) = journal.backlog().await {
            metrics.backlog(backlog);
            let behind = backlog.waiting + backlog.in_hand > 0;
            metrics.lag(if behind { newest.borrow().until(wall()) } else { Duration::ZERO });
        }
        sleep(LOOK).await;
    }
}
