//! PostgreSQL: the history.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use herenow_protocol::WallTime;
use herenow_protocol::api::Cause;
use herenow_protocol::history::Opened;
use herenow_protocol::{Status, UserKey};
use herenow_store::testing::version;
use herenow_store::{ActivityLog as _, ActivityRecord, Postgres, PostgresConfig, Span};
use tokio_postgres::Client;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::Type;

use crate::postgres_server::Server;
use crate::{BATCH, ROUNDS, Times, placement, record};

/// Entries of one round.
const ENTRIES: u64 = 100_000;
const USERS: u64 = 10_000;
const QUERIES: u64 = 5_000;
const BEGAN_MS: u64 = 1_700_006_400_000;

fn entries(round: u64) -> Vec<Vec<ActivityRecord>> {
    let placement = placement();
    let entry = |i: u64| {
        let user = record(&placement, i % USERS, 0);
        ActivityRecord {
            key: user.key,
            user: user.user,
            at: WallTime::from_millis(BEGAN_MS + round * 3_600_000 + i),
            version: version(1, round * ENTRIES + i),
            from: Status::Offline,
            to: Status::Online,
            cause: Cause::Connected,
            opened: Opened { web: 1, ..Opened::default() },
        }
    };
    (0..ENTRIES / BATCH).map(|batch| (batch * BATCH..(batch + 1) * BATCH).map(entry).collect()).collect()
}

pub(crate) async fn measure(figures: &mut BTreeMap<String, f64>) {
    let Some(server) = Server::start() else { return };
    let config = server.config();
    let store = Postgres::open(&config).await.unwrap();
    // The loops have tables of their own, made the same way.
    let (same, straight) = (tables(&server).await, tables(&server).await);
    let (mut writing, mut reading) = (Times::default(), Times::default());
    for round in 0..ROUNDS {
        let all = entries(round);
        writing.take("store", append(&store, all.clone())).await;
        writing.take("a loop with the same statements", staged(&same, &all)).await;
        writing.take("a loop of COPY into the day", copied(&straight, "activity", &all)).await;
        reading.take("store", query(&store)).await;
        reading.take("a loop of SELECT", select(&same)).await;
    }
    writing.told("PostgreSQL: append 10,000 at a time", ENTRIES, figures);
    reading.told("PostgreSQL: histories of one user", QUERIES, figures);
}

async fn tables(server: &Server) -> Client {
    let config: PostgresConfig = server.config();
    let schema = config.schema.clone();
    let made = Postgres::open(&config).await.unwrap();
    made.append_batch(entries(100).remove(0)).await.unwrap();
    let client = server.client().await;
    client.batch_execute(&format!("SET search_path TO {schema}; TRUNCATE activity")).await.unwrap();
    client
        .batch_execute("SELECT make_day((extract(epoch from timestamptz '2023-11-15') / 86400)::int)")
        .await
        .unwrap();
    client.batch_execute("CREATE TEMP TABLE staged (LIKE activity) ON COMMIT DELETE ROWS").await.unwrap();
    client
}

async fn append(store: &Postgres, all: Vec<Vec<ActivityRecord>>) {
    for batch in all {
        store.append_batch(batch).await.unwrap();
    }
}

fn moment(at: WallTime) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(at.as_millis())
}

async fn copy(client: &Client, table: &str, batch: &[ActivityRecord]) {
    let (text, count) = (Type::TEXT, Type::INT2);
    let mut types = vec![Type::BYTEA, text.clone(), Type::TIMESTAMPTZ, Type::BYTEA];
    types.extend([text.clone(), text.clone(), text, count.clone(), count.clone(), count.clone(), count]);
    let columns = "(user_key, user_id, at, version, from_status, to_status, cause,
        opened_web, opened_mobile, opened_desktop, opened_server)";
    let sink = client.copy_in(&format!("COPY {table} {columns} FROM STDIN BINARY")).await.unwrap();
    let mut writer = std::pin::pin!(BinaryCopyInWriter::new(sink, &types));
    for entry in batch {
        let (key, n) = (entry.key.to_bytes(), u128::from(entry.version.n).to_be_bytes());
        writer
            .as_mut()
            .write(&[
                &key.as_slice(),
                &entry.user.as_str(),
                &moment(entry.at),
                &n.as_slice(),
                &"offline",
                &"online",
                &"connected",
                &1_i16,
                &0_i16,
                &0_i16,
                &0_i16,
            ])
            .await
            .unwrap();
    }
    writer.finish().await.unwrap();
}

async fn staged(client: &Client, all: &[Vec<ActivityRecord>]) {
    for batch in all {
        client.batch_execute("BEGIN").await.unwrap();
        copy(client, "staged", batch).await;
        let over = "INSERT INTO activity SELECT * FROM staged ON CONFLICT DO NOTHING";
        client.execute(over, &[]).await.unwrap();
        client.batch_execute("COMMIT").await.unwrap();
    }
}

async fn copied(client: &Client, table: &str, all: &[Vec<ActivityRecord>]) {
    for batch in all {
        copy(client, table, batch).await;
    }
}

fn asked() -> impl Iterator<Item = UserKey> {
    let placement = placement();
    (0..QUERIES).map(move |i| record(&placement, i * 7_919 % USERS, 0).key)
}

async fn query(store: &Postgres) {
    for key in asked() {
        assert!(!store.query(key, Span::ALL).await.unwrap().is_empty());
    }
}

async fn select(client: &Client) {
    let text = "SELECT user_id, at, version, from_status, to_status, cause FROM activity
        WHERE user_key = $1 AND at >= $2 AND at < $3 ORDER BY at, version LIMIT 1000";
    let statement = client.prepare(text).await.unwrap();
    let (from, to) = (SystemTime::UNIX_EPOCH, moment(WallTime::from_millis(253_402_300_799_000)));
    for key in asked() {
        let rows = client.query(&statement, &[&key.to_bytes().as_slice(), &from, &to]).await.unwrap();
        let users: Vec<(String, SystemTime, Vec<u8>, String, String, String)> = rows
            .iter()
            .map(|row| (row.get(0), row.get(1), row.get(2), row.get(3), row.get(4), row.get(5)))
            .collect();
        assert!(!users.is_empty());
    }
}
