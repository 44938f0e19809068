//! The history in PostgreSQL, for people and analytics: the tables of [`schema_1.sql`], by day, filled by COPY.
//!
//! When an append returns, its rows survive the loss of the server's process and of power, as far as the server is set
//! to (`synchronous_commit`, which is on unless somebody has turned it off).

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use deadpool_postgres::{Client, Manager, ManagerConfig, Object, Pool, RecyclingMethod, Runtime};
use futures::future::BoxFuture;
use herenow_protocol::WallTime;
use tokio_postgres::NoTls;

use crate::StoreError;

mod activity;
mod analytics;
mod config;
mod failure;
mod migrate;
mod people;
mod tls;

pub use config::PostgresConfig;
pub use migrate::POSTGRES_SCHEMA;

/// The last millisecond of the year 9999: what comes later, the server's calendar has trouble with.
const LATEST_MS: u64 = 253_402_300_799_999;

/// A history, and people, in PostgreSQL. Clones share the connections.
#[derive(Clone)]
pub struct Postgres {
    inner: Arc<Inner>,
}

struct Inner {
    pool: Pool,
    name: String,
    timeout: Duration,
    lookback: Duration,
    /// Days whose tables are there, as far as this process knows.
    days: Mutex<BTreeSet<u32>>,
}

impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Postgres").field("server", &self.inner.name).finish_non_exhaustive()
    }
}

impl Postgres {
    /// Connects, and makes or alters the tables where that is needed.
    ///
    /// # Errors
    /// [`StoreError::Setting`] for a value that cannot be used; [`StoreError::Denied`] for a wrong user, password,
    /// database or missing rights; [`StoreError::Schema`] for the tables of a newer program or of others;
    /// [`StoreError::Unavailable`] where nothing answers.
    pub async fn open(config: &PostgresConfig) -> Result<Self, StoreError> {
        let inner = Inner {
            pool: pool(config).await?,
            name: config.name(),
            timeout: config.timeout,
            lookback: config.lookback,
            days: Mutex::default(),
        };
        let opened = Self { inner: Arc::new(inner) };
        let mut client = opened.client().await?;
        let migrated = migrate::run(&opened.inner.name, &config.schema, &mut client);
        match tokio::time::timeout(config.timeout, migrated).await {
            Ok(migrated) => migrated?,
            Err(_) => return Err(opened.too_slow(client)),
        }
        Ok(opened)
    }

    async fn client(&self) -> Result<Client, StoreError> {
        let got = self.inner.pool.get().await;
        got.map_err(|error| failure::of_pool(&self.inner.name, &error))
    }

    /// Does something with a connection, and gives it up when that takes too long.
    async fn call<T: Send>(
        &self,
        what: impl for<'a> FnOnce(&'a mut Client) -> BoxFuture<'a, Result<T, tokio_postgres::Error>> + Send,
    ) -> Result<T, StoreError> {
        let mut client = self.client().await?;
        match tokio::time::timeout(self.inner.timeout, what(&mut client)).await {
            Ok(done) => done.map_err(|error| failure::of(&self.inner.name, &error)),
            Err(_) => Err(self.too_slow(client)),
        }
    }

    /// A connection that answers no more is not used again.
    fn too_slow(&self, client: Client) -> StoreError {
        drop(Object::take(client));
        StoreError::Unavailable(format!("{}: no answer in {:?}", self.inner.name, self.inner.timeout))
    }

    fn days(&self) -> MutexGuard<'_, BTreeSet<u32>> {
        self.inner.days.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is not as this program writes it.
    fn unreadable(&self) -> StoreError {
        let reason = "a row cannot be understood".to_owned();
        StoreError::Damaged { path: self.inner.name.clone().into(), reason }
    }
}

async fn pool(config: &PostgresConfig) -> Result<Pool, StoreError> {
    let driver = config.driver().await?;
    // Whether it is closed is known without asking; more is found by using it.
    let managing = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    let manager = match &config.tls {
        Some(tls) => Manager::from_config(driver, tls::MakeTls(tls.client().await?), managing),
        None => Manager::from_config(driver, NoTls, managing),
    };
    Pool::builder(manager)
        .max_size(config.connections)
        .runtime(Runtime::Tokio1)
        .wait_timeout(Some(config.timeout))
        .create_timeout(Some(config.timeout))
        .recycle_timeout(Some(config.timeout))
        .build()
        .map_err(|error| crate::server::setting("connections", error.to_string()))
}

/// A moment as the driver writes it; later ones than the calendar has are its last.
fn moment(at: WallTime) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(at.as_millis().min(LATEST_MS))
}

fn wall(at: SystemTime) -> WallTime {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    WallTime::from_millis(herenow_protocol::time::millis(since))
}
