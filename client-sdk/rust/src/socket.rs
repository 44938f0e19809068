//! One WebSocket: opening it, and reading and writing it without losing anything when either is interrupted.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::{Sink, StreamExt};
use herenow_client_core::{Closure, Failure, Input};
use herenow_protocol::frame::SUBPROTOCOL;
use http::HeaderValue;
use http::header::{AUTHORIZATION, RETRY_AFTER, SEC_WEBSOCKET_PROTOCOL};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{Connector, MaybeTlsStream, WebSocketStream, connect_async_tls_with_config};

/// Most frames that wait for the socket; with more it counts as lost.
const MAX_UNSENT: usize = 256;
/// How long the end of a connection may take.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);

type Stream = WebSocketStream<MaybeTlsStream<TcpStream>>;

#[derive(Debug)]
pub(crate) struct Socket {
    stream: Stream,
    unsent: VecDeque<Message>,
    flushed: bool,
}

/// Opens a connection. The future of it is `'static`, so that the driver can hold it beside everything else.
pub(crate) async fn open(
    url: String,
    token: String,
    max_frame_bytes: usize,
    tls: Option<Arc<rustls::ClientConfig>>,
) -> Result<Socket, Closure> {
    let mut request = url.into_client_request().map_err(|error| closure(&error))?;
    let mut bearer = HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| bad_token())?;
    bearer.set_sensitive(true);
    request.headers_mut().insert(AUTHORIZATION, bearer);
    request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
    if request.uri().scheme_str() == Some("wss") && tls.is_none() {
        // An error means that the application has chosen already, which is as good.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    }
    let config = WebSocketConfig::default()
        .max_message_size(Some(max_frame_bytes))
        .max_frame_size(Some(max_frame_bytes));
    let connected =
        connect_async_tls_with_config(request, Some(config), true, tls.map(Connector::Rustls)).await;
    let (stream, _) = connected.map_err(|error| closure(&error))?;
    Ok(Socket { stream, unsent: VecDeque::new(), flushed: true })
}

fn bad_token() -> Closure {
    let remediation = "Let the token provider return a token in its compact form.";
    Closure::Refused {
        status: 401,
        failure: Failure::new("invalid_token", "the token cannot be put into a header", remediation),
    }
}

impl Socket {
    /// Puts a frame behind those that wait. False: too many wait.
    pub(crate) fn push(&mut self, text: String) -> bool {
        self.unsent.push_back(Message::text(text));
        self.unsent.len() <= MAX_UNSENT
    }

    /// Writes what waits and gives the next thing heard. May be dropped at any await and called again.
    pub(crate) async fn next(&mut self) -> Input {
        std::future::poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Input> {
        if let Poll::Ready(Err(error)) = self.poll_write(cx) {
            return Poll::Ready(Input::Closed(closure(&error)));
        }
        self.stream.poll_next_unpin(cx).map(|message| match message {
            Some(Ok(message)) => heard(message),
            Some(Err(error)) => Input::Closed(closure(&error)),
            None => Input::Closed(Closure::Lost(Failure::lost())),
        })
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let mut sink = std::pin::Pin::new(&mut self.stream);
        while !self.unsent.is_empty() {
            std::task::ready!(sink.as_mut().poll_ready(cx))?;
            if let Some(message) = self.unsent.pop_front() {
                self.flushed = false;
                sink.as_mut().start_send(message)?;
            }
        }
        if !self.flushed {
            std::task::ready!(sink.poll_flush(cx))?;
            self.flushed = true;
        }
        Poll::Ready(Ok(()))
    }

    /// Sends what waits and closes, in a task of its own: nobody waits for it.
    pub(crate) fn close(mut self) {
        let end = async move {
            let flushed = std::future::poll_fn(|cx| self.poll_write(cx)).await;
            if flushed.is_ok() {
                // The other side may be gone; then there is nothing to say to it.
                let _ = self.stream.close(None).await;
            }
        };
        drop(tokio::spawn(tokio::time::timeout(CLOSE_LIMIT, end)));
    }
}

fn heard(message: Message) -> Input {
    match message {
        Message::Text(text) => Input::Text(text.as_str().to_owned()),
        Message::Close(Some(frame)) => Input::Closed(Closure::Code(frame.code.into())),
        Message::Close(None) => Input::Closed(Closure::Lost(Failure::lost())),
        Message::Binary(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => Input::Heard,
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "another crate's errors, all treated alike but one")]
fn closure(error: &Error) -> Closure {
    match error {
        Error::Http(response) => refused(response),
        other => {
            let message = format!("the connection failed: {other}");
            let remediation = "Check that the gateway can be reached; the client tries again by itself.";
            Closure::Lost(Failure::new("connection_lost", &message, remediation))
        }
    }
}

fn refused(response: &http::Response<Option<Vec<u8>>>) -> Closure {
    let status = response.status().as_u16();
    let body = response.body().as_deref().unwrap_or_default();
    let problem: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let field = |name: &str| problem.get(name).and_then(serde_json::Value::as_str).map(str::to_owned);
    let code = field("code").unwrap_or_else(|| format!("http_{status}"));
    let message = field("detail").unwrap_or_else(|| format!("the handshake was answered with HTTP {status}"));
    let remediation = field("remediation").unwrap_or_else(|| {
        "Check that the URL is that of a Herenow gateway, and what stands before it.".to_owned()
    });
    let mut failure = Failure::new(&code, &message, &remediation);
    let after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    // The body says it more finely than the header can.
    let told = problem.get("retryAfterMs").and_then(serde_json::Value::as_u64).map(Duration::from_millis);
    failure.retry_after = told.or(after.map(Duration::from_secs));
    Closure::Refused { status, failure }
}
