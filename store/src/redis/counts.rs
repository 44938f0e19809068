//! What the cache did, for metrics.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counts {
    ($($(#[doc = $text:literal])* $name:ident)*) => {
        /// What the cache did since it was opened. Users, not calls, unless said.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
        pub struct CacheCounts {
            $($(#[doc = $text])* pub $name: u64,)*
            /// Users whose entries may be old because the cache could not be told; all: `u64::MAX`.
            pub owed: u64,
        }

        #[derive(Debug, Default)]
        pub(super) struct Counters {
            $(pub(super) $name: Counter,)*
        }

        impl Counters {
            pub(super) fn read(&self) -> CacheCounts {
                CacheCounts { $($name: self.$name.0.load(Ordering::Relaxed),)* owed: 0 }
            }
        }
    };
}

counts! {
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
    #[expect(clippy::cast_precision_loss, reason = "a ratio needs no more digits")]
    pub fn hit_rate(&self) -> Option<f64> {
        let answered = self.hits + self.absent_hits;
        let asked = answered + self.misses + self.bypassed;
        (asked > 0).then(|| answered as f64 / asked as f64)
    }
}

#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self, count: usize) {
        self.0.fetch_add(count as u64, Ordering::Relaxed);
    }
}
