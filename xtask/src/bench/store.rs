//! What is kept, measured: by the real program, and engine by engine; each step writes its section.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context as _, Result};
use clap::Args;

use super::figures::Figures;
use super::steps;
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
    let steps = steps::chosen(&STEPS, &options.only)?;
    let watch = Watch::start();
    let is_example = |step: &&Step| step.program.starts_with("examples/");
    if !steps.iter().all(is_example) {
        Run::cargo(workspace, ["build", "--release", "-p", "herenow", "-p", "herenow-loadtest"]).done()?;
    }
    if steps.iter().any(is_example) {
        Run::cargo(workspace, ["build", "--release", "-p", "herenow-store", "--examples"])
            .args(["--features", "testing,near,redis,postgres,cassandra"])
            .done()?;
    }
    println!("built in {:.0} s", watch.elapsed().as_secs_f64());
    steps::measure(workspace, &steps, 1)
}

impl steps::Step for Step {
    fn name(&self) -> &'static str {
        self.name
    }

    fn what(&self) -> &'static str {
        self.what
    }

    fn command(&self) -> String {
        format!("cargo xtask bench store --only {}", self.name)
    }

    /// Runs its program, in front of the user, once; its figures are of many rounds.
    fn measure(&self, workspace: &Workspace, _: u16) -> Result<Figures> {
        let file = steps::result(workspace, self.name)?;
        Run::new(workspace, workspace.target().join("release").join(self.program))
            .args(self.arguments)
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_chosen_by_name_and_an_odd_name_is_told() {
        assert_eq!(steps::chosen(&STEPS, &[]).unwrap().len(), STEPS.len());
        assert_eq!(steps::chosen(&STEPS, &["store-kills".to_owned()]).unwrap()[0].name, "store-kills");
        assert!(
            steps::chosen(&STEPS, &["storm".to_owned()]).unwrap_err().to_string().contains("store-kills")
        );
    }
}
