//! What is counted in one second of one worker, as it goes to the process that adds everything up.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// The parts of a load.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Phase {
    #[default]
    Ramp,
    Settle,
    Measure,
    Patience,
}

impl Phase {
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Ramp => "ramp",
            Self::Settle => "settle",
            Self::Measure => "measure",
            Self::Patience => "patience",
        }
    }
}

/// Microseconds, from one to an hour, with three digits.
#[derive(Clone, Debug)]
pub(crate) struct Times(Histogram<u64>);

impl Times {
    const LONGEST: u64 = 3_600_000_000;

    pub(crate) fn record(&mut self, micros: u64) {
        self.0.saturating_record(micros.max(1));
    }

    pub(crate) fn add(&mut self, other: &Self) {
        // Both have the same bounds, so that adding cannot fail.
        let _ = self.0.add(&other.0);
    }

    pub(crate) const fn histogram(&self) -> &Histogram<u64> {
        &self.0
    }
}

#[expect(clippy::expect_used, reason = "the bounds are constants that fit")]
impl Default for Times {
    fn default() -> Self {
        Self(Histogram::new_with_bounds(1, Self::LONGEST, 3).expect("constant bounds"))
    }
}

/// As pairs of value and count, of the values that there are.
impl Serialize for Times {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(self.0.iter_recorded().map(|step| (step.value_iterated_to(), step.count_at_value())))
    }
}

impl<'de> Deserialize<'de> for Times {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let mut times = Self::default();
        for (value, count) in Vec::<(u64, u64)>::deserialize(from)? {
            times.0.saturating_record_n(value, count);
        }
        Ok(times)
    }
}

/// Counts of one second, or of a whole phase.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Counts {
    /// Sessions opened.
    pub(crate) opened: u64,
    /// Attempts that did not become a session.
    pub(crate) failed: u64,
    /// Of those: the gateway said when to come back.
    pub(crate) told_to_wait: u64,
    /// Frames sent; bytes of them.
    pub(crate) sent: u64,
    pub(crate) sent_bytes: u64,
    /// Frames that could not be written at once.
    pub(crate) stalled: u64,
    /// Frames heard; bytes of all that was read.
    pub(crate) frames: u64,
    pub(crate) read_bytes: u64,
    /// Records in `presence` frames, which are deliveries; and in snapshots.
    pub(crate) deliveries: u64,
    pub(crate) snapshot_records: u64,
    /// Changes of the truth of a user.
    pub(crate) changes: u64,
    /// Pairs of a change and a watcher that should see it; seen by a delivery; overtaken by a later change.
    pub(crate) due: u64,
    pub(crate) seen: u64,
    pub(crate) conflated: u64,
    /// Records older than what the watcher had, which the protocol says to drop.
    pub(crate) old_records: u64,
    /// Records with `asOf`, and records that say `unknown`.
    pub(crate) stale_records: u64,
    pub(crate) unknown_records: u64,
    /// A right view became wrong, and nothing that was true explains it.
    pub(crate) unexplained: u64,
    /// Wrong intervals that lasted longer than the bound: online and is not; offline and is there; another status.
    pub(crate) over_bound: [u64; 3],
    /// Sessions closed by the service or by the network against their will, by the code; of slow watchers.
    pub(crate) forced: BTreeMap<String, u64>,
    pub(crate) forced_slow: u64,
    /// Sessions that were asked to move, and did.
    pub(crate) moved: u64,
    /// Frames that break the protocol.
    pub(crate) broken: u64,
    /// `error` frames by their code.
    pub(crate) errors: BTreeMap<String, u64>,
    /// Microseconds of views that said `unknown`, and of sessions without their whole snapshot.
    pub(crate) blind_micros: u64,
    pub(crate) blind_sessions_micros: u64,
}

impl Counts {
    /// Adds the other's to these.
    pub(crate) fn add(&mut self, other: &Self) {
        let pairs = [
            (&mut self.opened, other.opened),
            (&mut self.failed, other.failed),
            (&mut self.told_to_wait, other.told_to_wait),
            (&mut self.sent, other.sent),
            (&mut self.sent_bytes, other.sent_bytes),
            (&mut self.stalled, other.stalled),
            (&mut self.frames, other.frames),
            (&mut self.read_bytes, other.read_bytes),
            (&mut self.deliveries, other.deliveries),
            (&mut self.snapshot_records, other.snapshot_records),
            (&mut self.changes, other.changes),
            (&mut self.due, other.due),
            (&mut self.seen, other.seen),
            (&mut self.conflated, other.conflated),
            (&mut self.old_records, other.old_records),
            (&mut self.stale_records, other.stale_records),
            (&mut self.unknown_records, other.unknown_records),
            (&mut self.unexplained, other.unexplained),
            (&mut self.forced_slow, other.forced_slow),
            (&mut self.moved, other.moved),
            (&mut self.broken, other.broken),
            (&mut self.blind_micros, other.blind_micros),
            (&mut self.blind_sessions_micros, other.blind_sessions_micros),
        ];
        for (mine, more) in pairs {
            *mine += more;
        }
        for (mine, more) in self.over_bound.iter_mut().zip(other.over_bound) {
            *mine += more;
        }
        for (mine, theirs) in [(&mut self.forced, &other.forced), (&mut self.errors, &other.errors)] {
            for (code, count) in theirs {
                *mine.entry(code.clone()).or_default() += count;
            }
        }
    }

    pub(crate) fn all_forced(&self) -> u64 {
        self.forced.values().sum()
    }

    pub(crate) fn all_over_bound(&self) -> u64 {
        self.over_bound.iter().sum()
    }
}

/// Durations of one second, or of a whole phase.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Spreads {
    /// From when a change was meant to be made until a watcher read it.
    pub(crate) latency: Times,
    /// By which steps were made later than meant.
    pub(crate) lateness: Times,
    /// From when somebody was meant to connect until it was welcome.
    pub(crate) connect: Times,
    /// How long views were wrong: online and is not; offline and is there; another status.
    pub(crate) wrong: [Times; 3],
}

impl Spreads {
    pub(crate) fn add(&mut self, other: &Self) {
        self.latency.add(&other.latency);
        self.lateness.add(&other.lateness);
        self.connect.add(&other.connect);
        for (mine, theirs) in self.wrong.iter_mut().zip(&other.wrong) {
            mine.add(theirs);
        }
    }
}

/// A second of a worker.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Tick {
    /// Seconds since the load began.
    pub(crate) second: u64,
    pub(crate) phase: Phase,
    /// Sessions open now; views that are wrong now, and that know nothing.
    pub(crate) sessions: u64,
    pub(crate) wrong_now: u64,
    pub(crate) blind_now: u64,
    pub(crate) counts: Counts,
    pub(crate) spreads: Spreads,
}

/// What a worker says at the end.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct End {
    /// Views that are judged; and were wrong, or knew nothing, for longer than the bound at the end.
    pub(crate) views: u64,
    pub(crate) wrong: u64,
    pub(crate) blind: u64,
    /// The first of what should not be, in words.
    pub(crate) samples: Vec<String>,
}

/// A line from a worker.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Line {
    Ready,
    Tick(Box<Tick>),
    End(End),
    /// It cannot go on.
    Failed(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_come_through_a_line_as_they_were() {
        let mut tick = Tick::default();
        for micros in [1, 950, 950, 2_000_000] {
            tick.spreads.latency.record(micros);
        }
        let line = serde_json::to_string(&Line::Tick(Box::new(tick))).unwrap();
        let Line::Tick(read) = serde_json::from_str(&line).unwrap() else { panic!("{line}") };
        let histogram = read.spreads.latency.histogram();
        assert_eq!((histogram.len(), histogram.value_at_quantile(0.5)), (4, 950));
        let mut sum = Spreads::default();
        sum.add(&read.spreads);
        sum.add(&read.spreads);
        assert_eq!(sum.latency.histogram().len(), 8);
    }

    #[test]
    fn counts_add_up() {
        let mut sum = Counts::default();
        let mut one = Counts { seen: 2, over_bound: [1, 0, 3], ..Counts::default() };
        one.forced.insert("4001".to_owned(), 5);
        sum.add(&one);
        sum.add(&one);
        assert_eq!((sum.seen, sum.all_over_bound(), sum.all_forced()), (4, 8, 10));
    }
}
