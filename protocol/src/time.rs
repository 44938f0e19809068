//! Time as a value: cores never read a clock, they are told.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A moment on this process's monotonic clock, in milliseconds since an arbitrary start. Only differences mean
/// something, and only within one process: leases, timeouts and ages are reckoned in it, never in wall time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct MonoTime(u64);

impl MonoTime {
    /// The moment `millis` milliseconds after the start of the clock.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the start of the clock.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// The moment `wait` later, or the end of time.
    #[must_use]
    pub fn after(self, wait: Duration) -> Self {
        Self(self.0.saturating_add(millis(wait)))
    }

    /// The time passed since `earlier`; zero when `earlier` is in the future.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// A duration in whole milliseconds, saturating.
#[must_use]
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Wall-clock time in milliseconds since the Unix epoch. For tokens and for people; no rule compares the wall
/// clocks of two machines. In JSON it is RFC 3339 in UTC with milliseconds, in messages a number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct WallTime(u64);

impl WallTime {
    /// The moment `millis` milliseconds after 1970-01-01T00:00:00Z.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since 1970-01-01T00:00:00Z.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// The moment `wait` later, or the end of time.
    #[must_use]
    pub fn after(self, wait: Duration) -> Self {
        Self(self.0.saturating_add(millis(wait)))
    }

    /// The time from now until `later`; zero when it has passed.
    #[must_use]
    pub const fn until(self, later: Self) -> Duration {
        Duration::from_millis(later.0.saturating_sub(self.0))
    }
}

impl fmt::Display for WallTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stamp = i64::try_from(self.0).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
        write!(f, "{:.3}", stamp.unwrap_or(jiff::Timestamp::MAX))
    }
}

impl Serialize for WallTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            serializer.serialize_u64(self.0)
        }
    }
}

impl<'de> Deserialize<'de> for WallTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if !deserializer.is_human_readable() {
            return u64::deserialize(deserializer).map(Self);
        }
        let text = String::deserialize(deserializer)?;
        let stamp: jiff::Timestamp =
            text.parse().map_err(|_| serde::de::Error::custom("expected an RFC 3339 timestamp"))?;
        Ok(Self(u64::try_from(stamp.as_millisecond()).unwrap_or(0)))
    }
}

/// Both clocks, read once a turn.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Now {
    /// For every timer and age.
    pub mono: MonoTime,
    /// For tokens, and for the times that people are shown.
    pub wall: WallTime,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wall_time_is_rfc3339_with_milliseconds_in_json_and_a_number_in_messages() {
        let time = WallTime::from_millis(1_767_225_600_123);
        assert_eq!(serde_json::to_string(&time).unwrap(), "\"2026-01-01T00:00:00.123Z\"");
        let back: WallTime = serde_json::from_str("\"2026-01-01T01:00:00.123+01:00\"").unwrap();
        assert_eq!(back, time);
        let bytes = postcard::to_allocvec(&time).unwrap();
        assert_eq!(postcard::from_bytes::<WallTime>(&bytes).unwrap(), time);
    }

    #[test]
    fn wall_time_beyond_the_calendar_does_not_panic() {
        assert!(!WallTime::from_millis(u64::MAX).to_string().is_empty());
    }

    #[test]
    fn monotonic_differences_saturate() {
        let start = MonoTime::from_millis(5);
        assert_eq!(start.since(start.after(Duration::from_secs(1))), Duration::ZERO);
        assert_eq!(start.after(Duration::MAX), MonoTime::from_millis(u64::MAX));
    }
}
