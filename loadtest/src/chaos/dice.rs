//! Numbers that follow from a seed.

use std::time::Duration;

/// SplitMix64.
#[derive(Debug)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Whether it happens: 0 never, 1 always.
    pub(super) fn chance(&mut self, probability: f64) -> bool {
        // 53 bits: what the fraction of a double holds.
        let fraction = (self.next() >> 11) as f64 / (1_u64 << 53) as f64;
        fraction < probability
    }

    /// A duration between two, in milliseconds.
    pub(super) const fn between(&mut self, (least, most): (u64, u64)) -> Duration {
        let span = most.saturating_sub(least);
        Duration::from_millis(least + self.next() % if span == 0 { 1 } else { span })
    }

    /// A duration between two.
    pub(super) fn spread(&mut self, (least, most): (Duration, Duration)) -> Duration {
        let span = u64::try_from(most.saturating_sub(least).as_micros()).unwrap_or(u64::MAX);
        least + Duration::from_micros(self.next() % span.saturating_add(1))
    }
}
