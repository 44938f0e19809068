//! The coordinator itself.

use herenow_protocol::{CoordinatorId, Incarnation, MonoTime, Now, Placement};

use crate::{Config, Input, Output};

/// Counts since the coordinator began, and sizes now. Read by metrics.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    /// Partitions owned now.
    pub partitions: u64,
}

/// One coordinator; see the crate's page.
#[derive(Debug)]
pub struct Coordinator {
    stats: Stats,
}

impl Coordinator {
    /// A coordinator that owns nothing yet. `seed` feeds every random choice.
    #[must_use]
    pub fn new(
        _config: Config,
        _id: CoordinatorId,
        _incarnation: Incarnation,
        _placement: Placement,
        _seed: u64,
        _now: Now,
    ) -> Self {
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

    /// Counts and sizes.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.stats
    }
}
