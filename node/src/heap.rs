//! The heap profile of a build for profiling.

use tokio::signal::unix::{SignalKind, signal};

/// Ends the process at SIGUSR2 as it stands: with `prof:true,prof_final:true` in `MALLOC_CONF`, jemalloc then writes who
/// asked for the memory that is in use. Leaving in order would give all of it back before.
///
/// # Errors
/// The signal cannot be listened to.
pub(crate) fn end_when_asked() -> std::io::Result<()> {
    let mut asked = signal(SignalKind::user_defined2())?;
    tokio::spawn(async move {
        if asked.recv().await.is_some() {
            std::process::exit(0);
        }
    });
    Ok(())
}
