//! When what has changed is to be written, so that a kill loses nothing that is older than an interval.
//!
//! A change is safe when its write has *ended*. So a write has to begin before the oldest change that waits is as old as
//! the interval: earlier by the time that writes took lately, twice, since the next may take longer than any of those. The
//! longest is remembered, and forgotten bit by bit. Half the interval is the most: a store that needs more than that is
//! written without a pause, and what it leaves to be lost is older than the interval.

use std::time::Duration;

use herenow_protocol::MonoTime;

/// When to write what waits.
#[derive(Clone, Copy, Debug)]
pub struct WriteBehind {
    interval: Duration,
    /// The longest that a write took, decayed.
    lately: Duration,
}

/// How much longer the next write may take than the longest of the last.
const HEADROOM: u32 = 2;
/// What is forgotten of the longest write with each that is shorter: one part of so many.
const DECAY: u32 = 8;

impl WriteBehind {
    /// `interval`: how old the oldest change may become before it is written. Before the first write nothing is known of
    /// the store, and the most is assumed.
    #[must_use]
    pub fn new(interval: Duration) -> Self {
        Self { interval, lately: interval }
    }

    /// How long before the oldest change is as old as the interval a write begins: at most half the interval.
    #[must_use]
    pub fn lead(&self) -> Duration {
        self.lately.saturating_mul(HEADROOM).min(self.interval / 2)
    }

    /// When to begin, where the oldest change that waits came at `oldest`.
    #[must_use]
    pub fn due(&self, oldest: MonoTime) -> MonoTime {
        oldest.after(self.interval.saturating_sub(self.lead()))
    }

    /// Learns how long it took to write what waited: from when it was due until the last of it was written.
    pub fn wrote(&mut self, took: Duration) {
        self.lately = took.max(self.lately - self.lately / DECAY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(1);

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn after(took: &[u64]) -> WriteBehind {
        let mut writes = WriteBehind::new(INTERVAL);
        // What is assumed at the beginning is forgotten.
        (0..300).for_each(|_| writes.wrote(Duration::ZERO));
        took.iter().for_each(|took| writes.wrote(ms(*took)));
        writes
    }

    fn due(writes: &WriteBehind) -> u64 {
        writes.due(MonoTime::from_millis(5_000)).as_millis()
    }

    #[test]
    fn a_store_that_is_not_known_has_half_the_interval() {
        assert_eq!(due(&WriteBehind::new(INTERVAL)), 5_500);
    }

    #[test]
    fn a_store_that_takes_no_time_is_written_at_the_end_of_the_interval() {
        assert!((5_999..=6_000).contains(&due(&after(&[]))));
    }

    #[test]
    fn the_longest_of_the_last_writes_has_room_twice() {
        assert_eq!(due(&after(&[40])), 5_920);
        assert_eq!(due(&after(&[40, 3])), 5_930, "an eighth of it is forgotten");
        assert_eq!(due(&after(&[40, 3, 60])), 5_880, "a longer one counts at once");
    }

    #[test]
    fn however_long_a_write_took_half_the_interval_is_left_to_wait() {
        assert_eq!(due(&after(&[250])), 5_500);
        assert_eq!(due(&after(&[251])), 5_500);
        assert_eq!(after(&[600_000]).lead(), INTERVAL / 2);
    }

    #[test]
    fn one_long_write_is_forgotten_within_thirty() {
        let mut writes = after(&[400]);
        (0..30).for_each(|_| writes.wrote(ms(2)));
        assert!(writes.lead() < ms(20), "{writes:?}");
    }

    /// A store that takes now longer and now shorter: whatever is written is in time, as long as no write takes more than
    /// twice the longest of the last.
    #[test]
    fn nothing_is_older_than_the_interval_when_it_is_written() {
        let mut writes = WriteBehind::new(INTERVAL);
        let (mut began, mut took) = (0, 150);
        for round in 0..1_000_u64 {
            // The oldest change came when the write before it began.
            let begin = writes.due(MonoTime::from_millis(began)).as_millis().max(began + took);
            took = 40 + round * 7_919 % 200;
            assert!(begin + took <= began + 1_000, "round {round}: {} ms old", begin + took - began);
            writes.wrote(ms(took));
            began = begin;
        }
    }
}
