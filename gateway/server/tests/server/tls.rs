use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use herenow_gateway_server::config::TlsConfig;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_pki_types::ServerName;

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
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots.clone())
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let client = ClientConnection::new(Arc::new(config), name).unwrap();
    Peer { stream: StreamOwned::new(client, connect(server).stream), unread: Vec::new() }
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
