//! The parts of the history that a process plays.

use std::sync::Arc;

use herenow_archiver::{
    Archive, Archiver, ArchiverMetrics, IntoArchive, IntoJournal, Outbox, OutboxConfig, OutboxMetrics,
    Outlet, Retention, Said,
};
use herenow_bus::{Journal, JournalConfig, NatsBus};
use herenow_coordinator_core::Transition;
use herenow_coordinator_server::TransitionSink;
use herenow_protocol::UserId;
use herenow_protocol::api::Cause;
use herenow_protocol::history::{Event, HistoryEntry};
use prometheus_client::registry::Registry;

use crate::config::{Config, Role};

/// Where the history goes.
#[derive(Clone)]
pub struct History {
    archive: Archive,
    /// Over which it goes; none: it is written by the process in which it happens.
    journal: Option<Arc<dyn Journal>>,
}

impl std::fmt::Debug for History {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("History").field("archive", &self.archive).finish_non_exhaustive()
    }
}

impl History {
    /// Into the archive at once.
    #[must_use]
    pub const fn within(archive: Archive) -> Self {
        Self { archive, journal: None }
    }

    /// Over NATS, to archivers.
    pub(crate) fn over(bus: &NatsBus, archive: Archive, config: &Config) -> Self {
        let (max_bytes, replicas) = (config.activity.stream_bytes, config.activity.stream_replicas);
        let journal = bus.journal(JournalConfig { max_bytes, replicas });
        Self { archive, journal: Some(Arc::new(journal)) }
    }

    /// Starts what the roles of the process need of it.
    pub(crate) fn start(self, config: &Config, registry: &mut Registry) -> Kept {
        let outbox = config.plays(Role::Coordinator).then(|| {
            let outlet: Arc<dyn Outlet> = match &self.journal {
                Some(journal) => Arc::new(IntoJournal(Arc::clone(journal))),
                None => Arc::new(IntoArchive(self.archive.clone())),
            };
            let limits = OutboxConfig { max_waiting: config.activity.max_waiting };
            Outbox::start(outlet, limits, OutboxMetrics::register(registry))
        });
        let writes = self.journal.is_none() || config.plays(Role::Archiver);
        let metrics = if writes { ArchiverMetrics::register(registry) } else { ArchiverMetrics::default() };
        let retention = writes
            .then(|| Retention::start(self.archive.clone(), config.activity.retention, metrics.clone()));
        let archiver = self.journal.filter(|_| config.plays(Role::Archiver));
        let archiver = archiver.map(|journal| Archiver::start(journal, self.archive, metrics));
        Kept { outbox, archiver, _retention: retention }
    }
}

/// The parts, running.
pub(crate) struct Kept {
    outbox: Option<Outbox>,
    archiver: Option<Archiver>,
    _retention: Option<Retention>,
}

impl Kept {
    /// Where a coordinator puts its transitions.
    pub(crate) fn sink(&self) -> Option<Box<dyn TransitionSink>> {
        self.outbox.clone().map(|outbox| Box::new(Sink(outbox)) as Box<dyn TransitionSink>)
    }

    /// Waits until the archiver ended by itself.
    pub(crate) async fn failed(&mut self) {
        match &mut self.archiver {
            Some(archiver) => archiver.ended().await,
            None => std::future::pending().await,
        }
    }

    /// Hands on what waits, once nothing new comes.
    pub(crate) async fn leave(self) {
        if let Some(outbox) = self.outbox {
            outbox.close().await;
        }
        if let Some(archiver) = self.archiver {
            archiver.leave().await;
        }
    }
}

struct Sink(Outbox);

impl TransitionSink for Sink {
    /// What is not a change of status is none for the history, such as another text, or the same said anew by the next
    /// owner. Nor is what an erasure made: nothing is to be left of that user.
    fn accept(&mut self, transition: Transition) {
        let Transition { user, from, cause, presence, opened, .. } = transition;
        let Some(at) = presence.last_updated else { return };
        if from == presence.status || cause == Cause::Erased {
            return;
        }
        let event = Event::of(from, presence.status);
        let (version, to) = (presence.version, presence.status);
        self.0.say(Said::Entry(Box::new(HistoryEntry {
            user_id: user,
            event,
            at,
            version,
            from,
            to,
            cause,
            opened,
        })));
    }

    fn erased(&mut self, user: UserId) {
        self.0.say(Said::Erase(user));
    }
}
