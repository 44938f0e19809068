//! The rules of a coordinator, without a socket, clock or lock.
//!
//! Coordinators share the partitions of the users among themselves. The owner of a partition merges the sessions that
//! gateways report and the claims of users and backends to one presence per user, and publishes every change. The
//! rules R1 to R15 by which it stays right under faults are told in `docs/ARCHITECTURE.md`; the file that decides each
//! is named there.

mod claims;
mod config;
mod coordinator;
mod derive;
mod due;
mod fading;
mod gateways;
mod interest;
mod io;
mod keep;
mod lapse;
mod listening;
mod moving;
mod ownership;
mod partition;
mod peers;
mod publish;
mod request;
mod resyncs;
mod selective;
mod session;
mod stats;
mod stream;
mod taken;
mod upward;
mod user;
mod write_behind;

pub use claims::{Claim, Claims};
pub use config::Config;
pub use coordinator::Coordinator;
pub use derive::{Derived, Face, Rule, derive};
pub use io::{Input, Output, Recorded, Transition};
pub use session::{Followed, Holder, Lease, Session};
pub use stats::Stats;
pub use write_behind::WriteBehind;
