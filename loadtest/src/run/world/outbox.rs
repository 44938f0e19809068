//! Writes to sockets: at once what fits, the rest when there is room.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::task::spawn_local;

use super::super::session::Id;
use super::super::stream::Writer;
use super::super::wire;
use super::{Shared, World};

/// Most bytes that wait for one socket.
const PENDING_BYTES: usize = 1024 * 1024;

impl World {
    pub(in crate::run) fn send(&mut self, shared: &Shared, user: u32, device: u8, text: &str) {
        self.write(shared, user, device, &wire::text_frame(text));
    }

    /// Writes at once what fits, the rest when there is room.
    pub(in crate::run) fn write(&mut self, shared: &Shared, user: u32, device: u8, bytes: &[u8]) {
        let now = self.now();
        let counts = &mut self.referee.counts;
        counts.sent += 1;
        counts.sent_bytes += bytes.len() as u64;
        let place = &mut self.people[user as usize].devices[usize::from(device & 1)];
        place.wrote = now;
        let Some(writer) = &place.writer else { return };
        let id = (user, device, place.generation);
        if let Some(pending) = self.pending.get_mut(&id) {
            if pending.len() + bytes.len() <= PENDING_BYTES {
                pending.extend_from_slice(bytes);
            }
            return;
        }
        let (written, waits) = writer.try_write(bytes);
        if written < bytes.len() || waits {
            counts.stalled += 1;
            self.pending.insert(id, bytes[written..].to_vec());
            spawn_local(flush(Rc::clone(shared), id, Rc::clone(writer)));
        }
    }
}

/// Writes what waits.
async fn flush(shared: Shared, id: Id, writer: Rc<Writer>) {
    while let Some(true) = poll_fn(|cx| poll_some(&shared, id, &writer, cx)).await {}
    shared.borrow_mut().pending.remove(&id);
}

/// Writes some of it; true: there may be more. None: nobody wants it any longer.
fn poll_some(shared: &Shared, id: Id, writer: &Writer, cx: &mut Context<'_>) -> Poll<Option<bool>> {
    let mut world = shared.borrow_mut();
    let current = world.is_current(id.0, id.1, id.2);
    let Some(pending) = world.pending.get_mut(&id).filter(|_| current) else { return Poll::Ready(None) };
    if pending.is_empty() {
        let flushed = ready!(writer.poll_flush(cx));
        return Poll::Ready(flushed.is_ok().then_some(false));
    }
    let written = ready!(writer.poll_write(cx, pending));
    Poll::Ready(written.ok().filter(|written| *written > 0).map(|written| {
        pending.drain(..written);
        true
    }))
}
