//! What Herenow's programs must agree on.
//!
//! Nothing here decides who is present. The crate holds the words: ids, statuses, versions and time; the frames
//! between clients and gateways ([`frame`]); the messages between roles ([`message`]); what backends read and
//! write ([`api`]); the subjects they travel on ([`subject`]); and every code and limit by name.
//!
//! It imports no other crate of the project, and no clock, socket or lock.

pub mod api;
pub mod code;
pub mod codec;
pub mod duration;
pub mod frame;
pub mod history;
pub mod id;
pub mod limit;
pub mod message;
pub mod patience;
pub mod presence;
pub mod record;
pub mod subject;
pub mod time;
pub mod version;

pub use id::{
    CoordinatorId, DeviceId, DeviceKind, GatewayId, Incarnation, Origin, Partition, Placement, SessionNumber,
    UserId, UserKey,
};
pub use presence::{Activity, Presence, Status};
pub use time::{MonoTime, Now, WallTime};
pub use version::{Epoch, Version};
