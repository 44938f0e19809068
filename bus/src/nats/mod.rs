//! The bus over NATS.
//!
//! Two connections per process: signs of life have one of their own, so that a backlog of anything else cannot make
//! a process look dead; everything else, and all subscriptions to it, share the other.
//!
//! While a connection is down, nothing is queued for it: what would be sent late is stale, and repair replaces it.
//! Messages accepted just before a loss is noticed may still be sent after it; receivers fence them.

mod config;
mod epochs;
mod journal;
mod link;

use std::sync::Arc;
use std::time::Duration;

use async_nats::connection::State;
use async_nats::{Client, ConnectOptions};
use bytes::Bytes;
use futures::StreamExt as _;
use futures::future::{BoxFuture, FutureExt as _};
use herenow_protocol::subject as subjects;
use tokio::sync::broadcast;
use tokio::task::coop::unconstrained;

pub use config::{ConfigError, NatsConfig, NatsTls, Secret};
pub use epochs::NatsEpochs;
pub use journal::{JournalConfig, NatsJournal};
use link::{Link, Links};

use crate::{
    Bus, Event, FLUSH_LIMIT, Message, PAYLOAD_BYTES, PublishError, SubscribeError, Subscription, subject,
};

/// How long a subscription may wait for room among the commands of its connection.
const SUBSCRIBE_TIMEOUT: Duration = Duration::from_secs(1);
/// Where answers to our own requests arrive. Not `_INBOX`, which every backend may read.
const INBOX: &str = "_HERENOW";
/// The delays between attempts to connect grow from 25 ms to a second, each spread over half to all of it, so that
/// processes that lost the same server do not come back in step.
const RECONNECT_FIRST_MS: u64 = 25;
const RECONNECT_LAST_MS: u64 = 1_000;

/// Why there will be no connection, ever. A server that cannot be reached now is no error.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The configuration cannot be used.
    #[error("nats.{0}")]
    Config(#[from] ConfigError),
    /// The client cannot be made.
    #[error("cannot make a NATS client: {0}")]
    Client(#[from] async_nats::ConnectError),
}

/// A bus over NATS. Cheap to clone; clones are the same two connections, usable from any thread and runtime while
/// the runtime that called [`NatsBus::connect`] runs.
#[derive(Clone, Debug)]
pub struct NatsBus {
    links: Arc<Links>,
    epoch_replicas: usize,
}

impl NatsBus {
    /// Starts to connect and returns at once: [`Bus::is_connected`] and [`Bus::events`] tell when it has happened.
    /// Attempts go on for ever.
    ///
    /// # Errors
    /// What waiting will not mend: a configuration that cannot be used.
    pub async fn connect(config: &NatsConfig) -> Result<Self, ConnectError> {
        config.check()?;
        let links = Arc::new(Links::new());
        let beats = client(config, &links, Link::Beats).await?;
        let bulk = client(config, &links, Link::Bulk).await?;
        links.set(beats, bulk);
        Ok(Self { links, epoch_replicas: config.epoch_replicas })
    }

    /// The arbiter of claims on the same servers.
    #[must_use]
    pub fn epochs(&self) -> NatsEpochs {
        NatsEpochs::new(self.links.clone(), self.epoch_replicas)
    }

    /// The journal of transitions on the same servers.
    #[must_use]
    pub fn journal(&self, config: JournalConfig) -> NatsJournal {
        NatsJournal::new(self.links.clone(), config)
    }

    fn client(&self, subject: &str) -> Option<&Client> {
        self.links.client(if subject.starts_with(subjects::BEATS) { Link::Beats } else { Link::Bulk })
    }
}

impl Bus for NatsBus {
    fn publish(&self, subject: &str, payload: Bytes) -> Result<(), PublishError> {
        if !subject::publishable(subject) {
            return Err(PublishError::Subject);
        }
        let client = self.client(subject).ok_or(PublishError::Disconnected)?;
        if payload.len() > client.max_payload().min(PAYLOAD_BYTES) {
            return Err(PublishError::TooBig);
        }
        if client.connection_state() != State::Connected {
            return Err(PublishError::Disconnected);
        }
        // Sending waits only for room in the client's queue: polled once, it is done, or there is none.
        match unconstrained(client.publish(subject.to_owned(), payload)).now_or_never() {
            Some(Ok(())) => Ok(()),
            Some(Err(_)) => Err(PublishError::Disconnected),
            None => Err(PublishError::Full),
        }
    }

    fn subscribe<'a>(
        &'a self,
        subject: &'a str,
        queue: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Subscription, SubscribeError>> {
        self.subscribe_to(subject, queue).boxed()
    }

    fn events(&self) -> broadcast::Receiver<Event> {
        self.links.events()
    }

    fn flush(&self) -> BoxFuture<'_, ()> {
        async {
            let links = [Link::Bulk, Link::Beats].into_iter().filter_map(|link| self.links.client(link));
            let flushed = futures::future::join_all(links.map(Client::flush));
            if tokio::time::timeout(FLUSH_LIMIT, flushed).await.is_err() {
                tracing::warn!("the NATS server did not take everything that was published");
            }
        }
        .boxed()
    }

    fn is_connected(&self) -> bool {
        self.links.is_connected()
    }
}

impl NatsBus {
    async fn subscribe_to(&self, subject: &str, queue: Option<&str>) -> Result<Subscription, SubscribeError> {
        let failed = |reason: &dyn ToString| SubscribeError::new(subject, reason.to_string());
        if !subject::subscribable(subject) {
            return Err(failed(&"not a legal subject"));
        }
        if !queue.is_none_or(subject::queueable) {
            return Err(failed(&"not a legal queue"));
        }
        let client = self.client(subject).ok_or_else(|| failed(&"not connected"))?;
        let asked = async {
            match queue {
                Some(queue) => client.queue_subscribe(subject.to_owned(), queue.to_owned()).await,
                None => client.subscribe(subject.to_owned()).await,
            }
        };
        let subscriber = tokio::time::timeout(SUBSCRIBE_TIMEOUT, asked)
            .await
            .map_err(|_| failed(&"too many commands wait for the server"))?
            .map_err(|error| failed(&error))?;
        Ok(Subscription::new(subscriber.map(|message| Message {
            subject: message.subject.into_string(),
            payload: message.payload,
            reply: message.reply.map(|reply| reply.into_string()),
        })))
    }
}

async fn client(config: &NatsConfig, links: &Arc<Links>, link: Link) -> Result<Client, ConnectError> {
    let watching = Arc::downgrade(links);
    let options: ConnectOptions = config
        .options()
        .await?
        .name(format!("{} {}", config.name, link.name()))
        .custom_inbox_prefix(INBOX)
        .reconnect_delay_callback(reconnect_delay)
        .event_callback(move |event| {
            let links = watching.upgrade();
            async move {
                if let Some(links) = links {
                    links.on_event(link, event).await;
                }
            }
        });
    Ok(options.connect(config.addresses()?).await?)
}

fn reconnect_delay(attempt: usize) -> Duration {
    let doublings = u32::try_from(attempt.saturating_sub(1)).unwrap_or(u32::MAX).min(10);
    let longest = (RECONNECT_FIRST_MS << doublings).min(RECONNECT_LAST_MS);
    Duration::from_millis(rand::random_range(longest / 2..=longest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn beats_have_a_connection_of_their_own() {
        let nowhere = NatsConfig { servers: vec!["nats://127.0.0.1:1".into()], ..NatsConfig::default() };
        let bus = NatsBus::connect(&nowhere).await.unwrap();
        let goes_over =
            |subject: &str, link| std::ptr::eq(bus.client(subject).unwrap(), bus.links.client(link).unwrap());
        assert!(goes_over(subjects::GATEWAY_BEATS, Link::Beats));
        assert!(goes_over(subjects::COORDINATOR_BEATS, Link::Beats));
        assert!(goes_over(&subjects::up(herenow_protocol::Partition(1)), Link::Bulk));
    }

    #[test]
    fn delays_grow_to_a_second_and_are_spread() {
        for attempt in [0, 1, 2, 6, 7, 100, usize::MAX] {
            let delay = reconnect_delay(attempt).as_millis();
            assert!((12..=1_000).contains(&delay), "{attempt}: {delay}");
        }
        assert!(reconnect_delay(1).as_millis() <= 25);
        let many: std::collections::BTreeSet<_> = (0..100).map(|_| reconnect_delay(20)).collect();
        assert!(many.len() > 10);
    }
}
