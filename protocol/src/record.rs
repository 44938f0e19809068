//! What is kept of a user beyond the life of its owner: the last status, last seen, claims and virtual sessions. The
//! owner of the user's partition writes it, the next one reads it.

use serde::{Deserialize, Serialize};

use crate::frame::ManualStatus;
use crate::message::ApiStatus;
use crate::{DeviceId, Status, UserId, UserKey, Version, WallTime};

/// What is kept of one user.
///
/// A store keeps, of two records of a user, the one with the newer [`Self::written`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Record {
    /// The user, as the key of the store.
    pub key: UserKey,
    /// The user.
    pub user: UserId,
    /// Orders the writes of a user: the epoch of the owner that wrote it, and the number of the write in that epoch.
    pub written: Version,
    /// The presence that watchers saw last.
    pub seen: Seen,
    /// What the user asserts.
    pub manual: Option<KeptClaim<ManualStatus>>,
    /// What backends assert.
    pub api: Option<KeptClaim<ApiStatus>>,
    /// The sessions that backends made.
    pub virtual_sessions: Vec<KeptSession>,
}

/// The presence that watchers saw last.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Seen {
    /// The version under which they saw it.
    pub version: Version,
    /// The status.
    pub status: Status,
    /// Since when; of somebody who is offline, last seen. `None` for a user never seen.
    pub since: Option<WallTime>,
    /// The text beside it.
    pub text: Option<Box<str>>,
    /// The emoji beside it.
    pub emoji: Option<Box<str>>,
}

/// A claim with its end by the wall clock, which another process can read.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct KeptClaim<S> {
    /// What is to be shown.
    pub status: S,
    /// The text beside it.
    pub text: Option<Box<str>>,
    /// The emoji beside it.
    pub emoji: Option<Box<str>>,
    /// When it ends by itself.
    pub expires_at: Option<WallTime>,
}

/// A virtual session.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct KeptSession {
    /// The name that the backend gave it.
    pub name: Option<DeviceId>,
    /// Since when there is one.
    pub since: WallTime,
    /// When it ends.
    pub expires_at: WallTime,
}
