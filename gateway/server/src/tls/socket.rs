//! A connection under TLS: a socket and its engine, read and written as if it were plain.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Pool;
use super::engine::{Broken, Engine};

/// Most text that is encrypted at once.
const WRITE_BYTES: usize = 64 * 1024;
/// What the shared buffer for writing may keep.
const KEPT_BYTES: usize = 128 * 1024;

/// See the module's page. What is not the socket is behind a pointer, so that the task stays small.
pub(crate) struct Secured<S> {
    socket: S,
    inner: Box<Inner>,
}

struct Inner {
    engine: Engine,
    pool: Rc<Pool>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Secured<S> {
    pub(super) async fn accept(socket: S, engine: Engine, pool: Rc<Pool>) -> io::Result<Self> {
        let mut secured = Self { socket, inner: Box::new(Inner { engine, pool }) };
        poll_fn(|cx| secured.poll_handshake(cx)).await?;
        Ok(secured)
    }

    fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.poll_send(cx))?;
            if !self.inner.engine.is_handshaking() {
                return Poll::Ready(Ok(()));
            }
            // What comes behind the handshake waits for its reader.
            ready!(self.poll_more(cx, &mut ReadBuf::new(&mut [])))?;
        }
    }

    /// Sends what waits.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { socket, inner } = self;
        while !inner.engine.records().is_empty() {
            let sent = ready!(Pin::new(&mut *socket).poll_write(cx, inner.engine.records()))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            inner.engine.sent(sent);
        }
        Poll::Ready(Ok(()))
    }

    /// Reads once, and lets the engine have it. Text goes into `space`, and waits where that is full.
    fn poll_more(&mut self, cx: &mut Context<'_>, space: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let pool = Rc::clone(&self.inner.pool);
        let mut incoming = pool.incoming.borrow_mut();
        let kept = self.inner.engine.kept();
        let mut into = ReadBuf::new(&mut incoming[kept..]);
        ready!(Pin::new(&mut self.socket).poll_read(cx, &mut into))?;
        let got = into.filled().len();
        if got == 0 {
            // Without the other side's last word anybody may have cut the connection.
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        let mut late = Vec::new();
        let outcome = self.inner.engine.understand(&mut incoming[..kept + got], |text| {
            // In order: once something waits, everything behind it does.
            let fits = if late.is_empty() { text.len().min(space.remaining()) } else { 0 };
            space.put_slice(&text[..fits]);
            late.extend_from_slice(&text[fits..]);
        });
        self.inner.engine.hold(&late);
        // It wakes this task again if the socket is full.
        let sent = self.poll_send(cx);
        Poll::Ready(match (outcome, sent) {
            (Err(why), _) => Err(broken(why)),
            (Ok(()), Poll::Ready(Err(why))) => Err(why),
            (Ok(()), Poll::Ready(Ok(())) | Poll::Pending) => Ok(()),
        })
    }
}

fn broken(why: Broken) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Secured<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        space: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = space.filled().len();
        // Answers of the protocol itself that the socket did not take: their task is this one.
        if let Poll::Ready(Err(why)) = this.poll_send(cx) {
            return Poll::Ready(Err(why));
        }
        loop {
            let engine = &mut this.inner.engine;
            let fits = engine.text().len().min(space.remaining());
            space.put_slice(&engine.text()[..fits]);
            engine.taken(fits);
            if space.filled().len() > before || engine.has_ended() || space.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
            ready!(this.poll_more(cx, space))?;
            if space.filled().len() > before {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Secured<S> {
    /// Takes text once nothing waits; what the socket does not take of it then waits encrypted, until it is flushed.
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, text: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_send(cx))?;
        let text = &text[..text.len().min(WRITE_BYTES)];
        let pool = Rc::clone(&this.inner.pool);
        let mut records = pool.outgoing.borrow_mut();
        records.clear();
        records.shrink_to(KEPT_BYTES);
        this.inner.engine.seal(text, &mut records).map_err(broken)?;
        let sent = match Pin::new(&mut this.socket).poll_write(cx, &records) {
            Poll::Ready(sent) => sent?,
            Poll::Pending => 0,
        };
        this.inner.engine.wait(&records[sent..]);
        Poll::Ready(Ok(text.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_send(cx))?;
        Pin::new(&mut this.socket).poll_flush(cx)
    }

    /// Says that nothing more comes, first under TLS and then to the socket.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // Where it is broken the other side has been told why; what waits is sent all the same.
        let _ = this.inner.engine.close();
        ready!(this.poll_send(cx))?;
        Pin::new(&mut this.socket).poll_shutdown(cx)
    }
}
