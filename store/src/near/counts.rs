//! What the cache did, for metrics.

crate::counts::counts! {
    /// What the cache of a reader did since it was made. Users, not calls.
    NearCounts
    /// Users that are kept now, about; those whose answer is no longer good are among them.
    now kept
    /// Answered from what was kept.
    hits
    /// Answered so, of users of whom the store has nothing. Not among the hits.
    absent_hits
    /// Asked of the store since nothing was kept of them.
    misses
    /// Asked of the store since what was kept was no longer good. Not among the misses.
    expired
    /// Of both, those that waited for a read which somebody else had begun.
    joined
    /// Whose answer was made void by a write or an erasure.
    voided
    /// Of whom the store gave an older record than the one that is kept.
    kept_newer
    /// Let go, or not let in, since others are asked about more often.
    evicted
    /// Reads of the store that failed. Calls, not users.
    failures
}

impl NearCounts {
    /// The part of the reads that was answered from what is kept; `None` before the first.
    #[must_use]
    pub fn hit_rate(&self) -> Option<f64> {
        let answered = self.hits + self.absent_hits;
        crate::counts::rate(answered, answered + self.misses + self.expired)
    }
}
