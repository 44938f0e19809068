//! How Herenow's roles reach each other: in one process, or over NATS.
//!
//! The bus carries hints, never truth: it may lose, double or reorder any message, and says so when it knows. Nobody
//! waits for it: [`Bus::publish`] returns at once, and what it refuses is repaired by the rules of the cores.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{Stream, StreamExt as _};
use herenow_protocol::{Epoch, Partition};
use tokio::sync::broadcast;

/// A message as it arrived.
#[derive(Clone, Debug)]
pub struct Message {
    /// What it was published on.
    pub subject: String,
    /// What it carries.
    pub payload: Bytes,
    /// Where an answer is expected, for requests of backends.
    pub reply: Option<String>,
}

/// Whether messages get through, as far as this process can know.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// They do, from now on; some may have been lost before.
    Connected,
    /// They do not.
    Disconnected,
    /// Some of what was for this process was dropped, because it did not take it in time.
    Lossy,
}

/// Why a message was not sent. The sender counts it and goes on; repair finds the gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// Nobody would get it.
    #[error("the bus is disconnected")]
    Disconnected,
    /// Too much waits to be sent already.
    #[error("the bus is full")]
    Full,
    /// The bus takes no message of this size.
    #[error("the message is over the bus's limit")]
    TooBig,
    /// The subject is not one that can be published on.
    #[error("the subject cannot be published on")]
    Subject,
}

/// Why a subscription could not be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot subscribe to {subject}: {reason}")]
pub struct SubscribeError {
    /// To what.
    pub subject: String,
    /// Why.
    pub reason: String,
}

/// Messages of one subscription. Dropping it ends the subscription.
pub struct Subscription(Pin<Box<dyn Stream<Item = Message> + Send>>);

impl Subscription {
    /// Makes a subscription of any stream of messages.
    pub fn new(stream: impl Stream<Item = Message> + Send + 'static) -> Self {
        Self(Box::pin(stream))
    }
}

impl std::fmt::Debug for Subscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subscription").finish_non_exhaustive()
    }
}

impl Stream for Subscription {
    type Item = Message;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        self.0.poll_next_unpin(cx)
    }
}

/// Publishes and subscribes. Subjects are tokens between dots; a subscription may have `*` for one token and `>` for
/// the rest.
pub trait Bus: Send + Sync {
    /// Sends a message to whoever is subscribed now, also to this process itself. Never waits.
    ///
    /// # Errors
    /// Why it was not sent. `Ok` says nothing about arrival.
    fn publish(&self, subject: &str, payload: Bytes) -> Result<(), PublishError>;

    /// Asks for all messages on a subject; with `queue`, for a share of them, each message going to one subscriber
    /// of the same queue.
    fn subscribe<'a>(
        &'a self,
        subject: &'a str,
        queue: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Subscription, SubscribeError>>;

    /// Tells what happens to the bus from now on.
    fn events(&self) -> broadcast::Receiver<Event>;
}

/// What the arbiter said to a claim.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Recorded {
    /// The claim is on record.
    Yes,
    /// Not lower than the claim is on record already: this.
    Conflict(Epoch),
    /// The arbiter cannot be reached; nobody knows whether the claim is on record.
    Unavailable,
}

/// The arbiter of claims: keeps the highest epoch of each partition. Not a lease: losing it stops nobody.
pub trait EpochStore: Send + Sync {
    /// Records a claim by compare-and-set if it is higher than what is on record. Answers within a second.
    fn record(&self, partition: Partition, epoch: Epoch, owner: &str) -> BoxFuture<'_, Recorded>;

    /// Everything on record; empty when the arbiter cannot be reached. Answers within a second.
    fn load(&self) -> BoxFuture<'_, Vec<(Partition, Epoch)>>;
}
