//! One HTTP connection: hyper reads requests strictly, handshakes are judged by us, everything else goes to the router.
//!
//! The connection's memory ends with the handshake: the socket and the bytes behind the handshake are taken back and
//! handed to a session's task.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;

use axum::Router;
use axum::body::Body;
use herenow_protocol::Now;
use herenow_protocol::code::ErrorCode;
use http::header::{ALLOW, CONNECTION};
use http::{HeaderValue, Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tower::ServiceExt as _;

use crate::auth::Verified;
use crate::config::Timeouts;
use crate::handshake::{self, Accepted, Greeting, Refusal, URI_BYTES};
use crate::metrics::{Broken, Handshake};
use crate::problem;
use crate::session::{Seat, Session};
use crate::shard::Shard;

/// Most headers of a request.
const HEADERS: usize = 64;
/// Most bytes of a request's head.
const HEAD_BYTES: usize = 16 * 1024;
/// What hyper may buffer of a connection.
const BUFFER_BYTES: usize = 32 * 1024;
/// What is still read, to nowhere, from a connection that was answered and is to be hung up.
const LINGER_BYTES: usize = 256 * 1024;

/// A handshake that was answered with 101.
struct Upgrade {
    seat: Seat,
    greeting: Greeting,
    verified: Option<Verified>,
}

type Upgraded = Rc<RefCell<Option<Box<Upgrade>>>>;
type Answer = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>>>>;

/// Serves a connection until it ends or becomes a session.
pub(crate) async fn serve<S>(shard: Rc<Shard>, router: Router, socket: S)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let upgraded = Upgraded::default();
    let service = {
        let (shard, upgraded) = (Rc::clone(&shard), Rc::clone(&upgraded));
        service_fn(move |request| answer(&shard, &router, &upgraded, request))
    };
    let timeouts = &shard.common.config.timeouts;
    let mut connection = builder(timeouts).serve_connection(TokioIo::new(socket), service);
    let outcome = poll_fn(|cx| connection.poll_without_shutdown(cx)).await;
    let parts = connection.into_parts();
    let socket = parts.io.into_inner();
    let upgrade = upgraded.borrow_mut().take();
    match (outcome, upgrade) {
        (Ok(()), Some(upgrade)) => {
            let Upgrade { seat, greeting, verified } = *upgrade;
            tokio::task::spawn_local(Session::begin(socket, seat, greeting, verified, &parts.read_buf));
        }
        (outcome, _) => {
            if let Some(how) = outcome.err().and_then(|error| broken(&error, !parts.read_buf.is_empty())) {
                shard.metrics().broken_request(how);
            }
            linger(socket, timeouts).await;
        }
    }
}

/// How a connection broke off in the middle of a request, if it did: one that was idle, or whose client had its
/// answers, did not.
fn broken(error: &hyper::Error, begun: bool) -> Option<Broken> {
    if error.is_parse() {
        Some(Broken::Malformed)
    } else if error.is_incomplete_message() || (begun && error.is_timeout()) {
        Some(Broken::Half)
    } else {
        None
    }
}

fn builder(timeouts: &Timeouts) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(timeouts.header)
        .max_headers(HEADERS)
        .max_header_size(HEAD_BYTES)
        .max_buf_size(BUFFER_BYTES);
    builder
}

/// Hangs up so that the last answer is not lost to a reset.
async fn linger<S: AsyncRead + AsyncWrite + Unpin>(mut socket: S, timeouts: &Timeouts) {
    let _ = tokio::time::timeout(timeouts.close, async {
        socket.shutdown().await?;
        let mut left = LINGER_BYTES;
        let mut nowhere = [0; 1024];
        while left > 0 {
            match socket.read(&mut nowhere).await? {
                0 => break,
                some => left = left.saturating_sub(some),
            }
        }
        std::io::Result::Ok(())
    })
    .await;
}

/// Answers one request.
fn answer(shard: &Rc<Shard>, router: &Router, upgraded: &Upgraded, request: Request<Incoming>) -> Answer {
    if request.uri().path() == handshake::PATH {
        let response = match connect(shard, request) {
            Ok((upgrade, response)) => {
                upgraded.replace(Some(Box::new(upgrade)));
                response
            }
            Err(refusal) => {
                let busy = refusal.code == ErrorCode::Busy;
                shard.metrics().handshake(if busy { Handshake::Delayed } else { Handshake::Refused });
                refused(shard, &refusal)
            }
        };
        return Box::pin(std::future::ready(Ok(response)));
    }
    shard.metrics().requests.inc();
    if let Err(refusal) = check_uri(request.uri()) {
        return Box::pin(std::future::ready(Ok(refused(shard, &refusal))));
    }
    let (shard, router) = (Rc::clone(shard), router.clone());
    Box::pin(async move {
        let Ok(mut response) = router.oneshot(request.map(Body::new)).await;
        if let Some(code) = response.extensions().get::<ErrorCode>() {
            shard.metrics().request_error(*code);
        }
        if shard.is_draining() {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        Ok(response)
    })
}

fn connect(shard: &Rc<Shard>, request: Request<Incoming>) -> Result<(Upgrade, Response<Body>), Refusal> {
    let (head, _) = request.into_parts();
    check_uri(&head.uri)?;
    let common = &shard.common;
    let asked = handshake::check(&head, &common.config.origins)?;
    let now = shard.now();
    let seat = admit(shard, now)?;
    let accepted = asked.verify(&common.verifier, now.wall)?;
    let result = if accepted.verified.is_some() { Handshake::Accepted } else { Handshake::Deferred };
    shard.metrics().handshake(result);
    let response = accepted.response();
    let Accepted { greeting, verified, .. } = accepted;
    Ok((Upgrade { seat, greeting, verified }, response))
}

/// A seat for one more session, before anything costly is done for it.
fn admit(shard: &Rc<Shard>, now: Now) -> Result<Seat, Refusal> {
    let seat = if shard.has_room() { Seat::take(shard) } else { None };
    let mut gate = shard.gate.borrow_mut();
    let Some(seat) = seat else {
        let detail = "the gateway holds as many sessions as it may".to_owned();
        return Err(Refusal {
            retry_after: Some(gate.full()),
            ..Refusal::new(ErrorCode::Overloaded, detail)
        });
    };
    if gate.is_behind(shard.answers_take()) {
        let detail = "more is asked of the service than it can answer in time".to_owned();
        return Err(Refusal { retry_after: Some(gate.behind()), ..Refusal::new(ErrorCode::Busy, detail) });
    }
    gate.admit(now.mono).map(|()| seat).map_err(|wait| {
        let detail = "more sessions are opened at once than the gateway admits".to_owned();
        Refusal { retry_after: Some(wait), ..Refusal::new(ErrorCode::Busy, detail) }
    })
}

fn refused(shard: &Shard, refusal: &Refusal) -> Response<Body> {
    shard.metrics().request_error(refusal.code);
    let mut response = problem::response_after(refusal.code, refusal.detail.clone(), refusal.retry_after);
    if refusal.code == ErrorCode::MethodNotAllowed {
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
    }
    response
}

fn check_uri(uri: &http::Uri) -> Result<(), Refusal> {
    let invalid = |detail: &str| Err(Refusal::new(ErrorCode::InvalidValue, detail.to_owned()));
    if uri.path().len() + uri.query().map_or(0, str::len) > URI_BYTES {
        return invalid("the path and its query have more than 2 KiB");
    }
    if !is_percent_encoded(uri.path()) {
        return invalid("the path is not percent-encoded as RFC 3986 §2.1 says");
    }
    handshake::no_token_in_query(uri)
}

fn is_percent_encoded(path: &str) -> bool {
    path.split('%').skip(1).all(|after| {
        let digits = after.as_bytes();
        digits.len() >= 2 && digits[..2].iter().all(u8::is_ascii_hexdigit)
    })
}

#[cfg(test)]
mod tests {
    use super::is_percent_encoded;

    #[test]
    fn percent_signs_have_two_digits() {
        for good in ["/status/ana", "/status/%2e%2E", "/%25"] {
            assert!(is_percent_encoded(good), "{good}");
        }
        for bad in ["/%", "/%2", "/%zz", "/%2%65"] {
            assert!(!is_percent_encoded(bad), "{bad}");
        }
    }
}
