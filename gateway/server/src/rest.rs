//! What backends and people ask over HTTP. Handlers may run on any thread: they check, put one question to their
//! shard, and answer.

pub(crate) mod analytics;
mod answer;
pub(crate) mod directory;
pub(crate) mod kept;
mod request;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, Query, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use herenow_protocol::api::{Explanation, GetStatuses, SetStatus, Statuses};
use herenow_protocol::code::ErrorCode;
use herenow_protocol::message::ClaimCommand;
use herenow_protocol::{Presence, UserId, frame};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::auth::Verifier;
use crate::calls::{Answer, Call, Question, status_set};
use crate::clock::Clock;
use crate::handshake::Refusal;
use answer::{document, json, refuse};
use directory::Directory;
use kept::Memory;

/// What handlers need. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Api {
    pub(crate) calls: mpsc::Sender<Call>,
    pub(crate) verifier: Arc<Verifier>,
    pub(crate) clock: Clock,
    /// For the whole body of a request.
    pub(crate) body_timeout: Duration,
    /// For the shard; longer than the core's own patience.
    pub(crate) answer_timeout: Duration,
    /// Who users are, where anybody knows.
    pub(crate) directory: Option<Arc<dyn Directory>>,
    /// What is kept of users, for when owners are not heard.
    pub(crate) memory: Memory,
}

type Outcome = Result<Response, Refusal>;
type UserPath = Result<Path<String>, axum::extract::rejection::PathRejection>;

/// Every route of the public port but the WebSocket's. `extra` must have no fallback of its own.
pub(crate) fn router(api: Api, extra: Option<Router>) -> Router {
    let calls = || {
        Router::new()
            .route("/status", post(set_status))
            .route("/status/{user_id}", get(get_status).delete(erase))
            .route("/statuses", post(get_statuses))
            .route("/users/{user_id}", get(directory::get_user).put(directory::put_user))
            .route("/analytics/statuses", get(analytics::statuses))
            .route("/analytics/who-was-online", get(analytics::who_was_online))
            .route("/analytics/online-per-hour", get(analytics::online_per_hour))
            .route("/analytics/time-online", get(analytics::time_online))
            .route("/analytics/transitions-per-minute", get(analytics::transitions_per_minute))
            .route("/analytics/sessions-by-device", get(analytics::sessions_by_device))
    };
    let router = calls()
        .nest("/v1", calls())
        .route("/openapi.json", get(|| document(include_str!("../api/openapi.json"))))
        .route("/asyncapi.json", get(|| document(include_str!("../api/asyncapi.json"))))
        .fallback(|| refuse(ErrorCode::NotFound, "there is nothing at this path"))
        .method_not_allowed_fallback(|| {
            refuse(ErrorCode::MethodNotAllowed, "the path does not know this method")
        })
        .with_state(api);
    match extra {
        Some(extra) => router.merge(extra),
        None => router,
    }
}

async fn set_status(State(api): State<Api>, request: Request) -> Outcome {
    let verified = api.verified(&request)?;
    let set = api.body::<SetStatus>(request).await?.check().map_err(refusal)?;
    if !verified.scopes.write && verified.viewer.user != set.user {
        return Err(forbidden("the token may set no status but its own user's"));
    }
    claim(&api, set.user, set.command).await
}

async fn erase(State(api): State<Api>, user: UserPath, request: Request) -> Outcome {
    let verified = api.verified(&request)?;
    if !verified.scopes.admin {
        return Err(forbidden("erasing needs the scope presence:admin"));
    }
    let user = user_id(user)?;
    let answer = claim(&api, user.clone(), ClaimCommand::Erase).await?;
    if let Some(directory) = &api.directory {
        directory.forget(user).await.map_err(refusal)?;
    }
    Ok(answer)
}

async fn claim(api: &Api, user: UserId, command: ClaimCommand) -> Outcome {
    match api.ask(Question::Claim { user, command }).await? {
        Answer::Claimed(Ok(claimed)) => Ok(json(&status_set(&claimed))),
        Answer::Claimed(Err(code)) => Err(answer::refused(code)),
        Answer::Users(_) | Answer::Explained(_) => Err(answer::refused(ErrorCode::Unavailable)),
    }
}

#[derive(Deserialize)]
struct Options {
    #[serde(default)]
    explain: bool,
}

#[derive(Serialize)]
struct Explained {
    #[serde(flatten)]
    presence: Presence,
    explanation: Box<Explanation>,
}

async fn get_status(State(api): State<Api>, user: UserPath, request: Request) -> Outcome {
    let verified = api.verified(&request)?;
    let user = user_id(user)?;
    let options = Query::<Options>::try_from_uri(request.uri());
    let explain = options.map_err(|_| value("the parameter `explain` is neither true nor false"))?.0.explain;
    if explain && !verified.scopes.admin {
        return Err(forbidden("explaining needs the scope presence:admin"));
    }
    let users = api.users(verified.viewer, vec![user.clone()]).await;
    let presence = users?.pop().ok_or_else(|| answer::refused(ErrorCode::Unavailable))?;
    if !explain {
        return Ok(json(&presence));
    }
    match api.ask(Question::Explain { user }).await? {
        Answer::Explained(Ok(explanation)) => Ok(json(&Explained { presence, explanation })),
        Answer::Explained(Err(code)) => Err(answer::refused(code)),
        Answer::Users(_) | Answer::Claimed(_) => Err(answer::refused(ErrorCode::Unavailable)),
    }
}

async fn get_statuses(State(api): State<Api>, request: Request) -> Outcome {
    let verified = api.verified(&request)?;
    let body = api.body::<GetStatuses>(request).await?;
    let users = frame::check_users(&body.user_ids).map_err(refusal)?;
    let statuses = api.users(verified.viewer, users).await?;
    Ok(json(&Statuses { statuses }))
}

fn user_id(user: UserPath) -> Result<UserId, Refusal> {
    let invalid = |detail| Refusal::new(ErrorCode::InvalidUserId, detail);
    let Path(user) = user.map_err(|_| invalid("the user id in the path is not UTF-8".to_owned()))?;
    UserId::new(&user).map_err(|why| invalid(format!("the user id in the path: {why}")))
}

fn refusal((code, detail): (ErrorCode, String)) -> Refusal {
    Refusal::new(code, detail)
}

fn forbidden(detail: &str) -> Refusal {
    refusal((ErrorCode::Forbidden, detail.to_owned()))
}

fn value(detail: &str) -> Refusal {
    refusal((ErrorCode::InvalidValue, detail.to_owned()))
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        crate::problem::response_after(self.code, self.detail, self.retry_after)
    }
}
