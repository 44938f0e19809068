//! Signals, and what the system says of a process.

use std::process::{Child, Command};
use std::time::Duration;

use anyhow::ensure;

use crate::clock;

/// How long a process may take to be ready, to end in order, or to be seen in a state.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
pub(super) const LOOK: Duration = Duration::from_millis(20);

/// A child that is killed when dropped, even when it is stopped.
#[derive(Debug)]
pub(in crate::chaos) struct Owned(pub(in crate::chaos) Child);

impl Drop for Owned {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to do.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// SIGSTOP; the proof is the state in `/proc`.
pub(in crate::chaos) async fn freeze(pid: u32) -> anyhow::Result<()> {
    signal(pid, "-STOP")?;
    let end = clock::now() + PATIENCE;
    while state(pid) != Some('T') {
        ensure!(clock::now() < end, "process {pid} does not stop");
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

/// SIGCONT, for a process that is stopped.
pub(in crate::chaos) fn thaw(pid: u32) -> anyhow::Result<()> {
    ensure!(state(pid) == Some('T'), "process {pid} was not stopped all the time");
    signal(pid, "-CONT")
}

pub(super) fn signal(pid: u32, signal: &str) -> anyhow::Result<()> {
    let status = Command::new("kill").args([signal, &pid.to_string()]).status()?;
    ensure!(status.success(), "kill {signal} {pid}: {status}");
    Ok(())
}

/// The letter of the process's state; none when it is gone.
pub(in crate::chaos) fn state(pid: u32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// Memory that the process has in use, in KiB.
pub(in crate::chaos) fn resident(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    line.split_ascii_whitespace().nth(1)?.parse().ok()
}
