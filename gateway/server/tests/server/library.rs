//! A client made by others, so that server and tests do not share one misunderstanding.

use futures::{SinkExt as _, StreamExt as _};
use tokio_tungstenite::connect_async;
use tungstenite::client::IntoClientRequest as _;
use tungstenite::{Error, Message};

use crate::support::*;

#[tokio::test]
async fn a_library_opens_uses_and_closes_a_session() {
    let server = server();
    let mut request = format!("ws://{}/v1/connect", server.address).into_client_request().unwrap();
    let offer = format!("herenow.v1.json, bearer.{}", token());
    request.headers_mut().insert("sec-websocket-protocol", offer.parse().unwrap());
    let (mut socket, response) = connect_async(request).await.unwrap();
    assert_eq!(response.headers()["sec-websocket-protocol"], "herenow.v1.json");
    let welcome = socket.next().await.unwrap().unwrap().into_text().unwrap();
    assert!(welcome.starts_with("{\"type\":\"welcome\""), "{welcome}");
    socket.send(Message::Ping("hi".into())).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::Pong("hi".into()));
    socket.send(Message::text(r#"{"type":"heartbeat","id":1}"#)).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::text(r#"{"type":"ack","id":1}"#));
    socket.send(Message::text(r#"{"type":"bye"}"#)).await.unwrap();
    let Message::Close(Some(close)) = socket.next().await.unwrap().unwrap() else { panic!("no close frame") };
    assert_eq!((u16::from(close.code), close.reason.as_str()), (1000, "bye"));
    assert!(socket.next().await.is_none(), "the end is clean");
}

#[tokio::test]
async fn a_library_is_told_why_it_may_not_connect() {
    let server = server();
    let mut request = format!("ws://{}/v1/connect", server.address).into_client_request().unwrap();
    request.headers_mut().insert("authorization", "Bearer a.b.c".parse().unwrap());
    let Err(Error::Http(response)) = connect_async(request).await else { panic!("no refusal") };
    assert_eq!(response.status(), 401);
}
