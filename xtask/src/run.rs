//! Starts other programs, without a shell.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::workspace::Workspace;

/// A program to run from the root of the workspace.
#[derive(Debug)]
pub(crate) struct Run(Command);

impl Run {
    pub(crate) fn new(workspace: &Workspace, program: impl AsRef<OsStr>) -> Self {
        let mut command = Command::new(program);
        command.current_dir(workspace.root());
        Self(command)
    }

    pub(crate) fn cargo<const N: usize>(workspace: &Workspace, arguments: [&str; N]) -> Self {
        Self::new(workspace, std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())).args(arguments)
    }

    pub(crate) fn args(mut self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.0.args(arguments);
        self
    }

    pub(crate) fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.0.arg(argument);
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.0.env(name, value);
        self
    }

    pub(crate) fn at(mut self, directory: &Path) -> Self {
        self.0.current_dir(directory);
        self
    }

    /// Runs it in front of the user.
    pub(crate) fn done(mut self) -> Result<()> {
        let status = self.0.status().with_context(|| format!("starting {}", self.words()))?;
        if !status.success() {
            bail!("{} failed: {status}", self.words());
        }
        Ok(())
    }

    /// Runs it out of sight and gives what it writes.
    pub(crate) fn output(mut self) -> Result<String> {
        let output = self.0.output().with_context(|| format!("starting {}", self.words()))?;
        if !output.status.success() {
            bail!("{} failed: {}\n{}", self.words(), output.status, String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs it out of sight: whether it ended well, and what it wrote in any case.
    pub(crate) fn said(mut self) -> Result<(bool, String)> {
        let output = self.0.output().with_context(|| format!("starting {}", self.words()))?;
        Ok((output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned()))
    }

    /// Whether it can be started, and ends well, out of sight.
    pub(crate) fn works(mut self) -> bool {
        let quiet = self.0.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        quiet.status().is_ok_and(|status| status.success())
    }

    fn words(&self) -> String {
        let all = std::iter::once(self.0.get_program()).chain(self.0.get_args());
        all.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
    }
}
