//! Durations in configuration files carry their unit: `"30s"`, `"5min"`, `"250ms"`. Use with
//! `#[serde(with = "herenow_protocol::duration")]`.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serializer};

/// Writes a duration with its unit.
///
/// # Errors
/// Only what the serializer itself reports.
pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_duration(*duration))
}

/// Reads a duration with its unit.
///
/// # Errors
/// A value without a unit, or that is no duration.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    humantime::parse_duration(&text).map_err(|error| {
        serde::de::Error::custom(format!(
            "{error}; write a number with its unit, such as \"30s\" or \"250ms\""
        ))
    })
}
