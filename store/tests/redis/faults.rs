//! Redis that is down, slow, cut off, or refuses: slower, never wrong.

use std::sync::Arc;
use std::time::{Duration, Instant};

use herenow_protocol::record::Record;
use herenow_store::testing::{key, record, version};
use herenow_store::{BATCH, Cached, MemoryStore, RedisConfig, Secret, StatusStore as _, StoreError, Tls};

use crate::server::Redis;
use crate::support::{Watched, certificates};

async fn get(cached: &Cached, name: &str) -> Option<Record> {
    cached.get_many(vec![key(name)]).await.unwrap().remove(0)
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..1_000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never: {what}");
}

/// A cache that has an old entry, a server that then answers nothing, and a write.
#[tokio::test]
async fn a_server_that_answers_nothing_costs_one_wait_and_gives_nothing_old() {
    let Some(server) = Redis::start(&[]).await else { return };
    let store = Watched::new(MemoryStore::new(100));
    let config = RedisConfig { retry_after: Duration::from_secs(1), ..server.config() };
    let writer = Cached::open(&config, Arc::clone(&store) as _).await.unwrap();
    let other = Cached::open(&config, Arc::clone(&store) as _).await.unwrap();
    writer.put_batch(vec![record("ana", version(1, 1))]).await.unwrap();
    assert_eq!(get(&other, "ana").await, Some(record("ana", version(1, 1))));
    server.freeze();
    #[expect(clippy::disallowed_methods, reason = "a test measures")]
    let began = Instant::now();
    // What is on its way to the server it does when it can; of what comes after, it never hears.
    writer.put_batch(vec![record("ben", version(1, 1))]).await.unwrap();
    writer.put_batch(vec![record("ana", version(1, 2))]).await.unwrap();
    for _ in 0..20 {
        assert_eq!(get(&writer, "ana").await, Some(record("ana", version(1, 2))));
    }
    assert!(began.elapsed() < Duration::from_secs(5), "the server is asked once a second at most");
    assert_eq!(writer.counts().owed, 2);
    assert!(writer.is_down());
    server.thaw();
    until("the cache is told", || writer.counts().owed == 0).await;
    assert!(!writer.is_down());
    // The process that could not know of the write has it too.
    assert_eq!(get(&other, "ana").await, Some(record("ana", version(1, 2))));
}

#[tokio::test]
async fn a_server_that_goes_and_comes_back_is_used_again() {
    let Some(mut server) = Redis::start(&[]).await else { return };
    let store = Watched::new(MemoryStore::new(100));
    let cached = Cached::open(&server.config(), Arc::clone(&store) as _).await.unwrap();
    cached.put_batch(vec![record("ana", version(1, 1))]).await.unwrap();
    server.kill();
    assert_eq!(get(&cached, "ana").await, Some(record("ana", version(1, 1))));
    cached.put_batch(vec![record("ana", version(1, 2))]).await.unwrap();
    assert_eq!(get(&cached, "ana").await, Some(record("ana", version(1, 2))));
    server.restart().await;
    until("the cache is told", || cached.counts().owed == 0).await;
    assert_eq!(get(&cached, "ana").await, Some(record("ana", version(1, 2))));
    let reads = store.reads();
    assert_eq!(get(&cached, "ana").await, Some(record("ana", version(1, 2))));
    assert_eq!(store.reads(), reads);
}

#[tokio::test]
async fn more_than_may_be_owed_voids_the_whole_cache() {
    let Some(server) = Redis::start(&[]).await else { return };
    let store = Watched::new(MemoryStore::new(20_000));
    let config = RedisConfig { max_owed: BATCH, timeout: Duration::from_secs(1), ..server.config() };
    let writer = Cached::open(&config, Arc::clone(&store) as _).await.unwrap();
    let other = Cached::open(&config, Arc::clone(&store) as _).await.unwrap();
    let all = |n: u64| (0..=BATCH).map(|i| record(&format!("u{i}"), version(1, n))).collect::<Vec<_>>();
    for part in all(1).chunks(BATCH) {
        writer.put_batch(part.to_vec()).await.unwrap();
    }
    other.put_batch(vec![record("bystander", version(1, 1))]).await.unwrap();
    server.freeze();
    for part in all(2).chunks(BATCH) {
        writer.put_batch(part.to_vec()).await.unwrap();
    }
    assert_eq!(writer.counts().owed, u64::MAX);
    server.thaw();
    until("the cache is told", || writer.counts().owed == 0).await;
    assert_eq!(writer.counts().voided, 1);
    for name in ["u0", "u5000", "u10000"] {
        assert_eq!(get(&other, name).await, Some(record(name, version(1, 2))));
    }
    assert_eq!(get(&other, "bystander").await, Some(record("bystander", version(1, 1))));
}

/// The writer is gone in the middle of its call: whether the store has it is not known, and what is read is true.
#[tokio::test]
async fn a_write_that_broke_off_leaves_nothing_old() {
    let Some(server) = Redis::start(&[]).await else { return };
    let store = Watched::new(MemoryStore::new(100));
    let cached = Cached::open(&server.config(), Arc::clone(&store) as _).await.unwrap();
    cached.put_batch(vec![record("ana", version(1, 1))]).await.unwrap();
    server.freeze();
    let broke_off = cached.put_batch(vec![record("ana", version(1, 2))]);
    assert!(tokio::time::timeout(Duration::from_millis(20), broke_off).await.is_err());
    assert_eq!(get(&cached, "ana").await, Some(record("ana", version(1, 2))));
    server.thaw();
    until("the cache is told", || cached.counts().owed == 0).await;
    assert_eq!(get(&cached, "ana").await, Some(record("ana", version(1, 2))));
}

#[tokio::test]
async fn a_server_that_is_full_or_may_only_be_read_gives_nothing_old() {
    // A replica of nobody answers reads, and refuses writes, as one does whose master is gone.
    let replica = ["--replicaof", "127.0.0.1", "1"];
    for (arguments, mend) in [
        (
            ["--maxmemory", "1", "--maxmemory-policy", "noeviction", "--protected-mode", "no"].as_slice(),
            "full",
        ),
        (&replica, "replica"),
    ] {
        let Some(server) = Redis::start(arguments).await else { return };
        let store = Arc::new(MemoryStore::new(100));
        let cached = Cached::open(&server.config(), Arc::clone(&store) as _).await.unwrap();
        for n in 1..4 {
            cached.put_batch(vec![record("ana", version(1, n))]).await.unwrap();
            assert_eq!(get(&cached, "ana").await, Some(record("ana", version(1, n))), "{mend}");
        }
        assert!(cached.counts().errors > 0 && cached.counts().owed > 0, "{mend}: {:?}", cached.counts());
        let () = match mend {
            "full" => server.ask(&[b"CONFIG", b"SET", b"maxmemory", b"0"]).await,
            _ => server.ask(&[b"REPLICAOF", b"NO", b"ONE"]).await,
        };
        until("the cache is told", || cached.counts().owed == 0).await;
        cached.put_batch(vec![record("ana", version(1, 9))]).await.unwrap();
        assert_eq!(get(&cached, "ana").await, Some(record("ana", version(1, 9))));
        assert!(cached.counts().written > 0, "{mend}: it is used again");
    }
}

async fn refused(config: &RedisConfig) -> StoreError {
    Cached::open(config, Arc::new(MemoryStore::new(1))).await.unwrap_err()
}

#[tokio::test]
async fn a_wrong_password_is_named_at_the_start() {
    let Some(server) = Redis::start(&["--requirepass", "opensesame"]).await else { return };
    let with = |password: &str| RedisConfig { password: Some(Secret::new(password)), ..server.config() };
    for wrong in [server.config(), with("openbarley")] {
        let error = refused(&wrong).await;
        assert_eq!(error.label(), "denied", "{error}");
        let said = error.to_string();
        assert!(said.contains("127.0.0.1") && said.contains("check the user"), "{said}");
        assert!(!said.contains("openbarley"), "{said}");
    }
    let nobody = RedisConfig { user: Some("nobody".into()), ..with("opensesame") };
    assert_eq!(refused(&nobody).await.label(), "denied");
    let file = server.directory.path().join("password");
    std::fs::write(&file, "opensesame\n").unwrap();
    let right = RedisConfig { password_file: Some(file), ..server.config() };
    let cached = Cached::open(&right, Arc::new(MemoryStore::new(1))).await.unwrap();
    cached.put_batch(vec![record("ana", version(1, 1))]).await.unwrap();
    assert_eq!((cached.counts().written, cached.is_down()), (1, false));
}

#[tokio::test]
async fn certificates_are_checked() {
    let directory = tempfile::tempdir().unwrap();
    certificates(directory.path());
    let tls = ["--tls-port", "PORT", "--tls-cert-file", "cert.pem", "--tls-key-file", "key.pem"];
    let others = ["--tls-ca-cert-file", "ca.pem", "--tls-auth-clients", "no"];
    let arguments = [tls.as_slice(), &others].concat();
    let Some(server) = Redis::start_in(directory, &arguments).await else { return };
    let strangers = tempfile::tempdir().unwrap();
    certificates(strangers.path());
    for (ca, works) in [(server.directory.path(), true), (strangers.path(), false)] {
        let tls = Tls { ca: Some(ca.join("ca.pem")), ..Tls::default() };
        let url = format!("rediss://127.0.0.1:{}", server.port);
        let timeout = Duration::from_secs(5);
        let config = RedisConfig { url, tls: Some(tls), timeout, ..server.config() };
        let cached = Cached::open(&config, Arc::new(MemoryStore::new(1))).await.unwrap();
        assert_eq!(cached.is_down(), !works);
        cached.put_batch(vec![record("ana", version(1, 1))]).await.unwrap();
        assert!(get(&cached, "ana").await.is_some());
        assert_eq!(cached.counts().written, u64::from(works));
    }
}
