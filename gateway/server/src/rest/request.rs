//! Reading requests, and asking the shard.

use axum::extract::Request;
use herenow_gateway_core::Viewer;
use herenow_protocol::code::ErrorCode;
use herenow_protocol::{Presence, UserId, limit};
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::oneshot;

use super::kept::Visible;
use super::{Api, answer, refusal};
use crate::auth::{AuthError, Verified};
use crate::calls::{Answer, Call, Question};
use crate::handshake::{self, Refusal};
use crate::json;

impl Api {
    /// Who asks.
    pub(super) fn verified(&self, request: &Request) -> Result<Verified, Refusal> {
        let missing = || refusal((ErrorCode::MissingToken, AuthError::Missing.detail().to_owned()));
        let token = handshake::bearer(request.headers())?.ok_or_else(missing)?;
        handshake::verify(&self.verifier, token, self.clock.now().wall)
    }

    /// The body of a request as what it should be.
    pub(super) async fn body<T: DeserializeOwned>(&self, request: Request) -> Result<T, Refusal> {
        if !is_json(request.headers()) {
            let detail = "the body is not said to be application/json in UTF-8".to_owned();
            return Err(refusal((ErrorCode::UnsupportedMediaType, detail)));
        }
        let whole = Limited::new(request.into_body(), limit::BODY_BYTES).collect();
        let Ok(read) = tokio::time::timeout(self.body_timeout, whole).await else {
            return Err(refusal((ErrorCode::RequestTimeout, "the body did not arrive in time".to_owned())));
        };
        let body = read.map_err(|why| {
            if why.is::<LengthLimitError>() {
                refusal((ErrorCode::BodyTooBig, "the body has more than 256 KiB".to_owned()))
            } else {
                refusal((ErrorCode::InvalidJson, "the body could not be read to its end".to_owned()))
            }
        })?;
        json::read(&body.to_bytes()).map_err(refusal)
    }

    /// Asks the shard and waits for its answer.
    pub(super) async fn ask(&self, question: Question) -> Result<Answer, Refusal> {
        let (reply, answer) = oneshot::channel();
        self.calls.try_send(Call { question, reply }).map_err(|why| match why {
            TrySendError::Full(_) => {
                refusal((ErrorCode::Overloaded, "too many requests wait for this gateway".to_owned()))
            }
            TrySendError::Closed(_) => answer::refused(ErrorCode::Unavailable),
        })?;
        match tokio::time::timeout(self.answer_timeout, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) | Err(_) => Err(answer::refused(ErrorCode::Unavailable)),
        }
    }

    /// How users are, or were.
    pub(super) async fn users(&self, viewer: Viewer, users: Vec<UserId>) -> Result<Vec<Presence>, Refusal> {
        let visible = Visible::of(&viewer, &users);
        match self.ask(Question::Users { viewer, users }).await? {
            Answer::Users(mut users) => {
                self.memory.fill_in(&mut users, &visible).await;
                Ok(users)
            }
            Answer::Claimed(_) | Answer::Explained(_) => Err(answer::refused(ErrorCode::Unavailable)),
        }
    }
}

/// `application/json`, once, and if it names a character set, UTF-8.
fn is_json(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(CONTENT_TYPE).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return false };
    let Ok(text) = value.to_str() else { return false };
    let mut parts = text.split(';').map(str::trim);
    let json = parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case("application/json"));
    json && parts.all(|parameter| match parameter.split_once('=') {
        Some((name, set)) if name.eq_ignore_ascii_case("charset") => {
            set.trim_matches('"').eq_ignore_ascii_case("utf-8")
        }
        _ => true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn only_json_in_utf8_is_taken() {
        let said = |text: &str| {
            is_json(&HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_str(text).unwrap())]))
        };
        for good in
            ["application/json", "Application/JSON; charset=utf-8", "application/json;charset=\"UTF-8\""]
        {
            assert!(said(good), "{good}");
        }
        for bad in ["text/plain", "application/jsonx", "application/json; charset=utf-16", "", "text/json"] {
            assert!(!said(bad), "{bad}");
        }
        assert!(!is_json(&HeaderMap::new()));
    }
}
