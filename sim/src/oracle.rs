//! Who is really there, and whether watchers were told so.
//!
//! The oracle sees what clients do and what they are shown, never what cores think.

use std::collections::{BTreeMap, BTreeSet};

use herenow_protocol::message::{CoordinatorBeat, Delta, ToGateway, Up};
use herenow_protocol::{Activity, CoordinatorId, Epoch, Incarnation, Partition, Presence, Status, Version};

use crate::client::{Client, Link};
use crate::ledger::Ledger;
use crate::questions::Leaves;
use crate::timeline::Timeline;
use crate::world::Ghosts;

/// An invariant that did not hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// Which: `I1` to `I6`, `I9` or `I10`; `docs/ARCHITECTURE.md` says how the others are held.
    pub invariant: &'static str,
    /// When, in virtual milliseconds.
    pub at: u64,
    /// What was seen.
    pub what: String,
}

/// How long a session must have been open, and its gateway without a fault, before it must be seen.
const SEEN_AFTER_MS: u64 = 3_000;
/// How long after a gateway's last fault its sessions may still be mistaken.
const GATEWAY_CALM_MS: u64 = 6_000;
/// How long a watcher must have been connected, to a gateway that runs, before its screen is looked at.
const STEADY_MS: u64 = 3_000;

/// How long a gateway may take to tell those who were told something for certain that it is certain no longer.
const TELL_MS: u64 = 600;
/// How long an SDK may show what it was told by a session that is gone: `fresh_for`, by a slow clock.
const DECAY_MS: u64 = 21_600;

/// The judge of a run.
#[derive(Debug, Default)]
pub struct Oracle {
    timeline: Timeline,
    /// What was claimed.
    pub(crate) ledger: Ledger,
    /// Until when a gateway stands still.
    still: BTreeMap<usize, u64>,
    /// When something last happened to a gateway that excuses mistakes about its sessions.
    disturbed: BTreeMap<usize, u64>,
    /// Who published in an epoch: which coordinator, in which life.
    publishers: BTreeMap<(Partition, Epoch), (usize, u64)>,
    /// When, and at which gateway, a user last lost a session in a way that gives it grace.
    graced: BTreeMap<usize, (u64, usize)>,
    /// Gateways that left in order: only owners know whom they sent elsewhere.
    left: BTreeSet<usize>,
    /// How people left.
    pub(crate) leaves: Leaves,
    /// What did not hold.
    pub violations: Vec<Violation>,
    /// Transitions that watchers saw.
    pub seen: u64,
}

impl Oracle {
    pub(crate) fn new(timeline: Timeline) -> Self {
        Self { timeline, ..Self::default() }
    }

    pub(crate) fn fail(&mut self, invariant: &'static str, at: u64, what: String) {
        if self.violations.len() < 20 {
            self.violations.push(Violation { invariant, at, what });
        }
    }

    /// Something happened to a gateway.
    pub(crate) fn disturb(&mut self, gateway: usize, at: u64) {
        let last = self.disturbed.entry(gateway).or_default();
        *last = (*last).max(at);
        // Only the gateway and the owner know of a session in grace: with both gone, so is the grace.
        self.graced.retain(|_, (_, holder)| *holder != gateway);
    }

    /// A gateway stands still.
    pub(crate) fn stands_still(&mut self, gateway: usize, until: u64) {
        self.still.insert(gateway, until);
    }

    /// A coordinator is dead.
    pub(crate) fn coordinator_gone(&mut self, id: &CoordinatorId, incarnation: Incarnation) {
        self.timeline.coordinator_gone(id, incarnation);
    }

    /// A gateway is dead.
    pub(crate) fn gone(&mut self, gateway: usize) {
        self.timeline.gateway_gone(gateway);
    }

    /// People did something.
    pub(crate) fn stirred(&mut self, clients: &[Client], ghosts: &Ghosts, now: u64) {
        self.timeline.stirred(clients, ghosts, now);
    }

    /// A coordinator says what it owns.
    pub(crate) fn owns(&mut self, beat: &CoordinatorBeat, silent: &[CoordinatorId], now: u64) {
        self.timeline.lists(beat, silent, now);
    }

    /// Whether every partition has an owner that has settled.
    pub(crate) fn is_settled(&self) -> bool {
        self.timeline.is_settled()
    }

    /// A user's connection broke, which was open since `since`; it is given grace. One that was too short to be
    /// seen by everybody need not be seen in its grace.
    pub(crate) fn grace(&mut self, user: usize, gateway: usize, since: u64, at: u64) {
        if self.is_calm(gateway, at) && since + SEEN_AFTER_MS < at {
            self.graced.insert(user, (at, gateway));
        }
    }

    /// A user took its leave, or went silent: no grace for it.
    pub(crate) fn no_grace(&mut self, user: usize) {
        self.graced.remove(&user);
    }

    /// A gateway has left in order, or is back.
    pub(crate) fn left(&mut self, gateway: usize, gone: bool) {
        if gone {
            self.left.insert(gateway);
        } else {
            self.left.remove(&gateway);
        }
    }

    /// Owners may not know any longer what only owners knew.
    pub(crate) fn owners_at_fault(&mut self) {
        let left = &self.left;
        self.graced.retain(|_, (_, holder)| !left.contains(holder));
    }

    fn is_calm(&self, gateway: usize, now: u64) -> bool {
        self.disturbed.get(&gateway).is_none_or(|at| at + GATEWAY_CALM_MS < now)
    }

    /// Whether nothing has happened to any gateway since a moment, nor shortly before it.
    pub(crate) fn are_calm_since(&self, at: u64) -> bool {
        self.disturbed.keys().all(|gateway| self.is_calm(*gateway, at))
    }

    pub(crate) fn is_certain(&self, gateway: usize, user: usize, told: &Presence, now: u64) -> bool {
        self.timeline.may_be_certain(gateway, user, told, 0, now)
    }

    /// I2: within an epoch of a partition one life of one coordinator publishes. What nobody can hear is not its word.
    pub(crate) fn published(&mut self, delta: &Delta, coordinator: usize, life: u64, heard: bool, now: u64) {
        if heard {
            self.timeline.said(delta.epoch, &delta.entries, now);
        }
        let key = (delta.partition, delta.epoch);
        let first = *self.publishers.entry(key).or_insert((coordinator, life));
        if first != (coordinator, life) {
            self.fail("I2", now, format!("{key:?} published by {first:?} and {:?}", (coordinator, life)));
        }
    }

    /// An owner answered a gateway.
    pub(crate) fn answered(&mut self, message: &ToGateway, now: u64) {
        match message {
            ToGateway::Snapshot(snapshot) => {
                self.timeline.said(snapshot.epoch, &snapshot.entries, now);
                if snapshot.settled {
                    self.timeline.settles(snapshot.partition, snapshot.epoch, now);
                }
            }
            ToGateway::ClaimDone(done) => {
                if let Ok(claimed) = &done.outcome {
                    self.timeline.said(done.epoch, std::slice::from_ref(&claimed.entry), now);
                }
            }
            ToGateway::Delta(delta) => self.timeline.said(delta.epoch, &delta.entries, now),
            ToGateway::Resync { .. }
            | ToGateway::Reinterest { .. }
            | ToGateway::Advanced(_)
            | ToGateway::Differs { .. }
            | ToGateway::Explained { .. } => {}
        }
    }

    /// I10: no message grows beyond its limit.
    pub(crate) fn reported(&mut self, up: &Up, now: u64) {
        if let Err(error) = herenow_protocol::codec::encode(up) {
            self.fail("I10", now, error.to_string());
        }
    }

    /// I1: a gateway never goes back within a session, whatever it says of freshness.
    pub(crate) fn received(&mut self, watcher: usize, last: Option<Version>, new: &Presence, now: u64) {
        if let Some(last) = last.filter(|last| new.version < *last && new.status != Status::Unknown) {
            let what = format!("client {watcher} was sent {} of {} after {last}", new.version, new.user_id);
            self.fail("I1", now, what);
        }
    }

    /// I4, I8: an application was told of a change.
    pub(crate) fn shown(
        &mut self,
        watcher: usize,
        clients: &[Client],
        user: usize,
        new: &Presence,
        now: u64,
    ) {
        let Some(old) = clients.get(watcher).and_then(|client| client.shown.get(&user)) else { return };
        if new.status == old.status {
            return;
        }
        self.seen += 1;
        let was_here = matches!(old.status, Status::Online | Status::Idle);
        let certain = new.as_of.is_none() && !self.ledger.concerns(user);
        if was_here && certain && new.status == Status::Offline && self.must_be_seen(clients, user, now) {
            self.fail("I4", now, format!("client {watcher} was told that user {user} is offline: {new:?}"));
        }
        if certain && new.status == Status::Idle && self.must_be_active(clients, user, now) {
            self.fail("I8", now, format!("client {watcher} was told that user {user} is idle: {new:?}"));
        }
    }

    /// Whether somebody who says that the user is offline lies.
    fn must_be_seen(&self, clients: &[Client], user: usize, now: u64) -> bool {
        let here = clients.iter().any(|client| client.user == user && self.is_steady(client, now));
        let graced = self.graced.get(&user).is_some_and(|(at, _)| now < at + 9_000);
        here || graced
    }

    /// Whether somebody who says that the user is idle lies.
    fn must_be_active(&self, clients: &[Client], user: usize, now: u64) -> bool {
        let mut active = clients.iter().filter(|c| c.user == user && c.activity == Activity::Active);
        active.any(|client| client.activity_since + SEEN_AFTER_MS < now && self.is_steady(client, now))
    }

    /// Whether a device has been connected long enough, to a gateway that has had no fault, for its owner to know.
    fn is_steady(&self, client: &Client, now: u64) -> bool {
        match client.link {
            Link::Open { gateway, since, .. } => {
                !client.mute && since + SEEN_AFTER_MS < now && self.is_calm(gateway, now)
            }
            Link::Away => false,
        }
    }

    /// What the cores count as broken themselves, in production too.
    pub(crate) fn counted(&mut self, invariant: &'static str, times: u64, what: &str, now: u64) {
        if times > 0 {
            self.fail(invariant, now, format!("{times} times {what}"));
        }
    }

    /// I9: what a gateway sends as certain is so, or its owner said so a moment ago.
    pub(crate) fn served(&mut self, watcher: usize, gateway: usize, user: usize, new: &Presence, now: u64) {
        let certain = new.as_of.is_none() && new.status != Status::Unknown && !new.invisible;
        if certain && !self.timeline.may_be_certain(gateway, user, new, 0, now) {
            self.fail("I9", now, format!("client {watcher} was sent by g{gateway}, as certain, {new:?}"));
        }
    }

    /// I9: nor does a screen go on to show as certain what is so no longer. What an earlier session told, and the present
    /// one has not, is shown until the SDK decays it. That is so also if the present one sent the older value that looks
    /// the same, from before: it confirms nothing, since the newer one is no longer than its decay behind.
    pub(crate) fn keeps_up(&mut self, watcher: usize, clients: &[Client], now: u64) {
        let Some(client) = clients.get(watcher).filter(|client| !client.mute) else { return };
        let Link::Open { gateway, since, .. } = client.link else { return };
        let still = self.still.get(&gateway).is_some_and(|until| now < until + STEADY_MS);
        if since + STEADY_MS > now || still {
            return;
        }
        for (user, shown) in &client.shown {
            let certain = shown.as_of.is_none() && shown.status != Status::Unknown && !shown.invisible;
            let confirmed = client.sent.get(&shown.user_id).is_some_and(|sent| *sent >= client.held(shown));
            let age = if confirmed { TELL_MS } else { DECAY_MS };
            if certain && !self.timeline.may_be_certain(gateway, *user, shown, age, now) {
                self.fail(
                    "I9",
                    now,
                    format!("client {watcher} at g{gateway} still shows as certain {shown:?}"),
                );
                return;
            }
        }
    }

    /// I5: what is claimed when nothing is wrong is done.
    pub(crate) fn undone(&mut self, claims: usize, now: u64) {
        if claims > 0 {
            self.fail("I5", now, format!("{claims} claims were not done"));
        }
    }

    /// I4: an owner that says it has settled left somebody out who was there as far as a backend knew. What it tells one
    /// by one is judged by what watchers see of it: a backend is told all that was, with its time, however late.
    pub(crate) fn left_out(&mut self, clients: &[Client], user: usize, now: u64) {
        if !self.ledger.concerns(user) && self.must_be_seen(clients, user, now) {
            self.fail("I4", now, format!("a backend is told that there is no user {user}"));
        }
    }

    /// I3, I5: at the end a backend's copy has the truth.
    pub(crate) fn copied(
        &mut self,
        clients: &[Client],
        user: usize,
        shown: (Status, Option<&str>),
        now: u64,
    ) {
        let truth = truth(clients, user);
        if !self.ledger.explains(user, truth, false, shown, now) {
            let invariant = if truth == Status::Offline { "I3" } else { "I5" };
            self.fail(invariant, now, format!("a backend has user {user} as {shown:?}, it is {truth:?}"));
        }
    }

    /// I3, I5: at the end every screen shows the truth.
    pub(crate) fn judge(&mut self, clients: &[Client], now: u64) {
        for (index, watcher) in clients.iter().enumerate() {
            if watcher.link == Link::Away || watcher.mute {
                continue;
            }
            for user in &watcher.watches {
                let truth = truth(clients, *user);
                let shown = watcher.shown.get(user);
                let own = watcher.user == *user;
                let right = shown.is_some_and(|p| {
                    p.as_of.is_none()
                        && self.ledger.explains(*user, truth, own, (p.status, p.text.as_deref()), now)
                });
                if !right {
                    let invariant = if truth == Status::Offline { "I3" } else { "I5" };
                    let view = shown.map(|p| (p.status, &p.text, p.version, p.as_of));
                    let what = format!(
                        "client {index} ({:?}) shows user {user} as {view:?}, it is {truth:?}",
                        watcher.link
                    );
                    self.fail(invariant, now, what);
                }
            }
        }
    }
}

/// What a user's devices make of it.
pub(crate) fn truth(clients: &[Client], user: usize) -> Status {
    let live = clients.iter().filter(|c| c.user == user && c.link != Link::Away && !c.mute);
    let mut status = Status::Offline;
    for client in live {
        if client.activity == Activity::Active {
            return Status::Online;
        }
        status = Status::Idle;
    }
    status
}
