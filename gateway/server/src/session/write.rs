//! What leaves a session, and how it ends.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use herenow_protocol::Now;
use herenow_protocol::code::CloseCode;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{End, Session};
use crate::shard::WRITE_BYTES;
use crate::wire;

/// Most bytes that are still taken from the core for a session that the core closes.
const LAST_BYTES: usize = 4 * WRITE_BYTES;

impl<S: AsyncRead + AsyncWrite + Unpin> Session<S> {
    /// Writes the tail, then what the core has, while the socket takes it.
    pub(super) fn write(&mut self, now: Now, cx: &mut Context<'_>) -> Option<End> {
        let shard = Rc::clone(self.shard());
        let mut wrote = false;
        loop {
            match self.write_tail(now, cx) {
                Poll::Ready(Ok(some)) => wrote |= some,
                Poll::Ready(Err(end)) => return Some(end),
                Poll::Pending => return None,
            }
            let pulled = shard.with_write_buffer(|buffer| {
                if !self.known || !shard.pull(self.seat.slot, now, buffer) {
                    return Ok(false);
                }
                let taken = match Pin::new(&mut self.socket).poll_write(cx, buffer) {
                    Poll::Ready(Ok(taken)) => taken,
                    Poll::Ready(Err(_)) => return Err(End::Lost),
                    Poll::Pending => 0,
                };
                shard.metrics().bytes_out.inc_by(taken as u64);
                if taken < buffer.len() {
                    let rare = self.rare_mut();
                    rare.tail = buffer[taken..].to_vec();
                    rare.sent = 0;
                }
                Ok(true)
            });
            match pulled {
                Ok(true) => wrote = true,
                Ok(false) => return self.flush(wrote, now, cx),
                Err(end) => return Some(end),
            }
        }
    }

    /// Ready: the tail is gone. Pending: the socket is full, which is noted.
    fn write_tail(&mut self, now: Now, cx: &mut Context<'_>) -> Poll<Result<bool, End>> {
        let mut some = false;
        let shard = Rc::clone(&self.seat.shard);
        let Some(rare) = &mut self.rare else { return Poll::Ready(Ok(false)) };
        while rare.has_tail() {
            match Pin::new(&mut self.socket).poll_write(cx, &rare.tail[rare.sent..]) {
                Poll::Ready(Ok(taken)) if taken > 0 => {
                    shard.metrics().bytes_out.inc_by(taken as u64);
                    rare.sent += taken;
                    rare.stuck_since = None;
                    some = true;
                }
                Poll::Ready(_) => return Poll::Ready(Err(End::Lost)),
                Poll::Pending => {
                    rare.stuck_since.get_or_insert(now.mono);
                    return Poll::Pending;
                }
            }
        }
        if some {
            (rare.tail, rare.sent, rare.stuck_since) = (Vec::new(), 0, None);
        }
        Poll::Ready(Ok(some))
    }

    fn flush(&mut self, wrote: bool, now: Now, cx: &mut Context<'_>) -> Option<End> {
        if !wrote && !self.rare.as_ref().is_some_and(|rare| rare.unflushed) {
            return None;
        }
        match Pin::new(&mut self.socket).poll_flush(cx) {
            Poll::Ready(Ok(())) => {
                if let Some(rare) = &mut self.rare {
                    (rare.unflushed, rare.stuck_since) = (false, None);
                }
                None
            }
            Poll::Ready(Err(_)) => Some(End::Lost),
            Poll::Pending => {
                let rare = self.rare_mut();
                rare.unflushed = true;
                rare.stuck_since.get_or_insert(now.mono);
                None
            }
        }
    }

    pub(super) fn is_closing(&self) -> bool {
        self.rare.as_ref().is_some_and(|rare| rare.closing.is_some())
    }

    /// Begins the end: says why, tells the core, and gives the other side a moment.
    pub(super) fn close(&mut self, end: End, now: Now, cx: &mut Context<'_>) -> Poll<()> {
        let code = match end {
            End::Ours(code) => Some(code),
            End::Lost | End::Client | End::Stuck => None,
        };
        self.count(end);
        if let Some(code) = code {
            self.queue_last(code, now);
        }
        self.forget(now);
        if matches!(end, End::Lost | End::Stuck) {
            return Poll::Ready(());
        }
        self.rest = None;
        let deadline = now.mono.after(self.shard().common.config.timeouts.close);
        let rare = self.rare_mut();
        (rare.closing, rare.partial, rare.began, rare.waiting) = (Some(deadline), None, None, None);
        self.hang_up(now, cx)
    }

    /// What the core has left for a session it closed, then the close frame.
    fn queue_last(&mut self, code: CloseCode, now: Now) {
        let shard = Rc::clone(self.shard());
        let (slot, known) = (self.seat.slot, self.known);
        let rare = self.rare_mut();
        while known && rare.tail.len() < LAST_BYTES {
            let more = shard.with_write_buffer(|buffer| {
                let more = shard.pull(slot, now, buffer);
                rare.tail.extend_from_slice(buffer);
                more
            });
            if !more {
                break;
            }
        }
        wire::encode_close(code, &mut rare.tail);
    }

    /// Writes the last bytes, then reads to nowhere until the other side hangs up, so that what was written is not
    /// lost to a reset.
    pub(super) fn hang_up(&mut self, now: Now, cx: &mut Context<'_>) -> Poll<()> {
        if self.rare.as_ref().and_then(|rare| rare.closing).is_none_or(|deadline| now.mono >= deadline) {
            return Poll::Ready(());
        }
        match ready!(self.shut_down(now, cx)) {
            true => self.discard(cx),
            false => Poll::Ready(()),
        }
    }

    /// Ready: all is written and the other side is told so; false when it is gone.
    fn shut_down(&mut self, now: Now, cx: &mut Context<'_>) -> Poll<bool> {
        if self.rare.as_ref().is_some_and(|rare| rare.shut) {
            return Poll::Ready(true);
        }
        if ready!(self.write_tail(now, cx)).is_err() {
            return Poll::Ready(false);
        }
        let done = ready!(Pin::new(&mut self.socket).poll_shutdown(cx)).is_ok();
        self.rare_mut().shut = true;
        Poll::Ready(done)
    }

    fn discard(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let shard = Rc::clone(self.shard());
        shard.with_read_buffer(|buffer| {
            for _ in 0..super::READS_PER_TURN {
                let mut into = ReadBuf::new(buffer);
                let read = ready!(Pin::new(&mut self.socket).poll_read(cx, &mut into));
                if read.is_err() || into.filled().is_empty() {
                    return Poll::Ready(());
                }
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })
    }

    fn count(&self, end: End) {
        let metrics = self.shard().metrics();
        match end {
            End::Lost => metrics.closed_by("lost"),
            End::Client => metrics.closed_by("client"),
            End::Ours(code) => metrics.closed(code),
            End::Stuck => metrics.closed(CloseCode::SlowConsumer),
        }
    }
}
