//! What the cache of a reader needs to know.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::policy::Policy;
use crate::StoreError;
use crate::check::{ensure, within};

/// How much a reader keeps, and for how long. A setting is checked when the cache is made.
#[derive(Clone, PartialEq, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct NearConfig {
    /// Most users kept; about 400 B each. 1 to 10,000,000. Default 100,000.
    pub max_users: u64,
    /// How long an answer is kept at least, however often the user changes: a user is read from the store at most so
    /// often. 1 ms to `max_ttl`. Default 100 ms.
    #[serde(with = "herenow_protocol::duration")]
    pub min_ttl: Duration,
    /// How long an answer is kept at most: no answer is older than this, but for what the store below adds. 1 ms to 1 h.
    /// Default 30 s.
    #[serde(with = "herenow_protocol::duration")]
    pub max_ttl: Duration,
    /// How many reads of the store one old answer is worth. The more, the shorter answers are kept. 1 to 10,000.
    /// Default 20.
    pub old_costs: f64,
    /// In what time what was counted of a user counts half. 1 s to 1 day. Default 10 min.
    #[serde(with = "herenow_protocol::duration")]
    pub half_life: Duration,
}

impl Default for NearConfig {
    fn default() -> Self {
        Self {
            max_users: 100_000,
            min_ttl: Duration::from_millis(100),
            max_ttl: Duration::from_secs(30),
            old_costs: 20.0,
            half_life: Duration::from_mins(10),
        }
    }
}

impl NearConfig {
    /// Checks every value and relation.
    ///
    /// # Errors
    /// [`StoreError::Setting`]: the first key whose value cannot be used.
    pub fn check(&self) -> Result<(), StoreError> {
        ensure((1..=10_000_000).contains(&self.max_users), "max_users", "must be 1 to 10000000")?;
        within(self.max_ttl, 1..=3_600_000, "max_ttl", "must be 1ms to 1h")?;
        within(self.min_ttl, 1..=3_600_000, "min_ttl", "must be 1ms to 1h")?;
        ensure(self.min_ttl <= self.max_ttl, "min_ttl", "must not be longer than `max_ttl`")?;
        ensure((1.0..=10_000.0).contains(&self.old_costs), "old_costs", "must be 1 to 10000")?;
        within(self.half_life, 1_000..=86_400_000, "half_life", "must be 1s to 1day")
    }

    pub(super) fn policy(&self) -> Policy {
        Policy {
            min_ttl: self.min_ttl.as_secs_f64(),
            max_ttl: self.max_ttl.as_secs_f64(),
            old_costs: self.old_costs,
            half_life: self.half_life.as_secs_f64(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key_of(change: impl FnOnce(&mut NearConfig)) -> Option<&'static str> {
        crate::check::refused_key(NearConfig::check, change)
    }

    #[test]
    fn the_wrong_key_is_named() {
        assert_eq!(key_of(|_| ()), None);
        assert_eq!(key_of(|c| c.max_users = 0), Some("max_users"));
        assert_eq!(key_of(|c| c.max_users = 10_000_001), Some("max_users"));
        assert_eq!(key_of(|c| c.max_ttl = Duration::from_millis(3_600_001)), Some("max_ttl"));
        assert_eq!(key_of(|c| c.min_ttl = Duration::ZERO), Some("min_ttl"));
        assert_eq!(key_of(|c| c.min_ttl = Duration::from_secs(31)), Some("min_ttl"));
        assert_eq!(key_of(|c| c.old_costs = 0.9), Some("old_costs"));
        assert_eq!(key_of(|c| c.old_costs = f64::NAN), Some("old_costs"));
        assert_eq!(key_of(|c| c.half_life = Duration::from_millis(999)), Some("half_life"));
    }
}
