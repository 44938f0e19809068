//! What a process says of itself on its admin listener.

use std::net::SocketAddr;

use anyhow::Context as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

pub(super) async fn is_ready(admin: SocketAddr) -> bool {
    get(admin, "/readyz").await.is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}

/// The date in the head of an answer: the clock of the process.
pub(super) async fn date(admin: SocketAddr) -> anyhow::Result<String> {
    let answer = get(admin, "/livez").await?;
    let lines = answer.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("date").then(|| value.trim().to_owned())
    });
    lines.context("the answer has no date")
}

/// The sum of a metric over all its labels that hold this text.
pub(super) async fn metric(admin: SocketAddr, name: &str, label: &str) -> anyhow::Result<f64> {
    Ok(sum(&get(admin, "/metrics").await?, name, label))
}

fn sum(text: &str, name: &str, label: &str) -> f64 {
    let values = text.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let (labels, value) = rest.rsplit_once(' ')?;
        let own = labels.is_empty() || labels.starts_with('{');
        (own && labels.contains(label)).then(|| value.trim().parse::<f64>().ok()).flatten()
    });
    values.sum()
}

async fn get(admin: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(admin).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_summed_over_its_labels_and_not_over_its_namesakes() {
        let text = "# HELP a x\na_total{shard=\"0\"} 2\na_total{shard=\"1\"} 3\na_total_more 7\nb 1.5\n";
        assert!((sum(text, "a_total", "") - 5.0).abs() < f64::EPSILON);
        assert!((sum(text, "a_total", "shard=\"1\"") - 3.0).abs() < f64::EPSILON);
        assert!((sum(text, "b", "") - 1.5).abs() < f64::EPSILON);
        assert!(sum(text, "c", "").abs() < f64::EPSILON);
    }
}
