//! Cassandra: the last status of users, and the history, on many machines.
//!
//! When a write returns, most replicas of the local data centre have it. Whether that survives the loss of power of all
//! of them at once is the server's `commitlog_sync`, which by default syncs every 10 s.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use herenow_protocol::Placement;
use scylla::client::execution_profile::ExecutionProfile;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::deserialize::row::DeserializeRow;
use scylla::errors::ExecutionError;
use scylla::policies::load_balancing::DefaultPolicy;
use scylla::policies::retry::DefaultRetryPolicy;
use scylla::policies::speculative_execution::SimpleSpeculativeExecutionPolicy;
use scylla::response::query_result::QueryResult;
use scylla::statement::Consistency;
use scylla::statement::prepared::PreparedStatement;

use crate::StoreError;

mod activity;
mod config;
mod failure;
mod migrate;
mod status;

pub use config::CassandraConfig;
pub use migrate::CASSANDRA_SCHEMA;

/// A status store and a history in Cassandra. Clones share the connections.
#[derive(Clone)]
pub struct Cassandra {
    inner: Arc<Inner>,
}

struct Inner {
    session: Session,
    name: String,
    concurrency: usize,
    /// Seconds.
    activity_ttl: i32,
    status: status::Statements,
    activity: activity::Statements,
}

impl fmt::Debug for Cassandra {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cassandra").field("server", &self.inner.name).finish_non_exhaustive()
    }
}

impl Cassandra {
    /// Connects, and makes or alters the tables where that is needed.
    ///
    /// # Errors
    /// [`StoreError::Setting`] for a value that cannot be used; [`StoreError::Denied`] for a wrong user, password or
    /// missing rights; [`StoreError::Schema`] for the tables of a newer program or of others;
    /// [`StoreError::Unavailable`] where no node answers.
    pub async fn open(config: &CassandraConfig) -> Result<Self, StoreError> {
        Self::open_for(config, Purpose::ReadAndWrite).await
    }

    /// Connects to tables that are there, for reading: the right to select is enough. What is called on it that writes
    /// may fail.
    ///
    /// # Errors
    /// As [`Self::open`]; [`StoreError::Unavailable`] also where the tables are not there yet.
    pub async fn open_to_read(config: &CassandraConfig) -> Result<Self, StoreError> {
        Self::open_for(config, Purpose::Read).await
    }

    async fn open_for(config: &CassandraConfig, purpose: Purpose) -> Result<Self, StoreError> {
        config.check()?;
        let name = config.name();
        // Several requests, each of which may take as long.
        let limit = config.timeout * 6;
        match tokio::time::timeout(limit, connect(config, &name, purpose)).await {
            Ok(opened) => opened,
            Err(_) => Err(StoreError::Unavailable(format!("{name}: no answer in {limit:?}"))),
        }
    }

    /// Takes the keyspace for users under keys of `placement`, that is of one cluster secret.
    ///
    /// # Errors
    /// [`StoreError::OtherSecret`] where it was taken for another; [`StoreError::Unavailable`].
    pub async fn claim_for(&self, placement: &Placement) -> Result<(), StoreError> {
        migrate::claim_for(&self.inner.name, placement.mark(), &self.inner.session).await
    }

    /// Finds out whether the keyspace is of another cluster secret than that of `placement`, without taking it.
    ///
    /// # Errors
    /// [`StoreError::OtherSecret`] where it is; [`StoreError::Unavailable`].
    pub async fn check_for(&self, placement: &Placement) -> Result<(), StoreError> {
        migrate::check_for(&self.inner.name, placement.mark(), &self.inner.session).await.map(drop)
    }

    fn failed(&self, error: &ExecutionError) -> StoreError {
        failure::of(&self.inner.name, error)
    }

    fn unreadable(&self) -> StoreError {
        let reason = "a row cannot be understood".to_owned();
        StoreError::Damaged { path: self.inner.name.clone().into(), reason }
    }
}

/// What a connection is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Read,
    ReadAndWrite,
}

async fn connect(config: &CassandraConfig, name: &str, purpose: Purpose) -> Result<Cassandra, StoreError> {
    let mut builder = SessionBuilder::new()
        .known_nodes(&config.nodes)
        .connection_timeout(config.timeout)
        .default_execution_profile_handle(profile(config).into_handle());
    if let (Some(user), Some(password)) = (&config.user, config.login().password().await?) {
        builder = builder.user(user, password);
    }
    if let Some(tls) = &config.tls {
        builder = builder.tls_context(Some(tls.client().await?));
    }
    let session = builder.build().await.map_err(|error| failure::of(name, &error))?;
    match purpose {
        Purpose::Read => migrate::find(name, config, &session).await?,
        Purpose::ReadAndWrite => migrate::run(name, config, &session).await?,
    }
    let inner = Inner {
        status: status::Statements::prepare(name, &session).await?,
        activity: activity::Statements::prepare(name, &session).await?,
        session,
        name: name.to_owned(),
        concurrency: config.concurrency,
        activity_ttl: i32::try_from(config.activity_ttl.as_secs()).unwrap_or(i32::MAX),
    };
    Ok(Cassandra { inner: Arc::new(inner) })
}

fn profile(config: &CassandraConfig) -> ExecutionProfile {
    let mut balancing = DefaultPolicy::builder().token_aware(true);
    if let Some(datacenter) = &config.datacenter {
        balancing = balancing.prefer_datacenter(datacenter.clone());
    }
    let speculation =
        SimpleSpeculativeExecutionPolicy { max_retry_count: 1, retry_interval: config.speculate_after };
    ExecutionProfile::builder()
        .consistency(Consistency::LocalQuorum)
        .request_timeout(Some(config.timeout.max(Duration::from_millis(1))))
        .load_balancing_policy(balancing.build())
        .retry_policy(Arc::new(DefaultRetryPolicy::new()))
        .speculative_execution_policy(Some(Arc::new(speculation)))
        .build()
}

/// Prepares a statement. All of ours may be made twice, which lets the driver try again, and ask a second node.
async fn prepare(name: &str, session: &Session, text: &str) -> Result<PreparedStatement, StoreError> {
    let mut prepared = session.prepare(text).await.map_err(|error| failure::of(name, &error))?;
    prepared.set_is_idempotent(true);
    Ok(prepared)
}

/// The rows of an answer.
fn rows<R>(name: &str, answer: Result<QueryResult, ExecutionError>) -> Result<Vec<R>, StoreError>
where
    R: for<'frame, 'metadata> DeserializeRow<'frame, 'metadata>,
{
    let answer = answer.map_err(|error| failure::of(name, &error))?;
    let odd = |error: &dyn fmt::Display| StoreError::Unavailable(format!("{name}: {error}"));
    let answer = answer.into_rows_result().map_err(|error| odd(&error))?;
    let rows = answer.rows::<R>().map_err(|error| odd(&error))?;
    rows.collect::<Result<Vec<R>, _>>().map_err(|error| odd(&error))
}
