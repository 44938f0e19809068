//! The port: one listening socket for each shard, the kernel shares connections out among them.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use axum::Router;
use futures::FutureExt as _;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};

use crate::http;
use crate::metrics::Handshake;
use crate::shard::Shard;
use crate::tls::Acceptor;

/// Connections the kernel holds for a shard until it takes them.
const BACKLOG: i32 = 4_096;
/// So much the system keeps of what was not sent yet, in bytes. More would only grow old there: what the gateway keeps
/// itself becomes one record for each user. And the system says only at half of it that a socket takes more, which a
/// client with a narrow link must reach within the time that a socket may take nothing.
#[cfg(target_os = "linux")]
const UNSENT: u32 = 16 * 1024;
/// Before the next try when the system hands over no connection, as when descriptors ran out.
const RETRY: Duration = Duration::from_millis(20);
/// How many are hung up on before each such pause, when descriptors ran out.
const HUNG_UP_AT_ONCE: usize = 16;
/// What the system says when the process, or the whole machine, has no descriptor left.
const OUT_OF_DESCRIPTORS: [i32; 2] = [24, 23];

/// Opens one socket for each shard on the same address; with port 0, on one that is free.
pub(crate) fn bind(address: SocketAddr, shards: u16) -> io::Result<Vec<std::net::TcpListener>> {
    let first = bind_one(address)?;
    let address = first.local_addr()?;
    let mut all = vec![first];
    for _ in 1..shards {
        all.push(bind_one(address)?);
    }
    Ok(all)
}

fn bind_one(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Takes connections until the task is aborted.
pub(crate) async fn accept(shard: Rc<Shard>, listener: TcpListener, tls: Option<Acceptor>, router: Router) {
    let mut reserve = Reserve::of(&listener);
    loop {
        match listener.accept().await {
            Ok((socket, _)) => welcome(&shard, socket, tls.clone(), router.clone()),
            Err(why) => {
                tracing::debug!(%why, "no connection was handed over");
                shard.metrics().accept_errors.inc();
                if why.raw_os_error().is_some_and(|code| OUT_OF_DESCRIPTORS.contains(&code)) {
                    let hung_up = reserve.hang_up(&listener);
                    (0..hung_up).for_each(|_| shard.metrics().handshake(Handshake::Shed));
                }
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

/// A descriptor that is there for the moment when there are no others: without one not even a refusal is possible, and
/// clients that connect would wait for an answer until they give up.
struct Reserve(Option<Socket>);

impl Reserve {
    fn of(listener: &TcpListener) -> Self {
        Self(SockRef::from(listener).try_clone().ok())
    }

    /// Hangs up on those who wait, on a few at once; how many.
    fn hang_up(&mut self, listener: &TcpListener) -> usize {
        let one = |reserve: &mut Self| {
            // Others may be faster to take what is given up here; then there is nobody to hang up on this time.
            reserve.0 = None;
            let taken = listener.accept().now_or_never();
            let hung_up = matches!(taken, Some(Ok(_)));
            drop(taken);
            *reserve = Self::of(listener);
            hung_up
        };
        (0..HUNG_UP_AT_ONCE).take_while(|_| one(self)).count()
    }
}

/// Counts a connection that is no session.
struct InHandshake(Rc<Shard>);

impl InHandshake {
    fn enter(shard: &Rc<Shard>) -> Option<Self> {
        let count = shard.handshakes.get();
        (count < shard.common.config.caps.handshakes).then(|| {
            shard.handshakes.set(count + 1);
            Self(Rc::clone(shard))
        })
    }
}

impl Drop for InHandshake {
    fn drop(&mut self) {
        self.0.handshakes.set(self.0.handshakes.get() - 1);
    }
}

fn welcome(shard: &Rc<Shard>, socket: TcpStream, tls: Option<Acceptor>, router: Router) {
    let Some(counted) = InHandshake::enter(shard) else {
        shard.metrics().handshake(Handshake::Shed);
        return;
    };
    // Without it a small frame waits for the acknowledgement of the one before.
    if socket.set_nodelay(true).is_err() {
        return;
    }
    keep_little_unsent(&socket);
    let shard = Rc::clone(shard);
    tokio::task::spawn_local(async move {
        match tls {
            None => Box::pin(http::serve(shard, router, socket)).await,
            Some(tls) => Box::pin(serve_tls(shard, router, socket, tls)).await,
        }
        drop(counted);
    });
}

/// Without it slow clients are told later, and nothing else.
fn keep_little_unsent(socket: &TcpStream) {
    #[cfg(target_os = "linux")]
    let _ = SockRef::from(socket).set_tcp_notsent_lowat(UNSENT);
    #[cfg(not(target_os = "linux"))]
    let _ = socket;
}

async fn serve_tls(shard: Rc<Shard>, router: Router, socket: TcpStream, tls: Acceptor) {
    let limit = shard.common.config.timeouts.tls;
    match tokio::time::timeout(limit, tls.accept(socket)).await {
        Ok(Ok(socket)) => http::serve(shard, router, socket).await,
        Ok(Err(_)) | Err(_) => shard.metrics().handshake(Handshake::Tls),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    #[tokio::test]
    async fn without_descriptors_a_few_at_once_are_hung_up_on_and_the_reserve_is_there_again() {
        let listener = bind("127.0.0.1:0".parse().unwrap(), 1).unwrap().remove(0);
        let listener = TcpListener::from_std(listener).unwrap();
        let mut clients = Vec::new();
        for _ in 0..=HUNG_UP_AT_ONCE {
            clients.push(TcpStream::connect(listener.local_addr().unwrap()).await.unwrap());
        }
        let mut reserve = Reserve::of(&listener);
        // As the listener does: it finds out only by trying that somebody waits.
        let (first, _) = listener.accept().await.unwrap();
        assert_eq!(reserve.hang_up(&listener), HUNG_UP_AT_ONCE);
        assert_eq!(reserve.hang_up(&listener), 0);
        assert!(reserve.0.is_some());
        let told = clients[1].read(&mut [0]).await;
        assert!(matches!(told, Ok(0) | Err(_)), "{told:?}");
        let kept = clients[0].read(&mut [0]).now_or_never();
        assert!(kept.is_none(), "{kept:?}");
        drop(first);
    }
}
