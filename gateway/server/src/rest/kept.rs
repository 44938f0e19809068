//! How users were, where nobody who decides can be asked: from what is kept of them, with the moment at which it held.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use herenow_gateway_core::{Grants, Viewer};
use herenow_protocol::record::Seen;
use herenow_protocol::{Presence, Status, UserId};
use tokio::sync::Semaphore;

use crate::metrics::{Degraded, Metrics};

/// Knows what is kept of users.
pub trait LastKnown: Send + Sync {
    /// What watchers saw last of these users, in the order asked; `None` where nothing is kept. What failed, in a word.
    fn last_known(&self, users: Vec<UserId>) -> BoxFuture<'_, Result<Vec<Option<Seen>>, &'static str>>;
}

/// Asks it, within limits.
#[derive(Clone)]
pub(crate) struct Memory {
    store: Option<Arc<dyn LastKnown>>,
    /// Reads at a time.
    reads: Arc<Semaphore>,
    /// For each.
    timeout: Duration,
    metrics: Arc<Metrics>,
}

/// Whom somebody may see of those it asks for.
pub(super) enum Visible {
    All,
    These(HashSet<UserId>),
}

impl Visible {
    pub(super) fn of(viewer: &Viewer, users: &[UserId]) -> Self {
        match viewer.grants {
            Grants::Everybody => Self::All,
            Grants::Nobody | Grants::Some(_) => {
                Self::These(users.iter().filter(|user| viewer.may_see(user)).cloned().collect())
            }
        }
    }

    fn has(&self, user: &UserId) -> bool {
        match self {
            Self::All => true,
            Self::These(users) => users.contains(user),
        }
    }
}

impl Memory {
    pub(crate) fn new(
        store: Option<Arc<dyn LastKnown>>,
        reads: usize,
        timeout: Duration,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self { store, reads: Arc::new(Semaphore::new(reads)), timeout, metrics }
    }

    /// Replaces what nobody knows by what is kept. Whom the asker may not see stays as nobody knows, as one of whom
    /// nothing is kept does.
    pub(super) async fn fill_in(&self, users: &mut [Presence], visible: &Visible) {
        let unknown = |presence: &Presence| presence.status == Status::Unknown;
        let count = users.iter().filter(|presence| unknown(presence)).count();
        if count == 0 {
            return;
        }
        let wanted = |presence: &Presence| unknown(presence) && visible.has(&presence.user_id);
        let asked: Vec<UserId> =
            users.iter().filter(|one| wanted(one)).map(|one| one.user_id.clone()).collect();
        let found = match self.read(asked).await {
            Ok(found) => found,
            Err(why) => return self.metrics.degraded(why, count),
        };
        let mut told = 0;
        for (presence, seen) in users.iter_mut().filter(|one| wanted(one)).zip(found) {
            if let Some(better) = seen.and_then(|seen| as_kept(presence, seen)) {
                *presence = better;
                told += 1;
            }
        }
        self.metrics.degraded(Degraded::Store, told);
        self.metrics.degraded(Degraded::Nothing, count - told);
    }

    async fn read(&self, users: Vec<UserId>) -> Result<Vec<Option<Seen>>, Degraded> {
        let store = self.store.as_ref().ok_or(Degraded::NoStore)?;
        if users.is_empty() {
            return Ok(Vec::new());
        }
        let _permit = self.reads.try_acquire().map_err(|_| Degraded::Busy)?;
        match tokio::time::timeout(self.timeout, store.last_known(users)).await {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(why)) => {
                tracing::debug!(why, "what is kept cannot be read");
                Err(Degraded::Failed)
            }
            Err(_) => Err(Degraded::Failed),
        }
    }
}

/// What is kept, in the place of what nobody knows: unless this gateway knew something newer, which it can no longer
/// vouch for. It held when it began, and when this gateway was last certain of the same.
fn as_kept(unknown: &Presence, seen: Seen) -> Option<Presence> {
    let since = seen.since?;
    let knew = unknown.last_updated.is_some();
    if knew && seen.version < unknown.version {
        return None;
    }
    let certain = unknown.as_of.filter(|_| knew && seen.version == unknown.version);
    Some(Presence {
        user_id: unknown.user_id.clone(),
        status: seen.status,
        last_updated: Some(since),
        version: seen.version,
        text: seen.text,
        emoji: seen.emoji,
        reachable: false,
        devices: Vec::new(),
        invisible: false,
        as_of: Some(certain.map_or(since, |certain| certain.max(since))),
    })
}

#[cfg(test)]
mod tests {
    use herenow_protocol::{Epoch, Version, WallTime};

    use super::*;

    fn version(n: u64) -> Version {
        Version { epoch: Epoch { counter: 1, nonce: 2 }, n }
    }

    fn unknown(n: u64, last_updated: Option<u64>, as_of: Option<u64>) -> Presence {
        Presence {
            user_id: UserId::new("ana").unwrap(),
            status: Status::Unknown,
            last_updated: last_updated.map(WallTime::from_millis),
            version: version(n),
            text: None,
            emoji: None,
            reachable: false,
            devices: Vec::new(),
            invisible: false,
            as_of: as_of.map(WallTime::from_millis),
        }
    }

    fn kept(n: u64, since: Option<u64>) -> Seen {
        let since = since.map(WallTime::from_millis);
        Seen { version: version(n), status: Status::Dnd, since, text: Some("busy".into()), emoji: None }
    }

    fn as_of(unknown: &Presence, seen: Seen) -> Option<u64> {
        as_kept(unknown, seen).map(|presence| presence.as_of.unwrap().as_millis())
    }

    #[test]
    fn what_is_kept_is_told_with_the_moment_at_which_it_held() {
        let told = as_kept(&unknown(0, None, Some(900)), kept(7, Some(500))).unwrap();
        assert_eq!(
            (told.status, told.version, told.text.as_deref()),
            (Status::Dnd, version(7), Some("busy"))
        );
        assert_eq!((told.last_updated, told.as_of), (Some(WallTime::from_millis(500)), told.last_updated));
    }

    #[test]
    fn a_gateway_that_was_certain_of_the_same_says_when() {
        assert_eq!(as_of(&unknown(7, Some(500), Some(900)), kept(7, Some(500))), Some(900));
        // Of something else it was not.
        assert_eq!(as_of(&unknown(6, Some(400), Some(900)), kept(7, Some(500))), Some(500));
    }

    #[test]
    fn what_is_older_than_what_was_known_here_is_not_told() {
        assert_eq!(as_of(&unknown(8, Some(600), Some(900)), kept(7, Some(500))), None);
        // Where nothing was known of the user, the version is that of the partition.
        assert_eq!(as_of(&unknown(8, None, Some(900)), kept(7, Some(500))), Some(500));
    }

    #[test]
    fn somebody_never_seen_is_not_guessed_to_be_away() {
        assert_eq!(as_of(&unknown(0, None, None), kept(7, None)), None);
    }
}
