//! The sockets, HTTP and authentication of a gateway: the shell around the rules in `herenow-gateway-core`.
//!
//! One shard is one thread: a single-threaded runtime, a listener of its own on the shared port, one core, and a task
//! for each connection. An idle session owns its socket and a row; it has no buffer, no queue, no channel and no timer.
//! There is no lock, and nothing here decides anybody's presence.

mod admission;
pub mod auth;
mod backend;
mod calls;
mod clock;
pub mod config;
mod handshake;
mod http;
mod inbox;
mod json;
mod listener;
mod metrics;
mod problem;
mod rest;
mod server;
mod session;
mod shard;
mod tls;
mod wire;

pub use config::Config;
pub use metrics::Violations;
pub use rest::analytics::{Answered, Asked, Counts, Day, Hour, Minute, SessionHour, Was};
pub use rest::directory::{Directory, Person, Refused};
pub use rest::kept::LastKnown;
pub use server::{GatewayServer, Parts, StartError};
