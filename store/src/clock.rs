//! The one place that reads the clock.

use tokio::time::Instant;

/// Now, for timers.
#[expect(clippy::disallowed_methods, reason = "this is where the clock is read")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
