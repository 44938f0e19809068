//! Logs. No token and no user id is ever written to them.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

use crate::config::{Log, LogFormat};

/// The driver of Cassandra; heard only where `log.level` names it.
const DRIVER: &str = "scylla";

/// Starts writing logs to the standard error stream.
///
/// # Errors
/// A level that cannot be read, or a second start in one process.
pub fn start(log: &Log) -> anyhow::Result<()> {
    let mut filter = EnvFilter::builder().parse(&log.level)?;
    if !log.level.contains(DRIVER) {
        // It repeats with each try what is said once where the store is met.
        filter = filter.add_directive(format!("{DRIVER}=off").parse()?);
    }
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_span_events(FmtSpan::NONE)
        .with_writer(std::io::stderr);
    let started = match log.format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| anyhow::anyhow!("logs cannot be started: {error}"))
}
