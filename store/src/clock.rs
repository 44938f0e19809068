//! The one place that reads clocks.

use tokio::time::Instant;

/// Now, for timers.
#[expect(clippy::disallowed_methods, reason = "this is where the clock is read")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Now, for people.
#[cfg(feature = "near")]
#[expect(clippy::disallowed_methods, reason = "this is where the clock is read")]
pub(crate) fn wall() -> herenow_protocol::WallTime {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    herenow_protocol::WallTime::from_millis(herenow_protocol::time::millis(since))
}
