//! When an owner said what is read now: it may have waited, for a process that stood still or is behind (I9).
//!
//! Owners say in beats and in answers what their own clock says. How far the two clocks are apart is not known, but
//! bounded from both sides: nothing is read before it was sent, and nothing is answered before it was asked.

use herenow_protocol::MonoTime;
use herenow_protocol::time::millis;

/// In so many milliseconds two clocks move apart by one at the most. Real ones need thousands.
const DRIFT: u64 = 8;

/// Tells when an owner's beats were sent.
#[derive(Debug, Default)]
pub(crate) struct Dating {
    /// By how many milliseconds the clock here is ahead of the owner's, and when that was so.
    ahead: Option<(i64, MonoTime)>,
}

impl Dating {
    /// Takes a beat; says when it was sent. `prompt`: the first is taken for one that did not wait. Otherwise nobody can
    /// tell before there is an answer.
    pub(crate) fn beat(&mut self, clock: u64, now: MonoTime, prompt: bool) -> Option<MonoTime> {
        let apart = apart(now, clock);
        let ahead = self.ahead_at(now).or(prompt.then_some(apart))?.min(apart);
        self.ahead = Some((ahead, now));
        let waited = u64::try_from(apart.saturating_sub(ahead)).unwrap_or_default();
        Some(MonoTime::from_millis(now.as_millis().saturating_sub(waited)))
    }

    /// Takes an answer, read now, to what was asked at `asked`.
    pub(crate) fn answer(&mut self, clock: u64, asked: MonoTime, now: MonoTime) {
        let (least, most) = (apart(asked, clock), apart(now, clock));
        self.ahead = Some((self.ahead_at(now).unwrap_or(least).max(least).min(most), now));
    }

    /// The most that it can be now.
    fn ahead_at(&self, now: MonoTime) -> Option<i64> {
        let (ahead, at) = self.ahead?;
        let drift = millis(now.since(at)) / DRIFT;
        Some(ahead.saturating_add_unsigned(drift))
    }
}

fn apart(here: MonoTime, there: u64) -> i64 {
    let signed = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
    signed(here.as_millis()).saturating_sub(signed(there))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> MonoTime {
        MonoTime::from_millis(ms)
    }

    /// The owner's clock is 70 ms ahead of the one here.
    fn sent(ms: u64) -> u64 {
        ms + 70
    }

    #[test]
    fn a_beat_that_waited_is_dated_to_when_it_was_sent() {
        let mut dating = Dating::default();
        assert_eq!(dating.beat(sent(1_000), at(1_000), true), Some(at(1_000)));
        assert_eq!(dating.beat(sent(1_250), at(1_250), true), Some(at(1_250)));
        assert_eq!(
            dating.beat(sent(1_500), at(3_250), true),
            Some(at(1_750)),
            "less by what clocks may drift"
        );
        assert_eq!(dating.beat(sent(3_400), at(3_400), true), Some(at(3_400)));
    }

    #[test]
    fn after_a_stop_nothing_is_dated_before_an_answer() {
        let mut dating = Dating::default();
        assert_eq!(dating.beat(sent(1_000), at(9_000), false), None);
        dating.answer(sent(9_020), at(9_000), at(9_030));
        assert_eq!(dating.beat(sent(2_000), at(9_030), false), Some(at(1_980)));
        assert_eq!(dating.beat(sent(9_250), at(9_250), false), Some(at(9_250)));
    }

    #[test]
    fn an_owner_whose_clock_stood_still_is_dated_anew_by_its_answer() {
        let mut dating = Dating::default();
        dating.beat(sent(1_000), at(1_000), true);
        assert_eq!(dating.beat(sent(1_250), at(61_250), true), Some(at(1_250 + 60_250 / 8)));
        dating.answer(sent(1_260), at(61_250), at(61_260));
        assert_eq!(dating.beat(sent(1_500), at(61_500), true), Some(at(61_500)));
    }

    #[test]
    fn a_clock_that_says_anything_at_all_is_taken() {
        let mut dating = Dating::default();
        assert_eq!(dating.beat(u64::MAX, at(5), true), Some(at(5)));
        dating.answer(0, at(5), at(6));
        assert!(dating.beat(0, at(u64::MAX), true).is_some());
    }
}
