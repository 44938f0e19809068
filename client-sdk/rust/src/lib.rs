//! Who is here now? The Herenow client for Rust.
//!
//! ```no_run
//! use futures::StreamExt;
//! use herenow_client::{Client, ClientOptions};
//!
//! # async fn fetch_token() -> Result<String, std::io::Error> { Ok(String::new()) }
//! # async fn run() -> Result<(), herenow_client::Error> {
//! // The callback is asked again whenever the client needs a newer token.
//! let client = Client::connect(ClientOptions::new("ws://127.0.0.1:8080", fetch_token)).await?;
//! let mut changes = client.watch(["ana", "ben"])?;
//! while let Some(change) = changes.next().await {
//!     println!("{} is {:?}", change.presence.user_id, change.presence.status);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! The client comes back by itself when its connection is lost, with full jitter, and names its watch list again. What
//! it cannot know it says: cut off for longer than the server allows, every watched user becomes
//! [`Status::Unknown`], with the moment it was last known. Nothing here queues without limit: a [`Watch`] that is not
//! read keeps the latest value of each user, and no history.

mod client;
mod clock;
mod driver;
mod hub;
mod options;
mod socket;
mod url;
mod watch;

pub use client::Client;
pub use herenow_client_core::{Config, ConnectionState, Failure as Error};
pub use herenow_protocol::frame::ManualStatus;
pub use herenow_protocol::{Activity, DeviceKind, Presence, Status, UserId, Version, WallTime};
pub use options::{ClientOptions, NewStatus, TokenProvider};
pub use watch::{PresenceChange, Watch};
