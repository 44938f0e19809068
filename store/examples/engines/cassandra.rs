//! Cassandra: the last status.

use std::collections::BTreeMap;

use futures::stream::{self, StreamExt as _};
use herenow_protocol::UserKey;
use herenow_protocol::record::Record;
use herenow_store::{Cassandra, CassandraConfig, StatusStore as _};
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::statement::batch::{Batch, BatchType};
use scylla::statement::prepared::PreparedStatement;
use scylla::value::CqlTimestamp;

use crate::cassandra_server::{SUPERUSER, Server};
use crate::{ROUNDS, Times, batches, reads};

const USERS: u64 = 50_000;
const CALLS: usize = 300;
/// Requests at a time, as the store has them by default.
const CONCURRENCY: usize = 256;
/// Rows of one batch, about 16 KiB.
const PART: usize = 100;

struct Plain {
    session: Session,
    read: PreparedStatement,
    write: PreparedStatement,
}

impl Plain {
    /// With tables of its own, made the same way.
    async fn open(server: &Server) -> Self {
        let config: CassandraConfig = server.config();
        drop(Cassandra::open(&config).await.unwrap());
        let builder = SessionBuilder::new().known_nodes(&config.nodes).user(SUPERUSER, SUPERUSER);
        let session = builder.use_keyspace(&config.keyspace, false).build().await.unwrap();
        let read = "SELECT user_key, body FROM user_status WHERE bucket = ? AND user_key IN ?";
        let write = "INSERT INTO user_status (bucket, user_key, epoch, user_id, status, last_updated, body)
            VALUES (?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?";
        let (read, write) = (session.prepare(read).await.unwrap(), session.prepare(write).await.unwrap());
        Self { session, read, write }
    }

    async fn bodies(&self, keys: &[UserKey]) -> usize {
        let mut buckets: BTreeMap<i16, Vec<Vec<u8>>> = BTreeMap::new();
        for key in keys {
            buckets.entry(bucket(*key)).or_default().push(key.to_bytes().to_vec());
        }
        let read = |(bucket, keys)| async move {
            let answer = self.session.execute_unpaged(&self.read, (bucket, keys)).await.unwrap();
            let answer = answer.into_rows_result().unwrap();
            let rows = answer.rows::<(Vec<u8>, Vec<u8>)>().unwrap().map(Result::unwrap);
            let records: Vec<Record> = rows.map(|(_, body)| postcard::from_bytes(&body).unwrap()).collect();
            records.len()
        };
        stream::iter(buckets).map(read).buffer_unordered(CONCURRENCY).fold(0, async |a, b| a + b).await
    }

    /// As the store does it: what is there is read first, then each partition's rows are written as batches.
    async fn same(&self, all: Vec<Vec<Record>>) {
        for batch in all {
            let keys: Vec<UserKey> = batch.iter().map(|record| record.key).collect();
            self.bodies(&keys).await;
            let mut buckets: BTreeMap<i16, Vec<Row>> = BTreeMap::new();
            for record in &batch {
                buckets.entry(bucket(record.key)).or_default().push(row(record));
            }
            let write = |rows: Vec<Row>| async move {
                for part in rows.chunks(PART) {
                    let mut batch = Batch::new(BatchType::Unlogged);
                    part.iter().for_each(|_| batch.append_statement(self.write.clone()));
                    self.session.batch(&batch, part).await.unwrap();
                }
            };
            stream::iter(buckets.into_values())
                .map(write)
                .buffer_unordered(CONCURRENCY)
                .for_each(|()| async {})
                .await;
        }
    }

    /// Row by row, without a look.
    async fn rows(&self, all: Vec<Vec<Record>>) {
        for batch in all {
            let write = |record: Record| async move {
                self.session.execute_unpaged(&self.write, row(&record)).await.unwrap();
            };
            stream::iter(batch).map(write).buffer_unordered(CONCURRENCY).for_each(|()| async {}).await;
        }
    }
}

type Row = (i16, Vec<u8>, Vec<u8>, String, &'static str, CqlTimestamp, Vec<u8>, i64);

fn row(record: &Record) -> Row {
    let n = i64::try_from(record.written.n).unwrap();
    let body = postcard::to_stdvec(record).unwrap();
    let (key, user) = (record.key.to_bytes().to_vec(), record.user.as_str().to_owned());
    (bucket(record.key), key, vec![0; 8], user, "online", CqlTimestamp(1_700_000_000_000), body, n)
}

fn bucket(key: UserKey) -> i16 {
    let [a, b, ..] = key.to_bytes();
    i16::try_from(u16::from_be_bytes([a, b]) >> 6).unwrap()
}

pub(crate) async fn measure(figures: &mut BTreeMap<String, f64>) {
    let Some(server) = Server::start() else { return };
    let store = Cassandra::open(&server.config()).await.unwrap();
    let (same, rows) = (Plain::open(&server).await, Plain::open(&server).await);
    let (mut writing, mut reading) = (Times::default(), Times::default());
    let asked = reads(USERS, CALLS);
    // The first writes of a server that has just started are of no use.
    for round in 0..=ROUNDS {
        if round == 1 {
            (writing, reading) = (Times::default(), Times::default());
        }
        let all = batches(USERS, round + 1);
        writing.take("store", write(&store, all.clone())).await;
        writing.take("a loop with the same statements", same.same(all.clone())).await;
        writing.take("a loop of INSERT, row by row", rows.rows(all)).await;
        reading.take("store", read(&store, &asked)).await;
        reading.take("a loop of the same SELECT", select(&same, &asked)).await;
    }
    writing.told("Cassandra: write 10,000 at a time", USERS, figures);
    reading.told("Cassandra: read 100 at a time", (CALLS * crate::READ) as u64, figures);
}

async fn write(store: &Cassandra, all: Vec<Vec<Record>>) {
    for batch in all {
        assert_eq!(store.put_batch(batch).await.unwrap().older, 0);
    }
}

async fn read(store: &Cassandra, asked: &[Vec<UserKey>]) {
    for keys in asked {
        assert!(store.get_many(keys.clone()).await.unwrap().iter().all(Option::is_some));
    }
}

async fn select(plain: &Plain, asked: &[Vec<UserKey>]) {
    for keys in asked {
        assert_eq!(plain.bodies(keys).await, keys.len());
    }
}
