//! The history in PostgreSQL passes the suite, answers questions, and names what is wrong.
#![allow(clippy::unwrap_used, unreachable_pub, reason = "a test may fail so; its parts share what they have")]

#[path = "../support/mod.rs"]
mod support;

mod disk;
mod faults;
mod people;
mod questions;
mod server;

use std::sync::Arc;

use futures::future::{BoxFuture, FutureExt as _};
use herenow_store::testing::Opens;
use herenow_store::{ActivityLog, MemoryLog, Postgres, PostgresConfig};

use server::Server;

/// Tables of its own in the shared server.
struct Fresh {
    server: Option<(Arc<Server>, PostgresConfig)>,
    instead: MemoryLog,
}

impl Fresh {
    fn new() -> Self {
        let server = Server::shared().map(|server| {
            let config = server.config();
            (server, config)
        });
        Self { server, instead: MemoryLog::new(20_000) }
    }
}

impl Opens<dyn ActivityLog> for Fresh {
    fn open(&self) -> BoxFuture<'_, Arc<dyn ActivityLog>> {
        async move {
            match &self.server {
                Some((_, config)) => Arc::new(Postgres::open(config).await.unwrap()) as Arc<dyn ActivityLog>,
                None => Arc::new(self.instead.clone()),
            }
        }
        .boxed()
    }
}

mod suite {
    use super::Fresh;
    herenow_store::activity_log_suite!(Fresh::new());
}
