//! The `herenow` program.

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    ExitCode::from(herenow::cli::Cli::parse().run())
}
