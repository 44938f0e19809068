//! The client side of Herenow, without a socket, clock or lock.
//!
//! A [`Client`] decides when to connect, what to send, when a connection is dead, when to come back, and what is known
//! of each watched user. A transport feeds it [`Input`]s, carries out its [`Output`]s, and calls
//! [`Client::handle_timeout`] when [`Client::poll_timeout`] says so. The Rust SDK and the simulation run the same one.
//!
//! Its rules are the clauses of `protocol/vectors/README.md`; the tests run those vectors.

mod ask;
mod backoff;
mod client;
mod config;
mod failure;
mod incoming;
mod io;
mod link;
mod map;
mod requests;
mod session;
mod token;
mod watches;

pub use backoff::{after_reconnect_frame, after_refusal, attempt_after, backoff};
pub use client::Client;
pub use config::Config;
pub use failure::Failure;
pub use incoming::{Incoming, parse};
pub use io::{Closure, ConnectionState, Input, Output, Ticket};
pub use map::PresenceMap;
