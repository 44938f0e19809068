//! The referee: compares what watchers were shown with what was true. Pure.

use std::time::Duration;

use super::journal::{Journal, Moment, Steps, Truth, View, at, is_right};

/// What is judged, and how late a truth may still be told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    pub(super) from: Moment,
    pub(super) to: Moment,
    pub(super) late: Duration,
}

/// Somebody was shown wrongly.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    pub(super) watcher: usize,
    pub(super) user: usize,
    pub(super) at: Moment,
    pub(super) took: Duration,
    pub(super) what: &'static str,
}

/// What came out, over all pairs of watcher and user.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    /// The longest of each.
    pub(super) false_online: Duration,
    pub(super) false_offline: Duration,
    /// Transitions that no truth explains.
    pub(super) unexplained: usize,
    /// The most time of one pair that was unknown, and that was shown with `asOf`.
    pub(super) unknown: Duration,
    pub(super) stale: Duration,
    /// Pairs that were wrong, unknown or stale when all was over.
    pub(super) wrong_at_end: usize,
    /// Changes of the truth within the window: without any, the judge saw nothing.
    pub(super) changes: usize,
    /// All of it one by one.
    pub(super) faults: Vec<Fault>,
}

pub(super) fn judge(journal: &Journal, window: Window) -> Verdict {
    let mut verdict = Verdict::default();
    for (watcher, user) in journal.pairs() {
        let truth = journal.truth(user);
        let note = |at, took, what| Fault { watcher, user, at, took, what };
        intervals(&mut verdict, &truth, journal.view(watcher, user), window, note);
        for at in unexplained(&truth, journal.view(watcher, user), window) {
            verdict.unexplained += 1;
            verdict.faults.push(note(at, Duration::ZERO, "unexplained"));
        }
        if !is_right(at(&truth, window.to), at(journal.view(watcher, user), window.to)) {
            verdict.wrong_at_end += 1;
            verdict.faults.push(note(window.to, Duration::ZERO, "wrong at the end"));
        }
        if watcher == 0 {
            let within = |(at, truth): &&(Moment, Truth)| {
                *at > window.from && *at <= window.to && !matches!(truth, Truth::Either { .. })
            };
            verdict.changes += truth.iter().filter(within).count();
        }
    }
    verdict.faults.sort_by_key(|fault| std::cmp::Reverse(fault.took));
    verdict
}

/// Wrong intervals, and how much was unknown or stale.
fn intervals(
    verdict: &mut Verdict,
    truth: &[(Moment, Truth)],
    view: &[(Moment, View)],
    window: Window,
    note: impl Fn(Moment, Duration, &'static str) -> Fault,
) {
    let inner = truth.iter().map(|(at, _)| *at).chain(view.iter().map(|(at, _)| *at));
    let mut edges: Vec<Moment> = inner.filter(|at| *at > window.from && *at < window.to).collect();
    edges.extend([window.from, window.to]);
    edges.sort_unstable();
    edges.dedup();
    let (mut unknown, mut stale) = (Duration::ZERO, Duration::ZERO);
    let mut wrong: Option<(Moment, bool)> = None;
    for pair in edges.windows(2) {
        let (from, to) = (pair[0], pair[1]);
        let kind = match (at(truth, from), at(view, from)) {
            (_, None | Some(View::Unknown)) => {
                unknown += to - from;
                None
            }
            (_, Some(View::Known { stale: true, .. })) => {
                stale += to - from;
                None
            }
            (Some(Truth::On), Some(View::Known { on: false, .. })) => Some(false),
            (Some(Truth::Off), Some(View::Known { on: true, .. })) => Some(true),
            _ => None,
        };
        if wrong.map(|(_, online)| online) != kind {
            close(verdict, wrong.take(), from, &note);
            wrong = kind.map(|online| (from, online));
        }
    }
    close(verdict, wrong, window.to, &note);
    verdict.unknown = verdict.unknown.max(unknown);
    verdict.stale = verdict.stale.max(stale);
}

fn close(
    verdict: &mut Verdict,
    wrong: Option<(Moment, bool)>,
    end: Moment,
    note: impl Fn(Moment, Duration, &'static str) -> Fault,
) {
    let Some((since, online)) = wrong else { return };
    let took = end - since;
    if online {
        verdict.false_online = verdict.false_online.max(took);
        verdict.faults.push(note(since, took, "false-online"));
    } else {
        verdict.false_offline = verdict.false_offline.max(took);
        verdict.faults.push(note(since, took, "false-offline"));
    }
}

/// When the view changed although nothing that was true lately, and in this order, explains it.
fn unexplained(truth: &Steps<Truth>, view: &[(Moment, View)], window: Window) -> Vec<Moment> {
    let mut known = None;
    let mut earliest = 0;
    let mut found = Vec::new();
    for (seen, view) in view {
        let View::Known { on, .. } = view else { continue };
        if known.replace(*on) == Some(*on) || *seen > window.to {
            continue;
        }
        let explains = |(index, (began, value)): &(usize, &(Moment, Truth))| {
            let ended = truth.get(index + 1).map_or(Moment::MAX, |(next, _)| *next);
            let same = match value {
                Truth::On => *on,
                Truth::Off => !*on,
                Truth::Either { .. } => true,
            };
            same && *began <= *seen && ended.saturating_add(window.late) >= *seen
        };
        match truth.iter().enumerate().skip(earliest).find(explains) {
            Some((index, _)) => earliest = index,
            None if *seen > window.from => found.push(*seen),
            None => {}
        }
    }
    found
}
