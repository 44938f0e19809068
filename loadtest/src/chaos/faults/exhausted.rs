//! A gateway that has no descriptors, or hardly any memory, left.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{Bite, Scene, member};
use crate::chaos::fleet;
use crate::chaos::session::{Listening, Session};
use crate::chaos::wire::Activity;
use crate::clock;

/// A refusal that takes longer is none.
const CLEARLY: Duration = Duration::from_millis(500);
/// Between one attempt and the next.
const PRESSURE: Duration = Duration::from_millis(20);
/// Of a processor, beside what the gateway needed before: one that spins takes a whole one.
const SPIN: f64 = 0.1;
/// Ticks of the system's accounting in a second; the same on every Linux.
const TICKS: f64 = 100.0;
const ACCEPT_ERRORS: &str = "herenow_gateway_accept_errors_total";
const HANDSHAKES: &str = "herenow_gateway_handshakes_total";
/// Where the first version of control groups is, which can limit memory.
const MEMORY_GROUPS: &str = "/sys/fs/cgroup/memory";
/// The limit, in hundredths of what the gateway has in use before.
const ROOM: u64 = 120;
/// Settings for a gateway with so little memory, as OPERATIONS asks for: for each shard, and there is one.
pub(super) const CAPS: &[(&str, &str)] = &[
    ("gateway.caps.sockets", "1020"),
    ("gateway.caps.handshakes", "20"),
    ("gateway.core.max_sessions", "1020"),
];
/// Who is there before, and who connects at once.
const INSIDE: usize = 1_000;
const FEW: usize = 10;
const STORM: usize = 1_500;

impl Scene<'_> {
    /// Who comes is refused at once, who is there stays, and when there are descriptors again all is as before.
    pub(super) async fn exhaust_descriptors(&mut self) -> anyhow::Result<Bite> {
        let (world, gateway) = (self.world, member(0));
        let pid = self.fleet.pid(gateway)?;
        let failed = self.fleet.metric(gateway, ACCEPT_ERRORS).await?;
        let time = self.short(15);
        let usual = busy(pid, time).await?;
        let injected = world.now();
        let limit = Descriptors::limit(pid)?;
        let stranger = world.issuer.token("stranger")?;
        let (spent, tries) = tokio::join!(busy(pid, time), self.knock(&stranger, time));
        let (share, Tries { refused, hung, entered, slowest }) = (spent? - usual, tries);
        let held = limit.lift()?;
        let bite = self.bite(injected, "");
        let again = Session::open(&world.gateways[0], &stranger, "one", Activity::Active).await;
        let failed = self.fleet.metric(gateway, ACCEPT_ERRORS).await? - failed;
        ensure!(failed > 0.5, "the system handed every connection over");
        let checks = [
            (refused == 0, "nobody was refused".to_owned()),
            (hung > 0, format!("{hung} got no answer within {CLEARLY:?}")),
            (share > SPIN, format!("it took {share:.2} processors more than before")),
            (again.is_err(), "nobody gets in when there are descriptors again".to_owned()),
        ];
        let misses = checks.into_iter().filter(|(missed, _)| *missed).map(|(_, what)| what).collect();
        let proof = format!(
            "{held} descriptors and no more: {refused} clients refused, the slowest after {} ms, {entered} got the \
             place of one who left, {hung} unanswered; {usual:.2} processors before, {:.2} meanwhile",
            slowest.as_millis(),
            usual + share
        );
        Ok(Bite { misses, proof, ..bite })
    }

    /// Clients that try to come, one after the other.
    async fn knock(&self, token: &str, time: Duration) -> Tries {
        let (end, mut tries) = (clock::now() + time, Tries::default());
        let mut inside = Vec::new();
        while clock::now() < end {
            let began = clock::now();
            let opened = Session::open(&self.world.gateways[0], token, "one", Activity::Active).await;
            let took = began.elapsed();
            match opened {
                Ok(session) => {
                    tries.entered += 1;
                    inside.push(session);
                }
                Err(_) if took > CLEARLY => tries.hung += 1,
                Err(_) => {
                    tries.refused += 1;
                    tries.slowest = tries.slowest.max(took);
                }
            }
            tokio::time::sleep(PRESSURE).await;
        }
        tries
    }

    /// What is over its caps is turned away, and the system need not kill it. It is started anew to be limited.
    pub(super) async fn squeeze_memory(&mut self) -> anyhow::Result<Bite> {
        let (world, injected, group) = (self.world, self.world.now(), MemoryGroup::make("memory")?);
        world.taken.borrow_mut().insert(0);
        self.fleet.move_into(member(0), &group.0).await?;
        world.taken.borrow_mut().remove(&0);
        let pid = self.fleet.pid(member(0))?;
        let mut inside = self.crowd("inside", INSIDE, FEW).await?;
        self.wait(15).await;
        let (steady, before) = (group.read("memory.usage_in_bytes")?, self.turned_away().await?);
        let limit = steady * ROOM / 100;
        group.write("memory.limit_in_bytes", limit)?;
        let more = self.crowd("storm", STORM, STORM).await?.len();
        self.wait(5).await;
        let most = group.read("memory.max_usage_in_bytes")?;
        let (killed, alive) = (group.killed()?, !matches!(fleet::state(pid), None | Some('Z')));
        let mut lost = 0;
        for listening in &mut inside {
            lost += usize::from(timeout(Duration::ZERO, listening.end()).await.is_ok());
        }
        let turned_away = if alive { self.turned_away().await? - before } else { 0.0 };
        ensure!(more < STORM && inside.len() == INSIDE, "{} and {more} got in", inside.len());
        let checks = [
            (killed > 0 || !alive, "the system killed it".to_owned()),
            (lost > 0, format!("{lost} of those who were there lost their connections")),
        ];
        let misses = checks.into_iter().filter(|(missed, _)| *missed).map(|(_, what)| what).collect();
        let kib = |bytes: u64| bytes / 1024;
        let proof = format!(
            "{} KiB in use with {INSIDE} sessions, {} allowed, {} at most: of {STORM} more {more} got in, \
             {turned_away} turned away, {killed} kills by the system",
            kib(steady),
            kib(limit),
            kib(most)
        );
        Ok(Bite { misses, ..self.bite(injected, proof) })
    }

    /// So many connect, some of them at once; those who got in.
    async fn crowd(&self, name: &str, count: usize, at_once: usize) -> anyhow::Result<Vec<Listening>> {
        let (mut opening, mut opened) = (JoinSet::new(), Vec::new());
        for number in 0..count {
            if opening.len() >= at_once {
                opened.extend(opening.join_next().await);
            }
            let token = self.world.issuer.token(&format!("{name}-{number}"))?;
            let url = self.world.gateways[0].clone();
            opening
                .spawn_local(async move { Session::open(&url, &token, "one", Activity::Active).await.ok() });
        }
        while let Some(one) = opening.join_next().await {
            opened.push(one);
        }
        Ok(opened.into_iter().filter_map(Result::ok).flatten().map(Listening::hold).collect())
    }

    async fn turned_away(&self) -> anyhow::Result<f64> {
        let (gateway, mut sum) = (member(0), 0.0);
        for how in ["refused", "delayed", "shed"] {
            sum += self.fleet.labelled(gateway, HANDSHAKES, &format!("\"{how}\"")).await?;
        }
        Ok(sum)
    }
}

/// What became of those who tried.
#[derive(Default)]
struct Tries {
    refused: usize,
    hung: usize,
    entered: usize,
    slowest: Duration,
}

/// The part of a processor that a process uses in this time.
async fn busy(pid: u32, time: Duration) -> anyhow::Result<f64> {
    let ticks = || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let fields = stat.rsplit_once(") ").context("a process has a name")?.1;
        // In user mode and in the system's, the 14th and 15th; the third is the first here.
        let used = fields.split_ascii_whitespace().skip(11).take(2).map(str::parse::<u32>);
        anyhow::Ok(f64::from(used.sum::<Result<u32, _>>()?))
    };
    let before = ticks()?;
    tokio::time::sleep(time).await;
    Ok((ticks()? - before) / TICKS / time.as_secs_f64())
}

/// A process that may open no more descriptors than it has; as many as before when dropped.
struct Descriptors {
    pid: u32,
    before: String,
    held: u32,
}

impl Descriptors {
    fn limit(pid: u32) -> anyhow::Result<Self> {
        let before = prlimit(pid, &["--noheadings", "--output", "SOFT", "--nofile"])?;
        let numbers = std::fs::read_dir(format!("/proc/{pid}/fd"))?;
        let open: Vec<u32> =
            numbers.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
        let held = (0..).find(|number| !open.contains(number)).context("there is a number that is free")?;
        prlimit(pid, &[&format!("--nofile={held}:")])?;
        Ok(Self { pid, before: before.trim().to_owned(), held })
    }

    /// How many there were.
    fn lift(self) -> anyhow::Result<u32> {
        prlimit(self.pid, &[&format!("--nofile={}:", self.before)])?;
        Ok(self.held)
    }
}

impl Drop for Descriptors {
    fn drop(&mut self) {
        // The process may be gone; then nothing is limited.
        let _ = prlimit(self.pid, &[&format!("--nofile={}:", self.before)]);
    }
}

fn prlimit(pid: u32, arguments: &[&str]) -> anyhow::Result<String> {
    let output = Command::new("prlimit").args(["--pid", &pid.to_string()]).args(arguments).output();
    let output = output.context("prlimit")?;
    ensure!(output.status.success(), "prlimit: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Why memory cannot be limited on this machine, if so.
pub(super) fn no_cgroup() -> Option<String> {
    let tried = MemoryGroup::make("probe").map(drop);
    tried.err().map(|error| format!("no control group of memory can be made: {error:#}"))
}

/// A control group of memory; its process goes back when it is dropped.
struct MemoryGroup(PathBuf);

impl MemoryGroup {
    fn make(what: &str) -> anyhow::Result<Self> {
        let group =
            Self(Path::new(MEMORY_GROUPS).join(format!("herenow-chaos-{what}-{}", std::process::id())));
        ensure!(Path::new(MEMORY_GROUPS).join("cgroup.procs").exists(), "{MEMORY_GROUPS} is none");
        std::fs::create_dir(&group.0)?;
        Ok(group)
    }

    fn write(&self, name: &str, value: u64) -> anyhow::Result<()> {
        std::fs::write(self.0.join(name), value.to_string()).with_context(|| name.to_owned())
    }

    fn read(&self, name: &str) -> anyhow::Result<u64> {
        Ok(std::fs::read_to_string(self.0.join(name))?.trim().parse()?)
    }

    /// How many processes the system killed for want of memory.
    fn killed(&self) -> anyhow::Result<u64> {
        let told = std::fs::read_to_string(self.0.join("memory.oom_control"))?;
        let line = told.lines().find_map(|line| line.strip_prefix("oom_kill "));
        Ok(line.context("memory.oom_control names oom_kill")?.trim().parse()?)
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        let processes = std::fs::read_to_string(self.0.join("cgroup.procs")).unwrap_or_default();
        for pid in processes.lines() {
            // One that has ended need not be moved.
            let _ = std::fs::write(Path::new(MEMORY_GROUPS).join("cgroup.procs"), pid);
        }
        let _ = std::fs::remove_dir(&self.0);
    }
}
