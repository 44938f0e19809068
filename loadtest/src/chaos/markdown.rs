//! A run as a page of documentation.

use std::fmt::Write as _;
use std::process::Command;

use super::report::{Report, Row};

const HEAD: &str = "\
# Reliability

What `cargo xtask chaos` printed; this page is written by the command it names, and by nothing else.

For each fault a fresh cluster of real processes is started: 3 coordinators, 3 gateways, and NATS with JetStream. Every
process reaches every NATS server through a proxy of its own, which understands messages and can lose, double, delay
or swallow them. Users come and go by a seed, some with three devices, some with claims; watchers on every gateway
follow them all. The judge stands outside: its clients share no code with the service but the socket library, and it
compares what every watcher was shown of every user with what was true, before, during and after the fault. A fault
must prove that it bit, or its row does not count.

Times in milliseconds. *Bound*: the longest that anybody may be shown wrongly. *Wrongly online*, *offline*, *otherwise*
(idle instead of online and the like): the longest that anybody was. *Unexplained*: changes shown that nothing true
explains. *Unknown*: the longest that one watcher was told of one user that its status is not known, or was without a
gateway, of what is allowed. *Right after*: from the end of the fault until every watcher showed everybody rightly,
of what is allowed. *Cut*: clients that lost their connection though the fault did not take it. *At the end*: pairs of
watcher and user that were wrong when all was over.
";

/// The whole page.
pub(super) fn page(report: &Report, command: &str) -> String {
    let mut text = HEAD.to_owned();
    // Writing to a string does not fail.
    let _ = write!(text, "\n{}\n\n{}", setting(report, command), table(&report.rows));
    let _ = writeln!(text, "\n## How it is known that the faults bit\n");
    for row in &report.rows {
        let offline = row.offline_after_ms;
        let offline = offline.map(|ms| format!("; all who were lost were offline everywhere after {ms} ms"));
        let _ = writeln!(text, "- **{}**: {}{}", row.fault.name(), row.proof, offline.unwrap_or_default());
    }
    let notes = [("What was not played", &report.skipped), ("What proves nothing", &report.invalid)];
    for (title, lines) in notes.into_iter().filter(|(_, lines)| !lines.is_empty()) {
        let _ = writeln!(text, "\n## {title}\n");
        for line in lines {
            let _ = writeln!(text, "- {line}");
        }
    }
    text
}

fn setting(report: &Report, command: &str) -> String {
    let timers = match report.timers_shorter {
        1 => "the default timers".to_owned(),
        times => format!("all timers {times} times shorter"),
    };
    format!(
        "The machine: {}. Every process, the judge's too, ran on it, over loopback, built without optimisation. Commit {}, \
         `{command}`: {timers}, {} NATS servers, {} users, {} watchers, seed {}.",
        machine(),
        commit(),
        report.nats_servers,
        report.users,
        report.watchers,
        report.seed,
    )
}

fn table(rows: &[Row]) -> String {
    let mut text = "| fault | bound | wrongly online | offline | otherwise | unexplained | unknown | right after | cut | at the end | |\n\
         |---|---|---|---|---|---|---|---|---|---|---|\n"
        .to_owned();
    for row in rows {
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {} of {} | {} of {} | {} | {} | {} |",
            row.fault.about(),
            row.bound_ms,
            row.false_online_ms,
            row.false_offline_ms,
            row.wrong_status_ms,
            row.unexplained,
            row.unknown_ms,
            row.unknown_allowed_ms,
            row.recovery_ms.map_or_else(|| "never".to_owned(), |ms| ms.to_string()),
            row.recovery_allowed_ms,
            row.forced,
            row.wrong_at_end,
            if row.passed { "kept".to_owned() } else { format!("**missed**: {}", row.misses.join(", ")) },
        );
    }
    text
}

/// What the system says of the machine.
fn machine() -> String {
    let read = |file: &str| std::fs::read_to_string(file).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let processors = std::thread::available_parallelism().map_or(0, usize::from);
    let model = field(&read("/proc/cpuinfo"), "model name").unwrap_or_else(|| "unknown processor".to_owned());
    let memory = field(&read("/proc/meminfo"), "MemTotal").unwrap_or_default();
    let memory = memory.split(' ').next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or_default();
    let system = read("/proc/sys/kernel/osrelease");
    let system: Vec<&str> = system.trim().split('.').take(2).collect();
    format!("{processors} cores of {model}, {} GiB, Linux {}", memory / (1024 * 1024), system.join("."))
}

fn commit() -> String {
    let git = |arguments: &[&str]| {
        let output =
            Command::new("git").args(arguments).output().ok().filter(|output| output.status.success());
        output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", "--short", "HEAD"]) else { return "unknown".to_owned() };
    let changed =
        git(&["status", "--porcelain", "--untracked-files=no"]).is_some_and(|files| !files.is_empty());
    if changed { format!("{commit} with changes") } else { commit }
}
