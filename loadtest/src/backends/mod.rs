//! What one process with an embedded store does for backends: how many writes and reads it takes, how soon they are
//! answered, what they cost; and what `kill -9` leaves of what it acknowledged.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::Args;
use hdrhistogram::Histogram;

use crate::run::processes::processor;

mod http;
mod kills;
mod load;
mod process;

use load::{Plan, READ};
use process::{Place, Process};

/// Writes a second of 2 million an hour, which is what 10 million users make who each change every 5 hours.
const TWO_MILLION_AN_HOUR: f64 = 555.0;
/// The part of what it can do at which answers are timed.
const BUSY: f64 = 0.7;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Kill the process so often while it is written to, and look what is left, instead of timing it
    #[arg(long, default_value_t = 0, value_name = "TIMES")]
    kills: u32,
    /// How long each load is counted, after 3 seconds that are not
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    seconds: u64,
    /// Connections, each with one call at a time
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=4_096))]
    connections: u32,
    /// The `herenow` program. Default: the one beside this program
    #[arg(long, value_name = "FILE")]
    herenow: Option<PathBuf>,
    /// Write the figures as JSON to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

type Figures = BTreeMap<String, f64>;

impl Arguments {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let place = Place::new(self.herenow.as_deref())?;
        let figures = if self.kills > 0 {
            kills::run(&place, self.kills, self.connections).await?
        } else {
            self.loads(&place).await?
        };
        let mut out = std::io::stdout().lock();
        for (name, value) in &figures {
            writeln!(out, "{name}: {value:.3}")?;
        }
        if let Some(file) = &self.json {
            let text = serde_json::to_string_pretty(&figures)?;
            std::fs::write(file, text).with_context(|| format!("writing {}", file.display()))?;
        }
        Ok(())
    }

    async fn loads(&self, place: &Place) -> anyhow::Result<Figures> {
        let process = place.start().await?;
        let token = Place::token()?;
        let mut plan = Plan {
            at: process.at,
            first: 0,
            connections: self.connections,
            writes: Some(TWO_MILLION_AN_HOUR),
            warm_up: Duration::from_secs(3),
            lasts: Duration::from_secs(self.seconds),
        };
        let mut figures = Figures::new();
        self.load("2 million writes an hour", &mut plan, &process, &token, &mut figures).await?;
        plan.writes = None;
        let most = self.load("as much as it can", &mut plan, &process, &token, &mut figures).await?;
        plan.writes = Some(BUSY * most);
        self.load("at 70 % of that", &mut plan, &process, &token, &mut figures).await?;
        Ok(figures)
    }

    /// Drives one load; the writes a second that were answered.
    async fn load(
        &self,
        name: &str,
        plan: &mut Plan,
        process: &Process,
        token: &str,
        figures: &mut Figures,
    ) -> anyhow::Result<f64> {
        let mut before = (Duration::ZERO, Duration::ZERO);
        let outcome = load::drive(*plan, token, || before = (process.processor(), own())).await?;
        let spent = (process.processor() - before.0, own() - before.1);
        plan.first = outcome.next;
        let count = |histogram: &Histogram<u64>| u32::try_from(histogram.len()).map(f64::from);
        let (writes, reads) = (count(&outcome.writes)?, count(&outcome.reads)?);
        ensure!(writes > 0.0 && reads > 0.0, "{name}: nothing was answered");
        let seconds = plan.lasts.as_secs_f64();
        let users = f64::from(u32::try_from(READ)?);
        let mut tell = |what: &str, value: f64| figures.insert(format!("{name}: {what}"), value);
        tell("writes/s", writes / seconds);
        tell("users read/s", reads * users / seconds);
        for (what, histogram) in [("write", &outcome.writes), ("read of 100", &outcome.reads)] {
            for (label, quantile) in [("p50", 0.5), ("p99", 0.99)] {
                let micros = u32::try_from(histogram.value_at_quantile(quantile))?;
                tell(&format!("{what} {label}, ms"), f64::from(micros) / 1e3);
            }
        }
        tell("processor time for 1,000 calls, ms", 1e6 * spent.0.as_secs_f64() / (writes + reads));
        tell("cores of the process", spent.0.as_secs_f64() / seconds);
        tell("cores of the load", spent.1.as_secs_f64() / seconds);
        tell("memory, MiB", f64::from(u32::try_from(process.memory())?) / 1_024.0);
        progress(&format!("{name}: {:.0} writes/s", writes / seconds));
        Ok(writes / seconds)
    }
}

fn own() -> Duration {
    Duration::from_millis(processor(std::process::id()).unwrap_or(0))
}

/// Tells who waits.
fn progress(text: &str) {
    // Nobody may be there.
    let _ = writeln!(std::io::stderr(), "{text}");
}
