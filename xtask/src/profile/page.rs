//! What is kept of a scene: its graphs, and a page with its sums.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;

use anyhow::Result;
use serde_json::Value;

use super::place::Place;
use super::stacks::Stacks;
use super::suite::{Phase, Scene};
use super::{Seen, flame, perf, place};
use crate::bench::machine;
use crate::workspace::Workspace;

/// Narrower frames are left out: this share of all.
const LEAST: f64 = 0.002;
/// Lines of a table at most, and the share of all that is worth one.
const LINES: usize = 16;
const WORTH: f64 = 0.01;

/// Writes the graphs and the page of a scene.
pub(super) fn write(workspace: &Workspace, scene: &Scene, roles: &BTreeMap<String, Seen>) -> Result<()> {
    let folder = workspace.root().join("docs").join("profiles");
    fs::create_dir_all(&folder)?;
    for (role, seen) in roles {
        let name = format!("{}-{role}", scene.name);
        let samples = |weight: f64| format!("{weight:.0} samples");
        let graph = draw(&format!("{name}: processor time"), &seen.cpu, samples);
        fs::write(folder.join(format!("{name}.svg")), graph)?;
        let graph = draw(&format!("{name}: memory in use"), &seen.heap, |bytes| {
            format!("{:.0} KiB", bytes / 1_024.0)
        });
        fs::write(folder.join(format!("{name}-heap.svg")), graph)?;
    }
    fs::write(folder.join(format!("{}.md", scene.name)), page(scene, &machine::describe(workspace)?, roles))?;
    println!("written: docs/profiles/{}.md", scene.name);
    Ok(())
}

fn draw(title: &str, stacks: &Stacks, say: impl Fn(f64) -> String) -> String {
    let mut readable = Stacks::default();
    for (frames, weight) in stacks.iter() {
        readable.add(place::readable(frames), weight);
    }
    let mut tree = readable.tree("all");
    tree.cut(tree.weight * LEAST);
    flame::draw(title, &tree, say)
}

fn page(scene: &Scene, place: &Value, roles: &BTreeMap<String, Seen>) -> String {
    let word = |name: &str| place[name].as_str().map_or_else(|| place[name].to_string(), str::to_owned);
    let mut page = format!(
        "# {}: {}\n\nWritten by `cargo xtask profile --only {}` on {}, of commit {}, on {} cores of {}, {} MiB, Linux {}. What it \
         says is explained in [PERFORMANCE.md](../PERFORMANCE.md).\n\n{} sessions of `loadtest/{}.toml`, {} gateway{}, one \
         coordinator.\n",
        scene.name,
        scene.what,
        scene.name,
        word("date"),
        word("commit"),
        word("cores"),
        word("processor"),
        word("memoryMiB"),
        word("system"),
        scene.sessions,
        scene.file,
        scene.gateways,
        if scene.gateways == 1 { "" } else { "s" },
    );
    for (role, seen) in roles {
        // Writing to a string does not fail.
        let _ = write!(
            page,
            "\n## {}\n\n{}\n{}",
            title(role, seen),
            time(scene, role, seen),
            memory(scene, role, seen)
        );
    }
    page
}

fn title(role: &str, seen: &Seen) -> String {
    match (role, seen.processes) {
        ("gateway", 1) => "The gateway".to_owned(),
        ("gateway", many) => format!("The {many} gateways together"),
        _ => "The coordinator".to_owned(),
    }
}

fn time(scene: &Scene, role: &str, seen: &Seen) -> String {
    let total = seen.cpu.total();
    let in_kernel = |frames: &[String]| frames.last().is_some_and(|frame| Place::of(frame) == Place::Kernel);
    let kernel: f64 = seen.cpu.iter().filter(|(frames, _)| in_kernel(frames)).map(|(_, weight)| weight).sum();
    let during = match scene.sampled {
        Phase::Ramp => "while all come",
        Phase::Measure => "while it is measured",
    };
    let mut text = format!(
        "{:.3} cores {during}, {:.0} % of it in the kernel; {total:.0} samples, {} for a second of a core.\n\n![Flame graph of \
         processor time]({}-{role}.svg)\n\n| share | whose time |\n|---|---|\n",
        seen.cores,
        100.0 * kernel / total.max(1.0),
        perf::FREQUENCY,
        scene.name,
    );
    for (whose, samples) in worth(&seen.cpu, place::whose) {
        let _ = writeln!(text, "| {:.1} % | {whose} |", 100.0 * samples / total);
    }
    text.push_str("\n| share | innermost function of a crate, or system call |\n|---|---|\n");
    for (site, samples) in worth(&seen.cpu, place::site) {
        let _ = writeln!(text, "| {:.1} % | `{site}` |", 100.0 * samples / total);
    }
    text
}

fn memory(scene: &Scene, role: &str, seen: &Seen) -> String {
    let total = seen.heap.total();
    let sessions = f64::from(seen.sessions.max(1));
    let mut text = format!(
        "{:.1} MiB in use {} s into the measurement, with {} sessions: {:.0} B for each. Resident without the profiler of \
         memory, when time was sampled: {:.1} MiB.\n\n![Flame graph of memory in use]({}-{role}-heap.svg)\n\n\
         | B a session | share | each, B | who asked for it |\n|---|---|---|---|\n",
        mebibytes(total),
        scene.written,
        seen.sessions,
        total / sessions,
        kibibytes(seen.resident_kib),
        scene.name,
    );
    let counts: BTreeMap<String, f64> = seen.counts.by(place::holder).into_iter().collect();
    for (holder, bytes) in worth(&seen.heap, place::holder) {
        let each = bytes / counts.get(&holder).copied().unwrap_or(1.0);
        let _ = writeln!(
            text,
            "| {:.0} | {:.1} % | {each:.0} | {holder} |",
            bytes / sessions,
            100.0 * bytes / total
        );
    }
    text
}

/// What is worth a line.
fn worth(stacks: &Stacks, word: impl Fn(&[String]) -> String) -> impl Iterator<Item = (String, f64)> {
    let least = stacks.total() * WORTH;
    stacks.by(word).into_iter().take(LINES).filter(move |(_, weight)| *weight >= least)
}

fn mebibytes(bytes: f64) -> f64 {
    bytes / 1_048_576.0
}

/// In MiB.
fn kibibytes(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX)) / 1_024.0
}

#[cfg(test)]
mod tests {
    use super::super::suite::SUITE;
    use super::*;

    fn seen() -> Seen {
        let mut seen =
            Seen { processes: 2, cores: 0.25, resident_kib: 2_048, sessions: 100, ..Seen::default() };
        let stack = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        seen.cpu.add(stack("t tokio::io send __x64_sys_sendto_[k]"), 3_742.5);
        seen.cpu.add(stack("t herenow_gateway_core::turn"), 1_247.5);
        seen.heap.add(stack("t herenow_gateway_core::watch::add alloc::vec::push<Watched>"), 1_048_576.0);
        seen.counts.add(stack("t herenow_gateway_core::watch::add alloc::vec::push<Watched>"), 1_024.0);
        seen
    }

    #[test]
    fn a_page_has_sums_of_time_and_of_memory() {
        let scene = SUITE.iter().find(|scene| scene.name == "cliques").unwrap();
        let page = page(scene, &serde_json::json!({}), &BTreeMap::from([("gateway".to_owned(), seen())]));
        for line in [
            "## The 2 gateways together",
            "0.250 cores while it is measured, 75 % of it in the kernel; 4990 samples, 499 for a second of a core.",
            "| 75.0 % | kernel: sendto |",
            "| 25.0 % | herenow_gateway_core |",
            "| 25.0 % | `herenow_gateway_core::turn` |",
            "Resident without the profiler of memory, when time was sampled: 2.0 MiB.",
            "| 10486 | 100.0 % | 1024 | `herenow_gateway_core::watch::add`: `push<Watched>` |",
            "](cliques-gateway.svg)",
            "](cliques-gateway-heap.svg)",
        ] {
            assert!(page.contains(line), "{line}\n{page}");
        }
    }
}
