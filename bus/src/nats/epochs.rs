//! The arbiter of claims in a JetStream bucket.
//!
//! A plain record with compare-and-set, without any time to live. Reads may come from a replica that lags; only the
//! write decides, and one that loses is tried again with a fresh read.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::jetstream::context::ContextBuilder;
use async_nats::jetstream::kv::{self, CreateErrorKind, Operation, Store, UpdateErrorKind};
use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt as _};
use futures::{StreamExt as _, stream};
use herenow_protocol::{Epoch, Partition};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use super::link::{Link, Links};
use crate::{EpochStore, Recorded};

/// The bucket's name.
const BUCKET: &str = "herenow_epochs";
/// How long any call may take. A claim does not wait longer: the arbiter is asked, not obeyed.
const TIMEOUT: Duration = Duration::from_millis(300);
/// How often a lost race is run again within that time.
const ATTEMPTS: usize = 16;
/// Reads in flight while everything is loaded.
const LOADS: usize = 64;

/// The arbiter over NATS. Cheap to clone.
#[derive(Clone, Debug)]
pub struct NatsEpochs(Arc<Arbiter>);

#[derive(Debug)]
struct Arbiter {
    links: Arc<Links>,
    replicas: usize,
    /// The bucket, once found or made; forgotten after an error, since somebody may have removed it.
    bucket: Mutex<Option<Store>>,
}

/// What the bucket holds under a partition's number.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    epoch: Epoch,
    owner: String,
}

/// Why a call came to nothing. The words are for logs.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("not connected")]
    Disconnected,
    #[error("{0}")]
    Refused(String),
    #[error("others kept winning")]
    Raced,
}

impl NatsEpochs {
    pub(super) fn new(links: Arc<Links>, replicas: usize) -> Self {
        Self(Arc::new(Arbiter { links, replicas, bucket: Mutex::new(None) }))
    }
}

impl EpochStore for NatsEpochs {
    fn record(&self, partition: Partition, epoch: Epoch, owner: &str) -> BoxFuture<'_, Recorded> {
        let record = Record { epoch, owner: owner.to_owned() };
        async move {
            let answer = self.0.bounded(self.0.record(partition, &record)).await;
            answer.unwrap_or(Recorded::Unavailable)
        }
        .boxed()
    }

    fn load(&self) -> BoxFuture<'_, Vec<(Partition, Epoch)>> {
        async move { self.0.bounded(self.0.load()).await.unwrap_or_default() }.boxed()
    }
}

impl Arbiter {
    async fn bounded<T>(&self, call: impl Future<Output = Result<T, Failure>>) -> Option<T> {
        let failure = match timeout(TIMEOUT, call).await {
            Ok(Ok(answer)) => return Some(answer),
            Ok(Err(failure)) => failure.to_string(),
            Err(_) => "no answer in time".to_owned(),
        };
        tracing::warn!(%failure, "the record of claims cannot be reached");
        *self.bucket.lock().unwrap_or_else(PoisonError::into_inner) = None;
        None
    }

    async fn record(&self, partition: Partition, record: &Record) -> Result<Recorded, Failure> {
        let bucket = self.bucket().await?;
        let key = partition.to_string();
        let value = Bytes::from(serde_json::to_vec(record).map_err(refused)?);
        for _ in 0..ATTEMPTS {
            let (revision, held) = read(&bucket, &key).await?;
            match held {
                Some(held) if held.epoch == record.epoch && held.owner == record.owner => {
                    return Ok(Recorded::Yes);
                }
                Some(held) if held.epoch >= record.epoch => return Ok(Recorded::Conflict(held.epoch)),
                Some(_) | None => {}
            }
            if write(&bucket, &key, value.clone(), revision).await? {
                return Ok(Recorded::Yes);
            }
        }
        Err(Failure::Raced)
    }

    async fn load(&self) -> Result<Vec<(Partition, Epoch)>, Failure> {
        let bucket = &self.bucket().await?;
        let reads = (0..=u8::MAX).map(|number| async move {
            let (_, held) = read(bucket, &number.to_string()).await?;
            Ok(held.map(|held| (Partition(number), held.epoch)))
        });
        let all: Vec<Result<_, Failure>> = stream::iter(reads).buffered(LOADS).collect().await;
        all.into_iter().filter_map(Result::transpose).collect()
    }

    async fn bucket(&self) -> Result<Store, Failure> {
        let known = self.bucket.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(bucket) = known {
            return Ok(bucket);
        }
        let bucket = self.find_or_make().await?;
        *self.bucket.lock().unwrap_or_else(PoisonError::into_inner) = Some(bucket.clone());
        Ok(bucket)
    }

    async fn find_or_make(&self) -> Result<Store, Failure> {
        let client = self
            .links
            .client(Link::Beats)
            .filter(|_| self.links.is_connected())
            .ok_or(Failure::Disconnected)?;
        let context = ContextBuilder::new().timeout(TIMEOUT).ack_timeout(TIMEOUT).build(client.clone());
        if let Ok(bucket) = context.get_key_value(BUCKET).await {
            return Ok(bucket);
        }
        let config = kv::Config {
            bucket: BUCKET.to_owned(),
            description: "The highest epoch of each partition".to_owned(),
            history: 1,
            num_replicas: self.replicas,
            ..kv::Config::default()
        };
        context.create_key_value(config).await.map_err(refused)
    }
}

/// The revision to write over, and what is held; a value that cannot be read counts as none, so that a damaged
/// record does not lock its partition out for ever.
async fn read(bucket: &Store, key: &str) -> Result<(Option<u64>, Option<Record>), Failure> {
    let Some(entry) = bucket.entry(key).await.map_err(refused)? else { return Ok((None, None)) };
    let held = match entry.operation {
        Operation::Put => serde_json::from_slice(&entry.value)
            .inspect_err(|error| tracing::warn!(%error, key, "a record of claims cannot be read"))
            .ok(),
        Operation::Delete | Operation::Purge => None,
    };
    Ok((Some(entry.revision), held))
}

/// Whether the write won.
async fn write(bucket: &Store, key: &str, value: Bytes, revision: Option<u64>) -> Result<bool, Failure> {
    match revision {
        None => match bucket.create(key, value).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == CreateErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(refused(error)),
        },
        Some(revision) => match bucket.update(key, value, revision).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == UpdateErrorKind::WrongLastRevision => Ok(false),
            Err(error) => Err(refused(error)),
        },
    }
}

fn refused(error: impl std::error::Error) -> Failure {
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(deeper) = source {
        words = format!("{words}: {deeper}");
        source = deeper.source();
    }
    Failure::Refused(words)
}
