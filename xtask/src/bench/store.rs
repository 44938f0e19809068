//! What is kept, measured: by the real program, and engine by engine; each step writes its section.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use clap::Args;

use super::figures::Figures;
use super::{Head, keep, machine};
use crate::clock::Watch;
use crate::run::Run;
use crate::workspace::Workspace;

#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Only these steps; their sections are replaced, the others stay
    #[arg(long, value_delimiter = ',', value_name = "STEPS")]
    only: Vec<String>,
}

/// A step: what it is called, the program, and what it is told.
#[derive(Debug)]
struct Step {
    name: &'static str,
    what: &'static str,
    program: &'static str,
    arguments: &'static [&'static str],
}

/// All together it is meant to take less than 25 minutes; it was run step by step only.
const STEPS: [Step; 5] = [
    Step {
        name: "store-backends",
        what: "Backends: one process with the embedded store, 20 writes for every read of 100 users",
        program: "herenow-loadtest",
        arguments: &["backends"],
    },
    Step {
        name: "store-kills",
        what: "`kill -9` while backends write as much as they can: what is left",
        program: "herenow-loadtest",
        arguments: &["backends", "--kills", "20"],
    },
    Step {
        name: "store-embedded",
        what: "10 million users in the embedded store",
        program: "examples/measure",
        arguments: &["target/bench-store", "10"],
    },
    Step {
        name: "store-engines",
        what: "Redis, PostgreSQL and Cassandra, beside plain loops over their drivers",
        program: "examples/engines",
        arguments: &[],
    },
    Step {
        name: "store-near",
        what: "A reader's cache whose times follow each user, beside one time for everybody",
        program: "examples/adaptive",
        arguments: &[],
    },
];

/// Runs the steps.
pub(crate) fn all(workspace: &Workspace, options: &Options) -> Result<()> {
    let steps = chosen(&options.only)?;
    let watch = Watch::start();
    Run::cargo(workspace, ["build", "--release", "-p", "herenow", "-p", "herenow-loadtest"]).done()?;
    Run::cargo(workspace, ["build", "--release", "-p", "herenow-store", "--examples"])
        .args(["--features", "testing,near,redis,postgres,cassandra"])
        .done()?;
    println!("built in {:.0} s", watch.elapsed().as_secs_f64());
    let watch = Watch::start();
    let place = machine::describe(workspace)?;
    let mut failed = Vec::new();
    for step in steps {
        println!("\n== {}: {}", step.name, step.what);
        let head = Head { name: step.name, what: step.what, command: &step.command() };
        // Written at once, so that what was measured is not lost when a later one fails.
        let kept = run(workspace, step).and_then(|figures| keep(workspace, &head, &place, 1, &figures));
        if let Err(why) = kept {
            failed.push(format!("{}: {why:#}", step.name));
        }
    }
    println!("\n{:.0} s", watch.elapsed().as_secs_f64());
    if failed.is_empty() { Ok(()) } else { bail!("not measured:\n  {}", failed.join("\n  ")) }
}

fn chosen(only: &[String]) -> Result<Vec<&'static Step>> {
    if let Some(odd) = only.iter().find(|name| STEPS.iter().all(|step| step.name != **name)) {
        let names: Vec<_> = STEPS.iter().map(|step| step.name).collect();
        bail!("--only {odd}: there are {}", names.join(", "));
    }
    Ok(STEPS.iter().filter(|step| only.is_empty() || only.iter().any(|name| name == step.name)).collect())
}

impl Step {
    fn command(&self) -> String {
        format!("cargo xtask bench store --only {}", self.name)
    }
}

/// Runs a program, in front of the user, and reads its figures.
fn run(workspace: &Workspace, step: &Step) -> Result<Figures> {
    let file = result(workspace, step)?;
    Run::new(workspace, workspace.target().join("release").join(step.program))
        .args(step.arguments)
        .arg("--json")
        .arg(&file)
        .done()?;
    let text = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
    let found: BTreeMap<String, f64> =
        serde_json::from_str(&text).with_context(|| format!("reading {}", file.display()))?;
    let mut figures = Figures::default();
    figures.add(found);
    Ok(figures)
}

/// Where its result is to be; one from before is none of this run.
fn result(workspace: &Workspace, step: &Step) -> Result<PathBuf> {
    let folder = workspace.target().join("bench");
    fs::create_dir_all(&folder)?;
    let file = folder.join(format!("{}.json", step.name));
    let _ = fs::remove_file(&file);
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_chosen_by_name_and_an_odd_name_is_told() {
        assert_eq!(chosen(&[]).unwrap().len(), STEPS.len());
        assert_eq!(chosen(&["store-kills".to_owned()]).unwrap()[0].name, "store-kills");
        assert!(chosen(&["storm".to_owned()]).unwrap_err().to_string().contains("store-kills"));
    }
}
