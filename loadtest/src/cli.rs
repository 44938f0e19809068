//! The command line.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use clap::{Args, Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

use crate::backends;
use crate::chaos;
use crate::cluster::{Cluster, Size};
use crate::latency::{self, Plan};
use crate::report::Report;
use crate::run;
use crate::token::Issuer;

/// Measures a running Herenow from outside.
#[derive(Debug, Parser)]
#[command(version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// From a change to its watcher: one gateway's session changes, another's watcher sees it
    Latency(Latency),
    /// Backends that write and read over REST, against one process with an embedded store; or its `kill -9` meanwhile
    Backends(backends::Arguments),
    /// Breaks a cluster of processes in one way after another, and judges from outside what watchers were shown
    Chaos(chaos::Arguments),
    /// Sessions in a process of their own, for `chaos` to stop and to kill
    #[command(hide = true)]
    ChaosClients(chaos::ClientsArguments),
    /// A load of many sessions whose truth is known, from a scenario; judges every watcher's view all the time
    Run(Box<run::Arguments>),
    /// A page with plots from the JSON of a run
    Report(run::ReportArguments),
    /// Two runs beside each other, from their JSON
    Compare(run::CompareArguments),
    /// One process of a load
    #[command(hide = true)]
    Worker,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  herenow-loadtest latency
      Starts nats-server, two coordinators and two gateways as processes of this machine, measures, stops them.
  herenow-loadtest latency --gateways ws://10.0.0.1:8080,ws://10.0.0.2:8080 --token-secret-file secret \\
      --issuer https://login.example.com --audience herenow")]
struct Latency {
    /// Gateways: the watched users connect to the first, the watcher to the last. Not given: a cluster is started
    #[arg(long, value_delimiter = ',', value_name = "URLS")]
    gateways: Vec<String>,
    /// Changes to measure
    #[arg(long, default_value_t = 1_000)]
    changes: u32,
    /// Changes a second, over all users
    #[arg(long, default_value_t = 50.0)]
    rate: f64,
    /// Watched users; each takes its turn. A gateway accepts 20 frames a second from one session by default
    #[arg(long, default_value_t = 10)]
    users: u32,
    /// Changes before those that count
    #[arg(long, default_value_t = 20)]
    warm_up: u32,
    /// How long the last changes are waited for
    #[arg(long, default_value = "5s", value_parser = humantime::parse_duration)]
    patience: Duration,
    /// A file whose first line is the HS256 secret that tokens are signed with
    #[arg(long, value_name = "FILE", requires = "gateways")]
    token_secret_file: Option<PathBuf>,
    /// The tokens' issuer
    #[arg(long, requires = "gateways")]
    issuer: Option<String>,
    /// The tokens' audience
    #[arg(long, requires = "gateways")]
    audience: Option<String>,
    /// The `herenow` program, when a cluster is started. Default: the one beside this program
    #[arg(long, value_name = "FILE")]
    herenow: Option<PathBuf>,
    /// A setting for the started processes, as in a configuration file: gateway.core.flush_window=0s
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Write the result as JSON to this file; `-`: to the standard output, instead of the text
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

impl Cli {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let work = async {
            match self.command {
                Command::Latency(arguments) => Box::pin(arguments.run()).await,
                Command::Backends(arguments) => Box::pin(arguments.run()).await,
                Command::Chaos(arguments) => Box::pin(arguments.run()).await,
                Command::ChaosClients(arguments) => Box::pin(arguments.run()).await,
                Command::Run(arguments) => Box::pin(arguments.run()).await,
                Command::Report(arguments) => arguments.run(),
                Command::Compare(arguments) => arguments.run(),
                Command::Worker => Box::pin(run::worker()).await,
            }
        };
        // Dropping the work ends the processes that it started.
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            done = work => done,
            _ = terminate.recv() => bail!("ended by SIGTERM"),
            pressed = tokio::signal::ctrl_c() => {
                pressed?;
                bail!("ended by SIGINT")
            }
        }
    }
}

impl Latency {
    async fn run(self) -> anyhow::Result<()> {
        ensure!((0.01..=1e6).contains(&self.rate), "--rate: 0.01 to 1000000 changes a second");
        ensure!(self.users > 0 && self.changes > 0, "--users, --changes: at least 1");
        let (plan, cluster) = self.prepare().await?;
        let outcome = latency::run(&plan).await;
        // The processes end before the result is told, so that nothing of them remains when it is read.
        drop(cluster);
        let report = Report::of("latency", &plan, &outcome?);
        self.tell(&report)
    }

    async fn prepare(&self) -> anyhow::Result<(Plan, Option<Cluster>)> {
        let (first, last, issuer, cluster) = if let (Some(first), Some(last)) =
            (self.gateways.first(), self.gateways.last())
        {
            let file =
                self.token_secret_file.as_deref().context("--token-secret-file: needed with --gateways")?;
            let issuer =
                Issuer::new(first_line(file)?.as_bytes(), self.issuer.clone(), self.audience.clone());
            (first.clone(), last.clone(), issuer, None)
        } else {
            let size = Size { coordinators: 2, gateways: 2 };
            let cluster = Cluster::start(self.herenow.as_deref(), &self.set, size, false).await?;
            let [first, last] = &cluster.gateways()[..] else { bail!("two gateways were to start") };
            (first.clone(), last.clone(), cluster.issuer(), Some(cluster))
        };
        let plan = Plan {
            watched_gateway: first,
            watcher_gateway: last,
            issuer,
            users: self.users,
            warm_up: self.warm_up,
            changes: self.changes,
            rate: self.rate,
            patience: self.patience,
        };
        Ok((plan, cluster))
    }

    fn tell(&self, report: &Report) -> anyhow::Result<()> {
        let json = serde_json::to_string_pretty(report)?;
        let mut out = std::io::stdout().lock();
        if self.json.as_deref() == Some(Path::new("-")) {
            return Ok(writeln!(out, "{json}")?);
        }
        write!(out, "{report}")?;
        if let Some(file) = &self.json {
            std::fs::write(file, json)
                .with_context(|| format!("--json: {} cannot be written", file.display()))?;
        }
        Ok(())
    }
}

fn first_line(file: &Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("--token-secret-file: {} cannot be read", file.display()))?;
    let line = text.lines().next().unwrap_or_default().trim();
    ensure!(!line.is_empty(), "--token-secret-file: {} is empty", file.display());
    Ok(line.to_owned())
}
