//! Shows that the simulation finds broken rules: breaks them one at a time, in a copy, and runs seeds.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::rules::{Edit, RULES, Rule};
use crate::run::Run;
use crate::workspace::Workspace;

/// What to break, and how long to look for it.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// How many seeds to run for each rule
    #[arg(long, default_value_t = 200)]
    seeds: u64,
    /// Break only rules whose name has this in it
    #[arg(long, default_value = "")]
    only: String,
}

/// What the simulation made of a broken rule.
#[derive(Debug)]
struct Finding {
    broken: usize,
    first: Option<(u64, String)>,
}

/// Breaks each rule in turn and prints what the simulation found.
pub(crate) fn all(workspace: &Workspace, options: &Options) -> Result<()> {
    let copy = Copy::make(workspace)?;
    let unbroken = copy.simulate(workspace, options.seeds)?;
    if let Some((seed, invariant)) = unbroken.first {
        bail!("seed {seed} breaks {invariant} with every rule in place");
    }
    println!("{:<46} {:<38} {:>11}  first seed", "rule broken", "in", "seeds");
    let mut missed = Vec::new();
    for rule in RULES.iter().filter(|rule| rule.name.contains(&options.only)) {
        let finding = copy.with_broken(rule, || copy.simulate(workspace, options.seeds))?;
        let files: Vec<&str> = rule.edits.iter().map(|edit| edit.file).collect();
        let seeds = format!("{} of {}", finding.broken, options.seeds);
        let first = finding.first.map_or_else(
            || {
                missed.push(rule.name);
                "not found".to_owned()
            },
            |(seed, invariant)| format!("{seed} ({invariant})"),
        );
        println!("{:<46} {:<38} {seeds:>11}  {first}", rule.name, files[0]);
        for file in &files[1..] {
            println!("{:<46} {file}", "");
        }
    }
    if !missed.is_empty() {
        bail!("not found by {} seeds: {}", options.seeds, missed.join("; "));
    }
    Ok(())
}

/// What else than sources goes into the service.
const PARTS: [&str; 5] = [".html", ".css", ".js", ".json", "herenow.example.toml"];
const SDK: &str = "client-sdk/js/dist/herenow.js";

/// A copy of the workspace that may be broken.
pub(crate) struct Copy {
    root: PathBuf,
}

impl Copy {
    /// Copies what has changed since the last copy, and nothing else, so that little is built anew.
    pub(crate) fn make(workspace: &Workspace) -> Result<Self> {
        let root = workspace.target().join("mutate");
        let mut files = workspace.files(&[".rs", ".toml", "Cargo.lock"])?;
        files.extend(workspace.files(&PARTS)?);
        files.push(workspace.root().join(SDK));
        for file in files {
            let to = root.join(file.strip_prefix(workspace.root())?);
            let text = fs::read(&file)?;
            if fs::read(&to).ok().as_ref() != Some(&text) {
                fs::create_dir_all(to.parent().context("a file is in a directory")?)?;
                fs::write(&to, text).with_context(|| format!("writing {}", to.display()))?;
            }
        }
        Ok(Self { root })
    }

    /// Does something while a rule is broken.
    fn with_broken<T>(&self, rule: &Rule, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let edits: Vec<&Edit> = rule.edits.iter().collect();
        self.with_edits(&edits, work).with_context(|| format!("the rule is \"{}\"", rule.name))
    }

    /// Does something while all of this is changed.
    pub(crate) fn with_edits<T>(&self, edits: &[&Edit], work: impl FnOnce() -> Result<T>) -> Result<T> {
        let before = edits.iter().map(|edit| self.read(edit.file)).collect::<Result<Vec<_>>>()?;
        let outcome = edits.iter().try_for_each(|edit| self.apply(edit)).and_then(|()| work());
        for (edit, text) in edits.iter().zip(before) {
            fs::write(self.root.join(edit.file), text)?;
        }
        outcome
    }

    fn apply(&self, edit: &Edit) -> Result<()> {
        let text = self.read(edit.file)?;
        if text.matches(edit.from).count() != 1 {
            bail!("{} does not have this once; say anew what to break: {}", edit.file, edit.from);
        }
        fs::write(self.root.join(edit.file), text.replacen(edit.from, edit.to, 1))?;
        Ok(())
    }

    fn read(&self, file: &str) -> Result<String> {
        fs::read_to_string(self.root.join(file)).with_context(|| format!("reading {file} of the copy"))
    }

    /// Builds the service of the copy.
    pub(crate) fn service(&self, workspace: &Workspace) -> Result<PathBuf> {
        let target = self.root.join("target");
        Run::cargo(workspace, ["build", "--quiet", "-p", "herenow"])
            .at(&self.root)
            .env("CARGO_TARGET_DIR", &target)
            .env("RUSTFLAGS", "--allow warnings")
            .done()?;
        Ok(target.join("debug").join("herenow"))
    }

    /// Builds the simulation of the copy and runs seeds.
    fn simulate(&self, workspace: &Workspace, seeds: u64) -> Result<Finding> {
        let target = self.root.join("target");
        // Built a dozen times and run for seconds: a quick build counts for more than quick code.
        Run::cargo(workspace, ["build", "--release", "--quiet", "-p", "herenow-sim"])
            .at(&self.root)
            .env("CARGO_TARGET_DIR", &target)
            .env("CARGO_PROFILE_RELEASE_LTO", "off")
            .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16")
            .env("CARGO_PROFILE_RELEASE_INCREMENTAL", "true")
            .env("RUSTFLAGS", "--allow warnings")
            .done()?;
        let program: &Path = &target.join("release").join("herenow-sim");
        let (_, said) = Run::new(workspace, program).arg("--seeds").arg(seeds.to_string()).said()?;
        Ok(understand(&said))
    }
}

/// Reads what the simulation prints: `seed 7 broke:`, and below it `  I4 at 9000 ms: …`.
fn understand(said: &str) -> Finding {
    let mut finding = Finding { broken: 0, first: None };
    let mut lines = said.lines();
    while let Some(line) = lines.next() {
        let seed = line.strip_prefix("seed ").and_then(|rest| rest.strip_suffix(" broke:"));
        let Some(seed) = seed.and_then(|seed| seed.parse().ok()) else { continue };
        finding.broken += 1;
        let invariant = lines.next().and_then(|line| line.split_whitespace().next()).unwrap_or_default();
        finding.first.get_or_insert_with(|| (seed, invariant.to_owned()));
    }
    finding
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_simulation_prints_is_understood() {
        let said = "seed 3 broke:\n  I4 at 9 ms: x\n  I5 at 10 ms: y\nseed 5 broke:\n  I3 at 1 ms: z\n9 seeds, 2 broken";
        let finding = understand(said);
        assert_eq!((finding.broken, finding.first), (2, Some((3, "I4".to_owned()))));
        assert!(understand("9 seeds, 0 broken").first.is_none());
    }

    #[test]
    fn every_rule_is_in_the_code_as_it_is_now() {
        let workspace = Workspace::find().unwrap();
        for edit in RULES.iter().flat_map(|rule| rule.edits) {
            let text = fs::read_to_string(workspace.root().join(edit.file)).unwrap();
            assert_eq!(text.matches(edit.from).count(), 1, "{}: {}", edit.file, edit.from);
        }
    }
}
