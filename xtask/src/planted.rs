//! Shows that the judge of chaos finds mistakes: plants one at a time, plays one row, and tells what found it. A judge
//! that passes any of them is not to be trusted when it passes the service.
//!
//! Fences (R2) are missing on both sides at once: where only gateways have none, nothing is seen of it on real processes,
//! as an owner that hears of a later epoch lets go by itself. The simulation finds each alone (`cargo xtask mutate`).

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::copy::Copy;
use crate::rules::{RULES, Rule, edit};
use crate::run::Run;
use crate::workspace::Workspace;

/// A mistake, and the row in which it must be found.
struct Bug {
    name: &'static str,
    row: &'static str,
    how: How,
}

/// How it is planted.
enum How {
    /// Between gateways and watchers, by the driver: its word there.
    Between(&'static str),
    /// By a setting.
    Setting(&'static str),
    /// In a copy of the sources: by breaking rules of the cores, named as there, or below.
    Inside(&'static [&'static str]),
}

impl How {
    const fn place(&self) -> &'static str {
        match self {
            Self::Between(_) => "between gateway and watcher",
            Self::Setting(setting) => setting,
            Self::Inside(_) => "in a copy of the sources",
        }
    }
}

const BUGS: &[Bug] = &[
    Bug { name: "1 of 100 changes is lost for good", row: "none", how: How::Between("lost-record") },
    Bug { name: "what is old is told again", row: "none", how: How::Between("stale-replay") },
    Bug { name: "who has left comes back", row: "none", how: How::Between("ghost") },
    Bug {
        name: "one offline more for who hides or is gone",
        row: "none",
        how: How::Between("extra-offline"),
    },
    Bug { name: "idle is told as online", row: "none", how: How::Between("idle-as-online") },
    Bug { name: "unknown is told without need", row: "none", how: How::Between("needless-unknown") },
    Bug { name: "watchers are cut off without need", row: "none", how: How::Between("needless-cut") },
    Bug {
        name: "changes while a snapshot is read are lost",
        row: "gateway-kill-return",
        how: How::Between("lost-update"),
    },
    Bug { name: "no grace", row: "gateway-kill-return", how: How::Setting("coordinator.grace_period=0s") },
    Bug {
        name: "a gateway's lease never expires",
        row: "gateway-kill-away",
        how: How::Inside(&["gateways never die (R6)"]),
    },
    Bug { name: "of several devices the last one counts", row: "none", how: How::Inside(&[LAST_DEVICE]) },
    Bug {
        name: "a cold owner denies whom it does not know",
        row: "coordinator-kill",
        how: How::Inside(&["a new owner settles at once (R8)"]),
    },
    Bug {
        name: "losses on the bus are noticed late",
        row: "bus-loss-10",
        how: How::Inside(&["no gap check downward (R9)", LATE_TAIL]),
    },
    Bug {
        name: "no fencing",
        row: "coordinator-freeze",
        how: How::Inside(&["no fencing at receivers (R2)", KEPT_PARTITION]),
    },
];

const LAST_DEVICE: &str = "of several devices the last one counts";

const LATE_TAIL: &str = "a lost last change is missed after 5 s";

const KEPT_PARTITION: &str = "an owner keeps what another has claimed since (R2)";

/// Rules that only these mistakes break.
const MORE: &[Rule] = &[
    Rule {
        name: LAST_DEVICE,
        edits: &[edit(
            "coordinator/core/src/derive.rs",
            "if sessions.any(|session| session.activity == Activity::Active) {",
            "if sessions.last().is_some_and(|session| session.activity == Activity::Active) {",
        )],
    },
    Rule {
        name: LATE_TAIL,
        // Not never: what is lost while all start would be missed for good, and there would be no calm before the fault.
        edits: &[edit(
            "gateway/core/src/view.rs",
            "now.mono.since(since) >= tail",
            "now.mono.since(since) >= std::time::Duration::from_secs(5)",
        )],
    },
    Rule {
        name: KEPT_PARTITION,
        // Not before it knows somebody: nothing would ever settle when all start.
        edits: &[edit(
            "coordinator/core/src/ownership.rs",
            "match std::mem::take(&mut slot.role) {",
            "if matches!(&slot.role, Role::Owner(state) if !state.users.is_empty()) { return; } match std::mem::take(&mut slot.role) {",
        )],
    },
];

fn rule(name: &str) -> Result<&'static Rule> {
    RULES.iter().chain(MORE).find(|rule| rule.name == name).with_context(|| format!("no rule \"{name}\""))
}

/// Plays every row once as it is, then each mistake, and prints what found it.
pub(crate) fn all(workspace: &Workspace, only: &str) -> Result<()> {
    let judge = Judge { workspace, result: workspace.target().join("planted.json") };
    let bugs: Vec<&Bug> = BUGS.iter().filter(|bug| bug.name.contains(only)).collect();
    let mut rows: Vec<&str> = bugs.iter().map(|bug| bug.row).collect();
    rows.sort_unstable();
    rows.dedup();
    for row in rows {
        if let Some(found) = judge.play(row, &[])? {
            bail!("{row}: misses without any mistake: {found}");
        }
    }
    println!("{:<44} {:<31} {:<20} found by", "mistake", "planted", "row");
    let mut passed = Vec::new();
    for bug in bugs {
        // A run that proves nothing has found nothing.
        let found = judge.find(bug).unwrap_or_else(|error| {
            eprintln!("{error:#}");
            None
        });
        let by = found.as_deref().unwrap_or("NOTHING");
        println!("{:<44} {:<31} {:<20} {by}", bug.name, bug.how.place(), bug.row);
        if found.is_none() {
            passed.push(bug.name);
        }
    }
    if !passed.is_empty() {
        bail!("not found: {}", passed.join("; "));
    }
    Ok(())
}

/// The driver of chaos, and where it writes its result.
struct Judge<'a> {
    workspace: &'a Workspace,
    result: PathBuf,
}

impl Judge<'_> {
    fn find(&self, bug: &Bug) -> Result<Option<String>> {
        match bug.how {
            How::Between(word) => self.play(bug.row, &["--plant", word]),
            How::Setting(setting) => self.play(bug.row, &["--set", setting]),
            How::Inside(names) => {
                let rules = names.iter().map(|name| rule(name)).collect::<Result<Vec<_>>>()?;
                let copy = Copy::make(self.workspace)?;
                copy.with_edits(rules.iter().flat_map(|rule| rule.edits), || {
                    let program = copy.service(self.workspace)?;
                    self.play(bug.row, &["--herenow", &program.display().to_string()])
                })
            }
        }
    }

    /// What was missed, if anything.
    fn play(&self, row: &str, more: &[&str]) -> Result<Option<String>> {
        // A result of another run is none of this.
        let _ = std::fs::remove_file(&self.result);
        let driver = self.workspace.target().join("debug").join("herenow-loadtest");
        let (_, said) = Run::new(self.workspace, driver)
            .args(["chaos", "--faults", row, "--json"])
            .arg(&self.result)
            .args(more)
            .env("HERENOW_NATS_SERVER", self.workspace.tool("nats-server"))
            .said()?;
        understand(&self.result).with_context(|| format!("{row}: {said}"))
    }
}

/// Reads a result of one row: what was missed, if anything.
fn understand(result: &Path) -> Result<Option<String>> {
    let report: Value = serde_json::from_str(&std::fs::read_to_string(result)?)?;
    let row = report["rows"].get(0).with_context(|| format!("it proves nothing: {}", report["invalid"]))?;
    let misses = row["misses"].as_array().context("a row has misses")?;
    let misses: Vec<&str> = misses.iter().filter_map(Value::as_str).collect();
    Ok((!misses.is_empty()).then(|| misses.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_that_is_broken_is_there_once() {
        let workspace = Workspace::find().unwrap();
        for bug in BUGS {
            let How::Inside(names) = bug.how else { continue };
            for edit in names.iter().flat_map(|name| rule(name).unwrap().edits) {
                let text = std::fs::read_to_string(workspace.root().join(edit.file)).unwrap();
                assert_eq!(text.matches(edit.from).count(), 1, "{}: {}", edit.file, edit.from);
            }
        }
    }

    #[test]
    fn a_result_is_its_misses_and_an_invalid_one_is_none() {
        let file = std::env::temp_dir().join(format!("herenow-planted-{}.json", std::process::id()));
        let said = |text: &str| {
            std::fs::write(&file, text).unwrap();
            understand(&file)
        };
        assert_eq!(said(r#"{"rows":[{"misses":["a","b"]}]}"#).unwrap().as_deref(), Some("a, b"));
        assert_eq!(said(r#"{"rows":[{"misses":[]}]}"#).unwrap(), None);
        assert!(said(r#"{"rows":[],"invalid":["no calm"]}"#).is_err());
        std::fs::remove_file(file).unwrap();
    }
}
