use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::*;
use crate::tls::Acceptor;
use crate::tls::socket::Secured;

/// Both ends of a pipe that holds `size` bytes.
async fn ends(
    version: &'static SupportedProtocolVersion,
    size: usize,
) -> (TlsStream<DuplexStream>, Secured<DuplexStream>) {
    let (server, client) = pair(version);
    let (near, far) = duplex(size);
    let acceptor = Acceptor::new(server);
    let (client, server) =
        tokio::join!(TlsConnector::from(client).connect(localhost(), near), acceptor.accept(far));
    (client.unwrap(), server.unwrap())
}

async fn limited(test: impl Future<Output = ()>) {
    tokio::time::timeout(Duration::from_secs(20), test).await.unwrap();
}

#[tokio::test]
async fn everything_arrives_through_the_narrowest_pipe() {
    for version in BOTH {
        limited(async {
            let (mut client, mut server) = ends(version, 7).await;
            let long: Vec<u8> = (0..=u8::MAX).cycle().take(100_000).collect();
            let echo = async {
                let mut buffer = [0; 999];
                loop {
                    match server.read(&mut buffer).await.unwrap() {
                        0 => break,
                        got => server.write_all(&buffer[..got]).await.unwrap(),
                    }
                    server.flush().await.unwrap();
                }
                server.shutdown().await.unwrap();
            };
            let (mut read, mut write) = tokio::io::split(&mut client);
            let say = async {
                write.write_all(&long).await.unwrap();
                write.shutdown().await.unwrap();
            };
            let mut heard = Vec::new();
            let (.., got) = tokio::join!(echo, say, read.read_to_end(&mut heard));
            // Without the server's last word this would be an error.
            got.unwrap();
            assert!(heard == long);
        })
        .await;
    }
}

#[tokio::test]
async fn what_has_no_room_yet_is_read_later_in_order() {
    limited(async {
        let (mut client, mut server) = ends(&version::TLS13, 64 * 1024).await;
        client.write_all(b"first").await.unwrap();
        client.write_all(b"second").await.unwrap();
        client.flush().await.unwrap();
        let mut heard = Vec::new();
        let mut two = [0; 2];
        while heard.len() < 11 {
            let got = server.read(&mut two).await.unwrap();
            heard.extend_from_slice(&two[..got]);
        }
        assert_eq!(heard, b"firstsecond");
    })
    .await;
}

#[tokio::test]
async fn a_connection_that_is_cut_without_a_last_word_is_an_error() {
    limited(async {
        let (client, mut server) = ends(&version::TLS13, 64 * 1024).await;
        drop(client);
        let why = server.read(&mut [0; 8]).await.unwrap_err();
        assert_eq!(why.kind(), std::io::ErrorKind::UnexpectedEof);
    })
    .await;
}

#[tokio::test]
async fn a_stranger_is_told_why_and_left() {
    limited(async {
        let (server, _) = pair(&version::TLS13);
        let (mut near, far) = duplex(1_024);
        near.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        let refused = Acceptor::new(server).accept(far).await;
        assert_eq!(refused.err().map(|why| why.kind()), Some(std::io::ErrorKind::InvalidData));
        let mut told = Vec::new();
        near.read_to_end(&mut told).await.unwrap();
        assert_eq!((told.len(), told[0]), (7, 0x15), "{told:?}");
    })
    .await;
}

#[tokio::test]
async fn a_reader_that_is_slow_makes_the_writer_wait_and_loses_nothing() {
    limited(async {
        let (mut client, mut server) = ends(&version::TLS13, 1_024).await;
        let text = vec![7; 40_000];
        // One write is taken; then the socket is full.
        assert_eq!(server.write(&text).await.unwrap(), text.len());
        assert!(futures::poll!(Box::pin(server.write(b"x"))).is_pending());
        assert!(futures::poll!(Box::pin(server.flush())).is_pending());
        let mut heard = vec![0; text.len()];
        let (flushed, read) = tokio::join!(server.flush(), client.read_exact(&mut heard));
        flushed.unwrap();
        read.unwrap();
        assert!(heard == text);
    })
    .await;
}
