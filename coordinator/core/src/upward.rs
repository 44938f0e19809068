//! What gateways say of their sessions, and what is asked of them again (R3, R4, R15).

use std::time::Duration;

use herenow_protocol::message::{GatewayBeat, Report, StreamBeat, Sync, ToGateway};
use herenow_protocol::{MonoTime, Now, Origin, Partition};

use crate::Output;
use crate::coordinator::Coordinator;
use crate::moving::ending;
use crate::stream::{Stream, Verdict};

impl Coordinator {
    pub(crate) fn on_gateway_beat(&mut self, beat: &GatewayBeat, now: Now, out: &mut Vec<Output>) {
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
        let patience = self.resyncs.tail(&origin.gateway, &self.config);
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

    pub(crate) fn on_report(&mut self, report: Report, now: Now, out: &mut Vec<Output>) {
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

    pub(crate) fn on_sync(&mut self, sync: Sync, now: Now, out: &mut Vec<Output>) {
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
        if let Some(next) = self.resyncs.answered(&origin.gateway, partition, now.mono) {
            self.ask(&origin, next, now.mono, out);
        }
        self.settle(now);
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
    pub(crate) fn greet(&mut self, partition: Partition, now: Now, out: &mut Vec<Output>) {
        let grieved_until = self.gateways.grieved_until();
        self.resyncs.claimed(partition);
        let Some(state) = self.ownership.owned(partition) else { return };
        state.hold_until = state.hold_until.max(grieved_until);
        state.load(now.mono, &self.config, out);
        let origins: Vec<Origin> = self.gateways.origins().collect();
        for origin in origins {
            self.ask(&origin, partition, now.mono, out);
        }
        self.settle(now);
    }

    /// Asks again where an answer or an announced report has not come.
    pub(crate) fn repair(&mut self, now: MonoTime, out: &mut Vec<Output>) {
        let origins: Vec<(Origin, Duration)> = self
            .gateways
            .origins()
            .map(|origin| (origin.clone(), self.resyncs.tail(&origin.gateway, &self.config)))
            .collect();
        let mut doubtful = Vec::new();
        for state in self.ownership.view_owned() {
            for (origin, patience) in &origins {
                let stream = state.streams.get(&origin.gateway);
                if stream.is_none_or(|stream| !stream.synced || stream.overdue(now, *patience)) {
                    doubtful.push((origin.clone(), state.partition));
                }
            }
        }
        self.resyncs.rotate(&mut doubtful);
        for (origin, partition) in doubtful {
            self.ask(&origin, partition, now, out);
        }
        for state in self.ownership.all_owned() {
            state.load(now, &self.config, out);
        }
    }
}
