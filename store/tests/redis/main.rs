//! The cache in Redis passes the suite, and is never wrong when Redis is not there.
#![allow(clippy::unwrap_used, unreachable_pub, reason = "a test may fail so; its parts share what they have")]

#[path = "../support/mod.rs"]
mod support;

mod cache;
mod faults;
mod server;

use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt as _};
use herenow_store::testing::Opens;
use herenow_store::{Cached, MemoryStore, RedisConfig, StatusStore};
use tokio::sync::OnceCell;

use server::Redis;

/// A cache in front of a store in memory.
struct Fresh {
    server: OnceCell<Option<Redis>>,
    store: MemoryStore,
}

impl Fresh {
    fn new() -> Self {
        Self { server: OnceCell::new(), store: MemoryStore::new(20_000) }
    }
}

impl Opens<dyn StatusStore> for Fresh {
    fn open(&self) -> BoxFuture<'_, Arc<dyn StatusStore>> {
        async move {
            let store: Arc<dyn StatusStore> = Arc::new(self.store.clone());
            let Some(server) = self.server.get_or_init(|| Redis::start(&[])).await else { return store };
            // A machine that is busy may be slow, and then the cache is left out; here it is to be used.
            let config = RedisConfig { timeout: Duration::from_secs(5), ..server.config() };
            Arc::new(Cached::open(&config, store).await.unwrap()) as Arc<dyn StatusStore>
        }
        .boxed()
    }
}

mod suite {
    use super::Fresh;
    herenow_store::status_store_suite!(Fresh::new());
}

/// The same where nothing listens.
struct Down(MemoryStore);

impl Opens<dyn StatusStore> for Down {
    fn open(&self) -> BoxFuture<'_, Arc<dyn StatusStore>> {
        async move {
            let config = RedisConfig { url: "redis://127.0.0.1:1".into(), ..RedisConfig::default() };
            let cached = Cached::open(&config, Arc::new(self.0.clone())).await.unwrap();
            assert!(cached.is_down());
            Arc::new(cached) as Arc<dyn StatusStore>
        }
        .boxed()
    }
}

mod suite_while_redis_is_down {
    use super::{Down, MemoryStore};
    herenow_store::status_store_suite!(Down(MemoryStore::new(20_000)));
}
