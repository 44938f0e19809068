//! What arrives.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::{Stream, StreamExt as _};

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
