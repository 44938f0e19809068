//! What keeps many from doing the same at the same moment.

use std::time::Duration;

use herenow_protocol::code::ErrorCode;
use herenow_protocol::time::millis;
use rand::RngExt as _;

use crate::gateway::Gateway;

impl Gateway {
    /// A moment drawn from the first to the second.
    pub(crate) fn draw(&mut self, from: Duration, to: Duration) -> Duration {
        Duration::from_millis(self.rng.random_range(millis(from)..=millis(to).max(millis(from))))
    }

    /// When to try again what was refused because too much was asked at once: a request that is open now is answered
    /// within the request timeout.
    pub(crate) fn retry_after(&mut self, code: ErrorCode) -> Option<Duration> {
        let most = self.config.request_timeout;
        (code == ErrorCode::TooManyRequests).then(|| self.draw(most / 4, most))
    }
}
