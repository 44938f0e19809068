//! The faults: what is done, how it is proved that it bit, and what may be seen of it.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::ValueEnum;
use serde::Serialize;

use super::fleet::{self, EACH, Fleet, Owned};
use super::timers::{MACHINE, Timers};
use super::truth::{Moment, Truth};
use super::world::{Habit, World};

/// Seconds, with the default timers: how long a killed process stays away, and a stopped coordinator stopped.
const DOWN: u64 = 15;
const FROZEN: u64 = 30;
/// The same of all NATS servers: longer than values are fresh, so that `unknown` is seen.
const BUS_DOWN: u64 = 30;
/// The time between one restart and the next of a rolling restart.
const BREATH: Duration = Duration::from_secs(1);
/// A watcher whose gateway ends may take this long to come back and to be told everything.
const MOVE: Duration = Duration::from_millis(1_500);

/// What is done to the cluster.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Fault {
    /// Nothing: what the judge says of a cluster that nobody touches
    None,
    /// kill -9 of a coordinator, and its restart
    CoordinatorKill,
    /// SIGSTOP of a coordinator for much longer than dead_after, then SIGCONT
    CoordinatorFreeze,
    /// kill -9 of a gateway; its users return elsewhere inside the grace
    GatewayKillReturn,
    /// kill -9 of a gateway; its users stay away
    GatewayKillAway,
    /// SIGSTOP of a process of clients
    ClientFreeze,
    /// kill -9 of a process of clients
    ClientKill,
    /// kill -9 of one NATS server, and its restart
    NatsKillOne,
    /// kill -9 of all NATS servers, and their restart
    NatsRestart,
    /// Every process in turn: SIGTERM and start; NATS servers: kill -9 and start
    RollingRestart,
}

/// What may be seen of a fault.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// The longest that anybody may be shown wrongly, and until all is right again after healing.
    pub(super) wrong: Duration,
    /// The most time of one pair that may be unknown.
    pub(super) unknown: Duration,
    /// How late a truth may be told.
    pub(super) late: Duration,
    /// Coordinators are lost, and with them the claims of their users, which nobody else keeps.
    pub(super) forgets_claims: bool,
}

/// That it was done.
#[derive(Debug)]
pub(super) struct Bite {
    pub(super) injected: Moment,
    pub(super) healed: Moment,
    pub(super) proof: String,
}

impl Fault {
    /// In the order of the run.
    pub(super) fn all() -> Vec<Self> {
        Self::value_variants().to_vec()
    }

    pub(super) fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// Whether it needs clients in a process of their own.
    pub(super) const fn apart(self) -> bool {
        matches!(self, Self::ClientFreeze | Self::ClientKill)
    }

    pub(super) fn bounds(self, timers: Timers) -> Bounds {
        let scaled = |promised| timers.scaled(promised);
        let second = Duration::from_secs;
        let bus_down = timers.short(BUS_DOWN);
        let (wrong, unknown, outage) = match self {
            Self::None | Self::ClientFreeze | Self::ClientKill => (MACHINE, Duration::ZERO, Duration::ZERO),
            Self::GatewayKillReturn | Self::GatewayKillAway => (MACHINE, MOVE, Duration::ZERO),
            Self::CoordinatorKill | Self::CoordinatorFreeze | Self::NatsKillOne => {
                (scaled(second(2)), Duration::ZERO, Duration::ZERO)
            }
            Self::NatsRestart => {
                (scaled(second(5)), bus_down - timers.fresh_for + scaled(second(5)), bus_down)
            }
            Self::RollingRestart => (scaled(second(2)), MOVE * 3, Duration::ZERO),
        };
        let forgets_claims = matches!(
            self,
            Self::CoordinatorKill | Self::CoordinatorFreeze | Self::NatsRestart | Self::RollingRestart
        );
        Bounds { wrong, unknown, late: wrong + outage, forgets_claims }
    }

    /// Does it, proves it, and heals it where it can be healed.
    pub(super) async fn inject(
        self,
        fleet: &mut Fleet,
        world: &World,
        clients: Option<&mut Owned>,
    ) -> anyhow::Result<Bite> {
        let injected = world.now();
        let timers = world.timers;
        let (down, frozen) = (timers.short(DOWN), timers.short(FROZEN));
        let proof = match self {
            Self::None => {
                tokio::time::sleep(down).await;
                "nothing done".to_owned()
            }
            Self::CoordinatorKill => {
                let proof = fleet.kill(0).await?;
                tokio::time::sleep(down).await;
                fleet.restart(0).await?;
                proof
            }
            Self::CoordinatorFreeze => {
                ensure!(frozen > timers.dead_after * 2, "too short to be noticed");
                let proof = fleet.freeze(0).await?;
                tokio::time::sleep(frozen).await;
                fleet.thaw(0)?;
                proof
            }
            Self::GatewayKillReturn => kill_gateway(fleet, world, false).await?,
            Self::GatewayKillAway => kill_gateway(fleet, world, true).await?,
            Self::ClientFreeze => freeze_clients(world, clients.context("they are started")?).await?,
            Self::ClientKill => kill_clients(world, clients.context("they are started")?).await?,
            Self::NatsKillOne => {
                ensure!(fleet.nats.len() > 1, "needs --nats 3");
                let proof = fleet.kill_nats(0).await?;
                tokio::time::sleep(down).await;
                fleet.restart_nats(0).await?;
                proof
            }
            Self::NatsRestart => restart_nats(fleet, world.timers.short(BUS_DOWN)).await?,
            Self::RollingRestart => rolling_restart(fleet, world).await?,
        };
        Ok(Bite { injected, healed: world.now(), proof })
    }
}

async fn kill_gateway(fleet: &mut Fleet, world: &World, away: bool) -> anyhow::Result<String> {
    let timers = world.timers;
    world.taken.borrow_mut().insert(0);
    world.stay_away.set(away);
    let before = world.journal.borrow().forced.len();
    let proof = fleet.kill(EACH).await?;
    let wait = if away { timers.gateway_timeout + timers.grace + MACHINE } else { timers.short(DOWN) };
    tokio::time::sleep(wait).await;
    world.stay_away.set(false);
    let cut = world.journal.borrow().forced.len() - before;
    ensure!(cut > 0, "nobody was connected to it");
    fleet.restart(EACH).await?;
    world.taken.borrow_mut().remove(&0);
    Ok(format!("{proof}, {cut} connections cut"))
}

async fn freeze_clients(world: &World, clients: &Owned) -> anyhow::Result<String> {
    let pid = clients.0.id();
    let at = world.now();
    lose_apart(world, at, world.timers.heartbeat_timeout);
    fleet::freeze(pid).await?;
    tokio::time::sleep(world.timers.heartbeat_timeout + MACHINE * 2).await;
    fleet::thaw(pid)?;
    Ok(format!("clients pid {pid} state T"))
}

async fn kill_clients(world: &World, clients: &mut Owned) -> anyhow::Result<String> {
    let pid = clients.0.id();
    lose_apart(world, world.now(), world.timers.grace);
    clients.0.kill()?;
    clients.0.wait()?;
    ensure!(fleet::state(pid).is_none(), "process {pid} is still there");
    tokio::time::sleep(world.timers.grace + MACHINE).await;
    Ok(format!("clients pid {pid} gone"))
}

fn lose_apart(world: &World, at: Moment, excused: Duration) {
    for (index, user) in world.users.iter().enumerate() {
        if user.habit == Habit::Apart {
            world.truth(index, at, Truth::Either { until: at + excused });
        }
    }
}

async fn restart_nats(fleet: &mut Fleet, down: Duration) -> anyhow::Result<String> {
    let mut proofs = Vec::new();
    for index in 0..fleet.nats.len() {
        proofs.push(fleet.kill_nats(index).await?);
    }
    tokio::time::sleep(down).await;
    for index in 0..fleet.nats.len() {
        fleet.restart_nats(index).await?;
    }
    Ok(proofs.join(", "))
}

async fn rolling_restart(fleet: &mut Fleet, world: &World) -> anyhow::Result<String> {
    for index in 0..fleet.len() {
        let gateway = index.checked_sub(EACH);
        world.taken.borrow_mut().extend(gateway);
        fleet.terminate(index).await?;
        fleet.restart(index).await?;
        tokio::time::sleep(BREATH).await;
        if let Some(gateway) = gateway {
            world.taken.borrow_mut().remove(&gateway);
        }
    }
    // One server alone is the whole bus: that is another fault.
    let servers = if fleet.nats.len() > 1 { fleet.nats.len() } else { 0 };
    for index in 0..servers {
        fleet.kill_nats(index).await?;
        fleet.restart_nats(index).await?;
        tokio::time::sleep(BREATH).await;
    }
    Ok(format!("{} processes ended with 0, {servers} NATS servers refused", fleet.len()))
}
