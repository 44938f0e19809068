//! What caches count.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: usize) {
        self.0.fetch_add(count as u64, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The part of all; `None` where there is none yet.
#[expect(clippy::cast_precision_loss, reason = "a ratio needs no more digits")]
pub(crate) fn rate(part: u64, all: u64) -> Option<f64> {
    (all > 0).then(|| part as f64 / all as f64)
}

/// Makes the counters of a cache (`Counters`), and what they say at a moment: a name of its own, with the counts, and
/// with one number that is not counted but looked up.
macro_rules! counts {
    (
        $(#[$of_all:meta])* $all:ident
        $(#[$of_now:meta])* now $now:ident
        $($(#[$of_one:meta])* $one:ident)*
    ) => {
        $(#[$of_all])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
        pub struct $all {
            $($(#[$of_one])* pub $one: u64,)*
            $(#[$of_now])*
            pub $now: u64,
        }

        #[derive(Debug, Default)]
        pub(super) struct Counters {
            $(pub(super) $one: $crate::counts::Counter,)*
        }

        impl Counters {
            pub(super) fn read(&self, $now: u64) -> $all {
                $all { $($one: self.$one.get(),)* $now }
            }
        }
    };
}

pub(crate) use counts;
