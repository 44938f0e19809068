//! A server that shows a certificate of our own authority, asks for one, and wants a token.

#![allow(clippy::unwrap_used, reason = "a test may fail so")]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::StreamExt as _;
use herenow_bus::testing::NatsServer;
use herenow_bus::{Bus, Event, NatsBus, NatsConfig, NatsTls, PublishError};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(10);
const SILENCE: Duration = Duration::from_millis(500);

/// A directory with certificates, keys and a token, removed when dropped.
struct Papers(PathBuf);

impl Papers {
    fn new() -> Self {
        let directory = std::env::temp_dir().join(format!("herenow-bus-tls-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let mut authority = CertificateParams::new([]).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
        fs::write(directory.join("ca.pem"), authority.pem()).unwrap();
        for name in ["server", "client"] {
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
            let certificate = params.signed_by(&key, &authority).unwrap();
            fs::write(directory.join(format!("{name}.pem")), certificate.pem()).unwrap();
            fs::write(directory.join(format!("{name}.key")), key.serialize_pem()).unwrap();
        }
        fs::write(directory.join("token"), "open-sesame\n").unwrap();
        let file = |name: &str| directory.join(name).display().to_string();
        let config = format!(
            "tls {{ cert_file: {:?}, key_file: {:?}, ca_file: {:?}, verify: true }}\n\
             authorization {{ token: \"open-sesame\" }}\njetstream {{\n  store_dir: \"\"\n}}\n",
            file("server.pem"),
            file("server.key"),
            file("ca.pem"),
        );
        fs::write(directory.join("server.conf"), config).unwrap();
        Self(directory)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Papers {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[tokio::test]
async fn both_sides_show_a_certificate_and_the_client_a_token() {
    let papers = Papers::new();
    let server = NatsServer::start_with_config(Path::new(&papers.file("server.conf")), &[]).await;
    let tls = NatsTls {
        ca: Some(papers.file("ca.pem")),
        cert: Some(papers.file("client.pem")),
        key: Some(papers.file("client.key")),
    };
    let whole = NatsConfig {
        servers: vec![server.url.clone()],
        token_file: Some(papers.file("token")),
        tls: Some(tls.clone()),
        ..NatsConfig::default()
    };

    let bus = NatsBus::connect(&whole).await.unwrap();
    let mut events = bus.events();
    if !bus.is_connected() {
        assert_eq!(timeout(PATIENCE, events.recv()).await.unwrap().unwrap(), Event::Connected);
    }
    let mut messages = bus.subscribe("t.x", None).await.unwrap();
    bus.publish("t.x", "hello".into()).unwrap();
    assert_eq!(timeout(PATIENCE, messages.next()).await.unwrap().unwrap().payload, "hello");

    let strange = NatsTls { ca: None, ..tls.clone() };
    let nameless = NatsTls { cert: None, key: None, ..tls };
    for lacking in [
        NatsConfig { token_file: None, ..whole.clone() },
        NatsConfig { tls: Some(strange), ..whole.clone() },
        NatsConfig { tls: Some(nameless), ..whole },
    ] {
        let bus = NatsBus::connect(&lacking).await.unwrap();
        tokio::time::sleep(SILENCE).await;
        assert!(!bus.is_connected());
        assert_eq!(bus.publish("t.x", "x".into()), Err(PublishError::Disconnected));
    }
}
