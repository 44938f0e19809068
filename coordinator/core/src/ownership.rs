//! Who owns which partition (R1, R2, R12): claims, their record, and letting go.
//!
//! Ownership is not a lease. Whoever should own a partition and hears no owner claims it with a higher epoch; everybody
//! follows the highest epoch they have seen; an owner that hears of a higher one lets go. Two owners at once do no
//! harm: receivers believe only one.

use std::collections::BTreeMap;

use herenow_protocol::message::{CoordinatorBeat, Fenced, OwnedBeat};
use herenow_protocol::{CoordinatorId, Epoch, MonoTime, Partition, Placement};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

use crate::due::{Due, Dues, Partitions};
use crate::partition::PartitionState;
use crate::peers::Peers;
use crate::{Config, Output, Recorded};

/// What this coordinator is to a partition.
#[derive(Debug, Default)]
enum Role {
    /// Nothing.
    #[default]
    None,
    /// It has claimed and waits for the record.
    Claiming(Epoch, MonoTime),
    /// Its owner.
    Owner(Box<PartitionState>),
}

#[derive(Debug, Default)]
struct Slot {
    /// R2: the highest epoch seen anywhere.
    seen: Epoch,
    /// Who last listed it in a beat, under the highest epoch.
    owner: Option<CoordinatorId>,
    role: Role,
}

impl Slot {
    fn state(&self) -> Option<&PartitionState> {
        match &self.role {
            Role::Owner(state) => Some(state),
            Role::None | Role::Claiming(..) => None,
        }
    }
}

/// Counts for metrics.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) claims: u64,
    pub(crate) claims_without_record: u64,
    pub(crate) fenced: u64,
    pub(crate) handed_over: u64,
}

/// All partitions of the deployment.
#[derive(Debug)]
pub(crate) struct Ownership {
    me: CoordinatorId,
    slots: BTreeMap<Partition, Slot>,
    /// What is due in them, but for those that were touched since.
    dues: Dues,
    touched: Partitions,
    rng: ChaCha8Rng,
    /// A beat is due at once: what this coordinator owns has changed.
    pub(crate) announce: bool,
    pub(crate) counts: Counts,
}

impl Ownership {
    pub(crate) fn new(me: CoordinatorId, placement: &Placement, seed: u64) -> Self {
        let slots = placement.all().map(|partition| (partition, Slot::default())).collect();
        Self {
            me,
            slots,
            dues: Dues::default(),
            touched: Partitions::default(),
            rng: ChaCha8Rng::seed_from_u64(seed),
            announce: false,
            counts: Counts::default(),
        }
    }

    /// The partition, if this coordinator owns it.
    pub(crate) fn owned(&mut self, partition: Partition) -> Option<&mut PartitionState> {
        self.touched.insert(partition);
        match &mut self.slots.get_mut(&partition)?.role {
            Role::Owner(state) => Some(state),
            Role::None | Role::Claiming(..) => None,
        }
    }

    /// Every partition that this coordinator owns.
    pub(crate) fn all_owned(&mut self) -> impl Iterator<Item = &mut PartitionState> {
        let touched = &mut self.touched;
        self.slots.iter_mut().filter_map(|(partition, slot)| match &mut slot.role {
            Role::Owner(state) => {
                touched.insert(*partition);
                Some(&mut **state)
            }
            Role::None | Role::Claiming(..) => None,
        })
    }

    /// The same, to look at.
    pub(crate) fn view_owned(&self) -> impl Iterator<Item = &PartitionState> {
        self.slots.values().filter_map(Slot::state)
    }

    /// Asks anew what is due where something may have changed.
    pub(crate) fn take_stock(&mut self, config: &Config) {
        for partition in std::mem::take(&mut self.touched) {
            self.dues.set(partition, self.due(partition, config));
        }
    }

    /// What is due, and where.
    pub(crate) fn dues(&mut self, config: &Config) -> &Dues {
        self.take_stock(config);
        &self.dues
    }

    /// The same, to look at between two inputs.
    pub(crate) fn view_dues(&self, config: &Config) -> &Dues {
        let noted = |at: &Partition| self.dues.get(*at) == self.due(*at, config);
        debug_assert!(self.slots.keys().all(noted), "somebody changed what is due and did not touch it");
        &self.dues
    }

    fn due(&self, partition: Partition, config: &Config) -> Due {
        let state = self.slots.get(&partition).and_then(Slot::state);
        state.map(|state| state.due(config)).unwrap_or_default()
    }

    /// What a beat says of them.
    pub(crate) fn beat(&self, by_user: bool, doubts: bool) -> Vec<OwnedBeat> {
        self.view_owned()
            .map(|state| OwnedBeat {
                partition: state.partition,
                epoch: state.epoch,
                n: state.outbox.published,
                settled: state.settled,
                doubts: doubts || state.sure_at.is_some(),
                by_user,
            })
            .collect()
    }

    /// R2: an epoch was seen; lets go of what it is higher than.
    pub(crate) fn see(&mut self, partition: Partition, epoch: Epoch, out: &mut Vec<Output>) {
        let Some(slot) = self.slots.get_mut(&partition) else { return };
        if epoch <= slot.seen {
            return;
        }
        slot.seen = epoch;
        slot.owner = None;
        self.touched.insert(partition);
        match std::mem::take(&mut slot.role) {
            Role::None => {}
            Role::Claiming(..) | Role::Owner(_) => {
                self.counts.fenced += 1;
                self.announce = true;
                out.push(Output::Unsubscribe(partition));
            }
        }
    }

    /// A coordinator listed what it owns.
    pub(crate) fn hear(&mut self, beat: &CoordinatorBeat, out: &mut Vec<Output>) {
        if beat.id == self.me {
            return;
        }
        for owned in &beat.owned {
            self.see(owned.partition, owned.epoch, out);
            let Some(slot) = self.slots.get_mut(&owned.partition) else { continue };
            if owned.epoch == slot.seen {
                slot.owner = Some(beat.id.clone());
            } else {
                let fenced = Fenced { partition: owned.partition, seen: slot.seen };
                out.push(Output::Fenced(beat.id.clone(), fenced));
            }
        }
        let listed: std::collections::BTreeSet<Partition> =
            beat.owned.iter().map(|owned| owned.partition).collect();
        for (partition, slot) in &mut self.slots {
            if slot.owner.as_ref() == Some(&beat.id) && !listed.contains(partition) {
                slot.owner = None;
            }
        }
    }

    /// R1: claims what this coordinator should own and nobody does.
    pub(crate) fn claim(&mut self, peers: &Peers, now: MonoTime, out: &mut Vec<Output>) {
        for (partition, slot) in &mut self.slots {
            let free = matches!(slot.role, Role::None)
                && !slot.owner.as_ref().is_some_and(|owner| peers.alive(owner, now))
                && peers.winner(*partition, now) == Some(&self.me);
            if !free {
                continue;
            }
            let epoch = Epoch { counter: slot.seen.counter.saturating_add(1), nonce: self.rng.next_u32() };
            slot.seen = epoch;
            slot.role = Role::Claiming(epoch, now);
            self.counts.claims += 1;
            out.push(Output::Subscribe(*partition));
            out.push(Output::Record { partition: *partition, epoch });
        }
    }

    /// The arbiter answered.
    pub(crate) fn recorded(
        &mut self,
        partition: Partition,
        epoch: Epoch,
        outcome: Recorded,
        now: MonoTime,
        out: &mut Vec<Output>,
    ) {
        let Some(slot) = self.slots.get_mut(&partition) else { return };
        if !matches!(slot.role, Role::Claiming(claimed, _) if claimed == epoch) {
            return;
        }
        match outcome {
            Recorded::Yes => self.own(partition, epoch, now),
            Recorded::Unavailable => {
                self.counts.claims_without_record += 1;
                self.own(partition, epoch, now);
            }
            Recorded::Conflict(seen) => {
                slot.role = Role::None;
                slot.seen = slot.seen.max(seen);
                out.push(Output::Unsubscribe(partition));
            }
        }
    }

    /// Claims that have waited long enough for the arbiter stand without it.
    pub(crate) fn expire_claims(&mut self, now: MonoTime, config: &Config) -> Vec<Partition> {
        let waiting = |slot: &Slot| match slot.role {
            Role::Claiming(epoch, since) if now.since(since) >= config.record_timeout => Some(epoch),
            Role::None | Role::Claiming(..) | Role::Owner(_) => None,
        };
        let late: Vec<_> = self.slots.iter().filter_map(|(p, slot)| waiting(slot).map(|e| (*p, e))).collect();
        for (partition, epoch) in &late {
            self.counts.claims_without_record += 1;
            self.own(*partition, *epoch, now);
        }
        late.into_iter().map(|(partition, _)| partition).collect()
    }

    fn own(&mut self, partition: Partition, epoch: Epoch, now: MonoTime) {
        self.touched.insert(partition);
        if let Some(slot) = self.slots.get_mut(&partition) {
            slot.owner = None;
            slot.role = Role::Owner(Box::new(PartitionState::new(partition, epoch, now)));
            self.announce = true;
        }
    }

    /// R12: finds what another coordinator should own for `patience`, to be flushed and then let go.
    pub(crate) fn misplaced(
        &mut self,
        peers: &Peers,
        now: MonoTime,
        patience: std::time::Duration,
    ) -> Vec<Partition> {
        let me = &self.me;
        let mut due = Vec::new();
        for (partition, slot) in &mut self.slots {
            let Role::Owner(state) = &mut slot.role else { continue };
            if peers.winner(*partition, now).is_none_or(|winner| winner == me) {
                state.misplaced_since = None;
            } else if now.since(*state.misplaced_since.get_or_insert(now)) >= patience {
                due.push(*partition);
            }
        }
        due
    }

    /// Lets a partition go.
    pub(crate) fn release(&mut self, partition: Partition, out: &mut Vec<Output>) {
        self.touched.insert(partition);
        if let Some(slot) = self.slots.get_mut(&partition) {
            slot.role = Role::None;
            self.announce = true;
            self.counts.handed_over += 1;
            out.push(Output::Unsubscribe(partition));
        }
    }
}
