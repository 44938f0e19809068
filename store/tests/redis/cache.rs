//! What the cache saves, and that nobody who comes late changes it.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use herenow_store::testing::{key, record, version};
use herenow_store::{Cached, MemoryStore, RedisConfig, StatusStore as _};

use crate::server::Redis;
use crate::support::Watched;

async fn cached(server: &Redis, store: &Arc<Watched>) -> Cached {
    // A machine that is busy may be slow, and then the cache is left out; here it is to be used.
    let config = RedisConfig { timeout: Duration::from_secs(5), ..server.config() };
    Cached::open(&config, Arc::clone(store) as _).await.unwrap()
}

async fn get(cached: &Cached, name: &str) -> Option<herenow_protocol::record::Record> {
    cached.get_many(vec![key(name)]).await.unwrap().remove(0)
}

#[tokio::test]
async fn what_was_written_or_read_once_is_not_read_from_the_store_again() {
    let Some(server) = Redis::start(&[]).await else { return };
    let store = Watched::new(MemoryStore::new(100));
    store.store.put_batch(vec![record("ben", version(1, 1))]).await.unwrap();
    let (writer, reader) = (cached(&server, &store).await, cached(&server, &store).await);
    writer.put_batch(vec![record("ana", version(1, 1))]).await.unwrap();
    for _ in 0..3 {
        assert_eq!(get(&reader, "ana").await, Some(record("ana", version(1, 1))));
        assert_eq!(get(&reader, "ben").await, Some(record("ben", version(1, 1))));
        assert_eq!(get(&reader, "nobody").await, None);
    }
    assert_eq!(store.reads(), 2, "once for ben, once for nobody");
    let counts = reader.counts();
    assert_eq!((counts.hits, counts.absent_hits, counts.misses, counts.bypassed), (5, 2, 2, 0));
    assert!((counts.hit_rate().unwrap() - 7.0 / 9.0).abs() < 1e-9);
    // Whom nothing was kept of is there at once when written.
    writer.put_batch(vec![record("nobody", version(1, 1))]).await.unwrap();
    assert!(get(&reader, "nobody").await.is_some());
    // And gone at once when erased, for good.
    writer.erase(vec![(key("ana"), version(1, 5))]).await.unwrap();
    assert_eq!(get(&reader, "ana").await, None);
    assert_eq!(store.reads(), 2);
}

#[tokio::test]
async fn many_who_miss_the_same_user_make_one_read() {
    let Some(server) = Redis::start(&[]).await else { return };
    let store = Watched::new(MemoryStore::new(100));
    store.store.put_batch(vec![record("ana", version(1, 1))]).await.unwrap();
    let cached = cached(&server, &store).await;
    store.shut_gate();
    let asking = (0..100).map(|_| get(&cached, "ana"));
    let opens = async {
        store.held_up(1).await;
        while cached.counts().joined < 99 {
            tokio::task::yield_now().await;
        }
        store.open_gate();
    };
    let (answers, ()) = tokio::join!(join_all(asking), opens);
    assert!(answers.into_iter().all(|found| found == Some(record("ana", version(1, 1)))));
    assert_eq!(store.reads(), 1);
}

#[tokio::test]
async fn what_was_read_before_a_write_is_given_to_nobody_after_it() {
    let Some(server) = Redis::start(&[]).await else { return };
    let store = Watched::new(MemoryStore::new(100));
    store.store.put_batch(vec![record("ana", version(1, 1))]).await.unwrap();
    let (writer, other) = (cached(&server, &store).await, cached(&server, &store).await);
    for (reader, n) in [(&writer, 2), (&other, 3)] {
        let () = server.ask(&[b"FLUSHALL"]).await;
        store.shut_gate();
        let early = async { get(reader, "ana").await };
        let late = async {
            store.held_up(1).await;
            // The old one has been read and is on its way to the cache.
            writer.put_batch(vec![record("ana", version(1, n))]).await.unwrap();
            // In the process that wrote, and wherever the cache is asked.
            assert_eq!(get(reader, "ana").await, Some(record("ana", version(1, n))));
            store.open_gate();
        };
        let (old, ()) = tokio::join!(early, late);
        assert_eq!(old, Some(record("ana", version(1, n - 1))));
        assert_eq!(get(&other, "ana").await, Some(record("ana", version(1, n))));
    }
}

/// Where there is no cache, readers still share reads, and none gets what is older than its question.
#[tokio::test]
async fn a_read_that_began_before_a_write_is_not_joined_after_it() {
    let store = Watched::new(MemoryStore::new(100));
    store.store.put_batch(vec![record("ana", version(1, 1))]).await.unwrap();
    let config = RedisConfig { url: "redis://127.0.0.1:1".into(), ..RedisConfig::default() };
    let cached = Cached::open(&config, Arc::clone(&store) as _).await.unwrap();
    store.shut_gate();
    let early = async { get(&cached, "ana").await };
    let late = async {
        store.held_up(1).await;
        cached.put_batch(vec![record("ana", version(1, 2))]).await.unwrap();
        get(&cached, "ana").await
    };
    let opens = async {
        while store.reads() < 2 && cached.counts().joined == 0 {
            tokio::task::yield_now().await;
        }
        store.open_gate();
    };
    let (old, new, ()) = tokio::join!(early, late, opens);
    assert_eq!((old, new), (Some(record("ana", version(1, 1))), Some(record("ana", version(1, 2)))));
}

#[tokio::test]
async fn entries_end_by_themselves_and_strange_ones_are_none() {
    let Some(server) = Redis::start(&[]).await else { return };
    let store = Watched::new(MemoryStore::new(100));
    let cached = cached(&server, &store).await;
    cached.put_batch(vec![record("ana", version(1, 1))]).await.unwrap();
    let name = [b"herenow:1:".as_slice(), &key("ana").to_bytes()].concat();
    let left: u64 = server.ask(&[b"PTTL", &name]).await;
    assert!((20_000..=30_000).contains(&left), "{left}");
    let entry: Vec<u8> = server.ask(&[b"GET", &name]).await;
    for strange in [b"".as_slice(), b"x", &entry[..24 + 3], &[&entry[..24], b"nonsense"].concat()] {
        let () = server.ask(&[b"SET", &name, strange]).await;
        assert_eq!(get(&cached, "ana").await, Some(record("ana", version(1, 1))));
    }
}

#[tokio::test]
async fn a_server_that_lost_its_scripts_or_entries_is_told_again() {
    let Some(server) = Redis::start(&[]).await else { return };
    let store = Watched::new(MemoryStore::new(20_000));
    let cached = cached(&server, &store).await;
    let all: Vec<_> = (0..2_000).map(|i| record(&format!("u{i}"), version(1, i))).collect();
    for command in [b"FLUSHALL".as_slice(), b"SCRIPT"] {
        let () = server.ask(if command == b"SCRIPT" { &[b"SCRIPT", b"FLUSH"] } else { &[b"FLUSHALL"] }).await;
        cached.put_batch(all.clone()).await.unwrap();
    }
    let read = cached.get_many(all.iter().map(|record| record.key).collect()).await.unwrap();
    assert!(read.into_iter().flatten().eq(all));
    assert_eq!((store.reads(), cached.counts().errors), (0, 0));
}
