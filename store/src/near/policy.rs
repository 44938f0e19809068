//! How long an answer about a user is good: a pure reckoning of what was seen of the user.
//!
//! A user is asked about `r` times a second and changes `c` times a second, both at random moments. An answer that is
//! kept for `t` saves `r·t` reads of the store in `1 + r·t`, and about `r·c·t²/2` of those answers are old. With one old
//! answer worth `1/m` reads of the store, the sum of both is smallest where `c·t + r·c·t²/2 = m`, which is
//! `t = (√(1 + 2·r·m/c) − 1) / r`: long for who changes seldom, short for who is asked about often.
//!
//! Both rates are what was counted by the time it was counted in; both fade by half in `half_life`, so that the rates
//! follow the user. What a user did before it was first read is told by its last change: that long ago, once.

use std::time::Duration;

/// Changes, and the seconds they came in, that everybody is taken to have had: half a change in 150 s, which is the rate
/// of a user who changes every 5 minutes.
const CHANGES_BEFORE: (f64, f64) = (0.5, 150.0);
/// The same for reads: one a minute.
const READS_BEFORE: (f64, f64) = (1.0, 60.0);

/// What was counted of a user, faded.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(super) struct Rates {
    changes: Count,
    reads: Count,
}

/// So many in so many seconds.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
struct Count {
    many: f64,
    seconds: f64,
}

impl Count {
    fn faded(self, by: f64) -> Self {
        Self { many: self.many * by, seconds: self.seconds * by }
    }

    fn and(self, many: f64, seconds: f64) -> Self {
        Self { many: self.many + many, seconds: self.seconds + seconds }
    }

    fn rate(self, (many, seconds): (f64, f64)) -> f64 {
        (self.many + many) / (self.seconds + seconds)
    }
}

/// What was learned of a user between two reads of the store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Lesson {
    /// The time between them.
    pub(super) elapsed: Duration,
    /// How often it was asked about meanwhile.
    pub(super) reads: u32,
    /// Whether it changed, and how long before the second read it did last.
    pub(super) changed: Option<Duration>,
}

/// The rules, in seconds.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Policy {
    pub(super) min_ttl: f64,
    pub(super) max_ttl: f64,
    /// How many reads of the store one old answer is worth.
    pub(super) old_costs: f64,
    pub(super) half_life: f64,
}

impl Policy {
    /// Of a user read for the first time, whose last change was so long ago; `None`: it has never changed.
    pub(super) fn first(&self, last_change: Option<Duration>) -> Rates {
        let changes = last_change.map_or(Count::default(), |ago| {
            // More than a few half-lives back, nothing counts.
            Count { many: 1.0, seconds: ago.as_secs_f64().min(2.0 * self.half_life) }
        });
        Rates { changes, reads: Count::default() }
    }

    /// The rates after a lesson.
    ///
    /// Of a time in which somebody changed only the part since the last change is counted, with one change: what went
    /// before may have had any number of them. So the rate is right however seldom the store is read.
    pub(super) fn learn(&self, before: Rates, lesson: Lesson) -> Rates {
        let elapsed = lesson.elapsed.as_secs_f64();
        let fade = (-elapsed / self.half_life).exp2();
        let changes = before.changes.faded(fade);
        let changes = match lesson.changed {
            Some(ago) => changes.and(1.0, ago.min(lesson.elapsed).as_secs_f64()),
            None => changes.and(0.0, elapsed),
        };
        Rates { changes, reads: before.reads.faded(fade).and(f64::from(lesson.reads), elapsed) }
    }

    /// How long an answer about such a user is good.
    pub(super) fn ttl(&self, rates: &Rates) -> Duration {
        let (reads, changes) = (rates.reads.rate(READS_BEFORE), rates.changes.rate(CHANGES_BEFORE));
        let best = ((1.0 + 2.0 * reads / (changes * self.old_costs)).sqrt() - 1.0) / reads;
        // A rate of zero is no number to divide by; it is as good as never.
        let best = if best.is_finite() { best } else { self.max_ttl };
        Duration::from_secs_f64(best.clamp(self.min_ttl, self.max_ttl))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: Policy = Policy { min_ttl: 0.1, max_ttl: 30.0, old_costs: 20.0, half_life: 600.0 };

    fn seconds(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    /// A user after many lessons that all say the same.
    fn settled(policy: &Policy, lesson: Lesson) -> Rates {
        (0..2_000).fold(policy.first(None), |rates, _| policy.learn(rates, lesson))
    }

    fn every(seconds_between: f64, reads: u32, changed: Option<f64>) -> Lesson {
        Lesson { elapsed: seconds(seconds_between), reads, changed: changed.map(seconds) }
    }

    #[test]
    fn who_changes_more_or_is_asked_about_more_is_kept_shorter() {
        let ttl = |lesson| POLICY.ttl(&settled(&POLICY, lesson));
        let calm = ttl(every(10.0, 5, None));
        let lively = ttl(every(10.0, 5, Some(5.0)));
        let asked = ttl(every(10.0, 500, Some(5.0)));
        assert!(calm > lively && lively > asked, "{calm:?} {lively:?} {asked:?}");
    }

    /// Beside the formula: no other time costs less, reckoned without its approximations.
    #[test]
    fn no_other_time_costs_less() {
        for (r, c) in [(0.01, 0.001), (1.0, 0.003), (10.0, 0.05), (100.0, 0.0005), (0.2, 0.2)] {
            let cost = |t: f64| {
                let old = r * (t - (1.0 - (-c * t).exp()) / c);
                (1.0 + POLICY.old_costs * old) / (1.0 + r * t)
            };
            let wide = Policy { min_ttl: 1e-6, max_ttl: 1e6, ..POLICY };
            let rates = Rates {
                changes: Count { many: c * 1e9, seconds: 1e9 },
                reads: Count { many: r * 1e9, seconds: 1e9 },
            };
            let best = wide.ttl(&rates).as_secs_f64();
            for other in [0.5, 0.8, 1.25, 2.0] {
                assert!(cost(best) <= cost(best * other) * 1.001, "{r} {c}: {best} or {}", best * other);
            }
        }
    }

    #[test]
    fn the_rate_is_right_however_seldom_the_store_is_read() {
        // One change in 20 s. Read every second, 19 of 20 times nothing changed; read every 1,000 s, always.
        let often = (0..20_000).fold(POLICY.first(None), |rates, i| {
            POLICY.learn(rates, every(1.0, 1, (i % 20 == 0).then_some(0.5)))
        });
        let seldom = settled(&POLICY, every(1_000.0, 1, Some(20.0)));
        for rates in [often, seldom] {
            let rate = rates.changes.many / rates.changes.seconds;
            assert!((1.0 / 25.0..1.0 / 15.0).contains(&rate), "one in {} s", 1.0 / rate);
        }
    }

    #[test]
    fn rates_follow_a_user_who_becomes_calm() {
        let lively = settled(&POLICY, every(1.0, 1, Some(0.5)));
        let later = (0..60).fold(lively, |rates, _| POLICY.learn(rates, every(60.0, 60, None)));
        assert!(POLICY.ttl(&later) > 5 * POLICY.ttl(&lively), "after six half-lives");
    }

    #[test]
    fn the_first_answer_is_kept_by_how_long_ago_the_last_change_was() {
        let ttl = |ago: Option<f64>| POLICY.ttl(&POLICY.first(ago.map(seconds)));
        assert!(ttl(Some(86_400.0)) > ttl(Some(300.0)) && ttl(Some(300.0)) > ttl(Some(0.0)));
        assert_eq!(ttl(Some(1e12)), ttl(Some(1_200.0)), "what is long past counts no more");
        assert!(ttl(None) > ttl(Some(0.0)));
    }

    #[test]
    fn a_time_is_within_its_bounds_whatever_was_counted() {
        let policy = Policy { min_ttl: 1.0, max_ttl: 2.0, ..POLICY };
        let far = [Duration::ZERO, Duration::MAX, seconds(1e-9), seconds(1e9)];
        for elapsed in far {
            for changed in [None, Some(Duration::ZERO), Some(Duration::MAX)] {
                for reads in [0, 1, u32::MAX] {
                    let rates = policy.learn(policy.first(changed), Lesson { elapsed, reads, changed });
                    let ttl = policy.ttl(&rates);
                    assert!((seconds(1.0)..=seconds(2.0)).contains(&ttl), "{elapsed:?} {changed:?} {reads}");
                }
            }
        }
    }
}
