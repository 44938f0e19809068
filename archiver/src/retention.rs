//! The end of what is kept for long enough.

use std::time::Duration;

use herenow_protocol::WallTime;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::clock::wall;
use crate::{Archive, ArchiverMetrics};

/// How often days that are over are looked for.
const EVERY: Duration = Duration::from_hours(1);
/// How long after a failure.
const RETRY: Duration = Duration::from_secs(60);

/// Forgets days that were kept for long enough, until it is dropped.
#[derive(Debug)]
pub struct Retention(JoinHandle<()>);

impl Retention {
    /// Looks at once, and every hour.
    #[must_use]
    pub fn start(archive: Archive, keep_for: Duration, metrics: ArchiverMetrics) -> Self {
        Self(tokio::spawn(async move {
            loop {
                let before = wall().as_millis().saturating_sub(herenow_protocol::time::millis(keep_for));
                let wait = match archive.expire(WallTime::from_millis(before)).await {
                    Ok(()) => EVERY,
                    Err(error) => {
                        metrics.failed(error.target, error.error.label());
                        tracing::warn!(%error, "days that are over could not be forgotten, trying again");
                        RETRY
                    }
                };
                sleep(wait).await;
            }
        }))
    }
}

impl Drop for Retention {
    fn drop(&mut self) {
        self.0.abort();
    }
}
