//! Redis, in front of a store that has nothing to do, so that only the cache is measured.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::{BoxFuture, FutureExt as _, ready};
use herenow_protocol::record::Record;
use herenow_protocol::{UserKey, Version};
use herenow_store::{Cached, KeyRange, Page, RedisConfig, StatusStore, StoreError, Written};
use redis::aio::MultiplexedConnection;

use crate::redis_server::Redis;
use crate::{ROUNDS, Times, batches, reads};

const USERS: u64 = 100_000;
const CALLS: usize = 5_000;
/// Entries of one command, as the store has them.
const COMMAND: usize = 500;
const LIFE_MS: u64 = 30_000;
const WRITE: &str = include_str!("../../src/redis/write.lua");

/// Takes everything, has nothing.
struct Nothing;

impl StatusStore for Nothing {
    fn put_batch(&self, records: Vec<Record>) -> BoxFuture<'_, Result<Written, StoreError>> {
        ready(Ok(Written { stored: records.len(), older: 0 })).boxed()
    }

    fn get_many(&self, keys: Vec<UserKey>) -> BoxFuture<'_, Result<Vec<Option<Record>>, StoreError>> {
        ready(Ok(vec![None; keys.len()])).boxed()
    }

    fn scan(&self, _: KeyRange, _: Option<UserKey>) -> BoxFuture<'_, Result<Page, StoreError>> {
        ready(Ok(Page::default())).boxed()
    }

    fn erase(&self, _: Vec<(UserKey, Version)>) -> BoxFuture<'_, Result<Written, StoreError>> {
        ready(Ok(Written::default())).boxed()
    }
}

pub(crate) async fn measure(figures: &mut BTreeMap<String, f64>) {
    let Some(server) = Redis::start(&[]).await else { return };
    let config = RedisConfig { timeout: std::time::Duration::from_secs(5), ..server.config() };
    let cached = Cached::open(&config, Arc::new(Nothing)).await.unwrap();
    let client = redis::Client::open(server.config().url).unwrap();
    let connection = client.get_multiplexed_async_connection().await.unwrap();
    let (mut writing, mut reading) = (Times::default(), Times::default());
    let asked = reads(USERS, CALLS);
    for round in 1..=ROUNDS {
        let all = batches(USERS, round);
        let (same, sets) = (all.clone(), all.clone());
        writing.take("store", write(&cached, all)).await;
        writing.take("a loop with the same script", scripted(connection.clone(), same)).await;
        writing.take("a loop of SET", set(connection.clone(), sets)).await;
        reading.take("store", read(&cached, &asked)).await;
        reading.take("a loop of MGET", mget(connection.clone(), &asked)).await;
    }
    let counts = cached.counts();
    assert_eq!((counts.misses, counts.errors, counts.bypassed), (0, 0, 0), "everything was there");
    writing.told("Redis: write 10,000 at a time", USERS, figures);
    reading.told("Redis: read 100 at a time", (CALLS * crate::READ) as u64, figures);
}

async fn write(cached: &Cached, all: Vec<Vec<Record>>) {
    for batch in all {
        cached.put_batch(batch).await.unwrap();
    }
}

async fn read(cached: &Cached, asked: &[Vec<UserKey>]) {
    for keys in asked {
        assert!(cached.get_many(keys.clone()).await.unwrap().iter().all(Option::is_some));
    }
}

/// Each loop has keys of its own: what the script finds there is what it wrote, as the store finds what the store wrote.
fn name(of_loop: &str, user: UserKey) -> Vec<u8> {
    [of_loop.as_bytes(), b":", &user.to_bytes()].concat()
}

/// Sixteen bytes to order by, then the record.
fn value(record: &Record) -> Vec<u8> {
    let order = u128::from(record.written.n).to_be_bytes().to_vec();
    postcard::to_extend(record, order).unwrap()
}

async fn scripted(mut connection: MultiplexedConnection, all: Vec<Vec<Record>>) {
    let script = redis::Script::new(WRITE);
    script.prepare_invoke().load_async(&mut connection).await.unwrap();
    for batch in all {
        let mut pipe = redis::pipe();
        for part in batch.chunks(COMMAND) {
            pipe.cmd("EVALSHA").arg(script.get_hash()).arg(part.len() + 1).arg("scripted:generation");
            for record in part {
                pipe.arg(name("scripted", record.key));
            }
            pipe.arg("01234567");
            for record in part {
                pipe.arg(LIFE_MS).arg(value(record));
            }
        }
        let written: Vec<usize> = pipe.query_async(&mut connection).await.unwrap();
        assert!(written.iter().sum::<usize>() <= batch.len());
    }
}

async fn set(mut connection: MultiplexedConnection, all: Vec<Vec<Record>>) {
    for batch in all {
        let mut pipe = redis::pipe();
        for record in batch {
            pipe.cmd("SET").arg(name("set", record.key)).arg(value(&record)).arg("PX").arg(LIFE_MS).ignore();
        }
        pipe.query_async::<()>(&mut connection).await.unwrap();
    }
}

async fn mget(mut connection: MultiplexedConnection, asked: &[Vec<UserKey>]) {
    for keys in asked {
        let mut command = redis::cmd("MGET");
        for key in keys {
            command.arg(name("set", *key));
        }
        let values: Vec<Vec<u8>> = command.query_async(&mut connection).await.unwrap();
        let records: Vec<Record> =
            values.iter().map(|value| postcard::from_bytes(&value[16..]).unwrap()).collect();
        assert_eq!(records.len(), keys.len());
    }
}
