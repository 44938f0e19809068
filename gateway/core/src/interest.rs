//! What a gateway states of its watchers (R10, level 2) to owners that ask for it, and what it believes (R15).

use std::ops::Range;

use herenow_protocol::message::{
    Advance, Advanced, Audit, Audited, Delta, Interest, InterestBeat, InterestBody, Up, UsersDigest,
};
use herenow_protocol::{Epoch, MonoTime, Now, Partition, UserKey};

use crate::Output;
use crate::gateway::Gateway;

/// Most users of one message of interest: 20 bytes each stay under the limit.
const INTEREST_USERS: usize = 8_000;
const _: () = assert!(INTEREST_USERS * 20 < herenow_protocol::limit::MESSAGE_BYTES);
/// Users that lost their last watcher wait for the next beat, or for so many of them.
const GONE_WAIT: usize = 500;
/// Values of one partition that are audited at a time. A digest of all is not possible: an owner does not know whom the
/// gateway watches, unless by level 2. So many each digest interval go round a thousand watched users in 11 minutes.
const AUDITED: usize = 16;

/// What was stated of one partition.
#[derive(Debug, Default)]
pub(crate) struct Statement {
    /// To the owner of which epoch; an older one has no interest in more.
    epoch: Epoch,
    /// The number of the last message; goes on from epoch to epoch.
    seq: u64,
    users: u32,
    digest: UsersDigest,
    waiting: Vec<(UserKey, bool)>,
    /// All of it is to be stated, when it is the partition's turn to be repaired.
    unstated: bool,
    /// It is among those with changes that wait.
    listed: bool,
    /// The last user that was audited.
    audited: UserKey,
}

impl Gateway {
    /// The owner's beat says whether it wants to know. To a new one everything is stated.
    pub(crate) fn state_interest(
        &mut self,
        partition: Partition,
        by_user: bool,
        now: MonoTime,
        out: &mut Vec<Output>,
    ) {
        let epoch = self.epoch(partition);
        let Some(statement) = self.statements.get_mut(partition.index()) else { return };
        let wanted = if by_user { epoch } else { Epoch::NONE };
        if statement.epoch == wanted {
            return;
        }
        (statement.epoch, statement.unstated) = (wanted, by_user);
        statement.seq += u64::from(by_user);
        if self.view(partition).is_some_and(|view| view.pulling.is_some()) {
            self.state_anew(partition, out);
        } else if by_user {
            self.pull_all(partition, now, out);
        }
    }

    /// Interest was lost on its way: it is stated again, and whatever was not sent here meanwhile is asked for. Until then
    /// its owner sends everything.
    pub(crate) fn on_reinterest(
        &mut self,
        partition: Partition,
        epoch: Epoch,
        now: Now,
        out: &mut Vec<Output>,
    ) {
        let known = self.statements.get_mut(partition.index()).filter(|told| told.epoch == epoch);
        if let Some(statement) = known.filter(|told| !told.unstated) {
            // A number of its own: what waits has none yet, and an audit from before it comes to nothing.
            statement.seq += 1;
            statement.unstated = true;
            self.stats.reinterests += 1;
            self.pull_anew(partition, now, out);
        }
    }

    /// Whether all of it is to be stated yet.
    pub(crate) fn is_unstated(&self, partition: Partition) -> bool {
        self.statements.get(partition.index()).is_some_and(|told| told.unstated)
    }

    /// The number of the last statement to the owner of this epoch.
    pub(crate) fn stated(&self, partition: Partition) -> Option<u64> {
        let told = self.statements.get(partition.index())?;
        let whole = told.epoch != Epoch::NONE && !told.unstated;
        (whole && told.epoch == self.epoch(partition)).then_some(told.seq)
    }

    /// States all of it, if that is to be done.
    pub(crate) fn state_anew(&mut self, partition: Partition, out: &mut Vec<Output>) {
        let told = self.statements.get_mut(partition.index());
        if told.is_some_and(|told| std::mem::take(&mut told.unstated)) {
            self.state_whole(partition, out);
        }
    }

    fn state_whole(&mut self, partition: Partition, out: &mut Vec<Output>) {
        let keys = self.watch.keys(partition);
        let origin = self.uplink.origin().clone();
        let Some(statement) = self.statements.get_mut(partition.index()) else { return };
        statement.waiting.clear();
        statement.digest = UsersDigest::new();
        keys.iter().for_each(|key| statement.digest.toggle(*key));
        statement.users = u32::try_from(keys.len()).unwrap_or(u32::MAX);
        let pages = keys.len().div_ceil(INTEREST_USERS);
        // Of an empty set the beat tells enough.
        for (page, users) in keys.chunks(INTEREST_USERS).enumerate() {
            let body = InterestBody::Whole {
                page: u16::try_from(page).unwrap_or(u16::MAX),
                last: page + 1 == pages,
                users: users.to_vec(),
            };
            let (origin, epoch, seq) = (origin.clone(), statement.epoch, statement.seq);
            out.push(Output::Up(Up::Interest(Interest { origin, partition, epoch, seq, body })));
        }
    }

    /// A user got its first watcher here, or lost its last.
    pub(crate) fn note_interest(&mut self, partition: Partition, key: UserKey, watched: bool) {
        let epoch = self.epoch(partition);
        let Some(statement) = self.statements.get_mut(partition.index()) else { return };
        if statement.epoch != epoch || epoch == Epoch::NONE {
            return;
        }
        if !statement.listed {
            statement.listed = true;
            self.undisclosed.push(partition);
        }
        statement.waiting.push((key, watched));
        if (watched || statement.waiting.len() >= GONE_WAIT) && self.urgent.last() != Some(&partition) {
            self.urgent.push(partition);
        }
        statement.digest.toggle(key);
        statement.users =
            if watched { statement.users.saturating_add(1) } else { statement.users.saturating_sub(1) };
    }

    /// Says what cannot wait: where somebody is watched anew, so that nothing is missed. It is asked with every input,
    /// heartbeats among them, and mostly there is nothing to say.
    pub(crate) fn flush_urgent_interest(&mut self, out: &mut Vec<Output>) {
        for partition in std::mem::take(&mut self.urgent) {
            self.disclose(partition, out);
        }
    }

    /// Says all that has changed, with a beat.
    pub(crate) fn flush_interest(&mut self, out: &mut Vec<Output>) {
        self.urgent.clear();
        for partition in std::mem::take(&mut self.undisclosed) {
            self.disclose(partition, out);
            if let Some(statement) = self.statements.get_mut(partition.index()) {
                statement.listed = false;
            }
        }
    }

    fn disclose(&mut self, partition: Partition, out: &mut Vec<Output>) {
        let Some(statement) = self.statements.get_mut(partition.index()) else { return };
        for changes in std::mem::take(&mut statement.waiting).chunks(INTEREST_USERS) {
            statement.seq += 1;
            let body = InterestBody::Changes(changes.to_vec());
            let (origin, epoch, seq) = (self.uplink.origin().clone(), statement.epoch, statement.seq);
            out.push(Output::Up(Up::Interest(Interest { origin, partition, epoch, seq, body })));
        }
    }

    /// R4: what was stated, for the beat.
    pub(crate) fn interest_beats(&self) -> Vec<InterestBeat> {
        let stated = |(partition, told): (Partition, &Statement)| {
            let whole = told.epoch != Epoch::NONE && !told.unstated;
            let current = whole && told.epoch == self.epoch(partition);
            let (epoch, seq, users, digest) = (told.epoch, told.seq, told.users, told.digest);
            current.then_some(InterestBeat { partition, epoch, seq, users, digest })
        };
        self.placement.all().zip(&self.statements).filter_map(stated).collect()
    }

    /// Nothing follows for this gateway up to some number: the same as a delta without entries.
    pub(crate) fn on_advanced(&mut self, advanced: Advanced, now: Now, out: &mut Vec<Output>) {
        for Advance { partition, epoch, prev, last } in advanced.streams {
            let delta =
                Delta { from: advanced.from.clone(), partition, epoch, prev, last, entries: Vec::new() };
            self.on_delta(delta, now, out);
        }
    }

    /// R15: shows owners some of what is believed, other users each time.
    pub(crate) fn audit(&mut self, turn: &Range<usize>, now: MonoTime, out: &mut Vec<Output>) {
        for partition in self.placement.all().skip(turn.start).take(turn.len()) {
            let Some(view) = self.views.get(partition.index()) else { continue };
            if !view.is_certain(now, &self.config) || self.watch.is_empty(partition) {
                continue;
            }
            let (epoch, n) = (view.epoch, view.n);
            let Some(statement) = self.statements.get_mut(partition.index()) else { continue };
            let interest = (statement.epoch == epoch).then_some(statement.seq);
            let users = believed(&self.watch, partition, epoch, &mut statement.audited);
            let origin = self.uplink.origin().clone();
            out.push(Output::Up(Up::Audit(Audit { origin, partition, epoch, n, interest, users })));
        }
    }
}

/// The next users after a key, with what is believed of them under an epoch.
fn believed(
    watch: &crate::watch::WatchIndex,
    partition: Partition,
    epoch: Epoch,
    after: &mut UserKey,
) -> Vec<Audited> {
    let keys = watch.keys(partition);
    let from = keys.partition_point(|key| *key <= *after);
    let chosen: Vec<UserKey> =
        keys.iter().cycle().skip(from).take(AUDITED.min(keys.len())).copied().collect();
    *after = chosen.last().copied().unwrap_or_default();
    let value = |key: UserKey| {
        let known = watch.get(watch.find(partition, key)?)?.known.as_ref()?;
        (known.epoch == epoch).then(|| Audited::new(key, known.n(), &known.public))
    };
    chosen.into_iter().filter_map(value).collect()
}
