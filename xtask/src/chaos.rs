//! Faults on real processes.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use crate::run::Run;
use crate::workspace::Workspace;
use crate::{planted, setup};

/// What to play.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Which faults: table (those whose bounds are published), short, or all. Default: all
    #[arg(long)]
    rows: Option<String>,
    /// The faults instead, with commas between; `-- --help` lists them
    #[arg(long)]
    faults: Option<String>,
    /// How many times shorter than by default every timer is, 1 to 10. Default: 5
    #[arg(long)]
    shorter: Option<u32>,
    /// How many users
    #[arg(long)]
    users: Option<u64>,
    /// What they come and go by
    #[arg(long)]
    seed: Option<u64>,
    /// Plant mistakes one at a time instead, and show that the judge finds each; or only those whose name has this
    #[arg(long, value_name = "PART OF A NAME", num_args = 0..=1, default_missing_value = "")]
    planted: Option<String>,
    /// A page of documentation to write the result to: docs/RELIABILITY.md
    #[arg(long)]
    write: Option<PathBuf>,
    /// Anything else for the driver, after `--`
    #[arg(last = true)]
    rest: Vec<String>,
}

/// Breaks a cluster in one way after another.
pub(crate) fn all(workspace: &Workspace, options: Options) -> Result<()> {
    setup::nats_server(workspace)?;
    Run::cargo(workspace, ["build", "-p", "herenow", "-p", "herenow-loadtest"]).done()?;
    if let Some(only) = &options.planted {
        return planted::all(workspace, only);
    }
    let text = |name: &str, value: Option<String>| value.map(|value| [name.to_owned(), value]);
    let given = [
        text("--rows", options.rows),
        text("--faults", options.faults),
        text("--shorter", options.shorter.map(|times| times.to_string())),
        text("--users", options.users.map(|users| users.to_string())),
        text("--seed", options.seed.map(|seed| seed.to_string())),
        text("--write", options.write.map(|file| file.display().to_string())),
    ];
    Run::cargo(workspace, ["run", "-p", "herenow-loadtest", "--", "chaos"])
        .env("HERENOW_NATS_SERVER", workspace.tool("nats-server"))
        .args(given.into_iter().flatten().flatten())
        .args(options.rest)
        .done()
}

/// The form for the normal tests, with the programs that they have built. One NATS server, and three seconds for the
/// machine, since tests run on any.
pub(crate) fn short(workspace: &Workspace) -> Run {
    Run::new(workspace, workspace.target().join("debug").join("herenow-loadtest")).args([
        "chaos",
        "--rows",
        "short",
        "--users",
        "24",
        "--nats",
        "1",
        "--machine",
        "3s",
    ])
}
