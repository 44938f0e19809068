//! R10: at which level changes go to gateways, and what is done with what they say of their watchers (R15).

use std::collections::BTreeMap;

use herenow_protocol::message::{
    Advance, Advanced, Audit, Audited, Entry, GatewayBeat, Interest, Pull, ToGateway,
};
use herenow_protocol::{CoordinatorId, GatewayId, MonoTime, Now, Origin, Partition};

use crate::coordinator::Coordinator;
use crate::interest::Heed;
use crate::partition::PartitionState;
use crate::{Config, Output};

/// It goes back to level 1 below this share of the number from which level 2 begins, so that one gateway that comes and
/// goes does not switch it.
const BACK: (usize, usize) = (3, 4);

/// Most partitions of one message, far under its limit.
const ADVANCES: usize = 2_000;

impl Coordinator {
    /// Chooses the level by the number of gateways, and takes up level 2 where every gateway has said what it needs.
    pub(crate) fn choose_level(&mut self, out: &mut Vec<Output>) {
        let by_user = by_user(self.by_user, self.gateways.len(), &self.config);
        let origins: Vec<Origin> = self.gateways.origins().collect();
        let mut level: Vec<_> = Vec::new();
        for state in self.ownership.all_owned() {
            let complete =
                state.selective || origins.iter().all(|origin| state.interests.is_complete(origin));
            state.selective = by_user && complete && !origins.is_empty();
            if self.by_user && !by_user {
                level.extend(state.level());
                state.interests.reset();
            }
        }
        send_levels(&self.id, level, out);
        self.by_user = by_user;
    }

    pub(crate) fn on_interest(&mut self, interest: Interest, now: Now, out: &mut Vec<Output>) {
        // What an earlier life watched counts for nothing (I7).
        if !self.by_user || !self.hear(&interest.origin, now) {
            return;
        }
        let (origin, most) = (interest.origin.clone(), self.config.max_watched_per_partition);
        let partition = interest.partition;
        let Some(state) = self.ownership.owned(partition) else { return };
        if interest.epoch != state.epoch {
            return;
        }
        let heed = state.interests.hear(interest, most);
        self.heed(heed, &origin, partition, now.mono, out);
    }

    /// R4: what a gateway's beat says it has stated.
    pub(crate) fn compare_interests(&mut self, beat: &GatewayBeat, now: MonoTime, out: &mut Vec<Output>) {
        if !self.by_user {
            return;
        }
        let patience = self.resyncs.tail(&beat.origin.gateway, &self.config);
        let most = self.config.max_watched_per_partition;
        for interest in &beat.interests {
            let Some(state) = self.ownership.owned(interest.partition) else { continue };
            if interest.epoch != state.epoch {
                continue;
            }
            let heed = state.interests.compare(&beat.origin, interest, now, patience, most);
            self.heed(heed, &beat.origin, interest.partition, now, out);
        }
    }

    /// R4: what a pull says was stated before it.
    pub(crate) fn note_pull(&mut self, pull: &Pull, now: MonoTime, out: &mut Vec<Output>) {
        let Some(state) = self.ownership.owned(pull.partition) else { return };
        let heed = state.interests.rests_on(&pull.origin, pull.interest);
        self.heed(heed, &pull.origin, pull.partition, now, out);
    }

    fn heed(
        &mut self,
        heed: Heed,
        origin: &Origin,
        partition: Partition,
        now: MonoTime,
        out: &mut Vec<Output>,
    ) {
        let patience = self.config.resync_timeout;
        let Some(state) = self.ownership.owned(partition) else { return };
        state.selective &= state.interests.is_complete(origin);
        if heed == Heed::Differs {
            self.stats.sets_differed += 1;
        }
        if heed != Heed::Fine && state.interests.ask(origin, now, patience) {
            let (epoch, incarnation) = (state.epoch, origin.incarnation);
            let message = ToGateway::Reinterest { partition, epoch, incarnation };
            out.push(Output::ToGateway(origin.gateway.clone(), message));
        }
    }

    /// R15: values that a gateway believes, and that no later change explains, must be this owner's.
    pub(crate) fn on_audit(&mut self, audit: &Audit, out: &mut Vec<Output>) {
        let Some(state) = self.ownership.owned(audit.partition) else { return };
        // While its set is not known, what was not sent to it may be what it lacks: that is repaired already.
        let told = audit.interest.is_none_or(|seq| state.interests.is_at(&audit.origin, seq));
        if audit.epoch != state.epoch || !told {
            return;
        }
        let differing = audit.users.iter().filter(|believed| state.differs(believed, audit.n)).count();
        if differing > 0 {
            self.stats.values_differed += differing as u64;
            let message = ToGateway::Differs { partition: audit.partition, epoch: audit.epoch };
            out.push(Output::ToGateway(audit.origin.gateway.clone(), message));
        }
    }

    /// R4: with each beat, gateways learn up to which number nothing follows for them.
    pub(crate) fn level_streams(&mut self, out: &mut Vec<Output>) {
        let level: Vec<_> = self.ownership.all_owned().flat_map(PartitionState::level).collect();
        send_levels(&self.id, level, out);
    }
}

/// Tells gateways that numbers moved on without anything for them, each in one message.
pub(crate) fn send_levels(from: &CoordinatorId, level: Vec<(GatewayId, Advance)>, out: &mut Vec<Output>) {
    let mut by_gateway: BTreeMap<GatewayId, Vec<Advance>> = BTreeMap::new();
    for (gateway, advance) in level {
        by_gateway.entry(gateway).or_default().push(advance);
    }
    for (gateway, streams) in by_gateway {
        for streams in streams.chunks(ADVANCES) {
            let message = Advanced { from: from.clone(), streams: streams.to_vec() };
            out.push(Output::ToGateway(gateway.clone(), ToGateway::Advanced(message)));
        }
    }
}

impl PartitionState {
    /// Whom to tell that the numbers moved on without anything for them.
    pub(crate) fn level(&mut self) -> Vec<(GatewayId, Advance)> {
        self.interests.level(self.partition, self.epoch)
    }

    fn differs(&self, believed: &Audited, n: u64) -> bool {
        let Some(user) = self.users.get(&believed.key) else { return false };
        let entry: Entry = user.entry(believed.key);
        let is = Audited::new(believed.key, entry.n(), &entry.public);
        entry.n() <= n && is != *believed
    }
}

fn by_user(before: bool, gateways: usize, config: &Config) -> bool {
    let from = config.interest_by_user_from as usize;
    let least = if before { from * BACK.0 / BACK.1 } else { from };
    from > 0 && gateways >= least.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_level_follows_the_number_of_gateways_and_does_not_flutter() {
        let config = Config { interest_by_user_from: 8, ..Config::default() };
        let levels = [(false, 7), (false, 8), (true, 7), (true, 6), (true, 5)];
        assert_eq!(levels.map(|(before, n)| by_user(before, n, &config)), [false, true, true, true, false]);
        let never = Config { interest_by_user_from: 0, ..Config::default() };
        assert!(!by_user(false, 1_000, &never));
    }
}
