//! Answers over HTTP.

use axum::body::Body;
use axum::response::Response;
use herenow_protocol::code::ErrorCode;
use http::HeaderValue;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use serde::Serialize;

use crate::handshake::Refusal;
use crate::{calls, problem};

/// A JSON body. Presence is never cached on the way.
pub(super) fn json<T: Serialize>(body: &T) -> Response {
    let mut response = Response::new(Body::from(serde_json::to_vec(body).unwrap_or_default()));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// A document that is part of the program.
pub(super) async fn document(text: &'static str) -> Response {
    let mut response = Response::new(Body::from(text));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A refusal that asks nobody.
pub(super) async fn refuse(code: ErrorCode, detail: &'static str) -> Response {
    problem::response(code, detail)
}

/// The core's refusal.
pub(super) fn refused(code: ErrorCode) -> Refusal {
    Refusal::new(code, calls::refused(code).to_owned())
}
