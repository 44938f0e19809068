//! A load with the processes that it started. Its line of progress for each second is the clock of a profile.

use std::io::{BufRead as _, BufReader, Lines};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::run::Run;
use crate::workspace::Workspace;

/// A `herenow-loadtest run --spawn`. Dropping it ends it, and it ends what it started.
pub(super) struct Load {
    child: Child,
    lines: Lines<BufReader<ChildStderr>>,
    /// What it wrote last, to be told when it ends early.
    said: String,
}

/// One second of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Second {
    /// Counted from the beginning.
    pub(super) number: u64,
    pub(super) phase: String,
    pub(super) sessions: u32,
    /// The line as a person reads it.
    pub(super) line: String,
}

/// A process of the service.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Server {
    pub(super) pid: u32,
    /// `gateway` or `coordinator`.
    pub(super) role: String,
}

impl Load {
    pub(super) fn start(
        workspace: &Workspace,
        program: &Path,
        arguments: &[String],
        malloc: Option<&str>,
    ) -> Result<Self> {
        let mut command = Command::new(program);
        command.current_dir(workspace.root()).args(arguments);
        command.env("HERENOW_NATS_SERVER", workspace.tool("nats-server"));
        // Read by jemalloc in the processes that it starts.
        command.envs(malloc.map(|malloc| ("MALLOC_CONF", malloc)));
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        let stderr = child.stderr.take().context("no standard error stream")?;
        Ok(Self { child, lines: BufReader::new(stderr).lines(), said: String::new() })
    }

    /// The next second; none when it has ended well.
    pub(super) fn next(&mut self) -> Result<Option<Second>> {
        for line in self.lines.by_ref() {
            let line = line?;
            if let Some(second) = second(&line) {
                return Ok(Some(second));
            }
            self.said = line;
        }
        let status = self.child.wait()?;
        // One whose referee is not content has been a load all the same.
        if status.success() || self.said.contains("referee") {
            return Ok(None);
        }
        bail!("the load ended: {status}; its last words: {}", self.said)
    }

    /// Waits until these processes have ended; it goes on telling its seconds meanwhile.
    pub(super) fn wait_for(&mut self, servers: &[Server]) -> Result<()> {
        let running = |server: &Server| {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", server.pid)).unwrap_or_default();
            // It is not waited for by who started it, so that it stays as a zombie.
            stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
        };
        while servers.iter().any(running) {
            self.next()?.context("the load ended before its processes had written down their memory")?;
        }
        Ok(())
    }

    /// The gateways and coordinators that it started.
    pub(super) fn servers(&self) -> Result<Vec<Server>> {
        let mut servers = Vec::new();
        for entry in std::fs::read_dir("/proc")? {
            let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            // One that has ended meanwhile is none.
            let read =
                |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
            if parent(&read("stat")) == Some(self.child.id())
                && let Some(role) = role(&read("cmdline"))
            {
                servers.push(Server { pid, role });
            }
        }
        if servers.is_empty() {
            bail!("the load has started no gateway and no coordinator");
        }
        Ok(servers)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // SIGTERM, so that it ends its processes. If it is gone already, there is nothing to do.
        let pid = self.child.id().to_string();
        let _ = Command::new("kill").arg(pid).stderr(Stdio::null()).status();
        let _ = self.child.wait();
    }
}

/// Asks processes to write down their memory, and to end.
pub(super) fn write_memory(workspace: &Workspace, servers: &[Server]) -> Result<()> {
    let pids = servers.iter().map(|server| server.pid.to_string());
    Run::new(workspace, "kill").arg("-USR2").args(pids).done()
}

/// `  12 s measure  sessions 6000/6000  changes 3 …`
fn second(line: &str) -> Option<Second> {
    let mut words = line.split_ascii_whitespace();
    let number = words.next()?.parse().ok()?;
    let ("s", Some(phase), Some("sessions")) = (words.next()?, words.next(), words.next()) else {
        return None;
    };
    let sessions = words.next()?.split('/').next()?.parse().ok()?;
    Some(Second { number, phase: phase.to_owned(), sessions, line: line.trim_end().to_owned() })
}

/// The parent in `/proc/PID/stat`: behind the name, which may hold anything, and the state.
fn parent(stat: &str) -> Option<u32> {
    stat.rsplit_once(") ")?.1.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// What a process is by its `--name`.
fn role(command: &str) -> Option<String> {
    let name = command.split('\0').skip_while(|word| *word != "--name").nth(1)?;
    let role = name.split('-').next()?;
    ["gateway", "coordinator"].contains(&role).then(|| role.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_progress_is_a_second_and_others_are_not() {
        let line = "  12 s measure  sessions 5999/6000  changes 3  deliveries 9";
        let second_of = second(line).unwrap();
        assert_eq!((second_of.number, second_of.phase.as_str(), second_of.sessions), (12, "measure", 5_999));
        assert_eq!(second("Error: the referee is not content"), None);
        assert_eq!(second("12 s later"), None);
    }

    #[test]
    fn processes_are_known_by_their_parent_and_name() {
        assert_eq!(parent("812 (a) b) S 811 812 0 -1"), Some(811));
        assert_eq!(role("herenow\0serve\0--name\0gateway-2\0"), Some("gateway".to_owned()));
        assert_eq!(role("nats-server\0-p\x004222\0"), None);
        assert_eq!(role("x\0--name\0archiver-1\0"), None);
    }
}
