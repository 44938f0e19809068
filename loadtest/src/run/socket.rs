//! Opening a socket: from which address, the handshake, and what a refusal says.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde_json::Value;
use tokio::net::TcpSocket;
use tokio_rustls::TlsConnector;

use super::stream::Stream;

/// Sockets from one source address to one destination: an address has some 28,000 ports, and searching for a free one
/// gets slow long before they are used up.
const PER_SOURCE: u32 = 2_000;
/// A head of an answer is not longer.
const HEAD_BYTES: usize = 16 * 1024;
/// The receive buffer of those who are to be slow, so that it is full soon.
const SLOW_BUFFER: u32 = 4_096;

/// Why there is no session.
#[derive(Debug)]
pub(super) enum Refused {
    /// The gateway answered with this status, and perhaps when to come back: it knows of no session.
    Status(u16, Option<Duration>),
    /// Nobody listens.
    Nobody,
    /// The connection broke: the gateway may know of a session or not.
    Broken(String),
}

impl From<std::io::Error> for Refused {
    fn from(error: std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::ConnectionRefused {
            return Self::Nobody;
        }
        Self::Broken(error.to_string())
    }
}

/// The address that a user of a worker connects from: on loopback there are many, elsewhere the system chooses.
pub(super) fn source(gateway: SocketAddr, worker: u32, user: u32) -> Option<IpAddr> {
    if !gateway.is_ipv4() || !gateway.ip().is_loopback() {
        return None;
    }
    // 127.x.y.z: x and y are the worker's, z is the user's.
    let [_, _, x, y] = worker.to_be_bytes();
    let z = 1 + u8::try_from(user / PER_SOURCE % 250).unwrap_or(0);
    Some(Ipv4Addr::new(127, 1 + x % 250, y, z).into())
}

/// Opens a socket and makes the handshake; with the bytes that came behind it. `secure`: under TLS, with the name that
/// the gateway is asked for by.
pub(super) async fn open(
    gateway: SocketAddr,
    from: Option<IpAddr>,
    slow: bool,
    secure: Option<(&TlsConnector, &str)>,
    request: &str,
) -> Result<(Stream, Vec<u8>), Refused> {
    let socket = if gateway.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if slow {
        socket.set_recv_buffer_size(SLOW_BUFFER)?;
    }
    if let Some(from) = from {
        socket.bind((from, 0).into())?;
    }
    let stream = socket.connect(gateway).await?;
    stream.set_nodelay(true)?;
    let mut stream = match secure {
        None => Stream::Plain(stream),
        Some((connector, authority)) => Stream::secure(stream, connector, authority).await?,
    };
    stream.write_all(request.as_bytes()).await?;
    let mut bytes = Vec::with_capacity(1_024);
    let end = loop {
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(Refused::Broken("closed in the handshake".to_owned()));
        }
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        if bytes.len() > HEAD_BYTES {
            return Err(Refused::Broken("the head of the answer does not end".to_owned()));
        }
    };
    let behind = bytes.split_off(end);
    match status(&bytes) {
        Some(101) => Ok((stream, behind)),
        Some(status) => Err(Refused::Status(status, wait(&bytes, &behind))),
        None => Err(Refused::Broken("the answer is not HTTP/1.1".to_owned())),
    }
}

fn status(head: &[u8]) -> Option<u16> {
    std::str::from_utf8(head.strip_prefix(b"HTTP/1.1 ")?.get(..3)?).ok()?.parse().ok()
}

/// When to come back (WS-5.1): to the millisecond where the body came with the head, else to the second.
fn wait(head: &[u8], body: &[u8]) -> Option<Duration> {
    let millis = serde_json::from_slice::<Value>(body).ok().and_then(|body| body["retryAfterMs"].as_u64());
    if let Some(millis) = millis {
        return Some(Duration::from_millis(millis));
    }
    let text = String::from_utf8_lossy(head);
    let header = text.lines().filter_map(|line| line.split_once(':'));
    let mut header = header.filter(|(name, _)| name.eq_ignore_ascii_case("retry-after"));
    header.next()?.1.trim().parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_have_their_own_addresses_on_loopback_only() {
        let gateway = SocketAddr::from(([127, 0, 0, 1], 8_080));
        assert_eq!(source(gateway, 0, 0), source(gateway, 0, PER_SOURCE - 1));
        assert!(source(gateway, 0, PER_SOURCE) != source(gateway, 0, 2 * PER_SOURCE));
        assert!(source(gateway, 0, 0) != source(gateway, 1, 0));
        assert_eq!(source(SocketAddr::from(([10, 0, 0, 1], 8_080)), 0, 0), None);
    }

    #[test]
    fn an_answer_says_its_status_and_when_to_come_back() {
        let head = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 3\r\n\r\n";
        assert_eq!(status(head), Some(503));
        assert_eq!(wait(head, b""), Some(Duration::from_secs(3)));
        assert_eq!(wait(head, br#"{"retryAfterMs":1250}"#), Some(Duration::from_millis(1_250)));
        assert_eq!(status(b"SSH-2.0"), None);
    }
}
