//! How many sessions are opened a second: more than that are told when to come back, each another moment, before
//! anything is spent on them.
//!
//! Whoever is refused gets a turn in a line that moves at the rate of admission, so that all who were refused together
//! do not come back together either.

use std::time::Duration;

use herenow_protocol::{MonoTime, duration};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

const SECOND_NS: u64 = 1_000_000_000;
const MS_NS: u64 = 1_000_000;
/// The least over which answers are spread.
const SPREAD: Duration = Duration::from_millis(500);
/// When to come back to a gateway that is full: nobody knows when it will not be.
const FULL: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(10));
/// And to one that waits for answers: what is under way is mostly done by then.
const BEHIND: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(4));

/// How many sessions a gateway opens a second, all its shards together.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Admission {
    /// Handshakes a second, in the long run. Default 5,000, at which coordinators expect lost sessions back; zero: as
    /// many as come.
    pub sessions_per_second: u32,
    /// Handshakes at once after a silence. Default 5,000; at least 1.
    pub burst: u32,
    /// While owners take longer than this to answer, as they do when all of it is overloaded, nobody new is let in.
    /// Default 1 s, when a watch is answered with what is known; zero: whoever comes is let in.
    #[serde(with = "duration")]
    pub answers_within: Duration,
    /// The longest that anybody is told to wait. Default 1 min.
    #[serde(with = "duration")]
    pub longest_wait: Duration,
}

impl Default for Admission {
    fn default() -> Self {
        Self {
            sessions_per_second: 5_000,
            burst: 5_000,
            answers_within: Duration::from_secs(1),
            longest_wait: Duration::from_secs(60),
        }
    }
}

impl Admission {
    /// Checks ranges.
    ///
    /// # Errors
    /// The key at fault and what it must be.
    pub fn check(&self) -> Result<(), String> {
        if self.burst == 0 {
            return Err("burst: must be at least 1".to_owned());
        }
        let wait = Duration::from_secs(1)..=Duration::from_secs(300);
        if wait.contains(&self.longest_wait) {
            Ok(())
        } else {
            Err("longest_wait: must be from 1s to 5min".to_owned())
        }
    }
}

/// One shard's part of it.
#[derive(Debug)]
pub(crate) struct Gate {
    /// What one session takes of the time; zero: nothing.
    cost_ns: u64,
    burst_ns: u64,
    longest_ns: u64,
    answers_within: Duration,
    /// Until when those who were admitted take up the rate.
    taken_until: u64,
    /// Until when those who were refused have their turns.
    line_until: u64,
    rng: ChaCha8Rng,
}

impl Gate {
    pub(crate) fn new(config: &Admission, shards: u16, seed: u64) -> Self {
        let part = |whole: u32| u64::from(whole.div_ceil(u32::from(shards.max(1))));
        let cost_ns = SECOND_NS.checked_div(part(config.sessions_per_second)).unwrap_or_default();
        Self {
            cost_ns,
            burst_ns: cost_ns.saturating_mul(part(config.burst)),
            longest_ns: nanos(config.longest_wait),
            answers_within: config.answers_within,
            taken_until: 0,
            line_until: 0,
            rng: ChaCha8Rng::seed_from_u64(seed),
        }
    }

    /// Admits a session, or says when to come back.
    pub(crate) fn admit(&mut self, now: MonoTime) -> Result<(), Duration> {
        let now = now.as_millis().saturating_mul(MS_NS);
        let taken = self.taken_until.max(now).saturating_add(self.cost_ns);
        if taken - now <= self.burst_ns {
            self.taken_until = taken;
            return Ok(());
        }
        let next = taken - self.burst_ns;
        let turn = self.line_until.saturating_add(self.cost_ns).max(next);
        self.line_until = turn.min(now.saturating_add(self.longest_ns));
        let wait = Duration::from_nanos(self.line_until - now);
        let (from, to) =
            if turn > self.line_until { (wait / 2, wait) } else { (wait, wait + SPREAD.max(wait / 4)) };
        Err(self.between(from, to))
    }

    /// Whether what is here already needs all that there is: new work is put off before anything that lives.
    pub(crate) fn is_behind(&self, answers_take: Duration) -> bool {
        !self.answers_within.is_zero() && answers_take > self.answers_within
    }

    /// When to come back to a gateway that is full.
    pub(crate) fn full(&mut self) -> Duration {
        self.between(FULL.0, FULL.1)
    }

    /// When to come back to one that waits for answers.
    pub(crate) fn behind(&mut self) -> Duration {
        self.between(BEHIND.0, BEHIND.1)
    }

    fn between(&mut self, from: Duration, to: Duration) -> Duration {
        Duration::from_nanos(self.rng.random_range(nanos(from)..=nanos(to)))
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(sessions_per_second: u32, burst: u32, shards: u16) -> Gate {
        Gate::new(&Admission { sessions_per_second, burst, ..Admission::default() }, shards, 7)
    }

    fn admitted(gate: &mut Gate, ms: u64, tries: u32) -> usize {
        (0..tries).filter(|_| gate.admit(MonoTime::from_millis(ms)).is_ok()).count()
    }

    #[test]
    fn the_burst_is_admitted_and_one_more_is_told_when_to_come_back() {
        let mut gate = gate(100, 10, 1);
        assert_eq!(admitted(&mut gate, 5_000, 10), 10);
        assert!(gate.admit(MonoTime::from_millis(5_000)).is_err());
        assert_eq!(admitted(&mut gate, 5_010, 5), 1, "one for each hundredth of a second");
        assert_eq!(admitted(&mut gate, 60_000, 50), 10, "and no more is saved up than the burst");
    }

    #[test]
    fn nobody_is_let_in_while_answers_take_too_long_unless_that_is_wanted() {
        let second = Duration::from_secs(1);
        let millisecond = Duration::from_millis(1);
        assert!(!gate(1, 1, 1).is_behind(second));
        assert!(gate(1, 1, 1).is_behind(second + millisecond));
        let always = Admission { answers_within: Duration::ZERO, ..Admission::default() };
        assert!(!Gate::new(&always, 1, 7).is_behind(second * 60));
    }

    #[test]
    fn shards_share_the_rate_and_zero_is_no_limit() {
        assert_eq!(admitted(&mut gate(100, 10, 4), 0, 50), 3);
        assert_eq!(admitted(&mut gate(0, 1, 4), 0, 50), 50);
    }

    #[test]
    fn who_is_refused_is_spread_over_the_time_that_all_of_them_need() {
        let mut gate = gate(1_000, 1_000, 1);
        let waits: Vec<u128> = (0..6_000)
            .filter_map(|_| gate.admit(MonoTime::from_millis(0)).err())
            .map(|wait| wait.as_millis())
            .collect();
        assert_eq!(waits.len(), 5_000);
        for second in 1..5_u128 {
            let due =
                waits.iter().filter(|wait| (second * 1_000..(second + 1) * 1_000).contains(*wait)).count();
            assert!((500..=1_300).contains(&due), "{due} in second {second}");
        }
        let last = waits.iter().max().copied().unwrap_or_default();
        assert!((5_000..=6_300).contains(&last), "{last}");
        let different: std::collections::BTreeSet<_> = waits.iter().collect();
        assert!(different.len() > 2_500, "{}", different.len());
    }

    #[test]
    fn nobody_waits_longer_than_the_longest_wait_and_the_line_moves_on() {
        let mut gate = gate(10, 1, 1);
        let waits = (0..10_000).filter_map(|_| gate.admit(MonoTime::from_millis(0)).err());
        let longest = waits.max().unwrap_or_default();
        assert!(longest <= Duration::from_secs(75), "{longest:?}");
        let wait = gate.admit(MonoTime::from_millis(0)).err().unwrap_or_default();
        assert!((Duration::from_secs(30)..=Duration::from_secs(60)).contains(&wait), "{wait:?}");
        assert!(gate.admit(MonoTime::from_millis(120_000)).is_ok());
        let wait = gate.admit(MonoTime::from_millis(120_000)).err().unwrap_or_default();
        assert!(wait < Duration::from_secs(1), "{wait:?}");
    }

    #[test]
    fn the_wrong_key_is_named() {
        assert_eq!(Admission::default().check(), Ok(()));
        let bad = Admission { burst: 0, ..Admission::default() };
        assert!(bad.check().unwrap_err().starts_with("burst"));
        let bad = Admission { longest_wait: Duration::from_secs(301), ..Admission::default() };
        assert!(bad.check().unwrap_err().starts_with("longest_wait"));
    }
}
