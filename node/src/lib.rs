//! The herenow program as a library: the only crate that knows all roles.
//!
//! [`Embedded`] runs the roles of a [`config::Config`] in this process, over any bus; `herenow serve` and
//! `herenow dev` are the same with a command line ([`cli`]), logs ([`telemetry`]) and the listener for operators
//! ([`admin`]) around it. There is no rule about presence here.

pub mod admin;
pub mod cli;
mod clock;
pub mod config;
mod demo;
mod directory;
mod embedded;
#[cfg(feature = "heap-profile")]
mod heap;
mod history;
mod import;
mod kept;
mod serve;
mod shutdown;
mod store;
pub mod telemetry;
pub mod token;

pub use directory::Known;
pub use embedded::{Embedded, Probe, StartError, Wiring};
pub use history::History;
