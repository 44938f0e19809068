//! The one place that reads a clock. Everything else is told the time.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use herenow_protocol::{MonoTime, Now, WallTime};

/// Both clocks of this process. Copies share one start, so the shards of a process agree on [`MonoTime`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock whose monotonic time starts now.
    #[expect(clippy::disallowed_methods, reason = "this is clock.rs")]
    pub(crate) fn starting() -> Self {
        Self { start: Instant::now() }
    }

    /// Reads both clocks. To be called once a turn.
    #[expect(clippy::disallowed_methods, reason = "this is clock.rs")]
    pub(crate) fn now(&self) -> Now {
        let mono = Instant::now().saturating_duration_since(self.start);
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now {
            mono: MonoTime::from_millis(whole_millis(mono)),
            wall: WallTime::from_millis(whole_millis(wall)),
        }
    }

    /// The moment as the timers of the runtime know it.
    pub(crate) fn instant(&self, at: MonoTime) -> tokio::time::Instant {
        let after = Duration::from_millis(at.as_millis());
        let far = Duration::from_secs(365 * 24 * 3600);
        tokio::time::Instant::from_std(self.start + after.min(far))
    }
}

fn whole_millis(duration: Duration) -> u64 {
    herenow_protocol::time::millis(duration)
}
