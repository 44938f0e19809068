//! The journal over NATS: a work-queue stream, which forgets a message once it is done, and a durable consumer that all
//! takers share.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream::consumer::{AckPolicy, PullConsumer, pull};
use async_nats::jetstream::context::{Context, ContextBuilder};
use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType};
use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt as _};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use herenow_protocol::subject::{ACTIVITY, ACTIVITY_DEAD, ACTIVITY_DEAD_STREAM, ACTIVITY_STREAM, ARCHIVERS};
use tokio::time::timeout;

use super::link::{Link, Links};
use crate::journal::{AGAIN, Backlog, Journal, JournalError, TAKEN, Taken};

/// How long any call may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How long a message may be in hand without a word of it before somebody else gets it.
const ACK_WAIT: Duration = Duration::from_secs(30);
/// Confirmations on the way at once.
const CONFIRMATIONS: usize = 64;
/// How long, and how much of it, messages are kept that nobody could use.
const DEAD_AGE: Duration = Duration::from_hours(14 * 24);
const DEAD_BYTES: i64 = 64 * 1024 * 1024;
/// The header with the reason.
const REASON: &str = "Herenow-Reason";

/// How the stream is made where it is not there. One that is there stays as it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct JournalConfig {
    /// Most bytes of messages that wait; then new ones are refused.
    pub max_bytes: u64,
    /// On how many servers it is kept: 1, 3 or 5.
    pub replicas: usize,
}

/// A journal over NATS. Clones share it.
#[derive(Clone, Debug)]
pub struct NatsJournal(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    links: Arc<Links>,
    config: JournalConfig,
    /// The stream was found or made; forgotten after an error, since somebody may have removed it.
    made: Mutex<bool>,
    consumer: Mutex<Option<PullConsumer>>,
}

impl NatsJournal {
    pub(super) fn new(links: Arc<Links>, config: JournalConfig) -> Self {
        Self(Arc::new(Inner { links, config, made: Mutex::default(), consumer: Mutex::default() }))
    }

    /// Does something in time; after a failure the stream is looked for anew.
    async fn call<T>(
        &self,
        limit: Duration,
        call: impl Future<Output = Result<T, JournalError>>,
    ) -> Result<T, JournalError> {
        let late = || Err(JournalError::Away(format!("no answer in {limit:?}")));
        let answer = timeout(limit, call).await.unwrap_or_else(|_| late());
        if matches!(answer, Err(JournalError::Away(_))) {
            *lock(&self.0.made) = false;
            *lock(&self.0.consumer) = None;
        }
        answer
    }

    fn context(&self) -> Result<Context, JournalError> {
        let links = &self.0.links;
        let client = links.client(Link::Bulk).filter(|_| links.is_connected());
        let client = client.ok_or_else(|| JournalError::Away("not connected".to_owned()))?;
        Ok(ContextBuilder::new().timeout(TIMEOUT).ack_timeout(TIMEOUT).build(client.clone()))
    }

    /// The streams, found or made.
    async fn made(&self) -> Result<Context, JournalError> {
        let context = self.context()?;
        if *lock(&self.0.made) {
            return Ok(context);
        }
        let JournalConfig { max_bytes, replicas } = self.0.config;
        let waiting = Config {
            name: ACTIVITY_STREAM.to_owned(),
            description: Some("Transitions that are to be archived".to_owned()),
            subjects: vec![ACTIVITY.to_owned()],
            retention: RetentionPolicy::WorkQueue,
            discard: DiscardPolicy::New,
            storage: StorageType::File,
            max_bytes: i64::try_from(max_bytes).unwrap_or(i64::MAX),
            num_replicas: replicas,
            ..Config::default()
        };
        let dead = Config {
            name: ACTIVITY_DEAD_STREAM.to_owned(),
            description: Some("Messages that no archiver could use, with the reason in a header".to_owned()),
            subjects: vec![ACTIVITY_DEAD.to_owned()],
            storage: StorageType::File,
            max_age: DEAD_AGE,
            max_bytes: DEAD_BYTES,
            num_replicas: replicas,
            ..Config::default()
        };
        for config in [waiting, dead] {
            if context.get_stream(&config.name).await.is_err() {
                context.create_stream(config).await.map_err(away)?;
            }
        }
        *lock(&self.0.made) = true;
        Ok(context)
    }

    async fn consumer(&self) -> Result<PullConsumer, JournalError> {
        if let Some(consumer) = lock(&self.0.consumer).clone() {
            return Ok(consumer);
        }
        let stream = self.made().await?.get_stream(ACTIVITY_STREAM).await.map_err(away)?;
        let config = pull::Config {
            durable_name: Some(ARCHIVERS.to_owned()),
            ack_policy: AckPolicy::Explicit,
            ack_wait: ACK_WAIT,
            max_ack_pending: i64::try_from(4 * TAKEN).unwrap_or(i64::MAX),
            ..pull::Config::default()
        };
        let consumer = stream.get_or_create_consumer(ARCHIVERS, config).await.map_err(away)?;
        *lock(&self.0.consumer) = Some(consumer.clone());
        Ok(consumer)
    }

    async fn take_in(&self, most: usize, wait: Duration) -> Result<Vec<Taken>, JournalError> {
        let consumer = self.consumer().await?;
        let ready = consumer.fetch().max_messages(most.min(TAKEN)).messages().await.map_err(away)?;
        let mut taken: Vec<Taken> = ready.map(receive).try_collect().await?;
        if taken.is_empty() {
            let first = consumer.batch().max_messages(1).expires(wait).messages().await.map_err(away)?;
            taken = first.map(receive).try_collect().await?;
        }
        Ok(taken)
    }

    async fn append_to(&self, payload: Bytes) -> Result<(), JournalError> {
        let context = self.made().await?;
        let sent = context.publish(ACTIVITY, payload).await.map_err(away)?;
        match sent.await {
            Ok(_) => Ok(()),
            Err(error) if is_full(&error) => Err(JournalError::Full),
            Err(error) => Err(away(error)),
        }
    }

    async fn confirm(&self, taken: &Taken) -> Result<(), JournalError> {
        let client = self.context()?;
        let client = client.client();
        client.request(taken.receipt.clone(), "+ACK".into()).await.map(drop).map_err(away)
    }

    async fn say(&self, taken: &Taken, word: Bytes) {
        if let Ok(context) = self.context() {
            // Where it is lost, the message comes again by itself.
            let client = context.client();
            let said = client.publish(taken.receipt.clone(), word);
            let _ = timeout(TIMEOUT, said).await;
        }
    }

    async fn bury_in(&self, taken: &Taken, reason: &str) -> Result<(), JournalError> {
        let context = self.made().await?;
        let mut headers = HeaderMap::new();
        headers.insert(REASON, reason);
        // The stream takes the same only once, where the confirmation was lost.
        headers.insert(async_nats::header::NATS_MESSAGE_ID, taken.number.to_string());
        let sent = context.publish_with_headers(ACTIVITY_DEAD, headers, taken.payload.clone()).await;
        sent.map_err(away)?.await.map_err(away)?;
        self.confirm(taken).await
    }
}

impl Journal for NatsJournal {
    fn append(&self, payload: Bytes) -> BoxFuture<'_, Result<(), JournalError>> {
        self.call(TIMEOUT, self.append_to(payload)).boxed()
    }

    fn take(&self, most: usize, wait: Duration) -> BoxFuture<'_, Result<Vec<Taken>, JournalError>> {
        self.call(wait + TIMEOUT, self.take_in(most, wait)).boxed()
    }

    fn done<'a>(&'a self, taken: &'a [Taken]) -> BoxFuture<'a, Result<(), JournalError>> {
        let all = stream::iter(taken).map(|taken| self.confirm(taken));
        self.call(TIMEOUT, all.buffer_unordered(CONFIRMATIONS).try_collect::<()>()).boxed()
    }

    fn busy<'a>(&'a self, taken: &'a [Taken]) -> BoxFuture<'a, ()> {
        async move {
            for taken in taken {
                self.say(taken, Bytes::from_static(b"+WPI")).await;
            }
        }
        .boxed()
    }

    fn again<'a>(&'a self, taken: &'a Taken) -> BoxFuture<'a, ()> {
        async move { self.say(taken, format!("-NAK {{\"delay\": {}}}", AGAIN.as_nanos()).into()).await }
            .boxed()
    }

    fn bury<'a>(&'a self, taken: &'a Taken, reason: &'a str) -> BoxFuture<'a, Result<(), JournalError>> {
        self.call(TIMEOUT, self.bury_in(taken, reason)).boxed()
    }

    fn backlog(&self) -> BoxFuture<'_, Result<Backlog, JournalError>> {
        let asked = async {
            let mut consumer = self.consumer().await?;
            let info = consumer.info().await.map_err(away)?;
            let in_hand = u64::try_from(info.num_ack_pending).unwrap_or_default();
            let done_through = info.ack_floor.stream_sequence;
            Ok(Backlog { waiting: info.num_pending, in_hand, done_through })
        };
        self.call(TIMEOUT, asked).boxed()
    }
}

fn receive(
    message: Result<async_nats::jetstream::Message, async_nats::Error>,
) -> Result<Taken, JournalError> {
    let take = |message: async_nats::jetstream::Message| {
        let number = message.info().map_err(|error| JournalError::Away(error.to_string()))?.stream_sequence;
        let receipt = message.reply.as_ref().map(ToString::to_string).unwrap_or_default();
        Ok(Taken { number, payload: message.payload.clone(), receipt })
    };
    let away = |error: async_nats::Error| JournalError::Away(error.to_string());
    message.map_err(away).and_then(take)
}

/// The server's own words are all that tells this from other failures.
fn is_full(error: &impl std::error::Error) -> bool {
    let mut deeper: Option<&dyn std::error::Error> = Some(error);
    while let Some(one) = deeper {
        if one.to_string().contains("maximum bytes exceeded") {
            return true;
        }
        deeper = one.source();
    }
    false
}

fn away(error: impl std::error::Error) -> JournalError {
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(deeper) = source {
        words = format!("{words}: {deeper}");
        source = deeper.source();
    }
    JournalError::Away(words)
}

fn lock<T>(of: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}
