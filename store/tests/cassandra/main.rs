//! The store in Cassandra passes both suites, and names what is wrong.
#![allow(clippy::unwrap_used, unreachable_pub, reason = "a test may fail so; its parts share what they have")]

#[path = "../support/mod.rs"]
mod support;

mod disk;
mod faults;
mod server;

use std::sync::Arc;

use futures::future::{BoxFuture, FutureExt as _};
use herenow_store::testing::Opens;
use herenow_store::{ActivityLog, Cassandra, CassandraConfig, MemoryLog, MemoryStore, StatusStore};

use server::Server;

/// A keyspace of its own in the shared node.
struct Fresh(Option<(Arc<Server>, CassandraConfig)>, MemoryStore, MemoryLog);

impl Fresh {
    fn new() -> Self {
        let server = Server::shared().map(|server| {
            let config = server.config();
            (server, config)
        });
        Self(server, MemoryStore::new(20_000), MemoryLog::new(20_000))
    }
}

impl Opens<dyn StatusStore> for Fresh {
    fn open(&self) -> BoxFuture<'_, Arc<dyn StatusStore>> {
        async move {
            match &self.0 {
                Some((_, config)) => Arc::new(Cassandra::open(config).await.unwrap()) as Arc<dyn StatusStore>,
                None => Arc::new(self.1.clone()),
            }
        }
        .boxed()
    }
}

impl Opens<dyn ActivityLog> for Fresh {
    fn open(&self) -> BoxFuture<'_, Arc<dyn ActivityLog>> {
        async move {
            match &self.0 {
                Some((_, config)) => Arc::new(Cassandra::open(config).await.unwrap()) as Arc<dyn ActivityLog>,
                None => Arc::new(self.2.clone()),
            }
        }
        .boxed()
    }
}

mod status {
    use super::Fresh;
    herenow_store::status_store_suite!(Fresh::new());
}

mod activity {
    use super::Fresh;
    herenow_store::activity_log_suite!(Fresh::new());
}
