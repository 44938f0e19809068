//! Cassandra that is down, slow, killed, of another schema, or refuses.

use std::time::{Duration, Instant};

use futures::future::join_all;
use herenow_protocol::{Placement, Version};
use herenow_store::testing::{entry, key, record, version};
use herenow_store::{
    ActivityLog as _, CASSANDRA_SCHEMA, Cassandra, CassandraConfig, Secret, Span, StatusStore as _,
    StoreError, Tls, Written,
};
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;

use crate::server::{SUPERUSER, Server};
use crate::support::{certificates, free_port};

async fn refused(config: &CassandraConfig) -> StoreError {
    Cassandra::open(config).await.unwrap_err()
}

async fn session(server: &Server) -> Session {
    let builder = SessionBuilder::new().known_node(server.address());
    builder.user(SUPERUSER, SUPERUSER).build().await.unwrap()
}

#[tokio::test]
async fn a_node_that_is_not_there_is_named() {
    let nodes = vec![format!("127.0.0.1:{}", free_port())];
    let timeout = Duration::from_secs(5);
    let error =
        refused(&CassandraConfig { nodes: nodes.clone(), timeout, ..CassandraConfig::default() }).await;
    assert_eq!(error.label(), "unavailable");
    assert!(error.to_string().contains(&nodes[0]), "{error}");
}

#[tokio::test]
async fn a_wrong_password_is_named() {
    let Some(server) = Server::shared() else { return };
    let right = server.config();
    let wrong = CassandraConfig { password: Some(Secret::new("openbarley")), ..right.clone() };
    let none = CassandraConfig { user: None, password: None, ..right };
    for config in [wrong, none] {
        let error = refused(&config).await;
        assert_eq!(error.label(), "denied", "{error}");
        assert!(!error.to_string().contains("openbarley"), "{error}");
    }
}

#[tokio::test]
async fn a_user_without_rights_is_named() {
    let Some(server) = Server::shared() else { return };
    let (config, session) = (server.config(), session(&server).await);
    drop(Cassandra::open(&config).await.unwrap());
    let weak = "CREATE ROLE IF NOT EXISTS weak WITH PASSWORD = 'opensesame' AND LOGIN = true";
    session.query_unpaged(weak, ()).await.unwrap();
    let weak = CassandraConfig {
        user: Some("weak".to_owned()),
        password: Some(Secret::new("opensesame")),
        ..config.clone()
    };
    let error = refused(&weak).await;
    assert_eq!(error.label(), "denied", "{error}");
    // Who only reads needs no more than that.
    let select = format!("GRANT SELECT ON KEYSPACE {} TO weak", config.keyspace);
    session.query_unpaged(select, ()).await.unwrap();
    let reader = Cassandra::open_to_read(&weak).await.unwrap();
    assert_eq!(reader.get_many(vec![key("ana")]).await.unwrap(), [None]);
    let error = reader.put_batch(vec![record("ana", version(1, 1))]).await.unwrap_err();
    assert_eq!(error.label(), "denied", "{error}");
    // Rights on the tables alone are enough once they are there.
    for right in ["SELECT", "MODIFY"] {
        let grant = format!("GRANT {right} ON KEYSPACE {} TO weak", config.keyspace);
        session.query_unpaged(grant, ()).await.unwrap();
    }
    let store = Cassandra::open(&weak).await.unwrap();
    store.put_batch(vec![record("ana", version(1, 1))]).await.unwrap();
    // One that may only be read is named, and answers.
    let revoke = format!("REVOKE MODIFY ON KEYSPACE {} FROM weak", config.keyspace);
    session.query_unpaged(revoke, ()).await.unwrap();
    let error = loop {
        // A node remembers rights for a while.
        match store.put_batch(vec![record("ana", version(1, 2))]).await {
            Ok(_) => tokio::task::yield_now().await,
            Err(error) => break error,
        }
    };
    assert_eq!(error.label(), "denied", "{error}");
    assert!(store.get_many(vec![key("ana")]).await.unwrap()[0].is_some());
}

#[tokio::test]
async fn a_row_that_nobody_can_read_is_named() {
    let Some(server) = Server::shared() else { return };
    let (config, session) = (server.config(), session(&server).await);
    let store = Cassandra::open(&config).await.unwrap();
    store.put_batch(vec![record("ana", version(1, 1)), record("ben", version(1, 1))]).await.unwrap();
    let find = format!("SELECT bucket, user_key, epoch FROM {}.user_status", config.keyspace);
    let rows = session.query_unpaged(find, ()).await.unwrap().into_rows_result().unwrap();
    let rows: Vec<(i16, Vec<u8>, Vec<u8>)> = rows.rows().unwrap().map(Result::unwrap).collect();
    let (bucket, user, epoch) = rows.into_iter().find(|(_, user, _)| *user == key("ana").to_bytes()).unwrap();
    let spoil = format!(
        "UPDATE {}.user_status SET body = 0x00 WHERE bucket = ? AND user_key = ? AND epoch = ?",
        config.keyspace
    );
    session.query_unpaged(spoil, (bucket, user, epoch)).await.unwrap();
    let error = store.get_many(vec![key("ana")]).await.unwrap_err();
    assert_eq!(error.label(), "damaged", "{error}");
    assert!(store.get_many(vec![key("ben")]).await.unwrap()[0].is_some(), "and of no other user");
}

#[tokio::test]
async fn who_only_reads_makes_nothing_and_takes_nothing() {
    let Some(server) = Server::shared() else { return };
    let config = server.config();
    let error = Cassandra::open_to_read(&config).await.unwrap_err();
    assert_eq!(error.label(), "unavailable", "no tables yet: {error}");
    let writer = Cassandra::open(&config).await.unwrap();
    let reader = Cassandra::open_to_read(&config).await.unwrap();
    let (ours, others) = (Placement::new(b"one secret", 4), Placement::new(b"another secret", 4));
    reader.check_for(&others).await.unwrap();
    writer.claim_for(&ours).await.unwrap();
    reader.check_for(&ours).await.unwrap();
    assert_eq!(reader.check_for(&others).await.unwrap_err().label(), "other_secret");
    let sessions = session(&server).await;
    let newer =
        format!("INSERT INTO {}.schema_version (name, version) VALUES ('herenow', 99)", config.keyspace);
    sessions.query_unpaged(newer, ()).await.unwrap();
    assert_eq!(Cassandra::open_to_read(&config).await.unwrap_err().label(), "schema");
}

#[tokio::test]
async fn many_that_start_at_once_make_the_tables_once() {
    let Some(server) = Server::shared() else { return };
    // Who comes second sees tables half made, once in some ten rounds.
    for _ in 0..5 {
        start_at_once(&server, 8).await;
    }
}

async fn start_at_once(server: &Server, many: usize) {
    let config = server.config();
    let opened = join_all((0..many).map(|_| Cassandra::open(&config))).await;
    for (i, store) in opened.iter().enumerate() {
        let name = format!("u{i}");
        store.as_ref().unwrap().put_batch(vec![record(&name, version(1, 1))]).await.unwrap();
    }
    let keys = (0..many).map(|i| key(&format!("u{i}"))).collect();
    let read = opened[0].as_ref().unwrap().get_many(keys).await.unwrap();
    assert_eq!(read.into_iter().flatten().count(), many);
    for store in opened.iter().flatten() {
        is_of_one_secret(store, &config.keyspace).await;
    }
}

async fn is_of_one_secret(store: &Cassandra, keyspace: &str) {
    store.claim_for(&Placement::new(b"our secret", 4)).await.unwrap();
    let error = store.claim_for(&Placement::new(b"that of others", 4)).await.unwrap_err();
    assert_eq!(error.label(), "other_secret", "{error}");
    assert!(error.to_string().contains(keyspace), "{error}");
}

#[tokio::test]
async fn the_history_ends_by_itself_and_its_ids_are_of_its_time() {
    let Some(server) = Server::shared() else { return };
    let config = CassandraConfig { activity_ttl: Duration::from_hours(48), ..server.config() };
    let store = Cassandra::open(&config).await.unwrap();
    for _ in 0..2 {
        store.append_batch(vec![entry("ana", 86_400_123, 7)]).await.unwrap();
    }
    let ask = format!(
        "SELECT ttl(cause), to_unix_timestamp(activity_id), event_type FROM {}.user_activity",
        config.keyspace
    );
    let answer = session(&server).await.query_unpaged(ask, ()).await.unwrap().into_rows_result().unwrap();
    let (ttl, at, event) = answer.single_row::<(i32, i64, String)>().unwrap();
    assert!((172_700..=172_800).contains(&ttl), "{ttl}");
    assert_eq!((at, event.as_str()), (86_400_123, "login"));
}

#[tokio::test]
async fn a_newer_schema_and_the_tables_of_others_are_left_alone() {
    let Some(server) = Server::shared() else { return };
    let (config, others, session) = (server.config(), server.config(), session(&server).await);
    drop(Cassandra::open(&config).await.unwrap());
    let (keyspace, version) = (&config.keyspace, CASSANDRA_SCHEMA + 1);
    let newer =
        format!("INSERT INTO {keyspace}.schema_version (name, version) VALUES ('herenow', {version})");
    session.query_unpaged(newer, ()).await.unwrap();
    let is_schema = |error: &StoreError, what: &str| matches!(error, StoreError::Schema { found, wanted: CASSANDRA_SCHEMA, .. } if found.contains(what));
    let error = refused(&config).await;
    assert!(is_schema(&error, &version.to_string()), "{error:?}");

    let make = "WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}";
    session.query_unpaged(format!("CREATE KEYSPACE {} {make}", others.keyspace), ()).await.unwrap();
    let table = format!("CREATE TABLE {}.letters (id int PRIMARY KEY)", others.keyspace);
    session.query_unpaged(table, ()).await.unwrap();
    let error = refused(&others).await;
    assert!(is_schema(&error, "letters"), "{error:?}");
}

/// What an older program has written is read, and a step that broke off at its end is made again.
#[tokio::test]
async fn the_tables_of_an_older_program_are_altered_with_what_they_have() {
    let Some(server) = Server::shared() else { return };
    let (config, session) = (server.config(), session(&server).await);
    let (old, new) = (entry("ana", 5, 2), entry("ana", 6, 3));
    assert!(old.opened.is_none() && !new.opened.is_none());
    let store = Cassandra::open(&config).await.unwrap();
    store.append_batch(vec![old.clone()]).await.unwrap();
    drop(store);
    let (keyspace, version) = (&config.keyspace, CASSANDRA_SCHEMA);
    let back =
        format!("DELETE FROM {keyspace}.schema_version WHERE name = 'herenow' AND version = {version}");
    for undo in [Some(format!("ALTER TABLE {keyspace}.user_activity DROP opened")), None] {
        if let Some(undo) = undo {
            session.query_unpaged(undo, ()).await.unwrap();
        }
        session.query_unpaged(back.clone(), ()).await.unwrap();
        let store = Cassandra::open(&config).await.unwrap();
        store.append_batch(vec![new.clone()]).await.unwrap();
        assert_eq!(store.query(key("ana"), Span::ALL).await.unwrap(), [old.clone(), new.clone()]);
    }
}

#[tokio::test]
async fn certificates_are_checked() {
    let Some(server) = Server::shared() else { return };
    let with = |ca| CassandraConfig { tls: Some(Tls { ca: Some(ca), ..Tls::default() }), ..server.config() };
    let store = Cassandra::open(&with(server.authority())).await.unwrap();
    store.put_batch(vec![record("ana", version(1, 1))]).await.unwrap();
    let strangers = tempfile::tempdir().unwrap();
    certificates(strangers.path());
    let error = refused(&with(strangers.path().join("ca.pem"))).await;
    assert_eq!(error.label(), "unavailable", "{error}");
}

/// Epochs whose counter the arbiter gave out twice, and what a lossless order of writes needs.
#[tokio::test]
async fn versions_order_by_counter_then_nonce_then_number_and_old_epochs_are_cleaned() {
    let Some(server) = Server::shared() else { return };
    let config = server.config();
    let store = Cassandra::open(&config).await.unwrap();
    let versions: Vec<Version> = [(1, 7, 900), (2, 3, 500), (2, 0x8000_0000, 4), (0x8000_0000, 1, 1)]
        .map(|(counter, nonce, n)| Version { epoch: herenow_protocol::Epoch { counter, nonce }, n })
        .to_vec();
    for newer in &versions {
        assert_eq!(
            store.put_batch(vec![record("ana", *newer)]).await.unwrap(),
            Written { stored: 1, older: 0 }
        );
        for older in versions.iter().filter(|older| *older < newer) {
            store.put_batch(vec![record("ana", *older)]).await.unwrap();
        }
        assert_eq!(store.get_many(vec![key("ana")]).await.unwrap(), [Some(record("ana", *newer))]);
    }
    let count = format!("SELECT count(*) FROM {}.user_status", config.keyspace);
    let answer = session(&server).await.query_unpaged(count, ()).await.unwrap().into_rows_result().unwrap();
    assert_eq!(answer.single_row::<(i64,)>().unwrap().0, 1);
}

/// All look at what is there before any of them writes.
#[tokio::test]
async fn of_writers_that_saw_the_same_the_newest_stays() {
    let Some(server) = Server::shared() else { return };
    let store = Cassandra::open(&server.config()).await.unwrap();
    let numbers = [3, 40, 11, 39, 7, 23, 31, 2, 19, 5];
    for round in 0..20 {
        let name = format!("u{round}");
        let writes = numbers.map(|n| store.put_batch(vec![record(&name, version(1, n))]));
        for written in join_all(writes).await {
            written.unwrap();
        }
        assert_eq!(store.get_many(vec![key(&name)]).await.unwrap(), [Some(record(&name, version(1, 40)))]);
    }
}

/// Takes minutes: a node after the other joins.
#[tokio::test]
#[ignore = "needs 4 GB of memory, and minutes: cargo test -p herenow-store --test cassandra -- --ignored"]
async fn a_node_of_three_that_answers_nothing_or_is_gone_holds_up_nobody() {
    let Some(mut nodes) = Server::cluster() else { return };
    let nodes_at = nodes.iter().map(Server::address).collect();
    let config = CassandraConfig {
        nodes: nodes_at,
        replication: 3,
        user: None,
        password: None,
        timeout: Duration::from_secs(30),
        ..nodes[0].config()
    };
    let store = Cassandra::open(&config).await.unwrap();
    let name = |i: u64| format!("u{i}");
    store.put_batch((0..300).map(|i| record(&name(i), version(1, 1))).collect()).await.unwrap();
    nodes[1].freeze();
    let slowest = slowest_of_300(&store, version(1, 2)).await;
    assert!(slowest < Duration::from_secs(5), "a node answers nothing: {slowest:?}");
    nodes[1].thaw();
    nodes[2].kill();
    let slowest = slowest_of_300(&store, version(1, 3)).await;
    assert!(slowest < Duration::from_secs(5), "a node is gone: {slowest:?}");
}

/// Writes and reads users one after the other; the longest that a write and a read took.
async fn slowest_of_300(store: &Cassandra, newer: Version) -> Duration {
    let mut slowest = Duration::ZERO;
    for i in 0..300 {
        let newer = record(&format!("u{i}"), newer);
        #[expect(clippy::disallowed_methods, reason = "a test measures")]
        let began = Instant::now();
        store.put_batch(vec![newer.clone()]).await.unwrap();
        assert_eq!(store.get_many(vec![newer.key]).await.unwrap(), [Some(newer)]);
        slowest = slowest.max(began.elapsed());
    }
    slowest
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_crash_and_a_frozen_node_is_given_up_in_time() {
    let Some(mut server) = Server::start() else { return };
    let slow = server.config();
    drop(Cassandra::open(&slow).await.unwrap());
    let quick = Cassandra::open(&CassandraConfig { timeout: Duration::from_secs(4), ..slow }).await.unwrap();
    quick.put_batch(vec![record("ana", version(1, 1))]).await.unwrap();
    quick.append_batch(vec![entry("ana", 5, 1)]).await.unwrap();
    server.kill();
    let error = quick.put_batch(vec![record("ana", version(1, 2))]).await.unwrap_err();
    assert_eq!(error.label(), "unavailable", "{error}");
    server.restart();
    // The driver connects again by itself.
    answers_again(&quick).await;
    assert_eq!(quick.get_many(vec![key("ana")]).await.unwrap(), [Some(record("ana", version(1, 1)))]);
    assert_eq!(quick.query(key("ana"), Span::ALL).await.unwrap(), [entry("ana", 5, 1)]);

    server.freeze();
    #[expect(clippy::disallowed_methods, reason = "a test measures")]
    let began = Instant::now();
    let error = quick.get_many(vec![key("ana")]).await.unwrap_err();
    assert_eq!(error.label(), "unavailable", "{error}");
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    server.thaw();
    answers_again(&quick).await;
}

async fn answers_again(store: &Cassandra) {
    let mut attempts = 0;
    while let Err(error) = store.get_many(vec![key("ana")]).await {
        attempts += 1;
        assert!(attempts < 100, "{error}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
