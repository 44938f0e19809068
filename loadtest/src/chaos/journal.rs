//! What was true of every user and what every watcher was shown, on one clock.

use std::time::Duration;

use super::wire::{Record, Status, Version};

/// Since the start of the scenario.
pub(super) type Moment = Duration;

/// What is true of a user.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Truth {
    On,
    Off,
    /// Lost against its will, or between the attempt to connect and the welcome: nobody is blamed for either answer,
    /// until this moment; after it the user is off.
    Either {
        until: Moment,
    },
}

/// What a watcher shows of a user.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum View {
    /// Told so, or the watcher itself is cut off.
    Unknown,
    Known {
        on: bool,
        /// It came with `asOf`.
        stale: bool,
    },
}

/// A step function.
pub(super) type Steps<T> = Vec<(Moment, T)>;

/// A connection that ended although its client wanted it.
#[derive(Clone, Debug)]
pub(super) struct Forced {
    pub(super) at: Moment,
    pub(super) who: String,
    pub(super) gateway: usize,
    pub(super) why: String,
    /// The fault took the gateway away.
    pub(super) excused: bool,
}

/// The whole record of a scenario.
#[derive(Debug)]
pub(super) struct Journal {
    users: Vec<String>,
    truth: Vec<Steps<Truth>>,
    views: Vec<Vec<Steps<View>>>,
    held: Vec<Vec<Option<Version>>>,
    pub(super) forced: Vec<Forced>,
    /// Records with a version lower than the one held, which clients drop.
    pub(super) dropped: u64,
    /// Frames that break the protocol, and statuses that no user of the scenario ever has.
    pub(super) odd: Vec<String>,
}

impl Journal {
    pub(super) fn new(users: Vec<String>, watchers: usize) -> Self {
        let count = users.len();
        Self {
            truth: vec![vec![(Moment::ZERO, Truth::Off)]; count],
            views: vec![vec![vec![(Moment::ZERO, View::Unknown)]; count]; watchers],
            held: vec![vec![None; count]; watchers],
            users,
            forced: Vec::new(),
            dropped: 0,
            odd: Vec::new(),
        }
    }

    pub(super) fn set_truth(&mut self, user: usize, at: Moment, truth: Truth) {
        self.truth[user].push((at, truth));
    }

    /// Says of all that was noted since a moment that it was otherwise.
    pub(super) fn amend_truth(&mut self, user: usize, since: Moment, truth: Truth) {
        self.truth[user].retain(|(at, _)| *at < since);
        self.truth[user].push((since, truth));
    }

    /// A watcher was told of a user.
    pub(super) fn shown(&mut self, watcher: usize, at: Moment, record: &Record) {
        let name = record.user.as_str();
        let Some(user) = self.users.iter().position(|user| user == name) else { return };
        let held = &mut self.held[watcher][user];
        let lower = held.as_ref().is_some_and(|held| record.version < *held);
        let stale = record.stale;
        let view = match record.status {
            None => View::Unknown,
            Some(Status::Online) => View::Known { on: true, stale },
            Some(Status::Offline) => View::Known { on: false, stale },
            Some(Status::Idle | Status::Dnd) => {
                self.odd.push(format!("{at:.3?} watcher {watcher} {name}: {:?}", record.status));
                View::Known { on: true, stale }
            }
        };
        if lower && view != View::Unknown {
            self.dropped += 1;
            return;
        }
        if !lower {
            *held = Some(record.version.clone());
        }
        self.views[watcher][user].push((at, view));
    }

    /// A watcher lost its connection: it knows nothing, and comes back as a fresh client that holds nothing.
    pub(super) fn blinded(&mut self, watcher: usize, at: Moment) {
        self.held[watcher].fill(None);
        for steps in &mut self.views[watcher] {
            steps.push((at, View::Unknown));
        }
    }

    pub(super) fn pairs(&self) -> impl Iterator<Item = (usize, usize)> {
        let users = self.users.len();
        (0..self.views.len()).flat_map(move |watcher| (0..users).map(move |user| (watcher, user)))
    }

    pub(super) fn name(&self, user: usize) -> &str {
        &self.users[user]
    }

    /// With every `Either` that ran out followed by its `Off`.
    pub(super) fn truth(&self, user: usize) -> Steps<Truth> {
        let mut steps = Vec::new();
        let known = &self.truth[user];
        for (index, (at, truth)) in known.iter().enumerate() {
            steps.push((*at, *truth));
            let next = known.get(index + 1).map_or(Moment::MAX, |(next, _)| *next);
            if let Truth::Either { until } = truth
                && *until < next
            {
                steps.push((*until, Truth::Off));
            }
        }
        steps
    }

    pub(super) fn view(&self, watcher: usize, user: usize) -> &[(Moment, View)] {
        &self.views[watcher][user]
    }

    /// Whether every watcher shows these users as they are now, and as fresh.
    pub(super) fn right(&self, users: impl Iterator<Item = usize> + Clone, now: Moment) -> bool {
        users.clone().all(|user| {
            let truth = at(&self.truth(user), now);
            (0..self.views.len()).all(|watcher| is_right(truth, at(self.view(watcher, user), now)))
        })
    }
}

/// The value of a step function that began at the first step.
pub(super) fn at<T: Copy>(steps: &[(Moment, T)], moment: Moment) -> Option<T> {
    steps.iter().rev().find(|(at, _)| *at <= moment).map(|(_, value)| *value)
}

pub(super) fn is_right(truth: Option<Truth>, view: Option<View>) -> bool {
    match (truth, view) {
        (Some(Truth::On), Some(View::Known { on, stale })) => on && !stale,
        (Some(Truth::Off), Some(View::Known { on, stale })) => !on && !stale,
        (Some(Truth::Either { .. }), Some(View::Known { stale, .. })) => !stale,
        _ => false,
    }
}
