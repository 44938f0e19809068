//! Compares what every watcher sees with the truth, at each change of either.

use super::plan::Moment;
use super::tally::{Counts, Spreads};
use super::truth::{May, Truth};

/// Most faults that are kept in words.
const SAMPLES: usize = 20;

/// A version (COM-5): of one epoch the higher number is newer. The epoch is its place in the list of those met.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Version {
    epoch: u16,
    n: u32,
}

/// Older than everything: no epoch has this place.
const NEVER: Version = Version { epoch: u16::MAX, n: 0 };

/// In place of a moment: nobody meant this to happen, and what follows is not timed.
pub(super) const UNTIMED: Moment = Moment::MAX;

/// One user on one watcher's list: 16 bytes, since there are many.
#[derive(Clone, Copy, Debug)]
struct View {
    user: u32,
    /// In units of 10 µs, when it became wrong or blind.
    since: u32,
    version: Version,
    shown: May,
    state: State,
}

/// How a view is at the moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// The watcher has no session: nothing is judged.
    Away,
    /// Nothing was told yet.
    New,
    Right,
    /// `unknown`.
    Blind,
    /// Shown online and is not.
    FalseOnline,
    /// Shown offline and is there.
    FalseOffline,
    /// There, and shown with another status.
    OtherStatus,
}

impl State {
    /// Its place among the kinds of wrong intervals.
    const fn kind(self) -> Option<usize> {
        match self {
            Self::FalseOnline => Some(0),
            Self::FalseOffline => Some(1),
            Self::OtherStatus => Some(2),
            Self::Away | Self::New | Self::Right | Self::Blind => None,
        }
    }

    fn of(shown: May, may: May) -> Self {
        if may.has(shown) {
            Self::Right
        } else if shown == May::OFF {
            Self::FalseOffline
        } else if may == May::OFF {
            Self::FalseOnline
        } else {
            Self::OtherStatus
        }
    }
}

/// What a gateway says of a user.
#[derive(Clone, Copy, Debug)]
pub(super) struct Told {
    pub(super) user: u32,
    /// None: `unknown`.
    pub(super) shown: Option<May>,
    pub(super) epoch: u64,
    pub(super) n: u64,
}

/// All truths and views of a worker.
#[derive(Debug)]
pub(super) struct Referee {
    bound: Moment,
    truths: Vec<Truth>,
    watchers: Vec<Vec<u32>>,
    lists: Vec<Vec<View>>,
    epochs: Vec<u64>,
    pub(super) counts: Counts,
    pub(super) spreads: Spreads,
    /// Views that are wrong, and that know nothing, at the moment.
    pub(super) wrong: u64,
    pub(super) blind: u64,
    pub(super) samples: Vec<String>,
}

impl Referee {
    pub(super) fn new(people: usize, bound: Moment) -> Self {
        Self {
            bound,
            truths: vec![Truth::default(); people],
            watchers: vec![Vec::new(); people],
            lists: vec![Vec::new(); people],
            epochs: Vec::new(),
            counts: Counts::default(),
            spreads: Spreads::default(),
            wrong: 0,
            blind: 0,
            samples: Vec::new(),
        }
    }

    pub(super) fn device(&self, user: u32, device: u8) -> May {
        self.truths[user as usize].device(device)
    }

    /// A user's device may be taken for this from now on; `meant` is when the schedule wanted it.
    pub(super) fn truth(&mut self, user: u32, device: u8, may: May, meant: Moment, now: Moment) {
        let (before, echo_until) = (self.truths[user as usize].may, now + self.bound);
        if !self.truths[user as usize].set(device, may, meant, echo_until) {
            return;
        }
        let truth = self.truths[user as usize];
        self.counts.changes += 1;
        // Where the old value is not wrong yet, nothing is due.
        let certain = before.each().any(|old| !truth.may.has(old));
        let watchers = std::mem::take(&mut self.watchers[user as usize]);
        for watcher in &watchers {
            if let Some(place) = self.find(*watcher, user) {
                self.rejudge(*watcher, place, truth, certain, now);
            }
        }
        self.watchers[user as usize] = watchers;
    }

    /// The truth moved under a view.
    fn rejudge(&mut self, watcher: u32, place: usize, truth: Truth, certain: bool, now: Moment) {
        let view = self.lists[watcher as usize][place];
        match view.state {
            State::Away | State::New | State::Blind => {}
            State::Right | State::FalseOnline | State::FalseOffline | State::OtherStatus => {
                let state = State::of(view.shown, truth.may);
                self.counts.due += u64::from(certain && state != State::Right);
                // That the truth came back to what is shown is no delivery.
                self.counts.conflated += u64::from(state == State::Right && view.state != State::Right);
                self.turn(watcher, place, state, truth.since.min(now), now);
            }
        }
    }

    /// A gateway told a watcher.
    pub(super) fn told(&mut self, watcher: u32, told: &Told, snapshot: bool, now: Moment) {
        let Some(place) = self.find(watcher, told.user) else { return };
        let version = Version { epoch: self.epoch(told.epoch), n: u32::try_from(told.n).unwrap_or(u32::MAX) };
        let view = self.lists[watcher as usize][place];
        if view.state == State::Away {
            return;
        }
        if view.state != State::New && self.is_older(version, view.version) {
            self.counts.old_records += 1;
            return;
        }
        let truth = self.truths[told.user as usize];
        let Some(shown) = told.shown else {
            self.counts.unknown_records += 1;
            // What was told before it is kept (COM-6): only that it is old is told.
            self.turn(watcher, place, State::Blind, now, now);
            return;
        };
        self.lists[watcher as usize][place].version = version;
        self.lists[watcher as usize][place].shown = shown;
        let state = State::of(shown, truth.may);
        if state == State::Right {
            let early = view.state == State::Right && view.shown != shown;
            if (early || view.state.kind().is_some()) && !snapshot && truth.since != UNTIMED {
                // A watcher may know before the one who changed knows that it was taken.
                self.counts.due += u64::from(early);
                self.counts.seen += 1;
                self.spreads.latency.record(now.saturating_sub(truth.since));
            }
        } else if view.state == State::Right && !truth.explains(shown, now) {
            self.counts.unexplained += 1;
            self.sample(watcher, told.user, view.shown, shown, truth.may, now);
        }
        self.turn(watcher, place, state, now, now);
    }

    /// A view is in this state from `since` on.
    fn turn(&mut self, watcher: u32, place: usize, state: State, since: Moment, now: Moment) {
        let view = &mut self.lists[watcher as usize][place];
        let old = view.state;
        if old == state {
            return;
        }
        view.state = state;
        let was_wrong_too = old.kind().is_some() && state.kind().is_some();
        let began = Moment::from(view.since) * 10;
        view.since = u32::try_from(since / 10).unwrap_or(u32::MAX);
        let length = now.saturating_sub(began);
        if let Some(kind) = old.kind() {
            self.spreads.wrong[kind].record(length);
            self.counts.over_bound[kind] += u64::from(length > self.bound);
            if length > self.bound {
                let user = self.lists[watcher as usize][place].user;
                self.sample_long(watcher, user, old, length, now);
            }
            self.wrong -= u64::from(!was_wrong_too);
        }
        self.wrong += u64::from(state.kind().is_some() && !was_wrong_too);
        if matches!(old, State::New | State::Blind) {
            self.blind -= 1;
            self.counts.blind_micros += if old == State::Blind { length } else { 0 };
        }
        self.blind += u64::from(matches!(state, State::New | State::Blind));
    }

    /// Puts a user on a watcher's list. `open`: the watcher has a session and has asked for it.
    pub(super) fn watch(&mut self, watcher: u32, user: u32, open: bool, now: Moment) {
        let list = &mut self.lists[watcher as usize];
        let Err(place) = list.binary_search_by_key(&user, |view| view.user) else { return };
        list.insert(
            place,
            View { user, since: 0, version: NEVER, shown: May::default(), state: State::Away },
        );
        self.watchers[user as usize].push(watcher);
        if open {
            self.turn(watcher, place, State::New, now, now);
        }
    }

    /// A watcher sees this user no longer.
    pub(super) fn unwatch(&mut self, watcher: u32, user: u32, now: Moment) {
        if let Some(place) = self.find(watcher, user) {
            self.turn(watcher, place, State::Away, now, now);
            self.lists[watcher as usize].remove(place);
            self.watchers[user as usize].retain(|other| *other != watcher);
        }
    }

    /// A watcher has a new session, and asks for its whole list. What it knew is forgotten.
    pub(super) fn open(&mut self, watcher: u32, now: Moment) {
        for place in 0..self.lists[watcher as usize].len() {
            self.turn(watcher, place, State::New, now, now);
            self.lists[watcher as usize][place].version = NEVER;
            self.lists[watcher as usize][place].shown = May::default();
        }
    }

    /// A watcher has no session: nothing that it saw is judged any longer.
    pub(super) fn close(&mut self, watcher: u32, now: Moment) {
        for place in 0..self.lists[watcher as usize].len() {
            self.turn(watcher, place, State::Away, now, now);
        }
    }

    /// Whom a watcher has on its list.
    pub(super) fn list(&self, watcher: u32) -> impl ExactSizeIterator<Item = u32> + '_ {
        self.lists[watcher as usize].iter().map(|view| view.user)
    }

    /// How many views are judged; and how many of them are wrong, and know nothing, for longer than the bound.
    pub(super) fn end(&mut self, now: Moment) -> (u64, u64, u64) {
        let (mut all, mut wrong, mut blind) = (0, 0, 0);
        for watcher in 0..self.lists.len() {
            for place in 0..self.lists[watcher].len() {
                let view = self.lists[watcher][place];
                all += u64::from(view.state != State::Away);
                let long = now.saturating_sub(Moment::from(view.since) * 10) > self.bound;
                let is_wrong = long && view.state.kind().is_some();
                wrong += u64::from(is_wrong);
                blind += u64::from(long && matches!(view.state, State::New | State::Blind));
                if is_wrong {
                    let watcher = u32::try_from(watcher).unwrap_or(u32::MAX);
                    let length = now - Moment::from(view.since) * 10;
                    self.sample_long(watcher, view.user, view.state, length, now);
                }
            }
        }
        (all, wrong, blind)
    }

    fn find(&self, watcher: u32, user: u32) -> Option<usize> {
        self.lists.get(watcher as usize)?.binary_search_by_key(&user, |view| view.user).ok()
    }

    fn epoch(&mut self, epoch: u64) -> u16 {
        let place = self.epochs.iter().rposition(|known| *known == epoch).unwrap_or_else(|| {
            self.epochs.push(epoch);
            self.epochs.len() - 1
        });
        u16::try_from(place).unwrap_or(u16::MAX).min(u16::MAX - 1)
    }

    fn is_older(&self, new: Version, held: Version) -> bool {
        if new.epoch == held.epoch {
            return new.n < held.n;
        }
        let epoch = |version: Version| self.epochs.get(usize::from(version.epoch));
        epoch(new) < epoch(held)
    }

    fn sample(&mut self, watcher: u32, user: u32, from: May, to: May, may: May, now: Moment) {
        if self.samples.len() < SAMPLES {
            self.samples.push(format!(
                "{}: {watcher} saw {user} turn from {} to {}, who is {}: nothing explains it",
                seconds(now),
                from.words(),
                to.words(),
                may.words()
            ));
        }
    }

    fn sample_long(&mut self, watcher: u32, user: u32, state: State, length: Moment, now: Moment) {
        if self.samples.len() < SAMPLES {
            let may = self.truths[user as usize].may.words();
            self.samples.push(format!(
                "{}: {watcher} saw {user}, who is {may}, wrongly for {} ({state:?})",
                seconds(now),
                seconds(length)
            ));
        }
    }
}

fn seconds(moment: Moment) -> String {
    format!("{}.{:03} s", moment / 1_000_000, moment / 1_000 % 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Moment = 1_000_000;

    /// Watcher 0 watches user 1, who is offline and is shown so.
    fn referee() -> Referee {
        let mut referee = Referee::new(2, SECOND);
        referee.watch(0, 1, true, 0);
        referee.told(0, &told(May::OFF, 0), true, 0);
        assert_eq!((referee.wrong, referee.blind), (0, 0));
        referee
    }

    fn told(shown: May, n: u64) -> Told {
        Told { user: 1, shown: Some(shown), epoch: 7, n }
    }

    #[test]
    fn a_change_is_timed_from_when_it_was_meant() {
        let mut referee = referee();
        referee.truth(1, 0, May::ON, SECOND, SECOND + 300);
        assert_eq!(referee.wrong, 1);
        referee.told(0, &told(May::ON, 1), false, SECOND + 900);
        assert_eq!((referee.wrong, referee.counts.due, referee.counts.seen), (0, 1, 1));
        assert_eq!(referee.spreads.latency.histogram().max(), 900);
        assert_eq!(referee.spreads.wrong[1].histogram().max(), 900);
        assert_eq!((referee.counts.unexplained, referee.counts.all_over_bound()), (0, 0));
    }

    #[test]
    fn what_nobody_did_is_unexplained_and_wrong_until_it_is_mended() {
        let mut referee = referee();
        referee.truth(1, 0, May::ON, SECOND, SECOND);
        referee.told(0, &told(May::ON, 1), false, SECOND + 1);
        referee.told(0, &told(May::OFF, 2), false, 10 * SECOND);
        assert_eq!((referee.counts.unexplained, referee.wrong), (1, 1));
        referee.told(0, &told(May::ON, 3), false, 12 * SECOND);
        assert_eq!((referee.counts.over_bound, referee.wrong), ([0, 1, 0], 0));
        assert!(referee.samples[0].contains("nothing explains it"), "{:?}", referee.samples);
    }

    #[test]
    fn while_either_may_be_neither_is_wrong() {
        let mut referee = referee();
        referee.truth(1, 0, May::ON.or(May::OFF), UNTIMED, SECOND);
        referee.told(0, &told(May::ON, 1), false, SECOND + 1);
        referee.told(0, &told(May::OFF, 2), false, SECOND + 2);
        assert_eq!((referee.counts.unexplained, referee.counts.due, referee.wrong), (0, 0, 0));
    }

    #[test]
    fn who_knows_before_it_is_certain_is_timed_too() {
        let mut referee = referee();
        referee.truth(1, 0, May::ON.or(May::OFF), SECOND, SECOND);
        referee.told(0, &told(May::ON, 1), false, SECOND + 40);
        referee.truth(1, 0, May::ON, SECOND, SECOND + 50);
        assert_eq!((referee.counts.due, referee.counts.seen), (1, 1));
        assert_eq!(referee.spreads.latency.histogram().max(), 40);
    }

    #[test]
    fn older_records_are_dropped_as_a_client_drops_them() {
        let mut referee = referee();
        referee.truth(1, 0, May::ON, SECOND, SECOND);
        referee.told(0, &told(May::ON, 5), false, SECOND + 1);
        referee.told(0, &told(May::OFF, 4), true, SECOND + 2);
        referee.told(0, &Told { epoch: 6, ..told(May::OFF, 9) }, true, SECOND + 3);
        assert_eq!((referee.counts.old_records, referee.wrong), (2, 0));
        referee.told(0, &Told { epoch: 8, ..told(May::OFF, 1) }, false, 5 * SECOND);
        assert_eq!((referee.counts.unexplained, referee.wrong), (1, 1));
    }

    #[test]
    fn what_came_back_before_it_was_told_is_conflated() {
        let mut referee = referee();
        referee.truth(1, 0, May::ON, SECOND, SECOND);
        referee.truth(1, 0, May::OFF, SECOND + 5, SECOND + 5);
        assert_eq!((referee.counts.conflated, referee.counts.seen, referee.wrong), (1, 0, 0));
        // An echo of what was true is explained, and its interval is counted.
        referee.told(0, &told(May::ON, 1), false, SECOND + 9);
        referee.told(0, &told(May::OFF, 2), false, SECOND + 19);
        assert_eq!((referee.counts.unexplained, referee.spreads.wrong[0].histogram().len()), (0, 1));
    }

    #[test]
    fn who_was_told_nothing_takes_a_record_of_any_epoch() {
        let mut referee = Referee::new(3, SECOND);
        referee.watch(0, 1, true, 0);
        referee.watch(0, 2, true, 0);
        referee.told(0, &told(May::OFF, 9), true, 0);
        let told = Told { user: 2, shown: None, epoch: 3, n: 0 };
        referee.told(0, &told, true, 0);
        referee.told(0, &Told { shown: Some(May::OFF), ..told }, false, 1);
        assert_eq!((referee.blind, referee.counts.old_records), (0, 0));
    }

    #[test]
    fn unknown_is_blind_and_not_wrong() {
        let mut referee = referee();
        referee.told(0, &Told { shown: None, ..told(May::OFF, 0) }, false, SECOND);
        assert_eq!((referee.blind, referee.wrong), (1, 0));
        referee.told(0, &told(May::OFF, 0), false, 3 * SECOND);
        assert_eq!((referee.blind, referee.counts.blind_micros), (0, 2 * SECOND));
    }

    #[test]
    fn at_the_end_what_was_never_told_is_found() {
        let mut referee = referee();
        referee.truth(1, 0, May::ON, SECOND, SECOND);
        assert_eq!(referee.end(SECOND + 10), (1, 0, 0), "it is on its way");
        assert_eq!(referee.end(3 * SECOND), (1, 1, 0));
        referee.close(0, 3 * SECOND);
        assert_eq!((referee.end(9 * SECOND), referee.wrong), ((0, 0, 0), 0));
        referee.open(0, 4 * SECOND);
        assert_eq!((referee.end(9 * SECOND), referee.blind), ((1, 0, 1), 1));
    }
}
