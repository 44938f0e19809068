//! Runs seeds and prints what broke: `herenow-sim --seeds 1000`, `herenow-sim --seed 7 --trace trace.txt`,
//! `herenow-sim --seeds 1000 --claims`, `herenow-sim --seed 7 --minimise`, `herenow-sim --faults least.txt`.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for people")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser;
use herenow_sim::{Plan, Profile, Report, World, minimise};

/// Runs Herenow's real cores in simulated worlds full of faults.
#[derive(Parser)]
struct Arguments {
    /// How many seeds to run.
    #[arg(long, default_value_t = 1_000)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Ends with the first seed that breaks.
    #[arg(long, conflicts_with = "one")]
    stop: bool,
    /// Of these, runs only those in whose worlds statuses are claimed.
    #[arg(long, conflicts_with = "keeps")]
    claims: bool,
    /// Runs this one seed.
    #[arg(long, group = "one", conflicts_with_all = ["seeds", "from", "claims"])]
    seed: Option<u64>,
    /// Worlds with a store.
    #[arg(long)]
    keeps: bool,
    /// Runs the one run that this file describes, as --minimise prints it.
    #[arg(long, group = "one", conflicts_with_all = ["seeds", "from", "claims"])]
    faults: Option<PathBuf>,
    /// Writes everything that happens in the one run to this file.
    #[arg(long, requires = "one")]
    trace: Option<PathBuf>,
    /// Looks for the smallest run that breaks what the one run breaks, and prints it.
    #[arg(long, requires = "one", conflicts_with = "trace")]
    minimise: bool,
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let profile = if arguments.keeps { Profile::keeping() } else { Profile::normal() };
    let one = match (&arguments.faults, arguments.seed) {
        (Some(path), _) => Some(read(path)?),
        (None, seed) => seed.map(|seed| Plan::draw(seed, profile)),
    };
    let well = match one {
        Some(plan) if arguments.minimise => shrink(&plan),
        Some(plan) => run_one(&plan, arguments.trace.as_deref())?,
        None => run_many(&arguments, profile),
    };
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn read(path: &Path) -> anyhow::Result<Plan> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    text.parse().with_context(|| format!("cannot understand {}", path.display()))
}

/// Prints a plan that a file for `--faults` can be made of.
fn shrink(plan: &Plan) -> bool {
    let Some((least, invariant)) = minimise(plan) else {
        println!("# nothing breaks with {} faults", plan.faults.len());
        return true;
    };
    println!("# {invariant} breaks with {} of {} faults", least.faults.len(), plan.faults.len());
    print!("{least}");
    false
}

fn run_one(plan: &Plan, trace: Option<&Path>) -> anyhow::Result<bool> {
    let mut world = World::planned(plan);
    if trace.is_some() {
        world.keep_trace();
    }
    let report = world.run();
    if let Some(path) = trace {
        std::fs::write(path, world.trace()).with_context(|| format!("cannot write {}", path.display()))?;
    }
    let mut sum = Sum::default();
    sum.add(&report);
    sum.print();
    Ok(sum.broken == 0)
}

fn run_many(arguments: &Arguments, profile: Profile) -> bool {
    let Arguments { from, seeds, stop, claims, .. } = *arguments;
    let mut sum = Sum::default();
    for seed in from..from.saturating_add(seeds) {
        let plan = Plan::draw(seed, profile);
        if plan.profile.claims || !claims {
            sum.add(&World::planned(&plan).run());
        }
        let done = seed - from + 1;
        if done % 100 == 0 {
            eprintln!("{done} of {seeds} seeds");
        }
        if stop && sum.broken > 0 {
            break;
        }
    }
    sum.print();
    sum.broken == 0
}

/// What runs came to together.
#[derive(Default)]
struct Sum {
    seeds: u64,
    broken: u64,
    messages: u64,
    lost: u64,
    claims: u64,
    transitions: u64,
}

impl Sum {
    fn add(&mut self, report: &Report) {
        self.seeds += 1;
        self.messages += report.messages.0;
        self.lost += report.messages.1;
        self.claims += report.claims;
        self.transitions += report.transitions;
        if !report.violations.is_empty() {
            self.broken += 1;
            println!("seed {} broke:", report.seed);
            for violation in &report.violations {
                println!("  {} at {} ms: {}", violation.invariant, violation.at, violation.what);
            }
        }
    }

    fn print(&self) {
        let Self { seeds, broken, messages, lost, claims, transitions } = self;
        println!(
            "{seeds} seeds, {broken} broken; {messages} messages, {lost} lost, {claims} claims, {transitions} transitions seen"
        );
    }
}
