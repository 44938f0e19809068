//! The loop, and the handle by which the rest of the process holds it.

use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use herenow_bus::{Bus, EpochStore, SubscribeError};
use herenow_coordinator_core::{Config, Coordinator, Input, Output};
use herenow_protocol::{CoordinatorId, Incarnation, MonoTime, Now, Placement};
use prometheus_client::registry::Registry;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Sleep;

use crate::clock::Clock;
use crate::execute::{Executor, known};
use crate::keep::{Keep, Keeper};
use crate::metrics::{Metrics, Violations};
use crate::sink::TransitionSink;
use crate::sources::{Sources, Stop};

/// How long giving everything away may take before the loop ends all the same.
const DRAIN_LIMIT: Duration = Duration::from_secs(2);

/// What a coordinator is made of.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Times and limits.
    pub config: Config,
    /// Its name, unique among the coordinators of the deployment.
    pub id: CoordinatorId,
    /// Its life, higher than every earlier one.
    pub incarnation: Incarnation,
    /// Where users belong; the same in every process.
    pub placement: Placement,
    /// What every random choice is drawn from. Random in production.
    pub seed: u64,
    /// Where it counts invariants found broken.
    pub violations: Violations,
    /// Where what outlives it is kept; `None`: nothing does.
    pub keep: Option<Keep>,
}

/// What a coordinator last said of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Status {
    /// May be given partitions.
    pub ready: bool,
    /// How many partitions it owns.
    pub owned: usize,
    /// Of how many of them it may state that somebody is offline.
    pub settled: usize,
}

/// Why a coordinator could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration breaks a relation; the key is named.
    #[error("coordinator.{0}")]
    Config(String),
    /// The configuration of the store breaks a relation; the key is named.
    #[error("store.{0}")]
    Store(String),
    /// The bus takes no subscription.
    #[error(transparent)]
    Subscribe(#[from] SubscribeError),
}

/// A running coordinator. Dropping it ends the loop at once, as a crash would; [`Self::drain`] is the orderly way.
#[derive(Debug)]
pub struct CoordinatorServer {
    stop: Option<oneshot::Sender<()>>,
    status: watch::Receiver<Status>,
    task: JoinHandle<()>,
}

impl CoordinatorServer {
    /// Starts a coordinator on the runtime of the caller and puts its metrics into `registry`.
    ///
    /// # Errors
    /// [`StartError`]: a relation of the configuration does not hold, or the bus takes no subscription.
    pub async fn start(
        setup: Setup,
        bus: Arc<dyn Bus>,
        epochs: Arc<dyn EpochStore>,
        sink: Box<dyn TransitionSink>,
        registry: &mut Registry,
    ) -> Result<Self, StartError> {
        setup.config.check().map_err(StartError::Config)?;
        let metrics = Metrics::register(registry, setup.violations.clone());
        let (setup, keeper, kept) = open_door(setup, registry)?;
        let (stop, stopped) = oneshot::channel();
        let (status, told) = watch::channel(Status::default());
        let sources = Sources::open(Arc::clone(&bus), &setup.id, metrics.clone(), kept, stopped).await?;
        let known = known(Arc::clone(&epochs)).await;
        let (id, announced) = (setup.id.clone(), Arc::default());
        let bundles = HashMap::new();
        let executor =
            Executor { id, bus, epochs, sink, bundles, keeper, announced, waited: false, metrics, status };
        let task = tokio::spawn(Loop::new(setup, sources, executor).run(known));
        Ok(Self { stop: Some(stop), status: told, task })
    }

    /// Whether it may be given partitions.
    #[must_use]
    pub fn ready(&self) -> bool {
        self.status().ready
    }

    /// What it last said of itself.
    #[must_use]
    pub fn status(&self) -> Status {
        *self.status.borrow()
    }

    /// Follows what it says of itself.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// Whether the loop still runs.
    #[must_use]
    pub fn running(&self) -> bool {
        !self.task.is_finished()
    }

    /// Gives every partition away, has kept what is to be kept, then ends. Takes at most two seconds, and with a store
    /// five more.
    pub async fn drain(mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the coordinator broke off");
        }
    }
}

type Door = (Setup, Option<Keeper>, Option<mpsc::Receiver<Input>>);

/// With a store, the rules wait for it.
fn open_door(mut setup: Setup, registry: &mut Registry) -> Result<Door, StartError> {
    let Some(keep) = setup.keep.take() else { return Ok((setup, None, None)) };
    keep.config.check().map_err(StartError::Store)?;
    setup.config.restore_timeout = keep.config.load_timeout;
    let (keeper, kept) = Keeper::start(keep, setup.placement.clone(), registry);
    Ok((setup, Some(keeper), Some(kept)))
}

struct Loop {
    clock: Clock,
    core: Coordinator,
    heartbeat: Duration,
    sources: Sources,
    executor: Executor,
    timer: Pin<Box<Sleep>>,
    leaving: Option<Leaving>,
}

/// On the way out: when to end at the latest, and, once there is nothing left to give or nobody to give it to, the end.
struct Leaving {
    latest: MonoTime,
    end: Option<MonoTime>,
}

impl Loop {
    fn new(setup: Setup, sources: Sources, executor: Executor) -> Self {
        let clock = Clock::start();
        let heartbeat = setup.config.heartbeat_interval;
        let Setup { config, id, incarnation, placement, seed, .. } = setup;
        Self {
            core: Coordinator::new(config, id, incarnation, placement, seed, clock.now()),
            clock,
            heartbeat,
            sources,
            executor,
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
            leaving: None,
        }
    }

    async fn run(mut self, known: Vec<Input>) {
        let mut inputs = known;
        let mut outputs = Vec::new();
        loop {
            let stop = poll_fn(|cx| self.poll(cx, &mut inputs)).await;
            if stop == Some(Stop::Now) {
                return;
            }
            if self.turn(stop, &mut inputs, &mut outputs) {
                break;
            }
        }
        if let Some(keeper) = self.executor.keeper.take() {
            keeper.close().await;
        }
    }

    /// Handles all that came, carries out all that is wanted. Returns whether it was the last turn.
    fn turn(&mut self, stop: Option<Stop>, inputs: &mut Vec<Input>, outputs: &mut Vec<Output>) -> bool {
        let began = self.clock.elapsed();
        let now = self.clock.now();
        let count = inputs.len();
        for input in inputs.drain(..) {
            self.core.handle(input, now, outputs);
        }
        if stop == Some(Stop::Drain) {
            self.leave(now, outputs);
        }
        if self.core.poll_timeout().is_some_and(|due| due <= now.mono) {
            self.core.handle_timeout(now, outputs);
        }
        let metrics = self.executor.metrics.clone();
        if self.executor.all(outputs, &mut self.sources) {
            metrics.stats(&self.core.stats());
        }
        metrics.turn(count, self.clock.elapsed().saturating_sub(began));
        let last = self.has_left(now);
        self.set_timer(now);
        last
    }

    /// Ready when there is something to handle, or a timer is due.
    fn poll(&mut self, cx: &mut Context<'_>, inputs: &mut Vec<Input>) -> Poll<Option<Stop>> {
        match self.sources.poll(cx, inputs) {
            Poll::Pending if inputs.is_empty() => self.timer.as_mut().poll(cx).map(|()| None),
            Poll::Pending => Poll::Ready(None),
            ready @ Poll::Ready(_) => ready,
        }
    }

    fn leave(&mut self, now: Now, outputs: &mut Vec<Output>) {
        tracing::info!("the coordinator gives its partitions away");
        self.core.handle(Input::Drain, now, outputs);
        self.leaving = Some(Leaving { latest: now.mono.after(DRAIN_LIMIT), end: None });
    }

    fn has_left(&mut self, now: Now) -> bool {
        let Some(leaving) = &mut self.leaving else { return false };
        let stats = self.core.stats();
        let nothing_to_give = stats.partitions == 0 || stats.coordinators <= 1;
        if leaving.end.is_none() && nothing_to_give {
            leaving.end = Some(now.mono.after(self.heartbeat));
        }
        now.mono >= leaving.latest || leaving.end.is_some_and(|end| now.mono >= end)
    }

    fn set_timer(&mut self, now: Now) {
        let leaving = self.leaving.as_ref().map(|leaving| leaving.end.unwrap_or(leaving.latest));
        let due = [self.core.poll_timeout(), leaving].into_iter().flatten().min();
        let idle = now.mono.after(IDLE);
        if let Some(at) = self.clock.instant(due.unwrap_or(idle).min(idle)) {
            self.timer.as_mut().reset(at);
        }
    }
}

/// How often the loop turns when nothing is due.
const IDLE: Duration = Duration::from_secs(60);
