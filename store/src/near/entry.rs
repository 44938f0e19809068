//! What is kept of a user: what is known of it, until when that is good, and how it behaves.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use herenow_protocol::record::Record;
use herenow_protocol::{MonoTime, Version, WallTime};

use super::policy::{Lesson, Policy, Rates};

/// What is known of a user: nothing that is older is true.
#[derive(Clone, Debug)]
pub(super) enum Known {
    Record(Box<Record>),
    /// Nothing is kept of it: it was erased with this version, or was not there; then the version is the least.
    Absent(Version),
}

impl Known {
    pub(super) fn of(record: Option<Record>) -> Self {
        record.map_or(Self::Absent(Version::default()), |record| Self::Record(Box::new(record)))
    }

    pub(super) fn record(&self) -> Option<&Record> {
        match self {
            Self::Record(record) => Some(record),
            Self::Absent(_) => None,
        }
    }

    /// Whether what was read is older than this. That nothing is there has no version: it is believed.
    fn is_newer_than(&self, read: Option<&Record>) -> bool {
        match (self, read) {
            (Self::Record(kept), Some(read)) => kept.written > read.written,
            (Self::Absent(erased), Some(read)) => *erased != Version::default() && *erased >= read.written,
            (Self::Record(_) | Self::Absent(_), None) => false,
        }
    }

    /// The version under which watchers saw it last.
    fn seen(&self) -> Option<Version> {
        self.record().map(|record| record.seen.version)
    }
}

/// When something happens, by both clocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    pub(super) mono: MonoTime,
    pub(super) wall: WallTime,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) known: Known,
    /// What the last read of the store showed, which the next is compared with.
    shown: Option<Version>,
    read_at: MonoTime,
    /// When it was asked about for the last time that it can answer.
    until: MonoTime,
    rates: Rates,
    /// How often it was asked about since it was read.
    reads: AtomicU32,
}

impl Entry {
    /// Of a user read for the first time.
    pub(super) fn first(policy: &Policy, known: Known, now: Now) -> Self {
        let rates = policy.first(last_change(&known, now.wall));
        Self::with(policy, known, rates, now.mono)
    }

    fn with(policy: &Policy, known: Known, rates: Rates, now: MonoTime) -> Self {
        let until = now.after(policy.ttl(&rates));
        Self { shown: known.seen(), known, read_at: now, until, rates, reads: AtomicU32::new(1) }
    }

    /// After the store was read again, and whether what is kept is newer than what was read.
    pub(super) fn again(&self, policy: &Policy, read: Option<Record>, now: Now) -> (Self, bool) {
        let is_newer = self.known.is_newer_than(read.as_ref());
        let known = if is_newer { self.known.clone() } else { Known::of(read) };
        let elapsed = now.mono.since(self.read_at);
        let has_changed = known.seen() != self.shown;
        let changed = has_changed.then(|| last_change(&known, now.wall).unwrap_or(elapsed));
        let lesson = Lesson { elapsed, reads: self.reads.load(Ordering::Relaxed), changed };
        (Self::with(policy, known, policy.learn(self.rates, lesson), now.mono), is_newer)
    }

    /// After a write: what was kept is no answer any more, and nothing older than what was written will be.
    pub(super) fn void(&self, written: Option<Known>) -> Self {
        let newer = written.filter(|written| match written {
            Known::Record(record) => !self.known.is_newer_than(Some(record)),
            Known::Absent(version) => {
                self.known.record().is_none_or(|kept| kept.written <= *version)
                    && !matches!(&self.known, Known::Absent(kept) if kept > version)
            }
        });
        Self {
            known: newer.unwrap_or_else(|| self.known.clone()),
            shown: self.shown,
            read_at: self.read_at,
            until: MonoTime::default(),
            rates: self.rates,
            reads: AtomicU32::new(self.reads.load(Ordering::Relaxed)),
        }
    }

    /// Counts that somebody asks. Whether this is still good.
    pub(super) fn asked(&self, now: MonoTime) -> bool {
        self.reads.fetch_add(1, Ordering::Relaxed);
        now < self.until
    }
}

/// How long ago a user changed. By a clock that is behind it has just changed, and is kept shorter.
fn last_change(known: &Known, now: WallTime) -> Option<Duration> {
    Some(known.record()?.seen.since?.until(now))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{record, version};

    const POLICY: Policy = Policy { min_ttl: 0.1, max_ttl: 30.0, old_costs: 20.0, half_life: 600.0 };

    fn now(ms: u64) -> Now {
        Now { mono: MonoTime::from_millis(ms), wall: WallTime::from_millis(1_700_000_000_000 + ms) }
    }

    fn entry(known: Known) -> Entry {
        Entry::first(&POLICY, known, now(0))
    }

    fn is_kept_over(known: Known, read: Option<Record>) -> bool {
        entry(known).again(&POLICY, read, now(1_000)).1
    }

    #[test]
    fn nothing_older_takes_the_place_of_what_is_newer() {
        let of = |n: u64| record("ana", version(2, n));
        assert!(is_kept_over(Known::of(Some(of(5))), Some(of(4))));
        assert!(!is_kept_over(Known::of(Some(of(5))), Some(of(5))));
        assert!(!is_kept_over(Known::of(Some(of(5))), Some(of(6))));
        assert!(is_kept_over(Known::Absent(version(2, 5)), Some(of(5))));
        assert!(!is_kept_over(Known::Absent(version(2, 5)), Some(of(6))));
        assert!(!is_kept_over(Known::of(None), Some(record("ana", version(0, 0)))));
        assert!(!is_kept_over(Known::of(Some(of(5))), None), "who is not there any more is gone");
    }

    #[test]
    fn a_void_answer_is_none_and_what_was_written_later_stays() {
        let of = |n: u64| Known::of(Some(record("ana", version(2, n))));
        let written = |kept: Known, written: Option<Known>| {
            let void = entry(kept).void(written);
            assert!(!void.asked(MonoTime::default()));
            match void.known {
                Known::Record(record) => (true, record.written),
                Known::Absent(version) => (false, version),
            }
        };
        assert_eq!(written(of(5), None), (true, version(2, 5)));
        assert_eq!(written(of(5), Some(of(6))), (true, version(2, 6)));
        assert_eq!(written(of(5), Some(of(4))), (true, version(2, 5)));
        assert_eq!(written(of(5), Some(Known::Absent(version(2, 5)))), (false, version(2, 5)));
        assert_eq!(written(of(5), Some(Known::Absent(version(2, 4)))), (true, version(2, 5)));
        assert_eq!(written(Known::Absent(version(2, 5)), Some(of(5))), (false, version(2, 5)));
        assert_eq!(
            written(Known::Absent(version(2, 5)), Some(Known::Absent(version(2, 4)))),
            (false, version(2, 5))
        );
    }

    #[test]
    fn a_clock_that_is_behind_makes_answers_shorter_and_no_worse() {
        let known = || Known::of(Some(record("ana", version(1, 0))));
        let ttl = |wall: u64| {
            let now = Now { mono: MonoTime::default(), wall: WallTime::from_millis(wall) };
            Entry::first(&POLICY, known(), now).until
        };
        let since = 1_700_000_000_000;
        assert_eq!(ttl(since - 3_600_000), ttl(since));
        assert!(ttl(since) < ttl(since + 3_600_000));
        assert!(ttl(since - 3_600_000) >= MonoTime::from_millis(100));
    }

    #[test]
    fn an_answer_is_good_until_its_time_and_not_at_it() {
        let entry = entry(Known::of(None));
        let until = entry.until.as_millis();
        assert!(entry.asked(MonoTime::from_millis(until - 1)));
        assert!(!entry.asked(MonoTime::from_millis(until)));
    }
}
