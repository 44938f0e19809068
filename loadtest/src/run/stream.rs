//! A connection in two halves, plain or under TLS; one thread has both.

use std::cell::RefCell;
use std::io;
use std::net::Shutdown;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use anyhow::{Context as _, ensure};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use serde::{Deserialize, Serialize};
use socket2::SockRef;
use tokio::io::{AsyncRead as _, AsyncReadExt as _, AsyncWrite as _, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Whose certificates are believed.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Trust {
    /// Those that the system trusts.
    System,
    /// Those that these, in PEM, vouch for.
    Only(String),
}

impl Trust {
    /// What makes connections with it.
    ///
    /// # Errors
    /// There is no certificate to trust.
    pub(super) fn connector(&self) -> anyhow::Result<TlsConnector> {
        let mut roots = RootCertStore::empty();
        match self {
            Self::System => {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
            Self::Only(text) => {
                for certificate in CertificateDer::pem_slice_iter(text.as_bytes()) {
                    roots.add(certificate.context("a certificate to trust")?)?;
                }
            }
        }
        ensure!(!roots.is_empty(), "there is no certificate to trust");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Arc::new(config).into())
    }
}

type Tls = Rc<RefCell<TlsStream<TcpStream>>>;

/// A connection.
pub(super) enum Stream {
    Plain(TcpStream),
    Secure(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// Makes it secure, with a gateway that is asked for by `authority`.
    pub(super) async fn secure(
        stream: TcpStream,
        connector: &TlsConnector,
        authority: &str,
    ) -> io::Result<Self> {
        let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
        let name =
            ServerName::try_from(host.trim_matches(['[', ']']).to_owned()).map_err(io::Error::other)?;
        Ok(Self::Secure(Box::new(connector.connect(name, stream).await?)))
    }

    /// Writes all of it.
    pub(super) async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.write_all(bytes).await,
            Self::Secure(stream) => {
                stream.write_all(bytes).await?;
                stream.flush().await
            }
        }
    }

    /// Reads some; 0: it is over.
    pub(super) async fn read_buf(&mut self, bytes: &mut Vec<u8>) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read_buf(bytes).await,
            Self::Secure(stream) => stream.read_buf(bytes).await,
        }
    }

    pub(super) fn split(self) -> (Reader, Writer) {
        match self {
            Self::Plain(stream) => {
                let (reader, writer) = stream.into_split();
                (Reader::Plain(reader), Writer::Plain(writer))
            }
            Self::Secure(stream) => {
                let tls = Rc::new(RefCell::new(*stream));
                (Reader::Secure(Rc::clone(&tls)), Writer::Secure(Secure(tls)))
            }
        }
    }
}

/// What is heard.
pub(super) enum Reader {
    Plain(OwnedReadHalf),
    Secure(Tls),
}

impl Reader {
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        space: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(reader) => Pin::new(reader).poll_read(cx, space),
            Self::Secure(tls) => Pin::new(&mut *tls.borrow_mut()).poll_read(cx, space),
        }
    }
}

/// What is said. The other side is told when it is dropped.
#[derive(Debug)]
pub(super) enum Writer {
    Plain(OwnedWriteHalf),
    Secure(Secure),
}

/// The writing half under TLS.
#[derive(Debug)]
pub(super) struct Secure(Tls);

impl Drop for Secure {
    /// As the plain one does: without a last word under TLS, since it is for connections that break.
    fn drop(&mut self) {
        // It may be gone already.
        let _ = SockRef::from(self.0.borrow().get_ref().0).shutdown(Shutdown::Write);
    }
}

impl Writer {
    /// Writes what fits at once: how much was taken, and whether some of that still waits for room.
    pub(super) fn try_write(&self, bytes: &[u8]) -> (usize, bool) {
        let mut cx = Context::from_waker(Waker::noop());
        match self {
            // An error shows when it is read too.
            Self::Plain(writer) => (writer.try_write(bytes).unwrap_or(0), false),
            Self::Secure(Secure(tls)) => {
                let mut tls = tls.borrow_mut();
                let written = match Pin::new(&mut *tls).poll_write(&mut cx, bytes) {
                    Poll::Ready(written) => written.unwrap_or(0),
                    Poll::Pending => 0,
                };
                (written, Pin::new(&mut *tls).poll_flush(&mut cx).is_pending())
            }
        }
    }

    /// Writes some, once there is room.
    pub(super) fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(writer) => loop {
                ready!(writer.as_ref().poll_write_ready(cx))?;
                match writer.try_write(bytes) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    written => return Poll::Ready(written),
                }
            },
            Self::Secure(Secure(tls)) => Pin::new(&mut *tls.borrow_mut()).poll_write(cx, bytes),
        }
    }

    /// Waits until nothing waits.
    pub(super) fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(_) => Poll::Ready(Ok(())),
            Self::Secure(Secure(tls)) => Pin::new(&mut *tls.borrow_mut()).poll_flush(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use rustls::ServerConfig;
    use rustls_pki_types::PrivateKeyDer;
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::*;

    /// A gateway's side for one connection, and what trusts it.
    async fn gateway() -> (TcpListener, TlsAcceptor, Trust) {
        let made = rcgen::generate_simple_self_signed([Ipv4Addr::LOCALHOST.to_string()]).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        (listener, Arc::new(config).into(), Trust::Only(made.cert.pem()))
    }

    async fn connect(listener: &TcpListener, trust: &Trust) -> io::Result<Stream> {
        let address = listener.local_addr().unwrap();
        let stream = TcpStream::connect(address).await.unwrap();
        Stream::secure(stream, &trust.connector().unwrap(), &address.to_string()).await
    }

    #[tokio::test]
    async fn what_is_said_under_tls_is_heard_and_its_end_has_no_last_word() {
        let (listener, acceptor, trust) = gateway().await;
        let accept = async { acceptor.accept(listener.accept().await.unwrap().0).await.unwrap() };
        let (stream, mut server) = tokio::join!(connect(&listener, &trust), accept);
        let (mut reader, writer) = stream.unwrap().split();
        assert_eq!(writer.try_write(b"hello"), (5, false));
        let mut heard = [0; 5];
        server.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"hello");
        server.write_all(b"you").await.unwrap();
        server.flush().await.unwrap();
        let mut buffer = [0; 8];
        let mut space = ReadBuf::new(&mut buffer);
        std::future::poll_fn(|cx| reader.poll_read(cx, &mut space)).await.unwrap();
        assert_eq!(space.filled(), b"you");
        drop(writer);
        let why = server.read(&mut heard).await.unwrap_err();
        assert_eq!(why.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[tokio::test]
    async fn whoever_is_not_trusted_is_not_spoken_to() {
        let (listener, acceptor, _) = gateway().await;
        let (_, _, other) = gateway().await;
        let accept = async { acceptor.accept(listener.accept().await.unwrap().0).await };
        let (stream, server) = tokio::join!(connect(&listener, &other), accept);
        assert!(stream.is_err() && server.is_err());
        assert!(Trust::Only(String::new()).connector().is_err());
    }
}
