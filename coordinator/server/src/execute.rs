//! Carries out what the core wants done.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use herenow_bus::{Bus, EpochStore};
use herenow_coordinator_core::{Input, Output, Recorded, Transition};
use herenow_protocol::codec::{self, Bundle, CodecError};
use herenow_protocol::message::{CoordinatorBeat, ToGateway};
use herenow_protocol::{CoordinatorId, Epoch, GatewayId, Partition, subject};
use serde::Serialize;
use tokio::sync::{oneshot, watch};

use crate::keep::Keeper;
use crate::metrics::Metrics;
use crate::server::Status;
use crate::sink::TransitionSink;
use crate::sources::Sources;

/// Where the outputs of the core go.
pub(crate) struct Executor {
    pub(crate) id: CoordinatorId,
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) epochs: Arc<dyn EpochStore>,
    pub(crate) sink: Box<dyn TransitionSink>,
    /// What each gateway is told in this turn.
    pub(crate) bundles: HashMap<GatewayId, Bundle>,
    pub(crate) keeper: Option<Keeper>,
    /// The number of the last beat, and whether that waited.
    pub(crate) announced: Arc<AtomicU64>,
    pub(crate) waited: bool,
    pub(crate) metrics: Metrics,
    pub(crate) status: watch::Sender<Status>,
}

impl Executor {
    /// Carries out all of it, in order. Returns whether a sign of life was among it.
    pub(crate) fn all(&mut self, outputs: &mut Vec<Output>, sources: &mut Sources) -> bool {
        let alive = outputs.iter().any(|output| matches!(output, Output::Beat(_)));
        for output in outputs.drain(..) {
            self.one(output, sources);
        }
        for (gateway, mut bundle) in std::mem::take(&mut self.bundles) {
            if let Some(bytes) = bundle.take() {
                self.publish(&subject::gateway(&gateway), bytes);
            }
        }
        alive
    }

    /// What one gateway is told in one turn goes as one.
    fn bundle(&mut self, gateway: &GatewayId, message: &ToGateway) {
        let full = match self.bundles.get_mut(gateway) {
            Some(bundle) => bundle.add(message),
            None => self.bundles.entry(gateway.clone()).or_default().add(message),
        };
        match full {
            Ok(None) => {}
            Ok(Some(full)) => self.publish(&subject::gateway(gateway), full),
            Err(error) => self.unwritable(&subject::gateway(gateway), error),
        }
    }

    fn one(&mut self, output: Output, sources: &mut Sources) {
        match output {
            Output::Subscribe(partition) => sources.subscribe(partition),
            Output::Unsubscribe(partition) => {
                sources.unsubscribe(partition);
                self.with_store(|keeper| keeper.let_go(partition));
            }
            Output::Record { partition, epoch } => self.record(partition, epoch, sources),
            Output::Beat(beat) => self.beat(&beat),
            Output::Down(delta) => self.send(&subject::down(delta.partition), &delta),
            Output::ToGateway(gateway, message) => self.bundle(&gateway, &message),
            Output::Fenced(coordinator, fenced) => self.send(&subject::coordinator(&coordinator), &fenced),
            Output::Changes(changes) => self.send_json(&subject::changes(changes.partition), &changes),
            Output::UserChange(user, change) => self.send_json(&subject::user_changes(&user), &change),
            Output::Listed { reply, page: Ok(page) } => self.send_json(&reply, &page),
            Output::Listed { reply, page: Err(problem) } => self.send_json(&reply, &problem),
            Output::Transition(transition) => self.hand_on(*transition),
            Output::Erased(user) => self.sink.erased(user),
            Output::Load { partition, epoch, attempt } => {
                self.with_store(|keeper| keeper.load(partition, epoch, attempt));
            }
            Output::Keep(record) => self.with_store(|keeper| keeper.keep(record)),
            Output::Forget { key, written } => self.with_store(|keeper| keeper.forget(key, written)),
        }
    }

    fn with_store(&mut self, act: impl FnOnce(&mut Keeper)) {
        if let Some(keeper) = &mut self.keeper {
            act(keeper);
        }
    }

    fn hand_on(&mut self, transition: Transition) {
        self.metrics.transition(transition.cause);
        self.sink.accept(transition);
    }

    fn beat(&mut self, beat: &CoordinatorBeat) {
        let settled = beat.owned.iter().filter(|owned| owned.settled).count();
        let now = Status { ready: beat.ready, owned: beat.owned.len(), settled };
        self.status.send_if_modified(|status| std::mem::replace(status, now) != now);
        self.announced.store(beat.number, Ordering::Relaxed);
        let written = self.keeper.as_mut().and_then(Keeper::parting);
        // Never two in a row: whoever is not heard is taken for dead.
        let written = written.filter(|_| !self.waited);
        self.waited = written.is_some();
        match written {
            Some(written) => self.beat_after(written, beat),
            None => self.send(subject::COORDINATOR_BEATS, beat),
        }
    }

    /// R12: says what is free once the next owner finds in the store what was said of it. A store that is slow does not
    /// hold that up for long: the next beat says it in any case.
    fn beat_after(&self, written: oneshot::Receiver<()>, beat: &CoordinatorBeat) {
        let Some(bytes) = self.encode(subject::COORDINATOR_BEATS, beat) else { return };
        let (bus, metrics, announced) =
            (Arc::clone(&self.bus), self.metrics.clone(), Arc::clone(&self.announced));
        let number = beat.number;
        tokio::spawn(async move {
            if written.await.is_ok() && announced.load(Ordering::Relaxed) == number {
                publish(&*bus, &metrics, subject::COORDINATOR_BEATS, bytes);
            }
        });
    }

    fn record(&self, partition: Partition, epoch: Epoch, sources: &mut Sources) {
        let (epochs, owner, metrics) = (Arc::clone(&self.epochs), self.id.clone(), self.metrics.clone());
        sources.ask(async move {
            let (outcome, answer) = match epochs.record(partition, epoch, owner.as_str()).await {
                herenow_bus::Recorded::Yes => (Recorded::Yes, "yes"),
                herenow_bus::Recorded::Conflict(higher) => (Recorded::Conflict(higher), "conflict"),
                herenow_bus::Recorded::Unavailable => (Recorded::Unavailable, "unavailable"),
            };
            metrics.recorded(answer);
            vec![Input::Recorded { partition, epoch, outcome }]
        });
    }

    fn send<T: Serialize>(&self, subject: &str, message: &T) {
        if let Some(bytes) = self.encode(subject, message) {
            self.publish(subject, bytes);
        }
    }

    fn encode<T: Serialize>(&self, subject: &str, message: &T) -> Option<Vec<u8>> {
        codec::encode(message).inspect_err(|error| self.unwritable(subject, *error)).ok()
    }

    fn unwritable(&self, subject: &str, error: CodecError) {
        self.metrics.oversized();
        tracing::error!(%subject, %error, "a message was not sent");
    }

    fn send_json<T: Serialize>(&self, subject: &str, body: &T) {
        match serde_json::to_vec(body) {
            Ok(bytes) => self.publish(subject, bytes),
            Err(error) => tracing::error!(%error, "a body could not be written"),
        }
    }

    fn publish(&self, subject: &str, bytes: Vec<u8>) {
        publish(&*self.bus, &self.metrics, subject, bytes);
    }
}

fn publish(bus: &dyn Bus, metrics: &Metrics, subject: &str, bytes: Vec<u8>) {
    if let Err(error) = bus.publish(subject, Bytes::from(bytes)) {
        metrics.publish_failed(error);
        tracing::debug!(%error, "a message was refused");
    }
}

/// What the arbiter has on record, as inputs. Empty when it does not answer in time.
pub(crate) async fn known(epochs: Arc<dyn EpochStore>) -> Vec<Input> {
    let record = tokio::time::timeout(LOAD_LIMIT, epochs.load()).await.unwrap_or_default();
    record.into_iter().map(|(partition, epoch)| Input::Known { partition, epoch }).collect()
}

/// How long the arbiter's record is waited for at the start.
const LOAD_LIMIT: std::time::Duration = std::time::Duration::from_secs(2);
