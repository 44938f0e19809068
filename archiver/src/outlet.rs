//! Where what happened goes from a coordinator.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt as _};
use herenow_bus::Journal;
use herenow_protocol::history::{HistoryEntry, HistoryMessage, HistorySaid};
use herenow_protocol::limit::HISTORY_ENTRIES;

use crate::{Archive, Said};

/// Why it does not go on now.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{reason}")]
pub struct OutletError {
    /// In a word, as metrics name it.
    pub label: &'static str,
    /// In words.
    pub reason: String,
}

/// Takes what happened, in order.
pub trait Outlet: Send + Sync {
    /// Takes all of it; what was said of a user before an erasure is before it. After an error some of it may have been
    /// taken: it is all handed in again, and that changes nothing.
    fn deliver<'a>(&'a self, said: &'a [Said]) -> BoxFuture<'a, Result<(), OutletError>>;
}

/// Into a journal, for archivers.
pub struct IntoJournal(pub Arc<dyn Journal>);

impl std::fmt::Debug for IntoJournal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("IntoJournal").finish()
    }
}

impl Outlet for IntoJournal {
    fn deliver<'a>(&'a self, said: &'a [Said]) -> BoxFuture<'a, Result<(), OutletError>> {
        async move {
            for said in groups(said) {
                let payload = Bytes::from(HistoryMessage::new(said).to_bytes());
                let failed = |error: herenow_bus::JournalError| OutletError {
                    label: error.label(),
                    reason: error.to_string(),
                };
                self.0.append(payload).await.map_err(failed)?;
            }
            Ok(())
        }
        .boxed()
    }
}

/// Into the archive at once, in the same process.
#[derive(Debug)]
pub struct IntoArchive(pub Archive);

impl Outlet for IntoArchive {
    fn deliver<'a>(&'a self, said: &'a [Said]) -> BoxFuture<'a, Result<(), OutletError>> {
        async move {
            for said in groups(said) {
                let done = match said {
                    HistorySaid::Entries(entries) => self.0.write(&entries).await,
                    HistorySaid::Erase(user) => self.0.erase(&user).await,
                };
                done.map_err(|error| OutletError { label: error.error.label(), reason: error.to_string() })?;
            }
            Ok(())
        }
        .boxed()
    }
}

/// Entries that follow each other together, as many as a message may have; erasures between them.
fn groups(said: &[Said]) -> Vec<HistorySaid> {
    let mut groups = Vec::new();
    let mut entries: Vec<HistoryEntry> = Vec::new();
    for one in said {
        match one {
            Said::Entry(entry) => {
                entries.push((**entry).clone());
                if entries.len() == HISTORY_ENTRIES {
                    groups.push(HistorySaid::Entries(std::mem::take(&mut entries)));
                }
            }
            Said::Erase(user) => {
                if !entries.is_empty() {
                    groups.push(HistorySaid::Entries(std::mem::take(&mut entries)));
                }
                groups.push(HistorySaid::Erase(user.clone()));
            }
        }
    }
    if !entries.is_empty() {
        groups.push(HistorySaid::Entries(entries));
    }
    groups
}
