use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use futures::{SinkExt as _, StreamExt as _};
use herenow_gateway_server::config::TlsConfig;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_pki_types::ServerName;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::{Connector, client_async_tls_with_config};

use crate::support::*;

/// A server with a certificate of its own for `localhost`, and the store that trusts it.
fn tls_server() -> (Server, RootCertStore) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let folder = std::env::temp_dir().join(format!(
        "herenow-tls-{}-{:?}",
        std::process::id(),
        std::thread::current().id()
    ));
    std::fs::create_dir_all(&folder).unwrap();
    let files = TlsConfig { certificate: folder.join("cert.pem"), key: folder.join("key.pem") };
    std::fs::write(&files.certificate, made.cert.pem()).unwrap();
    std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
    let server = server_with(|config| {
        config.tls = Some(files);
        config.timeouts.tls = Duration::from_millis(500);
    });
    std::fs::remove_dir_all(folder).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    (server, roots)
}

fn secure(
    server: &Server,
    roots: &RootCertStore,
    version: &'static rustls::SupportedProtocolVersion,
) -> Peer<StreamOwned<ClientConnection, TcpStream>> {
    let name = ServerName::try_from("localhost").unwrap();
    let client = ClientConnection::new(trusting(roots, version), name).unwrap();
    Peer { stream: StreamOwned::new(client, connect(server).stream), unread: Vec::new() }
}

fn trusting(roots: &RootCertStore, version: &'static rustls::SupportedProtocolVersion) -> Arc<ClientConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots.clone())
        .with_no_client_auth();
    Arc::new(config)
}

#[test]
fn sessions_work_the_same_over_tls() {
    let (server, roots) = tls_server();
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let mut peer = secure(&server, &roots, version);
        peer.send(handshake(&bearer(&token())).as_bytes());
        assert_eq!(peer.answer().status, 101);
        assert_eq!(peer.frame()["type"], "welcome");
        for byte in text(r#"{"type":"heartbeat","id":1}"#) {
            peer.send(&[byte]);
        }
        assert_eq!(peer.frame()["type"], "ack");
        peer.send(&frame(0x82, b"x"));
        assert_eq!(peer.closed(), 1003);
    }
}

/// What other programs speak: a library's own `wss://`, frames that are longer than a record, in both directions.
#[tokio::test]
async fn a_library_speaks_wss() {
    let (server, roots) = tls_server();
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let socket = tokio::net::TcpStream::connect(server.address).await.unwrap();
        let mut request = "wss://localhost/v1/connect?device=d1".into_client_request().unwrap();
        request.headers_mut().insert("authorization", format!("Bearer {}", token()).parse().unwrap());
        let connector = Some(Connector::Rustls(trusting(&roots, version)));
        let (mut socket, _) = client_async_tls_with_config(request, socket, None, connector).await.unwrap();
        let mut next = async |question: Option<String>| {
            if let Some(question) = question {
                socket.send(Message::text(question)).await.unwrap();
            }
            let Some(Ok(Message::Text(text))) = socket.next().await else { panic!("no text") };
            serde_json::from_str::<serde_json::Value>(&text).unwrap()
        };
        assert_eq!(next(None).await["type"], "welcome");
        let users: Vec<String> = (0..600).map(|number| format!("{number:0>60}")).collect();
        let question = serde_json::json!({"type": "query", "id": 1, "users": users}).to_string();
        assert!(question.len() > 2 * 16 * 1024);
        let mut told = 0;
        let mut answer = next(Some(question)).await;
        loop {
            told += answer["users"].as_array().unwrap().len();
            if answer["complete"] == true {
                break;
            }
            answer = next(None).await;
        }
        assert_eq!(told, users.len());
        socket.close(None).await.unwrap();
        while let Some(Ok(_)) = socket.next().await {}
    }
}

#[test]
fn a_connection_that_is_cut_in_a_record_ends_its_session_and_harms_nobody() {
    let (server, roots) = tls_server();
    let mut neighbour = secure(&server, &roots, &rustls::version::TLS13);
    neighbour.send(handshake(&bearer(&token())).as_bytes());
    assert_eq!(neighbour.answer().status, 101);
    let mut peer = secure(&server, &roots, &rustls::version::TLS13);
    peer.send(handshake(&bearer(&token())).as_bytes());
    assert_eq!(peer.answer().status, 101);
    // Past its keys: the head of a record that says more than comes, then the end; and a record of nonsense.
    let mut raw = peer.stream.sock;
    raw.write_all(&[0x17, 3, 3, 0, 100, 1, 2, 3]).unwrap();
    raw.shutdown(std::net::Shutdown::Write).unwrap();
    let mut rest = Vec::new();
    let _ = raw.read_to_end(&mut rest);
    let mut peer = secure(&server, &roots, &rustls::version::TLS13);
    peer.send(handshake(&bearer(&token())).as_bytes());
    assert_eq!(peer.answer().status, 101);
    peer.stream
        .sock
        .write_all(&[0x17, 3, 3, 0, 20, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9])
        .unwrap();
    let mut rest = Vec::new();
    // It ends with an alert, which the client takes for an error.
    assert!(peer.stream.read_to_end(&mut rest).is_err());
    assert!(neighbour.is_alive());
}

#[test]
fn http_works_the_same_over_tls() {
    let (server, roots) = tls_server();
    let mut peer = secure(&server, &roots, &rustls::version::TLS13);
    peer.send(b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(peer.answer().code(), "not_found");
}

#[test]
fn what_is_no_tls_is_cut_and_harms_nobody() {
    let (server, roots) = tls_server();
    let mut neighbour = secure(&server, &roots, &rustls::version::TLS13);
    neighbour.send(handshake(&bearer(&token())).as_bytes());
    assert_eq!(neighbour.answer().status, 101);
    for bytes in [&b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..], &[0x16], &[0x55; 16 * 1024], b""] {
        let mut stream = connect(&server).stream;
        let _ = stream.write_all(bytes);
        let mut rest = Vec::new();
        // An alert may come before the end; a reset is an end too.
        let _ = stream.read_to_end(&mut rest);
        assert!(rest.len() < 64, "{rest:?}");
    }
    assert!(neighbour.is_alive());
    assert!(metrics(&server).contains("handshakes_total{result=\"tls_failed\"} 4"));
}
