//! Runs seeds and prints what broke: `herenow-sim --seeds 1000`, `herenow-sim --seed 7 --trace trace.txt`.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser;
use herenow_sim::{Profile, World};

/// Runs Herenow's real cores in simulated worlds full of faults.
#[derive(Parser)]
struct Arguments {
    /// How many seeds to run.
    #[arg(long, default_value_t = 1_000, conflicts_with = "seed")]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Runs this one seed.
    #[arg(long)]
    seed: Option<u64>,
    /// Writes everything that happens in the one seed to this file.
    #[arg(long, requires = "seed")]
    trace: Option<std::path::PathBuf>,
}

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for people")]
fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let seeds = match arguments.seed {
        Some(seed) => seed..seed + 1,
        None => arguments.from..arguments.from + arguments.seeds,
    };
    let (mut broken, mut messages, mut lost, mut claims, mut transitions) = (0_u64, 0, 0, 0, 0);
    for seed in seeds.clone() {
        let mut world = World::new(seed, Profile::normal());
        if arguments.trace.is_some() {
            world.keep_trace();
        }
        let report = world.run();
        messages += report.messages.0;
        lost += report.messages.1;
        claims += report.claims;
        transitions += report.transitions;
        if let Some(path) = &arguments.trace {
            std::fs::write(path, world.trace())
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        if !report.violations.is_empty() {
            broken += 1;
            println!("seed {seed} broke:");
            for violation in &report.violations {
                println!("  {} at {} ms: {}", violation.invariant, violation.at, violation.what);
            }
        }
        if (seed + 1) % 100 == 0 {
            eprintln!("{} of {} seeds", seed + 1 - seeds.start, seeds.end - seeds.start);
        }
    }
    println!(
        "{} seeds, {broken} broken; {messages} messages, {lost} lost, {claims} claims, {transitions} transitions seen",
        seeds.end - seeds.start
    );
    Ok(if broken == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
