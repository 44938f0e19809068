//! Which partitions have their turn, so that what is done with each once in a while is never done with all at once.

use std::ops::Range;
use std::time::Duration;

use herenow_protocol::MonoTime;

/// A round through all partitions.
#[derive(Debug)]
pub(crate) struct Rounds {
    began: MonoTime,
    /// So many had their turn.
    done: usize,
}

impl Rounds {
    pub(crate) const fn new(now: MonoTime) -> Self {
        Self { began: now, done: 0 }
    }

    /// The next of `all`: each once in an `interval`, in step with the time. Zero: all each time.
    pub(crate) fn next(&mut self, now: MonoTime, interval: Duration, all: usize) -> Range<usize> {
        let gone = now.since(self.began).min(interval).as_micros();
        let due = (all as u128 * gone).checked_div(interval.as_micros()).unwrap_or(all as u128);
        let due = usize::try_from(due).unwrap_or(all);
        let turn = self.done..due;
        if due == all {
            *self = Self::new(now);
        } else {
            self.done = due;
        }
        turn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turns(interval_ms: u64, all: usize, beats: u64) -> Vec<Range<usize>> {
        let mut rounds = Rounds::new(MonoTime::default());
        let interval = Duration::from_millis(interval_ms);
        (1..=beats).map(|beat| rounds.next(MonoTime::from_millis(beat * 200), interval, all)).collect()
    }

    #[test]
    fn each_has_its_turn_once_in_an_interval_and_a_few_each_time() {
        let round = turns(10_000, 256, 50);
        assert!(round.iter().all(|turn| (5..=6).contains(&turn.len())), "{round:?}");
        assert_eq!(round.into_iter().flatten().collect::<Vec<_>>(), (0..256).collect::<Vec<_>>());
    }

    #[test]
    fn few_partitions_are_not_looked_at_more_often_and_without_an_interval_all_are() {
        let turned = turns(10_000, 4, 100).iter().map(Range::len).sum::<usize>();
        assert_eq!(turned, 8, "twice each in 20 s");
        assert_eq!(turns(0, 4, 3), [0..4, 0..4, 0..4]);
    }

    #[test]
    fn whoever_stood_still_for_longer_than_an_interval_catches_up_once() {
        let mut rounds = Rounds::new(MonoTime::default());
        let interval = Duration::from_secs(10);
        assert_eq!(rounds.next(MonoTime::from_millis(60_000), interval, 256), 0..256);
        assert_eq!(rounds.next(MonoTime::from_millis(60_200), interval, 256), 0..5);
    }
}
