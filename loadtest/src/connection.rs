//! One WebSocket of the load: cheaper than the SDK, and without its mercy.

use std::fmt;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use fastwebsockets::{
    FragmentCollectorRead, Frame, OpCode, Payload, WebSocketError, WebSocketWrite, handshake,
};
use herenow_protocol::frame::{ClientFrame, ServerFrame, encode};
use http::header::{AUTHORIZATION, CONNECTION, HOST, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use http::{Request, Uri};
use http_body_util::Empty;
use hyper::upgrade::Upgraded;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{ReadHalf, WriteHalf};
use tokio::net::TcpStream;

type Io = TokioIo<Upgraded>;

/// As clients in other languages spell it, who do not have our constant either.
const SUBPROTOCOL: &str = "herenow.v1.json";

/// What is heard.
pub(crate) struct Reader(FragmentCollectorRead<ReadHalf<Io>>);

/// What is said.
pub(crate) struct Writer(WebSocketWrite<WriteHalf<Io>>);

/// Opens a session of `user`. `more` is put behind the query of the handshake.
pub(crate) async fn connect(gateway: &str, token: &str, more: &str) -> anyhow::Result<(Reader, Writer)> {
    let failed = || format!("{gateway}: no session could be opened");
    let uri: Uri = gateway.parse().with_context(failed)?;
    if !matches!(uri.scheme_str(), Some("ws" | "http")) {
        bail!("{gateway}: only ws:// can be measured");
    }
    let host = uri.host().with_context(failed)?;
    let authority = uri.authority().with_context(failed)?.as_str();
    let stream = TcpStream::connect((host, uri.port_u16().unwrap_or(80))).await.with_context(failed)?;
    stream.set_nodelay(true)?;
    let request = Request::builder()
        .uri(format!("/v1/connect?kind=server{more}"))
        .header(HOST, authority)
        .header(UPGRADE, "websocket")
        .header(CONNECTION, "upgrade")
        .header("sec-websocket-key", handshake::generate_key())
        .header("sec-websocket-version", "13")
        .header(SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL)
        .header(AUTHORIZATION, format!("Bearer {token}"))
        .body(Empty::<Bytes>::new())?;
    let (socket, _) = handshake::client(&TokioExecutor::new(), request, stream).await.with_context(failed)?;
    let (read, write) = socket.split(tokio::io::split);
    Ok((Reader(FragmentCollectorRead::new(read)), Writer(write)))
}

impl Reader {
    /// The next frame that is understood. Not to be cancelled: a cancelled read loses bytes.
    ///
    /// # Errors
    /// The connection ended.
    pub(crate) async fn next(&mut self) -> anyhow::Result<ServerFrame> {
        loop {
            if let Ok(frame) = ServerFrame::parse(&self.next_text().await?) {
                return Ok(frame);
            }
        }
    }

    /// The next frame as it was written. Not to be cancelled either.
    ///
    /// # Errors
    /// The connection ended.
    pub(crate) async fn next_text(&mut self) -> anyhow::Result<String> {
        loop {
            // Pongs are not sent: the load's own frames are its signs of life.
            let mut ignore = |_: Frame<'_>| std::future::ready(Ok::<(), WebSocketError>(()));
            let frame = self.0.read_frame(&mut ignore).await?;
            match frame.opcode {
                OpCode::Text => return Ok(String::from_utf8_lossy(&frame.payload).into_owned()),
                OpCode::Close => return Err(closed(&frame.payload)),
                OpCode::Continuation | OpCode::Binary | OpCode::Ping | OpCode::Pong => {}
            }
        }
    }
}

/// The gateway said that it closes; a connection that just breaks ends otherwise.
#[derive(Debug)]
pub(crate) struct Closed {
    pub(crate) code: Option<u16>,
    reason: String,
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code {
            Some(code) => write!(f, "the gateway closed with {code} {}", self.reason),
            None => f.write_str("the gateway closed without a code"),
        }
    }
}

impl std::error::Error for Closed {}

fn closed(payload: &[u8]) -> anyhow::Error {
    let (code, reason) = match payload {
        [high, low, reason @ ..] => {
            (Some(u16::from_be_bytes([*high, *low])), String::from_utf8_lossy(reason).into_owned())
        }
        _ => (None, String::new()),
    };
    Closed { code, reason }.into()
}

impl Writer {
    pub(crate) async fn send(&mut self, frame: &ClientFrame) -> anyhow::Result<()> {
        self.send_text(encode(frame)).await
    }

    /// Sends a frame as it is written.
    ///
    /// # Errors
    /// The connection ended.
    pub(crate) async fn send_text(&mut self, text: String) -> anyhow::Result<()> {
        Ok(self.0.write_frame(Frame::text(Payload::Owned(text.into_bytes()))).await?)
    }
}
