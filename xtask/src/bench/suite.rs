//! What is measured, in order.

use std::collections::BTreeMap;

use anyhow::Result;
use serde_json::Value;

use super::figures;

/// The figures of one run.
pub(super) type One = BTreeMap<String, f64>;

/// A step of the suite.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) name: &'static str,
    /// The heading of its section.
    pub(super) what: &'static str,
    pub(super) kind: Kind,
}

#[derive(Debug)]
pub(super) enum Kind {
    /// Instructions and allocations, against those on record.
    Counts,
    /// Criterion, with these arguments.
    Paths(&'static [&'static str]),
    /// `herenow-loadtest latency`.
    Latency(&'static [&'static str]),
    /// `herenow-loadtest run`, and what is read from its result.
    Load(&'static [&'static str], fn(&Value) -> Result<One>),
    /// The same at higher and higher rates, from this one on; once, whatever `--runs` says.
    Highest(&'static [&'static str], f64),
    /// The same with more and more gateways; once.
    Crossing(&'static [&'static str]),
}

const ONE: [&str; 6] = ["--spawn", "--gateways", "1", "--coordinators", "1", "--quiet"];

/// With 3 runs each it takes less than half an hour.
pub(super) const SUITE: [Step; 16] = [
    Step { name: "counts", what: "Instructions and allocations of the hot paths", kind: Kind::Counts },
    Step {
        name: "paths",
        what: "Times of the hot paths",
        kind: Kind::Paths(&["--warm-up-time", "0.5", "--measurement-time", "1", "--sample-size", "20"]),
    },
    Step {
        name: "latency",
        what: "A change, over two gateways and NATS, to its watcher",
        kind: Kind::Latency(&["latency", "--rate", "50"]),
    },
    Step {
        name: "idle",
        what: "18,000 idle sessions of one gateway",
        kind: Kind::Load(
            &["run", "loadtest/bench/idle.toml", ONE[0], ONE[1], ONE[2], ONE[3], ONE[4], ONE[5]],
            figures::memory,
        ),
    },
    Step {
        name: "idle-tls",
        what: "18,000 idle sessions of one gateway, under TLS 1.3",
        kind: Kind::Load(
            &["run", "loadtest/bench/idle.toml", ONE[0], ONE[1], ONE[2], ONE[3], ONE[4], ONE[5], "--tls"],
            figures::memory,
        ),
    },
    Step {
        name: "idle-watching",
        what: "18,000 idle sessions of one gateway, each watching 100 users",
        kind: Kind::Load(
            &["run", "loadtest/bench/idle-watching.toml", ONE[0], ONE[1], ONE[2], ONE[3], ONE[4], ONE[5]],
            figures::memory,
        ),
    },
    Step {
        name: "storm",
        what: "18,000 sessions of two gateways are cut at once",
        kind: Kind::Load(&["run", "loadtest/bench/storm.toml", "--spawn", "--quiet"], figures::storm),
    },
    Step {
        name: "celebrity",
        what: "One user watched by 17,999, at two gateways",
        kind: Kind::Load(
            &["run", "loadtest/bench/celebrity.toml", "--spawn", "--quiet"],
            figures::deliveries,
        ),
    },
    Step {
        name: "cliques",
        what: "2,040 people in groups of 51, 200 changes a second",
        kind: Kind::Load(&["run", "loadtest/bench/cliques.toml", "--spawn", "--quiet"], figures::deliveries),
    },
    Step {
        name: "cliques-2000",
        what: "2,040 people in groups of 51: the highest rate of changes",
        kind: Kind::Highest(&["run", "loadtest/bench/cliques.toml", "--spawn", "--quiet"], 1_000.0),
    },
    Step {
        name: "cliques-5000",
        what: "4,998 people in groups of 51: the highest rate of changes",
        kind: Kind::Highest(
            &["run", "loadtest/bench/cliques.toml", "--spawn", "--quiet", "--sessions", "4998"],
            1_000.0,
        ),
    },
    Step {
        name: "cliques-15000",
        what: "14,994 people in groups of 51: the highest rate of changes",
        kind: Kind::Highest(
            &["run", "loadtest/bench/cliques.toml", "--spawn", "--quiet", "--sessions", "14994"],
            1_000.0,
        ),
    },
    Step {
        name: "slow",
        what: "2,040 people in groups of 51, one of twenty reads nothing",
        kind: Kind::Load(&["run", "loadtest/bench/slow.toml", "--spawn", "--quiet"], figures::slow),
    },
    Step {
        name: "slow-none",
        what: "The same, and everybody reads",
        kind: Kind::Load(
            &["run", "loadtest/bench/slow.toml", "--spawn", "--quiet", "--all-read"],
            figures::slow,
        ),
    },
    Step {
        name: "transitions",
        what: "33,333 changes a second through 20 gateways",
        kind: Kind::Load(
            &[
                "run",
                "loadtest/bench/transitions.toml",
                "--spawn",
                "--gateways",
                "20",
                "--set",
                "gateway.shards=1",
                "--set",
                "coordinator.interest_by_user_from=1",
                "--quiet",
            ],
            figures::transitions,
        ),
    },
    Step {
        name: "interest",
        what: "Changes sent by partition, and by user, to 10, 50 and 200 gateways",
        kind: Kind::Crossing(&[
            "run",
            "loadtest/bench/interest.toml",
            "--spawn",
            "--set",
            "gateway.shards=1",
            "--quiet",
        ]),
    },
];

impl Step {
    /// What measures it alone, by hand.
    pub(super) fn command(&self) -> String {
        match self.kind {
            Kind::Counts => "cargo xtask bench counts".to_owned(),
            Kind::Paths(arguments) => format!("cargo xtask bench paths -- {}", arguments.join(" ")),
            Kind::Latency(arguments) => format!("cargo xtask bench latency -- {}", arguments[1..].join(" ")),
            Kind::Load(arguments, _) | Kind::Highest(arguments, _) | Kind::Crossing(arguments) => {
                format!("herenow-loadtest {}", arguments.join(" "))
            }
        }
    }
}
