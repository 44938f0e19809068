//! The gateway itself.

use herenow_protocol::{MonoTime, Now, Origin, Placement};

use crate::{Config, Input, Output, Slot};

/// Counts since the gateway began, and sizes now. Read by metrics.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    /// Sessions now.
    pub sessions: u64,
    /// Users watched now.
    pub watched_users: u64,
}

/// One gateway; see the crate's page.
#[derive(Debug)]
pub struct Gateway {
    stats: Stats,
}

impl Gateway {
    /// A gateway without sessions. `seed` feeds every random choice.
    #[must_use]
    pub fn new(_config: Config, _origin: Origin, _placement: Placement, _seed: u64, _now: Now) -> Self {
        Self { stats: Stats::default() }
    }

    /// Takes one input; appends what is to be done.
    pub fn handle(&mut self, _input: Input, _now: Now, _out: &mut Vec<Output>) {}

    /// When [`Self::handle_timeout`] wants to be called next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<MonoTime> {
        None
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, _now: Now, _out: &mut Vec<Output>) {}

    /// Writes the next frame for a session into `frame` (cleared first) as JSON text. False when nothing waits.
    pub fn poll_transmit(&mut self, _slot: Slot, _now: Now, _frame: &mut String) -> bool {
        false
    }

    /// Counts and sizes.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.stats
    }
}
