//! Everything a turn can begin with, in the order of importance: signs of life before everything, so that no
//! amount of other work makes the living look dead.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::{AbortHandle, BoxFuture, FutureExt as _};
use futures::stream::{Abortable, BoxStream, FuturesUnordered, SelectAll, Stream, StreamExt as _};
use herenow_bus::{Bus, Event, Message, SubscribeError, Subscription};
use herenow_coordinator_core::Input;
use herenow_protocol::codec::{self, CodecError};
use herenow_protocol::{CoordinatorId, Partition, subject};
use serde::de::DeserializeOwned;
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::task::JoinSet;

use crate::metrics::Metrics;

/// Most messages one source gives to one turn.
const BATCH: usize = 256;

/// Most bundles of questions in one turn: each may ask about every partition, and signs of life must not wait for long.
const BUNDLES: usize = 16;

/// How long after a subscription failed it is tried again.
const RETRY: Duration = Duration::from_millis(200);

type Subscribing = BoxFuture<'static, (Partition, Result<Subscription, SubscribeError>)>;

/// Why the loop was asked to end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stop {
    /// Give everything away first.
    Drain,
    /// Nobody holds the handle any more.
    Now,
}

/// All that can wake the loop.
pub(crate) struct Sources {
    bus: Arc<dyn Bus>,
    metrics: Metrics,
    coordinator_beats: Subscription,
    gateway_beats: Subscription,
    own: Subscription,
    asked: Subscription,
    events: BoxStream<'static, Event>,
    answers: JoinSet<Vec<Input>>,
    subscribing: FuturesUnordered<Subscribing>,
    wanted: BTreeMap<Partition, AbortHandle>,
    ups: SelectAll<Abortable<Subscription>>,
    /// What was kept of partitions, where there is a store.
    kept: Option<mpsc::Receiver<Input>>,
    stop: Option<oneshot::Receiver<()>>,
}

impl Sources {
    /// Subscribes to what every coordinator listens to.
    pub(crate) async fn open(
        bus: Arc<dyn Bus>,
        id: &CoordinatorId,
        metrics: Metrics,
        kept: Option<mpsc::Receiver<Input>>,
        stop: oneshot::Receiver<()>,
    ) -> Result<Self, SubscribeError> {
        let events = event_stream(bus.events());
        let coordinator_beats = bus.subscribe(subject::COORDINATOR_BEATS, None).await?;
        let gateway_beats = bus.subscribe(subject::GATEWAY_BEATS, None).await?;
        let own = bus.subscribe(&subject::coordinator(id), None).await?;
        let asked = bus.subscribe(&subject::owner(id), None).await?;
        Ok(Self {
            bus,
            metrics,
            coordinator_beats,
            gateway_beats,
            own,
            asked,
            events,
            answers: JoinSet::new(),
            subscribing: FuturesUnordered::new(),
            wanted: BTreeMap::new(),
            ups: SelectAll::new(),
            kept,
            stop: Some(stop),
        })
    }

    /// Lets an answer that takes time come back as inputs.
    pub(crate) fn ask(&mut self, question: impl Future<Output = Vec<Input>> + Send + 'static) {
        self.answers.spawn(question);
    }

    /// Listens to a partition. The subscription is made on the spot where the bus can, so that what is published next
    /// is answered on it.
    pub(crate) fn subscribe(&mut self, partition: Partition) {
        let (abort, _) = AbortHandle::new_pair();
        if let Some(before) = self.wanted.insert(partition, abort) {
            before.abort();
        }
        self.attempt(partition, Duration::ZERO);
    }

    fn attempt(&mut self, partition: Partition, wait: Duration) {
        let bus = Arc::clone(&self.bus);
        let mut made: Subscribing = async move {
            if !wait.is_zero() {
                tokio::time::sleep(wait).await;
            }
            (partition, bus.subscribe(&subject::up(partition), None).await)
        }
        .boxed();
        match (&mut made).now_or_never() {
            Some((_, outcome)) => self.subscribed(partition, outcome),
            None => self.subscribing.push(made),
        }
    }

    /// Stops listening to a partition.
    pub(crate) fn unsubscribe(&mut self, partition: Partition) {
        if let Some(abort) = self.wanted.remove(&partition) {
            abort.abort();
        }
    }

    fn subscribed(&mut self, partition: Partition, outcome: Result<Subscription, SubscribeError>) {
        let Some(handle) = self.wanted.get_mut(&partition) else { return };
        match outcome {
            Ok(subscription) => {
                let (stream, abort) = futures::stream::abortable(subscription);
                std::mem::replace(handle, abort).abort();
                self.ups.push(stream);
            }
            Err(error) => {
                self.metrics.subscribe_failed();
                tracing::warn!(%error, "cannot listen to a partition, trying again");
                self.attempt(partition, RETRY);
            }
        }
    }

    /// Takes all that is ready. Waits only while nothing is.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, into: &mut Vec<Input>) -> Poll<Option<Stop>> {
        let metrics = self.metrics.clone();
        take(&mut self.coordinator_beats, cx, into, &metrics, "coordinator_beat", BATCH, one(Input::Beat));
        take(&mut self.gateway_beats, cx, into, &metrics, "gateway_beat", BATCH, one(Input::GatewayBeat));
        take(&mut self.own, cx, into, &metrics, "fenced", BATCH, one(Input::Fenced));
        self.take_events(cx, into);
        self.take_answers(cx, into);
        self.take_kept(cx, into);
        while let Poll::Ready(Some((partition, outcome))) = self.subscribing.poll_next_unpin(cx) {
            self.subscribed(partition, outcome);
        }
        take(&mut self.ups, cx, into, &metrics, "up", BATCH, one(Input::Up));
        // What gateways know goes before what they ask.
        take(&mut self.asked, cx, into, &metrics, "asked", BUNDLES, bundle(Input::Up));
        match self.poll_stop(cx) {
            Some(stop) => Poll::Ready(Some(stop)),
            None if into.is_empty() => Poll::Pending,
            None => Poll::Ready(None),
        }
    }

    fn take_events(&mut self, cx: &mut Context<'_>, into: &mut Vec<Input>) {
        while let Poll::Ready(Some(event)) = self.events.poll_next_unpin(cx) {
            match event {
                Event::Connected | Event::Lossy => {
                    self.metrics.lossy();
                    into.push(Input::BusLossy);
                }
                Event::Disconnected => tracing::warn!("the bus is disconnected"),
            }
        }
    }

    fn take_answers(&mut self, cx: &mut Context<'_>, into: &mut Vec<Input>) {
        while let Poll::Ready(Some(answer)) = self.answers.poll_join_next(cx) {
            match answer {
                Ok(inputs) => into.extend(inputs),
                Err(error) => tracing::error!(%error, "a question to the arbiter broke off"),
            }
        }
    }

    /// One page a turn: a page is long, and signs of life come first.
    fn take_kept(&mut self, cx: &mut Context<'_>, into: &mut Vec<Input>) {
        if let Some(Poll::Ready(page)) = self.kept.as_mut().map(|kept| kept.poll_recv(cx)) {
            into.extend(page);
        }
    }

    fn poll_stop(&mut self, cx: &mut Context<'_>) -> Option<Stop> {
        match Pin::new(self.stop.as_mut()?).poll(cx) {
            Poll::Pending => None,
            Poll::Ready(asked) => {
                self.stop = None;
                Some(if asked.is_ok() { Stop::Drain } else { Stop::Now })
            }
        }
    }
}

/// Takes what is ready, at most so many messages.
fn take(
    from: &mut (impl Stream<Item = Message> + Unpin),
    cx: &mut Context<'_>,
    into: &mut Vec<Input>,
    metrics: &Metrics,
    kind: &'static str,
    most: usize,
    read: impl Fn(&[u8], &mut Vec<Input>) -> Result<(), CodecError>,
) {
    for _ in 0..most {
        let Poll::Ready(Some(message)) = from.poll_next_unpin(cx) else { return };
        metrics.message(kind);
        if let Err(error) = read(&message.payload, into) {
            refuse(&message, error, metrics);
        }
    }
}

/// Reads a message.
fn one<T: DeserializeOwned>(
    input: fn(T) -> Input,
) -> impl Fn(&[u8], &mut Vec<Input>) -> Result<(), CodecError> {
    move |bytes, into| {
        into.push(input(codec::decode(bytes)?));
        Ok(())
    }
}

/// Reads a bundle of messages.
fn bundle<T: DeserializeOwned>(
    input: fn(T) -> Input,
) -> impl Fn(&[u8], &mut Vec<Input>) -> Result<(), CodecError> {
    move |bytes, into| {
        into.extend(codec::decode_bundle(bytes)?.into_iter().map(input));
        Ok(())
    }
}

fn refuse(message: &Message, error: CodecError, metrics: &Metrics) {
    metrics.decode_failed(error);
    tracing::debug!(subject = %message.subject, %error, "a message could not be read");
}

fn event_stream(events: broadcast::Receiver<Event>) -> BoxStream<'static, Event> {
    futures::stream::unfold(events, |mut events| async {
        match events.recv().await {
            Ok(event) => Some((event, events)),
            Err(broadcast::error::RecvError::Lagged(_)) => Some((Event::Lossy, events)),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    })
    .boxed()
}
