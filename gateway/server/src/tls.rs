//! TLS for the public port: 1.2 and 1.3, certificate and key from files.

use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use crate::config::TlsConfig;

/// Reads certificate and key.
///
/// # Errors
/// The configuration key at fault, and why: a file that cannot be read, a key that does not fit.
pub(crate) fn load(config: &TlsConfig) -> Result<TlsAcceptor, String> {
    let chain = certificates(&config.certificate).map_err(|why| format!("tls.certificate: {why}"))?;
    let key = PrivateKeyDer::from_pem_file(&config.key)
        .map_err(|why| format!("tls.key: {}: {why}", config.key.display()))?;
    let mut server = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|why| format!("tls: {why}"))?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|why| format!("tls: certificate and key: {why}"))?;
    server.alpn_protocols = vec![b"http/1.1".to_vec()];
    // Sockets live for hours; tickets would save nothing and cost memory for each.
    server.send_tls13_tickets = 0;
    Ok(TlsAcceptor::from(Arc::new(server)))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let named = |why: &dyn std::fmt::Display| format!("{}: {why}", path.display());
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).map_err(|why| named(&why))?.collect();
    let chain = chain.map_err(|why| named(&why))?;
    if chain.is_empty() { Err(named(&"no certificate inside")) } else { Ok(chain) }
}
