//! When to stop.

use std::sync::Arc;

use tokio::sync::Notify;

/// Waits for SIGTERM, SIGINT, or somebody who rings the bell.
///
/// # Errors
/// The signals cannot be listened to.
pub(crate) async fn asked(bell: &Arc<Notify>) -> std::io::Result<&'static str> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
        () = bell.notified() => "drain",
    })
}
