//! Profiles of the service under each scenario: where its processor time goes, as flame graphs, and who holds its memory.

mod account;
mod flame;
mod heap;
mod load;
mod page;
mod perf;
mod place;
mod stacks;
mod suite;
mod symbols;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;

use crate::clock::Watch;
use crate::run::Run;
use crate::setup;
use crate::workspace::Workspace;
use load::{Load, Second};
use stacks::Stacks;
use suite::{Phase, SUITE, Scene};
use symbols::{Place, Symbols};

/// jemalloc samples an allocation for each 2 to this power of bytes.
const HEAP_SAMPLE: u32 = 13;

/// With a profiler of memory who comes costs more: the ramp takes so many times as long.
const SLOWER: u64 = 2;

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  cargo xtask profile
      Every scenario: 16 minutes. Writes docs/profiles/SCENARIO.md with its sums, SCENARIO-ROLE.svg (processor time) and
      SCENARIO-ROLE-heap.svg (memory in use).
  cargo xtask profile --only cliques,storm
      Two of them, in 3 minutes; the rest of docs/profiles stays.

How to read them: docs/PERFORMANCE.md. Each scenario runs twice, since a profiler of memory takes time of its own. The
service is built as released, but for the feature heap-profile, into target/profiling: 8 minutes the first time. Needs perf (Debian: linux-perf; `cargo xtask setup` installs it) and leave to sample: root, or
kernel.perf_event_paranoid=1 and kernel.kptr_restrict=0.")]
pub(crate) struct Options {
    /// Only these: idle, idle-watching, arrivals, cliques, celebrity, storm, slow-watchers, churn, contacts, flapping,
    /// silent-death, day, idle-tls
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    only: Vec<String>,
}

/// Where the programs and the files between are.
struct Bench<'a> {
    workspace: &'a Workspace,
    loadtest: PathBuf,
    herenow: PathBuf,
    scratch: PathBuf,
    symbols: Symbols,
}

/// What was seen of the processes of one role.
#[derive(Default)]
struct Seen {
    processes: usize,
    /// Samples of the processor.
    cpu: Stacks,
    /// The cores it used meanwhile, by the system's account.
    cores: f64,
    /// KiB resident at the end of that run.
    resident_kib: u64,
    /// Bytes in use, and how many allocations they are.
    heap: Stacks,
    counts: Stacks,
    /// Sessions there were when the memory was written down.
    sessions: u32,
}

pub(crate) fn all(workspace: &Workspace, options: &Options) -> Result<()> {
    let scenes = chosen(&options.only)?;
    perf::check(workspace)?;
    setup::nats_server(workspace)?;
    let mut bench = build(workspace)?;
    let watch = Watch::start();
    let mut failed = Vec::new();
    for (index, scene) in scenes.iter().enumerate() {
        println!("\n== {} of {}, {}: {}", index + 1, scenes.len(), scene.name, scene.what);
        if let Err(why) = bench.profile(scene) {
            println!("not profiled: {why:#}");
            failed.push(format!("{}: {why:#}", scene.name));
        }
    }
    println!("\n{:.0} s", watch.elapsed().as_secs_f64());
    if failed.is_empty() { Ok(()) } else { bail!("not profiled:\n  {}", failed.join("\n  ")) }
}

fn chosen(only: &[String]) -> Result<Vec<&'static Scene>> {
    if let Some(odd) = only.iter().find(|name| SUITE.iter().all(|scene| scene.name != **name)) {
        let names: Vec<_> = SUITE.iter().map(|scene| scene.name).collect();
        bail!("--only {odd}: there are {}", names.join(", "));
    }
    Ok(SUITE.iter().filter(|scene| only.is_empty() || only.iter().any(|name| name == scene.name)).collect())
}

fn build(workspace: &Workspace) -> Result<Bench<'_>> {
    let watch = Watch::start();
    let target = workspace.target();
    println!("building into {}", workspace.relative(&target.join("profiling")));
    Run::cargo(workspace, ["build", "--profile", "profiling", "-p", "herenow", "-p", "herenow-loadtest"])
        .args(["--features", "herenow/heap-profile"])
        .done()?;
    println!("built in {:.0} s", watch.elapsed().as_secs_f64());
    let programs = target.join("profiling");
    let herenow = programs.join("herenow");
    let symbols = Symbols::of(&herenow)?;
    let scratch = target.join("profile");
    Ok(Bench { workspace, loadtest: programs.join("herenow-loadtest"), herenow, scratch, symbols })
}

impl Bench<'_> {
    /// Two runs of a scene, and what comes of them.
    fn profile(&mut self, scene: &Scene) -> Result<()> {
        // What an earlier run left is none of this one.
        let _ = fs::remove_dir_all(&self.scratch);
        fs::create_dir_all(&self.scratch)?;
        let file = self.scratch.join("scenario.toml");
        let text =
            fs::read_to_string(self.workspace.root().join("loadtest").join(format!("{}.toml", scene.file)))?;
        let mut roles = BTreeMap::new();
        println!("processor time:");
        fs::write(&file, scene.scaled(&text, 1)?)?;
        self.sample(scene, &file, &mut roles)?;
        println!("memory in use:");
        fs::write(&file, scene.scaled(&text, SLOWER)?)?;
        self.weigh(scene, &file, &mut roles)?;
        page::write(self.workspace, scene, &roles)
    }

    fn start(&self, scene: &Scene, file: &Path, malloc: Option<&str>) -> Result<Load> {
        let mut arguments = vec!["run".to_owned(), file.display().to_string(), "--spawn".to_owned()];
        arguments.extend(["--coordinators", "1", "--gateways"].map(str::to_owned));
        arguments.push(scene.gateways.to_string());
        arguments.extend(scene.arguments.iter().map(|&argument| argument.to_owned()));
        arguments.extend(["--herenow".to_owned(), self.herenow.display().to_string()]);
        Load::start(self.workspace, &self.loadtest, &arguments, malloc)
    }

    /// Samples the processes' time in the scene's phase.
    fn sample(&mut self, scene: &Scene, file: &Path, roles: &mut BTreeMap<String, Seen>) -> Result<()> {
        let mut load = self.start(scene, file, None)?;
        let data = self.scratch.join("perf.data");
        // The last second is not waited for, so that nothing of the end is in it.
        let seconds = scene.seconds() - 1;
        let mut sampling = None;
        let mut last = (0, Vec::new());
        while let Some(second) = load.next()? {
            show(&second);
            let sampled = second.phase == scene.sampled.word();
            if sampling.is_some() && !sampled {
                break;
            }
            if sampling.is_none() && sampled {
                let servers = load.servers()?;
                let pids: Vec<u32> = servers.iter().map(|server| server.pid).collect();
                let maps = fs::read_to_string(format!("/proc/{}/maps", pids[0]))?;
                let place = Place::of(&maps, &self.herenow)?;
                let first = (second.number, account::of(&servers));
                sampling = Some((perf::record(&pids, seconds, &data)?, servers, place, first));
            }
            if let Some((_, servers, ..)) = &sampling {
                last = (second.number, account::of(servers));
            }
        }
        let (mut perf, servers, place, first) =
            sampling.with_context(|| format!("the load has no phase {}", scene.sampled.word()))?;
        ensure!(perf.wait()?.success(), "perf failed; what it says is above");
        let text = perf::script(self.workspace, &data)?;
        let seconds = last.0 - first.0;
        for (server, (first, last)) in servers.iter().zip(first.1.iter().zip(&last.1)) {
            let seen = roles.entry(server.role.clone()).or_default();
            seen.processes += 1;
            seen.cores += last.cores_since(first, seconds);
            seen.resident_kib += last.resident_kib;
            let pids = [server.pid];
            seen.cpu.extend(perf::stacks(&text, &self.herenow, place.shift, &pids, &mut self.symbols));
        }
        Ok(())
    }

    /// Has the processes write down their memory at the scene's moment.
    fn weigh(&mut self, scene: &Scene, file: &Path, roles: &mut BTreeMap<String, Seen>) -> Result<()> {
        let prefix = self.scratch.join("heap");
        let malloc = format!(
            "prof:true,prof_final:true,lg_prof_sample:{HEAP_SAMPLE},prof_prefix:{}",
            prefix.display()
        );
        let mut load = self.start(scene, file, Some(&malloc))?;
        let mut measured = 0;
        let sessions = loop {
            let second = load.next()?.context("the load ended before its memory was written down")?;
            show(&second);
            measured += u64::from(second.phase == Phase::Measure.word());
            if measured >= scene.written {
                break second.sessions;
            }
        };
        let servers = load.servers()?;
        load::write_memory(self.workspace, &servers)?;
        load.wait_for(&servers)?;
        for server in servers {
            let file = PathBuf::from(format!("{}.{}.0.f.heap", prefix.display(), server.pid));
            let text =
                fs::read_to_string(&file).with_context(|| format!("jemalloc wrote no {}", file.display()))?;
            let heap = heap::read(&text).with_context(|| format!("reading {}", file.display()))?;
            let seen = roles.entry(server.role).or_default();
            seen.sessions = sessions;
            heap.add_to(&mut seen.heap, &mut seen.counts, &self.herenow, &mut self.symbols)?;
        }
        Ok(())
    }
}

/// Every fifth line of progress is enough.
fn show(second: &Second) {
    if second.number.is_multiple_of(5) {
        println!("{}", second.line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scenes_are_chosen_by_name_and_an_odd_name_is_told() {
        assert_eq!(chosen(&[]).unwrap().len(), SUITE.len());
        let some = chosen(&["storm".to_owned(), "idle".to_owned()]).unwrap();
        assert_eq!(some.iter().map(|scene| scene.name).collect::<Vec<_>>(), ["idle", "storm"]);
        assert!(chosen(&["stork".to_owned()]).unwrap_err().to_string().contains("stork"));
    }
}
