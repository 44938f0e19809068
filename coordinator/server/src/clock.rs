//! The only place that reads a clock.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use herenow_protocol::{MonoTime, Now, WallTime};
use tokio::time::Instant;

/// Both clocks of this process, read once a turn.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    pub(crate) fn start() -> Self {
        Self { start: Instant::now() }
    }

    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    pub(crate) fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now {
            mono: MonoTime::from_millis(herenow_protocol::time::millis(self.start.elapsed())),
            wall: WallTime::from_millis(herenow_protocol::time::millis(wall)),
        }
    }

    /// The moment a timer for `at` has to ring.
    pub(crate) fn instant(&self, at: MonoTime) -> Option<Instant> {
        self.start.checked_add(Duration::from_millis(at.as_millis()))
    }

    /// How long ago the clock was started, finer than a [`MonoTime`]. For measuring only.
    pub(crate) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }
}
