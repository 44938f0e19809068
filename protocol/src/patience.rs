//! How long an answer is waited for before the same is asked again.

use std::time::Duration;

/// Grows with the time that answers take, so that whoever is slow because too much is asked is not asked still more.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Patience {
    /// What answers took of late: each new one counts an eighth. One to a question that was asked again counts from the
    /// first time, so that lost messages make it too long, and never too short.
    mean: Duration,
    /// One came since the last look.
    heard: bool,
}

impl Patience {
    /// So many times as long as answers take.
    const TIMES: u32 = 2;

    /// An answer came so long after the question.
    pub fn answered(&mut self, after: Duration) {
        self.mean = self.mean - self.mean / 8 + after / 8;
        self.heard = true;
    }

    /// How long answers took of late.
    #[must_use]
    pub const fn mean(&self) -> Duration {
        self.mean
    }

    /// To be called about twice a second: where no answer came since, what earlier ones took says half as much.
    pub fn fade(&mut self) {
        if !std::mem::take(&mut self.heard) {
            self.mean /= 2;
        }
    }

    /// How long to wait before asking again: `least` while answers are quick, and at most four times as long, for what is
    /// lost must not be missed for long.
    #[must_use]
    pub fn again(&self, least: Duration) -> Duration {
        self.wait(least, 4)
    }

    /// How long what a beat tells of may be under way: `least` while answers are quick, and at most ten times as long.
    /// Messages wait where answers do, and a backlog is no loss.
    #[must_use]
    pub fn tail(&self, least: Duration) -> Duration {
        self.wait(least, 10)
    }

    fn wait(&self, least: Duration, most: u32) -> Duration {
        self.mean.saturating_mul(Self::TIMES).clamp(least, least.saturating_mul(most))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn it_grows_with_slow_answers_up_to_four_times_and_shrinks_again() {
        let mut patience = Patience::default();
        assert_eq!(patience.again(ms(150)), ms(150));
        (0..100).for_each(|_| patience.answered(ms(2)));
        assert_eq!(patience.again(ms(150)), ms(150), "quick");
        (0..100).for_each(|_| patience.answered(ms(200)));
        assert!((ms(390)..=ms(400)).contains(&patience.again(ms(150))), "{patience:?}");
        (0..100).for_each(|_| patience.answered(ms(60_000)));
        assert_eq!(patience.again(ms(150)), ms(600), "not for ever");
        assert_eq!(patience.tail(ms(50)), ms(500), "nor a tail");
        (0..100).for_each(|_| patience.answered(ms(2)));
        assert_eq!(patience.again(ms(150)), ms(150), "quick again");
    }

    #[test]
    fn what_nothing_confirms_any_more_is_forgotten() {
        let mut patience = Patience::default();
        (0..100).for_each(|_| patience.answered(ms(2_000)));
        let slow = patience.mean();
        patience.fade();
        assert_eq!(patience.mean(), slow, "an answer came since");
        (0..20).for_each(|_| patience.fade());
        assert!(patience.mean() < ms(1));
    }

    #[test]
    fn times_beyond_all_reason_are_no_reason_to_stop() {
        let mut patience = Patience::default();
        patience.answered(Duration::MAX);
        assert_eq!(patience.tail(Duration::MAX), Duration::MAX);
    }

    #[test]
    fn a_fifth_of_all_lost_does_not_make_it_longer() {
        let mut patience = Patience::default();
        for n in 0..1_000 {
            patience.answered(if n % 5 == 0 { ms(170) } else { ms(2) });
            assert_eq!(patience.again(ms(150)), ms(150), "{n}");
        }
    }
}
