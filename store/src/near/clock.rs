//! The clocks of a cache.

use herenow_protocol::time::millis;
use herenow_protocol::{MonoTime, WallTime};
use tokio::time::Instant;

use crate::clock::{now, wall};

/// What time it is.
pub trait NearClock: Send + Sync {
    /// For how long answers are good.
    fn mono(&self) -> MonoTime;
    /// For how long ago a user changed. One that is wrong makes answers be kept for a shorter or longer time, within the
    /// bounds.
    fn wall(&self) -> WallTime;
}

/// The system's.
pub(super) struct System {
    /// Answers that are void ended at the clock's start.
    began: Instant,
}

impl System {
    pub(super) fn new() -> Self {
        Self { began: now() }
    }
}

impl NearClock for System {
    fn mono(&self) -> MonoTime {
        MonoTime::from_millis(millis(now().duration_since(self.began)))
    }

    fn wall(&self) -> WallTime {
        wall()
    }
}
