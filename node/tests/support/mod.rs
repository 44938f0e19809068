//! What the tests of the whole service share: people with sockets, backends with HTTP, and tokens for both.

#![allow(dead_code, unreachable_pub, reason = "each test program uses its part")]
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as expected")]
#![expect(clippy::wildcard_enum_match_arm, reason = "a test waits for one kind of frame among all")]

pub mod balancer;
pub mod http;
pub mod raw;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::{SinkExt as _, StreamExt as _};
use herenow::token::{Signer, Watch};
use herenow_protocol::frame::{ClientFrame, ServerFrame};
use herenow_protocol::{Presence, Status, UserId};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

/// The key that tokens of the tests are signed with.
pub const KEY: &str = "a key for the tests, 32 bytes long";
pub const ISSUER: &str = "tests";
pub const AUDIENCE: &str = "herenow";
/// How long anything that must happen is waited for.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Makes tokens as the service under test accepts them.
pub fn signer() -> Signer {
    let algorithm = herenow_gateway_server::auth::Algorithm::HS256;
    Signer::new(algorithm, KEY.as_bytes(), Some(ISSUER.to_owned()), Some(AUDIENCE.to_owned())).unwrap()
}

/// A person's token, who may watch everybody.
pub fn person(user: &str) -> String {
    signer().sign(user, "", Watch::Everybody, Duration::from_secs(600)).unwrap()
}

/// A backend's token.
pub fn backend(scope: &str) -> String {
    signer().sign("backend", scope, Watch::Nobody, Duration::from_secs(600)).unwrap()
}

/// A person with one socket, which sends heartbeats by itself.
pub struct Client {
    outgoing: mpsc::Sender<Message>,
    incoming: mpsc::Receiver<ServerFrame>,
    beating: Arc<AtomicBool>,
    task: JoinHandle<Option<CloseFrame>>,
    next_id: u64,
    /// What was last heard of each user.
    known: HashMap<UserId, Presence>,
}

impl Client {
    /// Connects and waits for the welcome.
    pub async fn connect(address: SocketAddr, user: &str) -> Self {
        Self::connect_with(address, &person(user), "").await
    }

    /// The same with any token, and a query string.
    pub async fn connect_with(address: SocketAddr, token: &str, query: &str) -> Self {
        let mut request = format!("ws://{address}/v1/connect{query}").into_client_request().unwrap();
        let headers = request.headers_mut();
        headers.insert("Authorization", format!("Bearer {token}").parse().unwrap());
        headers.insert("Sec-WebSocket-Protocol", "herenow.v1.json".parse().unwrap());
        let stream = TcpStream::connect(address).await.unwrap();
        let (socket, _) = tokio_tungstenite::client_async(request, stream).await.unwrap();
        let (outgoing, to_send) = mpsc::channel(64);
        let (received, incoming) = mpsc::channel(1_024);
        let beating = Arc::new(AtomicBool::new(true));
        let task = tokio::spawn(run(socket, to_send, received, Arc::clone(&beating)));
        let mut client = Self { outgoing, incoming, beating, task, next_id: 1, known: HashMap::new() };
        let first = client.frame().await;
        assert!(matches!(first, ServerFrame::Welcome(_)), "{first:?}");
        client
    }

    /// The next frame.
    pub async fn frame(&mut self) -> ServerFrame {
        let next = tokio::time::timeout(PATIENCE, self.next()).await;
        next.expect("a frame in time")
    }

    async fn next(&mut self) -> ServerFrame {
        let frame = self.incoming.recv().await.expect("an open socket");
        if let ServerFrame::Presence { users } | ServerFrame::Snapshot { users, .. } = &frame {
            self.known.extend(users.iter().map(|presence| (presence.user_id.clone(), presence.clone())));
        }
        frame
    }

    pub async fn send(&self, frame: &ClientFrame) {
        self.send_text(herenow_protocol::frame::encode(frame)).await;
    }

    pub async fn send_text(&self, text: impl Into<String>) {
        self.outgoing.send(Message::text(text.into())).await.unwrap();
    }

    pub async fn send_message(&self, message: Message) {
        self.outgoing.send(message).await.unwrap();
    }

    pub fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// Watches users and returns what the snapshot says of them, in no order.
    pub async fn watch(&mut self, users: &[&str]) -> Vec<Presence> {
        let id = self.id();
        let users = users.iter().map(|user| (*user).to_owned()).collect();
        self.send(&ClientFrame::Watch { id, users }).await;
        self.snapshot(id).await
    }

    /// Watches one user and waits until it is seen like this: what happened just before may still be on its way.
    pub async fn watch_until(&mut self, user: &str, status: Status) {
        if self.watch(&[user]).await.iter().all(|presence| presence.status != status) {
            self.sees(user, status).await;
        }
    }

    /// Asks once.
    pub async fn query(&mut self, users: &[&str]) -> Vec<Presence> {
        let id = self.id();
        let users = users.iter().map(|user| (*user).to_owned()).collect();
        self.send(&ClientFrame::Query { id, users }).await;
        self.snapshot(id).await
    }

    async fn snapshot(&mut self, wanted: u64) -> Vec<Presence> {
        let mut all = Vec::new();
        loop {
            match self.frame().await {
                ServerFrame::Snapshot { id, users, complete } if id == wanted => {
                    all.extend(users);
                    if complete {
                        return all;
                    }
                }
                ServerFrame::Error { id, code, message, .. } if id == Some(wanted) => {
                    panic!("refused: {code:?}: {message}")
                }
                _ => {}
            }
        }
    }

    /// Waits until a watched user is seen like this, and returns how it then was.
    pub async fn sees(&mut self, user: &str, status: Status) -> Presence {
        self.until(user, |presence| presence.status == status).await
    }

    /// Waits for a record of a watched user that is as wanted.
    pub async fn until(&mut self, user: &str, wanted: impl Fn(&Presence) -> bool) -> Presence {
        loop {
            let (ServerFrame::Presence { users } | ServerFrame::Snapshot { users, .. }) = self.frame().await
            else {
                continue;
            };
            let found =
                users.into_iter().find(|presence| presence.user_id.as_str() == user && wanted(presence));
            if let Some(found) = found {
                return found;
            }
        }
    }

    /// Every change of watched users that is seen within a time. To be told the same again is none.
    pub async fn hears_for(&mut self, time: Duration) -> Vec<Presence> {
        let mut heard = Vec::new();
        let gather = async {
            loop {
                let before = self.known.clone();
                if let ServerFrame::Presence { users } = self.next().await {
                    heard.extend(users.into_iter().filter(|one| before.get(&one.user_id) != Some(one)));
                }
            }
        };
        let _: Result<(), _> = tokio::time::timeout(time, gather).await;
        heard
    }

    /// The answer to a frame with an id: nothing, or the error's code.
    pub async fn answer(&mut self, wanted: u64) -> Result<(), herenow_protocol::code::ErrorCode> {
        loop {
            match self.frame().await {
                ServerFrame::Ack { id } if id == wanted => return Ok(()),
                ServerFrame::Error { id: Some(id), code, .. } if id == wanted => return Err(code),
                _ => {}
            }
        }
    }

    /// The next error frame.
    pub async fn error(&mut self) -> herenow_protocol::code::ErrorCode {
        loop {
            if let ServerFrame::Error { code, .. } = self.frame().await {
                return code;
            }
        }
    }

    /// Ends as `kill -9` ends a process: the system closes the socket, nobody says anything.
    pub async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }

    /// From now on the socket stays open and says nothing, as that of a frozen process.
    pub fn silence(&self) {
        self.beating.store(false, Ordering::Relaxed);
    }

    /// Says `bye` and waits for the close.
    pub async fn bye(self) -> Option<CloseFrame> {
        self.send(&ClientFrame::Bye {}).await;
        self.closed().await
    }

    /// Waits until the server closes, and returns how.
    pub async fn closed(self) -> Option<CloseFrame> {
        let Self { task, incoming, outgoing, .. } = self;
        let closed = tokio::time::timeout(PATIENCE, task).await.expect("a close in time").unwrap();
        drop((incoming, outgoing));
        closed
    }
}

async fn run(
    mut socket: WebSocketStream<TcpStream>,
    mut to_send: mpsc::Receiver<Message>,
    received: mpsc::Sender<ServerFrame>,
    beating: Arc<AtomicBool>,
) -> Option<CloseFrame> {
    let mut beat = tokio::time::interval(Duration::from_millis(500));
    loop {
        tokio::select! {
            message = to_send.recv() => match message {
                Some(message) => socket.send(message).await.ok()?,
                None => return None,
            },
            message = socket.next() => match message {
                Some(Ok(Message::Text(text))) => {
                    let _ = received.send(ServerFrame::parse(&text).unwrap()).await;
                }
                Some(Ok(Message::Close(frame))) => return frame,
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return None,
            },
            _ = beat.tick() => if beating.load(Ordering::Relaxed) {
                socket.send(Message::text(r#"{"type":"heartbeat"}"#)).await.ok()?;
            },
        }
    }
}
