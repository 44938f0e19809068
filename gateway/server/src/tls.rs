//! TLS for the public port: 1.2 and 1.3, certificate and key from files.
//!
//! Records are driven through rustls' unbuffered connection: an idle session keeps its keys and nothing else. What is
//! read and written goes through buffers that all connections of a shard share.

mod engine;
mod socket;

use std::cell::RefCell;
use std::io;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::config::TlsConfig;
use engine::{Engine, INCOMING_BYTES};
use socket::Secured;

/// Reads certificate and key.
///
/// # Errors
/// The configuration key at fault, and why: a file that cannot be read, a key that does not fit.
pub(crate) fn load(config: &TlsConfig) -> Result<Arc<ServerConfig>, String> {
    let chain = certificates(&config.certificate).map_err(|why| format!("tls.certificate: {why}"))?;
    let key = PrivateKeyDer::from_pem_file(&config.key)
        .map_err(|why| format!("tls.key: {}: {why}", config.key.display()))?;
    server(chain, key)
}

fn server(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<Arc<ServerConfig>, String> {
    let mut server = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|why| format!("tls: {why}"))?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|why| format!("tls: certificate and key: {why}"))?;
    server.alpn_protocols = vec![b"http/1.1".to_vec()];
    // Sockets live for hours; tickets would save nothing and cost memory for each.
    server.send_tls13_tickets = 0;
    Ok(Arc::new(server))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let named = |why: &dyn std::fmt::Display| format!("{}: {why}", path.display());
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).map_err(|why| named(&why))?.collect();
    let chain = chain.map_err(|why| named(&why))?;
    if chain.is_empty() { Err(named(&"no certificate inside")) } else { Ok(chain) }
}

/// What takes TLS handshakes on one shard.
#[derive(Clone)]
pub(crate) struct Acceptor {
    config: Arc<ServerConfig>,
    pool: Rc<Pool>,
}

impl Acceptor {
    pub(crate) fn new(config: Arc<ServerConfig>) -> Self {
        Self { config, pool: Rc::default() }
    }

    /// Makes the handshake of a connection; the caller limits its time.
    ///
    /// # Errors
    /// The other side is gone, or what it says is no TLS that is spoken here. It has been told, if it listens.
    pub(crate) async fn accept<S>(&self, socket: S) -> io::Result<Secured<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let engine = Engine::new(Arc::clone(&self.config)).map_err(io::Error::other)?;
        Secured::accept(socket, engine, Rc::clone(&self.pool)).await
    }
}

/// What connections borrow while they read or write.
struct Pool {
    incoming: RefCell<Box<[u8]>>,
    outgoing: RefCell<Vec<u8>>,
}

impl Default for Pool {
    fn default() -> Self {
        let incoming = RefCell::new(vec![0; INCOMING_BYTES].into_boxed_slice());
        Self { incoming, outgoing: RefCell::default() }
    }
}

#[cfg(test)]
mod tests;
