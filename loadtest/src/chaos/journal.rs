//! What was true of every user and what every watcher was shown, on one clock.

use super::order::{Disorder, How, Order};
use super::truth::{Answers, Moment, Person, Steps, Truth, at};
use super::wire::{Record, Status};

/// What a watcher shows of a user.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum View {
    /// Told so, or the watcher itself is cut off.
    Unknown,
    Known {
        status: Status,
        /// It came with `asOf`.
        stale: bool,
    },
}

impl View {
    fn of(record: &Record) -> Self {
        record.status.map_or(Self::Unknown, |status| Self::Known { status, stale: record.stale })
    }
}

/// An answer to a poller about a user. Between polls nothing is known.
#[derive(Clone, Copy, Debug)]
pub(super) struct Poll {
    pub(super) sent: Moment,
    pub(super) received: Moment,
    pub(super) view: View,
}

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

/// Somebody was told of a user out of order.
#[derive(Clone, Copy, Debug)]
pub(super) struct OutOfOrder {
    pub(super) at: Moment,
    /// Pollers come after the watchers.
    pub(super) who: usize,
    pub(super) user: usize,
    pub(super) what: Disorder,
}

/// The whole record of a scenario.
#[derive(Debug)]
pub(super) struct Journal {
    users: Vec<String>,
    people: Vec<Person>,
    views: Vec<Vec<Steps<View>>>,
    order: Order,
    polls: Vec<Vec<Vec<Poll>>>,
    pub(super) forced: Vec<Forced>,
    /// What was told out of order.
    pub(super) disorder: Vec<OutOfOrder>,
    /// Records in answers that are older than what was held, which clients drop.
    pub(super) dropped: u64,
    /// Frames that break the protocol.
    pub(super) odd: Vec<String>,
}

impl Journal {
    /// Users, each with the number of its devices.
    pub(super) fn new(users: Vec<(String, usize)>, watchers: usize, pollers: usize) -> Self {
        let count = users.len();
        Self {
            people: users.iter().map(|(_, devices)| Person::new(*devices)).collect(),
            users: users.into_iter().map(|(name, _)| name).collect(),
            views: vec![vec![vec![(Moment::ZERO, View::Unknown)]; count]; watchers],
            order: Order::new(watchers + pollers, count),
            polls: vec![vec![Vec::new(); count]; pollers],
            forced: Vec::new(),
            disorder: Vec::new(),
            dropped: 0,
            odd: Vec::new(),
        }
    }

    pub(super) fn person(&mut self, user: usize) -> &mut Person {
        &mut self.people[user]
    }

    /// Of a user's first device.
    pub(super) fn set_truth(&mut self, user: usize, at: Moment, truth: Truth) {
        self.people[user].set(0, at, truth);
    }

    /// From a moment on claims may be forgotten: nobody keeps them when the owner of their user is lost.
    pub(super) fn may_forget_claims(&mut self, since: Moment) {
        self.people.iter_mut().for_each(|person| person.may_forget(since));
    }

    /// A watcher was told of a user.
    pub(super) fn shown(&mut self, watcher: usize, at: Moment, record: &Record, how: How) {
        let Some(user) = self.user(&record.user) else { return };
        let view = View::of(record);
        let late = self.order.is_late(watcher, user, record) && view != View::Unknown;
        self.check(watcher, user, at, record, how);
        if late {
            self.dropped += 1;
        } else {
            self.views[watcher][user].push((at, view));
        }
    }

    fn check(&mut self, who: usize, user: usize, at: Moment, record: &Record, how: How) {
        if let Some(what) = self.order.tell(who, user, record, how) {
            self.disorder.push(OutOfOrder { at, who, user, what });
        }
    }

    /// A poller got an answer.
    pub(super) fn polled(&mut self, poller: usize, sent: Moment, received: Moment, record: &Record) {
        let Some(user) = self.user(&record.user) else { return };
        self.check(self.views.len() + poller, user, received, record, How::Poll);
        self.polls[poller][user].push(Poll { sent, received, view: View::of(record) });
    }

    /// A poller got none, about these users.
    pub(super) fn unanswered(&mut self, poller: usize, sent: Moment, received: Moment, users: &[&str]) {
        for user in users.iter().filter_map(|user| self.user(user)).collect::<Vec<_>>() {
            self.polls[poller][user].push(Poll { sent, received, view: View::Unknown });
        }
    }

    fn user(&self, name: &str) -> Option<usize> {
        self.users.iter().position(|user| user == name)
    }

    /// A watcher lost its connection: it knows nothing, and comes back as a fresh client that holds nothing.
    pub(super) fn blinded(&mut self, watcher: usize, at: Moment) {
        self.order.forget(watcher);
        for steps in &mut self.views[watcher] {
            steps.push((at, View::Unknown));
        }
    }

    pub(super) const fn users(&self) -> usize {
        self.users.len()
    }

    pub(super) const fn watchers(&self) -> usize {
        self.views.len()
    }

    pub(super) const fn pollers(&self) -> usize {
        self.polls.len()
    }

    pub(super) fn polls(&self, poller: usize, user: usize) -> &[Poll] {
        &self.polls[poller][user]
    }

    pub(super) fn name(&self, user: usize) -> &str {
        &self.users[user]
    }

    /// What may be shown of a user.
    pub(super) fn truth(&self, user: usize) -> Steps<Answers> {
        self.people[user].answers()
    }

    /// Of a user with several devices, each known late by its own way.
    pub(super) fn mixed(&self, user: usize, from: Moment, to: Moment) -> Answers {
        self.people[user].mixed(from, to)
    }

    pub(super) fn truth_at(&self, user: usize, moment: Moment) -> Answers {
        self.people[user].answer(moment)
    }

    pub(super) fn view(&self, watcher: usize, user: usize) -> &[(Moment, View)] {
        &self.views[watcher][user]
    }

    /// Whether every watcher shows these users as they are now, and as fresh.
    pub(super) fn right(&self, mut users: impl Iterator<Item = usize>, now: Moment) -> bool {
        users.all(|user| {
            let truth = self.people[user].answer(now);
            self.views.iter().all(|views| is_right(truth, at(&views[user], now)))
        })
    }
}

pub(super) fn is_right(truth: Answers, view: Option<View>) -> bool {
    matches!(view, Some(View::Known { status, stale: false }) if truth.has(status))
}
