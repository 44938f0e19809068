//! The history of transitions, on its way from the coordinators that decide them into the stores that keep them.
//!
//! A coordinator puts what happened into an [`Outbox`], which never makes it wait. From there it goes into a durable
//! [`herenow_bus::Journal`], and an [`Archiver`] takes it out and writes it into an [`Archive`]; or, in one process, into
//! the archive at once. From the journal on everything arrives at least once, and since an entry is named by its user,
//! time and version, it is in every table exactly once.

mod archive;
mod archiver;
mod clock;
mod config;
mod metrics;
mod outbox;
mod outlet;
mod retention;

pub use archive::{Archive, ArchiveError, Target};
pub use archiver::Archiver;
pub use config::OutboxConfig;
pub use metrics::{ArchiverMetrics, OutboxMetrics};
pub use outbox::{Outbox, Said};
pub use outlet::{IntoArchive, IntoJournal, Outlet, OutletError};
pub use retention::Retention;
