//! Random numbers that follow from a seed.

use std::time::Duration;

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

/// The same seed gives the same numbers on every machine.
#[derive(Debug)]
pub(super) struct Chance(ChaCha8Rng);

impl Chance {
    pub(super) fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// 0 inclusive to 1 exclusive.
    pub(super) fn fraction(&mut self) -> f64 {
        self.0.random()
    }

    /// 0 to `end`, without it; 0 when there is nothing to choose.
    pub(super) fn below(&mut self, end: u32) -> u32 {
        if end == 0 { 0 } else { self.0.random_range(0..end) }
    }

    pub(super) fn between(&mut self, (least, most): (Duration, Duration)) -> Duration {
        least + most.saturating_sub(least).mul_f64(self.fraction())
    }

    /// The time until the next of events that come `rate` times a second, independent of each other. None: never.
    pub(super) fn until_next(&mut self, rate: f64) -> Option<Duration> {
        // A day is longer than any load.
        const LONGEST: f64 = 86_400.0;
        (rate > 0.0).then(|| Duration::from_secs_f64((-(1.0 - self.fraction()).ln() / rate).min(LONGEST)))
    }
}
