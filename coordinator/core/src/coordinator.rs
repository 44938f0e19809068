//! The coordinator: one turn of the rules for each input, and what falls due with time.

use herenow_protocol::code::ErrorCode;
use herenow_protocol::message::{CoordinatorBeat, Report, Sync, Up};
use herenow_protocol::time::millis;
use herenow_protocol::{
    CoordinatorId, Epoch, Incarnation, MonoTime, Now, Origin, Partition, Placement, WallTime,
};

use crate::fading::Pace;
use crate::gateways::{Gateways, MASS_SILENCE};
use crate::listening::Listening;
use crate::ownership::Ownership;
use crate::peers::Peers;
use crate::request::{refuse_claim, refuse_list};
use crate::resyncs::Resyncs;
use crate::stats::Stats;
use crate::{Config, Input, Output};

/// One coordinator; see the crate's page.
#[derive(Debug)]
pub struct Coordinator {
    pub(crate) config: Config,
    pub(crate) id: CoordinatorId,
    incarnation: Incarnation,
    started: MonoTime,
    pub(crate) peers: Peers,
    pub(crate) gateways: Gateways,
    pub(crate) ownership: Ownership,
    beat_number: u64,
    beat_due: MonoTime,
    was_isolated: bool,
    listening: Listening,
    pub(crate) frozen: bool,
    /// When it was last sure of what it hears.
    sure_at: WallTime,
    draining: bool,
    /// R10: gateways are sent only what is watched there.
    pub(crate) by_user: bool,
    pub(crate) pace: Pace,
    pub(crate) resyncs: Resyncs,
    pub(crate) now: MonoTime,
    pub(crate) stats: Stats,
}

impl Coordinator {
    /// A coordinator that owns nothing yet. `seed` feeds every random choice.
    #[must_use]
    pub fn new(
        config: Config,
        id: CoordinatorId,
        incarnation: Incarnation,
        placement: Placement,
        seed: u64,
        now: Now,
    ) -> Self {
        Self {
            peers: Peers::new(id.clone(), incarnation, config.dead_after, now.mono),
            gateways: Gateways::default(),
            ownership: Ownership::new(id.clone(), &placement, seed),
            config,
            id,
            incarnation,
            started: now.mono,
            beat_number: 0,
            beat_due: now.mono,
            was_isolated: false,
            listening: Listening::new(now.mono),
            frozen: false,
            sure_at: now.wall,
            draining: false,
            by_user: false,
            pace: Pace::new(now.mono),
            resyncs: Resyncs::new(seed.rotate_left(17)),
            now: now.mono,
            stats: Stats::default(),
        }
    }

    /// Takes one input; appends what is to be done.
    pub fn handle(&mut self, input: Input, now: Now, out: &mut Vec<Output>) {
        self.turn(now.mono);
        match input {
            Input::Up(up) => self.on_up(up, now, out),
            Input::GatewayBeat(beat) => self.on_gateway_beat(&beat, now, out),
            Input::Beat(beat) => self.on_beat(&beat, now, out),
            Input::Fenced(fenced) => self.ownership.see(fenced.partition, fenced.seen, out),
            Input::Recorded { partition, epoch, outcome } => {
                self.ownership.recorded(partition, epoch, outcome, now.mono, out);
                self.greet(partition, now, out);
            }
            Input::Known { partition, epoch } => self.ownership.see(partition, epoch, out),
            Input::Restored { partition, epoch, attempt, records, newest, last } => {
                // R2: who wrote there after this claim would have owned it is newer, whatever the arbiter knows.
                self.ownership.see(partition, newest, out);
                self.on_restored(partition, (epoch, attempt), records, last, now);
            }
            Input::BusLossy => self.doubt(),
            Input::Drain => {
                self.draining = true;
                self.ownership.announce = true;
            }
        }
        self.fade(now);
        self.publish(now, out);
        self.ownership.take_stock(&self.config);
    }

    /// When [`Self::handle_timeout`] wants to be called next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<MonoTime> {
        if self.ownership.announce {
            return Some(self.now);
        }
        let dues = self.ownership.view_dues(&self.config);
        // Cut off, nothing ends by itself: what is due waits for the end of that, and not in a loop.
        let ends = dues.next_end().into_iter().chain(self.fade_due(dues)).filter(|_| !self.was_isolated);
        dues.next_tell().into_iter().chain(ends).chain(std::iter::once(self.beat_due)).min()
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Now, out: &mut Vec<Output>) {
        self.turn(now.mono);
        let isolated = self.check_isolation(now.mono);
        if !isolated {
            self.run_timers(now);
        }
        if now.mono >= self.beat_due {
            self.tick(isolated, now, out);
        }
        self.fade(now);
        self.publish(now, out);
        if self.ownership.announce || now.mono >= self.beat_due {
            self.send_beat(now.mono, out);
        }
        self.ownership.take_stock(&self.config);
    }

    /// A process that stood still has not listened: what piled up for it is old, its own beats among it. It is cut off
    /// until it hears itself anew.
    fn turn(&mut self, now: MonoTime) {
        if now.since(self.now) > self.config.dead_after {
            self.stats.stalls += 1;
            self.peers.distrust(self.beat_number + 1);
            // Before anything is read: reports from before the stop would be stated as news.
            self.check_isolation(now);
        }
        self.now = now;
    }

    /// Everything that happens once a heartbeat interval.
    fn tick(&mut self, isolated: bool, now: Now, out: &mut Vec<Output>) {
        self.peers.prune(now.mono);
        for partition in self.ownership.expire_claims(now.mono, &self.config) {
            self.greet(partition, now, out);
        }
        if isolated {
            return;
        }
        self.let_go(now);
        self.frozen = self.gateways.frozen(now.mono, &self.config);
        if !self.frozen {
            let unnoticed = millis(self.config.dead_after.max(MASS_SILENCE));
            self.sure_at = WallTime::from_millis(now.wall.as_millis().saturating_sub(unnoticed));
            self.lapse_dead(now);
        }
        self.repair(now.mono, out);
        self.choose_level(out);
        self.settle(now);
        for state in self.ownership.all_owned() {
            state.say_held(now, &self.config);
        }
        self.place(now, out);
    }

    /// R1 and R12: claims what is free, lets go of what is another's.
    fn place(&mut self, now: Now, out: &mut Vec<Output>) {
        let patience = if self.draining { std::time::Duration::ZERO } else { self.config.hand_over_after };
        for partition in self.ownership.misplaced(&self.peers, now.mono, patience) {
            if let Some(state) = self.ownership.owned(partition) {
                state.publish(&self.id, now.mono, &self.config, out);
                state.keep(now, out);
            }
            self.ownership.release(partition, out);
        }
        if self.is_ready(now.mono) {
            self.ownership.claim(&self.peers, now.mono, out);
        }
    }

    fn is_ready(&self, now: MonoTime) -> bool {
        !self.draining && now.since(self.started) >= self.config.ready_after && !self.peers.isolated(now)
    }

    fn send_beat(&mut self, now: MonoTime, out: &mut Vec<Output>) {
        self.ownership.announce = false;
        self.beat_number += 1;
        self.beat_due = now.after(self.config.heartbeat_interval);
        // One who is deaf may still be heard. It vouches for nothing, and leaves its partitions to who can hear.
        let isolated = self.peers.isolated(now);
        let owned = if isolated { Vec::new() } else { self.ownership.beat(self.by_user, self.frozen) };
        if !isolated {
            self.level_streams(out);
        }
        out.push(Output::Beat(CoordinatorBeat {
            id: self.id.clone(),
            incarnation: self.incarnation,
            number: self.beat_number,
            clock: now.as_millis(),
            ready: self.is_ready(now),
            mourning_ms: millis(self.gateways.mourned_until.since(now)),
            owned,
        }));
    }

    fn on_beat(&mut self, beat: &CoordinatorBeat, now: Now, out: &mut Vec<Output>) {
        if !self.peers.hear(beat, now.mono) {
            return;
        }
        if beat.id != self.id {
            self.gateways.mourn_with(beat.mourning_ms, now.mono, &self.config);
        }
        self.ownership.hear(beat, out);
        self.check_isolation(now.mono);
        if self.is_ready(now.mono) {
            self.ownership.claim(&self.peers, now.mono, out);
        }
    }

    /// R7: notices the end and the beginning of being cut off. While it lasts nothing is settled; when it ends, the
    /// silence of the gateways was this coordinator's own, and each must say anew where it stands.
    fn check_isolation(&mut self, now: MonoTime) -> bool {
        let isolated = self.peers.isolated(now);
        if isolated != self.was_isolated {
            self.was_isolated = isolated;
            if isolated {
                self.listening.cut_off(now, &self.config);
            } else {
                self.listening.back(now, &self.config);
            }
            self.gateways.forgive(now);
            self.doubt();
        }
        isolated
    }

    /// R7: takes nothing for complete, nor for true, until each gateway has confirmed it.
    fn doubt(&mut self) {
        for state in self.ownership.all_owned() {
            state.settled = false;
            state.sure_at.get_or_insert(self.sure_at);
            for stream in state.streams.values_mut() {
                stream.confirmed = false;
            }
        }
    }

    /// R8: settles what every gateway has confirmed, once this coordinator can know every gateway.
    pub(crate) fn settle(&mut self, now: Now) {
        let mut settled_any = false;
        if self.peers.isolated(now.mono) || self.frozen {
            return;
        }
        let knows_all = self.listening.knows_all(now.mono, &self.config);
        let origins: Vec<Origin> = self.gateways.origins().collect();
        for state in self.ownership.all_owned().filter(|state| !state.settled || state.sure_at.is_some()) {
            let complete = origins.iter().all(|origin| {
                let stream = state.streams.get(&origin.gateway);
                stream.is_some_and(|s| s.synced && s.confirmed && s.incarnation == origin.incarnation)
            });
            if complete {
                state.sure_at = None;
            }
            let mourned = now.mono >= state.hold_until;
            let restored = state.has_waited(now.mono, &self.config);
            if complete && mourned && restored && knows_all && !state.settled {
                state.settle(now, &self.config);
                settled_any = true;
            }
        }
        self.ownership.announce |= settled_any;
    }

    fn on_up(&mut self, up: Up, now: Now, out: &mut Vec<Output>) {
        let partition = up.partition();
        if let Up::Report(Report { epoch_seen, .. }) | Up::Sync(Sync { epoch_seen, .. }) = &up {
            self.ownership.see(partition, *epoch_seen, out);
        }
        let isolated = self.peers.isolated(now.mono);
        if let Up::Pull(pull) = &up
            && self.by_user
        {
            self.note_pull(pull, now.mono, out);
        }
        let Some(state) = self.ownership.owned(partition) else {
            self.stats.misdirected += 1;
            return;
        };
        match up {
            Up::Report(report) => self.on_report(report, now, out),
            Up::Sync(sync) => self.on_sync(sync, now, out),
            Up::Pull(pull) if !isolated => {
                let sure_at = Some(self.sure_at).filter(|_| self.frozen);
                state.answer_pull(&self.id, pull, sure_at, now.mono, out);
            }
            Up::Claim(request) if isolated => out.push(refuse_claim(&request, ErrorCode::Unavailable)),
            Up::Claim(request) => state.answer_claim(request, now, &self.config, out),
            Up::Explain(request) => state.answer_explain(&self.id, &request, now.mono, &self.config, out),
            Up::List(request) if isolated => out.push(refuse_list(request)),
            Up::List(request) => state.answer_list(request, out),
            Up::Interest(interest) => self.on_interest(interest, now, out),
            Up::Audit(audit) if !isolated => self.on_audit(&audit, out),
            Up::Pull(_) | Up::Audit(_) => {}
        }
    }

    fn run_timers(&mut self, now: Now) {
        for partition in self.ownership.dues(&self.config).to_end(now.mono) {
            if let Some(state) = self.ownership.owned(partition) {
                state.handle_timers(now, &self.config);
            }
        }
    }

    fn publish(&mut self, now: Now, out: &mut Vec<Output>) {
        for partition in self.ownership.dues(&self.config).to_tell(now.mono) {
            let Some(state) = self.ownership.owned(partition) else { continue };
            if state.publish_due(&self.config).is_some_and(|due| due <= now.mono) {
                self.stats.changes += state.n - state.outbox.published;
                state.publish(&self.id, now.mono, &self.config, out);
            }
            state.keep(now, out);
        }
    }

    /// The highest epoch this coordinator has seen of a partition; for simulations.
    #[must_use]
    pub fn epoch(&self, partition: Partition) -> Option<Epoch> {
        self.ownership.view_owned().find(|state| state.partition == partition).map(|state| state.epoch)
    }
}
