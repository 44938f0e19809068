//! Instructions and allocations of the hot paths, compared with those on record: counts tell on any machine, and beside
//! any other work, what times cannot.
//!
//! The paths are those of the crate `counts`, walked under callgrind. Counted are the instructions of the program itself.
//! Those of the C library are left out, since it chooses how to copy and to allocate by the processor and by its own
//! version; what is asked of it is not: a copy in place is an instruction, and allocations are counted one by one.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde_json::Value;

use crate::run::Run;
use crate::workspace::Workspace;

/// So many percent more or fewer are taken for the same: compilers and dependencies move counts a little.
const TOLERANCE: f64 = 5.0;
/// The tolerance of allocations, which are whole numbers on paths that are all alike.
const ALLOCATIONS: f64 = 0.1;
/// What counts; the rest of the program makes what has to be there.
const COUNTED: &str = "*herenow_counts*counted*";
const ALLOCATORS: [&str; 5] = ["malloc", "calloc", "realloc", "posix_memalign", "aligned_alloc"];

#[derive(Args, Debug, Default)]
pub(crate) struct Options {
    /// Record what is counted now, in place of what is on record
    #[arg(long)]
    write: bool,
}

/// Of one walk of a path, on average.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Count {
    instructions: f64,
    /// Of the C library; not compared.
    library: f64,
    allocations: f64,
}

/// Counts every path, and fails where one has become longer. Skipped where valgrind cannot be had.
pub(crate) fn all(workspace: &Workspace, options: &Options) -> Result<()> {
    if !Run::new(workspace, "valgrind").arg("--version").works() {
        println!("skipped: there is no valgrind; on Debian: apt-get install valgrind");
        return Ok(());
    }
    Run::cargo(workspace, ["build", "--release", "--package", "herenow-counts"]).done()?;
    // As callgrind names it: without links on the way.
    let program = workspace.target().join("release").join("herenow-counts").canonicalize()?;
    let counts = count_all(workspace, &program)?;
    let record = record(workspace);
    if options.write {
        write(&record, &counts)?;
        println!("written: {}", workspace.relative(&record));
    }
    let Ok(text) = fs::read_to_string(&record) else {
        println!("skipped: there is no {}; --write makes it", workspace.relative(&record));
        return Ok(());
    };
    let recorded: Value = serde_json::from_str(&text).context("reading what is on record")?;
    compare(&recorded, &counts)
}

/// What is on record; processors of another kind have other instructions.
fn record(workspace: &Workspace) -> PathBuf {
    workspace.root().join("counts").join(format!("{}.json", std::env::consts::ARCH))
}

fn write(record: &Path, counts: &BTreeMap<String, Count>) -> Result<()> {
    let line = |(name, Count { instructions, allocations, .. }): (&String, &Count)| {
        format!("  {name:?}: {{\"instructions\": {instructions:.0}, \"allocations\": {allocations:.2}}}")
    };
    let lines: Vec<String> = counts.iter().map(line).collect();
    fs::write(record, format!("{{\n{}\n}}\n", lines.join(",\n")))
        .with_context(|| format!("writing {}", record.display()))
}

fn count_all(workspace: &Workspace, program: &Path) -> Result<BTreeMap<String, Count>> {
    let paths = Run::new(workspace, program).output()?;
    let mut counts = BTreeMap::new();
    for line in paths.lines() {
        let (name, times) = line.split_once('\t').context("a path has a name and a number")?;
        let times: f64 = times.parse().context("a path is walked a number of times")?;
        counts.insert(name.to_owned(), count(workspace, program, name, times)?);
    }
    Ok(counts)
}

fn count(workspace: &Workspace, program: &Path, name: &str, times: f64) -> Result<Count> {
    let profile = workspace.target().join(format!("{}.callgrind", name.replace(['/', ' '], "-")));
    Run::new(workspace, "valgrind")
        .args(["--quiet", "--tool=callgrind", "--dump-instr=yes"])
        .args(["--compress-strings=no", "--compress-pos=no"])
        .arg(format!("--toggle-collect={COUNTED}"))
        .arg(format!("--callgrind-out-file={}", profile.display()))
        .arg(program)
        .arg(name)
        .output()?;
    let text = fs::read_to_string(&profile).with_context(|| format!("reading {}", profile.display()))?;
    let total = sum(&text, &program.display().to_string());
    if total.instructions == 0.0 {
        bail!("callgrind counted nothing of {name}: is there still a function {COUNTED}?");
    }
    let Count { instructions, library, allocations } = total;
    let each = |of: f64| of / times;
    Ok(Count { instructions: each(instructions), library: each(library), allocations: each(allocations) })
}

/// Adds up a profile of callgrind: lines of `address line cost` by the object (`ob=`) and the function (`fn=`) that they
/// are of. A line behind `calls=` is the cost of what was called, which is told again where it arose. A function was
/// called as often as its first instruction was executed; `calls=` counts also what does not count here.
fn sum(profile: &str, program: &str) -> Count {
    let (mut instructions, mut library) = (0.0, 0.0);
    let (mut ours, mut allocator, mut is_call) = (false, None, false);
    let mut allocators: [BTreeMap<u64, f64>; ALLOCATORS.len()] = Default::default();
    for line in profile.lines() {
        if let Some(object) = line.strip_prefix("ob=") {
            ours = object == program;
        } else if let Some(function) = line.strip_prefix("fn=") {
            allocator = ALLOCATORS.iter().position(|name| *name == function);
        } else if line.starts_with("calls=") {
            is_call = true;
        } else if let Some((address, cost)) = cost(line).filter(|_| !std::mem::take(&mut is_call)) {
            *(if ours { &mut instructions } else { &mut library }) += cost;
            if let Some(addresses) = allocator.and_then(|index| allocators.get_mut(index)) {
                *addresses.entry(address).or_default() += cost;
            }
        }
    }
    let called = allocators.iter().filter_map(|addresses| addresses.values().next());
    Count { instructions, library, allocations: called.fold(0.0, std::ops::Add::add) }
}

fn cost(line: &str) -> Option<(u64, f64)> {
    let mut parts = line.strip_prefix("0x")?.split(' ');
    let address = u64::from_str_radix(parts.next()?, 16).ok()?;
    Some((address, parts.nth(1)?.parse().ok()?))
}

fn compare(recorded: &Value, counts: &BTreeMap<String, Count>) -> Result<()> {
    println!("| path | instructions | on record | allocations | on record | beside them in the C library |");
    println!("|---|---|---|---|---|---|");
    let (mut faults, mut better) = (Vec::new(), Vec::new());
    for (name, count) in counts {
        let on_record = |what: &str| recorded[name][what].as_f64();
        let (Some(instructions), Some(allocations)) = (on_record("instructions"), on_record("allocations"))
        else {
            faults.push(format!("{name}: not on record"));
            continue;
        };
        let Count { instructions: now, library, allocations: allocated } = *count;
        println!(
            "| {name} | {now:.0} | {instructions:.0} | {allocated:.2} | {allocations:.2} | {library:.0} |"
        );
        let percent = (now / instructions - 1.0) * 100.0;
        let words = format!("{name}: {now:.0} instructions, {instructions:.0} on record ({percent:+.1} %)");
        if percent > TOLERANCE {
            faults.push(words);
        } else if percent < -TOLERANCE {
            better.push(words);
        }
        let words = format!("{name}: {allocated:.2} allocations, {allocations:.2} on record");
        if allocated > allocations + ALLOCATIONS {
            faults.push(words);
        } else if allocated < allocations - ALLOCATIONS {
            better.push(words);
        }
    }
    let gone = recorded.as_object().into_iter().flatten().filter(|(name, _)| !counts.contains_key(*name));
    faults.extend(gone.map(|(name, _)| format!("{name}: on record, but there is no such path")));
    if !better.is_empty() {
        println!(
            "shorter than on record; `cargo xtask bench counts --write` keeps it so:\n  {}",
            better.join("\n  ")
        );
    }
    if !faults.is_empty() {
        bail!(
            "hot paths are longer by more than {TOLERANCE} %, or allocate more:\n  {}\nMake them shorter, or, if it is \
             worth that, record it: cargo xtask bench counts --write",
            faults.join("\n  ")
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const PROFILE: &str = "positions: instr line\nevents: Ir\n\nob=/t/counts\nfn=counted\n0x10 12 5\n0x14 15 2\n\
        cob=/lib/libc.so.6\ncfn=malloc\ncalls=9 0x80 14\n0x18 15 300\n0x1c 15 1\n\nob=/lib/libc.so.6\nfn=malloc\n\
        0x84 0 298\nfi=b.c\n0x80 0 2\ncfn=other\ncalls=7 0xf0 0\n0x84 0 20\n\ntotals: 308\n";

    #[test]
    fn a_profile_is_added_up_by_whose_the_instructions_are() {
        let sum = sum(PROFILE, "/t/counts");
        assert_eq!(sum, Count { instructions: 8.0, library: 300.0, allocations: 2.0 });
    }

    fn one(instructions: f64, allocations: f64) -> BTreeMap<String, Count> {
        BTreeMap::from([("a/b".to_owned(), Count { instructions, library: 9.0, allocations })])
    }

    #[test]
    fn what_is_longer_or_allocates_more_is_a_fault_with_both_numbers() {
        let recorded = json!({"a/b": {"instructions": 100, "allocations": 1.0}});
        assert!(compare(&recorded, &one(104.0, 1.0)).is_ok());
        assert!(compare(&recorded, &one(50.0, 0.0)).is_ok());
        let longer = compare(&recorded, &one(106.0, 1.0)).unwrap_err().to_string();
        assert!(longer.contains("a/b: 106 instructions, 100 on record (+6.0 %)"), "{longer}");
        assert!(longer.contains("cargo xtask bench counts --write"), "{longer}");
        let more = compare(&recorded, &one(100.0, 2.0)).unwrap_err().to_string();
        assert!(more.contains("a/b: 2.00 allocations, 1.00 on record"), "{more}");
    }

    #[test]
    fn a_path_without_a_record_and_a_record_without_a_path_are_faults() {
        let fault = |recorded: Value| compare(&recorded, &one(1.0, 0.0)).unwrap_err().to_string();
        assert!(fault(json!({})).contains("a/b: not on record"));
        let both = json!({"a/b": {"instructions": 1, "allocations": 0}, "c": {}});
        assert!(fault(both).contains("c: on record, but there is no such path"));
    }
}
