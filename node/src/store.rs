//! The stores that a configuration names.

use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt as _};
use herenow_archiver::Target;
use herenow_protocol::record::Record;
use herenow_protocol::{Placement, Status, UserId, UserKey, Version, WallTime};
use herenow_store::{
    ActivityLog, ActivityRecord, Analytics, Cached, Cassandra, CassandraConfig, Embedded, HourOnline,
    HourSessions, KeyRange, Near, Page, People, Postgres, PostgresConfig, Span, StatusStore, StoreError,
    UserDetails, Written,
};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use crate::config::{BusKind, Config, LoadError, Role, StoreKind};
use crate::directory::Known;

/// How long the start waits for a server. Presence does not need it.
const START_LIMIT: Duration = Duration::from_secs(10);
/// How long after a failure a server is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// What a configuration names, opened.
#[derive(Default)]
pub(crate) struct Stores {
    /// Claims and last seen; none: nothing is kept.
    pub(crate) status: Option<Arc<dyn StatusStore>>,
    /// The cache in front of it.
    pub(crate) cache: Option<Cached>,
    /// What a gateway keeps of it in its memory, in front of both.
    pub(crate) near: Option<Near>,
    /// The history's places.
    pub(crate) targets: Vec<Target>,
    /// Who users are.
    pub(crate) people: Option<Arc<dyn Known>>,
}

/// Opens what the roles of the process need.
pub(crate) async fn open(config: &Config) -> Result<Stores, LoadError> {
    let mut stores = Stores::default();
    open_status(config, &mut stores).await?;
    let reads = config.plays(Role::Coordinator) || config.plays(Role::Gateway);
    if let (Some(redis), Some(store), true) = (&config.store.redis, &stores.status, reads) {
        let opened = Cached::open(redis, Arc::clone(store)).await;
        let cache = opened.map_err(|error| LoadError::new("store.redis", error.to_string()))?;
        stores.status = Some(Arc::new(cache.clone()));
        stores.cache = Some(cache);
    }
    if let (Some(near), Some(store), true) =
        (config.store.near(), &stores.status, config.plays(Role::Gateway))
    {
        let near = Near::new(near, Arc::clone(store));
        let near = near.map_err(|error| LoadError::under("store.near", &error.to_string()))?;
        // Coordinators of this process write through it, so that their gateway sees at once what they write.
        stores.status = Some(Arc::new(near.clone()));
        stores.near = Some(near);
    }
    // Where there is a cluster, only archivers write the history, and coordinators have nothing to do with people.
    let writes = config.cluster.bus == BusKind::Local || config.plays(Role::Archiver);
    let needed = writes || config.plays(Role::Gateway);
    if let Some(people) = config.people.as_ref().filter(|_| needed) {
        let store = Arc::new(postgres(people.clone()).await?);
        stores.people = Some(store.clone());
        if writes {
            stores.targets.push(Target { name: "postgres", log: store.clone(), people: Some(store) });
        }
    }
    Ok(stores)
}

async fn open_status(config: &Config, stores: &mut Stores) -> Result<(), LoadError> {
    let placement = config.placement()?;
    match (config.store.kind, &config.store.path) {
        (StoreKind::Embedded, Some(path)) => {
            let opened = Embedded::open(path, &placement).await;
            let store = opened.map_err(|error| LoadError::new("store.path", error.to_string()))?;
            stores.status = Some(Arc::new(store.clone()));
            stores.targets.push(Target { name: "embedded", log: Arc::new(store), people: None });
        }
        (StoreKind::Cassandra, _) => {
            let writes = config.plays(Role::Coordinator) || config.plays(Role::Archiver);
            let store = Arc::new(cassandra(config.store.cassandra.clone(), placement, writes).await?);
            stores.status = Some(store.clone());
            stores.targets.push(Target { name: "cassandra", log: store, people: None });
        }
        (StoreKind::Memory | StoreKind::Embedded, _) => {}
    }
    Ok(())
}

async fn cassandra(
    config: CassandraConfig,
    placement: Placement,
    writes: bool,
) -> Result<Awaited<Cassandra>, LoadError> {
    let open = move || {
        let (config, placement) = (config.clone(), placement.clone());
        async move {
            if !writes {
                let store = Cassandra::open_to_read(&config).await?;
                store.check_for(&placement).await?;
                return Ok(store);
            }
            let store = Cassandra::open(&config).await?;
            store.claim_for(&placement).await?;
            Ok(store)
        }
        .boxed()
    };
    Awaited::open("store.cassandra", open).await
}

async fn postgres(config: PostgresConfig) -> Result<Awaited<Postgres>, LoadError> {
    let open = move || {
        let config = config.clone();
        async move { Postgres::open(&config).await }.boxed()
    };
    Awaited::open("people", open).await
}

/// A store whose servers may not be there yet: until they are, calls fail at once, and whoever calls tries again.
struct Awaited<T> {
    found: watch::Receiver<Result<T, StoreError>>,
    task: AbortHandle,
}

impl<T: Clone + Send + Sync + 'static> Awaited<T> {
    /// Refuses what will not mend by itself, such as a wrong password.
    async fn open(
        key: &'static str,
        open: impl Fn() -> BoxFuture<'static, Result<T, StoreError>> + Send + Sync + 'static,
    ) -> Result<Self, LoadError> {
        let unknown = StoreError::Unavailable(format!("no answer in {START_LIMIT:?}"));
        let (tell, mut found) = watch::channel(Err(unknown));
        let task = tokio::spawn(connect(key, open, tell)).abort_handle();
        let opened = Self { found: found.clone(), task };
        let _ = timeout(START_LIMIT, found.changed()).await;
        let first = found.borrow().clone();
        match first {
            Ok(_) => Ok(opened),
            Err(error @ StoreError::Unavailable(_)) => {
                tracing::error!(key, %error, "what is kept can be neither read nor written yet, trying again");
                Ok(opened)
            }
            Err(error) => Err(LoadError::new(key, error.to_string())),
        }
    }

    fn store(&self) -> Result<T, StoreError> {
        self.found.borrow().clone()
    }
}

impl<T> Drop for Awaited<T> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Until it is open, or nobody waits.
async fn connect<T: Clone>(
    key: &'static str,
    open: impl Fn() -> BoxFuture<'static, Result<T, StoreError>>,
    tell: watch::Sender<Result<T, StoreError>>,
) {
    let mut said = None;
    loop {
        let found = open().await;
        match &found {
            Ok(_) if said.is_some() => tracing::info!(key, "what is kept can be read and written"),
            Err(error) if said.is_some_and(|said| said != error.label()) => {
                tracing::error!(key, %error, "what is kept can be neither read nor written");
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

impl StatusStore for Awaited<Cassandra> {
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

impl<T: ActivityLog + Clone + Send + Sync + 'static> ActivityLog for Awaited<T> {
    fn append_batch(&self, entries: Vec<ActivityRecord>) -> BoxFuture<'_, Result<(), StoreError>> {
        async move { self.store()?.append_batch(entries).await }.boxed()
    }

    fn query(&self, key: UserKey, span: Span) -> BoxFuture<'_, Result<Vec<ActivityRecord>, StoreError>> {
        async move { self.store()?.query(key, span).await }.boxed()
    }

    fn erase(&self, key: UserKey) -> BoxFuture<'_, Result<(), StoreError>> {
        async move { ActivityLog::erase(&self.store()?, key).await }.boxed()
    }

    fn expire(&self, before: WallTime) -> BoxFuture<'_, Result<(), StoreError>> {
        async move { self.store()?.expire(before).await }.boxed()
    }
}

impl People for Awaited<Postgres> {
    fn put(&self, users: Vec<UserDetails>) -> BoxFuture<'_, Result<(), StoreError>> {
        async move { self.store()?.put(users).await }.boxed()
    }

    fn get<'a>(&'a self, user: &'a UserId) -> BoxFuture<'a, Result<Option<UserDetails>, StoreError>> {
        async move { self.store()?.get(user).await }.boxed()
    }

    fn forget<'a>(&'a self, user: &'a UserId) -> BoxFuture<'a, Result<(), StoreError>> {
        async move { self.store()?.forget(user).await }.boxed()
    }
}

impl Analytics for Awaited<Postgres> {
    fn statuses_at(&self, at: WallTime) -> BoxFuture<'_, Result<Vec<(Status, u64)>, StoreError>> {
        async move { self.store()?.statuses_at(at).await }.boxed()
    }

    fn who_was_there(
        &self,
        at: WallTime,
        after: Option<UserId>,
    ) -> BoxFuture<'_, Result<Vec<(UserId, Status)>, StoreError>> {
        async move { self.store()?.who_was_there(at, after).await }.boxed()
    }

    fn online_per_hour(&self, span: Span) -> BoxFuture<'_, Result<Vec<HourOnline>, StoreError>> {
        async move { self.store()?.online_per_hour(span).await }.boxed()
    }

    fn time_online(
        &self,
        key: UserKey,
        span: Span,
    ) -> BoxFuture<'_, Result<Vec<(WallTime, Duration)>, StoreError>> {
        async move { self.store()?.time_online(key, span).await }.boxed()
    }

    fn transitions_per_minute(&self, span: Span) -> BoxFuture<'_, Result<Vec<(WallTime, u64)>, StoreError>> {
        async move { self.store()?.transitions_per_minute(span).await }.boxed()
    }

    fn sessions_by_device(&self, span: Span) -> BoxFuture<'_, Result<Vec<HourSessions>, StoreError>> {
        async move { self.store()?.sessions_by_device(span).await }.boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    /// A store that is shared, and that nobody answers for.
    fn shared(roles: Vec<Role>) -> Config {
        let mut config = Config::default();
        config.cluster.secret = Some(Secret::new("a cluster secret of the tests, long enough"));
        config.store.kind = StoreKind::Cassandra;
        config.store.cassandra.nodes = vec!["127.0.0.1:1".to_owned()];
        config.store.cassandra.timeout = Duration::from_millis(200);
        config.node.roles = roles;
        config
    }

    #[tokio::test]
    async fn a_gateway_keeps_in_memory_what_it_reads_of_a_shared_store_unless_it_is_told_not_to() {
        assert!(open(&shared(vec![Role::Gateway])).await.unwrap().near.is_some());
        assert!(open(&shared(vec![Role::Coordinator])).await.unwrap().near.is_none());
        let mut off = shared(vec![Role::Gateway]);
        off.store.near.max_users = 0;
        let stores = open(&off).await.unwrap();
        assert!(stores.near.is_none() && stores.status.is_some());
    }

    #[tokio::test]
    async fn servers_that_are_not_there_yet_end_nothing_and_a_wrong_setting_does() {
        let placement = || Placement::new(b"a secret of the cluster", 2);
        let nodes = vec!["127.0.0.1:1".to_owned()];
        let config = CassandraConfig { nodes, timeout: Duration::from_millis(200), ..Default::default() };
        let store = cassandra(config.clone(), placement(), true).await.unwrap();
        let error = store.get_many(Vec::new()).await.unwrap_err();
        assert_eq!(error.label(), "unavailable", "{error}");
        let error =
            cassandra(CassandraConfig { replication: 0, ..config }, placement(), true).await.err().unwrap();
        assert_eq!(error.key, "store.cassandra");
    }
}
