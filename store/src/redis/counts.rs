//! What the cache did, for metrics.

crate::counts::counts! {
    /// What the cache did since it was opened. Users, not calls, unless said.
    CacheCounts
    /// Users whose entries may be old because the cache could not be told; all: `u64::MAX`.
    now owed
    /// Found in the cache.
    hits
    /// The cache knew that nothing is kept of the user. Not among the hits.
    absent_hits
    /// Not in the cache.
    misses
    /// Misses that waited for a read which somebody else had begun.
    joined
    /// Read from the store without asking the cache: it was down, or the user's entry may have been old.
    bypassed
    /// Entries written.
    written
    /// Entries that were not written since the cache had the same or a newer one.
    older
    /// Calls of the server that failed or took too long.
    errors
    /// How often the whole cache was declared void.
    voided
}

impl CacheCounts {
    /// The part of the reads that the cache answered; `None` before the first.
    #[must_use]
    pub fn hit_rate(&self) -> Option<f64> {
        let answered = self.hits + self.absent_hits;
        crate::counts::rate(answered, answered + self.misses + self.bypassed)
    }
}
