//! TLS towards servers: which authorities are trusted, and what is shown to them.

use std::path::PathBuf;
#[cfg(feature = "tls")]
use std::sync::Arc;

#[cfg(feature = "tls")]
use rustls::{ClientConfig, RootCertStore};
#[cfg(feature = "tls")]
use rustls_pki_types::pem::PemObject as _;
#[cfg(feature = "tls")]
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Deserialize, Serialize};

#[cfg(feature = "tls")]
use super::setting;
use super::{ensure, file};
use crate::StoreError;

/// Certificates and keys, in PEM files. A connection with it is encrypted, and refused when the server's certificate
/// is not valid for its name.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tls {
    /// The authorities to trust instead of the machine's. Default: the machine's.
    pub ca: Option<PathBuf>,
    /// The certificate to show; needs `key`. Default: none.
    pub cert: Option<PathBuf>,
    /// Its key; needs `cert`. Default: none.
    pub key: Option<PathBuf>,
}

/// The bytes of the files.
#[derive(Debug, Default)]
pub(crate) struct Pem {
    pub(crate) ca: Option<Vec<u8>>,
    /// Certificate and key.
    pub(crate) own: Option<(Vec<u8>, Vec<u8>)>,
}

impl Tls {
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        ensure(self.cert.is_some() == self.key.is_some(), "tls", "`cert` and `key` need each other")
    }

    pub(crate) async fn read(&self) -> Result<Pem, StoreError> {
        self.check()?;
        let ca = match &self.ca {
            Some(path) => Some(file("tls.ca", path).await?),
            None => None,
        };
        let own = match (&self.cert, &self.key) {
            (Some(cert), Some(key)) => Some((file("tls.cert", cert).await?, file("tls.key", key).await?)),
            _ => None,
        };
        Ok(Pem { ca, own })
    }

    /// What a client of TLS needs.
    #[cfg(feature = "tls")]
    pub(crate) async fn client(&self) -> Result<Arc<ClientConfig>, StoreError> {
        let pem = self.read().await?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| setting("tls", error.to_string()))?
            .with_root_certificates(roots(pem.ca.as_deref())?);
        let config = match pem.own {
            None => builder.with_no_client_auth(),
            Some((cert, key)) => {
                let key = PrivateKeyDer::from_pem_slice(&key)
                    .map_err(|error| setting("tls.key", error.to_string()))?;
                builder
                    .with_client_auth_cert(certificates("tls.cert", &cert)?, key)
                    .map_err(|error| setting("tls.cert", error.to_string()))?
            }
        };
        Ok(Arc::new(config))
    }
}

#[cfg(feature = "tls")]
fn roots(ca: Option<&[u8]>) -> Result<RootCertStore, StoreError> {
    let mut roots = RootCertStore::empty();
    match ca {
        Some(pem) => {
            for certificate in certificates("tls.ca", pem)? {
                roots.add(certificate).map_err(|error| setting("tls.ca", error.to_string()))?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    ensure(!roots.is_empty(), "tls.ca", "no authority is trusted: name one")?;
    Ok(roots)
}

#[cfg(feature = "tls")]
fn certificates(key: &'static str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, StoreError> {
    let read = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    let read = read.map_err(|error| setting(key, error.to_string()))?;
    ensure(!read.is_empty(), key, "holds no certificate")?;
    Ok(read)
}
