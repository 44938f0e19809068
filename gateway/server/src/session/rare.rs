//! What only some sessions have at a time, and the one timer they share.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use herenow_protocol::code::CloseCode;
use herenow_protocol::{MonoTime, Now};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Sleep;

use super::{End, Session};
use crate::handshake::Greeting;
use crate::wire::Partial;

/// Bytes of answers that may wait for the socket; further pongs are left out, as RFC 6455 §5.5.3 allows.
const REPLY_BYTES: usize = 4 * 1024;

#[derive(Default)]
pub(super) struct Rare {
    /// A fragmented message of which some has arrived.
    pub(super) partial: Option<Box<Partial>>,
    /// When the unfinished frame or message began.
    pub(super) began: Option<MonoTime>,
    /// No token yet: what the handshake said, and until when one is waited for.
    pub(super) waiting: Option<(Box<Greeting>, MonoTime)>,
    /// Found to be over before its first turn.
    pub(super) end: Option<End>,
    /// Bytes the socket did not take.
    pub(super) tail: Vec<u8>,
    /// How many of them it took since.
    pub(super) sent: usize,
    /// The socket took bytes that it may still hold itself, as TLS does.
    pub(super) unflushed: bool,
    /// Since when bytes wait and the socket has taken none.
    pub(super) stuck_since: Option<MonoTime>,
    /// The close frame is on its way: until when the other side may take to hang up.
    pub(super) closing: Option<MonoTime>,
    /// Nothing more will be written.
    pub(super) shut: bool,
    timer: Option<(MonoTime, Pin<Box<Sleep>>)>,
}

impl Rare {
    /// Answers of the protocol itself. The `last` is never left out.
    pub(super) fn reply(&mut self, bytes: &[u8], last: bool) {
        self.tail.drain(..self.sent);
        self.sent = 0;
        if last || self.tail.len() < REPLY_BYTES {
            self.tail.extend_from_slice(bytes);
        }
    }

    pub(super) fn has_tail(&self) -> bool {
        self.sent < self.tail.len()
    }

    /// Whether nothing in here matters any more.
    fn is_idle(&self) -> bool {
        self.partial.is_none()
            && self.began.is_none()
            && self.waiting.is_none()
            && self.end.is_none()
            && !self.has_tail()
            && !self.unflushed
            && self.stuck_since.is_none()
            && self.closing.is_none()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Session<S> {
    /// Keeps an unfinished message and when it began: now, if `anew`.
    pub(super) fn note_unfinished(&mut self, partial: Option<Box<Partial>>, anew: bool, now: Now) {
        if partial.is_none() && self.rest.is_none() {
            if let Some(rare) = &mut self.rare {
                rare.began = None;
            }
            return;
        }
        let rare = self.rare_mut();
        rare.partial = partial;
        if anew || rare.began.is_none() {
            rare.began = Some(now.mono);
        }
    }

    /// Which deadline has passed.
    pub(super) fn overdue(&self, now: Now) -> Option<End> {
        let rare = self.rare.as_ref()?;
        let timeouts = &self.shard().common.config.timeouts;
        if rare.stuck_since.is_some_and(|since| now.mono >= since.after(timeouts.write)) {
            return Some(End::Stuck);
        }
        if rare.began.is_some_and(|began| now.mono >= began.after(timeouts.frame)) {
            return Some(End::Ours(CloseCode::Policy));
        }
        let late = rare.waiting.as_ref().is_some_and(|(_, deadline)| now.mono >= *deadline);
        late.then_some(End::Ours(CloseCode::AuthTimeout))
    }

    fn next_deadline(&self) -> Option<MonoTime> {
        let rare = self.rare.as_ref()?;
        if rare.closing.is_some() {
            return rare.closing;
        }
        let timeouts = &self.shard().common.config.timeouts;
        let stuck = rare.stuck_since.map(|since| since.after(timeouts.write));
        let began = rare.began.map(|began| began.after(timeouts.frame));
        let waiting = rare.waiting.as_ref().map(|(_, deadline)| *deadline);
        [stuck, began, waiting].into_iter().flatten().min()
    }

    /// Sets the timer for the next deadline, or gives everything rare back. Ready: a deadline has passed.
    pub(super) fn set_timer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let next = self.next_deadline();
        let clock = self.shard().common.clock;
        let Some(rare) = &mut self.rare else { return Poll::Pending };
        let Some(next) = next else {
            rare.timer = None;
            if rare.is_idle() {
                self.rare = None;
            }
            return Poll::Pending;
        };
        let (armed, timer) =
            rare.timer.get_or_insert_with(|| (next, Box::pin(tokio::time::sleep_until(clock.instant(next)))));
        if *armed != next {
            *armed = next;
            timer.as_mut().reset(clock.instant(next));
        }
        timer.as_mut().poll(cx)
    }
}
