//! Bringing the tables to the schema that this program reads.

use tokio_postgres::Client;

use super::failure;
use crate::StoreError;

/// The version of the tables that this program reads and writes.
pub const POSTGRES_SCHEMA: u32 = 2;

/// What brings the tables from one version to the next, from none on. What stands here is never changed, only added to.
const STEPS: [&str; POSTGRES_SCHEMA as usize] = [include_str!("schema_1.sql"), include_str!("schema_2.sql")];

/// Makes or alters the tables, each step whole or not at all. Refuses those of a newer program, and those of others.
pub(super) async fn run(server: &str, schema: &str, client: &mut Client) -> Result<(), StoreError> {
    let failed = |error: tokio_postgres::Error| failure::of(server, &error);
    let wrong =
        |found: String| StoreError::Schema { server: server.to_owned(), found, wanted: POSTGRES_SCHEMA };
    let transaction = client.transaction().await.map_err(failed)?;
    // Of all processes that start at the same time one does it. The name is checked: it needs no quotes.
    transaction
        .batch_execute(&format!("SELECT pg_advisory_xact_lock(hashtext('{schema}.schema_version'))"))
        .await
        .map_err(failed)?;
    let there = "SELECT to_regclass($1) IS NOT NULL,
        (SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $2)";
    let row = transaction
        .query_one(there, &[&format!("{schema}.schema_version"), &schema])
        .await
        .map_err(failed)?;
    let (is_ours, tables): (bool, i64) = (row.get(0), row.get(1));
    if !is_ours && tables > 0 {
        return Err(wrong(format!("none, but {tables} tables and the like of somebody else")));
    }
    let found = if is_ours {
        let row =
            transaction.query_one("SELECT max(version) FROM schema_version", &[]).await.map_err(failed)?;
        row.get::<_, Option<i32>>(0).unwrap_or(0)
    } else {
        let make = format!(
            "CREATE SCHEMA IF NOT EXISTS {schema};
             CREATE TABLE schema_version (version integer PRIMARY KEY, made_at timestamptz NOT NULL DEFAULT now());"
        );
        transaction.batch_execute(&make).await.map_err(failed)?;
        0
    };
    let known = usize::try_from(found).ok().and_then(|found| STEPS.get(found..));
    let steps = known.ok_or_else(|| wrong(found.to_string()))?;
    for (version, step) in (found + 1..).zip(steps) {
        transaction.batch_execute(step).await.map_err(failed)?;
        transaction
            .execute("INSERT INTO schema_version (version) VALUES ($1)", &[&version])
            .await
            .map_err(failed)?;
    }
    transaction.commit().await.map_err(failed)
}
