//! Whom each gateway has watchers for in one partition (R10, level 2), so that each is sent only that.
//!
//! It fails open: as long as one gateway's set is not complete, everything goes to everybody.

use std::collections::BTreeMap;
use std::time::Duration;

use hashbrown::HashMap;
use herenow_protocol::message::{Advance, Entry, Interest, InterestBeat, InterestBody, UsersDigest};
use herenow_protocol::{Epoch, GatewayId, Incarnation, MonoTime, Origin, Partition, UserKey};
use slab::Slab;

/// Finds a gateway among those of a partition; smaller than its name.
type Index = u32;

/// The sets of all gateways.
#[derive(Debug, Default)]
pub(crate) struct Interests {
    names: BTreeMap<GatewayId, Index>,
    told: Slab<Told>,
    by_user: HashMap<UserKey, Vec<Index>>,
    /// Up to which number changes were published, to whomever.
    published: u64,
    /// Up to which number everybody was sent everything.
    broadcast: u64,
    /// Somebody was not sent what others were.
    uneven: bool,
}

/// What one gateway has said.
#[derive(Debug)]
struct Told {
    gateway: GatewayId,
    incarnation: Incarnation,
    /// The number of the last message applied.
    seq: u64,
    complete: bool,
    users: u32,
    digest: UsersDigest,
    asked_at: Option<MonoTime>,
    /// Since when a beat is known to tell of more.
    behind_since: Option<MonoTime>,
    /// Its set was too long to be kept.
    over: bool,
    /// Pages of a whole that is not whole yet: its number, the next page, the users so far.
    assembly: Option<(u64, u16, Vec<UserKey>)>,
    /// The number up to which it was sent what is for it.
    sent: u64,
}

impl Told {
    /// Nothing is known of what it was sent before: what it lacks of that it must find by a gap.
    fn new(origin: &Origin, published: u64) -> Self {
        Self {
            gateway: origin.gateway.clone(),
            incarnation: origin.incarnation,
            seq: 0,
            complete: false,
            users: 0,
            digest: UsersDigest::new(),
            asked_at: None,
            behind_since: None,
            over: false,
            assembly: None,
            sent: published,
        }
    }
}

/// What a message or a beat of interest means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Heed {
    /// All is well, or it is old.
    Fine,
    /// Something is missing: ask for the whole.
    Ask,
    /// At equal numbers the sets differ, which is a slip of a program: count it, and ask for the whole.
    Differs,
}

impl Interests {
    /// Whether this gateway's set is known in full.
    pub(crate) fn is_complete(&self, origin: &Origin) -> bool {
        let told = self.names.get(&origin.gateway).and_then(|index| self.told.get(*index as usize));
        told.is_some_and(|told| told.complete && told.incarnation == origin.incarnation)
    }

    /// Users with a watcher, over all gateways: what the limit counts.
    pub(crate) fn len(&self) -> usize {
        self.by_user.len()
    }

    /// Takes a message. A set that would make the whole longer than `most` is not kept.
    pub(crate) fn hear(&mut self, message: Interest, most: usize) -> Heed {
        let index = self.index(&message.origin);
        let Some(told) = self.told.get_mut(index as usize) else { return Heed::Fine };
        match message.body {
            InterestBody::Changes(changes) => {
                if told.complete && message.seq <= told.seq {
                    return Heed::Fine;
                }
                if !told.complete || message.seq != told.seq + 1 {
                    told.complete = false;
                    return Heed::Ask;
                }
                told.seq = message.seq;
                for (key, watched) in changes {
                    self.change(index, key, watched);
                }
                self.keep_limit(index, most);
            }
            InterestBody::Whole { page, last, users } => {
                if told.complete && message.seq < told.seq {
                    return Heed::Fine;
                }
                if page == 0 {
                    told.assembly = Some((message.seq, 0, Vec::new()));
                }
                let expected = Some((message.seq, page));
                if told.assembly.as_ref().map(|(seq, next, _)| (*seq, *next)) != expected {
                    told.assembly = None;
                    return Heed::Fine;
                }
                if let Some((_, next, so_far)) = &mut told.assembly {
                    *next = next.saturating_add(1);
                    so_far.extend(users);
                    if so_far.len() > most {
                        (told.assembly, told.complete, told.over) = (None, false, true);
                    }
                }
                if last && let Some((seq, _, users)) = told.assembly.take() {
                    self.replace(index, seq, users);
                    self.keep_limit(index, most);
                }
            }
        }
        Heed::Fine
    }

    /// R4 and R15: compares a beat with what was heard.
    pub(crate) fn compare(
        &mut self,
        origin: &Origin,
        beat: &InterestBeat,
        now: MonoTime,
        patience: Duration,
        most: usize,
    ) -> Heed {
        let index = self.index(origin);
        let known = self.by_user.len();
        let Some(told) = self.told.get_mut(index as usize) else { return Heed::Fine };
        if beat.users == 0 && (!told.complete || beat.seq > told.seq) {
            // Nobody is watched there: nothing has to be sent to know that.
            self.replace(index, beat.seq, Vec::new());
            return Heed::Fine;
        }
        if !told.complete {
            let too_long = told.over && known.saturating_add(beat.users as usize) > most;
            return if too_long { Heed::Fine } else { Heed::Ask };
        }
        if beat.seq > told.seq {
            let since = *told.behind_since.get_or_insert(now);
            let missing = now.since(since) >= patience;
            told.complete &= !missing;
            return if missing { Heed::Ask } else { Heed::Fine };
        }
        told.behind_since = None;
        let differs = beat.seq == told.seq && (beat.users, beat.digest) != (told.users, told.digest);
        told.complete &= !differs;
        if differs { Heed::Differs } else { Heed::Fine }
    }

    /// R4: a gateway asks for users, and had stated this much before. What of that has not come was lost, and numbers
    /// would move on there over what is for it.
    pub(crate) fn rests_on(&mut self, origin: &Origin, seq: Option<u64>) -> Heed {
        let told = self.names.get(&origin.gateway).and_then(|index| self.told.get_mut(*index as usize));
        let Some(told) = told.filter(|told| told.complete) else { return Heed::Fine };
        let same = origin.incarnation == told.incarnation && seq.is_none_or(|seq| seq <= told.seq);
        told.complete = same || origin.incarnation < told.incarnation;
        if told.complete { Heed::Fine } else { Heed::Ask }
    }

    /// Whether to ask this gateway for its whole now: one question at a time, again after `patience`.
    pub(crate) fn ask(&mut self, origin: &Origin, now: MonoTime, patience: Duration) -> bool {
        let index = self.index(origin);
        let Some(told) = self.told.get_mut(index as usize) else { return false };
        let waiting = told.asked_at.is_some_and(|at| now.since(at) < patience);
        if !waiting {
            told.asked_at = Some(now);
        }
        !waiting
    }

    /// Whether a set is the one that an audit was made with.
    pub(crate) fn is_at(&self, origin: &Origin, seq: u64) -> bool {
        let told = self.names.get(&origin.gateway).and_then(|index| self.told.get(*index as usize));
        self.is_complete(origin) && told.is_some_and(|told| told.seq == seq)
    }

    /// A gateway is gone, or lives anew.
    pub(crate) fn forget(&mut self, gateway: &GatewayId) {
        if let Some(index) = self.names.remove(gateway) {
            self.take_away(index);
            self.told.remove(index as usize);
        }
    }

    /// Everybody is sent everything up to here.
    pub(crate) const fn note_broadcast(&mut self, last: u64) {
        (self.broadcast, self.published) = (last, last);
    }

    /// Forgets what gateways have said, and not how far changes were published.
    pub(crate) fn reset(&mut self) {
        let (published, broadcast) = (self.published, self.published);
        *self = Self { published, broadcast, ..Self::default() };
    }

    /// Sorts entries by who has to be sent them; with each the number that its last ended at. From now on each of these
    /// was sent everything up to `last`.
    pub(crate) fn sort(&mut self, entries: &[Entry], last: u64) -> Vec<(GatewayId, u64, Vec<Entry>)> {
        let mut lots: BTreeMap<Index, Vec<Entry>> = BTreeMap::new();
        for entry in entries {
            for index in self.by_user.get(&entry.key).into_iter().flatten() {
                lots.entry(*index).or_default().push(entry.clone());
            }
        }
        (self.uneven, self.published) = (true, last);
        let lots = lots.into_iter().filter_map(|(index, lot)| {
            let told = self.told.get_mut(index as usize)?;
            let prev = std::mem::replace(&mut told.sent, last).max(self.broadcast);
            Some((told.gateway.clone(), prev, lot))
        });
        lots.collect()
    }

    /// Who was not sent anything up to `last`, and from which number on.
    pub(crate) fn level(&mut self, partition: Partition, epoch: Epoch) -> Vec<(GatewayId, Advance)> {
        let last = self.published;
        if !std::mem::take(&mut self.uneven) {
            return Vec::new();
        }
        let mut behind = Vec::new();
        for (_, told) in &mut self.told {
            let prev = std::mem::replace(&mut told.sent, last).max(self.broadcast);
            if prev < last && told.users > 0 {
                behind.push((told.gateway.clone(), Advance { partition, epoch, prev, last }));
            }
        }
        behind
    }

    fn index(&mut self, origin: &Origin) -> Index {
        if let Some(index) = self.names.get(&origin.gateway).copied() {
            if self.told.get(index as usize).is_some_and(|told| told.incarnation == origin.incarnation) {
                return index;
            }
            self.forget(&origin.gateway);
        }
        let told = Told::new(origin, self.published);
        let index = Index::try_from(self.told.insert(told)).unwrap_or(Index::MAX);
        self.names.insert(origin.gateway.clone(), index);
        index
    }

    fn replace(&mut self, index: Index, seq: u64, users: Vec<UserKey>) {
        self.take_away(index);
        for key in users {
            self.change(index, key, true);
        }
        if let Some(told) = self.told.get_mut(index as usize) {
            (told.seq, told.complete) = (seq, true);
            (told.asked_at, told.behind_since, told.assembly) = (None, None, None);
        }
    }

    /// A set that makes all of them too long is given up: its gateway is sent everything, and so is everybody.
    fn keep_limit(&mut self, index: Index, most: usize) {
        if self.by_user.len() > most {
            self.take_away(index);
            if let Some(told) = self.told.get_mut(index as usize) {
                (told.complete, told.over) = (false, true);
            }
        }
    }

    fn change(&mut self, index: Index, key: UserKey, watched: bool) {
        let Some(told) = self.told.get_mut(index as usize) else { return };
        let watchers = self.by_user.entry(key).or_default();
        let at = watchers.iter().position(|known| *known == index);
        match (watched, at) {
            (true, None) => {
                watchers.push(index);
                told.users += 1;
                told.digest.toggle(key);
            }
            (false, Some(at)) => {
                watchers.swap_remove(at);
                told.users -= 1;
                told.digest.toggle(key);
            }
            (true, Some(_)) | (false, None) => {}
        }
        if watchers.is_empty() {
            self.by_user.remove(&key);
        }
    }

    fn take_away(&mut self, index: Index) {
        self.by_user.retain(|_, watchers| {
            watchers.retain(|known| *known != index);
            !watchers.is_empty()
        });
        if let Some(told) = self.told.get_mut(index as usize) {
            (told.users, told.digest) = (0, UsersDigest::new());
        }
    }
}
