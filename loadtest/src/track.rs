//! What was changed and not yet seen.

use std::collections::{HashMap, VecDeque};

use hdrhistogram::Histogram;
use herenow_protocol::{Presence, Status};
use tokio::time::Instant;

/// A change on its way.
#[derive(Clone, Copy, Debug)]
struct Change {
    status: Status,
    at: Instant,
    counts: bool,
}

/// Matches what the watcher sees with what was changed. A change that is overtaken by a later one of its user is
/// conflated: the watcher is told the latest value, as the contract says. Where a status could stand for several
/// changes it is taken for the oldest, so that a loss makes the result worse and never better.
#[derive(Debug)]
pub(crate) struct Tracker {
    under_way: HashMap<String, VecDeque<Change>>,
    /// Microseconds from change to watcher.
    pub(crate) latency: Histogram<u64>,
    /// Changes that count and were overtaken.
    pub(crate) conflated: u64,
    /// What the watcher sees of each user.
    shown: HashMap<String, Status>,
}

impl Tracker {
    pub(crate) fn new() -> anyhow::Result<Self> {
        // From a microsecond to a minute, with three digits.
        let latency = Histogram::new_with_bounds(1, 60_000_000, 3)?;
        Ok(Self { under_way: HashMap::new(), latency, conflated: 0, shown: HashMap::new() })
    }

    pub(crate) fn changed(&mut self, user: &str, status: Status, at: Instant, counts: bool) {
        self.under_way.entry(user.to_owned()).or_default().push_back(Change { status, at, counts });
    }

    pub(crate) fn seen(&mut self, presence: &Presence, at: Instant) {
        let user = presence.user_id.as_str();
        let before = self.shown.insert(user.to_owned(), presence.status);
        if before == Some(presence.status) {
            return;
        }
        let Some(under_way) = self.under_way.get_mut(user) else { return };
        let Some(index) = under_way.iter().position(|change| change.status == presence.status) else {
            return;
        };
        let overtaken = under_way.drain(..index).filter(|change| change.counts).count();
        self.conflated += u64::try_from(overtaken).unwrap_or(u64::MAX);
        if let Some(change) = under_way.pop_front().filter(|change| change.counts) {
            let micros = u64::try_from((at - change.at).as_micros()).unwrap_or(u64::MAX);
            self.latency.saturating_record(micros.max(1));
        }
    }

    /// Changes that count and were not seen yet.
    pub(crate) fn open(&self) -> u64 {
        let open = self.under_way.values().flatten().filter(|change| change.counts).count();
        u64::try_from(open).unwrap_or(u64::MAX)
    }

    /// What the watcher sees of a user.
    pub(crate) fn shown(&self, user: &str) -> Option<Status> {
        self.shown.get(user).copied()
    }

    /// Forgets what was not seen yet.
    pub(crate) fn forget(&mut self) {
        self.under_way.clear();
    }
}
