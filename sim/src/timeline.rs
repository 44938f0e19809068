//! What was true of each user when, and what its owner said of it when: whatever a gateway serves as certain must be one
//! of both, now or a moment ago (I9).

use std::collections::{BTreeMap, BTreeSet};

use herenow_protocol::message::{CoordinatorBeat, Entry};
use herenow_protocol::{
    Activity, CoordinatorId, Epoch, Incarnation, Partition, Presence, Status, UserKey, Version,
};

use crate::client::{Client, Link};
use crate::fault::LAG_MS;
use crate::oracle::truth;
use crate::world::Ghosts;

/// How old what is served as certain may be: two seconds by a clock that is 5 % slow, and the way of a message.
const BEHIND_MS: u64 = 2_100 + LAG_MS + 100;
/// How long nobody may notice that a device is dead: the heartbeat timeout, by a slow clock.
const UNNOTICED_MS: u64 = 33_000;

/// A session that a gateway takes for alive, or did until a moment ago.
#[derive(Clone, Copy, Debug)]
struct Held {
    user: usize,
    gateway: usize,
    until: u64,
}

/// What was so since when, one user's. Never empty.
#[derive(Debug)]
struct Line<T>(Vec<(u64, T)>);

impl<T: PartialEq> Line<T> {
    fn push(&mut self, at: u64, now: T) {
        if self.0.last().is_none_or(|(_, last)| *last != now) {
            self.0.push((at, now));
        }
    }

    /// Whether something was so at some time since `from`.
    fn was(&self, from: u64, so: impl Fn(&T) -> bool) -> bool {
        for (since, then) in self.0.iter().rev() {
            if so(then) {
                return true;
            }
            if *since <= from {
                return false;
            }
        }
        false
    }
}

/// The history of a run.
#[derive(Debug, Default)]
pub(crate) struct Timeline {
    users: BTreeMap<UserKey, (usize, Partition)>,
    truth: Vec<Line<Status>>,
    owned: Vec<Line<(Version, Status)>>,
    /// The newest epoch that settled, of each partition.
    settled: BTreeMap<Partition, Epoch>,
    /// The highest epoch of each partition that its owner listed, and which life of which coordinator that was.
    owners: BTreeMap<Partition, (Epoch, CoordinatorId, Incarnation)>,
    /// Every epoch that was ever listed.
    listed: BTreeSet<(Partition, Epoch)>,
    /// Sessions whose person is active, as far as their gateways can know.
    active: Vec<Held>,
}

impl Timeline {
    pub(crate) fn new(users: BTreeMap<UserKey, (usize, Partition)>) -> Self {
        let nobody = Version { epoch: Epoch::NONE, n: 0 };
        Self {
            truth: users.iter().map(|_| Line(vec![(0, Status::Offline)])).collect(),
            owned: users.iter().map(|_| Line(vec![(0, (nobody, Status::Offline))])).collect(),
            users,
            ..Self::default()
        }
    }

    fn owner_says(&mut self, user: usize, version: Version, status: Status, at: u64) {
        let Some(line) = self.owned.get_mut(user) else { return };
        if line.0.last().is_none_or(|(_, (last, _))| *last < version) {
            line.push(at, (version, status));
        }
    }

    /// An owner told of users. What one says whose epoch is over counts for nothing.
    pub(crate) fn said(&mut self, epoch: Epoch, entries: &[Entry], now: u64) {
        for entry in entries {
            if let Some((user, _)) = self.users.get(&entry.key).copied() {
                let version = Version { epoch, n: entry.n() };
                self.owner_says(user, version, entry.public.status, now);
            }
        }
    }

    /// A coordinator is dead. Where it had the highest epoch of all, and nobody remembers it, the next is lower.
    pub(crate) fn coordinator_gone(&mut self, id: &CoordinatorId, incarnation: Incarnation) {
        let gone = |owner: &(Epoch, CoordinatorId, Incarnation)| owner.1 == *id && owner.2 == incarnation;
        let forgotten: Vec<Partition> =
            self.owners.iter().filter(|(_, owner)| gone(owner)).map(|(partition, _)| *partition).collect();
        for partition in forgotten {
            self.forget(partition);
        }
    }

    /// The highest epoch of a partition is known to nobody who could tell.
    fn forget(&mut self, partition: Partition) {
        self.owners.remove(&partition);
        self.settled.remove(&partition);
        for (user, _) in self.users.values().filter(|(_, of)| *of == partition) {
            if let Some((_, (version, _))) = self.owned.get_mut(*user).and_then(|line| line.0.last_mut()) {
                *version = Version { epoch: Epoch::NONE, n: 0 };
            }
        }
    }

    /// A coordinator lists what it owns. `silent`: coordinators that stand still, or that nobody hears.
    ///
    /// Who claims takes a higher epoch than any that it was told of. One that is lower than another's was claimed because
    /// nobody who runs remembers that: its owner is silent, and every gateway that heard of it is gone or out of reach.
    /// Until that owner speaks again nobody can know better than the new one says; then its higher word counts again.
    pub(crate) fn lists(&mut self, beat: &CoordinatorBeat, silent: &[CoordinatorId], now: u64) {
        for owned in &beat.owned {
            let first = self.listed.insert((owned.partition, owned.epoch));
            let lost = |(epoch, of, _): &(Epoch, CoordinatorId, Incarnation)| {
                *epoch > owned.epoch && silent.contains(of)
            };
            if first && self.owners.get(&owned.partition).is_some_and(lost) {
                self.forget(owned.partition);
            }
            let owner = (owned.epoch, beat.id.clone(), beat.incarnation);
            let highest = self.owners.entry(owned.partition).or_insert_with(|| owner.clone());
            if highest.0 < owned.epoch {
                *highest = owner;
            }
            if owned.settled {
                self.settles(owned.partition, owned.epoch, now);
            }
        }
    }

    /// Whether every partition has an owner that has told that it has settled.
    pub(crate) fn is_settled(&self) -> bool {
        let settled = |partition| {
            self.owners.get(partition).is_some_and(|owner| self.settled.get(partition) == Some(&owner.0))
        };
        self.users.values().all(|(_, partition)| settled(partition))
    }

    /// An owner has settled, and says so by a beat or by an answer, whichever comes first: of whom it has said nothing
    /// is offline.
    pub(crate) fn settles(&mut self, partition: Partition, epoch: Epoch, now: u64) {
        let before = self.settled.entry(partition).or_insert(Epoch::NONE);
        if *before >= epoch {
            return;
        }
        *before = epoch;
        let there = self.users.values().filter(|(_, of)| *of == partition);
        let there: Vec<usize> = there.map(|(user, _)| *user).collect();
        for user in there {
            self.owner_says(user, Version { epoch, n: 0 }, Status::Offline, now);
        }
    }

    /// People did something. Ghosts are sessions whose device is dead, which only their gateway does not know.
    pub(crate) fn stirred(&mut self, clients: &[Client], ghosts: &Ghosts, now: u64) {
        for (user, line) in self.truth.iter_mut().enumerate() {
            line.push(now, truth(clients, user));
        }
        let open = |held: &Held| ghosts.values().any(|ghost| *ghost == (held.user, held.gateway));
        for held in self.active.iter_mut().filter(|held| !open(held)) {
            held.until = held.until.min(now);
        }
        self.active.retain(|held| now < held.until + BEHIND_MS);
        for client in clients.iter().filter(|client| client.activity == Activity::Active) {
            if let Link::Open { gateway, .. } = client.link {
                let until = now + UNNOTICED_MS;
                self.active.retain(|held| (held.user, held.gateway) != (client.user, gateway));
                self.active.push(Held { user: client.user, gateway, until });
            }
        }
    }

    /// Nothing of a gateway's sessions is left.
    pub(crate) fn gateway_gone(&mut self, gateway: usize) {
        self.active.retain(|held| held.gateway != gateway);
    }

    /// Whether a presence that `gateway` serves, or a moment ago did, may be taken for certain. Where it hears no owner,
    /// an active session of its own makes a user online.
    pub(crate) fn may_be_certain(
        &self,
        gateway: usize,
        user: usize,
        presence: &Presence,
        age: u64,
        now: u64,
    ) -> bool {
        let from = now.saturating_sub(BEHIND_MS + age);
        let status = presence.status;
        let by_owner = self.owned.get(user).is_some_and(|line| line.was(from, |(_, s)| *s == status));
        let by_truth = self.truth.get(user).is_some_and(|line| line.was(from, |s| *s == status));
        let here = |held: &Held| held.user == user && held.gateway == gateway && from < held.until;
        by_owner || by_truth || status == Status::Online && self.active.iter().any(here)
    }
}
