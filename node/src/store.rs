//! The store that a configuration names.

use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt as _};
use herenow_protocol::record::Record;
use herenow_protocol::{Placement, UserKey, Version};
use herenow_store::{Cassandra, CassandraConfig, Embedded, KeyRange, Page, StatusStore, StoreError, Written};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use crate::config::{Config, LoadError, StoreKind};

/// How long the start waits for a server. Presence does not need it.
const START_LIMIT: Duration = Duration::from_secs(10);
/// How long after a failure a server is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Opens it; none: nothing is kept.
pub(crate) async fn open(config: &Config) -> Result<Option<Arc<dyn StatusStore>>, LoadError> {
    let placement = config.placement()?;
    match (config.store.kind, &config.store.path) {
        (StoreKind::Embedded, Some(path)) => {
            let opened = Embedded::open(path, &placement).await;
            let store = opened.map_err(|error| LoadError::new("store.path", error.to_string()))?;
            Ok(Some(Arc::new(store)))
        }
        (StoreKind::Cassandra, _) => {
            let store = Awaited::open(config.store.cassandra.clone(), placement).await?;
            Ok(Some(Arc::new(store)))
        }
        (StoreKind::Memory | StoreKind::Embedded, _) => Ok(None),
    }
}

type Found = Result<Cassandra, StoreError>;

/// A store whose servers may not be there yet: until they are, calls fail at once, and whoever calls tries again.
struct Awaited {
    found: watch::Receiver<Found>,
    task: AbortHandle,
}

impl Awaited {
    /// Refuses what will not mend by itself, such as a wrong password.
    async fn open(config: CassandraConfig, placement: Placement) -> Result<Self, LoadError> {
        let unknown = StoreError::Unavailable(format!("no answer in {START_LIMIT:?}"));
        let (tell, mut found) = watch::channel(Err(unknown));
        let task = tokio::spawn(connect(config, placement, tell)).abort_handle();
        let opened = Self { found: found.clone(), task };
        let _ = timeout(START_LIMIT, found.changed()).await;
        let first = found.borrow().clone();
        match first {
            Ok(_) => Ok(opened),
            Err(error @ StoreError::Unavailable(_)) => {
                tracing::error!(%error, "what is kept can be neither read nor written yet, trying again");
                Ok(opened)
            }
            Err(error) => Err(LoadError::new("store.cassandra", error.to_string())),
        }
    }

    fn store(&self) -> Found {
        self.found.borrow().clone()
    }
}

impl Drop for Awaited {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Until it is open, or nobody waits.
async fn connect(config: CassandraConfig, placement: Placement, tell: watch::Sender<Found>) {
    let mut said = None;
    loop {
        let found = open_for(&config, &placement).await;
        match &found {
            Ok(_) if said.is_some() => tracing::info!("what is kept can be read and written"),
            Err(error) if said.is_some_and(|said| said != error.label()) => {
                tracing::error!(%error, "what is kept can be neither read nor written");
            }
            Ok(_) | Err(_) => {}
        }
        said = found.as_ref().err().map(StoreError::label);
        if tell.send(found).is_err() || said.is_none() {
            return;
        }
        sleep(RETRY).await;
    }
}

async fn open_for(config: &CassandraConfig, placement: &Placement) -> Found {
    let store = Cassandra::open(config).await?;
    store.claim_for(placement).await?;
    Ok(store)
}

impl StatusStore for Awaited {
    fn put_batch(&self, records: Vec<Record>) -> BoxFuture<'_, Result<Written, StoreError>> {
        async move { self.store()?.put_batch(records).await }.boxed()
    }

    fn get_many(&self, keys: Vec<UserKey>) -> BoxFuture<'_, Result<Vec<Option<Record>>, StoreError>> {
        async move { self.store()?.get_many(keys).await }.boxed()
    }

    fn scan(&self, range: KeyRange, from: Option<UserKey>) -> BoxFuture<'_, Result<Page, StoreError>> {
        async move { self.store()?.scan(range, from).await }.boxed()
    }

    fn erase(&self, users: Vec<(UserKey, Version)>) -> BoxFuture<'_, Result<Written, StoreError>> {
        async move { StatusStore::erase(&self.store()?, users).await }.boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn servers_that_are_not_there_yet_end_nothing_and_a_wrong_setting_does() {
        let placement = || Placement::new(b"a secret of the cluster", 2);
        let nodes = vec!["127.0.0.1:1".to_owned()];
        let config = CassandraConfig { nodes, timeout: Duration::from_millis(200), ..Default::default() };
        let store = Awaited::open(config.clone(), placement()).await.unwrap();
        let error = store.get_many(Vec::new()).await.unwrap_err();
        assert_eq!(error.label(), "unavailable", "{error}");
        let error =
            Awaited::open(CassandraConfig { replication: 0, ..config }, placement()).await.err().unwrap();
        assert_eq!(error.key, "store.cassandra");
    }
}
