//! What the cache did, for metrics.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counts {
    ($($(#[doc = $text:literal])* $name:ident)*) => {
        /// What the cache of a reader did since it was made. Users, not calls.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
        pub struct NearCounts {
            $($(#[doc = $text])* pub $name: u64,)*
            /// Users that are kept now, about; those whose answer is no longer good are among them.
            pub kept: u64,
        }

        #[derive(Debug, Default)]
        pub(super) struct Counters {
            $(pub(super) $name: Counter,)*
        }

        impl Counters {
            pub(super) fn read(&self, kept: u64) -> NearCounts {
                NearCounts { $($name: self.$name.0.load(Ordering::Relaxed),)* kept }
            }
        }
    };
}

counts! {
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
    #[expect(clippy::cast_precision_loss, reason = "a ratio needs no more digits")]
    pub fn hit_rate(&self) -> Option<f64> {
        let answered = self.hits + self.absent_hits;
        let asked = answered + self.misses + self.expired;
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
