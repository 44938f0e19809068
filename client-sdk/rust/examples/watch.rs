//! Follows users and prints what changes.
//!
//! ```sh
//! HERENOW_TOKEN=… cargo run -p herenow-client --example watch -- ws://127.0.0.1:8080 ana ben
//! ```
#![allow(clippy::print_stdout, reason = "an example that prints")]

use anyhow::Context;
use futures::StreamExt;
use herenow_client::{Activity, Client, ClientOptions, DeviceKind};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().context("usage: watch URL USER…")?;
    let users: Vec<String> = arguments.collect();

    // A real application asks its backend for a token here, each time it is called.
    let token = || async { std::env::var("HERENOW_TOKEN") };
    let options =
        ClientOptions::new(url, token).device("example", DeviceKind::Server).activity(Activity::Active);
    let client = Client::connect(options).await?;

    let mut changes = client.watch(&users)?;
    let mut states = client.connection_state();
    let mut problems = client.problems();
    loop {
        tokio::select! {
            Some(change) = changes.next() => {
                let presence = change.presence;
                let since = presence.last_updated.map_or_else(|| "ever".to_owned(), |time| time.to_string());
                println!("{} is {:?} since {since}", presence.user_id, presence.status);
            }
            Some(state) = states.next() => println!("connection: {state:?}"),
            Some(problem) = problems.next() => println!("problem: {problem}"),
            _ = tokio::signal::ctrl_c() => break,
        }
    }
    client.close().await;
    Ok(())
}
