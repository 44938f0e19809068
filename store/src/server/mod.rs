//! What every server of a store is told the same way: who logs in, and over which TLS.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize, Serializer};

use crate::StoreError;
pub(crate) use crate::check::{ensure, setting, within};

mod tls;

#[cfg(feature = "redis")]
pub(crate) use tls::Pem;

pub use tls::Tls;

/// A password: never printed, not even for debugging.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Keeps a text from being printed.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("(secret)")
    }
}

/// A user and where its password stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Login<'a> {
    pub(crate) user: Option<&'a str>,
    pub(crate) password: Option<&'a Secret>,
    pub(crate) password_file: Option<&'a Path>,
}

impl Login<'_> {
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        let none = self.password.is_none() && self.password_file.is_none();
        let both = self.password.is_some() && self.password_file.is_some();
        ensure(!both, "password", "give either `password` or `password_file`")?;
        ensure(self.user.is_none() || !none, "user", "`user` needs a password")
    }

    /// The password; from the first line of its file where it is in one.
    pub(crate) async fn password(&self) -> Result<Option<String>, StoreError> {
        match (self.password, self.password_file) {
            (Some(Secret(password)), _) => Ok(Some(password.clone())),
            (None, Some(path)) => first_line("password_file", path).await.map(Some),
            (None, None) => Ok(None),
        }
    }
}

async fn first_line(key: &'static str, path: &Path) -> Result<String, StoreError> {
    let text = String::from_utf8(file(key, path).await?).unwrap_or_default();
    match text.lines().next().map(str::trim) {
        Some(line) if !line.is_empty() => Ok(line.to_owned()),
        Some(_) | None => Err(setting(key, format!("{} has nothing in its first line", path.display()))),
    }
}

/// The bytes of a file that a setting names.
pub(crate) async fn file(key: &'static str, path: &Path) -> Result<Vec<u8>, StoreError> {
    let path: PathBuf = path.to_owned();
    let read = tokio::fs::read(&path).await;
    read.map_err(|error| setting(key, format!("cannot read {}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(file: &Path) -> Login<'_> {
        Login { user: Some("ana"), password: None, password_file: Some(file) }
    }

    #[test]
    fn secrets_are_not_printed() {
        let secret = Secret::new("opensesame");
        assert_eq!(format!("{secret:?}"), "(secret)");
    }

    #[tokio::test]
    async fn a_password_is_the_first_line_of_its_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("password");
        std::fs::write(&path, "opensesame\nnot this\n").unwrap();
        assert_eq!(login(&path).password().await, Ok(Some("opensesame".to_owned())));
        std::fs::write(&path, "\n").unwrap();
        assert_eq!(login(&path).password().await.unwrap_err().label(), "setting");
        let missing = directory.path().join("missing");
        let error = login(&missing).password().await.unwrap_err().to_string();
        assert!(error.contains("password_file") && error.contains("missing"), "{error}");
    }

    #[test]
    fn a_user_and_one_password_belong_together() {
        let (secret, path) = (Secret::new("a"), Path::new("b"));
        let check = |user, password, password_file| Login { user, password, password_file }.check().is_ok();
        assert!(check(None, None, None));
        assert!(check(None, Some(&secret), None));
        assert!(check(Some("a"), None, Some(path)));
        assert!(!check(Some("a"), None, None));
        assert!(!check(Some("a"), Some(&secret), Some(path)));
    }
}
