//! The benchmark: builds for release, runs the suite on this machine, and writes what it found into docs/BENCHMARKS.md
//! and into docs/benchmarks.json. It measures the service through its public protocol, by `herenow-loadtest`.

mod crossing;
mod figures;
mod highest;
pub(crate) mod machine;
mod page;
mod steps;
pub(crate) mod store;
mod suite;

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context as _, Result};
use clap::Args;
use serde_json::Value;

use crate::clock::Watch;
use crate::run::Run;
use crate::workspace::Workspace;
use crate::{counts, setup};
use figures::Figures;
use suite::{Kind, SUITE, Step};

#[derive(Args, Debug, Default)]
pub(crate) struct Options {
    /// How often each step is run; the page has medians, and from where to where the values went
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=99))]
    runs: u16,
    /// Only these steps; their sections are replaced, the others stay
    #[arg(long, value_delimiter = ',', value_name = "STEPS")]
    only: Vec<String>,
}

/// Runs the suite.
pub(crate) fn all(workspace: &Workspace, options: &Options) -> Result<()> {
    let steps = steps::chosen(&SUITE, &options.only)?;
    let watch = Watch::start();
    setup::nats_server(workspace)?;
    Run::cargo(workspace, ["build", "--release", "-p", "herenow", "-p", "herenow-loadtest"]).done()?;
    println!("built in {:.0} s", watch.elapsed().as_secs_f64());
    steps::measure(workspace, &steps, options.runs)
}

impl steps::Step for Step {
    fn name(&self) -> &'static str {
        self.name
    }

    fn what(&self) -> &'static str {
        self.what
    }

    fn command(&self) -> String {
        self.command()
    }

    fn measure(&self, workspace: &Workspace, runs: u16) -> Result<Figures> {
        let mut figures = Figures::default();
        match self.kind {
            Kind::Counts => counts::all(workspace, &counts::Options::default())?,
            Kind::Paths(arguments) => figures.extend(paths(workspace, arguments)?),
            Kind::Latency(arguments) => {
                for _ in 0..runs {
                    figures.add(figures::latency(&load(workspace, arguments, self.name)?)?);
                }
            }
            Kind::Highest(arguments, first) => {
                let at = |rate: f64| {
                    let rate = rate.to_string();
                    load(workspace, &[arguments, &["--flips", &rate]].concat(), self.name)
                };
                figures.add(highest::find(first, at)?);
            }
            Kind::Crossing(arguments) => {
                let with = |more: &[String]| {
                    let more: Vec<&str> = more.iter().map(String::as_str).collect();
                    load(workspace, &[arguments, &more].concat(), self.name)
                };
                figures.add(crossing::measure(with)?);
            }
            Kind::Load(arguments, read) => {
                for _ in 0..runs {
                    figures.add(read(&load(workspace, arguments, self.name)?)?);
                }
            }
        }
        Ok(figures)
    }
}

/// Runs the load test, in front of the user, and gives its result. One whose referee is not content is one that was
/// measured: its page says so.
fn load(workspace: &Workspace, arguments: &[&str], name: &str) -> Result<Value> {
    let release = workspace.target().join("release");
    let file = steps::result(workspace, name)?;
    let ended = Run::new(workspace, release.join("herenow-loadtest"))
        .env("HERENOW_NATS_SERVER", workspace.tool("nats-server"))
        .args(arguments)
        .arg("--json")
        .arg(&file)
        .done();
    let text = match (fs::read_to_string(&file), ended) {
        (Ok(text), _) => text,
        (Err(_), Err(why)) => return Err(why),
        (Err(why), Ok(())) => return Err(why).with_context(|| format!("reading {}", file.display())),
    };
    serde_json::from_str(&text).with_context(|| format!("reading {}", file.display()))
}

/// Times by criterion, which repeats by itself: the median of each path, in nanoseconds, and its interval.
fn paths(workspace: &Workspace, arguments: &[&str]) -> Result<BTreeMap<String, Vec<f64>>> {
    let cores = ["herenow-protocol", "herenow-gateway-core", "herenow-coordinator-core"];
    let packages = cores.into_iter().flat_map(|name| ["--package", name]);
    let folder = workspace.target().join("criterion");
    // Paths that are no more would be there for ever.
    let _ = fs::remove_dir_all(&folder);
    Run::cargo(workspace, ["bench"]).args(packages).arg("--").args(arguments).done()?;
    figures::criterion(&folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_chosen_by_name_and_an_odd_name_is_told() {
        assert_eq!(steps::chosen(&SUITE, &[]).unwrap().len(), SUITE.len());
        let some = steps::chosen(&SUITE, &["storm".to_owned(), "idle".to_owned()]).unwrap();
        assert_eq!(some.iter().map(|step| step.name).collect::<Vec<_>>(), ["idle", "storm"]);
        assert!(steps::chosen(&SUITE, &["stork".to_owned()]).unwrap_err().to_string().contains("stork"));
    }
}
