//! An entry of the history.

use herenow_protocol::api::Cause;
use herenow_protocol::history::Opened;
use herenow_protocol::{Status, UserId, UserKey, Version, WallTime};

/// One transition of one user, as the history keeps it. Time and version name it: the same twice is one entry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ActivityRecord {
    /// The user, as the key of the store.
    pub key: UserKey,
    /// The user.
    pub user: UserId,
    /// When it happened.
    pub at: WallTime,
    /// The version that it led to.
    pub version: Version,
    /// The status before.
    pub from: Status,
    /// The status after.
    pub to: Status,
    /// Why.
    pub cause: Cause,
    /// The sessions that the user has opened since the transition before it.
    pub opened: Opened,
}

/// Milliseconds of a day.
const DAY_MS: u64 = 86_400_000;

/// The day of a moment, counted from 1970-01-01, as UTC has days.
pub(crate) fn day(at: WallTime) -> u32 {
    u32::try_from(at.as_millis() / DAY_MS).unwrap_or(u32::MAX)
}

/// A span of time: from the first moment on, up to the last, which is not in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    /// The first moment.
    pub from: WallTime,
    /// The first moment after it.
    pub to: WallTime,
}

impl Span {
    /// All of time.
    pub const ALL: Self = Self { from: WallTime::from_millis(0), to: WallTime::from_millis(u64::MAX) };

    /// Whether a moment is in it.
    #[must_use]
    pub fn contains(&self, at: WallTime) -> bool {
        self.from <= at && at < self.to
    }
}
