//! Faults on real processes, judged from outside.
//!
//! For each fault a fresh cluster: actors whose truth is known, watchers on every gateway, a calm, the fault with a
//! proof that it bit, and a referee that compares every view with the truth.

mod clients;
mod dice;
mod faults;
mod fleet;
mod journal;
mod judge;
#[cfg(test)]
mod judge_tests;
mod line;
mod markdown;
mod order;
mod people;
mod plant;
#[cfg(test)]
mod plant_tests;
mod proxy;
mod report;
mod rest;
mod session;
mod timers;
mod truth;
mod watchers;
mod wire;
mod world;

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use clap::{Args, ValueEnum as _};
use tokio::task::{JoinSet, LocalSet};

pub(crate) use self::clients::ClientsArguments;
use self::faults::{Bounds, Fault, Rows, Scene};
use self::fleet::{EACH, Fleet, Owned, Plan};
use self::judge::{Window, judge};
use self::plant::Plant;
use self::report::{Judged, Report, Row};
use self::timers::Timers;
use self::truth::{Answers, Moment, Truth};
use self::wire::Status;
use self::world::{Habit, World, people};

/// Two at every gateway.
const WATCHERS: usize = 2 * EACH;
/// Users whose clients are a process of their own.
const APART: usize = 4;
/// Watchers over REST, each at another gateway.
const POLLERS: usize = 2;
/// All must be right for so long before the fault, and it may take so long until it is.
const CALM: Duration = Duration::from_secs(1);
const CALM_LIMIT: Duration = Duration::from_secs(30);
/// The time before the fault that is judged too, and that people come and go after it.
const BEFORE: Duration = Duration::from_secs(2);
const AFTER: Duration = Duration::from_secs(4);
/// How long after healing it is looked for the moment when all is right.
const RECOVERY_LIMIT: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(20);

/// What to do.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The faults, in this order, instead of `--rows`
    #[arg(long, value_enum, value_delimiter = ',', conflicts_with = "rows")]
    faults: Vec<Fault>,
    /// Which faults
    #[arg(long, value_enum, default_value_t = Rows::All)]
    rows: Rows,
    /// Users; most of them come and go, and every fifth has three devices
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u16).range(8..=900))]
    users: u16,
    /// What users come and go by
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// NATS servers: 1, or 3 in a cluster with JetStream
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=3))]
    nats: u8,
    /// How many times shorter than by default every timer is; what bounds leave to the machine stays
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=10))]
    shorter: u32,
    /// What bounds leave to the machine, which does not shrink with the timers; for one that is busy with other things
    #[arg(long, default_value = "1s", value_parser = humantime::parse_duration)]
    machine: Duration,
    /// A setting for the processes instead of the shortened one, to plant a mistake that the judge must find:
    /// coordinator.grace_period=0s
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// A mistake between gateways and watchers that the judge must find
    #[arg(long, value_enum)]
    plant: Option<Plant>,
    /// The `herenow` program. Default: the one beside this program
    #[arg(long, value_name = "FILE")]
    herenow: Option<PathBuf>,
    /// Where the logs of the processes go
    #[arg(long, default_value = "target/chaos", value_name = "DIRECTORY")]
    logs: PathBuf,
    /// A page of documentation to write the result to
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
    /// Where the result goes as JSON
    #[arg(long, default_value = "target/chaos.json", value_name = "FILE")]
    json: PathBuf,
}

impl Arguments {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        ensure!(self.nats != 2, "--nats: 1 or 3: two servers have no majority without both");
        let program = match &self.herenow {
            Some(file) => file.clone(),
            None => std::env::current_exe()?.with_file_name("herenow"),
        };
        ensure!(program.is_file(), "{} is missing: build it, or name it with --herenow", program.display());
        let mut report = Report {
            seed: self.seed,
            users: self.users.into(),
            watchers: WATCHERS,
            nats_servers: self.nats.into(),
            timers_shorter: self.shorter,
            set: self.set.clone(),
            planted: self.plant,
            rows: Vec::new(),
            invalid: Vec::new(),
            skipped: Vec::new(),
        };
        for fault in if self.faults.is_empty() { self.rows.faults() } else { self.faults.clone() } {
            let name = fault.name();
            if let Some(why) = fault.skipped(self.nats.into()) {
                report.skipped.push(format!("{name}: {why}"));
                continue;
            }
            writeln!(std::io::stderr(), "{name} …")?;
            let logs = self.logs.join(&name);
            // Fewer logs than of the last run must not leave the last run's behind.
            let _ = std::fs::remove_dir_all(&logs);
            // A set of tasks for each, so that nobody of one scenario meets the next.
            let scenario = Box::pin(self.scenario(fault, &program, &logs));
            match LocalSet::new().run_until(scenario).await {
                Ok(row) => report.rows.push(row),
                Err(error) => report.invalid.push(format!("{name}: {error:#}")),
            }
        }
        std::fs::write(&self.json, serde_json::to_string_pretty(&report)?)
            .with_context(|| format!("--json: {} cannot be written", self.json.display()))?;
        if let Some(file) = &self.write {
            std::fs::write(file, markdown::page(&report, &self.command(file)))
                .with_context(|| format!("--write: {} cannot be written", file.display()))?;
        }
        write!(std::io::stdout(), "{report}")?;
        if !report.passed() {
            bail!("not every fault was kept within its bound");
        }
        Ok(())
    }

    /// The command that plays the same.
    fn command(&self, file: &Path) -> String {
        let mut command = format!("cargo xtask chaos --shorter {}", self.shorter);
        let names: Vec<String> = self.faults.iter().map(|fault| fault.name()).collect();
        let rows = self.rows.to_possible_value().map(|rows| rows.get_name().to_owned()).unwrap_or_default();
        let which =
            if names.is_empty() { format!("--rows {rows}") } else { format!("--faults {}", names.join(",")) };
        // Writing to a string does not fail.
        let _ = write!(command, " {which} --write {}", file.display());
        command
    }

    async fn scenario(&self, fault: Fault, program: &Path, logs: &Path) -> anyhow::Result<Row> {
        let timers = Timers::new(self.shorter, self.machine);
        let plan = Plan {
            program,
            directory: logs,
            servers: self.nats.into(),
            timers,
            planted: &self.set,
            seed: self.seed,
            shape: fault.shape(),
        };
        let mut fleet = Fleet::start(plan).await?;
        // A partition that changes hands for the first time takes claims along with nobody.
        fleet.settled().await?;
        let issuer = fleet::issuer(fleet.secret());
        let users = people(self.users.into(), if fault.apart() { APART } else { 0 }, EACH);
        let world =
            Rc::new(World::new(fleet.gateways(), issuer, users, [WATCHERS, POLLERS], self.seed, timers));
        world.plant.set(self.plant);
        if fault.lined() {
            world.lines.open(&world.gateways, &world.users).await?;
        }
        let mut tasks = JoinSet::new();
        for (index, user) in world.users.iter().enumerate() {
            if user.habit != Habit::Apart {
                for device in 0..user.devices().len() {
                    tasks.spawn_local(people::actor(Rc::clone(&world), index, device));
                }
            }
        }
        for number in 0..WATCHERS {
            tasks.spawn_local(watchers::watcher(Rc::clone(&world), number));
        }
        for number in 0..POLLERS {
            tasks.spawn_local(watchers::poller(Rc::clone(&world), number));
        }
        let mut clients = apart(&fleet, &world).await?;
        calm(&world).await?;
        world.begun.set(true);

        let from = world.now();
        tokio::time::sleep(self.rows.of(BEFORE)).await;
        let mut scene = Scene { fleet: &mut fleet, world: &world, clients: clients.as_mut() };
        let bite = fault.inject(&mut scene).await?;
        let bounds = fault.bounds(timers).longer(bite.longer);
        let recovery = recover(&world, bite.healed).await;
        tokio::time::sleep(self.rows.of(AFTER)).await;
        world.ending.set(true);
        decided(&world).await;
        tokio::time::sleep(bounds.wrong + timers.machine).await;

        let to = world.now();
        while let Some(ended) = tasks.try_join_next() {
            ended.context("a client panicked")?;
        }
        world.excuse_unseen(&bite.excused);
        if bounds.forgets_claims {
            world.journal.borrow_mut().may_forget_claims(bite.injected);
        }
        let journal = world.journal.borrow();
        let (injected, healed) = (bite.injected, bite.healed);
        let Bounds { wrong, late, unheard, .. } = bounds;
        let calm = timers.machine;
        let verdict = judge(&journal, Window { from, injected, healed, to, wrong, calm, late, unheard });
        let off = Answers::be(&[Status::Offline]);
        let lost = (0..world.users.len())
            .filter(|user| world.is_steady(*user) && journal.truth_at(*user, to) == off)
            .collect();
        let judged = Judged { fault, bounds, bite, journal: &journal, verdict, recovery, from, lost };
        Ok(judged.row())
    }
}

/// Starts the process of those who are apart.
async fn apart(fleet: &Fleet, world: &World) -> anyhow::Result<Option<Owned>> {
    let users: Vec<usize> =
        (0..world.users.len()).filter(|user| world.users[*user].habit == Habit::Apart).collect();
    if users.is_empty() {
        return Ok(None);
    }
    let names: Vec<String> = users.iter().map(|user| world.users[*user].name.clone()).collect();
    for user in &users {
        world.truth(*user, world.now(), Truth::Either { until: Moment::MAX });
    }
    let clients = clients::start(&world.gateways[0], &names, fleet.secret()).await?;
    for user in users {
        world.truth(user, world.now(), Truth::On);
    }
    Ok(Some(clients))
}

/// Waits until all who do not come and go are seen rightly for a while.
async fn calm(world: &World) -> anyhow::Result<()> {
    let end = world.now() + CALM_LIMIT;
    let mut since = world.now();
    while world.now() < since + CALM {
        if !is_right(world) {
            since = world.now() + LOOK;
        }
        ensure!(world.now() < end, "no calm within {CALM_LIMIT:?} before the fault");
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

/// From healing until all who do not come and go are seen rightly.
async fn recover(world: &World, healed: Moment) -> Option<Duration> {
    while !is_right(world) {
        if world.now() > healed + RECOVERY_LIMIT {
            return None;
        }
        tokio::time::sleep(LOOK).await;
    }
    Some(world.now() - healed)
}

/// Waits until of nobody it is still open whether it is there: who was lost for good is off by then.
async fn decided(world: &World) {
    let end = world.now() + world.timers.gateway_timeout + world.timers.grace + world.timers.machine;
    let open = || {
        let (journal, now) = (world.journal.borrow(), world.now());
        (0..world.users.len()).any(|user| !journal.truth_at(user, now).is_sure())
    };
    while open() && world.now() < end {
        tokio::time::sleep(LOOK).await;
    }
}

fn is_right(world: &World) -> bool {
    let steady = (0..world.users.len()).filter(|user| world.is_steady(*user));
    world.journal.borrow().right(steady, world.now())
}
