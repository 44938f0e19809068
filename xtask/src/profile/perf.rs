//! Samples of processors by Linux' `perf`: where processes are, 499 times for each second that they run.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, bail};

use super::place::KERNEL;
use super::stacks::Stacks;
use super::symbols::{Symbols, plain};
use crate::run::Run;
use crate::setup;
use crate::workspace::Workspace;

/// Samples for each second of a processor; no round number, so that it does not walk in step with timers.
pub(super) const FREQUENCY: u32 = 499;

/// Whether it is there and lets this user sample; says what to do otherwise.
pub(super) fn check(workspace: &Workspace) -> Result<()> {
    if !Run::new(workspace, "perf").arg("--version").works() {
        setup::apt(workspace, &["linux-perf"], "perf, which samples where a process is")?;
    }
    let probe = ["record", "--quiet", "-e", "cpu-clock", "-F", "99", "-g", "-o", "/dev/null", "--", "true"];
    if !Run::new(workspace, "perf").args(probe).works() {
        bail!(
            "perf may not sample here: become root, or let everybody: sysctl kernel.perf_event_paranoid=1 \
             kernel.kptr_restrict=0"
        );
    }
    Ok(())
}

/// Bytes of the stack that are kept with a sample, to walk it later by what the compiler wrote about it. The C library has no
/// frame pointers, so that nobody would be known to have called it.
const STACK: u32 = 16_384;

/// Begins to sample processes, for so many seconds.
pub(super) fn record(pids: &[u32], seconds: u64, file: &Path) -> Result<Child> {
    let pids = pids.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
    Command::new("perf")
        .args(["record", "--quiet", "-e", "cpu-clock", "-F", &FREQUENCY.to_string(), "-p", &pids])
        .args(["--call-graph", &format!("dwarf,{STACK}"), "-o"])
        .arg(file)
        .args(["--", "sleep", &seconds.to_string()])
        .stdin(Stdio::null())
        .spawn()
        .context("starting perf")
}

/// The samples of a file, as text.
pub(super) fn script(workspace: &Workspace, file: &Path) -> Result<String> {
    Run::new(workspace, "perf")
        .args(["script", "--no-inline", "-F", "comm,pid,tid,ip,sym,dso", "-i"])
        .arg(file)
        .output()
}

/// Reads that text: the stacks of these processes, which have the code of the program by `shift` further than in its file.
/// Below the name of the thread are the frames from the outermost inwards.
pub(super) fn stacks(text: &str, program: &Path, shift: u64, pids: &[u32], symbols: &mut Symbols) -> Stacks {
    let mut stacks = Stacks::default();
    let program = format!("({})", program.display());
    for sample in text.split("\n\n") {
        let mut lines = sample.lines().filter(|line| !line.is_empty());
        let Some((thread, pid)) = lines.next().and_then(head) else { continue };
        if !pids.contains(&pid) {
            continue;
        }
        let mut frames = Vec::new();
        for line in lines {
            let Some((offset, name)) = frame(line) else { continue };
            if line.ends_with(&program) {
                // perf tells where in the file it is; of a caller, where the call is.
                frames.extend(symbols.at(offset.wrapping_add(shift)).iter().rev().cloned());
            } else {
                frames.push(name);
            }
        }
        frames.push(thread);
        frames.reverse();
        stacks.add(frames, 1.0);
    }
    stacks
}

/// `tokio-rt-worker 812/815`: the thread's name without its number, and its process.
fn head(line: &str) -> Option<(String, u32)> {
    let (name, ids) = line.trim().rsplit_once(char::is_whitespace)?;
    let pid = ids.split('/').next()?.parse().ok()?;
    Some((name.trim().trim_end_matches(|c: char| c.is_ascii_digit() || c == '-').to_owned(), pid))
}

/// `ffffffff81a0 tcp_sendmsg ([kernel.kallsyms])`: the address, and the name as it is shown.
fn frame(line: &str) -> Option<(u64, String)> {
    let (address, rest) = line.trim().split_once(' ')?;
    let address = u64::from_str_radix(address, 16).ok()?;
    let (name, file) = rest.rsplit_once(" (")?;
    let name = name.split("+0x").next().unwrap_or(name);
    let name = if file.starts_with('[') && file.starts_with("[kernel") {
        format!("{name}{KERNEL}")
    } else {
        plain(name)
    };
    Some((address, name))
}

#[cfg(test)]
mod tests {
    use super::super::symbols::Place;
    use super::*;

    const TEXT: &str = "shard-0 41/43 \n\
        \tffffffff81a0 tcp_sendmsg ([kernel.kallsyms])\n\
        \tffffffff8100 entry_SYSCALL_64 ([kernel.kallsyms])\n\
        \t    7f2000aa __send (/usr/lib/libc.so.6)\n\
        \t    7f200000 [unknown] ([unknown])\n\n\
        other 99/99 \n\
        \tffffffff81a0 tcp_sendmsg ([kernel.kallsyms])\n\n";

    #[test]
    fn stacks_are_read_from_the_thread_inwards_and_other_processes_left_out() {
        let program = std::env::current_exe().unwrap();
        let mut symbols = Symbols::of(&program).unwrap();
        let stacks = stacks(TEXT, &program, 0, &[41], &mut symbols);
        let found: Vec<_> = stacks.iter().collect();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].0, ["shard", "[unknown]", "__send", "entry_SYSCALL_64_[k]", "tcp_sendmsg_[k]"]);
    }

    #[test]
    fn addresses_of_the_program_get_the_names_of_the_program() {
        let program = std::env::current_exe().unwrap();
        let mut symbols = Symbols::of(&program).unwrap();
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let Place { base, shift } = Place::of(&maps, &program).unwrap();
        let here = addresses_of_the_program_get_the_names_of_the_program as fn() as usize as u64;
        let offset = here - base - shift;
        let text = format!("a 7/7 \n\t{offset:x} wrong ({})\n\n", program.display());
        let stacks = stacks(&text, &program, shift, &[7], &mut symbols);
        let (frames, weight) = stacks.iter().next().unwrap();
        assert!(frames.last().unwrap().contains("addresses_of_the_program"), "{frames:?}");
        assert!((weight - 1.0).abs() < 1e-9);
    }

    #[test]
    fn threads_of_a_kind_are_one() {
        assert_eq!(head("herenow-shard-1 41/43 "), Some(("herenow-shard".to_owned(), 41)));
        assert_eq!(head("tokio rt worker 5/6"), Some(("tokio rt worker".to_owned(), 5)));
        assert_eq!(head("nonsense"), None);
    }
}
