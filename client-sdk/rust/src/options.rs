//! What an application says about itself.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt, TryFutureExt};
use herenow_client_core::{Config, Failure};
use herenow_protocol::frame::ManualStatus;
use herenow_protocol::{Activity, DeviceKind, WallTime};

/// Gets tokens: from the application's backend, a file, an identity provider.
#[derive(Clone)]
pub struct TokenProvider(Arc<dyn Fn() -> BoxFuture<'static, Result<String, Failure>> + Send + Sync>);

impl TokenProvider {
    /// A provider that calls `get` whenever a token is needed: before the first connection, when the token was refused
    /// or ran out, and a little before it runs out.
    pub fn new<F, R, E>(get: F) -> Self
    where
        F: Fn() -> R + Send + Sync + 'static,
        R: Future<Output = Result<String, E>> + Send + 'static,
        E: StdError,
    {
        Self(Arc::new(move || get().map_err(|error| unavailable(&error.to_string())).boxed()))
    }

    pub(crate) fn get(&self, limit: Duration) -> BoxFuture<'static, Result<String, Failure>> {
        let token = (self.0)();
        let late = || unavailable("it did not answer in time");
        async move { tokio::time::timeout(limit, token).await.unwrap_or_else(|_| Err(late())) }.boxed()
    }
}

fn unavailable(cause: &str) -> Failure {
    let message = format!("the token provider has no token: {cause}");
    Failure::new(
        "token_unavailable",
        &message,
        "Let the token provider return a token; the client asks again.",
    )
}

impl fmt::Debug for TokenProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenProvider")
    }
}

/// What a [`crate::Client`] needs to know.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// Where the gateway is: `ws://` or `wss://` (or `http://`, `https://`), host and port. Without a path,
    /// `/v1/connect` is taken.
    pub url: String,
    /// Gets tokens. They travel in the `Authorization` header, never in the URL.
    pub token: TokenProvider,
    /// How long the provider may take. Default 30 s.
    pub token_timeout: Duration,
    /// The device: the same for all connections of one installation. Default: random for each client.
    pub device: Option<String>,
    /// Its kind. Default [`DeviceKind::Server`].
    pub kind: DeviceKind,
    /// Trust and certificates for `wss://`. Default: the certificates the system trusts.
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// Most bytes of a frame from the gateway; a larger one ends the connection. Default 8 MiB.
    pub max_frame_bytes: usize,
    /// Times, limits, and what the person does at the start.
    pub config: Config,
}

impl ClientOptions {
    /// Options with all defaults; `token` is called whenever a token is needed, see [`TokenProvider::new`].
    pub fn new<F, R, E>(url: impl Into<String>, token: F) -> Self
    where
        F: Fn() -> R + Send + Sync + 'static,
        R: Future<Output = Result<String, E>> + Send + 'static,
        E: StdError,
    {
        Self {
            url: url.into(),
            token: TokenProvider::new(token),
            token_timeout: Duration::from_secs(30),
            device: None,
            kind: DeviceKind::Server,
            tls: None,
            max_frame_bytes: 8 * 1024 * 1024,
            config: Config::default(),
        }
    }

    /// Options with one token that is never renewed: for tools and tests.
    pub fn with_token(url: impl Into<String>, token: impl Into<String>) -> Self {
        let token = token.into();
        Self::new(url, move || std::future::ready(Ok::<_, std::convert::Infallible>(token.clone())))
    }

    /// Names the device.
    #[must_use]
    pub fn device(mut self, device: impl Into<String>, kind: DeviceKind) -> Self {
        (self.device, self.kind) = (Some(device.into()), kind);
        self
    }

    /// Says what the person does at the start. A client that never says so is idle after the server's `idle_after`.
    #[must_use]
    pub fn activity(mut self, activity: Activity) -> Self {
        self.config.activity = Some(activity);
        self
    }
}

/// A status to set by hand.
///
/// ```
/// use herenow_client::{ManualStatus, NewStatus};
///
/// let lunch = NewStatus::new(ManualStatus::Dnd).text("lunch");
/// assert_eq!(lunch.text.as_deref(), Some("lunch"));
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewStatus {
    /// What to show; [`ManualStatus::Auto`] ends the claim.
    pub status: ManualStatus,
    /// What to say beside it, at most 256 bytes.
    pub text: Option<String>,
    /// An emoji beside it, at most 64 bytes.
    pub emoji: Option<String>,
    /// When it ends by itself.
    pub expires_at: Option<WallTime>,
}

impl NewStatus {
    /// A status with nothing beside it, until it is changed.
    #[must_use]
    pub const fn new(status: ManualStatus) -> Self {
        Self { status, text: None, emoji: None, expires_at: None }
    }

    /// Adds a text.
    #[must_use]
    pub fn text(mut self, text: impl Into<String>) -> Self {
        self.text = Some(text.into());
        self
    }

    /// Adds an emoji.
    #[must_use]
    pub fn emoji(mut self, emoji: impl Into<String>) -> Self {
        self.emoji = Some(emoji.into());
        self
    }

    /// Lets it end by itself.
    #[must_use]
    pub const fn until(mut self, expires_at: WallTime) -> Self {
        self.expires_at = Some(expires_at);
        self
    }
}
