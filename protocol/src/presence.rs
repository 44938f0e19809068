//! Statuses, and the public record of a user's presence.

use serde::{Deserialize, Serialize};

use crate::{DeviceKind, UserId, Version, WallTime};

/// What a live session says of its person.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Activity {
    /// The person uses the device.
    #[default]
    Active,
    /// The person has not touched the device for a while.
    Idle,
    /// The program runs where nobody looks: a telephone in a pocket. Counts as idle; the user is `reachable`.
    Background,
}

/// What watchers see of a user.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Somebody is there.
    Online,
    /// Connected, but nobody touches a device.
    Idle,
    /// There, and asks not to be disturbed.
    Dnd,
    /// Not there.
    Offline,
    /// The system cannot know; `asOf` says when it last did.
    Unknown,
}

/// The public record of a user: what a `presence` frame, a REST answer and the SDKs carry.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Presence {
    /// Whose presence it is.
    pub user_id: UserId,
    /// What watchers see.
    pub status: Status,
    /// When the present status began; for an offline user when it was last seen; `null` for one never seen.
    pub last_updated: Option<WallTime>,
    /// Orders this record among all records of the user.
    pub version: Version,
    /// What the user wrote beside its status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<Box<str>>,
    /// The emoji beside its status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub emoji: Option<Box<str>>,
    /// Nobody is active, but a device in the background can still be reached by a push.
    #[serde(default, skip_serializing_if = "is_false")]
    pub reachable: bool,
    /// The kinds of device in use; only where the deployment publishes them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<DeviceKind>,
    /// The user hides from others. Only the user itself is told.
    #[serde(default, skip_serializing_if = "is_false")]
    pub invisible: bool,
    /// Given when the record may be out of date: the last moment it was known to hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_of: Option<WallTime>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_false(value: &bool) -> bool {
    !*value
}
