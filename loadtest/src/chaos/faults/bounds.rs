//! What may be seen of a fault.

use std::time::Duration;

use super::Fault;
use crate::chaos::timers::Timers;
use crate::chaos::watchers::POLL;

/// A watcher whose gateway ends may take this long to come back and to be told everything.
const MOVE: Duration = Duration::from_millis(1_500);
/// Gateways tell their news in windows of milliseconds each, on a machine that is not idle.
const WINDOWS: Duration = Duration::from_millis(250);
/// All gateways start again, and all clients come back.
const STORM: Duration = Duration::from_secs(5);

/// What may be seen of a fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::chaos) struct Bounds {
    /// The longest that anybody may be shown wrongly.
    pub(in crate::chaos) wrong: Duration,
    /// Until all is right again after healing.
    pub(in crate::chaos) recovery: Duration,
    /// The most time of one pair that may be unknown.
    pub(in crate::chaos) unknown: Duration,
    /// How late a truth may be told.
    pub(in crate::chaos) late: Duration,
    /// The most time of one pair that may be shown with `asOf`.
    pub(in crate::chaos) stale: Duration,
    /// The most time in which a poller may get no fresh answer about a user.
    pub(in crate::chaos) unpolled: Duration,
    /// How often one client may be cut off with a gateway that the fault takes away.
    pub(in crate::chaos) cuts: usize,
    /// How late the news of one gateway may be when those of another are not.
    pub(in crate::chaos) unheard: Duration,
    /// Nothing is taken away from the service: whatever it tells, it has a reason to.
    pub(in crate::chaos) quiet: bool,
    /// Owners may be lost, and with them the claims of their users, which nobody else keeps.
    pub(in crate::chaos) forgets_claims: bool,
}

impl Bounds {
    /// Nobody is cut off, and all is right within this.
    const fn seen_within(wrong: Duration) -> Self {
        Self {
            wrong,
            recovery: wrong,
            unknown: Duration::ZERO,
            late: wrong,
            stale: Duration::ZERO,
            unpolled: Duration::ZERO,
            cuts: 0,
            unheard: WINDOWS,
            quiet: true,
            forgets_claims: false,
        }
    }

    const fn but_unknown(self, unknown: Duration) -> Self {
        Self { unknown, ..self }
    }

    /// The fault lasted longer than it was meant to, for a reason that is not the service's.
    pub(in crate::chaos) fn longer(self, by: Duration) -> Self {
        let wrong = self.wrong + by;
        Self {
            wrong,
            stale: self.stale + by,
            unpolled: self.unpolled + by,
            unheard: self.unheard + by,
            ..self.after(by)
        }
    }

    /// Some cannot be told of the truth for so long.
    fn after(self, outage: Duration) -> Self {
        Self { late: self.late + outage, ..self }
    }
}

impl Fault {
    /// What the published promises allow, with timers some times shorter.
    pub(in crate::chaos) fn bounds(self, timers: Timers) -> Bounds {
        let times = Bounds { forgets_claims: !self.keeps_owners(), ..self.times(timers) };
        if matches!(
            self,
            Self::None | Self::ClientFreeze | Self::ClientKill | Self::ClockJump | Self::VersionsMixed
        ) {
            return times;
        }
        // A gateway that is there all the time hears its owners, but for those that a fault takes away.
        let moved = matches!(self, Self::GatewayKillReturn | Self::GatewayKillAway | Self::GatewayDrain);
        let stale = if moved { Duration::ZERO } else { times.late };
        let unpolled = times.late + times.unknown + POLL;
        Bounds { stale, unpolled, cuts: self.cuts(), unheard: times.late, quiet: false, ..times }
    }

    const fn cuts(self) -> usize {
        match self {
            Self::GatewayKillReturn
            | Self::GatewayKillAway
            | Self::GatewayDrain
            | Self::GatewayFreezeShort
            | Self::GatewayFreezeLong => 1,
            Self::ReconnectStorm | Self::SuspendAll | Self::GatewayTwice | Self::CpuStarved => 2,
            Self::RollingRestart => 3,
            Self::ClientHalfOpen | Self::MemoryShort => 1,
            Self::ClientMove => 2,
            // As often as a client may be silent for too long in half a minute, with timers five times shorter.
            Self::ClientLoss30 => 5,
            Self::None
            | Self::ClientFreeze
            | Self::ClientKill
            | Self::CoordinatorKill
            | Self::CoordinatorFreeze
            | Self::NatsKillOne
            | Self::NatsRestart
            | Self::GatewayCut
            | Self::BusLoss1
            | Self::BusLoss10
            | Self::BusLoss19
            | Self::PacketLoss10
            | Self::GatewayDeaf
            | Self::GatewayMute
            | Self::GatewayRefused
            | Self::CoordinatorCut
            | Self::CoordinatorsCold
            | Self::CoordinatorLoop
            | Self::NatsFreeze
            | Self::NatsAway
            | Self::NatsSplit
            | Self::BusDelay
            | Self::BusTwice
            | Self::NatsSlowConsumer
            | Self::JetstreamFull
            | Self::WatcherNarrow
            | Self::NatsHerd
            | Self::DescriptorsOut
            | Self::VersionsMixed
            | Self::ClockJump => 0,
        }
    }

    /// Whether no coordinator is lost or cut off.
    const fn keeps_owners(self) -> bool {
        matches!(
            self,
            Self::None
                | Self::ClientFreeze
                | Self::ClientKill
                | Self::GatewayKillAway
                | Self::GatewayKillReturn
                | Self::GatewayDrain
                | Self::GatewayCut
                | Self::GatewayRefused
                | Self::GatewayDeaf
                | Self::GatewayMute
                | Self::GatewayFreezeShort
                | Self::GatewayFreezeLong
                | Self::GatewayTwice
                | Self::NatsSlowConsumer
                | Self::ReconnectStorm
                | Self::ClockJump
                | Self::PacketLoss10
                | Self::ClientMove
                | Self::ClientHalfOpen
                | Self::ClientLoss30
                | Self::WatcherNarrow
                | Self::DescriptorsOut
                | Self::MemoryShort
                | Self::VersionsMixed
        )
    }

    fn times(self, timers: Timers) -> Bounds {
        let seconds = |seconds| timers.scaled(Duration::from_secs(seconds));
        let within = |promise| Bounds::seen_within(seconds(promise));
        // Cut off so long, and right so many seconds later: what is not confirmed is unknown in between.
        let cut = |outage, promise| {
            let outage = timers.short(outage);
            let unknown = (outage + seconds(promise)).saturating_sub(timers.fresh_for);
            within(promise).but_unknown(unknown).after(outage)
        };
        let wrong_for = |outage, promise| {
            let outage = timers.short(outage);
            Bounds { wrong: seconds(promise) + outage, ..within(promise).after(outage) }
        };
        match self {
            Self::None | Self::ClientFreeze | Self::ClientKill | Self::ClockJump | Self::VersionsMixed => {
                within(1)
            }
            Self::GatewayKillReturn | Self::GatewayKillAway | Self::GatewayDrain | Self::MemoryShort => {
                within(1).but_unknown(MOVE)
            }
            Self::CoordinatorKill
            | Self::CoordinatorFreeze
            | Self::CoordinatorCut
            | Self::CoordinatorLoop
            | Self::JetstreamFull
            | Self::NatsKillOne
            | Self::BusDelay
            | Self::BusTwice => within(2),
            // Signs of life of coordinators are lost so often in a row that partitions change hands for nothing.
            Self::BusLoss19 => within(10),
            // While one machine's link is found dead (1.5 s) nobody can know.
            Self::NatsFreeze => within(4),
            // Packets are sent again: nothing is lost, but much is late, and a link may be given up.
            Self::PacketLoss10 => within(5).but_unknown(STORM),
            Self::BusLoss1 | Self::BusLoss10 => {
                let wrong = timers.beat + timers.machine;
                Bounds { recovery: timers.machine, ..Bounds::seen_within(wrong) }
            }
            Self::ClientMove
            | Self::ClientHalfOpen
            | Self::ClientLoss30
            | Self::WatcherNarrow
            | Self::DescriptorsOut => within(1),
            Self::NatsRestart | Self::NatsHerd => cut(30, 5),
            Self::NatsAway => cut(60, 5),
            Self::GatewayCut => cut(60, 2),
            Self::GatewayRefused | Self::GatewayDeaf | Self::GatewayMute => cut(30, 2),
            // Watchers of the frozen gateway hear nothing at all, until they ask and go elsewhere.
            Self::GatewayFreezeLong => within(5).but_unknown(timers.short(60) + MOVE).after(timers.short(60)),
            Self::GatewayFreezeShort => wrong_for(5, 3),
            Self::NatsSlowConsumer => wrong_for(30, 3),
            // A new owner listens for 5.5 s, after 1 s to be ready, before it says who is offline.
            Self::CoordinatorsCold => Bounds { wrong: seconds(3), ..cut(15, 9) },
            Self::NatsSplit => wrong_for(5, 2),
            Self::ReconnectStorm => within(2).but_unknown(STORM),
            Self::SuspendAll => wrong_for(30, 5).but_unknown(timers.short(30) + STORM),
            Self::GatewayTwice => within(5).but_unknown(STORM),
            // Nobody is promised to hear of anything in time; but what is not known is to be told as such.
            Self::CpuStarved => within(5).but_unknown(STORM).after(timers.short(30)),
            Self::RollingRestart => within(2).but_unknown(MOVE * 3),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chaos::timers::MACHINE;

    #[test]
    fn with_the_default_timers_bounds_are_those_published() {
        let bounds = |fault: Fault| fault.bounds(Timers::new(1, MACHINE));
        assert_eq!(bounds(Fault::ClientFreeze).wrong, Duration::from_secs(1));
        assert_eq!(bounds(Fault::CoordinatorKill).wrong, Duration::from_secs(2));
        assert_eq!(bounds(Fault::NatsRestart).recovery, Duration::from_secs(5));
        assert_eq!(bounds(Fault::GatewayCut).recovery, Duration::from_secs(2));
        assert_eq!(bounds(Fault::BusLoss10).wrong, Duration::from_millis(1_200));
        assert_eq!(bounds(Fault::BusLoss10).recovery, Duration::from_secs(1));
    }
}
