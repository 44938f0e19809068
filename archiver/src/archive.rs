//! Where the history is kept: one store, or several that all have all of it.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::future::try_join_all;
use herenow_protocol::history::HistoryEntry;
use herenow_protocol::{Placement, UserId, WallTime};
use herenow_store::{ActivityLog, ActivityRecord, BATCH, People, StoreError};

/// Most days that the entries of one call lie on: a store may need a table for each.
const DAYS: usize = 300;
/// Milliseconds of a day.
const DAY_MS: u64 = 86_400_000;

/// One store.
#[derive(Clone)]
pub struct Target {
    /// What metrics and logs call it.
    pub name: &'static str,
    /// Its history.
    pub log: Arc<dyn ActivityLog>,
    /// Who users are, where it knows that: an erasure reaches it too.
    pub people: Option<Arc<dyn People>>,
}

/// All stores of the history.
#[derive(Clone)]
pub struct Archive {
    placement: Placement,
    targets: Vec<Target>,
}

impl std::fmt::Debug for Archive {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&str> = self.targets.iter().map(|target| target.name).collect();
        f.debug_struct("Archive").field("targets", &names).finish_non_exhaustive()
    }
}

/// Which store did not do it, and why.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{target}: {error}")]
pub struct ArchiveError {
    /// Which.
    pub target: &'static str,
    /// Why.
    pub error: StoreError,
}

impl Archive {
    /// Keeps users under the keys of `placement`.
    #[must_use]
    pub const fn new(placement: Placement, targets: Vec<Target>) -> Self {
        Self { placement, targets }
    }

    /// Adds entries to every store. After an error some may have them; adding them again changes nothing.
    ///
    /// # Errors
    /// The first store that failed.
    pub async fn write(&self, entries: &[HistoryEntry]) -> Result<(), ArchiveError> {
        let records: Vec<ActivityRecord> = entries.iter().map(|entry| self.record(entry)).collect();
        try_join_all(self.targets.iter().map(|target| write_to(target, &records))).await.map(drop)
    }

    /// Forgets a user in every store: its history, and who it is.
    ///
    /// # Errors
    /// The first store that failed.
    pub async fn erase(&self, user: &UserId) -> Result<(), ArchiveError> {
        let key = self.placement.key(user);
        let erase = |target: &Target| {
            let target = target.clone();
            async move {
                let failed = |error| ArchiveError { target: target.name, error };
                target.log.erase(key).await.map_err(failed)?;
                match &target.people {
                    Some(people) => people.forget(user).await.map_err(failed),
                    None => Ok(()),
                }
            }
        };
        try_join_all(self.targets.iter().map(erase)).await.map(drop)
    }

    /// Forgets the days that were over at a moment.
    ///
    /// # Errors
    /// The first store that failed.
    pub async fn expire(&self, before: WallTime) -> Result<(), ArchiveError> {
        for target in &self.targets {
            let expired = target.log.expire(before).await;
            expired.map_err(|error| ArchiveError { target: target.name, error })?;
        }
        Ok(())
    }

    fn record(&self, entry: &HistoryEntry) -> ActivityRecord {
        ActivityRecord {
            key: self.placement.key(&entry.user_id),
            user: entry.user_id.clone(),
            at: entry.at,
            version: entry.version,
            from: entry.from,
            to: entry.to,
            cause: entry.cause,
            opened: entry.opened,
        }
    }
}

async fn write_to(target: &Target, records: &[ActivityRecord]) -> Result<(), ArchiveError> {
    for part in parts(records) {
        let written = target.log.append_batch(part.to_vec()).await;
        written.map_err(|error| ArchiveError { target: target.name, error })?;
    }
    Ok(())
}

/// In parts that every store takes in one call.
fn parts(mut records: &[ActivityRecord]) -> Vec<&[ActivityRecord]> {
    let mut parts = Vec::new();
    while !records.is_empty() {
        let mut days = BTreeSet::new();
        let fits = |record: &&ActivityRecord| {
            days.insert(record.at.as_millis() / DAY_MS);
            days.len() <= DAYS
        };
        let (part, rest) = records.split_at(records.iter().take(BATCH).take_while(fits).count());
        parts.push(part);
        records = rest;
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use herenow_store::testing::entry;

    #[test]
    fn a_part_has_no_more_entries_and_days_than_a_store_takes() {
        let same_day: Vec<_> = (0..BATCH as u64 + 1).map(|n| entry("ana", 5, n)).collect();
        assert_eq!(parts(&same_day).iter().map(|part| part.len()).collect::<Vec<_>>(), [BATCH, 1]);
        let days: Vec<_> = (0..DAYS as u64 + 1).map(|n| entry("ana", n * DAY_MS, n)).collect();
        assert_eq!(parts(&days).iter().map(|part| part.len()).collect::<Vec<_>>(), [DAYS, 1]);
        assert!(parts(&[]).is_empty());
    }
}
