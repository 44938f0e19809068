//! `herenow config`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::say;
use crate::config::{EXAMPLE, Sources};

#[derive(Debug, Args)]
pub(super) struct ConfigCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Print the configuration as it is in force, secrets masked; or with --default an example to begin with
    #[command(after_help = "\
Examples:
  herenow config print --default > herenow.toml     Begin a file, with every key explained
  HERENOW__LOG__LEVEL=debug herenow config print --config herenow.toml
                                                    See what file and environment come to")]
    Print {
        #[command(flatten)]
        file: FileArg,
        /// Print the example: every key, what it does, and its default
        #[arg(long = "default", conflicts_with = "config")]
        example: bool,
    },
    /// Say whether a process with this configuration would start; ends with 78 and names the key if not
    #[command(after_help = "\
Example:
  herenow config check --config herenow.toml && systemctl restart herenow")]
    Check {
        #[command(flatten)]
        file: FileArg,
    },
}

/// The configuration file.
#[derive(Debug, Args)]
pub(super) struct FileArg {
    /// The configuration file (TOML)
    #[arg(long, value_name = "FILE", env = "HERENOW_CONFIG")]
    pub(super) config: Option<PathBuf>,
}

impl ConfigCommand {
    pub(super) fn run(self) -> anyhow::Result<()> {
        match self.action {
            Action::Print { example: true, .. } => Ok(say(EXAMPLE)?),
            Action::Print { file, example: false } => {
                let config = Sources::of_process(file.config).load()?;
                Ok(say(&config.print()?)?)
            }
            Action::Check { file } => {
                Sources::of_process(file.config).load()?.check_files()?;
                Ok(say("The configuration is good.\n")?)
            }
        }
    }
}
