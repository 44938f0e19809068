//! Every subject, spelled here and nowhere else.
//!
//! User ids never enter a subject raw: [`user_token`] makes one token of letters, digits, `-` and `_` of any id.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::{CoordinatorId, GatewayId, Partition, UserId};

/// Backends ask for users, or for a page of a partition. Request and reply.
pub const GET: &str = "herenow.v1.get";
/// Backends set a status. Request and reply.
pub const SET: &str = "herenow.v1.set";
/// The queue group in which gateways answer backends, so that each request is answered once.
pub const BACKEND_QUEUE: &str = "herenow-gateways";
/// The changes of every partition.
pub const ALL_CHANGES: &str = "herenow.v1.changes.*";
/// Everything that gateways and coordinators say to each other.
pub const BETWEEN_ROLES: &str = "herenow.i1.>";
/// What all signs of life begin with: they go over a connection of their own.
pub const BEATS: &str = "herenow.i1.beat.";
/// The signs of life of coordinators.
pub const COORDINATOR_BEATS: &str = "herenow.i1.beat.coordinator";
/// The signs of life of gateways.
pub const GATEWAY_BEATS: &str = "herenow.i1.beat.gateway";
/// What coordinators say for the history.
pub const ACTIVITY: &str = "herenow.v1.activity";
/// What of it no archiver could use, with the reason.
pub const ACTIVITY_DEAD: &str = "herenow.v1.dead.activity";
/// The stream that keeps [`ACTIVITY`] until it is archived.
pub const ACTIVITY_STREAM: &str = "HERENOW_ACTIVITY";
/// The stream that keeps [`ACTIVITY_DEAD`] for people to look at.
pub const ACTIVITY_DEAD_STREAM: &str = "HERENOW_ACTIVITY_DEAD";
/// The consumer of [`ACTIVITY_STREAM`] that all archivers share.
pub const ARCHIVERS: &str = "herenow-archivers";

/// A partition's public changes.
#[must_use]
pub fn changes(partition: Partition) -> String {
    format!("herenow.v1.changes.{partition}")
}

/// One user's public changes.
#[must_use]
pub fn user_changes(user: &UserId) -> String {
    format!("herenow.v1.user.{}", user_token(user))
}

/// From gateways to the owner of a partition.
#[must_use]
pub fn up(partition: Partition) -> String {
    format!("herenow.i1.up.{partition}")
}

/// From gateways to one coordinator, about any partitions that it owns: bundles of what can wait for an owner to be known.
#[must_use]
pub fn owner(id: &CoordinatorId) -> String {
    format!("herenow.i1.owner.{id}")
}

/// From the owner of a partition to gateways with watchers there.
#[must_use]
pub fn down(partition: Partition) -> String {
    format!("herenow.i1.down.{partition}")
}

/// To one gateway, in bundles.
#[must_use]
pub fn gateway(id: &GatewayId) -> String {
    format!("herenow.i1.gateway.{id}")
}

/// To one coordinator.
#[must_use]
pub fn coordinator(id: &CoordinatorId) -> String {
    format!("herenow.i1.coordinator.{id}")
}

/// A user id as one token: base64url without padding, which is injective and has no `.`, `*`, `>` or space.
#[must_use]
pub fn user_token(user: &UserId) -> String {
    URL_SAFE_NO_PAD.encode(user.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_user_ids_make_one_plain_token() {
        for id in ["*", ">", "a.b", "a b", "😀", "$SYS", ".."] {
            let token = user_token(&UserId::new(id).unwrap());
            assert!(token.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'), "{token}");
            assert_eq!(URL_SAFE_NO_PAD.decode(token).unwrap(), id.as_bytes());
        }
    }
}
