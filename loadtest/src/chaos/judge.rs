//! The referee: compares what watchers were shown with what was true. Pure.

use std::time::Duration;

use serde::Serialize;

use super::journal::{Journal, Poll, View, is_right};
use super::truth::{Answers, Moment, Steps, at};
use super::wire::Status;

/// The last answer of a poller is at most this old at the end.
const LAST_POLL: Duration = Duration::from_secs(2);

/// What is judged, and by which bounds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    pub(super) from: Moment,
    pub(super) injected: Moment,
    pub(super) healed: Moment,
    pub(super) to: Moment,
    /// The longest that anybody may be shown wrongly from the fault until it is over: this long after it was healed.
    pub(super) wrong: Duration,
    /// The same before and after it.
    pub(super) calm: Duration,
    /// How late a truth may still be told.
    pub(super) late: Duration,
    /// How late the news of one device may be when those of another are not: of two devices at two gateways.
    pub(super) unheard: Duration,
}

/// How finely, and for how long before, it is looked for what a device was known late as.
const STEP: Duration = Duration::from_millis(50);
const MOST_STEPS: usize = 200;

/// What was wrong.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum What {
    FalseOnline,
    FalseOffline,
    /// There, but shown as something else.
    WrongStatus,
    /// A transition that no truth explains.
    Unexplained,
    WrongAtEnd,
}

impl What {
    pub(super) const fn words(self) -> &'static str {
        match self {
            Self::FalseOnline => "false-online",
            Self::FalseOffline => "false-offline",
            Self::WrongStatus => "wrong-status",
            Self::Unexplained => "unexplained",
            Self::WrongAtEnd => "wrong at the end",
        }
    }
}

/// Somebody was shown wrongly.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    /// Pollers come after the watchers.
    pub(super) watcher: usize,
    pub(super) user: usize,
    pub(super) at: Moment,
    pub(super) took: Duration,
    pub(super) what: What,
}

/// Wrong intervals of a part of the scenario.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Phase {
    pub(super) count: usize,
    pub(super) over_bound: usize,
    pub(super) p99_ms: u64,
    pub(super) max_ms: u64,
}

/// What came out, over all pairs of watcher and user.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    /// Before the fault, while it lasted and might be seen, and after.
    pub(super) phases: [Phase; 3],
    /// The longest of each.
    pub(super) false_online: Duration,
    pub(super) false_offline: Duration,
    pub(super) wrong_status: Duration,
    /// Transitions that no truth explains.
    pub(super) unexplained: usize,
    /// The most time of one pair that was unknown, and that was shown with `asOf`.
    pub(super) unknown: Duration,
    pub(super) stale: Duration,
    /// The most time in which a poller got nothing fresh about a user.
    pub(super) unpolled: Duration,
    /// Pairs that were wrong, unknown or stale when all was over.
    pub(super) wrong_at_end: usize,
    /// Changes of the truth within the window: without any, the judge saw nothing.
    pub(super) changes: usize,
    /// All of it one by one, the longest first.
    pub(super) faults: Vec<Fault>,
}

pub(super) fn judge(journal: &Journal, window: Window) -> Verdict {
    let mut verdict = Verdict::default();
    for user in 0..journal.users() {
        let truth = journal.truth(user);
        let within =
            |(at, answers): &&(Moment, Answers)| *at > window.from && *at <= window.to && answers.is_sure();
        verdict.changes += truth.iter().filter(within).count();
        for watcher in 0..journal.watchers() {
            let mut pair = Pair { journal, watcher, user, window, verdict: &mut verdict };
            pair.judge(&truth, journal.view(watcher, user));
        }
        for poller in 0..journal.pollers() {
            let watcher = journal.watchers() + poller;
            let mut pair = Pair { journal, watcher, user, window, verdict: &mut verdict };
            pair.judge_polls(&truth, journal.polls(poller, user));
        }
    }
    verdict.faults.sort_by_key(|fault| std::cmp::Reverse(fault.took));
    verdict.phases = phases(&verdict.faults, window);
    verdict
}

/// One watcher and one user.
struct Pair<'a> {
    journal: &'a Journal,
    watcher: usize,
    user: usize,
    window: Window,
    verdict: &'a mut Verdict,
}

impl Pair<'_> {
    fn judge(&mut self, truth: &Steps<Answers>, view: &[(Moment, View)]) {
        self.intervals(truth, view);
        let told: Vec<Poll> =
            view.iter().map(|(at, view)| Poll { sent: *at, received: *at, view: *view }).collect();
        self.transitions(truth, &told);
        self.end(truth, at(view, self.window.to));
    }

    /// As a view, but that what was right at any moment between question and answer is right.
    fn judge_polls(&mut self, truth: &Steps<Answers>, polls: &[Poll]) {
        let Window { from, to, .. } = self.window;
        let mut before = from;
        let mut blind = Duration::ZERO;
        for poll in polls.iter().filter(|poll| poll.received > from && poll.received <= to) {
            match poll.view {
                View::Known { status, stale: false } => self.answered(truth, poll, status),
                View::Unknown | View::Known { stale: true, .. } => blind += poll.received - before,
            }
            before = poll.received;
        }
        self.verdict.unpolled = self.verdict.unpolled.max(blind);
        self.transitions(truth, polls);
        let last = polls.iter().rfind(|poll| poll.received <= to && poll.received + LAST_POLL > to);
        self.end(truth, last.map(|poll| poll.view));
    }

    /// An answer may be wrong for as long ago as it was right.
    fn answered(&mut self, truth: &Steps<Answers>, poll: &Poll, status: Status) {
        let meanwhile = truth.iter().filter(|(at, _)| *at > poll.sent && *at <= poll.received);
        let Some(what) = at(truth, poll.sent).and_then(|answers| error(answers, status)) else { return };
        if meanwhile.into_iter().any(|(_, answers)| answers.has(status)) {
            return;
        }
        let right = truth.iter().rposition(|(at, answers)| *at <= poll.sent && answers.has(status));
        let since = right.and_then(|index| truth.get(index + 1)).map_or(Moment::ZERO, |(ended, _)| *ended);
        self.close(Some((self.known_late(poll, status).max(since), what)), poll.sent);
    }

    /// Since when at the latest some device of several must have been known late for this answer.
    fn known_late(&self, poll: &Poll, status: Status) -> Moment {
        let lates = (0..).map(|step| STEP * step).take_while(|late| *late < poll.sent);
        let known =
            |late: &Moment| self.journal.mixed(self.user, poll.sent - *late, poll.received).has(status);
        lates.take(MOST_STEPS).find(known).map_or(Moment::ZERO, |late| poll.sent - late)
    }

    fn transitions(&mut self, truth: &Steps<Answers>, told: &[Poll]) {
        let mixed = |from, to| self.journal.mixed(self.user, from, to);
        for at in unexplained(truth, told, self.window, mixed) {
            self.verdict.unexplained += 1;
            self.note(at, Duration::ZERO, What::Unexplained);
        }
    }

    fn end(&mut self, truth: &Steps<Answers>, view: Option<View>) {
        let to = self.window.to;
        if !at(truth, to).is_some_and(|answers| is_right(answers, view)) {
            self.verdict.wrong_at_end += 1;
            self.note(to, Duration::ZERO, What::WrongAtEnd);
        }
    }

    fn note(&mut self, at: Moment, took: Duration, what: What) {
        self.verdict.faults.push(Fault { watcher: self.watcher, user: self.user, at, took, what });
    }

    /// Wrong intervals, and how much was unknown or stale.
    fn intervals(&mut self, truth: &Steps<Answers>, view: &[(Moment, View)]) {
        let Window { from, to, .. } = self.window;
        let inner = truth.iter().map(|(at, _)| *at).chain(view.iter().map(|(at, _)| *at));
        let mut edges: Vec<Moment> = inner.filter(|at| *at > from && *at < to).collect();
        edges.extend([from, to]);
        edges.sort_unstable();
        edges.dedup();
        let (mut unknown, mut stale) = (Duration::ZERO, Duration::ZERO);
        let mut wrong: Option<(Moment, What)> = None;
        for edge in edges.windows(2) {
            let (from, to) = (edge[0], edge[1]);
            let kind = match at(view, from) {
                None | Some(View::Unknown) => {
                    unknown += to - from;
                    None
                }
                Some(View::Known { stale: true, .. }) => {
                    stale += to - from;
                    None
                }
                Some(View::Known { status, stale: false }) => {
                    at(truth, from).and_then(|answers| error(answers, status))
                }
            };
            if wrong.map(|(_, what)| what) != kind {
                self.close(wrong.take(), from);
                wrong = kind.map(|what| (from, what));
            }
        }
        self.close(wrong, to);
        self.verdict.unknown = self.verdict.unknown.max(unknown);
        self.verdict.stale = self.verdict.stale.max(stale);
    }

    fn close(&mut self, wrong: Option<(Moment, What)>, end: Moment) {
        let Some((since, what)) = wrong else { return };
        let took = end - since;
        let longest = match what {
            What::FalseOnline => &mut self.verdict.false_online,
            What::FalseOffline => &mut self.verdict.false_offline,
            What::WrongStatus | What::Unexplained | What::WrongAtEnd => &mut self.verdict.wrong_status,
        };
        *longest = (*longest).max(took);
        self.note(since, took, what);
    }
}

/// What is wrong with a status that is shown.
fn error(answers: Answers, shown: Status) -> Option<What> {
    if answers.has(shown) {
        None
    } else if shown == Status::Offline {
        Some(What::FalseOffline)
    } else if answers == Answers::be(&[Status::Offline]) {
        Some(What::FalseOnline)
    } else {
        Some(What::WrongStatus)
    }
}

/// When the view changed although nothing that was true lately, and in this order, explains it; nor, of a user with
/// several devices, that they are known late by different ways.
fn unexplained(
    truth: &Steps<Answers>,
    told: &[Poll],
    window: Window,
    mixed: impl Fn(Moment, Moment) -> Answers,
) -> Vec<Moment> {
    let mut known = None;
    let mut earliest = 0;
    let mut found = Vec::new();
    for Poll { sent, received, view } in told {
        let View::Known { status, .. } = view else { continue };
        if known.replace(*status) == Some(*status) || *received > window.to {
            continue;
        }
        let explains = |(index, (began, answers)): &(usize, &(Moment, Answers))| {
            let ended = truth.get(index + 1).map_or(Moment::MAX, |(next, _)| *next);
            answers.has(*status) && *began <= *received && ended.saturating_add(window.late) >= *sent
        };
        match truth.iter().enumerate().skip(earliest).find(explains) {
            Some((index, _)) => earliest = index,
            None if mixed(sent.saturating_sub(window.unheard), *received).has(*status) => {}
            None if *received > window.from => found.push(*received),
            None => {}
        }
    }
    found
}

/// Wrong intervals by the part of the scenario that they are in; one that touches the fault is the fault's.
fn phases(faults: &[Fault], window: Window) -> [Phase; 3] {
    let over = window.healed + window.wrong;
    let part = |fault: &Fault| match fault.at {
        _ if fault.at + fault.took <= window.injected => 0,
        at if at >= over => 2,
        _ => 1,
    };
    let intervals = faults.iter().filter(|fault| !fault.took.is_zero());
    let mut took = [Vec::new(), Vec::new(), Vec::new()];
    for fault in intervals {
        took[part(fault)].push(fault.took);
    }
    let bounds = [window.calm, window.wrong, window.calm];
    std::array::from_fn(|index| phase(&mut took[index], bounds[index]))
}

fn phase(took: &mut [Duration], bound: Duration) -> Phase {
    took.sort_unstable();
    let millis =
        |took: Option<&Duration>| took.map_or(0, |took| u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
    Phase {
        count: took.len(),
        over_bound: took.iter().filter(|took| **took > bound).count(),
        p99_ms: millis(took.get((took.len() * 99).div_ceil(100).saturating_sub(1))),
        max_ms: millis(took.last()),
    }
}
