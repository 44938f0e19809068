//! How long to stay away. Full jitter: clients that were cut off together must not come back together.

use std::time::Duration;

use herenow_protocol::time::millis;

/// A shorter wait that is told is not believed, so that nobody is hammered.
const SHORTEST_TOLD: Duration = Duration::from_secs(1);
/// Nor is a longer one, so that nobody is kept away for good.
const LONGEST_TOLD: Duration = Duration::from_secs(300);

/// The wait before connection attempt number `attempt` (0: the first after a loss), for `random` drawn from [0, 1):
/// `random * min(cap, base * 2^attempt)` (SDK-B1).
#[must_use]
pub fn backoff(base: Duration, cap: Duration, attempt: u32, random: f64) -> Duration {
    let most = base.saturating_mul(1_u32.checked_shl(attempt).unwrap_or(u32::MAX)).min(cap);
    share(most, random)
}

/// The number of the next attempt after a connection that was up for `lasted`, where it was `attempt` before (SDK-B1):
/// only one that lasted begins anew, so that a gateway that closes each session at once is not hammered.
#[must_use]
pub fn attempt_after(cap: Duration, attempt: u32, lasted: Duration) -> u32 {
    if lasted >= cap { 0 } else { attempt }
}

/// The wait after a refusal that says when to come back: that, from 1 s to 5 min, and `random * base` (SDK-B3).
#[must_use]
pub fn after_refusal(told: Duration, base: Duration, random: f64) -> Duration {
    told.clamp(SHORTEST_TOLD, LONGEST_TOLD).saturating_add(share(base, random))
}

/// The wait after a `reconnect` frame: `after + random * within` (SDK-B2).
#[must_use]
pub fn after_reconnect_frame(after: Duration, within: Duration, random: f64) -> Duration {
    after.saturating_add(share(within, random))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "rounds down"
)]
fn share(whole: Duration, random: f64) -> Duration {
    Duration::from_millis((random.clamp(0.0, 1.0) * millis(whole) as f64) as u64)
}
