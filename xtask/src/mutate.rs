//! Shows that the simulation finds broken rules: breaks them one at a time, in a copy, and runs seeds until one breaks.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::clock::Watch;
use crate::copy::Copy;
use crate::rules::{RULES, Rule};
use crate::run::Run;
use crate::workspace::Workspace;

/// Simulations that are built and wait for their turn, at the most.
const AHEAD: usize = 8;
const HEAD: &str = "what is broken";

/// What to break, and how long to look for it.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// How many seeds to run for each rule, at the most: it ends with the first that breaks
    #[arg(long, default_value_t = 1_000)]
    seeds: u64,
    /// Break only rules whose name has this in it
    #[arg(long, default_value = "")]
    only: String,
    /// Keep what was built, so that the next time is quicker
    #[arg(long)]
    keep: bool,
}

/// A simulation in which a rule is broken.
struct Built {
    /// Counted from 1.
    number: usize,
    rule: &'static Rule,
    program: PathBuf,
}

/// The first seed that breaks, and the invariant that it breaks.
type Finding = Option<(u64, String)>;

/// Breaks each rule in turn and prints what the simulation found.
pub(crate) fn all(workspace: &Workspace, options: &Options) -> Result<()> {
    let rules: Vec<&Rule> = RULES.iter().filter(|rule| rule.name.contains(&options.only)).collect();
    if rules.is_empty() {
        bail!("no rule has \"{}\" in its name", options.only);
    }
    let copy = Copy::make(workspace)?;
    let outcome = try_all(workspace, options, &copy, &rules);
    if !options.keep {
        copy.tidy_up()?;
    }
    outcome
}

/// While one simulation runs, the next are built.
fn try_all(workspace: &Workspace, options: &Options, copy: &Copy, rules: &[&'static Rule]) -> Result<()> {
    let watch = Watch::start();
    let unbroken = copy.simulation(workspace, "unbroken")?;
    println!("{:>2}  {HEAD:<58} {:>5}  {:<9} {:>6}  where the rule is", "", "seeds", "invariant", "s");
    let missed = thread::scope(|scope| {
        let (sender, built) = sync_channel(AHEAD);
        let builder = scope.spawn(move || build_all(workspace, copy, rules, &sender));
        let mut missed = Vec::new();
        for built in built {
            missed.extend(judge(workspace, &built, &unbroken, options.seeds)?);
        }
        builder.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        anyhow::Ok(missed)
    })?;
    let found = rules.len() - missed.len();
    println!("{found} of {} broken rules found, in {:.0} s", rules.len(), watch.elapsed().as_secs_f64());
    if !missed.is_empty() {
        bail!("not found by {} seeds: {}", options.seeds, missed.join("; "));
    }
    Ok(())
}

/// Builds the simulation with each rule broken; ends early when nobody wants more.
fn build_all(
    workspace: &Workspace,
    copy: &Copy,
    rules: &[&'static Rule],
    built: &SyncSender<Built>,
) -> Result<()> {
    for (number, rule) in (1..).zip(rules) {
        let program = copy
            .with_edits(rule.edits, || copy.simulation(workspace, &format!("broken-{number}")))
            .with_context(|| format!("the rule is \"{}\"", rule.name))?;
        if built.send(Built { number, rule, program }).is_err() {
            break;
        }
    }
    Ok(())
}

/// Runs seeds and prints what they came to; gives the rule's name when none broke.
fn judge(
    workspace: &Workspace,
    Built { number, rule, program }: &Built,
    unbroken: &Path,
    seeds: u64,
) -> Result<Option<&'static str>> {
    let watch = Watch::start();
    let finding = simulate(workspace, program, 0, seeds)?;
    fs::remove_file(program)?;
    if let Some((seed, _)) = &finding
        && let Some((_, invariant)) = simulate(workspace, unbroken, *seed, 1)?
    {
        bail!("seed {seed} breaks {invariant} with every rule in place");
    }
    let took = watch.elapsed().as_secs_f64();
    let (needed, invariant) = match &finding {
        Some((seed, invariant)) => ((seed + 1).to_string(), invariant.as_str()),
        None => (seeds.to_string(), "NOT FOUND"),
    };
    let mut files: Vec<&str> = rule.edits.iter().map(|edit| edit.file).collect();
    files.dedup();
    let files = files.join(", ");
    println!("{number:>2}  {:<58} {needed:>5}  {invariant:<9} {took:>6.1}  {files}", rule.name);
    Ok(finding.is_none().then_some(rule.name))
}

/// Runs so many seeds, until one breaks.
fn simulate(workspace: &Workspace, program: &Path, from: u64, seeds: u64) -> Result<Finding> {
    let numbers = [from.to_string(), seeds.to_string()];
    let run = Run::new(workspace, program).args(["--stop", "--from", &numbers[0], "--seeds", &numbers[1]]);
    let (well, said) = run.said()?;
    let finding = understand(&said);
    if well != finding.is_none() {
        bail!("the simulation fell over, and broke no invariant: {said}");
    }
    Ok(finding)
}

/// Reads what the simulation prints: `seed 7 broke:`, and below it `  I4 at 9000 ms: …`.
fn understand(said: &str) -> Finding {
    let mut lines = said.lines();
    let broken = |line: &str| line.strip_prefix("seed ")?.strip_suffix(" broke:")?.parse().ok();
    let seed = lines.by_ref().find_map(broken)?;
    let invariant = lines.next().and_then(|line| line.split_whitespace().next()).unwrap_or_default();
    Some((seed, invariant.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::Edit;

    #[test]
    fn what_the_simulation_prints_is_understood() {
        let said = "seed 3 broke:\n  I4 at 9 ms: x\n  I5 at 10 ms: y\n4 seeds, 1 broken";
        assert_eq!(understand(said), Some((3, "I4".to_owned())));
        assert_eq!(understand("9 seeds, 0 broken"), None);
    }

    #[test]
    fn every_rule_is_in_the_code_as_it_is_now() {
        let workspace = Workspace::find().unwrap();
        let once = |edit: &&Edit| {
            let text = fs::read_to_string(workspace.root().join(edit.file)).unwrap();
            text.matches(edit.from).count() == 1
        };
        let edits = RULES.iter().flat_map(|rule| rule.edits);
        let lost: Vec<String> =
            edits.filter(|edit| !once(edit)).map(|e| format!("{}: {}", e.file, e.from)).collect();
        assert!(lost.is_empty(), "say anew what to break:\n{}", lost.join("\n"));
    }
}
