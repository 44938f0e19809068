//! How Herenow's roles reach each other: in one process ([`LocalBus`]), or over NATS ([`NatsBus`]).
//!
//! The bus carries hints, never truth: it may lose, double or reorder any message, and says so when it knows. Nobody
//! waits for it: [`Bus::publish`] returns at once, and what it refuses is repaired by the rules of the cores.
//!
//! Both implementations are held to `tests/conformance.rs`.

use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use herenow_protocol::{Epoch, Partition};
use tokio::sync::broadcast;

mod journal;
mod local;
mod message;
mod nats;
mod subject;
#[cfg(feature = "testing")]
pub mod testing;

pub use journal::{Backlog, Journal, JournalError, LocalJournal, TAKEN, Taken};
pub use local::{LocalBus, LocalEpochs};
pub use message::{Message, Subscription};
pub use nats::{
    ConfigError, ConnectError, JournalConfig, NatsBus, NatsConfig, NatsEpochs, NatsJournal, NatsTls, Secret,
};

/// Most bytes of one message on any bus: what a NATS server takes unless told otherwise.
pub const PAYLOAD_BYTES: usize = 1024 * 1024;
/// Most bytes of a subject. A NATS server ends the connection over a line of 4 KiB.
pub const SUBJECT_BYTES: usize = 1024;
/// Messages that wait in one subscription before the newest are dropped, unless told otherwise.
pub const SUBSCRIPTION_MESSAGES: usize = 65_536;
/// Longest that [`Bus::flush`] waits: a server that takes nothing keeps nobody from ending.
pub const FLUSH_LIMIT: Duration = Duration::from_secs(1);
/// Events that a receiver may lag behind. One that lags further must take it for [`Event::Lossy`].
pub const EVENTS: usize = 64;

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

impl SubscribeError {
    pub(crate) fn new(subject: &str, reason: impl ToString) -> Self {
        Self { subject: subject.to_owned(), reason: reason.to_string() }
    }
}

/// Publishes and subscribes. Subjects are tokens between dots; a subscription may have `*` for one token and `>` for
/// the rest.
///
/// Messages of one publisher arrive in order on the subjects of one kind; between beats and everything else there is
/// no order.
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

    /// Waits until what was published before has left this process, at most [`FLUSH_LIMIT`]. For a process that ends;
    /// nothing else waits for the bus.
    fn flush(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }

    /// Whether messages get through now: what the last of [`Bus::events`] said, for those who came later.
    fn is_connected(&self) -> bool {
        true
    }
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
    /// Records a claim by compare-and-set if it is higher than what is on record. The same claim of the same owner
    /// may be recorded again, since an owner that was told [`Recorded::Unavailable`] cannot know. Answers within a
    /// second.
    fn record(&self, partition: Partition, epoch: Epoch, owner: &str) -> BoxFuture<'_, Recorded>;

    /// Everything on record; empty when the arbiter cannot be reached. Answers within a second.
    fn load(&self) -> BoxFuture<'_, Vec<(Partition, Epoch)>>;
}
