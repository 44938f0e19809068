//! Bringing the tables to the schema that this program reads.

use std::cmp::Ordering;
use std::time::Duration;

use scylla::client::session::Session;
use scylla::errors::{DbError, ExecutionError, RequestAttemptError};
use scylla::response::query_result::QueryResult;

use super::{CassandraConfig, failure};
use crate::StoreError;

/// The version of the tables that this program reads and writes.
pub const CASSANDRA_SCHEMA: u32 = 2;

/// What brings the tables from one version to the next, from none on. What stands here is never changed, only added to.
const STEPS: [&str; CASSANDRA_SCHEMA as usize] = [include_str!("schema_1.cql"), include_str!("schema_2.cql")];

const VERSIONS: &str =
    "CREATE TABLE IF NOT EXISTS schema_version (name text, version int, PRIMARY KEY ((name), version))";

/// What the row begins with that says which cluster secret the keyspace is of.
const SECRET: &str = "secret ";

/// How long to wait before asking again for a table that is listed and not served yet: making one takes about as long.
const NOT_YET: Duration = Duration::from_millis(50);

/// Makes or alters the tables. Each statement may be made again: a process that died in between is no harm, and nor are
/// two that do it at the same time on one node. On two nodes they might, which Cassandra does not order.
pub(super) async fn run(server: &str, config: &CassandraConfig, session: &Session) -> Result<(), StoreError> {
    let wrong =
        |found: String| StoreError::Schema { server: server.to_owned(), found, wanted: CASSANDRA_SCHEMA };
    let keyspace = &config.keyspace;
    let tables = tables(server, keyspace, session).await?;
    let is_ours = tables.iter().any(|table| table == "schema_version");
    if !is_ours && !tables.is_empty() {
        return Err(wrong(format!("none, but tables of somebody else, such as {}", tables.join(", "))));
    }
    let copies = config.replication;
    run_one(
        server,
        session,
        &format!(
            "CREATE KEYSPACE IF NOT EXISTS {keyspace}
             WITH replication = {{'class': 'NetworkTopologyStrategy', 'replication_factor': {copies}}}"
        ),
        !is_ours,
    )
    .await?;
    session.use_keyspace(keyspace, false).await.map_err(|error| failure::of(server, &error))?;
    run_one(server, session, VERSIONS, !is_ours).await?;
    let found = version(server, session).await?;
    let steps = usize::try_from(found).ok().and_then(|found| STEPS.get(found..));
    let steps = steps.ok_or_else(|| wrong(found.to_string()))?;
    for (version, step) in (found + 1..).zip(steps) {
        for statement in statements(step) {
            run_one(server, session, &statement, true).await?;
        }
        let done = "INSERT INTO schema_version (name, version) VALUES ('herenow', ?)";
        let written = session.query_unpaged(done, (version,)).await;
        written.map_err(|error| failure::of(server, &error))?;
    }
    Ok(())
}

/// Finds tables of the schema that this program reads.
pub(super) async fn find(
    server: &str,
    config: &CassandraConfig,
    session: &Session,
) -> Result<(), StoreError> {
    let not_yet = || StoreError::Unavailable(format!("{server}: coordinators have not made the tables yet"));
    if tables(server, &config.keyspace, session).await?.is_empty() {
        return Err(not_yet());
    }
    session.use_keyspace(&config.keyspace, false).await.map_err(|error| failure::of(server, &error))?;
    let (found, wanted) = (version(server, session).await?, CASSANDRA_SCHEMA);
    match u32::try_from(found).unwrap_or(0).cmp(&wanted) {
        Ordering::Less => Err(not_yet()),
        Ordering::Equal => Ok(()),
        Ordering::Greater => {
            Err(StoreError::Schema { server: server.to_owned(), found: found.to_string(), wanted })
        }
    }
}

/// Marks the keyspace as of one cluster secret, or finds it marked as of another: under that no user would be found.
pub(super) async fn claim_for(server: &str, mark: u64, session: &Session) -> Result<(), StoreError> {
    if check_for(server, mark, session).await? {
        return Ok(());
    }
    let claim = "INSERT INTO schema_version (name, version) VALUES (?, 1)";
    let written = session.query_unpaged(claim, (ours(mark),)).await;
    written.map(drop).map_err(|error| failure::of(server, &error))
}

fn ours(mark: u64) -> String {
    format!("{SECRET}{mark:016x}")
}

/// Whether the keyspace is marked as of this cluster secret; an error where it is of another.
pub(super) async fn check_for(server: &str, mark: u64, session: &Session) -> Result<bool, StoreError> {
    let ask = "SELECT name FROM schema_version";
    let names: Vec<(String,)> = super::rows(server, session.query_unpaged(ask, ()).await)?;
    let marks: Vec<String> =
        names.into_iter().map(|(name,)| name).filter(|name| name.starts_with(SECRET)).collect();
    let ours = ours(mark);
    let same = marks.iter().all(|mark| *mark == ours);
    if same { Ok(!marks.is_empty()) } else { Err(StoreError::OtherSecret(server.into())) }
}

async fn run_one(server: &str, session: &Session, statement: &str, wanted: bool) -> Result<(), StoreError> {
    if !wanted {
        return Ok(());
    }
    session.query_unpaged(statement, ()).await.map(drop).map_err(|error| failure::of(server, &error))
}

async fn tables(server: &str, keyspace: &str, session: &Session) -> Result<Vec<String>, StoreError> {
    let ask = "SELECT table_name FROM system_schema.tables WHERE keyspace_name = ?";
    super::rows::<(String,)>(server, session.query_unpaged(ask, (keyspace,)).await)
        .map(|rows| rows.into_iter().map(|(name,)| name).collect())
}

async fn version(server: &str, session: &Session) -> Result<i32, StoreError> {
    let ask = "SELECT version FROM schema_version WHERE name = 'herenow'";
    let mut answer = session.query_unpaged(ask, ()).await;
    // A server lists a table that another process makes before it serves it. The limit of opening is that of this.
    while is_missing(&answer) {
        tokio::time::sleep(NOT_YET).await;
        answer = session.query_unpaged(ask, ()).await;
    }
    let rows = super::rows::<(i32,)>(server, answer)?;
    Ok(rows.into_iter().map(|(version,)| version).max().unwrap_or(0))
}

/// Whether the server says that it has no such table, or not whole: it knows its name first and its data later.
fn is_missing(answer: &Result<QueryResult, ExecutionError>) -> bool {
    let Err(ExecutionError::LastAttemptError(RequestAttemptError::DbError(error, said))) = answer else {
        return false;
    };
    (*error == DbError::Invalid && said.contains("does not exist"))
        || (*error == DbError::ServerError && said.contains("Unknown CF"))
}

/// The statements of a file, without comments.
fn statements(text: &str) -> Vec<String> {
    let lines = text.lines().filter(|line| !line.trim_start().starts_with("--"));
    let text: String = lines.flat_map(|line| [line, "\n"]).collect();
    text.split(";\n").map(str::trim).filter(|one| !one.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_statements() {
        let made: Vec<String> = statements(STEPS[0]);
        assert_eq!(made.len(), 4);
        assert!(made.iter().all(|one| one.starts_with("CREATE TABLE IF NOT EXISTS ") && !one.contains("--")));
    }
}
