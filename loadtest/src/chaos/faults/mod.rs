//! The faults: what is done, and how it is proved that it bit.

mod bounds;
mod bus;
mod clocks;
mod crowd;
mod exhausted;
mod herd;
mod links;
mod narrow;
mod processes;
mod servers;
mod versions;

use std::time::Duration;

use clap::ValueEnum;
use serde::Serialize;

use super::fleet::{self, EACH, Fleet, GATEWAYS, Owned, Shape};
use super::truth::Moment;
use super::world::World;

pub(super) use self::bounds::Bounds;

/// What is done to the cluster.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Fault {
    /// Nothing: what the judge says of a cluster that nobody touches
    None,
    /// SIGSTOP of a process of clients
    ClientFreeze,
    /// kill -9 of a process of clients
    ClientKill,
    /// kill -9 of a gateway; its users stay away
    GatewayKillAway,
    /// kill -9 of a gateway; its users return elsewhere inside the grace
    GatewayKillReturn,
    /// kill -9 of a coordinator, and its restart
    CoordinatorKill,
    /// SIGSTOP of a coordinator for 30 s, then SIGCONT
    CoordinatorFreeze,
    /// kill -9 of one NATS server, and its restart
    NatsKillOne,
    /// kill -9 of all NATS servers, and their restart
    NatsRestart,
    /// A gateway is cut from NATS for 60 s, both ways; nobody tells it
    GatewayCut,
    /// 1 % of the messages from one process to another is lost for a minute
    #[value(name = "bus-loss-1")]
    #[serde(rename = "bus-loss-1")]
    BusLoss1,
    /// 10 % of the messages from one process to another is lost for a minute
    #[value(name = "bus-loss-10")]
    #[serde(rename = "bus-loss-10")]
    BusLoss10,
    /// 10 % is lost on every connection to NATS for a minute, each way: nearly every fifth message
    #[value(name = "bus-loss-19")]
    #[serde(rename = "bus-loss-19")]
    BusLoss19,
    /// Every process in turn, when all partitions are settled: SIGTERM and start; NATS servers: kill -9 and start
    RollingRestart,
    /// SIGTERM of a gateway; its users return elsewhere
    GatewayDrain,
    /// SIGSTOP of a gateway for 5 s, then SIGCONT
    GatewayFreezeShort,
    /// SIGSTOP of a gateway for 60 s, then SIGCONT
    GatewayFreezeLong,
    /// No message reaches a gateway for 30 s; its connections look well
    GatewayDeaf,
    /// No message leaves a gateway for 30 s; its connections look well
    GatewayMute,
    /// NATS refuses a gateway for 30 s
    GatewayRefused,
    /// A coordinator is cut from NATS for 30 s, both ways; nobody tells it
    CoordinatorCut,
    /// kill -9 of all coordinators, and their start 15 s later
    CoordinatorsCold,
    /// kill -9 of a coordinator each time it has been back for 2 s, for 30 s
    CoordinatorLoop,
    /// SIGSTOP of a NATS server for 10 s, then SIGCONT
    NatsFreeze,
    /// kill -9 of all NATS servers for a minute: sockets stay, memory does not grow
    NatsAway,
    /// A NATS server is cut from the two others for 5 s, with a coordinator and a gateway on its side
    NatsSplit,
    /// Every message takes 100 to 300 ms more, and passes those to other subjects
    BusDelay,
    /// Every second message comes twice, and all pass each other
    BusTwice,
    /// 10 % of the packets between a gateway and NATS is lost for a minute, each way; needs root
    #[value(name = "packet-loss-10")]
    #[serde(rename = "packet-loss-10")]
    PacketLoss10,
    /// NATS takes a gateway that does not read for a slow consumer and cuts it off
    NatsSlowConsumer,
    /// JetStream has no room; a coordinator is killed, so that others must claim
    JetstreamFull,
    /// kill -9 of all gateways, and their start: all clients return at once
    ReconnectStorm,
    /// SIGSTOP of every process, NATS too, for 30 s, then SIGCONT
    SuspendAll,
    /// A second gateway with the name of another
    GatewayTwice,
    /// All processes together get a fifth of a processor for 30 s; needs root
    CpuStarved,
    /// The wall clocks of a gateway and a coordinator jump by half an hour, on and back; needs faketime
    ClockJump,
    /// Clients come back from another address within their grace, twice; their old connections stay, silent
    ClientMove,
    /// Clients and watchers die without a word while their gateway has much to tell them
    ClientHalfOpen,
    /// 30 % of the packets of some clients is lost for 30 s, each way; needs root
    #[value(name = "client-loss-30")]
    #[serde(rename = "client-loss-30")]
    ClientLoss30,
    /// A watcher of 1,000 users who change all the time has a link of 64 kbit/s
    WatcherNarrow,
    /// kill -9 of all NATS servers, and their restart, with the buses of 47 gateways more
    NatsHerd,
    /// A gateway may open no more descriptors
    DescriptorsOut,
    /// A gateway has a fifth more memory than it needs, and thousands connect; needs root
    MemoryShort,
    /// All that processes say to each other for 30 s is also said in the versions before and after theirs
    VersionsMixed,
}

/// Which faults.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Rows {
    /// Those whose bounds are published
    Table,
    /// A few of all kinds, for the normal tests
    Short,
    /// Every one
    All,
}

impl Rows {
    /// The time around each fault: half of it where time is short.
    pub(super) fn of(self, time: Duration) -> Duration {
        if self == Self::Short { time / 2 } else { time }
    }

    pub(super) fn faults(self) -> Vec<Fault> {
        match self {
            Self::Table => TABLE.to_vec(),
            Self::Short => SHORT.to_vec(),
            Self::All => Fault::value_variants().to_vec(),
        }
    }
}

const TABLE: [Fault; 12] = [
    Fault::ClientFreeze,
    Fault::ClientKill,
    Fault::GatewayKillAway,
    Fault::GatewayKillReturn,
    Fault::CoordinatorKill,
    Fault::CoordinatorFreeze,
    Fault::NatsKillOne,
    Fault::NatsRestart,
    Fault::GatewayCut,
    Fault::BusLoss1,
    Fault::BusLoss10,
    Fault::RollingRestart,
];
const SHORT: [Fault; 4] =
    [Fault::CoordinatorKill, Fault::GatewayKillReturn, Fault::NatsRestart, Fault::BusLoss10];

/// That it was done.
#[derive(Debug)]
pub(super) struct Bite {
    pub(super) injected: Moment,
    pub(super) healed: Moment,
    pub(super) proof: String,
    /// Users who cannot be seen, whatever is true of them.
    pub(super) excused: Vec<Excuse>,
    /// What else was promised and not kept.
    pub(super) misses: Vec<String>,
    /// By how much it lasted longer than it was meant to, for a reason that is not the service's.
    pub(super) longer: Duration,
}

/// Nobody is blamed for what is shown of the users of a gateway in this time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Excuse {
    pub(super) gateway: usize,
    pub(super) from: Moment,
    pub(super) to: Moment,
    /// The same of those who come and go: who tried to may have left behind a session that was never told to end.
    pub(super) ghosts_to: Moment,
}

/// What a fault has at hand.
pub(super) struct Scene<'a> {
    pub(super) fleet: &'a mut Fleet,
    pub(super) world: &'a World,
    pub(super) clients: Option<&'a mut Owned>,
}

impl Fault {
    pub(super) fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// What it is, in words.
    pub(super) fn about(self) -> String {
        let value = self.to_possible_value();
        value.and_then(|value| value.get_help().map(ToString::to_string)).unwrap_or_default()
    }

    /// Whether it needs clients in a process of their own.
    pub(super) const fn apart(self) -> bool {
        matches!(self, Self::ClientFreeze | Self::ClientKill)
    }

    /// Whether some clients connect over lines of their own.
    pub(super) const fn lined(self) -> bool {
        matches!(self, Self::ClientMove | Self::ClientHalfOpen | Self::ClientLoss30)
    }

    /// What it needs of the NATS servers and of the ways to them.
    pub(super) fn shape(self) -> Shape {
        let usual = Shape::default();
        if self == Self::NatsSplit {
            Shape { routes: true, ..usual }
        } else if self == Self::NatsSlowConsumer {
            Shape { lines: servers::SLOW_LINES, buffers: Some(servers::SLOW_BUFFERS), ..usual }
        } else if self == Self::JetstreamFull {
            Shape { jetstream: servers::FULL_LINES, ..usual }
        } else if self == Self::MemoryShort {
            Shape { settings: exhausted::CAPS, ..usual }
        } else {
            let (clocks, namespace) = (self == Self::ClockJump, self == Self::PacketLoss10);
            Shape { clocks, namespace, ..usual }
        }
    }

    /// Why it cannot be done on this machine, if so.
    pub(super) fn skipped(self, servers: usize) -> Option<String> {
        let cluster = matches!(self, Self::NatsKillOne | Self::NatsFreeze | Self::NatsSplit) && servers < 3;
        if cluster {
            Some("needs --nats 3".to_owned())
        } else if self == Self::CpuStarved {
            processes::no_cgroup()
        } else if self == Self::ClockJump {
            fleet::no_faketime()
        } else if self == Self::ClientLoss30 {
            links::no_loss()
        } else if self == Self::MemoryShort {
            exhausted::no_cgroup()
        } else if self == Self::PacketLoss10 {
            fleet::no_namespace()
        } else {
            None
        }
    }

    /// Does it, proves it, and heals it where it can be healed.
    pub(super) async fn inject(self, scene: &mut Scene<'_>) -> anyhow::Result<Bite> {
        match self {
            Self::None => scene.nothing().await,
            Self::ClientFreeze => scene.freeze_clients().await,
            Self::ClientKill => scene.kill_clients().await,
            Self::GatewayKillAway => scene.kill_gateway(true).await,
            Self::GatewayKillReturn => scene.kill_gateway(false).await,
            Self::GatewayDrain => scene.drain_gateway().await,
            Self::GatewayFreezeShort => scene.freeze_gateway(5).await,
            Self::GatewayFreezeLong => scene.freeze_gateway(60).await,
            Self::GatewayCut => scene.cut_gateway().await,
            Self::GatewayRefused => scene.refuse_gateway().await,
            Self::GatewayDeaf => scene.deafen_gateway().await,
            Self::GatewayMute => scene.mute_gateway().await,
            Self::GatewayTwice => scene.second_gateway().await,
            Self::CoordinatorKill => scene.kill_coordinator().await,
            Self::CoordinatorFreeze => scene.freeze_coordinator().await,
            Self::CoordinatorCut => scene.cut_coordinator().await,
            Self::CoordinatorsCold => scene.restart_coordinators().await,
            Self::CoordinatorLoop => scene.loop_coordinator().await,
            Self::NatsKillOne => scene.kill_server().await,
            Self::NatsRestart => scene.restart_servers(30).await,
            Self::NatsAway => scene.restart_servers(60).await,
            Self::NatsFreeze => scene.freeze_server().await,
            Self::NatsSplit => scene.split_servers().await,
            Self::NatsSlowConsumer => scene.slow_consumer().await,
            Self::JetstreamFull => scene.fill_jetstream().await,
            Self::BusLoss1 => scene.lose(0.01).await,
            Self::BusLoss10 => scene.lose(0.1).await,
            Self::BusLoss19 => scene.lose(0.19).await,
            Self::PacketLoss10 => scene.lose_packets().await,
            Self::BusDelay => scene.delay().await,
            Self::BusTwice => scene.double().await,
            Self::RollingRestart => scene.rolling_restart().await,
            Self::ReconnectStorm => scene.reconnect_storm().await,
            Self::SuspendAll => scene.suspend().await,
            Self::CpuStarved => scene.starve().await,
            Self::ClockJump => scene.jump_clocks().await,
            Self::ClientMove => scene.move_clients().await,
            Self::ClientHalfOpen => scene.kill_silently().await,
            Self::ClientLoss30 => scene.lose_client_packets().await,
            Self::WatcherNarrow => scene.narrow_watcher().await,
            Self::NatsHerd => scene.herd().await,
            Self::DescriptorsOut => scene.exhaust_descriptors().await,
            Self::MemoryShort => scene.squeeze_memory().await,
            Self::VersionsMixed => scene.mix_versions().await,
        }
    }
}

impl Scene<'_> {
    /// A time that is so many seconds with the default timers.
    fn short(&self, seconds: u64) -> Duration {
        self.world.timers.short(seconds)
    }

    async fn wait(&self, seconds: u64) {
        tokio::time::sleep(self.short(seconds)).await;
    }

    async fn nothing(&mut self) -> anyhow::Result<Bite> {
        let injected = self.world.now();
        self.wait(15).await;
        Ok(self.bite(injected, "nothing done"))
    }

    /// A fault that is over now, and that excuses nothing.
    fn bite(&self, injected: Moment, proof: impl Into<String>) -> Bite {
        Bite {
            injected,
            healed: self.world.now(),
            proof: proof.into(),
            excused: Vec::new(),
            misses: Vec::new(),
            longer: Duration::ZERO,
        }
    }

    /// A fault that is over now, and that kept anybody from knowing of the users of a gateway.
    fn severed(&self, gateway: usize, injected: Moment, proof: impl Into<String>) -> Bite {
        let mut bite = self.bite(injected, proof);
        let healed = bite.healed;
        let ghosts = self.world.timers.gateway_timeout + self.world.timers.grace;
        bite.excused = vec![Excuse { gateway, from: injected, to: healed, ghosts_to: healed + ghosts }];
        bite
    }
}

/// The member that is this gateway.
const fn member(gateway: usize) -> usize {
    GATEWAYS.start + gateway
}

/// The gateway that a watcher connected to first.
const fn gateway_of(watcher: usize) -> usize {
    watcher % EACH
}
