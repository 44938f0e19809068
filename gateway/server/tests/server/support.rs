//! A server on a free port, and clients that speak in bytes.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use herenow_bus::LocalBus;
use herenow_gateway_server::auth::{Algorithm, AuthConfig, KeySource};
use herenow_gateway_server::{Config, GatewayServer, Parts};
use herenow_protocol::Placement;
use herenow_protocol::id::ProcessId;
use jsonwebtoken::{EncodingKey, Header};
use prometheus_client::registry::Registry;
use serde_json::{Value, json};

const SECRET: &str = "a secret of the tests, long enough for HS256";
pub(crate) const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) bus: LocalBus,
    pub(crate) running: GatewayServer,
    pub(crate) registry: Registry,
}

pub(crate) fn config() -> Config {
    let key = KeySource::Secret(SECRET.to_owned());
    let mut config = Config::new(AuthConfig::new(Algorithm::HS256, key, "https://issuer", "herenow"));
    config.listen = SocketAddr::from(([127, 0, 0, 1], 0));
    config.shards = 1;
    config.origins = vec!["https://app.example".to_owned()];
    config
}

pub(crate) fn server() -> Server {
    server_with(|_| {})
}

pub(crate) fn server_with(change: impl FnOnce(&mut Config)) -> Server {
    server_knowing(Knows::default(), change)
}

/// What a server is told beside its settings.
#[derive(Default)]
pub(crate) struct Knows {
    pub(crate) directory: Option<Arc<dyn herenow_gateway_server::Directory>>,
    pub(crate) last_known: Option<Arc<dyn herenow_gateway_server::LastKnown>>,
    pub(crate) on_this_thread: bool,
}

pub(crate) fn server_knowing(knows: Knows, change: impl FnOnce(&mut Config)) -> Server {
    let mut config = config();
    change(&mut config);
    start(knows, config)
}

pub(crate) fn start(knows: Knows, config: Config) -> Server {
    let (bus, mut registry) = (LocalBus::new(), Registry::default());
    let parts = Parts {
        process: ProcessId::new("test").unwrap(),
        placement: Placement::new(b"tests", 2),
        bus: Arc::new(bus.clone()),
        registry: &mut registry,
        violations: Default::default(),
        extra: None,
        directory: knows.directory,
        last_known: knows.last_known,
        on_this_thread: knows.on_this_thread,
    };
    let running = GatewayServer::start(config, parts).unwrap();
    Server { address: running.address(), bus, running, registry }
}

pub(crate) fn token_of(changes: Value) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let mut claims = json!({ "iss": "https://issuer", "aud": "herenow", "sub": "ana", "exp": now + 600 });
    for (name, value) in changes.as_object().unwrap() {
        claims[name] = value.clone();
    }
    jsonwebtoken::encode(&Header::default(), &claims, &EncodingKey::from_secret(SECRET.as_bytes())).unwrap()
}

pub(crate) fn token() -> String {
    token_of(json!({}))
}

pub(crate) fn expired() -> String {
    token_of(json!({ "exp": 1_000_000 }))
}

/// A connection that reads and writes bytes.
pub(crate) struct Peer<S = TcpStream> {
    pub(crate) stream: S,
    pub(crate) unread: Vec<u8>,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    pub(crate) fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Got {
    Text(String),
    Pong(Vec<u8>),
    Close(u16, String),
    End,
}

pub(crate) fn connect(server: &Server) -> Peer {
    connect_to(server.address)
}

fn connect_to(address: SocketAddr) -> Peer {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.set_nodelay(true).unwrap();
    Peer { stream, unread: Vec::new() }
}

/// A handshake with more header lines.
pub(crate) fn handshake(more: &str) -> String {
    format!(
        "GET /v1/connect?device=d1 HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n{more}\r\n"
    )
}

pub(crate) fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

/// An open session of `ana`, welcomed.
pub(crate) fn session(server: &Server) -> Peer {
    session_of(server, &token())
}

pub(crate) fn session_of(server: &Server, token: &str) -> Peer {
    session_at(server.address, token)
}

pub(crate) fn session_at(address: SocketAddr, token: &str) -> Peer {
    let mut peer = connect_to(address);
    peer.send(handshake(&bearer(token)).as_bytes());
    assert_eq!(peer.answer().status, 101);
    assert_eq!(peer.frame()["type"], "welcome");
    peer
}

pub(crate) fn request(server: &Server, text: &str) -> Answer {
    let mut peer = connect(server);
    peer.send(text.as_bytes());
    peer.answer()
}

pub(crate) fn call(server: &Server, method: &str, path: &str, token: &str, body: &str) -> Answer {
    let length = body.len();
    request(
        server,
        &format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\n{}Content-Type: application/json\r\n\
             Content-Length: {length}\r\n\r\n{body}",
            bearer(token)
        ),
    )
}

/// A client's frame; the first byte as given, masked.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [1, 2, 3, 4];
    let mut bytes = vec![first];
    match payload.len() {
        0..126 => bytes.push(0x80 | u8::try_from(payload.len()).unwrap()),
        126..65_536 => {
            bytes.push(0x80 | 126);
            bytes.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
        }
        _ => {
            bytes.push(0x80 | 127);
            bytes.extend((payload.len() as u64).to_be_bytes());
        }
    }
    bytes.extend(mask);
    bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

pub(crate) fn text(payload: &str) -> Vec<u8> {
    frame(0x81, payload.as_bytes())
}

impl<S: Read + Write> Peer<S> {
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        // The server may have hung up already; what it said is still to be read.
        let _ = self.stream.write_all(bytes).and_then(|()| self.stream.flush());
    }

    fn more(&mut self) -> bool {
        let mut buffer = [0; 16 * 1024];
        match self.stream.read(&mut buffer) {
            Ok(0) => false,
            Ok(got) => {
                self.unread.extend_from_slice(&buffer[..got]);
                true
            }
            Err(why) => {
                let silent = [std::io::ErrorKind::WouldBlock, std::io::ErrorKind::TimedOut];
                assert!(!silent.contains(&why.kind()), "nothing came");
                false
            }
        }
    }

    /// Status 0: the connection ended without an answer.
    pub(crate) fn answer(&mut self) -> Answer {
        let end = loop {
            if let Some(end) = self.unread.windows(4).position(|w| w == b"\r\n\r\n") {
                break end;
            }
            if !self.more() {
                return Answer { status: 0, head: String::new(), body: Vec::new() };
            }
        };
        let head = String::from_utf8(self.unread.drain(..end + 4).collect()).unwrap().to_lowercase();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length = length.map_or(0, |length| length.parse().unwrap());
        while self.unread.len() < length && self.more() {}
        let body = self.unread.drain(..length.min(self.unread.len())).collect();
        Answer { status, head, body }
    }

    pub(crate) fn got(&mut self) -> Got {
        loop {
            if let Some((first, payload)) = self.take_frame() {
                return match first {
                    0x81 => Got::Text(String::from_utf8(payload).unwrap()),
                    0x8a => Got::Pong(payload),
                    0x88 if payload.len() < 2 => Got::Close(0, String::new()),
                    0x88 => {
                        let number = u16::from_be_bytes([payload[0], payload[1]]);
                        Got::Close(number, String::from_utf8(payload[2..].to_vec()).unwrap())
                    }
                    other => panic!("frame of kind {other:#x}"),
                };
            }
            if !self.more() {
                return Got::End;
            }
        }
    }

    fn take_frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let (first, second) = (*self.unread.first()?, *self.unread.get(1)?);
        assert_eq!(second & 0x80, 0, "servers do not mask");
        let (head, length) = match second {
            126 => (4, usize::from(u16::from_be_bytes(self.unread.get(2..4)?.try_into().unwrap()))),
            127 => (10, usize::from_be_bytes(self.unread.get(2..10)?.try_into().unwrap())),
            short => (2, usize::from(short)),
        };
        let payload = self.unread.get(head..head + length)?.to_vec();
        self.unread.drain(..head + length);
        Some((first, payload))
    }

    pub(crate) fn frame(&mut self) -> Value {
        let got = self.got();
        let Got::Text(text) = got else { panic!("{got:?} instead of a text") };
        serde_json::from_str(&text).unwrap()
    }

    /// Reads on until the close frame, and checks that the connection ends after it.
    pub(crate) fn closed(&mut self) -> u16 {
        loop {
            match self.got() {
                Got::Close(number, _) => {
                    assert_eq!(self.got(), Got::End, "after the close frame");
                    return number;
                }
                Got::End => panic!("no close frame"),
                Got::Text(_) | Got::Pong(_) => {}
            }
        }
    }

    /// The session still answers.
    pub(crate) fn is_alive(&mut self) -> bool {
        self.send(&frame(0x89, b"alive?"));
        loop {
            match self.got() {
                Got::Pong(payload) => return payload == b"alive?",
                Got::Text(_) => {}
                Got::Close(..) | Got::End => return false,
            }
        }
    }
}

pub(crate) fn metrics(server: &Server) -> String {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &server.registry).unwrap();
    text
}
