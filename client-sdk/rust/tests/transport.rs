//! The transport against a gateway that is a script.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, reason = "helpers of tests may panic")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use herenow_client::{
    Activity, Client, ClientOptions, ConnectionState, DeviceKind, Error, ManualStatus, NewStatus, Presence,
    Status, UserId, Version, WallTime,
};
use herenow_protocol::Epoch;
use herenow_protocol::code::ErrorCode;
use herenow_protocol::frame::{ClientFrame, SUBPROTOCOL, ServerFrame, Welcome, encode};
use http::{HeaderValue, Response, StatusCode};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response as Accepted};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::{WebSocketStream, accept_hdr_async};

struct Gateway {
    listener: TcpListener,
    url: String,
}

struct Session {
    socket: WebSocketStream<TcpStream>,
    request: Request,
}

impl Gateway {
    async fn listen() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}", listener.local_addr().unwrap());
        Self { listener, url }
    }

    /// Takes a connection and welcomes it.
    async fn accept(&self) -> Session {
        let mut session = self.accept_silently().await;
        session.send(&welcome()).await;
        session
    }

    #[expect(clippy::result_large_err, reason = "the shape that the handshake asks for")]
    async fn accept_silently(&self) -> Session {
        let (stream, _) = self.listener.accept().await.unwrap();
        let mut seen = None;
        let callback = |request: &Request, mut response: Accepted| -> Result<Accepted, ErrorResponse> {
            seen = Some(request.clone());
            response.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static(SUBPROTOCOL));
            Ok(response)
        };
        let socket = accept_hdr_async(stream, callback).await.unwrap();
        Session { socket, request: seen.unwrap() }
    }

    /// Answers the next handshake with an error.
    #[expect(clippy::result_large_err, reason = "the shape that the handshake asks for")]
    async fn refuse(&self, status: StatusCode, code: ErrorCode) {
        let (stream, _) = self.listener.accept().await.unwrap();
        let callback = move |_: &Request, _: Accepted| -> Result<Accepted, ErrorResponse> {
            let mut problem = herenow_protocol::api::Problem::new(code, "detail of it");
            problem.retry_after_ms = (code == ErrorCode::Busy).then_some(7_400);
            let body = serde_json::to_string(&problem).unwrap();
            Err(Response::builder()
                .status(status)
                .header("content-length", body.len())
                .header("retry-after", "8")
                .body(Some(body))
                .unwrap())
        };
        assert!(accept_hdr_async(stream, callback).await.is_err());
    }
}

impl Session {
    async fn send(&mut self, frame: &ServerFrame) {
        self.socket.send(Message::text(encode(frame))).await.unwrap();
    }

    async fn frame(&mut self) -> ClientFrame {
        loop {
            match self.socket.next().await.unwrap().unwrap() {
                Message::Text(text) => return ClientFrame::parse(&text).unwrap(),
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// Reads a `watch` frame and answers it with these records.
    async fn answer_watch(&mut self, records: Vec<Presence>) -> Vec<String> {
        match self.frame().await {
            ClientFrame::Watch { id, users } => {
                self.send(&ServerFrame::Snapshot { id, users: records, complete: true }).await;
                users
            }
            other => panic!("{other:?}"),
        }
    }

    async fn presence(&mut self, records: Vec<Presence>) {
        self.send(&ServerFrame::Presence { users: records }).await;
    }
}

fn welcome() -> ServerFrame {
    ServerFrame::Welcome(Welcome {
        session: "g-0/1".to_owned(),
        user_id: UserId::new("me").unwrap(),
        heartbeat_interval_ms: 20_000,
        heartbeat_timeout_ms: 30_000,
        idle_after_ms: 300_000,
        fresh_for_ms: 20_000,
        server_time: WallTime::from_millis(1_000_000),
    })
}

fn record(name: &str, status: Status, n: u64) -> Presence {
    Presence {
        user_id: UserId::new(name).unwrap(),
        status,
        last_updated: None,
        version: Version { epoch: Epoch { counter: 1, nonce: 1 }, n },
        text: None,
        emoji: None,
        reachable: false,
        devices: Vec::new(),
        invisible: false,
        as_of: None,
    }
}

fn options(gateway: &Gateway) -> ClientOptions {
    let mut options = ClientOptions::with_token(&gateway.url, "t.t.t").device("lap top", DeviceKind::Desktop);
    options.config.backoff_base = Duration::from_millis(5);
    options
}

/// A client and its open session.
async fn pair(gateway: &Gateway, options: ClientOptions) -> (Client, Session) {
    let (client, session) = tokio::join!(Client::connect(options), gateway.accept());
    (client.unwrap(), session)
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), future).await.expect("it happens soon")
}

#[tokio::test]
async fn the_handshake_names_everything_and_keeps_the_token_out_of_the_url() {
    let gateway = Gateway::listen().await;
    let (client, session) = pair(&gateway, options(&gateway).activity(Activity::Active)).await;
    let uri = session.request.uri().to_string();
    assert_eq!(uri, "/v1/connect?device=lap%20top&kind=desktop&activity=active");
    assert_eq!(session.request.headers()["authorization"], "Bearer t.t.t");
    assert_eq!(session.request.headers()["sec-websocket-protocol"], SUBPROTOCOL);
    assert!(matches!(client.state(), ConnectionState::Connected { .. }));
}

#[tokio::test]
async fn a_watch_tells_the_snapshot_then_changes() {
    let gateway = Gateway::listen().await;
    let (client, mut session) = pair(&gateway, options(&gateway)).await;
    let mut watch = client.watch(["ana", "ben"]).unwrap();
    assert_eq!(session.answer_watch(vec![record("ana", Status::Online, 1)]).await, ["ana", "ben"]);
    assert_eq!(soon(watch.next()).await.unwrap().presence, record("ana", Status::Online, 1));
    assert_eq!(client.presence("ana"), Some(record("ana", Status::Online, 1)));
    assert_eq!(client.presence("ben"), None);
    session.presence(vec![record("ben", Status::Dnd, 2)]).await;
    assert_eq!(soon(watch.next()).await.unwrap().presence, record("ben", Status::Dnd, 2));
}

#[tokio::test]
async fn a_watch_that_is_not_read_keeps_the_latest_of_each_user_only() {
    let gateway = Gateway::listen().await;
    let (client, mut session) = pair(&gateway, options(&gateway)).await;
    let mut lazy = client.watch(["ana", "ben"]).unwrap();
    let mut eager = client.watch(["ben"]).unwrap();
    session.answer_watch(Vec::new()).await;
    for n in 1..=500 {
        let status = if n % 2 == 0 { Status::Online } else { Status::Idle };
        session.presence(vec![record("ana", status, n)]).await;
    }
    session.presence(vec![record("ben", Status::Dnd, 1)]).await;
    soon(eager.next()).await.unwrap();
    assert_eq!(soon(lazy.next()).await.unwrap().presence, record("ana", Status::Online, 500));
    assert_eq!(soon(lazy.next()).await.unwrap().presence, record("ben", Status::Dnd, 1));
    assert!(futures::poll!(lazy.next()).is_pending());
}

#[tokio::test]
async fn a_second_watch_begins_with_what_is_known_and_the_last_one_dropped_ends_it() {
    let gateway = Gateway::listen().await;
    let (client, mut session) = pair(&gateway, options(&gateway)).await;
    let mut first = client.watch(["ana"]).unwrap();
    session.answer_watch(vec![record("ana", Status::Idle, 3)]).await;
    soon(first.next()).await.unwrap();
    let mut second = client.watch(["ana"]).unwrap();
    assert_eq!(soon(second.next()).await.unwrap().presence, record("ana", Status::Idle, 3));
    drop(first);
    second.add(["ben"]).unwrap();
    assert_eq!(session.answer_watch(Vec::new()).await, ["ben"], "no unwatch while one stream follows");
    drop(second);
    match soon(session.frame()).await {
        ClientFrame::Unwatch { users, .. } => assert_eq!(users, ["ana", "ben"]),
        other => panic!("{other:?}"),
    }
    assert_eq!(client.presence("ana"), None);
}

#[tokio::test]
async fn unwatch_takes_users_off_every_stream() {
    let gateway = Gateway::listen().await;
    let (client, mut session) = pair(&gateway, options(&gateway)).await;
    let mut watch = client.watch(["ana", "ben"]).unwrap();
    session.answer_watch(vec![record("ana", Status::Idle, 3), record("ben", Status::Idle, 3)]).await;
    soon(watch.next()).await.unwrap();
    client.unwatch(["ben"]);
    assert!(futures::poll!(watch.next()).is_pending(), "what was unread of it is gone");
    assert!(matches!(soon(session.frame()).await, ClientFrame::Unwatch { users, .. } if users == ["ben"]));
}

#[tokio::test]
async fn after_a_loss_it_comes_back_and_names_its_watch_list_again() {
    let gateway = Gateway::listen().await;
    let (client, mut session) = pair(&gateway, options(&gateway)).await;
    let mut states = client.connection_state();
    let mut watch = client.watch(["ana"]).unwrap();
    session.answer_watch(vec![record("ana", Status::Online, 1)]).await;
    soon(watch.next()).await.unwrap();
    drop(session);
    let mut session = soon(gateway.accept()).await;
    assert_eq!(session.answer_watch(vec![record("ana", Status::Offline, 2)]).await, ["ana"]);
    assert_eq!(soon(watch.next()).await.unwrap().presence, record("ana", Status::Offline, 2));
    while !matches!(soon(states.next()).await, Some(ConnectionState::Connected { .. })) {}
}

#[tokio::test]
async fn requests_are_answered() {
    let gateway = Gateway::listen().await;
    let (client, mut session) = pair(&gateway, options(&gateway)).await;
    let serve = async {
        let ClientFrame::Query { id, users } = session.frame().await else { panic!() };
        assert_eq!(users, ["ana"]);
        session
            .send(&ServerFrame::Snapshot { id, users: vec![record("ana", Status::Dnd, 9)], complete: true })
            .await;
        let ClientFrame::Status { id, status, text, .. } = session.frame().await else { panic!() };
        assert_eq!((status, text.as_deref()), (ManualStatus::Dnd, Some("lunch")));
        session.send(&ServerFrame::Ack { id }).await;
        let ClientFrame::Status { id, .. } = session.frame().await else { panic!() };
        session.send(&ServerFrame::error(Some(id), ErrorCode::InvalidValue, "too long".to_owned())).await;
        client.set_activity(Activity::Background);
        session.frame().await
    };
    let ask = async {
        assert_eq!(client.query(["ana"]).await.unwrap(), [record("ana", Status::Dnd, 9)]);
        client.set_status(NewStatus::new(ManualStatus::Dnd).text("lunch")).await.unwrap();
        let error = client.set_status(NewStatus::new(ManualStatus::Auto)).await.unwrap_err();
        assert_eq!((&*error.code, &*error.message), ("invalid_value", "too long"));
        assert!(!error.remediation.is_empty());
    };
    let (last, ()) = soon(async { tokio::join!(serve, ask) }).await;
    assert_eq!(last, ClientFrame::Heartbeat { activity: Some(Activity::Background), id: None });
}

#[tokio::test]
async fn wrong_input_is_refused_before_it_travels() {
    let gateway = Gateway::listen().await;
    let mut few = options(&gateway);
    few.config.max_watches = 2;
    let (client, mut session) = pair(&gateway, few).await;
    assert_eq!(&*client.watch(["a", ""]).unwrap_err().code, "invalid_user_id");
    assert_eq!(&*client.watch(["a", "b", "c"]).unwrap_err().code, "too_many_watches");
    assert_eq!(&*client.query(Vec::<String>::new()).await.unwrap_err().code, "empty_batch");
    let _watch = client.watch(["d"]).unwrap();
    assert_eq!(session.answer_watch(Vec::new()).await, ["d"]);
    assert_eq!(&*Client::start(ClientOptions::with_token("nowhere", "t")).unwrap_err().code, "invalid_url");
    let long = options(&gateway).device("x".repeat(65), DeviceKind::Web);
    assert_eq!(&*Client::start(long).unwrap_err().code, "invalid_device");
}

#[tokio::test]
async fn a_watch_that_the_gateway_refuses_is_told_as_a_problem() {
    let gateway = Gateway::listen().await;
    let (client, mut session) = pair(&gateway, options(&gateway)).await;
    let mut problems = client.problems();
    let watch = client.watch(["ana"]).unwrap();
    let ClientFrame::Watch { id, .. } = session.frame().await else { panic!() };
    session.send(&ServerFrame::error(Some(id), ErrorCode::TooManyWatches, "full".to_owned())).await;
    assert_eq!(&*soon(problems.next()).await.unwrap().code, "too_many_watches");
    drop(watch);
}

#[tokio::test]
async fn a_refused_token_is_renewed_once_and_then_it_is_over() {
    let gateway = Gateway::listen().await;
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let provider = move || {
        let n = count.fetch_add(1, Ordering::Relaxed);
        async move { Ok::<_, std::io::Error>(format!("t{n}")) }
    };
    let mut options = ClientOptions::new(&gateway.url, provider);
    options.config.backoff_base = Duration::from_millis(5);
    let (client, session) = pair(&gateway, options).await;
    assert_eq!(session.request.headers()["authorization"], "Bearer t0");
    drop(session);
    soon(gateway.refuse(StatusCode::UNAUTHORIZED, ErrorCode::InvalidToken)).await;
    let session = soon(gateway.accept()).await;
    assert_eq!(session.request.headers()["authorization"], "Bearer t1");
    assert_eq!(asked.load(Ordering::Relaxed), 2);
    drop(client);
}

#[tokio::test]
async fn connect_says_why_it_cannot() {
    let gateway = Gateway::listen().await;
    let (client, ()) = tokio::join!(
        Client::connect(options(&gateway)),
        gateway.refuse(StatusCode::UNAUTHORIZED, ErrorCode::InvalidToken)
    );
    let error: Error = client.unwrap_err();
    assert_eq!((&*error.code, &*error.message), ("invalid_token", "detail of it"));
    assert_eq!(&*error.remediation, ErrorCode::InvalidToken.remediation());

    for (code, told) in [(ErrorCode::Busy, 7_400), (ErrorCode::Overloaded, 8_000)] {
        let refusing = gateway.refuse(StatusCode::SERVICE_UNAVAILABLE, code);
        let (client, ()) = tokio::join!(Client::connect(options(&gateway)), refusing);
        assert_eq!(client.unwrap_err().retry_after, Some(Duration::from_millis(told)), "{code:?}");
    }

    let url = gateway.url.clone();
    drop(gateway);
    let error = Client::connect(ClientOptions::with_token(url, "t")).await.unwrap_err();
    assert_eq!(&*error.code, "connection_lost");

    let gateway = Gateway::listen().await;
    let failing = || async { Err::<String, _>(std::io::Error::other("no backend")) };
    let error = Client::connect(ClientOptions::new(&gateway.url, failing)).await.unwrap_err();
    assert_eq!(&*error.code, "token_unavailable");
    assert!(error.message.contains("no backend"));
}

#[tokio::test]
async fn a_final_close_code_ends_streams_and_calls() {
    let gateway = Gateway::listen().await;
    let (client, mut session) = pair(&gateway, options(&gateway)).await;
    let mut watch = client.watch(["ana"]).unwrap();
    session.answer_watch(Vec::new()).await;
    let close = CloseFrame { code: 4503.into(), reason: "user_sessions".into() };
    session.socket.close(Some(close)).await.unwrap();
    assert!(soon(watch.next()).await.is_none());
    match client.state() {
        ConnectionState::Stopped(Some(cause)) => assert_eq!(&*cause.code, "user_sessions"),
        other => panic!("{other:?}"),
    }
    assert_eq!(&*client.query(["a"]).await.unwrap_err().code, "closed");
    assert_eq!(&*client.watch(["a"]).unwrap_err().code, "closed");
}

#[tokio::test]
async fn close_says_bye_and_so_does_dropping_the_last_handle() {
    let gateway = Gateway::listen().await;
    for drop_it in [false, true] {
        let (client, mut session) = pair(&gateway, options(&gateway)).await;
        let server = async {
            assert_eq!(session.frame().await, ClientFrame::Bye {});
            session.socket.close(Some(CloseFrame { code: 1000.into(), reason: "bye".into() })).await.unwrap();
            while session.socket.next().await.is_some_and(|message| message.is_ok()) {}
        };
        let leave = async {
            if drop_it {
                drop(client);
            } else {
                client.close().await;
            }
        };
        soon(async { tokio::join!(leave, server) }).await;
    }
}

#[tokio::test]
async fn cut_off_for_too_long_everybody_is_unknown() {
    let gateway = Gateway::listen().await;
    let mut slow = options(&gateway);
    slow.config.backoff_base = Duration::from_secs(3_600);
    slow.config.backoff_cap = Duration::from_secs(3_600);
    let (client, mut session) = tokio::join!(Client::connect(slow), gateway.accept_with_freshness(50));
    let client = client.unwrap();
    let mut watch = client.watch(["ana"]).unwrap();
    session.answer_watch(vec![record("ana", Status::Online, 1)]).await;
    assert_eq!(soon(watch.next()).await.unwrap().presence.status, Status::Online);
    drop(session);
    let presence = soon(watch.next()).await.unwrap().presence;
    assert_eq!(presence.status, Status::Unknown);
    assert!(presence.as_of >= Some(WallTime::from_millis(1_000_000)));
}

impl Gateway {
    /// Takes a connection and welcomes it with a short time of freshness.
    async fn accept_with_freshness(&self, fresh_for_ms: u64) -> Session {
        let mut session = self.accept_silently().await;
        let ServerFrame::Welcome(mut welcome) = welcome() else { panic!() };
        welcome.fresh_for_ms = fresh_for_ms;
        session.send(&ServerFrame::Welcome(welcome)).await;
        session
    }
}
