//! Who is really there, and whether watchers were told so.
//!
//! The oracle sees what clients do and what they are shown, never what cores think.

use std::collections::{BTreeMap, BTreeSet};

use herenow_protocol::message::{Delta, Up};
use herenow_protocol::{Activity, Epoch, Partition, Presence, Status, Version};

use crate::client::{Client, Link};

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
const GATEWAY_CALM_MS: u64 = 20_000;

/// How long somebody may be online and be shown otherwise, with nothing said of doubt.
const LATE_MS: u64 = 8_000;

/// The judge of a run.
#[derive(Debug, Default)]
pub struct Oracle {
    /// When something last happened to a gateway that excuses mistakes about its sessions.
    disturbed: BTreeMap<usize, u64>,
    /// Who published in an epoch: which coordinator, in which life.
    publishers: BTreeMap<(Partition, Epoch), (usize, u64)>,
    /// When, and at which gateway, a user last lost a session in a way that gives it grace.
    graced: BTreeMap<usize, (u64, usize)>,
    /// Gateways that left in order: only owners know whom they sent elsewhere.
    left: BTreeSet<usize>,
    /// What did not hold.
    pub violations: Vec<Violation>,
    /// Transitions that watchers saw.
    pub seen: u64,
}

impl Oracle {
    fn fail(&mut self, invariant: &'static str, at: u64, what: String) {
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

    /// I2: within an epoch of a partition one life of one coordinator publishes.
    pub(crate) fn published(&mut self, delta: &Delta, coordinator: usize, life: u64, now: u64) {
        let key = (delta.partition, delta.epoch);
        let first = *self.publishers.entry(key).or_insert((coordinator, life));
        if first != (coordinator, life) {
            self.fail("I2", now, format!("{key:?} published by {first:?} and {:?}", (coordinator, life)));
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

    /// I4: an application was told of a change.
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
        let for_certain = new.status == Status::Offline && new.as_of.is_none();
        if was_here && for_certain && self.must_be_seen(clients, user, now) {
            self.fail("I4", now, format!("client {watcher} was told that user {user} is offline: {new:?}"));
        }
    }

    /// Whether somebody who says that the user is offline lies.
    fn must_be_seen(&self, clients: &[Client], user: usize, now: u64) -> bool {
        let here = clients.iter().filter(|client| client.user == user).any(|client| match client.link {
            Link::Open { gateway, since, .. } => {
                !client.mute && since + SEEN_AFTER_MS < now && self.is_calm(gateway, now)
            }
            Link::Away => false,
        });
        let graced = self.graced.get(&user).is_some_and(|(at, _)| now < at + 9_000);
        here || graced
    }

    /// What the cores count as broken themselves, in production too.
    pub(crate) fn counted(&mut self, invariant: &'static str, times: u64, what: &str, now: u64) {
        if times > 0 {
            self.fail(invariant, now, format!("{times} times {what}"));
        }
    }

    /// I9: what is shown for certain is of late. Only who is here for certain is looked for: when one who goes is
    /// gone depends on how.
    pub(crate) fn keeps_up(&mut self, watcher: usize, clients: &[Client], now: u64) {
        let Some(client) = clients.get(watcher).filter(|client| self.is_steady(client, now)) else { return };
        let active = |c: &Client| c.activity == Activity::Active && c.activity_since + LATE_MS < now;
        for (user, shown) in &client.shown {
            let online = clients.iter().any(|c| c.user == *user && active(c) && self.is_steady(c, now));
            let otherwise = !matches!(shown.status, Status::Online | Status::Unknown);
            if online && otherwise && shown.as_of.is_none() && !is_at(clients, *user, client.link) {
                self.fail("I9", now, format!("client {watcher} still shows user {user} as {shown:?}"));
                return;
            }
        }
    }

    /// Whether a device has been connected long enough, to a gateway that has had no fault.
    fn is_steady(&self, client: &Client, now: u64) -> bool {
        match client.link {
            Link::Open { gateway, since, .. } => {
                !client.mute && since + LATE_MS < now && self.is_calm(gateway, now)
            }
            Link::Away => false,
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
                let right = shown.is_some_and(|p| p.status == truth && p.as_of.is_none());
                if !right {
                    let invariant = if truth == Status::Offline { "I3" } else { "I5" };
                    let view = shown.map(|p| (p.status, p.version, p.as_of));
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

/// Whether the user has a device at the same gateway as this one: a gateway takes its own sessions for fresh (R11).
fn is_at(clients: &[Client], user: usize, link: Link) -> bool {
    let gateway = |link: Link| match link {
        Link::Open { gateway, .. } => Some(gateway),
        Link::Away => None,
    };
    clients.iter().any(|client| client.user == user && gateway(client.link) == gateway(link))
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
