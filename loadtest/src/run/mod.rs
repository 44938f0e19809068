//! `run`: a scenario against a deployment, by many processes, with a truth that is known and a referee.

mod chance;
mod compare;
mod crew;
mod graph;
mod page;
mod person;
mod plan;
pub(crate) mod processes;
mod referee;
mod result;
mod scenario;
mod session;
mod socket;
mod stream;
mod svg;
mod tally;
mod truth;
mod wire;
mod worker;
mod world;

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use clap::Args;

use self::crew::Crew;
use self::processes::{Seen, Subject};
use self::result::{FORMAT, Measured, Outcome, Second, faults, millis};
use self::scenario::{SOCKETS_PER_WORKER, Scenario, Target};
use self::stream::Trust;
use self::tally::Tick;
use self::worker::Job;
pub(crate) use self::worker::process as worker;
use crate::clock;
use crate::cluster::{Cluster, Size};

/// What to do.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  herenow-loadtest run loadtest/scenarios/cliques.toml --spawn
      Starts nats-server, two coordinators and two gateways as processes of this machine, and loads them.
  herenow-loadtest run mine.toml --json mine.json
      Loads the deployment that the scenario names under [target].
Ends with 1 when the referee found anything that the scenario does not allow.")]
pub(crate) struct Arguments {
    /// What to do, as TOML; see loadtest/scenarios
    scenario: PathBuf,
    /// Start a cluster of processes on this machine, instead of [target]
    #[arg(long)]
    spawn: bool,
    /// How many gateways are started
    #[arg(long, default_value_t = 2, requires = "spawn", value_parser = clap::value_parser!(u16).range(1..=200))]
    gateways: u16,
    /// How many coordinators are started
    #[arg(long, default_value_t = 2, requires = "spawn", value_parser = clap::value_parser!(u16).range(1..=20))]
    coordinators: u16,
    /// The `herenow` program to start. Default: the one beside this program
    #[arg(long, value_name = "FILE", requires = "spawn")]
    herenow: Option<PathBuf>,
    /// A setting for the started processes, as in a configuration file: gateway.core.flush_window=0s
    #[arg(long, value_name = "KEY=VALUE", requires = "spawn")]
    set: Vec<String>,
    /// The started gateways speak TLS, with a certificate made for this run
    #[arg(long, requires = "spawn")]
    tls: bool,
    /// Another number of people than the scenario's; rates are scaled with it
    #[arg(long)]
    sessions: Option<u32>,
    /// Another rate of flips than the scenario's, a second
    #[arg(long, value_parser = rate)]
    flips: Option<f64>,
    /// Nobody reads slowly, whatever the scenario says
    #[arg(long)]
    all_read: bool,
    /// Another seed than the scenario's
    #[arg(long)]
    seed: Option<u64>,
    /// Most sockets of one worker process
    #[arg(long, default_value_t = SOCKETS_PER_WORKER)]
    per_worker: u32,
    /// Write the result as JSON to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the result as one page with plots to this file
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// No line for each second
    #[arg(long)]
    quiet: bool,
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate: &f64| rate.is_finite() && *rate >= 0.0);
    rate.ok_or_else(|| "a number of 0 and more is wanted".to_owned())
}

/// A result as a page.
#[derive(Debug, Args)]
pub(crate) struct ReportArguments {
    /// What `run --json` wrote
    result: PathBuf,
    /// Where the page goes
    #[arg(long, value_name = "FILE")]
    html: PathBuf,
}

impl ReportArguments {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        write_page(&self.html, &read(&self.result)?)
    }
}

/// Two results beside each other.
#[derive(Debug, Args)]
pub(crate) struct CompareArguments {
    /// What `run --json` wrote first
    first: PathBuf,
    /// And what it wrote then
    second: PathBuf,
}

impl CompareArguments {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let table = compare::table(&read(&self.first)?, &read(&self.second)?);
        Ok(write!(std::io::stdout().lock(), "{table}")?)
    }
}

fn read(file: &Path) -> anyhow::Result<Outcome> {
    let context = || format!("{} is no result of a load", file.display());
    let outcome: Outcome =
        serde_json::from_str(&std::fs::read_to_string(file).with_context(context)?).with_context(context)?;
    ensure!(outcome.format == FORMAT, "{}: format {}, want {FORMAT}", file.display(), outcome.format);
    Ok(outcome)
}

fn write_page(file: &Path, outcome: &Outcome) -> anyhow::Result<()> {
    std::fs::write(file, page::page(outcome)).with_context(|| format!("{} cannot be written", file.display()))
}

/// The deployment, and how to be let in.
struct Place {
    gateways: Vec<(SocketAddr, String)>,
    trust: Option<Trust>,
    algorithm: String,
    key: String,
    issuer: Option<String>,
    audience: Option<String>,
    subjects: Vec<Subject>,
    words: String,
    /// Ends when it is dropped.
    _cluster: Option<Cluster>,
}

impl Arguments {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let mut scenario = Scenario::read(&self.scenario)?;
        if let Some(sessions) = self.sessions {
            scenario.resize(sessions);
        }
        scenario.rates.flips = self.flips.unwrap_or(scenario.rates.flips);
        scenario.slow = scenario.slow.filter(|_| !self.all_read);
        scenario.seed = self.seed.unwrap_or(scenario.seed);
        scenario.check()?;
        let place = if self.spawn { self.start().await? } else { reach(&scenario).await? };
        let outcome = self.load(&scenario, &place).await?;
        // The processes end before the result is told, so that nothing of them remains when it is read.
        drop(place);
        if let Some(file) = &self.json {
            let json = serde_json::to_string(&outcome)?;
            std::fs::write(file, json).with_context(|| format!("{} cannot be written", file.display()))?;
        }
        if let Some(file) = &self.html {
            write_page(file, &outcome)?;
        }
        write!(std::io::stdout().lock(), "{outcome}")?;
        ensure!(outcome.faults.is_empty(), "the referee is not content");
        Ok(())
    }

    async fn start(&self) -> anyhow::Result<Place> {
        let size = Size { coordinators: self.coordinators, gateways: self.gateways };
        let cluster = Cluster::start(self.herenow.as_deref(), &self.set, size, self.tls).await?;
        let subjects = cluster.pids().into_iter().map(|(name, pid)| {
            let class = match name.split('-').next() {
                Some("gateway") => "gateway",
                Some("coordinator") => "coordinator",
                _ => "nats",
            };
            Subject { name, class, pid }
        });
        let (issuer, audience) = Cluster::names();
        Ok(Place {
            gateways: cluster.addresses().iter().map(|address| (*address, address.to_string())).collect(),
            trust: cluster.certificate().map(|text| Trust::Only(text.to_owned())),
            algorithm: "HS256".to_owned(),
            key: cluster.secret().to_owned(),
            issuer: Some(issuer),
            audience: Some(audience),
            subjects: subjects.collect(),
            words: format!(
                "{} gateways{} and {} coordinators of this machine",
                self.gateways,
                if self.tls { " with TLS" } else { "" },
                self.coordinators
            ),
            _cluster: Some(cluster),
        })
    }

    async fn load(&self, scenario: &Scenario, place: &Place) -> anyhow::Result<Outcome> {
        let workers = scenario.workers(self.per_worker);
        let began = clock::unix_seconds();
        let prefix = match &scenario.target.prefix {
            Some(prefix) => prefix.clone(),
            None => format!("load-{began:x}-"),
        };
        let job = |index| Job {
            index,
            scenario: scenario.part(index, workers),
            gateways: place.gateways.clone(),
            trust: place.trust.clone(),
            algorithm: place.algorithm.clone(),
            key: place.key.clone(),
            issuer: place.issuer.clone(),
            audience: place.audience.clone(),
            prefix: prefix.clone(),
        };
        let crew = Crew::start((0..workers).map(job).collect()).await?;
        let mut subjects = place.subjects.clone();
        subjects.extend((1..).zip(crew.pids()).map(|(number, pid)| Subject {
            name: format!("load-{number}"),
            class: "load",
            pid,
        }));
        let mut processes: Vec<Seen> = subjects.iter().map(Seen::of).collect();
        let mut look =
            || processes.iter_mut().zip(&subjects).for_each(|(seen, subject)| seen.look(subject.pid));
        let mut seconds = Vec::new();
        look();
        let gathered = crew.run(|tick| {
            look();
            seconds.push(Second::of(tick));
            if !self.quiet {
                progress(scenario, tick);
            }
        });
        let gathered = gathered.await?;
        let before = Measured::of(gathered.before.0, &gathered.before.1);
        let measured = Measured::of(gathered.measured.0, &gathered.measured.1);
        let (cores, memory_kib, processor) = processes::machine();
        Ok(Outcome {
            format: FORMAT,
            faults: faults(scenario, &measured, &gathered.end),
            scenario: scenario.clone(),
            workers,
            began,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            cores,
            memory_kib,
            processor,
            target: place.words.clone(),
            before,
            measured,
            end: gathered.end,
            seconds,
            processes,
        })
    }
}

/// One line about a second, to the standard error stream.
fn progress(scenario: &Scenario, tick: &Tick) {
    let latency = result::Spread::of(&tick.spreads.latency);
    let line = format!(
        "{:>4} s {:<8} sessions {}/{}  changes {}  deliveries {}  p50 {}  p99 {}  wrong {}  blind {}  \
         unexplained {}  forced {}  failed {}\n",
        tick.second,
        tick.phase.word(),
        tick.sessions,
        scenario.people.sessions,
        tick.counts.changes,
        tick.counts.deliveries,
        millis(latency.p50),
        millis(latency.p99),
        tick.wrong_now,
        tick.blind_now,
        tick.counts.unexplained,
        tick.counts.all_forced(),
        tick.counts.failed,
    );
    // Who cannot read it misses a line of progress.
    let _ = std::io::stderr().lock().write_all(line.as_bytes());
}

/// A deployment that runs.
async fn reach(scenario: &Scenario) -> anyhow::Result<Place> {
    let target = &scenario.target;
    ensure!(!target.gateways.is_empty(), "target.gateways: name them, or use --spawn");
    let mut gateways = Vec::new();
    let mut kind = None;
    for url in &target.gateways {
        let uri: http::Uri = url.parse().with_context(|| format!("target.gateways: {url}"))?;
        let secure = uri.scheme_str() == Some("wss");
        let spoken = matches!(uri.scheme_str(), Some("ws" | "wss"));
        ensure!(spoken, "target.gateways: {url}: want ws:// or wss://");
        ensure!(kind.is_none_or(|kind| kind == secure), "target.gateways: all ws:// or all wss://");
        kind = Some(secure);
        let authority = uri.authority().with_context(|| format!("target.gateways: {url}"))?;
        let asked =
            (authority.host().to_owned(), authority.port_u16().unwrap_or(if secure { 443 } else { 80 }));
        let found = tokio::net::lookup_host(asked).await.with_context(|| url.clone())?.next();
        gateways.push((found.with_context(|| format!("{url}: no address"))?, authority.to_string()));
    }
    let algorithm = target.algorithm.clone().unwrap_or_else(|| "HS256".to_owned());
    let key = match (&target.token_secret_file, &target.token_key_file) {
        (Some(file), None) if algorithm == "HS256" => first_line(file)?,
        (None, Some(file)) if algorithm != "HS256" => std::fs::read_to_string(file)
            .with_context(|| format!("target.token_key_file: {} cannot be read", file.display()))?,
        _ => bail!("target: HS256 needs token_secret_file, any other algorithm needs token_key_file"),
    };
    Ok(Place {
        gateways,
        trust: trust(target, kind == Some(true))?,
        algorithm,
        key,
        issuer: target.issuer.clone(),
        audience: target.audience.clone(),
        subjects: Vec::new(),
        words: target.gateways.join(" "),
        _cluster: None,
    })
}

/// Whose certificates are believed, where TLS is spoken.
fn trust(target: &Target, secure: bool) -> anyhow::Result<Option<Trust>> {
    let read = |file: &Path| {
        std::fs::read_to_string(file)
            .with_context(|| format!("target.tls_ca_file: {} cannot be read", file.display()))
    };
    Ok(match &target.tls_ca_file {
        _ if !secure => None,
        None => Some(Trust::System),
        Some(file) => Some(Trust::Only(read(file)?)),
    })
}

fn first_line(file: &Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("target.token_secret_file: {} cannot be read", file.display()))?;
    Ok(text.lines().next().unwrap_or_default().trim().to_owned())
}
