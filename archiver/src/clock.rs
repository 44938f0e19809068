//! The only place that reads a clock.

use std::time::{SystemTime, UNIX_EPOCH};

use herenow_protocol::WallTime;

#[expect(clippy::disallowed_methods, reason = "this is the clock")]
pub(crate) fn wall() -> WallTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    WallTime::from_millis(herenow_protocol::time::millis(since))
}
