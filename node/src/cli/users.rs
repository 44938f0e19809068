//! `herenow users`.

use std::fs::File;
use std::io::{BufRead, BufReader, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use herenow_store::Postgres;

use super::config::FileArg;
use super::say;
use crate::config::{LoadError, Sources};
use crate::import::{Format, Progress, import};

/// Most bad lines that are shown.
const SHOWN: u64 = 1_000;

#[derive(Debug, Args)]
pub(super) struct UsersCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Write who users are, from a file into PostgreSQL ([people]); the same file may be given again
    #[command(after_help = "\
Examples:
  herenow users import users.csv --config herenow.toml
  herenow users import - --format ndjson --config herenow.toml < users.ndjson

A CSV file names its columns in the first line: userId, username, email, creationDate, in any order, beside others.
A line of NDJSON is {\"userId\":\"ana\",\"username\":\"Ana\",\"email\":\"ana@example.com\",
\"creationDate\":\"2024-01-31T08:00:00Z\"}. Who is there already is written over. A line that cannot be used is named on
the standard error stream and left out, and the command then ends with 1.")]
    Import {
        /// The file; `-` is the standard input
        file: PathBuf,
        /// What it is; otherwise its name says: .csv, .ndjson or .jsonl
        #[arg(long, value_enum)]
        format: Option<Format>,
        #[command(flatten)]
        config: FileArg,
    },
}

impl UsersCommand {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let Action::Import { file, format, config } = self.action;
        let format = format
            .or_else(|| format_of(&file))
            .context("--format: give csv or ndjson, as the name of the file does not say")?;
        let people = Sources::of_process(config.config).load()?.people;
        let people =
            people.ok_or_else(|| LoadError::new("people", "must be given: where users are written"))?;
        let input = open(&file).with_context(|| format!("{} cannot be read", file.display()))?;
        let mut shown = Shown::default();
        let imported = async {
            let store =
                Postgres::open(&people).await.map_err(|error| LoadError::new("people", error.to_string()))?;
            anyhow::Ok(import(input, format, &store, &mut shown).await?)
        };
        let (written, bad) = super::runtime()?.block_on(imported)?;
        shown.end();
        say(&format!("{written} users are written.\n"))?;
        anyhow::ensure!(bad == 0, "{bad} lines cannot be used and were left out");
        Ok(())
    }
}

fn open(file: &Path) -> std::io::Result<Box<dyn BufRead>> {
    Ok(if file == Path::new("-") {
        Box::new(BufReader::new(std::io::stdin()))
    } else {
        Box::new(BufReader::new(File::open(file)?))
    })
}

fn format_of(file: &Path) -> Option<Format> {
    match file.extension()?.to_str()? {
        "csv" => Some(Format::Csv),
        "ndjson" | "jsonl" => Some(Format::Ndjson),
        _ => None,
    }
}

/// Tells on the standard error stream: one line that grows on a terminal, bad lines below each other.
#[derive(Default)]
struct Shown {
    bad: u64,
    begun: bool,
}

impl Shown {
    fn end(&mut self) {
        if std::mem::take(&mut self.begun) {
            let _ = writeln!(std::io::stderr());
        }
    }
}

impl Progress for Shown {
    fn written(&mut self, users: u64) {
        let mut to = std::io::stderr().lock();
        if to.is_terminal() {
            self.begun = true;
            let _ = write!(to, "\r{users} users");
        } else if users.is_multiple_of(100_000) {
            let _ = writeln!(to, "{users} users");
        }
    }

    fn bad(&mut self, line: u64, reason: &str) {
        self.end();
        self.bad += 1;
        if self.bad <= SHOWN {
            let _ = writeln!(std::io::stderr(), "line {line}: {reason}");
        } else if self.bad == SHOWN + 1 {
            let _ = writeln!(std::io::stderr(), "and more, which are only counted");
        }
    }
}
