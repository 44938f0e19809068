//! What happens to coordinators and gateways.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};

use super::{Bite, Scene, gateway_of, member};
use crate::chaos::fleet::{self, EACH, GATEWAYS};
use crate::chaos::journal::View;
use crate::chaos::timers::MACHINE;
use crate::chaos::truth::at;
use crate::chaos::world::User;

/// The time between one restart and the next of a rolling restart, and how often a coordinator in a loop dies.
const BREATH: Duration = Duration::from_secs(1);
const DEATHS: usize = 5;
/// How long a metric may take to say what happened.
const PATIENCE: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(50);
/// Where the first version of control groups is, which can slow processes down.
const CPU_GROUPS: &str = "/sys/fs/cgroup/cpu";
/// Microseconds of processor in each 100 ms for all processes together.
const STARVED: u32 = 20_000;
const FENCED: &str = "herenow_coordinator_fenced_total";
const OWNED: &str = "herenow_coordinator_partitions";

impl Scene<'_> {
    pub(super) async fn kill_coordinator(&mut self) -> anyhow::Result<Bite> {
        let injected = self.world.now();
        let proof = self.fleet.kill(0).await?;
        self.wait(15).await;
        self.fleet.restart(0).await?;
        Ok(self.bite(injected, proof))
    }

    pub(super) async fn loop_coordinator(&mut self) -> anyhow::Result<Bite> {
        let injected = self.world.now();
        for _ in 0..DEATHS {
            self.fleet.kill(0).await?;
            self.wait(2).await;
            self.fleet.restart(0).await?;
            self.wait(2).await;
        }
        Ok(self.bite(injected, format!("{} died {DEATHS} times, its port refused", self.fleet.name(0))))
    }

    pub(super) async fn restart_coordinators(&mut self) -> anyhow::Result<Bite> {
        let injected = self.world.now();
        for index in 0..EACH {
            self.fleet.kill(index).await?;
        }
        self.wait(15).await;
        self.fleet.restart_all(0..EACH).await?;
        Ok(self.bite(injected, "all coordinators gone, their ports refuse"))
    }

    /// It wakes up with partitions that others own by then.
    pub(super) async fn freeze_coordinator(&mut self) -> anyhow::Result<Bite> {
        let owned = self.fleet.metric(0, OWNED).await?;
        let fenced = self.fleet.metric(0, FENCED).await?;
        let dropped = self.world.journal.borrow().dropped;
        let injected = self.world.now();
        let proof = self.fleet.freeze(0).await?;
        self.wait(30).await;
        self.fleet.thaw(0)?;
        let bite = self.bite(injected, "");
        let refused = self.risen(0, FENCED, fenced + owned).await? - fenced;
        let mut misses = Vec::new();
        if refused < owned {
            misses.push("it kept what others had claimed".to_owned());
        }
        if self.world.journal.borrow().dropped > dropped {
            misses.push("clients were told what was over".to_owned());
        }
        let proof = format!("{proof}; it owned {owned} partitions and let go of {refused} after waking");
        Ok(Bite { proof, misses, ..bite })
    }

    /// What a metric has risen to when it has reached a value, or when that was waited for in vain.
    async fn risen(&self, index: usize, metric: &str, to: f64) -> anyhow::Result<f64> {
        let end = self.world.now() + PATIENCE;
        loop {
            let value = self.fleet.metric(index, metric).await?;
            if value >= to || self.world.now() >= end {
                return Ok(value);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    pub(super) async fn kill_gateway(&mut self, away: bool) -> anyhow::Result<Bite> {
        let (world, timers, injected) = (self.world, self.world.timers, self.world.now());
        world.taken.borrow_mut().insert(0);
        world.stay_away.set(away);
        let before = world.journal.borrow().forced.len();
        let proof = self.fleet.kill(member(0)).await?;
        let lapse = timers.gateway_timeout + timers.grace + MACHINE;
        tokio::time::sleep(if away { lapse } else { self.short(15) }).await;
        world.stay_away.set(false);
        let cut = world.journal.borrow().forced.len() - before;
        ensure!(cut > 0, "nobody was connected to it");
        self.fleet.restart(member(0)).await?;
        world.taken.borrow_mut().remove(&0);
        Ok(self.bite(injected, format!("{proof}, {cut} connections cut")))
    }

    pub(super) async fn drain_gateway(&mut self) -> anyhow::Result<Bite> {
        let (world, injected) = (self.world, self.world.now());
        world.taken.borrow_mut().insert(0);
        let before = world.journal.borrow().forced.len();
        self.fleet.terminate(member(0)).await?;
        self.wait(15).await;
        let cut = world.journal.borrow().forced.len() - before;
        ensure!(cut > 0, "nobody was connected to it");
        self.fleet.restart(member(0)).await?;
        world.taken.borrow_mut().remove(&0);
        Ok(self.bite(injected, format!("{} ended with 0, {cut} clients left it", self.fleet.name(member(0)))))
    }

    /// For longer than watchers wait for an answer they are blind from the beginning: nobody can tell them anything.
    pub(super) async fn freeze_gateway(&mut self, seconds: u64) -> anyhow::Result<Bite> {
        let (world, injected) = (self.world, self.world.now());
        world.taken.borrow_mut().insert(0);
        let proof = self.fleet.freeze(member(0)).await?;
        if self.short(seconds) > world.timers.heartbeat_timeout {
            let watchers = self.watchers(|gateway| gateway == 0);
            watchers.iter().for_each(|watcher| world.journal.borrow_mut().blinded(*watcher, injected));
        }
        self.wait(seconds).await;
        self.fleet.thaw(member(0))?;
        world.taken.borrow_mut().remove(&0);
        Ok(self.severed(0, injected, proof))
    }

    /// The watchers of some gateways.
    pub(super) fn watchers(&self, of: impl Fn(usize) -> bool) -> Vec<usize> {
        let watchers = self.world.journal.borrow().watchers();
        (0..watchers).filter(|watcher| of(gateway_of(*watcher))).collect()
    }

    /// How many pairs of these watchers and these users are shown so now.
    pub(super) fn shown_of(
        &self,
        watchers: &[usize],
        of: impl Fn(&User) -> bool,
        so: impl Fn(View) -> bool,
    ) -> usize {
        let (journal, now) = (self.world.journal.borrow(), self.world.now());
        let users = self.world.users.iter().enumerate().filter(|(_, user)| of(user));
        let pairs = users.flat_map(|(user, _)| watchers.iter().map(move |watcher| (*watcher, user)));
        pairs.filter(|(watcher, user)| at(journal.view(*watcher, *user), now).is_some_and(&so)).count()
    }

    /// The later one of two lives of a name counts; when it ends, the earlier one must be heard again.
    pub(super) async fn second_gateway(&mut self) -> anyhow::Result<Bite> {
        let (world, injected) = (self.world, self.world.now());
        world.taken.borrow_mut().insert(0);
        let second = self.fleet.start_twin(member(0)).await?;
        self.wait(30).await;
        let lapsed = self.lapsed().await?;
        drop(second);
        let bite = self.severed(0, injected, format!("a second {} ran", self.fleet.name(member(0))));
        world.taken.borrow_mut().remove(&0);
        Ok(Bite { proof: format!("{}; gateways lapsed: {lapsed}", bite.proof), ..bite })
    }

    async fn lapsed(&self) -> anyhow::Result<f64> {
        let mut sum = 0.0;
        for index in 0..EACH {
            sum += self.fleet.metric(index, "herenow_coordinator_lapsed_gateways_total").await?;
        }
        Ok(sum)
    }

    pub(super) async fn rolling_restart(&mut self) -> anyhow::Result<Bite> {
        let (world, injected) = (self.world, self.world.now());
        for index in 0..self.fleet.len() {
            let gateway = index.checked_sub(GATEWAYS.start);
            world.taken.borrow_mut().extend(gateway);
            self.fleet.terminate(index).await?;
            self.fleet.restart(index).await?;
            // As OPERATIONS asks for.
            self.fleet.settled().await?;
            tokio::time::sleep(BREATH).await;
            if let Some(gateway) = gateway {
                world.taken.borrow_mut().remove(&gateway);
            }
        }
        // One server alone is the whole bus: that is another fault.
        let servers = if self.fleet.nats.len() > 1 { self.fleet.nats.len() } else { 0 };
        for index in 0..servers {
            self.fleet.kill_nats(index).await?;
            self.fleet.restart_nats(index).await?;
            tokio::time::sleep(BREATH).await;
        }
        let proof = format!("{} processes ended with 0, {servers} NATS servers refused", self.fleet.len());
        Ok(self.bite(injected, proof))
    }

    /// Nobody comes or goes meanwhile: nobody could know.
    pub(super) async fn suspend(&mut self) -> anyhow::Result<Bite> {
        let world = self.world;
        world.ending.set(true);
        tokio::time::sleep(MACHINE * 3).await;
        let injected = world.now();
        world.taken.borrow_mut().extend(0..GATEWAYS.len());
        let pids = self.pids()?;
        for pid in &pids {
            fleet::freeze(*pid).await?;
        }
        self.wait(30).await;
        for pid in &pids {
            fleet::thaw(*pid)?;
        }
        let bite = self.bite(injected, format!("{} processes state T", pids.len()));
        tokio::time::sleep(MACHINE).await;
        world.taken.borrow_mut().clear();
        world.ending.set(false);
        Ok(bite)
    }

    fn pids(&self) -> anyhow::Result<Vec<u32>> {
        let members = (0..self.fleet.len()).map(|index| self.fleet.pid(index));
        let servers = self.fleet.nats.iter().map(|server| server.pid().context("the server runs"));
        members.chain(servers).collect()
    }

    pub(super) async fn starve(&mut self) -> anyhow::Result<Bite> {
        let group = Group::new(&self.pids()?)?;
        let injected = self.world.now();
        group.limit(STARVED)?;
        self.wait(30).await;
        let throttled = group.throttled()?;
        group.limit(0)?;
        ensure!(throttled > 0, "the processes never had to wait");
        let processors = f64::from(STARVED) / 100_000.0;
        Ok(self.bite(injected, format!("{processors} processors, {throttled} times 100 ms too short")))
    }
}

/// Why processes cannot be slowed down on this machine, if so.
pub(super) fn no_cgroup() -> Option<String> {
    let usable = Path::new(CPU_GROUPS).join("cpu.cfs_quota_us");
    let probe = std::fs::OpenOptions::new().write(true).open(usable.with_file_name("cgroup.procs"));
    probe.err().map(|error| format!("no control group of processors can be made: {error}"))
}

/// A control group; its processes go back when it is dropped.
struct Group(PathBuf);

impl Group {
    fn new(pids: &[u32]) -> anyhow::Result<Self> {
        let group = Self(Path::new(CPU_GROUPS).join(format!("herenow-chaos-{}", std::process::id())));
        std::fs::create_dir_all(&group.0)?;
        for pid in pids {
            std::fs::write(group.0.join("cgroup.procs"), pid.to_string())?;
        }
        Ok(group)
    }

    /// Microseconds in each 100 ms; zero: as many as there are.
    fn limit(&self, microseconds: u32) -> anyhow::Result<()> {
        let quota = if microseconds == 0 { "-1".to_owned() } else { microseconds.to_string() };
        Ok(std::fs::write(self.0.join("cpu.cfs_quota_us"), quota)?)
    }

    fn throttled(&self) -> anyhow::Result<u64> {
        let stat = std::fs::read_to_string(self.0.join("cpu.stat"))?;
        let line = stat.lines().find_map(|line| line.strip_prefix("nr_throttled "));
        Ok(line.context("cpu.stat names nr_throttled")?.trim().parse()?)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let processes = std::fs::read_to_string(self.0.join("cgroup.procs")).unwrap_or_default();
        for pid in processes.lines() {
            // One that has ended need not be moved.
            let _ = std::fs::write(Path::new(CPU_GROUPS).join("cgroup.procs"), pid);
        }
        let _ = std::fs::remove_dir(&self.0);
    }
}
