//! What all actors and watchers of a scenario share.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::time::Duration;

use tokio::time::Instant;

use super::journal::{Forced, Journal, Moment, Truth};
use super::timers::Timers;
use crate::clock;
use crate::token::Issuer;

/// A user of the scenario.
#[derive(Clone, Debug)]
pub(super) struct User {
    pub(super) name: String,
    /// Where it connects first.
    pub(super) home: usize,
    pub(super) habit: Habit,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Habit {
    /// Stays.
    Steady,
    /// Comes and goes in order.
    Churner,
    /// Its session is in a process of its own.
    Apart,
}

/// The scenario as its people see it.
#[derive(Debug)]
pub(super) struct World {
    start: Instant,
    pub(super) timers: Timers,
    pub(super) gateways: Vec<String>,
    pub(super) issuer: Issuer,
    pub(super) users: Vec<User>,
    pub(super) journal: RefCell<Journal>,
    dice: RefCell<Dice>,
    /// Nobody comes or goes any more by itself.
    pub(super) ending: Cell<bool>,
    /// Gateways that a fault takes away: whoever loses a connection to them was not cut off by the service.
    pub(super) taken: RefCell<HashSet<usize>>,
    /// Who loses its connection now does not come back.
    pub(super) stay_away: Cell<bool>,
}

impl World {
    pub(super) fn new(
        gateways: Vec<String>,
        issuer: Issuer,
        users: Vec<User>,
        watchers: usize,
        seed: u64,
        timers: Timers,
    ) -> Self {
        let names = users.iter().map(|user| user.name.clone()).collect();
        Self {
            start: clock::now(),
            timers,
            gateways,
            issuer,
            users,
            journal: RefCell::new(Journal::new(names, watchers)),
            dice: RefCell::new(Dice(seed)),
            ending: Cell::new(false),
            taken: RefCell::default(),
            stay_away: Cell::new(false),
        }
    }

    pub(super) fn now(&self) -> Moment {
        clock::now() - self.start
    }

    pub(super) fn truth(&self, user: usize, at: Moment, truth: Truth) {
        self.journal.borrow_mut().set_truth(user, at, truth);
    }

    pub(super) fn forced(&self, who: &str, gateway: usize, why: String) {
        let excused = self.taken.borrow().contains(&gateway);
        let forced = Forced { at: self.now(), who: who.to_owned(), gateway, why, excused };
        self.journal.borrow_mut().forced.push(forced);
    }

    /// A duration between two, in milliseconds.
    pub(super) fn between(&self, least: u64, most: u64) -> Duration {
        Duration::from_millis(least + self.dice.borrow_mut().next() % (most - least).max(1))
    }

    /// Until when nobody is blamed for a session lost at this moment: its gateway may have to be given up first.
    pub(super) fn excuse(&self, at: Moment) -> Moment {
        at + self.timers.gateway_timeout + self.timers.grace
    }
}

/// Numbers that follow from the seed (SplitMix64).
#[derive(Debug)]
struct Dice(u64);

impl Dice {
    const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}
