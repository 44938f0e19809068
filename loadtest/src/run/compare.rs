//! Two results beside each other.

use std::fmt::Write as _;

use super::result::{Outcome, millis};

/// A difference of less is noise on a machine that does other things too.
const NOISE: f64 = 0.10;

/// What is better.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Better {
    Less,
    /// It depends on what was asked for.
    Neither,
}

struct Row {
    name: String,
    values: [u64; 2],
    show: fn(u64) -> String,
    better: Better,
}

/// A table of both, with the ratio of the second to the first.
pub(super) fn table(first: &Outcome, second: &Outcome) -> String {
    let mut text = String::new();
    if first.scenario.name != second.scenario.name
        || first.scenario.people.sessions != second.scenario.people.sessions
    {
        let of = |outcome: &Outcome| {
            format!("{} with {}", outcome.scenario.name, outcome.scenario.people.sessions)
        };
        // Writing to a string does not fail.
        let _ = writeln!(text, "not the same load: {}, and {}", of(first), of(second));
    }
    let _ = writeln!(text, "{:<34}{:>16}{:>16}{:>9}", "", "first", "second", "ratio");
    for row in rows(first, second) {
        let [a, b] = row.values;
        let ratio = float(b) / float(a).max(f64::MIN_POSITIVE);
        let (ratio, worse) = match (a, b) {
            (0, 0) => (String::new(), false),
            (0, _) => ("new".to_owned(), true),
            _ => (format!("{ratio:.2}"), ratio > 1.0 + NOISE),
        };
        let word = if worse && row.better == Better::Less { "  worse" } else { "" };
        let _ = writeln!(text, "{:<34}{:>16}{:>16}{ratio:>9}{word}", row.name, (row.show)(a), (row.show)(b));
    }
    for (name, outcome) in [("first", first), ("second", second)] {
        let faults = if outcome.faults.is_empty() { "clean".to_owned() } else { outcome.faults.join("; ") };
        let _ = writeln!(text, "referee of the {name}: {faults}");
    }
    text
}

fn rows(first: &Outcome, second: &Outcome) -> Vec<Row> {
    let row = |name: &str, show, better, of: fn(&Outcome) -> u64| Row {
        name: name.to_owned(),
        values: [of(first), of(second)],
        show,
        better,
    };
    let plain: fn(u64) -> String = |value| value.to_string();
    let (less, neither) = (Better::Less, Better::Neither);
    let mut rows = vec![
        row("people", plain, neither, |of| of.scenario.people.sessions.into()),
        row("changes", plain, neither, |of| of.measured.counts.changes),
        row("deliveries", plain, neither, |of| of.measured.counts.deliveries),
        row("change to watcher p50", millis, less, |of| of.measured.latency.p50),
        row("change to watcher p99", millis, less, |of| of.measured.latency.p99),
        row("change to watcher p99.9", millis, less, |of| of.measured.latency.p999),
        row("change to watcher max", millis, less, |of| of.measured.latency.max),
        row("falsely online max", millis, less, |of| of.measured.false_online.max),
        row("falsely offline max", millis, less, |of| of.measured.false_offline.max),
        row("wrong over the bound", plain, less, |of| of.measured.counts.all_over_bound()),
        row("unexplained transitions", plain, less, |of| of.measured.counts.unexplained),
        row("views wrong at the end", plain, less, |of| of.end.wrong),
        row("blind, ms of views", plain, less, |of| of.measured.counts.blind_micros / 1_000),
        row("forced disconnects", plain, less, |of| of.measured.counts.all_forced()),
        row("connect p99", millis, less, |of| of.before.connect.p99),
        row("late to schedule p99", millis, neither, |of| of.measured.lateness.p99),
    ];
    let (one, two) = (first.classes(), second.classes());
    for (class, (peak, cores)) in &one {
        let Some((other_peak, other_cores)) = two.get(class) else { continue };
        let better = if class == "load" { neither } else { less };
        rows.push(Row {
            name: format!("{class}: peak MiB"),
            values: [peak / 1_024, other_peak / 1_024],
            show: plain,
            better,
        });
        rows.push(Row {
            name: format!("{class}: thousandths of a core"),
            values: [thousandths(*cores), thousandths(*other_cores)],
            show: plain,
            better,
        });
    }
    rows
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few cores")]
fn thousandths(cores: f64) -> u64 {
    (cores * 1_000.0).round() as u64
}

#[expect(clippy::cast_precision_loss, reason = "a ratio of two digits")]
const fn float(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use super::super::page::tests::outcome;
    use super::*;

    #[test]
    fn what_got_worse_is_said() {
        let table = table(&outcome(900), &outcome(9_000));
        let line = table.lines().find(|line| line.contains("p50")).unwrap();
        assert!(line.ends_with("worse") && line.contains("6.7"), "{line}");
        assert!(!table.contains("not the same load"));
        assert!(table.contains("referee of the second: 1 transition"));
    }

    #[test]
    fn noise_is_not_worse() {
        assert!(!table(&outcome(9_000), &outcome(9_100)).contains("worse"));
    }
}
