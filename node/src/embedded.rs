//! The roles of one configuration in this process.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use herenow_archiver::Archive;
use herenow_bus::{Bus, EpochStore, LocalBus, LocalEpochs, NatsBus, NatsConfig};
use herenow_coordinator_server::{CoordinatorServer, Discard, Keep, Setup, Status, TransitionSink};
use herenow_gateway_server::{
    Directory, GatewayServer, LastKnown, Parts, StartError as GatewayError, Violations,
};
use herenow_protocol::{Incarnation, Placement};
use herenow_store::{Cached, Near, StatusStore};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use tokio::sync::watch;

use crate::admin::Readiness;
use crate::config::{BusKind, Config, LoadError, Role};
use crate::directory::{FromStore, Known};
use crate::history::{History, Kept};
use crate::store::Stores;

/// How long the bus is waited for at the start.
const CONNECT_LIMIT: Duration = Duration::from_secs(30);

/// What roles are wired to.
pub struct Wiring {
    /// How they reach each other.
    pub bus: Arc<dyn Bus>,
    /// The arbiter of claims.
    pub epochs: Arc<dyn EpochStore>,
    /// Where transitions go for keeping.
    pub sink: Box<dyn TransitionSink>,
    /// Where claims and last seen are kept; `None`: nowhere.
    pub store: Option<Arc<dyn StatusStore>>,
    /// Where gateways read how users were while owners are not heard; `None`: nowhere, they are `unknown` then.
    pub last_known: Option<Arc<dyn StatusStore>>,
    /// The cache in front of these stores, for its metrics.
    pub cache: Option<Cached>,
    /// What a gateway keeps of them in its memory, for its metrics.
    pub near: Option<Near>,
    /// What the gateway's listener serves beside the contract.
    pub site: Option<axum::Router>,
    /// Where the history goes; `None`: nowhere.
    pub history: Option<History>,
    /// Who users are, and their history, as gateways tell administrators; `None`: nobody knows.
    pub people: Option<Arc<dyn Known>>,
    /// The bus as one over NATS, where it is: the stream of the history is on the same servers.
    pub nats: Option<NatsBus>,
    /// A gateway of one shard runs on the thread that starts it, which must be in a `LocalSet`. Default: false.
    pub on_this_thread: bool,
}

impl std::fmt::Debug for Wiring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wiring").finish_non_exhaustive()
    }
}

impl Wiring {
    /// Within this process.
    #[must_use]
    pub fn local() -> Self {
        Self::over(LocalBus::new())
    }

    /// Within this process, over a bus that the caller keeps too.
    #[must_use]
    pub fn over(bus: LocalBus) -> Self {
        Self {
            bus: Arc::new(bus),
            epochs: Arc::new(LocalEpochs::new()),
            sink: Box::new(Discard),
            store: None,
            last_known: None,
            cache: None,
            near: None,
            site: None,
            history: None,
            people: None,
            nats: None,
            on_this_thread: false,
        }
    }

    /// Over NATS. Waits until it is connected, at most 30 s.
    ///
    /// # Errors
    /// The configuration cannot be used, or no server answers.
    pub async fn nats(config: &NatsConfig) -> anyhow::Result<Self> {
        let bus = NatsBus::connect(config).await?;
        wait_until_connected(&bus).await?;
        let epochs = Arc::new(bus.epochs());
        let mut wiring = Self::over(LocalBus::new());
        (wiring.bus, wiring.epochs, wiring.nats) = (Arc::new(bus.clone()), epochs, Some(bus));
        Ok(wiring)
    }
}

impl Wiring {
    /// With the stores that the configuration names, opened. A server that does not answer now is connected to later.
    ///
    /// # Errors
    /// One cannot be opened; the key is named, and what to do.
    pub async fn with_store(mut self, config: &Config) -> Result<Self, LoadError> {
        let Stores { status, cache, near, targets, people } = crate::store::open(config).await?;
        (self.people, self.cache, self.near, self.last_known) = (people, cache, near, status.clone());
        if config.plays(Role::Coordinator) {
            self.store = status;
            if self.store.is_none() {
                tracing::warn!("claims and last seen are not kept over a restart: see [store]");
            }
        }
        let keeps = config.plays(Role::Coordinator) || config.plays(Role::Archiver);
        if config.activity.keep && keeps {
            let archive = Archive::new(config.placement()?, targets);
            self.history = Some(match &self.nats {
                Some(bus) => History::over(bus, archive, config),
                None => History::within(archive),
            });
        }
        Ok(self)
    }
}

async fn wait_until_connected(bus: &NatsBus) -> anyhow::Result<()> {
    let mut events = bus.events();
    let connected = async {
        while !bus.is_connected() {
            // What event it was does not matter: the state is asked again.
            let _ = events.recv().await;
        }
    };
    let waited = tokio::time::timeout(CONNECT_LIMIT, connected).await;
    waited.map_err(|_| anyhow::anyhow!("nats.servers: none has answered for {CONNECT_LIMIT:?}"))
}

/// Why the roles could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A value of the configuration cannot be used.
    #[error(transparent)]
    Config(#[from] LoadError),
    /// The gateway could not start.
    #[error("gateway.{0}")]
    Gateway(GatewayError),
    /// The coordinator could not start.
    #[error(transparent)]
    Coordinator(#[from] herenow_coordinator_server::StartError),
}

impl From<GatewayError> for StartError {
    fn from(error: GatewayError) -> Self {
        match error {
            GatewayError::Config(why) => Self::Config(LoadError::under("gateway", &why)),
            error @ (GatewayError::Listen { .. } | GatewayError::System(_)) => Self::Gateway(error),
        }
    }
}

/// How long the start waits until requests over the bus are heard.
const LISTENING: Duration = Duration::from_secs(2);

/// The roles of one configuration, running. Dropping it ends them at once, as a crash would; [`Self::leave`] is the
/// orderly way.
pub struct Embedded {
    registry: Arc<Registry>,
    probe: Probe,
    gateway: Option<GatewayServer>,
    coordinator: Option<CoordinatorServer>,
    history: Option<Kept>,
    bus: Arc<dyn Bus>,
}

impl std::fmt::Debug for Embedded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Embedded").field("gateway", &self.gateway).finish_non_exhaustive()
    }
}

impl Embedded {
    /// Starts the roles.
    ///
    /// # Errors
    /// A relation of the configuration does not hold, or a role cannot start.
    pub async fn start(config: Config, wiring: Wiring) -> Result<Self, StartError> {
        config.check()?;
        let placement = config.placement()?;
        let mut registry = Registry::default();
        let violations = describe(&mut registry);
        let Wiring {
            bus,
            epochs,
            sink,
            store,
            last_known,
            cache,
            near,
            site,
            history,
            people,
            on_this_thread,
            ..
        } = wiring;
        cache.into_iter().for_each(|cache| crate::kept::register(cache, &mut registry));
        near.into_iter().for_each(|near| crate::kept::register_near(near, &mut registry));
        let history = history.map(|history| history.start(&config, &mut registry));
        let sink = history.as_ref().and_then(Kept::sink).unwrap_or(sink);
        let coordinator = if config.plays(Role::Coordinator) {
            let keep = store.map(|store| Keep { store, config: config.store.keep() });
            let setup = coordinator_setup(&config, &placement, &violations, keep)?;
            Some(CoordinatorServer::start(setup, Arc::clone(&bus), epochs, sink, &mut registry).await?)
        } else {
            None
        };
        let gateway = if config.plays(Role::Gateway) {
            let process = config.process()?;
            let bus = Arc::clone(&bus);
            let placement = placement.clone();
            let directory = people.map(|people| {
                Arc::new(FromStore::new(people, placement.clone(), &mut registry)) as Arc<dyn Directory>
            });
            let last_known = last_known.map(|store| {
                Arc::new(crate::kept::FromStore { store, placement: placement.clone() }) as Arc<dyn LastKnown>
            });
            let registry = &mut registry;
            let extra = site;
            let parts = Parts {
                process,
                placement,
                bus,
                registry,
                violations,
                extra,
                directory,
                last_known,
                on_this_thread,
            };
            let mut gateway = GatewayServer::start(config.gateway()?.clone(), parts)?;
            // A bus that is away does not keep the gateway from its clients.
            let _ = tokio::time::timeout(LISTENING, gateway.listening()).await;
            Some(gateway)
        } else {
            None
        };
        let probe = Probe {
            partitions: usize::from(placement.partitions()),
            alone: config.cluster.bus == BusKind::Local,
            coordinator: coordinator.as_ref().map(CoordinatorServer::watch),
            leaving: Arc::default(),
        };
        Ok(Self { registry: Arc::new(registry), probe, gateway, coordinator, history, bus })
    }

    /// Where clients and backends connect; none without the role.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.gateway.as_ref().map(GatewayServer::address)
    }

    /// The metrics of the process.
    #[must_use]
    pub fn registry(&self) -> Arc<Registry> {
        Arc::clone(&self.registry)
    }

    /// Tells whether the process should be given clients, for as long as anybody asks.
    #[must_use]
    pub fn probe(&self) -> Probe {
        self.probe.clone()
    }

    /// Waits until the coordinator of this process is ready and, where it is alone, owns everything.
    pub async fn ready(&self) {
        let Some(mut status) = self.probe.coordinator.clone() else { return };
        let least = if self.probe.alone { self.probe.partitions } else { 0 };
        // An error means that the coordinator is gone, which is not worth waiting for either.
        let _ = status.wait_for(|status| status.ready && status.settled >= least).await;
    }

    /// Waits until a role ended that nobody asked to end, and returns which.
    pub async fn failed(&mut self) -> Role {
        let mut coordinator = self.probe.coordinator.clone();
        let coordinator = async {
            match &mut coordinator {
                Some(status) => while status.changed().await.is_ok() {},
                None => std::future::pending().await,
            }
        };
        let gateway = async {
            match &mut self.gateway {
                Some(gateway) => gateway.failed().await,
                None => std::future::pending().await,
            }
        };
        let archiver = async {
            match &mut self.history {
                Some(history) => history.failed().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = archiver => Role::Archiver,
            () = gateway => Role::Gateway,
            () = coordinator => Role::Coordinator,
        }
    }

    /// Leaves in order: clients are told to come back, spread over the window; when it is over, the partitions are
    /// given away, and what was said last has left the process.
    pub async fn leave(self, window: Duration) {
        self.probe.leaving.store(true, Ordering::Relaxed);
        if let Some(gateway) = self.gateway {
            gateway.drain(window).await;
        }
        if let Some(coordinator) = self.coordinator {
            coordinator.drain().await;
        }
        if let Some(history) = self.history {
            history.leave().await;
        }
        self.bus.flush().await;
    }
}

fn coordinator_setup(
    config: &Config,
    placement: &Placement,
    violations: &Violations,
    keep: Option<Keep>,
) -> Result<Setup, StartError> {
    let mut rules = config.coordinator.clone();
    if config.cluster.bus == BusKind::Local {
        // Every gateway and every coordinator there can be is in this process: nobody to wait for.
        rules.ready_after = Duration::ZERO;
        rules.settle_after = Duration::ZERO;
    }
    Ok(Setup {
        config: rules,
        id: config.process()?,
        incarnation: Incarnation::starting(crate::clock::wall(), random()?),
        placement: placement.clone(),
        seed: random()?,
        violations: violations.clone(),
        keep,
    })
}

/// Tells whether a process should be given clients.
#[derive(Clone, Debug)]
pub struct Probe {
    partitions: usize,
    alone: bool,
    coordinator: Option<watch::Receiver<Status>>,
    leaving: Arc<AtomicBool>,
}

impl Probe {
    /// What it finds now.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        let mut waiting_for = Vec::new();
        if self.leaving.load(Ordering::Relaxed) {
            waiting_for.push("nothing: the process leaves".to_owned());
        }
        let status = self.coordinator.as_ref().map(|status| *status.borrow());
        if let Some(status) = status {
            if !status.ready {
                waiting_for.push("the coordinator to be ready".to_owned());
            } else if self.alone && status.settled < self.partitions {
                waiting_for.push(format!(
                    "{} of {} partitions to settle",
                    self.partitions - status.settled,
                    self.partitions
                ));
            }
        }
        Readiness {
            ready: waiting_for.is_empty(),
            waiting_for,
            partitions: status.map(|status| status.owned),
        }
    }
}

fn random() -> Result<u64, LoadError> {
    getrandom::u64()
        .map_err(|error| LoadError::new("the machine", format!("gives no random numbers: {error}")))
}

/// What is told of the process as a whole.
fn describe(registry: &mut Registry) -> Violations {
    let version = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
    registry.register("herenow_build", "The program that runs", version);
    let violations = Violations::default();
    let help = "Invariants found broken, by id: a slip of a program, to be reported";
    registry.register("herenow_invariant_violations", help, violations.clone());
    violations
}
