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

/// A simulation in which a rule is broken, or none.
struct Built {
    rule: Option<&'static Rule>,
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

/// While one simulation runs, the next is built.
fn try_all(workspace: &Workspace, options: &Options, copy: &Copy, rules: &[&'static Rule]) -> Result<()> {
    let watch = Watch::start();
    let missed = thread::scope(|scope| {
        let (sender, built) = sync_channel(AHEAD);
        let builder = scope.spawn(move || build_all(workspace, copy, rules, &sender));
        let mut missed = Vec::new();
        for simulation in built {
            missed.extend(judge(workspace, &simulation, options.seeds, rules)?);
        }
        builder.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        anyhow::Ok(missed)
    })?;
    println!(
        "{} of {} rules found, in {:.0} s",
        rules.len() - missed.len(),
        rules.len(),
        watch.elapsed().as_secs_f64()
    );
    if !missed.is_empty() {
        bail!("not found by {} seeds: {}", options.seeds, missed.join("; "));
    }
    Ok(())
}

/// Builds the simulation as it is, and then with each rule broken; ends early when nobody wants more.
fn build_all(
    workspace: &Workspace,
    copy: &Copy,
    rules: &[&'static Rule],
    built: &SyncSender<Built>,
) -> Result<()> {
    let unbroken = Built { rule: None, program: copy.simulation(workspace, "unbroken")? };
    if built.send(unbroken).is_err() {
        return Ok(());
    }
    for (number, rule) in rules.iter().enumerate() {
        let program = copy
            .with_edits(rule.edits, || copy.simulation(workspace, &format!("broken-{number}")))
            .with_context(|| format!("the rule is \"{}\"", rule.name))?;
        if built.send(Built { rule: Some(rule), program }).is_err() {
            break;
        }
    }
    Ok(())
}

/// Runs seeds and prints what they came to; gives the rule's name when none broke.
fn judge(workspace: &Workspace, built: &Built, seeds: u64, rules: &[&Rule]) -> Result<Option<&'static str>> {
    let watch = Watch::start();
    let finding = simulate(workspace, &built.program, seeds)?;
    fs::remove_file(&built.program)?;
    let took = watch.elapsed().as_secs_f64();
    let Some(rule) = built.rule else {
        if let Some((seed, invariant)) = finding {
            bail!("seed {seed} breaks {invariant} with every rule in place");
        }
        println!(
            "{seeds} seeds keep every invariant with every rule in place ({took:.1} s); {} rules",
            rules.len()
        );
        println!(
            "{:>2}  {:<60} {:>5}  {:<5} {:>6}  where the rule is",
            "", "rule broken", "seeds", "found", "s"
        );
        return Ok(None);
    };
    let number = rules.iter().position(|other| std::ptr::eq(*other, rule)).map_or(0, |index| index + 1);
    let (needed, invariant) = match &finding {
        Some((seed, invariant)) => ((seed + 1).to_string(), invariant.as_str()),
        None => (seeds.to_string(), "NONE"),
    };
    let mut files: Vec<&str> = rule.edits.iter().map(|edit| edit.file).collect();
    files.dedup();
    println!("{number:>2}  {:<60} {needed:>5}  {invariant:<5} {took:>6.1}  {}", rule.name, files.join(", "));
    Ok(finding.is_none().then_some(rule.name))
}

/// Runs seeds from 0 until one breaks.
fn simulate(workspace: &Workspace, program: &Path, seeds: u64) -> Result<Finding> {
    let run = Run::new(workspace, program).args(["--stop", "--seeds"]).arg(seeds.to_string());
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
