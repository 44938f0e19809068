//! Production: the roles of a configuration over its bus, until a signal.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use crate::admin::Admin;
use crate::config::{BusKind, Config};
use crate::{Embedded, Wiring, shutdown};

/// How long the process outlives its roles.
const LINGER: Duration = Duration::from_millis(100);

/// Serves until asked to stop, then leaves in order.
///
/// # Errors
/// Something cannot start.
pub(crate) async fn serve(config: Config) -> anyhow::Result<()> {
    #[cfg(feature = "heap-profile")]
    crate::heap::end_when_asked()?;
    let bell = Arc::new(Notify::new());
    let window = config.shutdown.window;
    let (listen, bus) = (config.admin.listen, config.cluster.bus);
    let mut wiring = match bus {
        BusKind::Local => Wiring::local(),
        BusKind::Nats => Wiring::nats(&config.nats).await?,
    };
    wiring.on_this_thread = config.is_one_gateway();
    let mut node = Embedded::start(config.clone(), wiring.with_store(&config).await?).await?;
    let probe = node.probe();
    let admin = Admin::new(node.registry(), move || probe.readiness(), Arc::clone(&bell));
    let (bound, admin) = admin
        .serve(listen)
        .await
        .map_err(|error| anyhow::anyhow!("admin.listen: {listen} cannot be bound: {error}"))?;
    tracing::info!(admin = %bound, gateway = ?node.address(), "herenow serves");
    let why = tokio::select! {
        why = shutdown::asked(&bell) => why?,
        role = node.failed() => anyhow::bail!("the {} broke off", role.word()),
    };
    tracing::info!(why, ?window, "leaving: clients are told to come back elsewhere");
    tokio::select! {
        () = node.leave(window) => tracing::info!("left"),
        again = shutdown::asked(&bell) => tracing::warn!(why = again?, "asked again: ending at once"),
    }
    // What was published last is still on its way out of the process.
    tokio::time::sleep(LINGER).await;
    admin.abort();
    Ok(())
}
