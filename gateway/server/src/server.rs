//! The server: shards on threads, and the handle that starts and stops them.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use herenow_bus::Bus;
use herenow_gateway_core::{BusEvent, Input};
use herenow_protocol::code::CloseCode;
use herenow_protocol::id::ProcessId;
use herenow_protocol::time::millis;
use herenow_protocol::{GatewayId, Incarnation, Origin, Placement};
use prometheus_client::registry::Registry;
use rustls::ServerConfig;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, LocalSet, spawn_local};

use crate::auth::Verifier;
use crate::clock::Clock;
use crate::config::Config;
use crate::inbox::Begun;
use crate::metrics::{Metrics, Violations};
use crate::rest::directory::Directory;
use crate::rest::kept::{LastKnown, Memory};
use crate::rest::{self, Api};
use crate::shard::{Common, Shard};
use crate::{backend, calls, inbox, listener, tls};

/// What a shard subscribes to at its start: its own messages, beats, and two kinds of requests.
const SUBSCRIPTIONS: usize = 4;
/// How often sizes are shown to metrics.
const MEASURE: Duration = Duration::from_secs(1);
/// What handlers wait for beyond the core's own patience.
const ANSWER_SLACK: Duration = Duration::from_secs(1);

/// Why a server could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A setting is wrong, or a file it names. Names the key.
    #[error("{0}")]
    Config(String),
    /// The address cannot be listened on.
    #[error("listen: {address}: {why}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        why: io::Error,
    },
    /// The system gave no thread, runtime or random number.
    #[error("{0}")]
    System(String),
}

/// What a server is started with, besides its settings.
pub struct Parts<'a> {
    /// The name of this process; its shards are its gateways.
    pub process: ProcessId,
    /// Where users belong; the same in every process.
    pub placement: Placement,
    /// How coordinators are reached.
    pub bus: Arc<dyn Bus>,
    /// Where metrics are registered, as `herenow_gateway_…`.
    pub registry: &'a mut Registry,
    /// Where it counts invariants found broken.
    pub violations: Violations,
    /// More routes on the public port, such as a demo page. Must have no fallback of its own.
    pub extra: Option<Router>,
    /// Who users are, and their history, for administrators. Default: none.
    pub directory: Option<Arc<dyn Directory>>,
    /// What is kept of users, for when their owners are not heard. Default: none, they are `unknown` then.
    pub last_known: Option<Arc<dyn LastKnown>>,
    /// Where there is one shard, it runs on the thread that starts it, which must be in a `LocalSet`: what the bus has read
    /// is handled without waking another thread. False: each shard has a thread of its own.
    pub on_this_thread: bool,
}

/// A running gateway server. Dropping it stops it at once; see [`GatewayServer::drain`] for the orderly end.
#[derive(Debug)]
pub struct GatewayServer {
    address: SocketAddr,
    shards: Vec<Running>,
}

#[derive(Debug)]
struct Running {
    drain: Option<oneshot::Sender<Duration>>,
    over: oneshot::Receiver<()>,
    /// Each is told of one subscription that is made.
    begun: Vec<oneshot::Receiver<()>>,
}

impl GatewayServer {
    /// Binds the port and starts the shards. Returns once connections are accepted.
    ///
    /// # Errors
    /// A wrong setting, a file that cannot be read, an address that cannot be bound, no thread.
    pub fn start(config: Config, parts: Parts<'_>) -> Result<Self, StartError> {
        config.check().map_err(StartError::Config)?;
        let verifier =
            Verifier::load(&config.auth).map_err(|why| StartError::Config(format!("auth.{why}")))?;
        let tls = config.tls.as_ref().map(tls::load).transpose().map_err(StartError::Config)?;
        let (listen, count) = (config.listen, config.shard_count());
        let here = parts.on_this_thread && count == 1;
        let common = Common {
            clock: Clock::starting(),
            config: Arc::new(config),
            verifier: Arc::new(verifier),
            metrics: Metrics::register(parts.registry, parts.violations),
            bus: parts.bus,
        };
        let fail = |why| StartError::Listen { address: listen, why };
        let sockets = listener::bind(listen, count).map_err(fail)?;
        let address = sockets[0].local_addr().map_err(fail)?;
        let life = Incarnation::starting(common.clock.now().wall, random()?);
        let mut shards = Vec::with_capacity(sockets.len());
        for (shard, socket) in (0..).zip(sockets) {
            let gateway = GatewayId { process: parts.process.clone(), shard };
            let start = Start {
                common: common.clone(),
                origin: Origin { gateway, incarnation: life },
                placement: parts.placement.clone(),
                seed: random()?,
                socket,
                tls: tls.clone(),
                extra: parts.extra.clone(),
                directory: parts.directory.clone(),
                last_known: parts.last_known.clone(),
            };
            shards.push(if here { start.spawn_here() } else { start.spawn()? });
        }
        Ok(Self { address, shards })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until every shard hears coordinators and backends: what is asked over the bus from then on is answered.
    pub async fn listening(&mut self) {
        for begun in self.shards.iter_mut().flat_map(|shard| std::mem::take(&mut shard.begun)) {
            // One that ended without it will be noticed by `failed`.
            let _ = begun.await;
        }
    }

    /// Waits until a shard has ended that nobody asked to end; the process cannot go on without it.
    pub async fn failed(&mut self) {
        let _ = futures::future::select_all(self.shards.iter_mut().map(|shard| &mut shard.over)).await;
    }

    /// Stops in order: no new connection, every client is told to come back spread over `window`, and whoever is
    /// still there at its end is closed with 4000. Returns when all shards have ended.
    pub async fn drain(mut self, window: Duration) {
        for shard in &mut self.shards {
            if let Some(drain) = shard.drain.take() {
                let _ = drain.send(window);
            }
        }
        for shard in &mut self.shards {
            let _ = (&mut shard.over).await;
        }
    }
}

/// A shard's ends of what its handle holds.
struct Ends {
    begin: Vec<Begun>,
    drained: oneshot::Receiver<Duration>,
    /// Dropped when it is over.
    over: oneshot::Sender<()>,
}

fn ends() -> (Running, Ends) {
    let (drain, drained) = oneshot::channel();
    let (ended, over) = oneshot::channel();
    let (begin, begun) = std::iter::repeat_with(oneshot::channel).take(SUBSCRIPTIONS).unzip();
    (Running { drain: Some(drain), over, begun }, Ends { begin, drained, over: ended })
}

fn random() -> Result<u64, StartError> {
    getrandom::u64().map_err(|why| StartError::System(format!("no random number: {why}")))
}

/// What one shard's thread is started with.
struct Start {
    common: Common,
    origin: Origin,
    placement: Placement,
    seed: u64,
    socket: std::net::TcpListener,
    tls: Option<Arc<ServerConfig>>,
    extra: Option<Router>,
    directory: Option<Arc<dyn Directory>>,
    last_known: Option<Arc<dyn LastKnown>>,
}

impl Start {
    fn spawn(self) -> Result<Running, StartError> {
        let system = |why: io::Error| StartError::System(format!("no thread for a shard: {why}"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(system)?;
        let name = format!("gateway-{}", self.origin.gateway.shard);
        let (running, ends) = ends();
        let run = move || runtime.block_on(self.live(ends));
        std::thread::Builder::new().name(name).spawn(run).map_err(system)?;
        Ok(running)
    }

    fn spawn_here(self) -> Running {
        let (running, ends) = ends();
        drop(spawn_local(self.live(ends)));
        running
    }

    async fn live(self, Ends { begin, drained, over }: Ends) {
        let local = LocalSet::new();
        let shard = Shard::new(self.common.clone(), self.origin.clone(), self.placement.clone(), self.seed);
        local.run_until(self.run(Rc::clone(&shard), begin, drained)).await;
        shard.end();
        drop(local);
        drop(over);
    }

    /// The life of a shard: all its tasks, until it is drained or the handle is dropped.
    async fn run(self, shard: Rc<Shard>, begin: Vec<Begun>, drained: oneshot::Receiver<Duration>) {
        let accept = match self.open(&shard, begin) {
            Ok(accept) => accept,
            Err(why) => return tracing::error!(%why, "shard cannot listen"),
        };
        if let Ok(window) = drained.await {
            accept.abort();
            drain(&shard, window).await;
        }
    }

    fn open(self, shard: &Rc<Shard>, begin: Vec<Begun>) -> io::Result<AbortHandle> {
        spawn_local(inbox::events(Rc::clone(shard), self.common.bus.events()));
        let connected = self.common.bus.is_connected();
        let event = if connected { BusEvent::Connected } else { BusEvent::Disconnected };
        shard.feed(Input::Bus(event), shard.now());
        let mut begin = begin.into_iter();
        let mut begun = || begin.next().unwrap_or_else(|| oneshot::channel().0);
        spawn_local(inbox::messages(Rc::clone(shard), begun()));
        spawn_local(inbox::beats(Rc::clone(shard), begun()));
        spawn_local(backend::get(Rc::clone(shard), begun()));
        spawn_local(backend::set(Rc::clone(shard), begun()));
        spawn_local(inbox::timer(Rc::clone(shard)));
        spawn_local(measure(Rc::clone(shard)));
        let config = &self.common.config;
        let (sender, receiver) = mpsc::channel(config.caps.calls);
        spawn_local(calls::run(Rc::clone(shard), receiver));
        let (reads, wait) = (config.caps.kept_reads, config.core.request_timeout);
        let memory = Memory::new(self.last_known, reads, wait, Arc::clone(&self.common.metrics));
        let api = Api {
            memory,
            calls: sender,
            verifier: Arc::clone(&self.common.verifier),
            clock: self.common.clock,
            body_timeout: config.timeouts.body,
            answer_timeout: config.core.request_timeout + ANSWER_SLACK,
            directory: self.directory,
        };
        let router = rest::router(api, self.extra);
        let listener = tokio::net::TcpListener::from_std(self.socket)?;
        let tls = self.tls.map(tls::Acceptor::new);
        let task = spawn_local(listener::accept(Rc::clone(shard), listener, tls, router));
        Ok(task.abort_handle())
    }
}

/// How many beats a gateway lives on after it has left. One lost in a hundred, the usual bad network, loses four in
/// a row once in a hundred million departures.
const FAREWELL_BEATS: u32 = 3;

async fn measure(shard: Rc<Shard>) {
    loop {
        shard.measure();
        tokio::time::sleep(MEASURE).await;
    }
}

/// Tells every client to go, waits for them, closes who is left, and tells coordinators of the last that went.
async fn drain(shard: &Rc<Shard>, window: Duration) {
    shard.start_drain();
    // A little less, so that those who come back when they are told are gone before the rest is closed.
    let spread = window * 9 / 10;
    shard.feed(Input::Drain { within_ms: millis(spread) }, shard.now());
    if tokio::time::timeout(window, empty(shard)).await.is_err() {
        shard.close_all(CloseCode::Shutdown);
        let patience = shard.common.config.timeouts.close + Duration::from_millis(500);
        let _ = tokio::time::timeout(patience, empty(shard)).await;
    }
    shard.feed(Input::Leave, shard.now());
    shard.measure();
    // Its beats go on for a while, and each says that it has left: one alone may be lost.
    tokio::time::sleep(shard.common.config.core.beat_interval * FAREWELL_BEATS).await;
}

async fn empty(shard: &Shard) {
    while shard.sockets() > 0 {
        shard.gone.notified().await;
    }
}
