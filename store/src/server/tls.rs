//! TLS towards servers: which authorities are trusted, and what is shown to them.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

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
}
