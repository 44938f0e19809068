//! What an operator may set about writing and reading what is kept.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How a coordinator writes and reads its store.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KeepConfig {
    /// How old a change is at most when it is written: what a process that dies may lose of what it acknowledged, as long
    /// as a write takes less than half of this. 10 ms to 1 min. Default 1 s.
    #[serde(with = "herenow_protocol::duration")]
    pub interval: Duration,
    /// How long a new owner of a partition says nothing while what was kept of it is read. Then it goes on without, and
    /// claims come back when they are read. 10 ms to 30 s. Default 2 s.
    #[serde(with = "herenow_protocol::duration")]
    pub load_timeout: Duration,
    /// How long one call of the store may take before it is taken for failed, and made again. 100 ms to 5 min. Default 10 s.
    #[serde(with = "herenow_protocol::duration")]
    pub timeout: Duration,
    /// Most users that wait to be written, each with its last value only; changes of others are then dropped and
    /// counted. At least 1. Default 1,000,000.
    pub max_waiting: usize,
}

impl Default for KeepConfig {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(1),
            load_timeout: Duration::from_secs(2),
            timeout: Duration::from_secs(10),
            max_waiting: 1_000_000,
        }
    }
}

impl KeepConfig {
    /// Checks ranges.
    ///
    /// # Errors
    /// The key at fault and what it must be.
    pub fn check(&self) -> Result<(), String> {
        let ranges = [
            ("interval", self.interval, 10, 60_000, "10ms to 1min"),
            ("load_timeout", self.load_timeout, 10, 30_000, "10ms to 30s"),
            ("timeout", self.timeout, 100, 300_000, "100ms to 5min"),
        ];
        for (key, value, least, most, range) in ranges {
            if value < Duration::from_millis(least) || value > Duration::from_millis(most) {
                return Err(format!("{key}: must be {range}"));
            }
        }
        if self.max_waiting == 0 {
            return Err("max_waiting: must be at least 1".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_has_its_range() {
        assert_eq!(KeepConfig::default().check(), Ok(()));
        let wrong = |change: fn(&mut KeepConfig), key: &str| {
            let mut config = KeepConfig::default();
            change(&mut config);
            assert!(config.check().unwrap_err().starts_with(key));
        };
        wrong(|c| c.interval = Duration::from_millis(9), "interval: ");
        wrong(|c| c.interval = Duration::from_secs(61), "interval: ");
        wrong(|c| c.load_timeout = Duration::ZERO, "load_timeout: ");
        wrong(|c| c.load_timeout = Duration::from_secs(31), "load_timeout: ");
        wrong(|c| c.timeout = Duration::from_millis(99), "timeout: ");
        wrong(|c| c.timeout = Duration::from_secs(301), "timeout: ");
        wrong(|c| c.max_waiting = 0, "max_waiting: ");
    }
}
