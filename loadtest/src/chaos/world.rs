//! What all actors and watchers of a scenario share.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::time::Duration;

use tokio::time::Instant;

use super::dice::Dice;
use super::faults::Excuse;
use super::journal::{Forced, Journal};
use super::line::Lines;
use super::plant::Plant;
use super::timers::Timers;
use super::truth::{Moment, Truth};
use crate::clock;
use crate::token::Issuer;

/// A user of the scenario.
#[derive(Clone, Debug)]
pub(super) struct User {
    pub(super) name: String,
    /// Where its first device connects first; the others at the gateways after it.
    pub(super) home: usize,
    pub(super) habit: Habit,
}

/// The devices of users who have several.
const SEVERAL: [&str; 3] = ["phone", "laptop", "tablet"];

impl User {
    pub(super) const fn devices(&self) -> &'static [&'static str] {
        match self.habit {
            Habit::Several => &SEVERAL,
            Habit::Steady | Habit::Churner | Habit::Claimer | Habit::Apart => &["one"],
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Habit {
    /// Stays.
    Steady,
    /// Comes and goes in order.
    Churner,
    /// The same with three devices at three gateways, which also go idle.
    Several,
    /// Comes and goes, and says that it is not to be disturbed or that it hides.
    Claimer,
    /// Its session is in a process of its own.
    Apart,
}

impl Habit {
    /// Of the user with this number: of ten 2 have several devices, 1 makes claims, 4 come and go, 3 stay.
    const fn of(number: usize) -> Self {
        match number % 10 {
            0 | 5 => Self::Several,
            3 => Self::Claimer,
            2 | 4 | 6 | 8 => Self::Churner,
            _ => Self::Steady,
        }
    }

    /// Whether it changes nothing by itself.
    pub(super) const fn is_steady(self) -> bool {
        matches!(self, Self::Steady | Self::Apart)
    }
}

/// So many users of whom some are apart, of which there are so many more, spread over the gateways.
pub(super) fn people(within: usize, apart: usize, gateways: usize) -> Vec<User> {
    let habit = |index| if index < within { Habit::of(index) } else { Habit::Apart };
    // Tens share a habit, so the home is not by the number alone.
    let home = |index: usize| (index + index / 10) % gateways;
    let user = |index| User { name: format!("u{index}"), home: home(index), habit: habit(index) };
    (0..within + apart).map(user).collect()
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
    seed: u64,
    dice: RefCell<Dice>,
    /// A mistake that the judge must find.
    pub(super) plant: Cell<Option<Plant>>,
    /// All was right once. Nobody claims anything before: owners that change while the cluster starts forget it.
    pub(super) begun: Cell<bool>,
    /// Nobody comes or goes any more by itself.
    pub(super) ending: Cell<bool>,
    /// Gateways that a fault takes away: whoever loses a connection to them was not cut off by the service.
    pub(super) taken: RefCell<HashSet<usize>>,
    /// Who loses its connection now does not come back.
    pub(super) stay_away: Cell<bool>,
    /// Of those whose own link is what fails.
    pub(super) lines: Lines,
}

impl World {
    pub(super) fn new(
        gateways: Vec<String>,
        issuer: Issuer,
        users: Vec<User>,
        [watchers, pollers]: [usize; 2],
        seed: u64,
        timers: Timers,
    ) -> Self {
        let names = users.iter().map(|user| (user.name.clone(), user.devices().len())).collect();
        Self {
            start: clock::now(),
            timers,
            gateways,
            issuer,
            users,
            journal: RefCell::new(Journal::new(names, watchers, pollers)),
            seed,
            dice: RefCell::new(Dice::new(seed)),
            plant: Cell::new(None),
            begun: Cell::new(false),
            ending: Cell::new(false),
            taken: RefCell::default(),
            stay_away: Cell::new(false),
            lines: Lines::default(),
        }
    }

    pub(super) fn now(&self) -> Moment {
        clock::now() - self.start
    }

    /// Notes it of the user's first device.
    pub(super) fn truth(&self, user: usize, at: Moment, truth: Truth) {
        self.journal.borrow_mut().set_truth(user, at, truth);
    }

    /// Where a device connects first.
    pub(super) fn gateway_of(&self, user: usize, device: usize) -> usize {
        (self.users[user].home + device) % self.gateways.len()
    }

    /// Where a user connects who asks for this gateway.
    pub(super) fn way(&self, user: usize, gateway: usize) -> String {
        self.lines.way(user, gateway).unwrap_or_else(|| self.gateways[gateway].clone())
    }

    /// Takes out of the record what nobody could have known.
    pub(super) fn excuse_unseen(&self, excuses: &[Excuse]) {
        let mut journal = self.journal.borrow_mut();
        for excuse in excuses {
            for (index, user) in self.users.iter().enumerate() {
                let to = if user.habit.is_steady() { excuse.to } else { excuse.ghosts_to };
                let own = |device: &usize| self.gateway_of(index, *device) == excuse.gateway;
                let devices = (0..user.devices().len()).filter(own);
                devices.for_each(|device| journal.person(index).excuse(device, excuse.from, to));
            }
        }
    }

    pub(super) fn forced(&self, who: &str, gateway: usize, why: String) {
        let excused = self.taken.borrow().contains(&gateway) || self.lines.broke(&self.users, who);
        let forced = Forced { at: self.now(), who: who.to_owned(), gateway, why, excused };
        self.journal.borrow_mut().forced.push(forced);
    }

    /// A duration between two, in milliseconds.
    pub(super) fn between(&self, least: u64, most: u64) -> Duration {
        self.dice.borrow_mut().between((least, most))
    }

    /// What a device does follows from the seed and not from when others do something.
    pub(super) const fn dice_of(&self, user: usize, device: usize) -> Dice {
        let mut dice = Dice::new(self.seed ^ ((user as u64) << 16) ^ ((device as u64) << 8));
        Dice::new(dice.next())
    }

    /// Whether a user changes nothing by itself.
    pub(super) fn is_steady(&self, user: usize) -> bool {
        self.users[user].habit.is_steady()
    }

    /// Until when nobody is blamed for a session lost at this moment: its gateway may have to be given up first.
    pub(super) fn excuse(&self, at: Moment) -> Moment {
        at + self.timers.gateway_timeout + self.timers.grace
    }
}
