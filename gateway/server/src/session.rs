//! A WebSocket connection after its handshake: the parked task.
//!
//! Idle, it owns its socket, its seat and nothing else. What arrives is read into the shard's buffer; only the start
//! of an unfinished frame is kept. What leaves is pulled from the core while the socket takes it; only the unwritten
//! tail is kept. Everything rare (a fragmented message, a deadline, a tail, a missing token) is in one box that an
//! idle session does not have.

mod greet;
mod rare;
mod write;

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use herenow_gateway_core::{Input, Opening, Slot};
use herenow_protocol::code::CloseCode;
use herenow_protocol::frame::ClientFrame;
use herenow_protocol::message::Ending;
use herenow_protocol::{DeviceId, Now};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::auth::Verified;
use crate::handshake::Greeting;
use crate::shard::Shard;
use crate::wire::{self, Event, Over};
use rare::Rare;

/// Reads in one turn before others get theirs.
const READS_PER_TURN: usize = 8;

/// The right to a row of the shard; gives it back.
pub(crate) struct Seat {
    pub(crate) shard: Rc<Shard>,
    pub(crate) slot: u32,
}

impl Seat {
    /// Takes a row; none when all are taken.
    pub(crate) fn take(shard: &Rc<Shard>) -> Option<Self> {
        shard.enter().map(|slot| Self { shard: Rc::clone(shard), slot })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.shard.leave(self.slot);
    }
}

/// Why a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The other side is gone, without a word.
    Lost,
    /// The other side sent a close frame; it is answered.
    Client,
    /// We close it, with a frame that says why.
    Ours(CloseCode),
    /// We drop it: it takes nothing, not even a close frame.
    Stuck,
}

/// The session's task.
pub(crate) struct Session<S> {
    socket: S,
    seat: Seat,
    /// The core knows this session and is to be told of its end.
    known: bool,
    /// The start of an unfinished frame.
    rest: Option<Box<[u8]>>,
    rare: Option<Box<Rare>>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Session<S> {
    /// A session of a socket just upgraded. `early` is what the client sent right behind its handshake.
    pub(crate) fn begin(
        socket: S,
        seat: Seat,
        greeting: Greeting,
        verified: Option<Verified>,
        early: &[u8],
    ) -> Self {
        let mut session = Self { socket, seat, known: false, rest: None, rare: None };
        let now = session.shard().now();
        match verified {
            Some(verified) => session.open(verified, greeting, now),
            None => {
                let deadline = now.mono.after(session.shard().common.config.timeouts.auth);
                session.rare_mut().waiting = Some((Box::new(greeting), deadline));
            }
        }
        if !early.is_empty() {
            let end = session.understand(early, now);
            session.end_unless_over(end);
        }
        session
    }

    fn shard(&self) -> &Rc<Shard> {
        &self.seat.shard
    }

    fn rare_mut(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    /// Tells the core of a new session.
    fn open(&mut self, verified: Verified, greeting: Greeting, now: Now) {
        // Devices matter only to tell sessions of one user apart; a client that names none has one.
        let device = greeting.device.or_else(|| DeviceId::new("unnamed").ok());
        let Some(device) = device else { return };
        let opening = Opening {
            viewer: verified.viewer,
            device,
            kind: greeting.kind.unwrap_or_default(),
            activity: greeting.activity,
            token_expires: verified.expires,
        };
        self.known = true;
        self.shard().feed(Input::Open(Slot(self.seat.slot), Box::new(opening)), now);
    }

    /// One turn of the connection. Ready: it is over and may be dropped.
    fn turn(&mut self, now: Now, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_closing() {
            return self.hang_up(now, cx);
        }
        let slot = self.seat.slot;
        let end = self
            .found_over()
            .or_else(|| self.read(now, cx))
            .or_else(|| self.found_over())
            .or_else(|| self.shard().wants_closed(slot).map(End::Ours))
            .or_else(|| self.overdue(now))
            .or_else(|| self.write(now, cx));
        match end {
            None => Poll::Pending,
            Some(end) => self.close(end, now, cx),
        }
    }

    /// Reads what has arrived, for a while.
    fn read(&mut self, now: Now, cx: &mut Context<'_>) -> Option<End> {
        for _ in 0..READS_PER_TURN {
            match self.read_once(now, cx) {
                Poll::Pending => return None,
                Poll::Ready(Some(end)) => return Some(end),
                Poll::Ready(None) if self.is_over() => return None,
                Poll::Ready(None) => {}
            }
        }
        cx.waker().wake_by_ref();
        None
    }

    fn read_once(&mut self, now: Now, cx: &mut Context<'_>) -> Poll<Option<End>> {
        let shard = Rc::clone(self.shard());
        shard.with_read_buffer(|buffer| {
            let kept = self.rest.as_ref().map_or(0, |rest| rest.len());
            let mut into = ReadBuf::new(&mut buffer[kept..]);
            if ready!(Pin::new(&mut self.socket).poll_read(cx, &mut into)).is_err() {
                return Poll::Ready(Some(End::Lost));
            }
            let got = into.filled().len();
            if got == 0 {
                return Poll::Ready(Some(End::Lost));
            }
            shard.metrics().bytes_in.inc_by(got as u64);
            if let Some(rest) = self.rest.take() {
                buffer[..kept].copy_from_slice(&rest);
            }
            Poll::Ready(self.understand(&buffer[..kept + got], now))
        })
    }

    /// Acts on whole frames and keeps the start of an unfinished one.
    fn understand(&mut self, bytes: &[u8], now: Now) -> Option<End> {
        let mut partial = self.rare.as_mut().and_then(|rare| rare.partial.take());
        let (mut reply, mut texts, mut controls) = (Vec::new(), false, false);
        let decoded = wire::decode(bytes, &mut partial, &mut reply, |event| match event {
            Event::Text(text) => {
                texts = true;
                self.text(text, now);
            }
            Event::Control => {
                controls = true;
                self.control(now);
            }
        });
        if !texts && !controls {
            self.heard(now);
        }
        let rest = &bytes[decoded.used..];
        self.rest = (!rest.is_empty() && decoded.over.is_none()).then(|| rest.into());
        // What is unfinished now began now, if a message was finished, or if there were only control frames.
        let anew = texts || (partial.is_none() && decoded.used > 0);
        self.note_unfinished(partial, anew, now);
        if !reply.is_empty() {
            self.rare_mut().reply(&reply, decoded.over.is_some());
        }
        decoded.over.map(|over| match over {
            Over::Client => End::Client,
            Over::Broken(code) => End::Ours(code),
        })
    }

    fn text(&mut self, text: &str, now: Now) {
        self.shard().metrics().frames_in.inc();
        let slot = Slot(self.seat.slot);
        if self.is_over() {
            return;
        }
        match ClientFrame::parse(text) {
            frame if !self.known => self.greet(frame, now),
            Ok(frame) => self.shard().feed(Input::Frame(slot, frame), now),
            Err(error) => self.shard().feed(Input::BadFrame(slot, error), now),
        }
    }

    /// A ping or a pong.
    fn control(&mut self, now: Now) {
        if self.shard().allows_control(self.seat.slot, now) {
            self.heard(now);
        } else {
            self.end_unless_over(Some(End::Ours(CloseCode::RateLimited)));
        }
    }

    /// A sign of life that is no frame.
    fn heard(&self, now: Now) {
        let slot = self.seat.slot;
        if self.known && self.shard().wants_closed(slot).is_none() {
            self.shard().feed(Input::Heard(Slot(slot)), now);
        }
    }

    fn found_over(&mut self) -> Option<End> {
        self.rare.as_mut().and_then(|rare| rare.end.take())
    }

    fn end_unless_over(&mut self, end: Option<End>) {
        if end.is_some() {
            let rare = self.rare_mut();
            rare.end = rare.end.or(end);
        }
    }

    /// Nothing more is read: the core, or the greeting, wants it closed.
    fn is_over(&self) -> bool {
        self.rare.as_ref().is_some_and(|rare| rare.end.is_some())
            || self.shard().wants_closed(self.seat.slot).is_some()
    }

    /// Tells the core, once, that the session is over.
    fn forget(&mut self, now: Now) {
        if std::mem::take(&mut self.known) {
            self.shard().feed(Input::Closed(Slot(self.seat.slot), Ending::Lost), now);
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Future for Session<S> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let session = self.get_mut();
        session.shard().park(session.seat.slot, cx);
        let over = loop {
            let now = session.shard().now();
            if session.turn(now, cx).is_ready() {
                break Poll::Ready(());
            }
            // A deadline that has passed by now wants another turn; otherwise its timer is set.
            if session.set_timer(cx).is_pending() {
                break Poll::Pending;
            }
        };
        session.shard().unpark();
        over
    }
}

/// A task that ends before its time, by a panic, still tells the core. When the shard itself ends there is nobody left
/// to tell.
impl<S> Drop for Session<S> {
    fn drop(&mut self) {
        let shard = &self.seat.shard;
        if self.known && !shard.is_over() {
            shard.feed(Input::Closed(Slot(self.seat.slot), Ending::Lost), shard.now());
        }
    }
}

#[cfg(test)]
mod tests;
