//! The `herenow` program.

use std::process::ExitCode;

use clap::Parser as _;

/// Also of what is written in C. A task and what tokio keeps of its socket are aligned to 128 bytes, which costs the
/// system's own allocator a third more memory for each session; and what a storm has taken goes back to the system.
#[cfg(not(target_env = "msvc"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    ExitCode::from(herenow::cli::Cli::parse().run())
}
