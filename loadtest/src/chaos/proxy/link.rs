//! One connection through a proxy.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::lane::{Counters, Lane, Side};
use super::split::{Kind, Splitter, Wire, without_addresses};
use super::{Options, Rules};
use crate::clock;

/// Bytes read at once.
const CHUNK: usize = 64 * 1024;
/// How long a server is tried to be reached.
const ATTEMPT: Duration = Duration::from_secs(2);
const FOREVER: Duration = Duration::from_secs(3_600);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    Up,
    Down,
}

/// What both directions of a connection share.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) rules: watch::Receiver<Rules>,
    pub(super) counters: Arc<Counters>,
    pub(super) options: Options,
    pub(super) start: Instant,
}

/// Carries a connection until one side ends it, or a fault does.
pub(super) async fn carry(client: TcpStream, server: SocketAddr, mut shared: Shared, seed: u64) {
    let Ok(Ok(upstream)) = tokio::time::timeout(ATTEMPT, TcpStream::connect(server)).await else {
        // What cannot be heard of cannot be known to be refused either.
        let _ = shared.rules.wait_for(|rules| !rules.down.cut).await;
        return;
    };
    for socket in [&client, &upstream] {
        // Without it connections are slower, and nothing else.
        let _ = socket.set_nodelay(true);
        if let Some(bytes) = shared.options.buffers {
            let socket = socket2::SockRef::from(socket);
            let _ = socket.set_recv_buffer_size(bytes);
            let _ = socket.set_send_buffer_size(bytes);
        }
    }
    let refused = shared.rules.clone();
    let reset = socket2::SockRef::from(&client).try_clone();
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = upstream.into_split();
    let up = direction(Way::Up, from_client, to_server, shared.clone(), seed);
    let down = direction(Way::Down, from_server, to_client, shared, !seed);
    tokio::select! {
        () = up => {}
        () = down => {}
        () = is_refused(refused) => {
            // A reset instead of an orderly end.
            if let Ok(socket) = reset {
                let _ = socket.set_linger(Some(Duration::ZERO));
            }
        }
    }
}

async fn is_refused(mut rules: watch::Receiver<Rules>) {
    // An error means that the proxy is over, and the connection with it.
    let _ = rules.wait_for(|rules| rules.refuse).await;
}

async fn direction(way: Way, mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut shared: Shared, seed: u64) {
    let mut splitter = Splitter::new(shared.options.wire);
    let mut lane = Lane::new(seed);
    let mut buffer = BytesMut::with_capacity(CHUNK);
    let mut out = BytesMut::new();
    let mut ended = false;
    loop {
        let side = side(way, &shared.rules.borrow_and_update());
        if (lane.torn || ended) && !side.cut {
            return;
        }
        lane.release(clock::now() - shared.start, &mut out);
        if !out.is_empty() && to.write_all(&out.split()).await.is_err() {
            ended = true;
        }
        let due = lane.next_due().unwrap_or(FOREVER + (clock::now() - shared.start));
        tokio::select! {
            changed = shared.rules.changed() => {
                if changed.is_err() {
                    return;
                }
            }
            () = sleep_until(shared.start + due) => {}
            read = from.read_buf(&mut buffer), if !ended => {
                ended = !matches!(read, Ok(1..));
                splitter.push(&buffer.split());
                ended |= pieces(&mut splitter, &mut lane, side, &shared, &mut out).is_err();
            }
        }
    }
}

fn pieces(
    splitter: &mut Splitter,
    lane: &mut Lane,
    side: Side,
    shared: &Shared,
    out: &mut BytesMut,
) -> anyhow::Result<()> {
    let now = clock::now() - shared.start;
    while let Some(mut piece) = splitter.next()? {
        if piece.kind == Kind::Info && shared.options.wire == Wire::Client {
            piece.bytes = without_addresses(&piece.bytes)?;
        }
        lane.take(piece, side, now, &shared.counters, out);
    }
    Ok(())
}

const fn side(way: Way, rules: &Rules) -> Side {
    match way {
        Way::Up => rules.up,
        Way::Down => rules.down,
    }
}
