//! On what, and of what, it was measured.

use anyhow::Result;
use serde_json::{Value, json};

use crate::run::Run;
use crate::workspace::Workspace;

/// The machine, what else it does, and the commit.
pub(crate) fn describe(workspace: &Workspace) -> Result<Value> {
    let commit = Run::new(workspace, "git").args(["describe", "--always", "--dirty", "--abbrev=10"]).output();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    Ok(json!({
        "processor": field("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown".to_owned()),
        "cores": cores,
        "memoryMiB": field("/proc/meminfo", "MemTotal").and_then(|text| kib(&text)).unwrap_or(0) / 1_024,
        "system": read("/proc/sys/kernel/osrelease").unwrap_or_else(|| std::env::consts::OS.to_owned()),
        "load": read("/proc/loadavg").and_then(|text| first(&text)).unwrap_or_default(),
        "commit": commit.map(|text| text.trim().to_owned()).unwrap_or_else(|_| "unknown".to_owned()),
        "date": date(workspace, "+%Y-%m-%d")?,
    }))
}

fn date(workspace: &Workspace, format: &str) -> Result<String> {
    Ok(Run::new(workspace, "date").args(["-u", format]).output()?.trim().to_owned())
}

fn read(file: &str) -> Option<String> {
    Some(std::fs::read_to_string(file).ok()?.trim().to_owned())
}

fn first(text: &str) -> Option<String> {
    text.split(' ').next().map(str::to_owned)
}

fn field(file: &str, name: &str) -> Option<String> {
    let text = std::fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn kib(text: &str) -> Option<u64> {
    text.split(' ').next()?.parse().ok()
}
