//! The admin listener: what operators and their programs ask. On its own address, loopback unless told otherwise.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use prometheus_client::registry::Registry;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// What a readiness check found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Readiness {
    /// Whether this process should be given clients and requests.
    pub ready: bool,
    /// What is not ready, in words; empty when all is.
    pub waiting_for: Vec<String>,
    /// Partitions this process owns; not given without the role.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partitions: Option<usize>,
}

/// What the admin listener tells, and the bell it rings.
#[derive(Clone)]
pub struct Admin {
    registry: Arc<Registry>,
    readiness: Arc<dyn Fn() -> Readiness + Send + Sync>,
    drain: Arc<Notify>,
}

impl Admin {
    /// An admin listener over the metrics of the process. `POST /drain` rings `drain`.
    pub fn new(
        registry: Arc<Registry>,
        readiness: impl Fn() -> Readiness + Send + Sync + 'static,
        drain: Arc<Notify>,
    ) -> Self {
        Self { registry, readiness: Arc::new(readiness), drain }
    }

    /// Binds and serves until the returned task is aborted.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub async fn serve(self, listen: SocketAddr) -> std::io::Result<(SocketAddr, JoinHandle<()>)> {
        let listener = TcpListener::bind(listen).await?;
        let bound = listener.local_addr()?;
        let router = self.router();
        let task = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::error!(%error, "the admin listener broke off");
            }
        });
        Ok((bound, task))
    }

    fn router(self) -> Router {
        Router::new()
            .route("/metrics", get(metrics))
            .route("/livez", get(async || "alive\n"))
            .route("/readyz", get(readyz))
            .route("/drain", post(drain))
            .with_state(self)
            .layer(from_fn(refuse_pages))
    }
}

/// A page in an operator's browser must not reach the listener: browsers name the page in `Origin`, and the page of
/// another site in `Sec-Fetch-Site`. Programs send neither.
async fn refuse_pages(request: Request, next: Next) -> Response {
    let headers = request.headers();
    let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
    let foreign = site.is_some_and(|site| site != b"none" && site != b"same-origin");
    if foreign || headers.contains_key(header::ORIGIN) {
        return (StatusCode::FORBIDDEN, "the admin listener does not answer web pages\n").into_response();
    }
    next.run(request).await
}

async fn metrics(State(admin): State<Admin>) -> Response {
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &admin.registry) {
        Ok(()) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

async fn readyz(State(admin): State<Admin>) -> Response {
    let found = (admin.readiness)();
    let status = if found.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(found)).into_response()
}

async fn drain(State(admin): State<Admin>) -> Response {
    tracing::info!("asked to drain over the admin listener");
    admin.drain.notify_one();
    (StatusCode::ACCEPTED, "draining\n").into_response()
}
