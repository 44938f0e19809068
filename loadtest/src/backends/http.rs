//! A connection of a backend that stays open: one call at a time.

use std::net::SocketAddr;
use std::ops::Range;

use anyhow::{Context as _, bail, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// More than any answer that is asked for here.
const MOST_BYTES: usize = 1024 * 1024;

/// The connection, and what was read of it.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    /// What every head has after its first line, up to the length of the body.
    headers: String,
    buffer: Vec<u8>,
    request: Vec<u8>,
}

impl Connection {
    pub(super) async fn open(at: SocketAddr, token: &str) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(at).await?;
        stream.set_nodelay(true)?;
        let headers = format!(
            " HTTP/1.1\r\nHost: {at}\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n\
             Content-Length: "
        );
        Ok(Self { stream, headers, buffer: Vec::new(), request: Vec::new() })
    }

    /// Makes a call, such as of `POST /status`, and gives the body of its answer.
    ///
    /// # Errors
    /// There is no whole answer, or one with another status than 200.
    pub(super) async fn call(&mut self, line: &str, body: &str) -> anyhow::Result<&[u8]> {
        self.request.clear();
        for part in [line, &self.headers, &body.len().to_string(), "\r\n\r\n", body] {
            self.request.extend_from_slice(part.as_bytes());
        }
        self.stream.write_all(&self.request).await?;
        self.buffer.clear();
        loop {
            ensure!(self.stream.read_buf(&mut self.buffer).await? > 0, "the connection was closed");
            if let Some((status, body)) = understand(&self.buffer)?
                && self.buffer.len() >= body.end
            {
                ensure!(status == 200, "{line}: {}", String::from_utf8_lossy(&self.buffer));
                return Ok(&self.buffer[body]);
            }
        }
    }
}

/// The status of an answer, and where its body is or will be; `None`: the head is not whole.
fn understand(answer: &[u8]) -> anyhow::Result<Option<(u16, Range<usize>)>> {
    let Some(head) = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
        ensure!(answer.len() < MOST_BYTES, "a head without an end");
        return Ok(None);
    };
    let text = std::str::from_utf8(&answer[..head])?;
    let mut lines = text.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).context("no status")?.parse()?;
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        if name.eq_ignore_ascii_case("content-length") {
            let length: usize = value.trim().parse()?;
            ensure!(length <= MOST_BYTES, "an answer of {length} B");
            return Ok(Some((status, head + 4..head + 4 + length)));
        }
    }
    bail!("an answer without its length")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_a_status_and_a_body_of_a_length() {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
        assert_eq!(understand(answer).unwrap(), Some((200, 38..40)));
        assert_eq!(understand(&answer[..30]).unwrap(), None);
        assert!(understand(b"HTTP/1.1 200 OK\r\n\r\n{}").is_err());
        assert!(understand(b"nonsense\r\n\r\n").is_err());
        assert!(understand(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n").is_err());
    }
}
