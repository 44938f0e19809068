//! How settings are refused.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::StoreError;

pub(crate) fn setting(key: &'static str, reason: impl Into<String>) -> StoreError {
    StoreError::Setting { key, reason: reason.into() }
}

pub(crate) fn ensure(right: bool, key: &'static str, reason: &str) -> Result<(), StoreError> {
    if right { Ok(()) } else { Err(setting(key, reason)) }
}

/// Refuses a duration outside of a range in milliseconds.
pub(crate) fn within(
    given: Duration,
    range: RangeInclusive<u64>,
    key: &'static str,
    reason: &str,
) -> Result<(), StoreError> {
    let (least, most) = (Duration::from_millis(*range.start()), Duration::from_millis(*range.end()));
    ensure((least..=most).contains(&given), key, reason)
}

/// The key that is refused once a setting was changed from its default; `None`: all is well.
#[cfg(test)]
pub(crate) fn refused_key<C: Default>(
    check: impl FnOnce(&C) -> Result<(), StoreError>,
    change: impl FnOnce(&mut C),
) -> Option<&'static str> {
    let mut config = C::default();
    change(&mut config);
    match check(&config) {
        Err(StoreError::Setting { key, .. }) => Some(key),
        _ => None,
    }
}
