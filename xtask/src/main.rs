//! The commands that people and CI run.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command talks to its terminal")]

mod acceptance;
mod bench;
mod cassandra;
mod chaos;
mod clock;
mod codes;
mod copy;
mod counts;
mod imports;
mod mutate;
mod planted;
mod profile;
mod rules;
mod run;
mod setup;
mod test;
mod tidy;
mod workspace;

use anyhow::Result;
use clap::{Parser, Subcommand};
use run::Run;
use workspace::Workspace;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "The commands that people and CI run.")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install what the tests need: into target/tools, and with apt-get when root
    Setup,
    /// Set up, then run every check and test that must pass
    Test(test::Options),
    /// Check the import table, the places of subjects, the sizes of files, and docs/CODES.md
    Tidy,
    /// Write docs/CODES.md from the code
    Codes,
    /// Run the deterministic simulation, built for speed
    Sim {
        /// How many seeds to run, from the first
        #[arg(long, conflicts_with = "seed")]
        seeds: Option<u64>,
        /// One seed to run, with everything it does told
        #[arg(long)]
        seed: Option<u64>,
        /// Anything else for the simulation, after `--`
        #[arg(last = true)]
        rest: Vec<String>,
    },
    /// Break rules one at a time in a copy, and show that the simulation finds each
    Mutate(mutate::Options),
    /// Measure what the service promises, from outside: clients in Python and Node.js against the release build
    Acceptance {
        /// Anything for the driver, after `--`
        #[arg(last = true)]
        rest: Vec<String>,
    },
    /// Break a cluster of real processes in one way after another, and judge from outside what watchers were shown
    Chaos(chaos::Options),
    /// Draw where the service's time and memory go under each scenario: flame graphs, and sums, into docs/profiles
    Profile(profile::Options),
    /// Measure: without a name the whole suite, which writes docs/BENCHMARKS.md and takes less than half an hour
    #[command(args_conflicts_with_subcommands = true)]
    Bench {
        #[command(flatten)]
        options: bench::Options,
        #[command(subcommand)]
        what: Option<Bench>,
    },
}

#[derive(Subcommand)]
enum Bench {
    /// From a change on one gateway to a watcher on another, over NATS on loopback
    Latency {
        /// Anything for the benchmark, after `--`
        #[arg(last = true)]
        rest: Vec<String>,
    },
    /// Instructions and allocations of the hot paths, compared with those on record in `counts/`
    Counts(counts::Options),
    /// Times of the hot paths, by criterion
    Paths {
        /// Anything for criterion, after `--`
        #[arg(last = true)]
        rest: Vec<String>,
    },
    /// What is kept: the real program and every engine; writes its sections of docs/BENCHMARKS.md
    Store(bench::store::Options),
}

fn main() -> Result<()> {
    let workspace = Workspace::find()?;
    match Arguments::parse().command {
        Command::Setup => setup::all(&workspace),
        Command::Test(options) => test::all(&workspace, &options),
        Command::Tidy => tidy::all(&workspace),
        Command::Codes => codes::write(&workspace),
        Command::Sim { seeds, seed, rest } => {
            let number = |name: &str, n: Option<u64>| n.map(|n| [name.to_owned(), n.to_string()]);
            let numbers = number("--seeds", seeds).or(number("--seed", seed)).into_iter().flatten();
            let arguments = numbers.chain(rest);
            let watch = clock::Watch::start();
            let run = Run::cargo(&workspace, ["run", "--release", "-p", "herenow-sim", "--"]);
            let outcome = run.args(arguments).done();
            println!("{:.0} s of wall time, on one core", watch.elapsed().as_secs_f64());
            outcome
        }
        Command::Mutate(options) => mutate::all(&workspace, &options),
        Command::Acceptance { rest } => acceptance::all(&workspace, rest),
        Command::Chaos(options) => chaos::all(&workspace, options),
        Command::Profile(options) => profile::all(&workspace, &options),
        Command::Bench { what: None, options } => bench::all(&workspace, &options),
        Command::Bench { what: Some(what), .. } => measure(&workspace, what),
    }
}

fn measure(workspace: &Workspace, what: Bench) -> Result<()> {
    match what {
        Bench::Counts(options) => counts::all(workspace, &options),
        Bench::Paths { rest } => {
            let cores = ["herenow-protocol", "herenow-gateway-core", "herenow-coordinator-core"];
            let packages = cores.into_iter().flat_map(|name| ["--package", name]);
            Run::cargo(workspace, ["bench"]).args(packages).arg("--").args(rest).done()
        }
        Bench::Store(options) => bench::store::all(workspace, &options),
        Bench::Latency { rest } => {
            setup::nats_server(workspace)?;
            // The benchmark starts this program as a person would: two gateways and two coordinators.
            Run::cargo(workspace, ["build", "--release", "-p", "herenow"]).done()?;
            Run::cargo(workspace, ["run", "--release", "-p", "herenow-loadtest", "--", "latency"])
                .env("HERENOW_BIN", workspace.target().join("release").join("herenow"))
                .args(rest)
                .done()
        }
    }
}
