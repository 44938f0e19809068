//! Whether a server that failed is asked again: not at every call, since each would wait for it.

use std::time::Duration;

use tokio::time::Instant;

/// Closed: everybody asks. Open: nobody does, until one may try.
#[derive(Debug)]
pub(super) struct Breaker {
    retry_after: Duration,
    /// When one may try; `None`: it is closed.
    open_until: Option<Instant>,
}

impl Breaker {
    pub(super) const fn new(retry_after: Duration) -> Self {
        Self { retry_after, open_until: None }
    }

    /// Whether this call may ask. Of all who come when the time is over, one may.
    pub(super) fn lets_through(&mut self, now: Instant) -> bool {
        match self.open_until {
            None => true,
            Some(until) if now >= until => {
                self.open_until = Some(now + self.retry_after);
                true
            }
            Some(_) => false,
        }
    }

    /// It answered. Returns whether it had failed before.
    pub(super) fn answered(&mut self) -> bool {
        self.open_until.take().is_some()
    }

    /// It failed. Returns whether it had not before.
    pub(super) fn failed(&mut self, now: Instant) -> bool {
        self.open_until.replace(now + self.retry_after).is_none()
    }

    pub(super) const fn is_open(&self) -> bool {
        self.open_until.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_failure_one_tries_at_a_time() {
        let (start, second) = (crate::clock::now(), Duration::from_secs(1));
        let mut breaker = Breaker::new(second);
        assert!(breaker.lets_through(start) && breaker.lets_through(start));
        assert!(breaker.failed(start));
        assert!(!breaker.failed(start), "that it failed is said once");
        assert!(!breaker.lets_through(start + second / 2));
        assert!(breaker.lets_through(start + second));
        assert!(!breaker.lets_through(start + second), "one is trying");
        assert!(breaker.lets_through(start + second * 2), "who tried was never heard of");
        assert!(breaker.answered());
        assert!(!breaker.is_open() && breaker.lets_through(start) && !breaker.answered());
    }
}
