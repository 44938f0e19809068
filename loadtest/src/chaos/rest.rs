//! Calls of a backend, as docs/PROTOCOL.md §3 has them, written here by themselves: one connection for each call.

use std::fmt;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::wire::Record;

/// A call is given up after this.
const PATIENCE: Duration = Duration::from_secs(2);
/// More than any answer that is asked for here.
const MOST_BYTES: u64 = 4 * 1024 * 1024;

/// An answer that is not as the protocol says.
#[derive(Debug)]
pub(super) struct Broken(String);

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Broken {}

/// REST-3.
pub(super) async fn status(gateway: &str, token: &str, user: &str) -> anyhow::Result<Record> {
    let answer = call(gateway, token, &format!("GET /status/{user}"), None).await?;
    let record = Record::read(&answer).map_err(Broken)?;
    ensure!(record.user == user, Broken(format!("not {user}: {answer}")));
    Ok(record)
}

/// REST-5: in the order asked.
pub(super) async fn statuses(gateway: &str, token: &str, users: &[&str]) -> anyhow::Result<Vec<Record>> {
    let body = json!({"userIds": users}).to_string();
    let answer = call(gateway, token, "POST /statuses", Some(body)).await?;
    let list = answer["statuses"].as_array().ok_or_else(|| Broken(format!("no statuses: {answer}")))?;
    let records = list.iter().map(Record::read).collect::<Result<Vec<_>, _>>().map_err(Broken)?;
    let in_order = records.iter().map(|record| record.user.as_str()).eq(users.iter().copied());
    ensure!(in_order, Broken(format!("not the users asked for, in their order: {answer}")));
    Ok(records)
}

/// The body of an answer with 200.
async fn call(gateway: &str, token: &str, line: &str, body: Option<String>) -> anyhow::Result<Value> {
    let host = gateway.trim_start_matches("ws://");
    let body = body.unwrap_or_default();
    let request = format!(
        "{line} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = timeout(PATIENCE, exchange(host, &request)).await.context("no answer")??;
    let (status, body) = understand(&answer)?;
    ensure!(status == 200, "answered with {status}: {body}");
    Ok(serde_json::from_str(body).map_err(|_| Broken(format!("no JSON: {body}")))?)
}

async fn exchange(host: &str, request: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(host).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(MOST_BYTES).read_to_end(&mut answer).await?;
    Ok(String::from_utf8(answer)?)
}

/// Status and whole body of an answer that says its length.
fn understand(answer: &str) -> anyhow::Result<(u16, &str)> {
    let (head, body) = answer.split_once("\r\n\r\n").context("half an answer")?;
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).context("no status")?.parse()?;
    for line in lines {
        let (name, value) = line.split_once(':').context("no header")?;
        if name.eq_ignore_ascii_case("content-length") {
            ensure!(value.trim().parse() == Ok(body.len()), "half a body");
            return Ok((status, body));
        }
    }
    bail!("an answer without its length")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_its_status_and_its_whole_body() {
        let answer = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
        assert_eq!(understand(answer).unwrap(), (200, "{}"));
        for broken in [
            "",
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n{}",
            "HTTP/1.1 200 OK\r\n\r\n{}",
            "HTTP/1.1\r\ncontent-length: 2\r\n\r\n{}",
        ] {
            assert!(understand(broken).is_err(), "{broken:?}");
        }
    }
}
