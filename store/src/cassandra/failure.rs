//! What the driver's errors mean to an operator.

use scylla::errors::DbError;

use crate::StoreError;

/// What the driver says when the cluster asks for a user and none is given; it has no type that could be matched.
const NO_USER: &str = "Authentication is required";

/// The driver's error as one of ours. Its errors wrap each other in many ways, and all say what the server said.
pub(super) fn of(server: &str, error: &dyn std::error::Error) -> StoreError {
    let said = error.to_string();
    if said.contains(NO_USER) {
        let reason = "it asks for a user, and none is given".to_owned();
        return StoreError::Denied { server: server.to_owned(), reason };
    }
    let refusals = [DbError::AuthenticationError, DbError::Unauthorized];
    if refusals.iter().any(|refusal| said.contains(&refusal.to_string())) {
        return StoreError::Denied { server: server.to_owned(), reason: said };
    }
    StoreError::Unavailable(format!("{server}: {said}"))
}
