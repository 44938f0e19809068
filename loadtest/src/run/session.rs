//! Reading: a parked task for each session, which owns nothing but its half of the socket, and what the frames mean.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::ReadBuf;
use tokio::task::spawn_local;

use super::person::Link;
use super::stream::Reader;
use super::wire::{self, Heard, Piece};
use super::world::{Shared, World};

/// A connection: user, device, and which of the device's connections.
pub(super) type Id = (u32, u8, u32);

/// Reads until the connection ends.
pub(super) fn spawn(shared: &Shared, id: Id, reader: Reader, bytes: Vec<u8>) {
    let slow = shared.borrow().is_slow(id.0);
    let pause = shared.borrow().scenario.slow.as_ref().map(|slow| slow.pause).filter(|_| slow);
    let shared = Rc::clone(shared);
    // Another task for slow ones, so that its timer is not part of every other.
    match pause {
        Some(pause) => drop(spawn_local(read_slowly(shared, id, reader, bytes, pause))),
        None => {
            let mut rest = Rest::new();
            if let Some(ended) = hear(&shared, id, &mut rest, &bytes) {
                return end(&shared, id, Some(ended));
            }
            drop(spawn_local(Parked { shared, reader, rest: rest.into_boxed_slice(), id }));
        }
    }
}

/// A session that waits for bytes. Written out, since it is what there are many of: an `async fn` would hold its
/// arguments twice.
struct Parked {
    shared: Shared,
    reader: Reader,
    rest: Box<[u8]>,
    id: Id,
}

impl Future for Parked {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Self { shared, reader, rest, id } = &mut *self;
        loop {
            let mut kept = std::mem::take(rest).into_vec();
            let read = poll_next(shared, *id, reader, &mut kept, cx);
            *rest = kept.into_boxed_slice();
            match read {
                Poll::Ready(None) => {}
                Poll::Ready(ended) => {
                    end(shared, *id, ended);
                    return Poll::Ready(());
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

async fn read_slowly(shared: Shared, id: Id, mut reader: Reader, bytes: Vec<u8>, pause: Duration) {
    let mut rest = Rest::default();
    let mut ended = hear(&shared, id, &mut rest, &bytes);
    while ended.is_none() {
        ended = poll_fn(|cx| poll_next(&shared, id, &mut reader, &mut rest, cx)).await;
        tokio::time::sleep(pause).await;
    }
    end(&shared, id, ended);
}

fn end(shared: &Shared, (user, device, generation): Id, ended: Option<Ended>) {
    let mut world = shared.borrow_mut();
    if world.is_current(user, device, generation) {
        let code = ended.and_then(|ended| ended.0);
        world.ended(user, device, code);
    }
}

/// How a connection ended: the code of its close frame, if any.
#[derive(Clone, Copy, Debug)]
struct Ended(Option<u16>);

/// The bytes of a frame that is not whole.
type Rest = Vec<u8>;

/// Waits for bytes, and hears them.
fn poll_next(
    shared: &Shared,
    id: Id,
    reader: &mut Reader,
    rest: &mut Rest,
    cx: &mut Context<'_>,
) -> Poll<Option<Ended>> {
    let mut buffer = std::mem::take(&mut shared.borrow_mut().buffer);
    let mut space = ReadBuf::new(&mut buffer);
    let read = reader.poll_read(cx, &mut space);
    let filled = space.filled().len();
    let ended = read.map(|read| match read {
        Ok(()) if filled > 0 => hear(shared, id, rest, &buffer[..filled]),
        Ok(()) | Err(_) => Some(Ended(None)),
    });
    shared.borrow_mut().buffer = buffer;
    ended
}

/// Takes the bytes apart into frames, and keeps what is left.
fn hear(shared: &Shared, id: Id, rest: &mut Rest, bytes: &[u8]) -> Option<Ended> {
    let mut world = shared.borrow_mut();
    world.referee.counts.read_bytes += bytes.len() as u64;
    if rest.is_empty() {
        return frames(&mut world, shared, id, rest, bytes);
    }
    let mut kept = std::mem::take(rest);
    kept.extend_from_slice(bytes);
    frames(&mut world, shared, id, rest, &kept)
}

fn frames(world: &mut World, shared: &Shared, id: Id, rest: &mut Rest, mut bytes: &[u8]) -> Option<Ended> {
    loop {
        let used = match wire::first_frame(bytes) {
            Piece::Text(text, used) => {
                world.referee.counts.frames += 1;
                understand(world, shared, id, text);
                used
            }
            Piece::Ping(payload, used) => {
                world.write(shared, id.0, id.1, &wire::pong_frame(payload));
                used
            }
            Piece::Other(used) => used,
            Piece::Close(code) => return Some(Ended(Some(code))),
            Piece::Broken => {
                world.referee.counts.broken += 1;
                return Some(Ended(None));
            }
            Piece::Part => {
                *rest = bytes.to_vec();
                return None;
            }
        };
        bytes = &bytes[used..];
    }
}

fn understand(world: &mut World, shared: &Shared, (user, device, generation): Id, text: &[u8]) {
    let link = world.people[user as usize].devices[usize::from(device & 1)].link;
    if !world.is_current(user, device, generation) || !matches!(link, Link::Opening | Link::Open) {
        return;
    }
    let Ok(heard) = serde_json::from_slice::<Heard<'_>>(text) else {
        world.referee.counts.broken += 1;
        return;
    };
    match &*heard.kind {
        "welcome" => {
            world.settle_timers(heard.heartbeat_interval_ms, heard.heartbeat_timeout_ms);
            world.welcome(shared, user, device);
        }
        "presence" => {
            world.referee.counts.deliveries += heard.users.len() as u64;
            told(world, user, device, &heard, false);
        }
        "snapshot" => {
            world.referee.counts.snapshot_records += heard.users.len() as u64;
            told(world, user, device, &heard, true);
            if heard.complete == Some(true) {
                world.snapshot_complete(user, device);
            }
        }
        "reconnect" => {
            let millis = |value: Option<u64>| Duration::from_millis(value.unwrap_or(0));
            world.move_away(user, device, millis(heard.after_ms), millis(heard.within_ms));
        }
        "token_expiring" => world.renew(shared, user, device),
        "error" => {
            let code = heard.code.as_deref().unwrap_or("error").to_owned();
            *world.referee.counts.errors.entry(code).or_default() += 1;
        }
        // WS-23, WS-27.
        _ => {}
    }
}

fn told(world: &mut World, user: u32, device: u8, heard: &Heard<'_>, snapshot: bool) {
    if world.people[user as usize].watching != device & 1 {
        return;
    }
    let now = world.now();
    for record in &heard.users {
        world.referee.counts.stale_records += u64::from(record.is_stale());
        match record.told(&world.access.prefix) {
            Some(told) => world.referee.told(user, &told, snapshot, now),
            None => world.referee.counts.broken += 1,
        }
    }
}

impl World {
    /// The timers are the gateway's to tell; what the truth follows from must be what it says.
    fn settle_timers(&mut self, interval: Option<u64>, timeout: Option<u64>) {
        if let Some(interval) = interval.filter(|interval| *interval > 0) {
            self.beat = Duration::from_millis(interval);
        }
        if let Some(timeout) = timeout {
            let timeout = Duration::from_millis(timeout);
            if timeout != self.scenario.promise.heartbeat_timeout {
                let odd = format!("promise.heartbeat_timeout is not the gateway's {timeout:?}");
                *self.referee.counts.errors.entry(odd).or_default() += 1;
                self.scenario.promise.heartbeat_timeout = timeout;
            }
        }
    }

    fn snapshot_complete(&mut self, user: u32, device: u8) {
        let now = self.now();
        let place = &mut self.people[user as usize].devices[usize::from(device & 1)];
        if place.awaited > 0 {
            place.awaited -= 1;
            if place.awaited == 0 {
                self.referee.counts.blind_sessions_micros += now.saturating_sub(place.welcome);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parked_session_is_small() {
        assert!(size_of::<Parked>() <= 56, "{}", size_of::<Parked>());
    }
}
