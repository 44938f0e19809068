//! `herenow-loadtest`: measures a running Herenow from outside, over the public contract.
//!
//! Open-loop: changes are made when the plan says, not when the last one was seen, so that a system that falls behind
//! cannot slow its own measurement down.

mod backends;
mod chaos;
mod cli;
mod clock;
mod cluster;
mod connection;
mod latency;
mod report;
mod run;
mod token;
mod track;

#[cfg(test)]
mod tests;

use clap::Parser as _;

fn main() -> anyhow::Result<()> {
    let cli = cli::Cli::parse();
    // One thread: the load shares its machine with what it measures.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(cli.run())
}
