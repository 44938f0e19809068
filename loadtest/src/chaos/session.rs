//! A WebSocket session of a client that is judged with. Raw: a judge that used our SDK would judge with what it judges.

use std::time::Duration;

use anyhow::Context as _;
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::timeout;

use super::wire::{self, Activity, Heard};
use crate::connection::{Reader, Writer, connect};

/// An attempt to connect is given up after this.
pub(super) const ATTEMPT: Duration = Duration::from_secs(2);

/// A session that is open.
pub(super) struct Session {
    pub(super) reader: Reader,
    pub(super) writer: Writer,
    /// How often the gateway wants a heartbeat.
    pub(super) beat: Duration,
}

impl Session {
    /// Opens a session and waits for its welcome.
    pub(super) async fn open(
        gateway: &str,
        token: &str,
        device: &str,
        activity: Activity,
    ) -> anyhow::Result<Self> {
        let greet = async {
            let query = format!("&device={device}&activity={}", activity.word());
            let (mut reader, writer) = connect(gateway, token, &query).await?;
            loop {
                if let Ok(Heard::Welcome(beat)) = Heard::read(&reader.next_text().await?) {
                    return Ok(Self { reader, writer, beat });
                }
            }
        };
        timeout(ATTEMPT, greet).await.context("no answer")?
    }
}

/// The time of day in seconds that a gateway tells in its welcome.
pub(super) async fn server_time(gateway: &str, token: &str) -> anyhow::Result<i64> {
    let greet = async {
        let (mut reader, _writer) = connect(gateway, token, "&device=one").await?;
        loop {
            if let Some(seconds) = wire::server_time(&reader.next_text().await?) {
                return Ok(seconds);
            }
        }
    };
    timeout(ATTEMPT, greet).await.context("no answer")?
}

/// Reads until the connection ends, and says why. Ends with its handle.
pub(super) struct Listening(JoinHandle<anyhow::Error>);

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Listening {
    pub(super) fn start(mut reader: Reader, mut hear: impl FnMut(&str) + 'static) -> Self {
        Self(spawn_local(async move {
            loop {
                match reader.next_text().await {
                    Ok(text) => hear(&text),
                    Err(error) => return error,
                }
            }
        }))
    }

    /// Of one that only stays, with its signs of life.
    pub(super) fn hold(session: Session) -> Self {
        Self(spawn_local(stay(session)))
    }

    pub(super) async fn end(&mut self) -> anyhow::Error {
        (&mut self.0).await.unwrap_or_else(Into::into)
    }
}

/// Holds a session of each user until one of them ends; `ready` is called when all are open.
pub(super) async fn hold(
    gateway: &str,
    tokens: Vec<String>,
    ready: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut sessions = tokio::task::JoinSet::new();
    for token in tokens {
        let session = Session::open(gateway, &token, "one", Activity::Active).await?;
        sessions.spawn_local(stay(session));
    }
    ready()?;
    match sessions.join_next().await {
        Some(ended) => Err(ended?),
        None => Ok(()),
    }
}

/// Signs of life until the connection ends; why it did.
async fn stay(session: Session) -> anyhow::Error {
    let Session { reader, mut writer, beat: every } = session;
    let mut listening = Listening::start(reader, |_| {});
    loop {
        if let Ok(error) = timeout(every, listening.end()).await {
            return error;
        }
        if let Err(error) = writer.send_text(wire::heartbeat(Activity::Active, None)).await {
            return error;
        }
    }
}
