//! As much of HTTP as a test needs: one request a connection.

use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::PATIENCE;

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The stable code of a problem.
    pub fn code(&self) -> String {
        assert!(
            self.head.to_ascii_lowercase().contains("content-type: application/problem+json"),
            "{self:?}"
        );
        self.json()["code"].as_str().unwrap().to_owned()
    }
}

/// Sends bytes and reads the answer until the other side hangs up.
pub async fn exchange(address: SocketAddr, request: &[u8]) -> Option<Answer> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    // A refusal may come, and the other side hang up, before all was sent.
    let _ = stream.write_all(request).await;
    let mut bytes = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("an answer in time");
    let text = String::from_utf8_lossy(&bytes);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some(Answer { status, head: head.to_owned(), text: body.to_owned() })
}

fn head(method: &str, path: &str, token: Option<&str>) -> String {
    let token = token.map_or_else(String::new, |token| format!("Authorization: Bearer {token}\r\n"));
    format!("{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n{token}")
}

pub async fn get(address: SocketAddr, path: &str, token: Option<&str>) -> Answer {
    let request = format!("{}\r\n", head("GET", path, token));
    exchange(address, request.as_bytes()).await.expect("an answer")
}

pub async fn delete(address: SocketAddr, path: &str, token: Option<&str>) -> Answer {
    let request = format!("{}\r\n", head("DELETE", path, token));
    exchange(address, request.as_bytes()).await.expect("an answer")
}

pub async fn post(address: SocketAddr, path: &str, token: Option<&str>, body: &str) -> Answer {
    with_body("POST", address, path, token, body).await
}

pub async fn put(address: SocketAddr, path: &str, token: Option<&str>, body: &str) -> Answer {
    with_body("PUT", address, path, token, body).await
}

async fn with_body(method: &str, address: SocketAddr, path: &str, token: Option<&str>, body: &str) -> Answer {
    let (head, length) = (head(method, path, token), body.len());
    let request = format!("{head}Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}");
    exchange(address, request.as_bytes()).await.expect("an answer")
}

/// Encodes one segment of a path.
pub fn segment(text: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(byte);
    text.bytes()
        .map(|byte| if plain(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}
