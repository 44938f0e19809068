//! The parts of a token, read strictly: right JSON types, nothing twice.

use std::collections::HashSet;

use herenow_gateway_core::{Grants, Viewer};
use herenow_protocol::UserId;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::Scopes;

/// The head of a token. What else it holds is not looked at.
#[derive(Deserialize)]
pub(super) struct Head {
    pub(super) alg: String,
    #[serde(default)]
    pub(super) crit: Option<IgnoredAny>,
}

/// The claims that count. Numeric dates may have fractions (RFC 7519 §2).
#[derive(Deserialize)]
pub(super) struct Claims {
    pub(super) iss: String,
    pub(super) aud: OneOrMany,
    pub(super) sub: String,
    pub(super) exp: f64,
    #[serde(default, deserialize_with = "present")]
    pub(super) nbf: Option<f64>,
    #[serde(default, deserialize_with = "present")]
    pub(super) iat: Option<f64>,
    #[serde(default, deserialize_with = "present")]
    scope: Option<OneOrMany>,
    #[serde(default, deserialize_with = "present")]
    watch: Option<OneOrMany>,
}

/// A claim that is there must have its type; `null` is not "not there".
fn present<'de, T: Deserialize<'de>, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// A text, or a list of texts.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl OneOrMany {
    pub(super) fn has(&self, text: &str) -> bool {
        match self {
            Self::One(one) => one == text,
            Self::Many(many) => many.iter().any(|one| one == text),
        }
    }
}

impl Claims {
    /// Whose token it is, whom it may see, and what it may do.
    pub(super) fn rights(&self) -> Result<(Viewer, Scopes), &'static str> {
        let user = UserId::new(&self.sub).map_err(|_| "sub is no user id")?;
        let admin = self.has_scope("presence:admin");
        let scopes = Scopes { write: admin || self.has_scope("presence:write"), admin };
        let grants =
            if admin || self.has_scope("presence:read") { Grants::Everybody } else { self.grants()? };
        Ok((Viewer { user, grants }, scopes))
    }

    fn has_scope(&self, scope: &str) -> bool {
        match &self.scope {
            None => false,
            Some(OneOrMany::One(text)) => text.split(' ').any(|one| one == scope),
            Some(many @ OneOrMany::Many(_)) => many.has(scope),
        }
    }

    fn grants(&self) -> Result<Grants, &'static str> {
        match &self.watch {
            None => Ok(Grants::Nobody),
            Some(OneOrMany::One(star)) if star == "*" => Ok(Grants::Everybody),
            Some(OneOrMany::One(_)) => Err("watch is neither \"*\" nor a list"),
            Some(OneOrMany::Many(users)) => {
                let users: Result<HashSet<_>, _> = users.iter().map(|user| UserId::new(user)).collect();
                Ok(Grants::Some(Box::new(users.map_err(|_| "watch holds something that is no user id")?)))
            }
        }
    }
}
