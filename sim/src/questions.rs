//! A backend that asks over REST, in some worlds: one gateway in turn, about everybody.

use std::collections::BTreeMap;

use herenow_gateway_core as gateway;
use herenow_gateway_core::{Grants, Ticket, Viewer};
use herenow_protocol::{Presence, Status};

use crate::client::{Client, Link};
use crate::oracle::Oracle;
use crate::process::{Work, user_id};
use crate::world::{Ghosts, World};

/// One world of so many has such a backend.
const ONE_OF: u64 = 8;
/// How long after somebody took its leave every owner must know of it, or doubt what it has, when gateways and the ways to
/// them have been well for as long.
const KNOWN_AFTER_MS: u64 = 6_000;

/// How people last left.
#[derive(Debug, Default)]
pub(crate) struct Leaves {
    /// In order.
    left: BTreeMap<usize, u64>,
    /// In any other way: until when that may keep them alive.
    haunted: BTreeMap<usize, u64>,
    /// When messages were last kept from coming as they should.
    rough: u64,
}

impl Leaves {
    pub(crate) fn in_order(&mut self, user: usize, at: u64) {
        self.left.insert(user, at);
    }

    pub(crate) fn haunts(&mut self, user: usize, until: u64) {
        let last = self.haunted.entry(user).or_default();
        *last = until.max(*last);
    }

    /// A device closes a connection: after a leave of this moment there is nothing left of it.
    pub(crate) fn haunts_unless_left(&mut self, user: usize, now: u64, until: u64) {
        if self.left.get(&user) != Some(&now) {
            self.haunts(user, until);
        }
    }

    pub(crate) fn rough(&mut self, until: u64) {
        self.rough = self.rough.max(until);
    }

    /// When a user took its leave, if nothing was left then of sessions that ended otherwise, and messages came as they
    /// should.
    fn plainly(&self, user: usize) -> Option<u64> {
        let at = *self.left.get(&user)?;
        let plain = self.haunted.get(&user).is_none_or(|until| *until < at);
        (plain && self.rough + KNOWN_AFTER_MS < at).then_some(at)
    }
}

impl World {
    const fn has_questions(&self) -> bool {
        // Chosen so that interest by user (`interest_by_user_from`) is as it is in other worlds.
        self.seed / 4 % ONE_OF == ONE_OF - 1
    }

    pub(crate) fn ask_over_rest(&mut self) {
        if !self.has_questions() {
            return;
        }
        let index = usize::try_from(self.backend_ticks).unwrap_or_default() % self.gateways.len();
        let users = (0..self.profile.users).map(user_id).collect();
        let viewer = Viewer { user: user_id(self.profile.users), grants: Grants::Everybody };
        let query = gateway::Input::Query { ticket: Ticket(self.backend_ticks), viewer, users };
        self.arrive(crate::net::Node::Gateway(index), self.gateways[index].life, Work::Client(query));
    }

    pub(crate) fn answered_over_rest(&mut self, gateway: usize, users: &[Presence]) {
        for (user, presence) in users.iter().enumerate() {
            self.note(|| format!("a backend is answered by g{gateway} {presence:?}"));
            self.oracle.replied(gateway, user, presence, &self.clients, &self.ghosts, self.now);
        }
    }
}

impl Oracle {
    /// I9: what a backend is told as certain is so, or its owner said so a moment ago; and who took its leave long since
    /// is not told as there, whatever happened to its owner.
    fn replied(
        &mut self,
        gateway: usize,
        user: usize,
        told: &Presence,
        clients: &[Client],
        ghosts: &Ghosts,
        now: u64,
    ) {
        let certain = told.as_of.is_none() && !matches!(told.status, Status::Unknown | Status::Offline);
        if certain && !self.is_certain(gateway, user, told, now) {
            self.fail("I9", now, format!("a backend was told by g{gateway}, as certain, {told:?}"));
            return;
        }
        self.told_of_leaver(None, gateway, user, told, (clients, ghosts), now);
    }

    /// I9: who took its leave long since is told to nobody, `watcher` or a backend, as there for certain.
    pub(crate) fn told_of_leaver(
        &mut self,
        watcher: Option<usize>,
        gateway: usize,
        user: usize,
        told: &Presence,
        (clients, ghosts): (&[Client], &Ghosts),
        now: u64,
    ) {
        if told.as_of.is_some() || matches!(told.status, Status::Unknown | Status::Offline) {
            return;
        }
        if let Some(left) = self.left_for_sure(user, clients, ghosts, now) {
            let whom = watcher.map_or_else(|| "a backend".to_owned(), |index| format!("client {index}"));
            let what = format!("{whom} was told by g{gateway}, as certain, {told:?}, who left at {left}");
            self.fail("I9", now, what);
        }
    }

    /// Of whom backends claimed something nobody can say so: a claim of a user without devices makes a virtual session.
    fn left_for_sure(&self, user: usize, clients: &[Client], ghosts: &Ghosts, now: u64) -> Option<u64> {
        let left = self.leaves.plainly(user).filter(|left| left + KNOWN_AFTER_MS < now)?;
        let here = clients.iter().any(|client| client.user == user && client.link != Link::Away);
        let haunted = ghosts.values().any(|(of, _)| *of == user);
        let virtually = self.ledger.concerns(user);
        (!here && !haunted && !virtually && self.are_calm_since(left)).then_some(left)
    }
}
