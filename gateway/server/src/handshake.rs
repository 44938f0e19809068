//! The WebSocket handshake, judged whole before anything is answered with 101.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use herenow_protocol::code::ErrorCode;
use herenow_protocol::frame::{BEARER_PREFIX, SUBPROTOCOL};
use herenow_protocol::{Activity, DeviceId, DeviceKind, WallTime};
use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, HeaderName, ORIGIN, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, TRANSFER_ENCODING, UPGRADE,
};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Uri, Version};

use crate::auth::{Verified, Verifier};

/// Where sockets are opened.
pub(crate) const PATH: &str = "/v1/connect";
/// Most bytes of a path with its query.
pub(crate) const URI_BYTES: usize = 2 * 1024;
/// Names of query parameters in which tokens are sent by mistake.
const TOKEN_PARAMETERS: [&str; 4] = ["token", "access_token", "jwt", "bearer"];

/// What the handshake, or the first frame, says of the device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Greeting {
    pub(crate) device: Option<DeviceId>,
    pub(crate) kind: Option<DeviceKind>,
    pub(crate) activity: Option<Activity>,
}

/// A handshake that may be answered with 101.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) greeting: Greeting,
    /// None: the token is to come in the first frame.
    pub(crate) verified: Option<Verified>,
    accept: String,
    subprotocol: bool,
}

/// Why a handshake is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: ErrorCode,
    pub(crate) detail: String,
    /// When trying again makes sense, where that is known.
    pub(crate) retry_after: Option<Duration>,
}

impl Refusal {
    pub(crate) const fn new(code: ErrorCode, detail: String) -> Self {
        Self { code, detail, retry_after: None }
    }
}

fn refuse<T>(code: ErrorCode, detail: &str) -> Result<T, Refusal> {
    Err(Refusal::new(code, detail.to_owned()))
}

/// A handshake that is one. Its token is yet to be verified, which costs more than all the rest.
#[derive(Debug)]
pub(crate) struct Asked<'a> {
    greeting: Greeting,
    token: Option<&'a str>,
    accept: String,
    subprotocol: bool,
}

/// Judges the form of a handshake.
pub(crate) fn check<'a>(head: &'a Parts, origins: &[String]) -> Result<Asked<'a>, Refusal> {
    no_token_in_query(&head.uri)?;
    let accept = check_upgrade(head)?;
    check_origin(&head.headers, origins)?;
    let offered = Offered::read(&head.headers)?;
    let token = offered.token(&head.headers)?;
    let greeting = greeting(&head.uri)?;
    Ok(Asked { greeting, token, accept, subprotocol: offered.ours })
}

impl Asked<'_> {
    /// Judges the token, if there is one.
    pub(crate) fn verify(self, verifier: &Verifier, now: WallTime) -> Result<Accepted, Refusal> {
        let verified = self.token.map(|token| verify(verifier, token, now)).transpose()?;
        let Self { greeting, accept, subprotocol, .. } = self;
        Ok(Accepted { greeting, verified, accept, subprotocol })
    }
}

impl Accepted {
    /// The answer.
    pub(crate) fn response<B: Default>(&self) -> Response<B> {
        let mut response = Response::new(B::default());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        if let Ok(accept) = HeaderValue::from_str(&self.accept) {
            headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
        }
        if self.subprotocol {
            headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
        }
        response
    }
}

/// Refuses a token in the query string, where every log on the way would keep it.
pub(crate) fn no_token_in_query(uri: &Uri) -> Result<(), Refusal> {
    let named = |(name, _): &(String, String)| TOKEN_PARAMETERS.contains(&name.to_ascii_lowercase().as_str());
    if parameters(uri).iter().any(named) {
        return refuse(
            ErrorCode::TokenInQuery,
            "a token was sent in the query string; it should be replaced",
        );
    }
    Ok(())
}

/// The bearer token of the `Authorization` header, if there is one.
pub(crate) fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Refusal> {
    let Some(value) = once(headers, &AUTHORIZATION)? else { return Ok(None) };
    let (scheme, token) = value.split_once(' ').unwrap_or((value, ""));
    if scheme.eq_ignore_ascii_case("bearer") {
        Ok(Some(token.trim()))
    } else {
        refuse(ErrorCode::InvalidToken, "the Authorization header is not of the Bearer scheme")
    }
}

/// Verifies a token that came over HTTP. Strangers are told the code; the reason goes to the log.
pub(crate) fn verify(verifier: &Verifier, token: &str, now: WallTime) -> Result<Verified, Refusal> {
    verifier.verify(token, now).map_err(|why| {
        tracing::debug!(reason = %why, "token refused");
        Refusal::new(why.code(), why.detail().to_owned())
    })
}

fn check_upgrade(head: &Parts) -> Result<String, Refusal> {
    let invalid = |detail| refuse(ErrorCode::InvalidHandshake, detail);
    let headers = &head.headers;
    if head.method != Method::GET {
        return refuse(ErrorCode::MethodNotAllowed, "a WebSocket handshake is a GET request");
    }
    if head.version != Version::HTTP_11 {
        return invalid("a WebSocket handshake needs HTTP/1.1");
    }
    if !once(headers, &UPGRADE)?.is_some_and(|value| value.eq_ignore_ascii_case("websocket")) {
        return invalid("the header `Upgrade: websocket` is missing");
    }
    let connection = |name: &str| list(headers, &CONNECTION).any(|one| one.eq_ignore_ascii_case(name));
    if !connection("upgrade") || connection("close") {
        return invalid("the header `Connection: Upgrade` is missing");
    }
    if headers.contains_key(CONTENT_LENGTH) || headers.contains_key(TRANSFER_ENCODING) {
        return invalid("a WebSocket handshake has no body");
    }
    if once(headers, &SEC_WEBSOCKET_VERSION)? != Some("13") {
        return refuse(ErrorCode::UnsupportedVersion, "the WebSocket version is not 13");
    }
    match once(headers, &SEC_WEBSOCKET_KEY)? {
        Some(key) if STANDARD.decode(key).is_ok_and(|bytes| bytes.len() == 16) => {
            Ok(tungstenite::handshake::derive_accept_key(key.as_bytes()))
        }
        _ => invalid("the header `Sec-WebSocket-Key` is no key of 16 bytes"),
    }
}

/// An origin must be on the list, letter for letter. Programs send none; only browsers need the protection.
fn check_origin(headers: &HeaderMap, origins: &[String]) -> Result<(), Refusal> {
    match once(headers, &ORIGIN)? {
        Some(origin) if !origins.iter().any(|allowed| allowed == origin) => {
            refuse(ErrorCode::OriginNotAllowed, "the page's origin is not on the list")
        }
        _ => Ok(()),
    }
}

/// The subprotocols a client offers: ours, and from browsers the token.
struct Offered<'a> {
    ours: bool,
    token: Option<&'a str>,
}

impl<'a> Offered<'a> {
    fn read(headers: &'a HeaderMap) -> Result<Self, Refusal> {
        let mut offered = Self { ours: false, token: None };
        for one in list(headers, &SEC_WEBSOCKET_PROTOCOL) {
            if one == SUBPROTOCOL {
                offered.ours = true;
            } else if let Some(token) = one.strip_prefix(BEARER_PREFIX)
                && offered.token.replace(token).is_some()
            {
                return refuse(ErrorCode::InvalidHandshake, "two tokens were offered");
            }
        }
        Ok(offered)
    }

    fn token(&self, headers: &'a HeaderMap) -> Result<Option<&'a str>, Refusal> {
        match (bearer(headers)?, self.token) {
            (Some(_), Some(_)) => refuse(ErrorCode::InvalidHandshake, "two tokens were offered"),
            (one, other) => Ok(one.or(other)),
        }
    }
}

fn greeting(uri: &Uri) -> Result<Greeting, Refusal> {
    let mut greeting = Greeting::default();
    let invalid = |detail: String| Refusal::new(ErrorCode::InvalidValue, detail);
    for (name, value) in parameters(uri) {
        match name.as_str() {
            "device" => {
                let device = DeviceId::new(&value).map_err(|why| invalid(format!("`device`: {why}")))?;
                greeting.device = Some(device);
            }
            "kind" => {
                let detail = "`kind` is none of web, mobile, desktop, server";
                greeting.kind = Some(word(&value).ok_or_else(|| invalid(detail.to_owned()))?);
            }
            "activity" => {
                let detail = "`activity` is none of active, idle, background";
                greeting.activity = Some(word(&value).ok_or_else(|| invalid(detail.to_owned()))?);
            }
            _ => {}
        }
    }
    Ok(greeting)
}

fn word<T: serde::de::DeserializeOwned>(text: &str) -> Option<T> {
    serde_json::from_value(serde_json::Value::from(text)).ok()
}

fn parameters(uri: &Uri) -> Vec<(String, String)> {
    axum::extract::Query::try_from_uri(uri).map(|query| query.0).unwrap_or_default()
}

/// The value of a header that may be there once at most.
fn once<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Refusal> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    if values.next().is_some() {
        let detail = format!("the header `{name}` was sent twice");
        return Err(Refusal::new(ErrorCode::InvalidHandshake, detail));
    }
    let text = first.map(HeaderValue::to_str).transpose();
    text.map_err(|_| Refusal::new(ErrorCode::InvalidHandshake, format!("the header `{name}` is not ASCII")))
}

/// The elements of a header that is a list, over all its lines.
fn list<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let lines = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim).filter(|one| !one.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::tests::{good_token, hs256_config, test_now};

    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

    fn request() -> http::request::Builder {
        http::Request::get("/v1/connect?device=d1&kind=mobile&activity=idle")
            .header("Host", "localhost")
            .header("Upgrade", "websocket")
            .header("Connection", "keep-alive, Upgrade")
            .header("Sec-WebSocket-Version", "13")
            .header("Sec-WebSocket-Key", KEY)
    }

    fn outcome(builder: http::request::Builder) -> Result<Accepted, Refusal> {
        let (head, ()) = builder.body(()).unwrap().into_parts();
        let verifier = Verifier::load(&hs256_config()).unwrap();
        check(&head, &["https://app.example".to_owned()])?.verify(&verifier, test_now())
    }

    fn code(builder: http::request::Builder) -> ErrorCode {
        outcome(builder).map(|_| ()).unwrap_err().code
    }

    fn without(name: &str) -> http::request::Builder {
        let mut builder = request();
        builder.headers_mut().unwrap().remove(name);
        builder
    }

    fn replaced(name: &'static str, value: &str) -> http::request::Builder {
        without(name).header(name, value)
    }

    #[test]
    fn a_good_handshake_is_accepted() {
        let accepted = outcome(request()).unwrap();
        assert!(accepted.verified.is_none());
        assert_eq!(accepted.greeting.device.as_ref().map(DeviceId::as_str), Some("d1"));
        assert_eq!(
            (accepted.greeting.kind, accepted.greeting.activity),
            (Some(DeviceKind::Mobile), Some(Activity::Idle))
        );
        let response: Response<()> = accepted.response();
        assert_eq!(response.headers()[SEC_WEBSOCKET_ACCEPT], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert!(!response.headers().contains_key(SEC_WEBSOCKET_PROTOCOL));
        assert!(!response.headers().contains_key("sec-websocket-extensions"));
    }

    #[test]
    fn the_token_comes_by_header_or_by_subprotocol_and_is_never_echoed() {
        let token = good_token();
        let by_header = outcome(request().header("Authorization", format!("bearer {token}"))).unwrap();
        assert_eq!(by_header.verified.unwrap().viewer.user.as_str(), "ana");
        let offered = format!("herenow.v1.json, bearer.{token}");
        let accepted = outcome(request().header("Sec-WebSocket-Protocol", offered)).unwrap();
        assert!(accepted.verified.is_some());
        assert_eq!(accepted.response::<()>().headers()[SEC_WEBSOCKET_PROTOCOL], SUBPROTOCOL);
        let both = request().header("Authorization", format!("Bearer {token}"));
        assert_eq!(
            code(both.header("Sec-WebSocket-Protocol", format!("bearer.{token}"))),
            ErrorCode::InvalidHandshake
        );
    }

    #[test]
    fn bad_tokens_are_refused_without_a_reason() {
        let refusal = outcome(request().header("Authorization", "Bearer a.b.c")).unwrap_err();
        assert_eq!(
            (refusal.code, refusal.detail.as_str()),
            (ErrorCode::InvalidToken, "the token is not accepted")
        );
        assert_eq!(code(request().header("Authorization", "Bearer ")), ErrorCode::MissingToken);
        assert_eq!(code(request().header("Authorization", "Basic YTpi")), ErrorCode::InvalidToken);
        assert_eq!(code(request().header("Sec-WebSocket-Protocol", "bearer.x")), ErrorCode::InvalidToken);
        for name in ["token", "access_token", "jwt", "bearer", "TOKEN"] {
            let uri = format!("/v1/connect?device=d&{name}=canary");
            assert_eq!(code(request().uri(uri)), ErrorCode::TokenInQuery);
        }
    }

    #[test]
    fn origins_are_compared_letter_for_letter() {
        assert!(outcome(request().header("Origin", "https://app.example")).is_ok());
        for bad in [
            "https://evil.example",
            "null",
            "https://app.example.evil.com",
            "https://app.example:444",
            "HTTPS://APP.EXAMPLE",
            "https://app.example.",
            "http://app.example",
            "",
        ] {
            assert_eq!(code(request().header("Origin", bad)), ErrorCode::OriginNotAllowed, "{bad}");
        }
        let two = request().header("Origin", "https://app.example").header("Origin", "https://app.example");
        assert_eq!(code(two), ErrorCode::InvalidHandshake);
    }

    #[test]
    fn what_is_no_handshake_is_refused() {
        use ErrorCode::{InvalidHandshake, MethodNotAllowed, UnsupportedVersion};
        let long = STANDARD.encode([0; 17]);
        let cases = [
            ("POST", request().method("POST"), MethodNotAllowed),
            ("HTTP/1.0", request().version(Version::HTTP_10), InvalidHandshake),
            ("no upgrade", without("Upgrade"), InvalidHandshake),
            ("h2c", replaced("Upgrade", "h2c"), InvalidHandshake),
            ("no connection", without("Connection"), InvalidHandshake),
            ("close", replaced("Connection", "Upgrade, close"), InvalidHandshake),
            ("version 8", replaced("Sec-WebSocket-Version", "8"), UnsupportedVersion),
            ("no version", without("Sec-WebSocket-Version"), UnsupportedVersion),
            ("no key", without("Sec-WebSocket-Key"), InvalidHandshake),
            ("empty key", replaced("Sec-WebSocket-Key", ""), InvalidHandshake),
            ("key of 5", replaced("Sec-WebSocket-Key", "aGVsbG8="), InvalidHandshake),
            ("key of 17", replaced("Sec-WebSocket-Key", &long), InvalidHandshake),
            ("key twice", request().header("Sec-WebSocket-Key", KEY), InvalidHandshake),
            ("length", request().header("Content-Length", "0"), InvalidHandshake),
            ("chunked", request().header("Transfer-Encoding", "chunked"), InvalidHandshake),
        ];
        for (what, builder, expected) in cases {
            assert_eq!(code(builder), expected, "{what}");
        }
    }

    #[test]
    fn bad_parameters_are_named() {
        for query in ["device=", "device=a%00b", "kind=car", "activity=asleep"] {
            assert_eq!(
                code(request().uri(format!("/v1/connect?{query}"))),
                ErrorCode::InvalidValue,
                "{query}"
            );
        }
    }
}
