//! The port: one listening socket for each shard, the kernel shares connections out among them.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use axum::Router;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::http;
use crate::metrics::Handshake;
use crate::shard::Shard;

/// Connections the kernel holds for a shard until it takes them.
const BACKLOG: i32 = 4_096;
/// Before the next try when the system hands over no connection, as when descriptors ran out.
const RETRY: Duration = Duration::from_millis(20);

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
pub(crate) async fn accept(
    shard: Rc<Shard>,
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    router: Router,
) {
    loop {
        match listener.accept().await {
            Ok((socket, _)) => welcome(&shard, socket, tls.clone(), router.clone()),
            Err(why) => {
                tracing::debug!(%why, "no connection was handed over");
                shard.metrics().accept_errors.inc();
                tokio::time::sleep(RETRY).await;
            }
        }
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

fn welcome(shard: &Rc<Shard>, socket: TcpStream, tls: Option<TlsAcceptor>, router: Router) {
    let Some(counted) = InHandshake::enter(shard) else {
        shard.metrics().handshake(Handshake::Shed);
        return;
    };
    // Without it a small frame waits for the acknowledgement of the one before.
    if socket.set_nodelay(true).is_err() {
        return;
    }
    let shard = Rc::clone(shard);
    tokio::task::spawn_local(async move {
        match tls {
            None => Box::pin(http::serve(shard, router, socket)).await,
            Some(tls) => Box::pin(serve_tls(shard, router, socket, tls)).await,
        }
        drop(counted);
    });
}

async fn serve_tls(shard: Rc<Shard>, router: Router, socket: TcpStream, tls: TlsAcceptor) {
    let limit = shard.common.config.timeouts.tls;
    match tokio::time::timeout(limit, tls.accept(socket)).await {
        Ok(Ok(socket)) => http::serve(shard, router, socket).await,
        Ok(Err(_)) | Err(_) => shard.metrics().handshake(Handshake::Tls),
    }
}
