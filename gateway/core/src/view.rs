//! How far a gateway follows each partition's owner: which epoch, up to which number, how fresh (R2, R4, R9, R11).

use std::time::Duration;

use herenow_protocol::message::OwnedBeat;
use herenow_protocol::{CoordinatorId, Epoch, MonoTime, Now, WallTime};

use crate::Config;
use crate::dating::Dating;

/// How far what is known of a partition can be trusted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Freshness {
    /// As good as the owner's.
    Fresh,
    /// True when its owner was last heard.
    Stale,
    /// Too old to be shown.
    Unknown,
}

/// One partition as this gateway follows it.
#[derive(Debug, Default)]
pub(crate) struct View {
    /// R2: the highest epoch seen. Everything below is dropped.
    pub(crate) epoch: Epoch,
    /// Who first spoke under it.
    pub(crate) owner: Option<CoordinatorId>,
    /// Every change up to this number was applied, since `synced`.
    pub(crate) n: u64,
    /// Full values of this epoch were taken.
    pub(crate) synced: bool,
    /// They were of a settled owner.
    pub(crate) settled: bool,
    /// What the owner's last beat said.
    beat: Option<OwnedBeat>,
    heard_at: Option<MonoTime>,
    /// When it said so, at the earliest.
    said_at: Option<MonoTime>,
    /// By which its beats are dated, and when an answer last told more of that.
    dating: Dating,
    dated_at: Option<MonoTime>,
    /// What its clock said in that beat.
    clock: u64,
    behind_since: Option<MonoTime>,
    /// Which pull of everything watched is under way.
    pub(crate) pulling: Option<u64>,
    /// The lowest number at which users were answered for by themselves meanwhile: that pull may not have them, so that
    /// what followed for them up to its own number may be missing.
    pub(crate) floor: Option<u64>,
    /// Somebody was asked for in vain since that pull began.
    missed: bool,
    /// When the owner last answered in doubt.
    pub(crate) doubted_at: Option<MonoTime>,
    /// When it last had all that the owner had published.
    caught_up_at: Option<MonoTime>,
    /// That owner had settled, and has not doubted since: what it said of who is absent stands.
    vouched: bool,
    /// When it was last certain that nothing is missing.
    confirmed_at: Option<MonoTime>,
    /// The same for people.
    pub(crate) confirmed_wall: Option<WallTime>,
    /// How it stood when that was last looked at, and in which epoch.
    level: Option<(Level, Epoch)>,
    /// Somebody was told a value that was not fresh, since all were last told.
    pub(crate) told_worse: bool,
}

/// How far the whole view can be trusted; the better is the greater.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Level {
    Unknown,
    Stale,
    /// It has all that an owner has published that has not settled.
    CaughtUp,
    Fresh,
}

/// What a delta is to this view.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fit {
    /// It follows, or overlaps.
    Next,
    /// All of it was applied before.
    Old,
    /// Something before it is missing.
    Gap,
}

impl View {
    /// R2: follows a higher epoch from its beginning. Answers with the pull that is void now.
    pub(crate) fn adopt(&mut self, epoch: Epoch) -> Option<u64> {
        let pulling = self.pulling;
        *self = Self {
            epoch,
            confirmed_at: self.confirmed_at,
            confirmed_wall: self.confirmed_wall,
            level: self.level,
            told_worse: self.told_worse,
            ..Self::default()
        };
        pulling
    }

    /// Begins anew within the epoch: nobody listened for a while. Answers with the pull that is void now.
    pub(crate) fn restart(&mut self) -> Option<u64> {
        self.synced = false;
        self.settled = false;
        self.n = 0;
        self.behind_since = None;
        self.caught_up_at = None;
        self.vouched = false;
        (self.said_at, self.dating) = (None, Dating::default());
        self.missed = false;
        self.pulling.take()
    }

    /// Nobody watched until now, so that nobody was told anything.
    pub(crate) fn forget_level(&mut self) {
        self.level = None;
    }

    /// Everything watched now is asked for.
    pub(crate) fn begin_pull(&mut self, number: u64) {
        self.pulling = Some(number);
        self.floor = None;
        self.missed = false;
    }

    /// Full values of everything watched were taken. An owner that has not settled, or that doubts what it has, does
    /// not tell whom it never saw: once it has settled it must be asked again, even if it was asked before it doubted.
    pub(crate) fn take_snapshot(&mut self, n: u64, settled: bool) {
        self.n = self.n.max(self.floor.take().map_or(n, |floor| floor.min(n)));
        self.synced = !std::mem::take(&mut self.missed);
        self.settled = settled;
    }

    /// The owner answered what was asked at `asked`, when its clock said `clock`. Whoever has all of it has what was
    /// published up to the number in `said` no earlier than it was asked, as if a beat had said so: the first may be
    /// under way for as long as beats are apart.
    pub(crate) fn date(&mut self, asked: MonoTime, clock: u64, said: OwnedBeat, now: MonoTime) {
        self.dating.answer(clock, asked, now);
        self.dated_at = Some(now);
        if !said.doubts && self.synced && self.n >= said.n {
            self.said_at = self.said_at.max(Some(asked));
        }
        if clock >= self.clock {
            self.clock = clock;
            // Its pages may be from before a beat that told of more.
            let n = self.beat.map_or(said.n, |beat| beat.n.max(said.n));
            self.beat = Some(OwnedBeat { n, ..said });
        }
    }

    /// Somebody who is watched was asked for in vain. A pull that is under way may not be about them. Where the owner has
    /// not settled, everybody is asked for when it has.
    pub(crate) fn miss(&mut self) {
        if self.is_settling() && !self.settled {
            return;
        }
        self.synced = false;
        self.missed = self.pulling.is_some();
    }

    /// R9: judges a delta by its numbers.
    pub(crate) const fn judge(&self, prev: u64, last: u64) -> Fit {
        if !self.synced || prev > self.n {
            Fit::Gap
        } else if last <= self.n {
            Fit::Old
        } else {
            Fit::Next
        }
    }

    /// Notes the owner's beat. True when what it tells of has been missing for long, or nobody can tell how long the beat
    /// was under way: pull. `prompt`: what is read here has not waited since before a stop.
    pub(crate) fn hear(
        &mut self,
        beat: OwnedBeat,
        clock: u64,
        prompt: bool,
        now: Now,
        config: &Config,
        tail: Duration,
    ) -> bool {
        self.heard_at = Some(now.mono);
        // One that was overtaken tells less than is known.
        if clock >= self.clock {
            self.clock = clock;
            self.beat = Some(beat);
            self.said_at = self.said_at.max(self.dating.beat(clock, now.mono, prompt));
        }
        let long = |at: MonoTime| now.mono.since(at) >= config.stale_after;
        let undated = self.said_at.is_none_or(long) && self.dated_at.is_none_or(long);
        self.check(now, tail) || undated
    }

    /// The same without a new beat. `tail`: how long what a beat tells of may be under way.
    pub(crate) fn check(&mut self, now: Now, tail: Duration) -> bool {
        let Some(beat) = self.beat else { return false };
        let caught_up = self.synced && self.n >= beat.n;
        // What an owner says that doubts it itself makes nothing fresh.
        if caught_up && !beat.doubts {
            self.caught_up_at = self.caught_up_at.max(self.said_at);
        }
        // One that has just settled takes back what it said in doubt: nothing of that is certain before what is new.
        self.vouched = beat.settled && (caught_up || self.vouched);
        if caught_up && (self.settled || !beat.settled) {
            self.behind_since = None;
            // An owner that has not settled, or that doubts what it has, cannot vouch for who is absent.
            if self.settled && beat.settled && !beat.doubts {
                self.confirmed_at = self.confirmed_at.max(self.said_at);
                self.confirmed_wall = self.confirmed_at.map(|at| {
                    WallTime::from_millis(
                        now.wall
                            .as_millis()
                            .saturating_sub(herenow_protocol::time::millis(now.mono.since(at))),
                    )
                });
            }
            return false;
        }
        let since = *self.behind_since.get_or_insert(now.mono);
        !self.synced || (beat.settled && !self.settled) || now.mono.since(since) >= tail
    }

    /// Whether its owner last said that it has not settled.
    pub(crate) fn is_settling(&self) -> bool {
        self.beat.is_some_and(|beat| !beat.settled)
    }

    /// Whether the owner was heard of late.
    pub(crate) fn is_heard(&self, now: MonoTime, config: &Config) -> bool {
        self.heard_at.is_some_and(|at| now.since(at) < config.stale_after)
    }

    /// Whether what it has of this epoch is what the owner published of late.
    pub(crate) fn is_caught_up(&self, now: MonoTime, config: &Config) -> bool {
        self.caught_up_at.is_some_and(|at| now.since(at) < config.stale_after)
    }

    /// Whether it has all that a settled owner published of late.
    pub(crate) fn is_certain(&self, now: MonoTime, config: &Config) -> bool {
        self.synced && self.settled && self.pulling.is_none() && self.is_caught_up(now, config)
    }

    /// Whether a value that was said in doubt rests on nothing that was said since: of who is absent, by an owner that
    /// has settled.
    pub(crate) fn is_doubted(&self, negative: bool) -> bool {
        let sure = if negative { self.confirmed_at } else { self.caught_up_at };
        self.doubted_at.is_some_and(|at| sure.is_none_or(|sure| sure <= at))
    }

    /// Whether its owner vouches for more than who is there: it has settled, and does not doubt it.
    pub(crate) fn is_settled(&self) -> bool {
        self.settled && self.vouched
    }

    /// Whether watchers must be told anew because the trust has changed: always when it is less than before; when it
    /// is more, only if somebody was told something less.
    pub(crate) fn has_turned(&mut self, now: MonoTime, config: &Config) -> bool {
        let level = match self.freshness(now, config) {
            Freshness::Fresh => Level::Fresh,
            Freshness::Stale | Freshness::Unknown if self.is_caught_up(now, config) => Level::CaughtUp,
            Freshness::Stale => Level::Stale,
            Freshness::Unknown => Level::Unknown,
        };
        let (before, epoch) = self.level.replace((level, self.epoch)).unwrap_or((level, self.epoch));
        // What an earlier epoch left behind, and an owner that has not settled has not said anew, rests on nothing.
        let anew = level == Level::CaughtUp && epoch != self.epoch;
        let worse = level < before || anew;
        let better = self.told_worse && (level > before || level == Level::Fresh && !self.is_doubted(true));
        if better {
            self.told_worse = false;
        }
        worse || better
    }

    /// R11: how far the whole view can be trusted.
    pub(crate) fn freshness(&self, now: MonoTime, config: &Config) -> Freshness {
        let Some(at) = self.confirmed_at else { return Freshness::Unknown };
        let age = now.since(at);
        if age < config.stale_after {
            Freshness::Fresh
        } else if age < config.fresh_for {
            Freshness::Stale
        } else {
            Freshness::Unknown
        }
    }
}

#[cfg(test)]
mod tests {
    use herenow_protocol::Partition;

    use super::*;

    const EPOCH: Epoch = Epoch { counter: 1, nonce: 1 };

    fn at(ms: u64) -> Now {
        Now { mono: MonoTime::from_millis(ms), wall: WallTime::from_millis(1_000_000 + ms) }
    }

    fn beat(n: u64) -> OwnedBeat {
        OwnedBeat { partition: Partition(0), epoch: EPOCH, n, settled: true, doubts: false, by_user: false }
    }

    fn synced(n: u64) -> View {
        View { epoch: EPOCH, n, synced: true, settled: true, ..View::default() }
    }

    #[test]
    fn a_delta_is_next_old_or_beyond_a_gap() {
        let view = synced(5);
        assert_eq!(view.judge(5, 7), Fit::Next);
        assert_eq!(view.judge(3, 7), Fit::Next, "overlaps");
        assert_eq!(view.judge(3, 5), Fit::Old);
        assert_eq!(view.judge(6, 7), Fit::Gap);
        assert_eq!(View::default().judge(0, 1), Fit::Gap, "nothing is known before the first snapshot");
    }

    #[test]
    fn a_lost_last_delta_is_found_by_the_beat_after_some_patience() {
        let config = Config::default();
        let mut view = synced(5);
        assert!(!view.hear(beat(5), 0, true, at(0), &config, config.tail_patience));
        assert!(
            !view.hear(beat(6), 250, true, at(250), &config, config.tail_patience),
            "it may be under way"
        );
        assert!(view.check(at(350), config.tail_patience));
    }

    #[test]
    fn a_pull_that_began_before_somebody_was_asked_for_in_vain_is_not_about_them() {
        let mut view = synced(5);
        view.begin_pull(1);
        view.miss();
        view.take_snapshot(6, true);
        assert!(!view.synced, "so that everybody is asked for again");
        view.begin_pull(2);
        view.take_snapshot(6, true);
        assert!(view.synced);
        view.miss();
        view.begin_pull(3);
        view.take_snapshot(6, true);
        assert!(view.synced, "it began afterwards");
    }

    #[test]
    fn a_view_is_fresh_then_stale_then_unknown() {
        let config = Config::default();
        let mut view = synced(5);
        assert_eq!(view.freshness(at(0).mono, &config), Freshness::Unknown);
        view.hear(beat(5), 0, true, at(0), &config, config.tail_patience);
        assert_eq!(view.freshness(at(1_999).mono, &config), Freshness::Fresh);
        assert_eq!(view.freshness(at(2_000).mono, &config), Freshness::Stale);
        assert_eq!(view.freshness(at(20_000).mono, &config), Freshness::Unknown);
    }

    #[test]
    fn an_owner_that_has_just_settled_vouches_for_nothing_before_what_it_takes_back_has_come() {
        let config = Config::default();
        let mut view = synced(5);
        view.hear(beat(5), 0, true, at(0), &config, config.tail_patience);
        assert!(view.is_settled());
        view.hear(OwnedBeat { settled: false, ..beat(5) }, 100, true, at(100), &config, config.tail_patience);
        assert!(!view.is_settled(), "it doubts");
        view.hear(beat(6), 200, true, at(200), &config, config.tail_patience);
        assert!(!view.is_settled(), "the sixth may be about whom it called offline");
        view.n = 6;
        view.check(at(210), config.tail_patience);
        assert!(view.is_settled());
        view.hear(beat(7), 300, true, at(300), &config, config.tail_patience);
        assert!(view.is_settled(), "as ever while changes are under way");
    }

    #[test]
    fn a_beat_that_tells_of_missing_changes_makes_nothing_fresh() {
        let config = Config::default();
        let mut view = synced(5);
        view.hear(beat(6), 0, true, at(0), &config, config.tail_patience);
        assert_eq!(view.freshness(at(0).mono, &config), Freshness::Unknown);
    }
}
