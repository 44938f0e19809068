//! The benchmark: builds for release, runs the suite on this machine, and writes what it found into docs/BENCHMARKS.md
//! and into docs/benchmarks.json. It measures the service through its public protocol, by `herenow-loadtest`.

mod crossing;
mod figures;
mod highest;
pub(crate) mod machine;
mod page;
pub(crate) mod store;
mod suite;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde_json::{Value, json};

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
    let steps = chosen(&options.only)?;
    let watch = Watch::start();
    setup::nats_server(workspace)?;
    Run::cargo(workspace, ["build", "--release", "-p", "herenow", "-p", "herenow-loadtest"]).done()?;
    println!("built in {:.0} s", watch.elapsed().as_secs_f64());
    let watch = Watch::start();
    let place = machine::describe(workspace)?;
    let mut failed = Vec::new();
    for step in steps {
        println!("\n== {}: {}", step.name, step.what);
        match run(workspace, step, options.runs) {
            // Written at once, so that what was measured is not lost when a later one fails.
            Ok(figures) => {
                let head = Head { name: step.name, what: step.what, command: &step.command() };
                keep(workspace, &head, &place, options.runs, &figures)?;
            }
            Err(why) => failed.push(format!("{}: {why:#}", step.name)),
        }
    }
    println!("\n{:.0} s", watch.elapsed().as_secs_f64());
    if failed.is_empty() { Ok(()) } else { bail!("not measured:\n  {}", failed.join("\n  ")) }
}

fn chosen(only: &[String]) -> Result<Vec<&'static Step>> {
    if let Some(odd) = only.iter().find(|name| SUITE.iter().all(|step| step.name != **name)) {
        let names: Vec<_> = SUITE.iter().map(|step| step.name).collect();
        bail!("--only {odd}: there are {}", names.join(", "));
    }
    Ok(SUITE.iter().filter(|step| only.is_empty() || only.iter().any(|name| name == step.name)).collect())
}

/// Every figure of a step, by name, with one value of each run.
fn run(workspace: &Workspace, step: &Step, runs: u16) -> Result<Figures> {
    let mut figures = Figures::default();
    match step.kind {
        Kind::Counts => counts::all(workspace, &counts::Options::default())?,
        Kind::Paths(arguments) => figures.extend(paths(workspace, arguments)?),
        Kind::Latency(arguments) => {
            for _ in 0..runs {
                figures.add(figures::latency(&load(workspace, arguments, step.name)?)?);
            }
        }
        Kind::Highest(arguments, first) => {
            let at = |rate: f64| {
                let rate = rate.to_string();
                load(workspace, &[arguments, &["--flips", &rate]].concat(), step.name)
            };
            figures.add(highest::find(first, at)?);
        }
        Kind::Crossing(arguments) => {
            let with = |more: &[String]| {
                let more: Vec<&str> = more.iter().map(String::as_str).collect();
                load(workspace, &[arguments, &more].concat(), step.name)
            };
            figures.add(crossing::measure(with)?);
        }
        Kind::Load(arguments, read) => {
            for _ in 0..runs {
                figures.add(read(&load(workspace, arguments, step.name)?)?);
            }
        }
    }
    Ok(figures)
}

/// Runs the load test, in front of the user, and gives its result. One whose referee is not content is one that was
/// measured: its page says so.
fn load(workspace: &Workspace, arguments: &[&str], name: &str) -> Result<Value> {
    let release = workspace.target().join("release");
    let folder = workspace.target().join("bench");
    fs::create_dir_all(&folder)?;
    let file = folder.join(format!("{name}.json"));
    // One from before is none of this run.
    let _ = fs::remove_file(&file);
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

/// What a section is called, and how it was measured.
struct Head<'a> {
    name: &'a str,
    what: &'a str,
    command: &'a str,
}

/// Puts the section of a step into the page, and its figures among the others.
fn keep(workspace: &Workspace, head: &Head<'_>, place: &Value, runs: u16, figures: &Figures) -> Result<()> {
    let Head { name, what, command } = *head;
    let file = record(workspace);
    let text = fs::read_to_string(&file).unwrap_or_else(|_| "{}".to_owned());
    let mut record: Value = serde_json::from_str(&text).context("reading docs/benchmarks.json")?;
    record[name] = json!({ "machine": place, "command": command, "runs": runs, "figures": figures.json() });
    fs::write(&file, format!("{}\n", serde_json::to_string_pretty(&record)?))?;
    if figures.is_empty() {
        return Ok(());
    }
    let path = workspace.root().join("docs").join("BENCHMARKS.md");
    let page = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let section = page::section(what, command, place, runs, figures);
    fs::write(&path, page::replace(&page, name, &section))?;
    println!("written: docs/BENCHMARKS.md, {name}");
    Ok(())
}

fn record(workspace: &Workspace) -> PathBuf {
    workspace.root().join("docs").join("benchmarks.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_chosen_by_name_and_an_odd_name_is_told() {
        assert_eq!(chosen(&[]).unwrap().len(), SUITE.len());
        let some = chosen(&["storm".to_owned(), "idle".to_owned()]).unwrap();
        assert_eq!(some.iter().map(|step| step.name).collect::<Vec<_>>(), ["idle", "storm"]);
        assert!(chosen(&["stork".to_owned()]).unwrap_err().to_string().contains("stork"));
    }
}
