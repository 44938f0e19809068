//! The coordinator: one turn of the rules for each input, and what falls due with time.

use herenow_protocol::code::ErrorCode;
use herenow_protocol::message::{CoordinatorBeat, GatewayBeat, Report, StreamBeat, Sync, ToGateway, Up};
use herenow_protocol::time::millis;
use herenow_protocol::{
    CoordinatorId, Epoch, Incarnation, MonoTime, Now, Origin, Partition, Placement, WallTime,
};

use crate::fading::Pace;
use crate::gateways::{Gateways, Hearing, MASS_SILENCE};
use crate::listening::Listening;
use crate::moving::{ending, moving_until};
use crate::ownership::Ownership;
use crate::partition::PartitionState;
use crate::peers::Peers;
use crate::request::{refuse_claim, refuse_list};
use crate::resyncs::Resyncs;
use crate::stream::{Stream, Verdict};
use crate::{Config, Input, Output};

/// Counts since the coordinator began, and sizes now. Read by metrics.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    /// Partitions owned now.
    pub partitions: u64,
    /// Of these, those that may state that somebody is offline.
    pub settled: u64,
    /// Users known now.
    pub users: u64,
    /// Gateways heard of now.
    pub gateways: u64,
    /// Of these, those silent for the stale time.
    pub stale_gateways: u64,
    /// Coordinators heard of now, this one included.
    pub coordinators: u64,
    /// Whether this coordinator is cut off.
    pub isolated: bool,
    /// Whether so many gateways fell silent at once that none is taken for dead.
    pub frozen: bool,
    /// Partitions claimed.
    pub claims: u64,
    /// Of these, those that stand without the arbiter's record.
    pub claims_without_record: u64,
    /// Partitions let go because somebody has a higher epoch.
    pub fenced: u64,
    /// Partitions given to a coordinator that joined, or on leaving.
    pub handed_over: u64,
    /// Gateways whose sessions lapsed together.
    pub lapsed_gateways: u64,
    /// Gateways that left in order.
    pub left_gateways: u64,
    /// Reports dropped because they were applied before or belong to an earlier life.
    pub old_reports: u64,
    /// Reports before which something was missing.
    pub gaps: u64,
    /// Sets that differed from their gateway's at equal numbers (I6): of sessions, or of watched users. More than none
    /// is a slip of a program.
    pub sets_differed: u64,
    /// Values that a gateway took for current and were not the owner's at equal numbers (I9). The same.
    pub values_differed: u64,
    /// Owned partitions of which each gateway is sent only what is watched there now.
    pub selective: u64,
    /// Users with a watcher anywhere, as gateways have told.
    pub watched_users: u64,
    /// Users who are to be shown offline now, and wait for their turn.
    pub fading: u64,
    /// Syncs asked for.
    pub resyncs: u64,
    /// Syncs applied.
    pub syncs: u64,
    /// Messages for partitions of which this coordinator is not the owner.
    pub misdirected: u64,
    /// Changes published.
    pub changes: u64,
    /// Times that the process was found to have stood still.
    pub stalls: u64,
}

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
    frozen: bool,
    /// When it was last sure of what it hears.
    sure_at: WallTime,
    draining: bool,
    /// R10: gateways are sent only what is watched there.
    pub(crate) by_user: bool,
    pub(crate) pace: Pace,
    resyncs: Resyncs,
    now: MonoTime,
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
            Input::BusLossy => self.doubt(),
            Input::Drain => {
                self.draining = true;
                self.ownership.announce = true;
            }
        }
        self.fade(now);
        self.publish(now, out);
    }

    /// When [`Self::handle_timeout`] wants to be called next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<MonoTime> {
        if self.ownership.announce {
            return Some(self.now);
        }
        // Cut off, nothing ends by itself: what is due waits for the end of that, and not in a loop.
        let timer = |state: &PartitionState| state.next_timer().filter(|_| !self.was_isolated);
        let states = self.ownership.view_owned();
        let due = states.flat_map(|state| state.publish_due(&self.config).into_iter().chain(timer(state)));
        let fading = self.fade_due().filter(|_| !self.was_isolated);
        due.chain(fading).chain(std::iter::once(self.beat_due)).min()
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
    }

    /// Counts and sizes.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let counts = self.ownership.counts;
        let mut stats = Stats {
            gateways: self.gateways.len() as u64,
            stale_gateways: self.gateways.stale(self.now, &self.config) as u64,
            coordinators: self.peers.alive_count(self.now) as u64,
            isolated: self.peers.isolated(self.now),
            frozen: self.frozen,
            claims: counts.claims,
            claims_without_record: counts.claims_without_record,
            fenced: counts.fenced,
            handed_over: counts.handed_over,
            ..self.stats
        };
        for state in self.ownership.view_owned() {
            stats.partitions += 1;
            stats.settled += u64::from(state.settled);
            stats.users += state.users.len() as u64;
            stats.fading += state.fading.len() as u64;
            stats.selective += u64::from(state.selective);
            stats.watched_users += state.interests.len() as u64;
        }
        stats
    }

    /// A process that stood still has not listened: what piled up for it is old, its own beats among it. It is cut off
    /// until it hears itself anew.
    fn turn(&mut self, now: MonoTime) {
        if now.since(self.now) > self.config.dead_after {
            self.stats.stalls += 1;
            self.peers.distrust(self.beat_number + 1);
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
        self.place(now, out);
    }

    /// R1 and R12: claims what is free, lets go of what is another's.
    fn place(&mut self, now: Now, out: &mut Vec<Output>) {
        let patience = if self.draining { std::time::Duration::ZERO } else { self.config.hand_over_after };
        for partition in self.ownership.misplaced(&self.peers, now.mono, patience) {
            if let Some(state) = self.ownership.owned(partition) {
                state.publish(&self.id, now.mono, &self.config, out);
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
            owned,
        }));
    }

    fn on_beat(&mut self, beat: &CoordinatorBeat, now: Now, out: &mut Vec<Output>) {
        if !self.peers.hear(beat, now.mono) {
            return;
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

    fn on_gateway_beat(&mut self, beat: &GatewayBeat, now: Now, out: &mut Vec<Output>) {
        if !self.hear(&beat.origin, now) {
            return;
        }
        if beat.left {
            self.gateways.note_left(&beat.origin, now.mono);
            return;
        }
        for stream in &beat.streams {
            self.ownership.see(stream.partition, stream.epoch_seen, out);
            self.compare(&beat.origin, stream.partition, stream.seq, now.mono, out);
            self.check_digest(&beat.origin, stream, now.mono, out);
        }
        self.compare_interests(beat, now.mono, out);
        self.confirm_silent(beat, now.mono, out);
    }

    /// A gateway whose beat does not name a partition has never reported on it; its empty sync stands.
    fn confirm_silent(&mut self, beat: &GatewayBeat, now: MonoTime, out: &mut Vec<Output>) {
        let named: std::collections::BTreeSet<Partition> = beat.streams.iter().map(|s| s.partition).collect();
        let unnamed: Vec<Partition> =
            self.ownership.view_owned().map(|state| state.partition).filter(|p| !named.contains(p)).collect();
        for partition in unnamed {
            self.compare(&beat.origin, partition, 0, now, out);
        }
    }

    /// R4 for one stream.
    fn compare(
        &mut self,
        origin: &Origin,
        partition: Partition,
        seq: u64,
        now: MonoTime,
        out: &mut Vec<Output>,
    ) {
        let patience = self.config.tail_patience;
        let Some(state) = self.ownership.owned(partition) else { return };
        let fresh = || Stream::new(origin.incarnation);
        let stream = state.streams.entry(origin.gateway.clone()).or_insert_with(fresh);
        if stream.incarnation != origin.incarnation || stream.compare(seq, now, patience) {
            self.ask(origin, partition, now, out);
        }
    }

    /// R15: at equal numbers the sets must be equal. One that is not is a slip of a program: counted, then repaired.
    fn check_digest(&mut self, origin: &Origin, beat: &StreamBeat, now: MonoTime, out: &mut Vec<Output>) {
        let Some(digest) = beat.digest else { return };
        let Some(state) = self.ownership.owned(beat.partition) else { return };
        let stream = state.streams.get(&origin.gateway);
        let same = |s: &&Stream| s.incarnation == origin.incarnation && s.synced && s.last == beat.seq;
        if stream.filter(same).is_some_and(|stream| stream.digest() != digest) {
            self.stats.sets_differed += 1;
            self.ask(origin, beat.partition, now, out);
        }
    }

    /// Asks a gateway for all its sessions of a partition.
    fn ask(&mut self, origin: &Origin, partition: Partition, now: MonoTime, out: &mut Vec<Output>) {
        let Some(state) = self.ownership.owned(partition) else { return };
        let epoch = state.epoch;
        let fresh = || Stream::new(origin.incarnation);
        state.streams.entry(origin.gateway.clone()).or_insert_with(fresh);
        if self.resyncs.want(&origin.gateway, partition, now, &self.config) {
            self.stats.resyncs += 1;
            let message = ToGateway::Resync { partition, epoch, incarnation: origin.incarnation };
            out.push(Output::ToGateway(origin.gateway.clone(), message));
        }
    }

    /// Asks every gateway known for a partition that was just claimed.
    fn greet(&mut self, partition: Partition, now: Now, out: &mut Vec<Output>) {
        let mourned_until = self.gateways.mourned_until;
        self.resyncs.claimed(partition);
        let Some(state) = self.ownership.owned(partition) else { return };
        state.hold_until = state.hold_until.max(mourned_until);
        let origins: Vec<Origin> = self.gateways.origins().collect();
        for origin in origins {
            self.ask(&origin, partition, now.mono, out);
        }
        self.settle(now);
    }

    /// Asks again where an answer or an announced report has not come.
    fn repair(&mut self, now: MonoTime, out: &mut Vec<Output>) {
        let patience = self.config.tail_patience;
        let origins: Vec<Origin> = self.gateways.origins().collect();
        let mut doubtful = Vec::new();
        for state in self.ownership.view_owned() {
            for origin in &origins {
                let stream = state.streams.get(&origin.gateway);
                if stream.is_none_or(|stream| !stream.synced || stream.overdue(now, patience)) {
                    doubtful.push((origin.clone(), state.partition));
                }
            }
        }
        self.resyncs.rotate(&mut doubtful);
        for (origin, partition) in doubtful {
            self.ask(&origin, partition, now, out);
        }
    }

    /// Notes that a gateway is alive; false when it is an earlier life of one.
    pub(crate) fn hear(&mut self, origin: &Origin, now: Now) -> bool {
        match self.gateways.hear(origin, now.mono) {
            Hearing::Same => true,
            Hearing::New => {
                // Nobody knows yet what is watched there: everything goes to everybody until it says so.
                self.ownership.all_owned().for_each(|state| state.selective = false);
                true
            }
            Hearing::Ghost => false,
            Hearing::Reborn(before) => {
                let earlier = Origin { gateway: origin.gateway.clone(), incarnation: before };
                self.lapse(&earlier, now);
                self.ownership.all_owned().for_each(|state| state.selective = false);
                true
            }
        }
    }

    /// R6: the sessions of a gateway lapse together, and are given grace.
    fn lapse_dead(&mut self, now: Now) {
        for origin in self.gateways.take_dead(now.mono, &self.config) {
            self.lapse(&origin, now);
        }
    }

    /// A gateway that said it leaves is gone without a wait. What it still held moves.
    fn let_go(&mut self, now: Now) {
        for origin in self.gateways.take_left(now.mono, &self.config) {
            self.stats.left_gateways += 1;
            let grace = self.grace_of_all(&origin, now);
            self.lapse_until(&origin, moving_until(grace, now.mono, &self.config), now);
        }
    }

    fn lapse(&mut self, origin: &Origin, now: Now) {
        self.stats.lapsed_gateways += 1;
        let grace = self.grace_of_all(origin, now);
        self.lapse_until(origin, grace, now);
    }

    /// The grace of all sessions of a gateway when they are lost together.
    fn grace_of_all(&mut self, origin: &Origin, now: Now) -> MonoTime {
        let held = self.ownership.view_owned().filter_map(|state| state.streams.get(&origin.gateway));
        let lost: usize = held.map(|stream| stream.sessions.len()).sum();
        self.gateways.grace(&origin.gateway, lost as u64, now.mono, &self.config)
    }

    fn lapse_until(&mut self, origin: &Origin, until: MonoTime, now: Now) {
        self.gateways.mourned_until = self.gateways.mourned_until.max(until);
        self.resyncs.forget(&origin.gateway);
        for state in self.ownership.all_owned() {
            state.lapse(origin, until, now, &self.config);
        }
    }

    /// R8: settles what every gateway has confirmed, once this coordinator can know every gateway.
    fn settle(&mut self, now: Now) {
        let mut settled_any = false;
        if self.peers.isolated(now.mono) || self.frozen {
            return;
        }
        let knows_all = self.listening.knows_all(now.mono, &self.config);
        let origins: Vec<Origin> = self.gateways.origins().collect();
        for state in self.ownership.all_owned().filter(|state| !state.settled) {
            let complete = origins.iter().all(|origin| {
                let stream = state.streams.get(&origin.gateway);
                stream.is_some_and(|s| s.synced && s.confirmed && s.incarnation == origin.incarnation)
            });
            if complete {
                state.sure_at = None;
            }
            let mourned = now.mono >= state.hold_until;
            if complete && mourned && knows_all {
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

    fn on_report(&mut self, report: Report, now: Now, out: &mut Vec<Output>) {
        let origin = report.origin;
        if !self.hear(&origin, now) {
            self.stats.old_reports += 1;
            return;
        }
        let Some(state) = self.ownership.owned(report.partition) else { return };
        let fresh = || Stream::new(origin.incarnation);
        let stream = state.streams.entry(origin.gateway.clone()).or_insert_with(fresh);
        match stream.judge(origin.incarnation, report.seq) {
            Verdict::Old => self.stats.old_reports += 1,
            Verdict::Gap => {
                self.stats.gaps += 1;
                self.ask(&origin, report.partition, now.mono, out);
            }
            Verdict::Next => {
                stream.last = report.seq;
                for change in report.changes {
                    let until =
                        self.gateways.counts_until(&origin.gateway, ending(&change), now, &self.config);
                    state.apply(&origin, change, until, now, &self.config);
                }
            }
        }
    }

    fn on_sync(&mut self, sync: Sync, now: Now, out: &mut Vec<Output>) {
        let origin = sync.origin.clone();
        let (partition, seq, epoch_seen) = (sync.partition, sync.seq, sync.epoch_seen);
        if !self.hear(&origin, now) {
            return;
        }
        let Some(state) = self.ownership.owned(partition) else { return };
        if epoch_seen != state.epoch {
            // Made before the gateway knew of this claim: it may lack what happened since.
            self.ask(&origin, partition, now.mono, out);
            return;
        }
        let fresh = || Stream::new(origin.incarnation);
        let stream = state.streams.entry(origin.gateway.clone()).or_insert_with(fresh);
        if stream.synced && (origin.incarnation, seq) < (stream.incarnation, stream.last) {
            return;
        }
        let Some(whole) = stream.assemble(sync) else { return };
        stream.set_synced(origin.incarnation, seq);
        self.stats.syncs += 1;
        let missing = stream.sessions.len().saturating_sub(whole.sessions.len()) as u64;
        let grace = self.gateways.grace(&origin.gateway, missing, now.mono, &self.config);
        state.replace(&origin, whole, grace, now, &self.config);
        if let Some(next) = self.resyncs.answered(&origin.gateway, partition) {
            self.ask(&origin, next, now.mono, out);
        }
        self.settle(now);
    }

    fn run_timers(&mut self, now: Now) {
        for state in self.ownership.all_owned() {
            state.handle_timers(now, &self.config);
        }
    }

    fn publish(&mut self, now: Now, out: &mut Vec<Output>) {
        for state in self.ownership.all_owned() {
            if state.publish_due(&self.config).is_some_and(|due| due <= now.mono) {
                self.stats.changes += state.n - state.outbox.published;
                state.publish(&self.id, now.mono, &self.config, out);
            }
        }
    }

    /// The highest epoch this coordinator has seen of a partition; for simulations.
    #[must_use]
    pub fn epoch(&self, partition: Partition) -> Option<Epoch> {
        self.ownership.view_owned().find(|state| state.partition == partition).map(|state| state.epoch)
    }
}
