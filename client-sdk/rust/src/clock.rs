//! The one place that reads the clock.

use herenow_protocol::MonoTime;
use tokio::time::Instant;

/// A clock that begins when it is made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock(Instant);

impl Clock {
    #[expect(clippy::disallowed_methods, reason = "this is where the clock is read")]
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn now(self) -> MonoTime {
        MonoTime::default().after(self.0.elapsed())
    }

    /// The timer's moment of `time`; `None` when it is too far away to matter.
    pub(crate) fn instant(self, time: MonoTime) -> Option<Instant> {
        self.0.checked_add(time.since(MonoTime::default()))
    }
}
