//! Refusals over HTTP: `application/problem+json` with a stable code.

use axum::body::Body;
use std::time::Duration;

use herenow_protocol::api::Problem;
use herenow_protocol::code::ErrorCode;
use herenow_protocol::time::millis;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, SEC_WEBSOCKET_VERSION, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};

/// The answer for a code, with the headers that go with its status. The code is kept beside it for the metrics.
pub(crate) fn response(code: ErrorCode, detail: impl Into<String>) -> Response<Body> {
    response_after(code, detail, None)
}

/// The same, and when to try again if that is known: 429 and 503 say a second otherwise.
pub(crate) fn response_after(
    code: ErrorCode,
    detail: impl Into<String>,
    retry_after: Option<Duration>,
) -> Response<Body> {
    let problem = Problem { retry_after_ms: retry_after.map(millis), ..Problem::new(code, detail) };
    let seconds = retry_after.map_or(1, |wait| millis(wait).div_ceil(1_000));
    let body = serde_json::to_vec(&problem).unwrap_or_default();
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::from_u16(code.http()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    match code.http() {
        401 => headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")),
        426 => headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13")),
        429 | 503 => headers.insert(RETRY_AFTER, HeaderValue::from(seconds)),
        _ => None,
    };
    response.extensions_mut().insert(code);
    response
}
