//! Who users are: kept and answered by whoever knows the stores. For administrators only: who somebody is, and what
//! everybody did, is nothing that watchers see.

use axum::extract::{Request, State};
use futures::future::BoxFuture;
use herenow_protocol::code::ErrorCode;
use herenow_protocol::{UserId, WallTime};
use serde::{Deserialize, Serialize};

use super::analytics::{Answered, Asked};
use super::{Api, Outcome, UserPath, answer::json, forbidden, refusal, user_id};
use crate::handshake::Refusal;

/// Who a user is: the body of `PUT /users/{userId}`, and with the id the answer of `GET`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Person {
    /// The name: 1 to 256 bytes without control characters.
    pub username: String,
    /// The address: 3 to 320 bytes with an @ and without control characters.
    pub email: String,
    /// Since when there is an account.
    pub creation_date: WallTime,
}

/// A refusal: what it is, and in words.
pub type Refused = (ErrorCode, String);

/// Knows who users are, and answers questions about the history.
pub trait Directory: Send + Sync {
    /// Who a user is; `None` where nobody has said.
    fn person(&self, user: UserId) -> BoxFuture<'_, Result<Option<Person>, Refused>>;
    /// Writes who a user is, over what was there.
    fn put(&self, user: UserId, person: Person) -> BoxFuture<'_, Result<(), Refused>>;
    /// Forgets who a user is.
    fn forget(&self, user: UserId) -> BoxFuture<'_, Result<(), Refused>>;
    /// Answers a question about the history.
    fn ask(&self, asked: Asked) -> BoxFuture<'_, Result<Answered, Refused>>;
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Known {
    user_id: UserId,
    #[serde(flatten)]
    person: Person,
}

impl Api {
    /// The directory, for who may use it.
    pub(super) fn directory(&self, request: &Request) -> Result<&dyn Directory, Refusal> {
        if !self.verified(request)?.scopes.admin {
            return Err(forbidden("this needs the scope presence:admin"));
        }
        let none = || not_found("this gateway knows no people: see [people] of its configuration");
        self.directory.as_deref().ok_or_else(none)
    }
}

pub(super) async fn get_user(State(api): State<Api>, user: UserPath, request: Request) -> Outcome {
    let directory = api.directory(&request)?;
    let user_id = user_id(user)?;
    let person = directory.person(user_id.clone()).await.map_err(refusal)?;
    let person = person.ok_or_else(|| not_found("nobody has said who this user is"))?;
    Ok(json(&Known { user_id, person }))
}

pub(super) async fn put_user(State(api): State<Api>, user: UserPath, request: Request) -> Outcome {
    let directory = api.directory(&request)?;
    let user_id = user_id(user)?;
    let person = api.body::<Person>(request).await?;
    directory.put(user_id.clone(), person.clone()).await.map_err(refusal)?;
    Ok(json(&Known { user_id, person }))
}

fn not_found(detail: &str) -> Refusal {
    refusal((ErrorCode::NotFound, detail.to_owned()))
}
