//! Steps that are measured one after the other, each of which has a section of docs/BENCHMARKS.md and its figures in
//! docs/benchmarks.json.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::figures::Figures;
use super::{machine, page};
use crate::clock::Watch;
use crate::workspace::Workspace;

/// One of them.
pub(super) trait Step: 'static {
    fn name(&self) -> &'static str;
    /// The heading of its section.
    fn what(&self) -> &'static str;
    /// What measures it alone, by hand.
    fn command(&self) -> String;
    /// Every figure, by name, with one value of each run.
    fn measure(&self, workspace: &Workspace, runs: u16) -> Result<Figures>;
}

/// Those of these names; all where none is given.
pub(super) fn chosen<S: Step>(all: &'static [S], only: &[String]) -> Result<Vec<&'static S>> {
    if let Some(odd) = only.iter().find(|name| all.iter().all(|step| step.name() != **name)) {
        let names: Vec<_> = all.iter().map(S::name).collect();
        bail!("--only {odd}: there are {}", names.join(", "));
    }
    Ok(all.iter().filter(|step| only.is_empty() || only.iter().any(|name| name == step.name())).collect())
}

/// Measures them. One that fails holds up none of the others.
pub(super) fn measure<S: Step>(workspace: &Workspace, steps: &[&S], runs: u16) -> Result<()> {
    let watch = Watch::start();
    let place = machine::describe(workspace)?;
    let mut failed = Vec::new();
    for step in steps {
        println!("\n== {}: {}", step.name(), step.what());
        let own = Watch::start();
        // Written at once, so that what was measured is not lost when a later one fails.
        let kept =
            step.measure(workspace, runs).and_then(|figures| keep(workspace, *step, &place, runs, &figures));
        if let Err(why) = kept {
            failed.push(format!("{}: {why:#}", step.name()));
        }
        println!("{}: {:.0} s", step.name(), own.elapsed().as_secs_f64());
    }
    println!("\n{:.0} s", watch.elapsed().as_secs_f64());
    if failed.is_empty() { Ok(()) } else { bail!("not measured:\n  {}", failed.join("\n  ")) }
}

/// Puts the section of a step into the page, and its figures among the others.
fn keep(workspace: &Workspace, step: &impl Step, place: &Value, runs: u16, figures: &Figures) -> Result<()> {
    let (name, command) = (step.name(), step.command());
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
    let section = page::section(step.what(), &command, place, runs, figures);
    fs::write(&path, page::replace(&page, name, &section))?;
    println!("written: docs/BENCHMARKS.md, {name}");
    Ok(())
}

fn record(workspace: &Workspace) -> PathBuf {
    workspace.root().join("docs").join("benchmarks.json")
}

/// Where the result of a step is to be; one from before is none of this run.
pub(super) fn result(workspace: &Workspace, name: &str) -> Result<PathBuf> {
    let folder = workspace.target().join("bench");
    fs::create_dir_all(&folder)?;
    let file = folder.join(format!("{name}.json"));
    let _ = fs::remove_file(&file);
    Ok(file)
}
