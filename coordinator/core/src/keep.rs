//! What outlives an owner (R14): each user's record goes to the store when it changes, and a new owner reads those of
//! its partition once.
//!
//! Reading comes before writing. A record says everything that is kept of a user, its claims among it, so an owner that
//! has not read them yet would write them away: until a partition is read, what changes in it waits to be written.
//!
//! Reading also comes before speaking, but not for long: somebody who hides and is reported before the claim is read
//! would be shown to everybody. So a new owner says nothing for as long as reading takes, at most `restore_timeout`,
//! and gateways go on with what the last one said. After that it goes on with what it knows: a store that is slow or
//! gone costs claims and last seen for as long as it is, never presence.

use std::collections::BTreeSet;

use herenow_protocol::api::{Cause, Change};
use herenow_protocol::record::{KeptClaim, KeptSession, Record, Seen};
use herenow_protocol::{Epoch, MonoTime, Now, Partition, Status, UserKey, Version, WallTime};

use crate::claims::Claim;
use crate::coordinator::Coordinator;
use crate::partition::{PartitionState, presence};
use crate::request::virtual_session;
use crate::session::{Holder, Lease, Session};
use crate::user::User;
use crate::{Config, Output};

/// How far a partition is with its store.
#[derive(Debug, Default)]
pub(crate) struct Keeping {
    /// How often the store was asked for the partition, and since when; whether an answer is under way, and whether it came
    /// to the end.
    attempt: u32,
    since: Option<MonoTime>,
    asked: bool,
    read: bool,
    /// Something was not said because the store was being read.
    held: bool,
    /// The number of the last write in this epoch.
    writes: u64,
    /// Users to be written.
    changed: BTreeSet<UserKey>,
    /// What was asserted, or erased, in this epoch before it was read: what is read then is older.
    asserted: BTreeSet<(UserKey, Source)>,
}

/// Who asserts something.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Source {
    /// The user.
    Manual,
    /// A backend, by a claim or a virtual session.
    Api,
}

impl PartitionState {
    /// Asks the store for the partition, if there is one and it was not asked.
    pub(crate) fn load(&mut self, now: MonoTime, config: &Config, out: &mut Vec<Output>) {
        if config.keeps() && !self.keeping.asked {
            self.keeping.since.get_or_insert(now);
            self.keeping.asked = true;
            self.keeping.attempt += 1;
            let (partition, epoch) = (self.partition, self.epoch);
            out.push(Output::Load { partition, epoch, attempt: self.keeping.attempt });
        }
    }

    /// What comes now cannot be taken, and is asked for again.
    pub(crate) const fn load_again(&mut self) {
        self.keeping.asked = self.keeping.read;
    }

    /// Whether the store is still to be read.
    pub(crate) const fn is_reading(&self, config: &Config) -> bool {
        config.keeps() && !self.keeping.read
    }

    /// R8: whether nothing need wait for the store any more.
    pub(crate) fn has_waited(&self, now: MonoTime, config: &Config) -> bool {
        let long = |since: MonoTime| now.since(since) >= config.restore_timeout;
        !self.is_reading(config) || self.keeping.since.is_some_and(long)
    }

    /// Whether this is not to be said yet: the user may hide, which the store knows. Notes that something was held back.
    pub(crate) fn holds_back(&mut self, cause: Cause, now: MonoTime, config: &Config) -> bool {
        let hold = cause != Cause::Manual && !self.has_waited(now, config);
        self.keeping.held |= hold;
        hold
    }

    /// Says what was held back, once nothing need wait.
    pub(crate) fn say_held(&mut self, now: Now, config: &Config) {
        if self.keeping.held && self.has_waited(now.mono, config) {
            self.keeping.held = false;
            self.evaluate_all(now, config);
        }
    }

    /// A user has changed in something that is kept.
    pub(crate) fn note_changed(&mut self, key: UserKey, config: &Config) {
        if config.keeps() {
            self.keeping.changed.insert(key);
        }
    }

    /// Something was asserted that is newer than whatever the store has. Of a store that is away for long only so much is
    /// remembered.
    pub(crate) fn note_asserted(&mut self, key: UserKey, source: Source, config: &Config) {
        let most = config.max_users_per_partition.saturating_mul(2);
        if self.is_reading(config) && self.keeping.asserted.len() < most {
            self.keeping.asserted.insert((key, source));
        }
    }

    /// A user is not known any more, so there is nothing to write of it.
    pub(crate) fn note_forgotten(&mut self, key: UserKey) {
        self.keeping.changed.remove(&key);
    }

    /// Whether [`Self::keep`] has something to do.
    pub(crate) fn has_to_keep(&self) -> bool {
        self.keeping.read && !self.keeping.changed.is_empty()
    }

    /// Hands to the store what has changed, once its partition was read.
    pub(crate) fn keep(&mut self, now: Now, out: &mut Vec<Output>) {
        if !self.keeping.read {
            return;
        }
        while let Some(key) = self.keeping.changed.pop_first() {
            self.keeping.writes += 1;
            let written = Version { epoch: self.epoch, n: self.keeping.writes };
            if let Some(user) = self.users.get(&key) {
                let record = record(key, user, self.epoch, written, now);
                out.push(Output::Keep(Box::new(record)));
            }
        }
    }

    /// A user is erased: all that is kept of it is to go, whether it was read or not.
    pub(crate) fn keep_nothing(&mut self, key: UserKey, config: &Config, out: &mut Vec<Output>) {
        if !config.keeps() {
            return;
        }
        self.note_forgotten(key);
        self.keeping.writes += 1;
        let written = Version { epoch: self.epoch, n: self.keeping.writes };
        out.push(Output::Forget { key, written });
    }

    /// Whether an answer of the store is one that was asked for last.
    pub(crate) fn expects(&self, epoch: Epoch, attempt: u32) -> bool {
        let Keeping { asked, read, attempt: asked_as, .. } = self.keeping;
        self.epoch == epoch && asked && !read && attempt == asked_as
    }

    /// A page of what the store has; the last one ends the wait.
    pub(crate) fn restore(&mut self, records: Vec<Record>, last: bool, now: Now, config: &Config) {
        for record in records {
            self.restore_one(record, now, config);
        }
        if last {
            self.keeping.read = true;
            self.keeping.asserted = BTreeSet::new();
            self.say_held(now, config);
        }
    }

    /// What was asserted in this epoch stands; what was kept fills in what was not.
    fn restore_one(&mut self, record: Record, now: Now, config: &Config) {
        let key = record.key;
        if !self.users.contains_key(&key) && self.users.len() >= config.max_users_per_partition {
            return;
        }
        let is_new = |source: &Source| !self.keeping.asserted.contains(&(key, *source));
        let (manual, api) = (is_new(&Source::Manual), is_new(&Source::Api));
        if !manual && !api {
            return;
        }
        let user = self.users.entry(key).or_insert_with(|| User::new(record.user));
        if manual {
            user.claims.manual = record.manual.and_then(|kept| claim(kept, now));
        }
        if api {
            user.claims.api = record.api.and_then(|kept| claim(kept, now));
            restore_sessions(user, record.virtual_sessions, now);
        }
        if user.public.n == 0 {
            user.remember(&record.seen);
        }
        // One that has settled has said by its silence who is gone: nobody waits for a turn to be shown so.
        self.judge(key, Cause::Rebuilt, self.settled, now, config);
        self.state_last_seen(key, config);
    }

    /// Says when somebody was last seen who was said to be never seen.
    fn state_last_seen(&mut self, key: UserKey, config: &Config) {
        let never_said = |user: &&mut User| user.public.n == 0 && user.public.since.is_some();
        let Some(user) = self.users.get_mut(&key).filter(never_said) else { return };
        if !self.settled {
            return;
        }
        self.n += 1;
        user.public.n = self.n;
        let (entry, presence) = (user.entry(key), presence(user, self.epoch));
        self.outbox.entries.push(entry);
        let change = Change { from: Status::Offline, cause: Cause::Rebuilt, presence };
        self.outbox.changes.push((self.n, change));
        self.note_changed(key, config);
    }
}

impl Coordinator {
    /// R14: what was kept under earlier owners. One who is cut off states nothing by it; it is asked for again.
    pub(crate) fn on_restored(
        &mut self,
        partition: Partition,
        (epoch, attempt): (Epoch, u32),
        records: Vec<Record>,
        last: bool,
        now: Now,
    ) {
        let isolated = self.peers.isolated(now.mono);
        let wanted = |state: &&mut PartitionState| state.expects(epoch, attempt);
        let Some(state) = self.ownership.owned(partition).filter(wanted) else { return };
        if isolated {
            state.load_again();
            return;
        }
        self.stats.restored += records.len() as u64;
        state.restore(records, last, now, &self.config);
        if last {
            self.settle(now);
        }
    }
}

impl User {
    /// What everybody saw under an earlier owner. It was not said in this epoch, so its number is 0: whoever is there is
    /// published all the same, and who is gone has ended what is remembered here.
    fn remember(&mut self, seen: &Seen) {
        self.public.status = seen.status;
        self.public.since = seen.since;
        self.public.text.clone_from(&seen.text);
        self.public.emoji.clone_from(&seen.emoji);
    }
}

fn restore_sessions(user: &mut User, kept: Vec<KeptSession>, now: Now) {
    for kept in kept {
        let holder = Holder::Virtual(kept.name);
        let known = user.sessions.iter().any(|session| session.holder == holder);
        if !known && now.wall < kept.expires_at {
            let until = now.mono.after(now.wall.until(kept.expires_at));
            user.sessions.push(Session { since: kept.since, ..virtual_session(holder, now, until) });
        }
    }
}

/// A kept claim with its end by this process's clock; `None` when it has ended.
fn claim<S>(kept: KeptClaim<S>, now: Now) -> Option<Claim<S>> {
    let KeptClaim { status, text, emoji, expires_at } = kept;
    if expires_at.is_some_and(|end| end <= now.wall) {
        return None;
    }
    let until = expires_at.map(|end| now.mono.after(now.wall.until(end)));
    Some(Claim { status, text, emoji, until, expires_at })
}

fn kept_claim<S: Copy>(claim: &Claim<S>, now: Now) -> KeptClaim<S> {
    KeptClaim {
        status: claim.status,
        text: claim.text.clone(),
        emoji: claim.emoji.clone(),
        expires_at: claim.expires_at.or_else(|| claim.until.map(|until| wall(until, now))),
    }
}

fn kept_session(session: &Session, now: Now) -> Option<KeptSession> {
    match (&session.holder, session.lease) {
        (Holder::Virtual(name), Lease::Virtual(until)) => {
            let expires_at = wall(until, now);
            Some(KeptSession { name: name.clone(), since: session.since, expires_at })
        }
        (Holder::Virtual(_) | Holder::Gateway(..), _) => None,
    }
}

fn wall(until: MonoTime, now: Now) -> WallTime {
    now.wall.after(until.since(now.mono))
}

fn record(key: UserKey, user: &User, epoch: Epoch, written: Version, now: Now) -> Record {
    let public = &user.public;
    Record {
        key,
        user: user.id.clone(),
        written,
        seen: Seen {
            version: Version { epoch, n: public.n },
            status: public.status,
            since: public.since,
            text: public.text.clone(),
            emoji: public.emoji.clone(),
        },
        manual: user.claims.manual.as_ref().map(|claim| kept_claim(claim, now)),
        api: user.claims.api.as_ref().map(|claim| kept_claim(claim, now)),
        virtual_sessions: user.sessions.iter().filter_map(|session| kept_session(session, now)).collect(),
    }
}
