//! What the driver's errors mean to an operator.

use deadpool_postgres::PoolError;
use tokio_postgres::error::SqlState;

use crate::StoreError;

/// The driver's error as one of ours.
pub(super) fn of(server: &str, error: &tokio_postgres::Error) -> StoreError {
    let said = error.as_db_error().map_or_else(|| chain(error), |error| error.message().to_owned());
    let code = error.code().map_or("", SqlState::code);
    // Class 28: who it is; 42501: its rights; 3D000: no such database, or none that is shown to it.
    if code.starts_with("28") || code == "42501" || code == "3D000" {
        return StoreError::Denied { server: server.to_owned(), reason: said };
    }
    StoreError::Unavailable(format!("{server}: {said}"))
}

pub(super) fn of_pool(server: &str, error: &PoolError) -> StoreError {
    match error {
        PoolError::Backend(error) => of(server, error),
        PoolError::Timeout(_)
        | PoolError::Closed
        | PoolError::NoRuntimeSpecified
        | PoolError::PostCreateHook(_) => StoreError::Unavailable(format!("{server}: {error}")),
    }
}

/// An error with what caused it: the driver's own text says only which part failed.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
