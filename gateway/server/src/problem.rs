//! Refusals over HTTP: `application/problem+json` with a stable code.

use axum::body::Body;
use herenow_protocol::api::Problem;
use herenow_protocol::code::ErrorCode;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, SEC_WEBSOCKET_VERSION, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};

/// The answer for a code, with the headers that go with its status. The code is kept beside it for the metrics.
pub(crate) fn response(code: ErrorCode, detail: impl Into<String>) -> Response<Body> {
    let problem = Problem::new(code, detail);
    let body = serde_json::to_vec(&problem).unwrap_or_default();
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::from_u16(code.http()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    match code.http() {
        401 => headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")),
        426 => headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13")),
        429 | 503 => headers.insert(RETRY_AFTER, HeaderValue::from_static("1")),
        _ => None,
    };
    response.extensions_mut().insert(code);
    response
}
