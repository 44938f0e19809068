//! The command line.

mod config;
mod dev;
mod serve;
mod token;
mod users;

use clap::{Parser, Subcommand};

use crate::config::LoadError;

/// What a process ends with when its configuration is at fault: `EX_CONFIG` of sysexits.h, which supervisors know
/// not to restart for.
pub const EXIT_CONFIG: u8 = 78;

/// Who is here now? A presence service: it infers who is online, idle or offline from live connections, and tells
/// everybody who may know, at once.
#[derive(Debug, Parser)]
#[command(name = "herenow", version, propagate_version = true, after_help = EXAMPLES)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  herenow dev                                        Try it: opens a demo page on http://127.0.0.1:8080/
  herenow config print --default > herenow.toml      Begin a configuration file
  herenow config check --config herenow.toml         See whether it would start
  herenow serve --config herenow.toml                Run a deployment of one process
  herenow serve --config herenow.toml --roles gateway
                                                     Run a gateway beside coordinators elsewhere
  herenow token --config herenow.toml --user ana --watch '*'
                                                     Make a token for a user

Every setting of the file can also come from the environment: gateway.listen is HERENOW__GATEWAY__LISTEN.
The file is read first, then the environment, then flags; what comes later wins.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Try Herenow on this machine: everything in one process, a demo page, ready-made tokens
    Dev(dev::Dev),
    /// Run in production, as one process or as one of many
    Serve(serve::Serve),
    /// Make a token for a user or a backend
    Token(token::Token),
    /// Write who users are into PostgreSQL
    Users(users::UsersCommand),
    /// Show or check the configuration
    Config(config::ConfigCommand),
}

impl Cli {
    /// Does what was asked. Returns what the process ends with.
    #[must_use]
    pub fn run(self) -> u8 {
        let done = match self.command {
            Command::Dev(dev) => dev.run(),
            Command::Serve(serve) => serve.run(),
            Command::Token(token) => token.run(),
            Command::Users(users) => users.run(),
            Command::Config(config) => config.run(),
        };
        match done {
            Ok(()) => 0,
            Err(error) => {
                say_error(&error);
                if is_config(&error) { EXIT_CONFIG } else { 1 }
            }
        }
    }
}

fn is_config(error: &anyhow::Error) -> bool {
    error.is::<LoadError>() || matches!(error.downcast_ref(), Some(crate::StartError::Config(_)))
}

fn say_error(error: &anyhow::Error) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "herenow: {error:#}");
}

/// Writes to the standard output; a reader that went away is no error.
///
/// # Errors
/// Anything else.
fn say(text: &str) -> std::io::Result<()> {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        done => done,
    }
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()
}
