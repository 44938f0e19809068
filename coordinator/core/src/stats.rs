//! What a coordinator counts.

use crate::coordinator::Coordinator;

/// Counts since the coordinator began, and sizes now. Read by metrics.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    /// Partitions owned now.
    pub partitions: u64,
    /// Of these, those that may state that somebody is offline.
    pub settled: u64,
    /// Users known now.
    pub users: u64,
    /// Gateways heard of now.
    pub gateways: u64,
    /// Of these, those silent for the stale time.
    pub stale_gateways: u64,
    /// Coordinators heard of now, this one included.
    pub coordinators: u64,
    /// Whether this coordinator is cut off.
    pub isolated: bool,
    /// Whether so many gateways fell silent at once that none is taken for dead.
    pub frozen: bool,
    /// Partitions claimed.
    pub claims: u64,
    /// Of these, those that stand without the arbiter's record.
    pub claims_without_record: u64,
    /// Partitions let go because somebody has a higher epoch.
    pub fenced: u64,
    /// Partitions given to a coordinator that joined, or on leaving.
    pub handed_over: u64,
    /// Gateways whose sessions lapsed together.
    pub lapsed_gateways: u64,
    /// Gateways that left in order.
    pub left_gateways: u64,
    /// Reports dropped because they were applied before or belong to an earlier life.
    pub old_reports: u64,
    /// Reports before which something was missing.
    pub gaps: u64,
    /// Sets that differed from their gateway's at equal numbers (I6): of sessions, or of watched users. More than none
    /// is a slip of a program.
    pub sets_differed: u64,
    /// Values that a gateway took for current and were not the owner's at equal numbers (I9). The same.
    pub values_differed: u64,
    /// Owned partitions of which each gateway is sent only what is watched there now.
    pub selective: u64,
    /// Users with a watcher anywhere, as gateways have told.
    pub watched_users: u64,
    /// Users who are to be shown offline now, and wait for their turn.
    pub fading: u64,
    /// Syncs asked for.
    pub resyncs: u64,
    /// Syncs applied.
    pub syncs: u64,
    /// Messages for partitions of which this coordinator is not the owner.
    pub misdirected: u64,
    /// Changes published.
    pub changes: u64,
    /// Owned partitions whose store was not read to the end.
    pub unread: u64,
    /// Records read from the store.
    pub restored: u64,
    /// Times that the process was found to have stood still.
    pub stalls: u64,
}

impl Coordinator {
    /// Counts and sizes.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let counts = self.ownership.counts;
        let mut stats = Stats {
            gateways: self.gateways.len() as u64,
            stale_gateways: self.gateways.stale(self.now, &self.config) as u64,
            coordinators: self.peers.alive_count(self.now) as u64,
            isolated: self.peers.isolated(self.now),
            frozen: self.frozen,
            claims: counts.claims,
            claims_without_record: counts.claims_without_record,
            fenced: counts.fenced,
            handed_over: counts.handed_over,
            ..self.stats
        };
        for state in self.ownership.view_owned() {
            stats.partitions += 1;
            stats.settled += u64::from(state.settled);
            stats.users += state.users.len() as u64;
            stats.fading += state.fading.len() as u64;
            stats.selective += u64::from(state.selective);
            stats.watched_users += state.interests.len() as u64;
            stats.unread += u64::from(state.is_reading(&self.config));
        }
        stats
    }
}
