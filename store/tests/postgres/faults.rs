//! PostgreSQL that is down, slow, killed, of another schema, or refuses.

use std::time::{Duration, Instant};

use futures::future::join_all;
use herenow_store::testing::{entry, key};
use herenow_store::{
    ActivityLog as _, POSTGRES_SCHEMA, Postgres, PostgresConfig, Secret, Span, StoreError, Tls,
};

use crate::server::{PASSWORD, Server};
use crate::support::{certificates, free_port};

async fn refused(config: &PostgresConfig) -> StoreError {
    Postgres::open(config).await.unwrap_err()
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named() {
    let config =
        PostgresConfig { port: free_port(), timeout: Duration::from_secs(5), ..PostgresConfig::default() };
    let error = refused(&config).await;
    assert_eq!(error.label(), "unavailable");
    assert!(error.to_string().contains(&format!("127.0.0.1:{}/herenow", config.port)), "{error}");
}

#[tokio::test]
async fn a_wrong_password_user_or_database_is_named() {
    let Some(server) = Server::shared() else { return };
    let right = server.config();
    let wrong = [
        PostgresConfig { password: Some(Secret::new("openbarley")), ..right.clone() },
        PostgresConfig { user: "nobody".to_owned(), ..right.clone() },
        PostgresConfig { database: "nowhere".to_owned(), ..right.clone() },
    ];
    for config in wrong {
        let error = refused(&config).await;
        assert_eq!(error.label(), "denied", "{error}");
        assert!(!error.to_string().contains("openbarley"), "{error}");
    }
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("password");
    std::fs::write(&file, format!("{PASSWORD}\n")).unwrap();
    let config = PostgresConfig { password: None, password_file: Some(file), ..right };
    Postgres::open(&config).await.unwrap();
}

#[tokio::test]
async fn a_user_without_rights_is_named() {
    let Some(server) = Server::shared() else { return };
    let weak = format!("CREATE ROLE weak LOGIN PASSWORD '{PASSWORD}'");
    server.client().await.batch_execute(&weak).await.unwrap();
    let error = refused(&PostgresConfig { user: "weak".to_owned(), ..server.config() }).await;
    assert_eq!(error.label(), "denied", "{error}");
}

/// The server says so itself; here a trigger says it.
#[tokio::test]
async fn a_full_disk_is_told_and_once_there_is_room_writing_goes_on() {
    let Some(server) = Server::shared() else { return };
    let config = server.config();
    let log = Postgres::open(&config).await.unwrap();
    log.append_batch(vec![entry("ana", 1, 1)]).await.unwrap();
    let schema = &config.schema;
    let client = server.client().await;
    let full = format!(
        "SET search_path TO {schema};
        CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = 'disk_full';
        END $$;
        CREATE TRIGGER full_disk BEFORE INSERT ON activity FOR EACH ROW WHEN (NEW.user_id = 'ben')
            EXECUTE FUNCTION full_disk()"
    );
    client.batch_execute(&full).await.unwrap();
    let both = vec![entry("ana", 2, 2), entry("ben", 2, 2)];
    let error = log.append_batch(both.clone()).await.unwrap_err();
    assert_eq!(error.label(), "unavailable");
    assert!(error.to_string().contains("No space left on device"), "{error}");
    assert_eq!(log.query(key("ana"), Span::ALL).await.unwrap().len(), 1, "all of a batch or nothing");
    client.batch_execute("DROP TRIGGER full_disk ON activity").await.unwrap();
    log.append_batch(both).await.unwrap();
    assert_eq!(log.query(key("ana"), Span::ALL).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_server_that_may_only_be_read_says_so_and_answers_questions() {
    let Some(server) = Server::start() else { return };
    let config = server.config();
    let log = Postgres::open(&config).await.unwrap();
    log.append_batch(vec![entry("ana", 1, 1)]).await.unwrap();
    let client = server.client().await;
    let only_read = "ALTER DATABASE postgres SET default_transaction_read_only = ";
    client.batch_execute(&format!("{only_read} on")).await.unwrap();
    // As a standby that took over from the one that may be written.
    drop(log);
    let log = Postgres::open(&config).await.unwrap();
    let error = log.append_batch(vec![entry("ana", 2, 2)]).await.unwrap_err();
    assert_eq!(error.label(), "unavailable");
    assert!(error.to_string().contains("read-only transaction"), "{error}");
    assert_eq!(log.query(key("ana"), Span::ALL).await.unwrap().len(), 1);
    let error = refused(&server.config()).await;
    assert!(error.to_string().contains("read-only transaction"), "without tables: {error}");
    client.batch_execute("BEGIN READ WRITE").await.unwrap();
    client.batch_execute(&format!("{only_read} off; COMMIT")).await.unwrap();
    drop(log);
    let log = Postgres::open(&config).await.unwrap();
    log.append_batch(vec![entry("ana", 2, 2)]).await.unwrap();
}

#[tokio::test]
async fn a_row_that_nobody_can_read_is_named() {
    let Some(server) = Server::shared() else { return };
    let config = server.config();
    let log = Postgres::open(&config).await.unwrap();
    log.append_batch(vec![entry("ana", 1, 1), entry("ben", 1, 1)]).await.unwrap();
    let schema = &config.schema;
    let spoil = format!("UPDATE {schema}.activity SET to_status = 'nonsense' WHERE user_id = 'ana'");
    server.client().await.batch_execute(&spoil).await.unwrap();
    let error = log.query(key("ana"), Span::ALL).await.unwrap_err();
    assert_eq!(error.label(), "damaged", "{error}");
    assert_eq!(log.query(key("ben"), Span::ALL).await.unwrap().len(), 1, "and of no other user");
}

#[tokio::test]
async fn a_newer_schema_and_the_tables_of_others_are_left_alone() {
    let Some(server) = Server::shared() else { return };
    let config = server.config();
    drop(Postgres::open(&config).await.unwrap());
    let client = server.client().await;
    let newer = POSTGRES_SCHEMA + 1;
    let newer = format!("INSERT INTO {}.schema_version (version) VALUES ({newer})", config.schema);
    client.batch_execute(&newer).await.unwrap();
    let error = refused(&config).await;
    let is_schema = |error: &StoreError, what: &str| matches!(error, StoreError::Schema { found, wanted: POSTGRES_SCHEMA, .. } if found.contains(what));
    assert!(is_schema(&error, &(POSTGRES_SCHEMA + 1).to_string()), "{error:?}");

    let others = server.config();
    let make = format!("CREATE SCHEMA {0}; CREATE TABLE {0}.letters (text text)", others.schema);
    client.batch_execute(&make).await.unwrap();
    let error = refused(&others).await;
    assert!(is_schema(&error, "somebody else"), "{error:?}");
}

/// What an older program has written is read, and the same tables take what this one writes.
#[tokio::test]
async fn the_tables_of_an_older_program_are_altered_with_what_they_have() {
    let Some(server) = Server::shared() else { return };
    let (config, client) = (server.config(), server.client().await);
    let (schema, first) = (&config.schema, include_str!("../../src/postgres/schema_1.sql"));
    let made = format!(
        "CREATE SCHEMA {schema}; SET search_path TO {schema};
         CREATE TABLE schema_version (version integer PRIMARY KEY, made_at timestamptz NOT NULL DEFAULT now());
         {first}
         INSERT INTO schema_version (version) VALUES (1); SELECT make_day(0)"
    );
    client.batch_execute(&made).await.unwrap();
    let old = entry("ana", 6, 2);
    let (name, at) = (key("ana").to_bytes(), std::time::UNIX_EPOCH + Duration::from_millis(6));
    let version = (u128::from(old.version.epoch.counter) << 96
        | u128::from(old.version.epoch.nonce) << 64
        | u128::from(old.version.n))
    .to_be_bytes();
    let add = "INSERT INTO activity (user_key, user_id, at, version, from_status, to_status, cause)
        VALUES ($1, 'ana', $2, $3, 'offline', 'online', 'connected')";
    client.execute(add, &[&name.as_slice(), &at, &version.as_slice()]).await.unwrap();
    let store = Postgres::open(&config).await.unwrap();
    let new = entry("ana", 7, 3);
    assert!(old.opened.is_none() && !new.opened.is_none());
    store.append_batch(vec![new.clone()]).await.unwrap();
    assert_eq!(store.query(key("ana"), Span::ALL).await.unwrap(), [old, new]);
}

#[tokio::test]
async fn many_that_start_at_once_make_the_tables_and_days_once() {
    let Some(server) = Server::shared() else { return };
    let config = server.config();
    let opened = join_all((0..8).map(|_| Postgres::open(&config))).await;
    let writes = opened.iter().enumerate().map(|(i, store)| async move {
        let store = store.as_ref().unwrap();
        store.append_batch((0..100).map(|n| entry("ana", n * 10 + i as u64, n)).collect()).await.unwrap();
    });
    join_all(writes).await;
    let first = opened[0].as_ref().unwrap();
    assert_eq!(first.query(key("ana"), Span::ALL).await.unwrap().len(), 800);
}

#[tokio::test]
async fn a_day_that_another_process_dropped_is_made_again() {
    let Some(server) = Server::shared() else { return };
    let config = server.config();
    let (one, other) = (Postgres::open(&config).await.unwrap(), Postgres::open(&config).await.unwrap());
    one.append_batch(vec![entry("ana", 5, 1)]).await.unwrap();
    other.expire(herenow_protocol::WallTime::from_millis(86_400_000)).await.unwrap();
    one.append_batch(vec![entry("ana", 6, 2)]).await.unwrap();
    assert_eq!(other.query(key("ana"), Span::ALL).await.unwrap(), [entry("ana", 6, 2)]);
}

#[tokio::test]
async fn one_day_more_than_a_call_may_touch_is_refused() {
    let Some(server) = Server::shared() else { return };
    let store = Postgres::open(&server.config()).await.unwrap();
    let days = |count: u64| (0..count).map(|day| entry("ana", day * 86_400_000, day)).collect();
    assert_eq!(store.append_batch(days(367)).await, Err(StoreError::TooMany { given: 367, limit: 366 }));
    assert_eq!(store.query(key("ana"), Span::ALL).await.unwrap(), []);
}

#[tokio::test]
async fn certificates_are_checked() {
    let Some(server) = Server::shared() else { return };
    let with = |ca| PostgresConfig { tls: Some(Tls { ca: Some(ca), ..Tls::default() }), ..server.config() };
    let store = Postgres::open(&with(server.authority())).await.unwrap();
    store.append_batch(vec![entry("ana", 5, 1)]).await.unwrap();
    let strangers = tempfile::tempdir().unwrap();
    certificates(strangers.path());
    let error = refused(&with(strangers.path().join("ca.pem"))).await;
    assert!(error.to_string().contains("certificate"), "{error}");
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_crash_and_calls_work_again_after_it() {
    let Some(mut server) = Server::start() else { return };
    let config = PostgresConfig { timeout: Duration::from_secs(5), ..server.config() };
    let store = Postgres::open(&config).await.unwrap();
    store.append_batch(vec![entry("ana", 5, 1)]).await.unwrap();
    server.kill();
    for _ in 0..2 {
        let error = store.append_batch(vec![entry("ana", 6, 2)]).await.unwrap_err();
        assert_eq!(error.label(), "unavailable", "{error}");
    }
    server.restart();
    // A connection of before may still be found dead.
    let mut attempts = 0;
    while let Err(error) = store.append_batch(vec![entry("ana", 6, 2)]).await {
        attempts += 1;
        assert!(attempts <= config.connections, "{error}");
    }
    assert_eq!(store.query(key("ana"), Span::ALL).await.unwrap(), [entry("ana", 5, 1), entry("ana", 6, 2)]);
}

#[tokio::test]
async fn a_server_that_answers_nothing_is_given_up_in_time() {
    let Some(server) = Server::start() else { return };
    let timeout = Duration::from_millis(500);
    let slow = Postgres::open(&PostgresConfig { timeout: Duration::from_secs(5), ..server.config() }).await;
    drop(slow.unwrap());
    let store = Postgres::open(&PostgresConfig { timeout, ..server.config() }).await.unwrap();
    store.append_batch(vec![entry("ana", 5, 1)]).await.unwrap();
    server.freeze();
    #[expect(clippy::disallowed_methods, reason = "a test measures")]
    let began = Instant::now();
    let answers = join_all((0..10).map(|_| store.query(key("ana"), Span::ALL))).await;
    assert!(answers.iter().all(|answer| answer.as_ref().is_err_and(|error| error.label() == "unavailable")));
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    server.thaw();
    let mut attempts = 0;
    while let Err(error) = store.query(key("ana"), Span::ALL).await {
        attempts += 1;
        assert!(attempts < 10, "{error}");
    }
}
