//! Runs a coordinator: feeds [`herenow_coordinator_core::Coordinator`] from the bus and carries out what it decides.
//!
//! There is no rule about presence here. One task owns the core; a turn of its loop takes everything that is ready
//! (signs of life first), reads the clock once, hands it all to the core, and carries out all that the core wants
//! done. Nothing in a turn waits: what takes time (the arbiter, subscriptions) runs beside it and comes back as an
//! input.

mod clock;
mod execute;
mod keep;
mod metrics;
mod server;
mod sink;
mod sources;

pub use keep::{Keep, KeepConfig};
pub use metrics::Violations;
pub use server::{CoordinatorServer, Setup, StartError, Status};
pub use sink::{Counting, Discard, TransitionSink};
