//! Sessions in a process of their own, which the system can stop and kill as it does with a phone's.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};
use clap::Args;
use tokio::task::LocalSet;

use super::fleet::{Owned, issuer};
use super::session;

/// The secret that tokens are signed with.
const SECRET: &str = "HERENOW_CHAOS_SECRET";
const READY: &str = "ready";

/// What the process is told.
#[derive(Debug, Args)]
pub(crate) struct ClientsArguments {
    #[arg(long)]
    gateway: String,
    #[arg(long, value_delimiter = ',')]
    users: Vec<String>,
}

impl ClientsArguments {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        // Ends with its parent, however that ends: the pipe closes.
        std::thread::spawn(|| {
            let _ = std::io::stdin().read(&mut [0]);
            std::process::exit(0);
        });
        let issuer = issuer(&std::env::var(SECRET).context(SECRET)?);
        let tokens = self.users.iter().map(|user| issuer.token(user)).collect::<anyhow::Result<Vec<_>>>()?;
        let ready = || Ok(writeln!(std::io::stdout(), "{READY}")?);
        LocalSet::new().run_until(session::hold(&self.gateway, tokens, ready)).await
    }
}

/// Starts the process and waits until its sessions are open.
pub(super) async fn start(gateway: &str, users: &[String], secret: &str) -> anyhow::Result<Owned> {
    let child = Command::new(std::env::current_exe()?)
        .args(["chaos-clients", "--gateway", gateway, "--users", &users.join(",")])
        .env(SECRET, secret)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut process = Owned(child);
    let out = process.0.stdout.take().context("its output is piped")?;
    let said = tokio::task::spawn_blocking(move || {
        let mut line = String::new();
        BufReader::new(out).read_line(&mut line).map(|_| line)
    });
    ensure!(said.await??.trim() == READY, "the process of clients could not connect");
    Ok(process)
}
