//! What `herenow dev` serves beside the contract: the demo page, and tokens for whoever asks. Only on loopback.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use herenow_protocol::UserId;
use herenow_protocol::api::Problem;
use herenow_protocol::code::ErrorCode;
use serde::{Deserialize, Serialize};

use crate::token::{Signer, Watch};

/// The people of the demo.
pub(crate) const NAMES: [&str; 8] = ["Ana", "Ben", "Cleo", "Dai", "Ela", "Femi", "Gus", "Hana"];

/// How long a token of the demo is good for; the page asks for a new one in time.
pub(crate) const TOKEN_TTL: Duration = Duration::from_secs(3600);

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DemoConfig {
    ws_path: &'static str,
    names: [&'static str; 8],
}

#[derive(Deserialize)]
struct Ask {
    name: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Token {
    token: String,
    expires_in: u64,
}

/// The demo's pages and calls.
pub(crate) fn router(signer: Arc<Signer>) -> Router {
    let config = async || Json(DemoConfig { ws_path: "/v1/connect", names: NAMES });
    let mut router = Router::new().route("/demo/config", get(config)).route("/demo/token", post(token));
    for (path, kind, body) in FILES {
        router = router.route(path, get(async move || file(kind, body)));
    }
    router.with_state(signer).layer(from_fn(only_loopback))
}

/// The files of the page: where, of which type, and what.
const FILES: [(&str, &str, &str); 4] = [
    ("/", "text/html; charset=utf-8", include_str!("../demo/index.html")),
    ("/demo.css", "text/css; charset=utf-8", include_str!("../demo/demo.css")),
    ("/demo.js", SCRIPT, include_str!("../demo/demo.js")),
    ("/herenow.js", SCRIPT, include_str!("../../client-sdk/js/dist/herenow.js")),
];

const SCRIPT: &str = "text/javascript; charset=utf-8";

/// Nothing but its own files, and its own socket.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

fn file(kind: &'static str, body: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "no-store"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    (headers, body).into_response()
}

async fn token(State(signer): State<Arc<Signer>>, Json(ask): Json<Ask>) -> Response {
    let refuse = |code, detail: &str| {
        let problem = Problem::new(code, detail);
        let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::BAD_REQUEST);
        (status, [(header::CONTENT_TYPE, "application/problem+json")], Json(problem)).into_response()
    };
    if UserId::new(&ask.name).is_err() {
        return refuse(ErrorCode::InvalidUserId, "the field `name` is no user id");
    }
    match signer.sign(&ask.name, "", Watch::Everybody, TOKEN_TTL) {
        Ok(token) => Json(Token { token, expires_in: TOKEN_TTL.as_secs() }).into_response(),
        Err(_) => refuse(ErrorCode::Unavailable, "no token could be made"),
    }
}

/// A page elsewhere whose name was made to point at this machine names itself in `Host`.
async fn only_loopback(request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    if matches!(name, "127.0.0.1" | "localhost") {
        next.run(request).await
    } else {
        (StatusCode::FORBIDDEN, "the demo answers only on this machine\n").into_response()
    }
}
