//! A deterministic world in which Herenow's real cores run against seeded faults.
//!
//! One virtual clock, one random number generator, no thread: a seed is a whole run, and a failing seed fails again.
//! Coordinators, gateways and clients are the cores that production and the SDK run; the bus, the arbiter and the
//! people are modelled here, with everything a real network does to messages. [`Oracle`] knows the truth and judges what watchers are told.

mod arbiter;
mod backend;
mod backlog;
mod claims;
mod client;
mod clock;
mod drain;
mod fault;
mod keep;
mod ledger;
mod minimise;
mod net;
mod oracle;
mod people;
mod plan;
mod process;
mod questions;
mod strike;
mod timeline;
mod world;

pub use fault::{Fault, Profile};
pub use minimise::minimise;
pub use net::Node;
pub use oracle::{Oracle, Violation};
pub use plan::Plan;
pub use world::{Report, World};
