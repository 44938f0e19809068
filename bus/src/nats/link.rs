//! The two connections of a process, and what is said about them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use async_nats::Client;
use async_nats::connection::State;
use tokio::sync::broadcast;

use crate::{EVENTS, Event};

/// Drops are told in lumps of this length: a reader that falls behind drops thousands a second.
const LOSSY_LUMP: Duration = Duration::from_millis(50);
/// How often the callback of a fresh connection looks whether its state says so too. The client sets the one right
/// after the other, so that once is nearly always enough.
const STATE_LOOKS: usize = 100;

/// Which of the two connections.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Link {
    Beats,
    Bulk,
}

impl Link {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Beats => "beats",
            Self::Bulk => "bulk",
        }
    }
}

#[derive(Debug)]
pub(super) struct Links {
    clients: OnceLock<Clients>,
    events: broadcast::Sender<Event>,
    /// What was last said.
    connected: Mutex<bool>,
    /// [`Event::Lossy`] will be said soon.
    lossy: AtomicBool,
}

#[derive(Debug)]
struct Clients {
    beats: Client,
    bulk: Client,
}

impl Links {
    pub(super) fn new() -> Self {
        Self {
            clients: OnceLock::new(),
            events: broadcast::Sender::new(EVENTS),
            connected: Mutex::new(false),
            lossy: AtomicBool::new(false),
        }
    }

    /// Called once, right after both clients were made.
    pub(super) fn set(&self, beats: Client, bulk: Client) {
        // A second call would be a fault of this crate, and changes nothing.
        let _ = self.clients.set(Clients { beats, bulk });
        self.reconcile();
    }

    pub(super) fn client(&self, link: Link) -> Option<&Client> {
        self.clients.get().map(|clients| match link {
            Link::Beats => &clients.beats,
            Link::Bulk => &clients.bulk,
        })
    }

    pub(super) fn events(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    pub(super) fn is_connected(&self) -> bool {
        *self.connected.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) async fn on_event(self: Arc<Self>, link: Link, event: async_nats::Event) {
        match event {
            async_nats::Event::Connected => self.on_connected().await,
            async_nats::Event::Disconnected | async_nats::Event::Closed => self.say(false),
            async_nats::Event::SlowConsumer(_) => self.on_slow(),
            async_nats::Event::LameDuckMode => {
                tracing::info!(link = link.name(), "the NATS server is about to stop; moving to another");
                self.reconnect(link).await;
            }
            async_nats::Event::ServerError(error) => {
                tracing::warn!(link = link.name(), %error, "the NATS server refused something")
            }
            async_nats::Event::ClientError(error) => {
                tracing::warn!(link = link.name(), %error, "cannot connect to NATS")
            }
            async_nats::Event::Draining => {}
        }
        self.reconcile();
    }

    async fn on_connected(&self) {
        for _ in 0..STATE_LOOKS {
            if self.both_up() {
                return self.say(true);
            }
            tokio::task::yield_now().await;
        }
    }

    fn on_slow(self: &Arc<Self>) {
        if !self.lossy.swap(true, Ordering::AcqRel) {
            let links = self.clone();
            tokio::spawn(async move {
                tokio::time::sleep(LOSSY_LUMP).await;
                links.lossy.store(false, Ordering::Release);
                let _ = links.events.send(Event::Lossy);
            });
        }
    }

    /// A client stays with a server that is about to stop until it does, unless it is told to go.
    async fn reconnect(&self, link: Link) {
        if let Some(client) = self.client(link)
            && let Err(error) = client.force_reconnect().await
        {
            tracing::warn!(%error, "cannot move to another NATS server");
        }
    }

    fn both_up(&self) -> bool {
        let up = |client: &Client| client.connection_state() == State::Connected;
        self.clients.get().is_some_and(|clients| up(&clients.beats) && up(&clients.bulk))
    }

    /// The client drops events when many come at once, so every event is a reason to look again.
    fn reconcile(&self) {
        let up = self.both_up();
        if up != self.is_connected() {
            self.say(up);
        }
    }

    /// Being connected is said as often as it happens, since each time something may have been lost; being
    /// disconnected once.
    fn say(&self, connected: bool) {
        let mut said = self.connected.lock().unwrap_or_else(PoisonError::into_inner);
        if connected || *said {
            let event = if connected { Event::Connected } else { Event::Disconnected };
            tracing::info!(?event, "bus");
            // Nobody listening is no error.
            let _ = self.events.send(event);
        }
        *said = connected;
    }
}
