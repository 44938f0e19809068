//! A partition that this coordinator owns: its users, the streams of the gateways, and what is to be published.
//!
//! Users change in [`PartitionState::evaluate`] and nowhere else.

use std::collections::{BTreeMap, BTreeSet};

use hashbrown::HashMap;
use herenow_protocol::api::{Cause, Change};
use herenow_protocol::history::Opened;
use herenow_protocol::message::{Ended, Ending, Entry, SessionChange, SessionRecord, Shown};
use herenow_protocol::{
    DeviceId, DeviceKind, Epoch, GatewayId, MonoTime, Now, Origin, Partition, Presence, SessionNumber,
    Status, UserId, UserKey, Version, WallTime,
};

use crate::derive::{Derived, Rule, derive};
use crate::fading::Line;
use crate::interest::Interests;
use crate::keep::Keeping;
use crate::moving::moving_until;
use crate::session::{Followed, Holder, Lease, Session};
use crate::stream::{Stream, Whole};
use crate::taken::Taken;
use crate::user::User;
use crate::{Config, Transition};

/// All of one owned partition.
#[derive(Debug)]
pub(crate) struct PartitionState {
    pub(crate) partition: Partition,
    pub(crate) epoch: Epoch,
    /// The number of the last change.
    pub(crate) n: u64,
    /// R8: offline may be stated.
    pub(crate) settled: bool,
    /// R7: when this owner was last sure of what it has, if it doubts that now.
    pub(crate) sure_at: Option<WallTime>,
    /// Not to be settled before: a gateway is gone whose sessions this owner never heard of, and they may be in grace.
    pub(crate) hold_until: MonoTime,
    /// Since when another coordinator should own it.
    pub(crate) misplaced_since: Option<MonoTime>,
    pub(crate) users: HashMap<UserKey, User>,
    pub(crate) streams: BTreeMap<GatewayId, Stream>,
    /// R10, level 2: whom each gateway has watchers for.
    pub(crate) interests: Interests,
    /// Everybody's interest is known, so that each gateway is sent only what is watched there.
    pub(crate) selective: bool,
    /// Which claims were taken of late.
    pub(crate) taken: Taken,
    timers: BTreeSet<(MonoTime, UserKey)>,
    /// Who is to be shown offline.
    pub(crate) fading: Line,
    pub(crate) outbox: Outbox,
    pub(crate) keeping: Keeping,
}

/// What an owner had of a gateway before a sync.
struct Heard {
    sessions: std::collections::HashMap<SessionNumber, UserKey>,
    newest: SessionNumber,
}

/// Changes that are not published yet.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    pub(crate) entries: Vec<Entry>,
    pub(crate) changes: Vec<(u64, Change)>,
    pub(crate) transitions: Vec<Transition>,
    /// The number published last.
    pub(crate) published: u64,
    pub(crate) published_at: Option<MonoTime>,
}

impl PartitionState {
    pub(crate) fn new(partition: Partition, epoch: Epoch, now: MonoTime) -> Self {
        Self {
            partition,
            epoch,
            n: 0,
            settled: false,
            sure_at: None,
            hold_until: now,
            misplaced_since: None,
            users: HashMap::new(),
            streams: BTreeMap::new(),
            interests: Interests::default(),
            selective: false,
            taken: Taken::default(),
            timers: BTreeSet::new(),
            fading: Line::default(),
            outbox: Outbox::default(),
            keeping: Keeping::default(),
        }
    }

    /// Applies one change that a gateway reported, in order.
    pub(crate) fn apply(
        &mut self,
        origin: &Origin,
        change: SessionChange,
        grace: MonoTime,
        now: Now,
        config: &Config,
    ) {
        match change {
            SessionChange::Opened(record) => {
                let key = record.key;
                let kind = self.is_new(&record).then_some(record.kind);
                self.welcome_back(key, &record.device, now.mono);
                self.open(origin, record, now, config);
                self.count_opened(key, kind);
                self.evaluate(key, Cause::Connected, now, config);
            }
            SessionChange::Activity { number, key, activity, since } => {
                if let Some(session) = self.session(origin, number, key) {
                    session.activity = activity;
                    session.since = since;
                }
                self.evaluate(key, Cause::Activity, now, config);
            }
            SessionChange::Closed { number, key, how } => {
                let cause = self.close(origin, (number, key), how, grace, now.mono, config);
                self.evaluate(key, cause, now, config);
            }
        }
    }

    /// R3: what the gateway says replaces what was known of it. Who ended of late has the rest of its grace. Who is
    /// missing without a word was lost, no later than the last of whom the gateway remembers nothing.
    pub(crate) fn replace(
        &mut self,
        origin: &Origin,
        whole: Whole,
        grace: MonoTime,
        now: Now,
        config: &Config,
    ) {
        let Some(stream) = self.streams.get_mut(&origin.gateway) else { return };
        let known = Heard { sessions: std::mem::take(&mut stream.sessions), newest: stream.newest };
        let listed: hashbrown::HashSet<SessionNumber> =
            whole.sessions.iter().map(|record| record.number).collect();
        let cause = if self.settled { Cause::Connected } else { Cause::Rebuilt };
        let (mut accounted, newest) = (listed, known.newest);
        for ended in whole.ended {
            let (number, key) = (ended.record.number, ended.record.key);
            let cause = ended_cause(ended.how);
            self.replace_ended(origin, ended, &known, grace, now, config);
            self.evaluate(key, cause, now, config);
            accounted.insert(number);
        }
        self.heard_of(origin, accounted.iter().max().copied().unwrap_or_default());
        let forgot_ms = whole.forgot_ms.unwrap_or_default();
        let (until, lost_at) = (earlier(grace, forgot_ms), earlier(now.mono, forgot_ms));
        for (number, key) in known.sessions.into_iter().filter(|(number, _)| !accounted.contains(number)) {
            self.lose(origin, (number, key), until, lost_at, config);
            self.evaluate(key, Cause::GraceOver, now, config);
        }
        for record in whole.sessions {
            let key = record.key;
            // What an owner hears of that has not settled was counted by the one before it.
            let unheard = self.settled && record.number > newest && self.is_new(&record);
            let kind = unheard.then_some(record.kind);
            self.open(origin, record, now, config);
            self.count_opened(key, kind);
            self.evaluate(key, cause, now, config);
        }
    }

    /// Whether a session that opens is not that of a device which has come back.
    fn is_new(&self, record: &SessionRecord) -> bool {
        !self.users.get(&record.key).is_some_and(|user| user.has_lost(&record.device))
    }

    /// Counts a session for the history.
    fn count_opened(&mut self, key: UserKey, kind: Option<DeviceKind>) {
        if let (Some(user), Some(kind)) = (self.users.get_mut(&key), kind) {
            user.opened.add(kind);
        }
    }

    /// A session that ended before the sync. One that this owner has not lost itself is taken in for the rest of its
    /// grace; one that it has lost already has the longer one; one that left or was silent is gone. An owner that has
    /// settled may have let one end that it had, so that it takes in only what came and went unheard.
    fn replace_ended(
        &mut self,
        origin: &Origin,
        ended: Ended,
        known: &Heard,
        grace: MonoTime,
        now: Now,
        config: &Config,
    ) {
        let record = ended.record;
        let (number, key) = (record.number, record.key);
        if !ended.how.is_waited_for() {
            self.end(origin, (number, key), ended.how);
            return;
        }
        let moves = ended.how == Ending::Moving;
        let whole = if moves { moving_until(grace, now.mono, config) } else { grace };
        let until = earlier(whole, ended.ago_ms);
        let held =
            self.users.get(&key).is_some_and(|user| user.sessions.iter().any(|s| s.is(origin, number)));
        if held && known.sessions.contains_key(&number) {
            self.lose(origin, (number, key), until, earlier(now.mono, ended.ago_ms), config);
        } else if held {
            self.prolong(origin, number, key, until);
        } else if !held && until > now.mono && (!self.settled || number > known.newest) {
            let user = self.users.entry(key).or_insert_with(|| User::new(record.user.clone()));
            user.sessions.push(session(origin, record, Lease::Grace(until)));
        }
    }

    /// Every session of a gateway was lost with it (R6), or belongs to an earlier life of it (R5).
    pub(crate) fn lapse(&mut self, origin: &Origin, grace: MonoTime, now: Now, config: &Config) {
        let stream = self.streams.remove(&origin.gateway);
        self.interests.forget(&origin.gateway);
        if stream.as_ref().is_none_or(|stream| !stream.synced) {
            self.hold_until = self.hold_until.max(grace);
        }
        let unconfirmed = self.sure_at.filter(|_| !stream.as_ref().is_some_and(|stream| stream.confirmed));
        for (number, key) in stream.map(|stream| stream.sessions).unwrap_or_default() {
            self.lose(origin, (number, key), grace, now.mono, config);
            if let Some(session) = self.session(origin, number, key) {
                session.unconfirmed = unconfirmed;
            }
            self.evaluate(key, Cause::GraceOver, now, config);
        }
    }

    /// The device has come back: its lost session has been waiting for this. Only a session that opens now says so;
    /// one that a sync tells of may be older than the loss. Of a loss that is still under way it is noted.
    fn welcome_back(&mut self, key: UserKey, device: &DeviceId, now: MonoTime) {
        if let Some(user) = self.users.get_mut(&key) {
            let same = |session: &Session| session.device.as_ref() == Some(device);
            user.sessions.retain(|session| session.is_live() || !same(session));
            user.sessions.iter_mut().filter(|s| same(s)).for_each(|s| s.followed = Some(Followed::By(now)));
        }
    }

    fn open(&mut self, origin: &Origin, record: SessionRecord, now: Now, config: &Config) {
        let Some(stream) = self.streams.get_mut(&origin.gateway) else { return };
        stream.sessions.insert(record.number, record.key);
        stream.newest = stream.newest.max(record.number);
        self.make_room(config.max_users_per_partition, record.key);
        let user = self.users.entry(record.key).or_insert_with(|| User::new(record.user.clone()));
        let before = user.sessions.iter().find(|session| session.is(origin, record.number));
        let followed = before.and_then(|session| session.followed);
        user.sessions.retain(|session| session.counts(now.mono) && !session.is(origin, record.number));
        if user.sessions.len() >= config.max_sessions_per_user {
            user.drop_least();
        }
        // Most people have one, and a list begins with room for four.
        user.sessions.reserve_exact(1);
        user.sessions.push(Session { followed, ..session(origin, record, Lease::Live) });
    }

    fn close(
        &mut self,
        origin: &Origin,
        (number, key): (SessionNumber, UserKey),
        how: Ending,
        grace: MonoTime,
        now: MonoTime,
        config: &Config,
    ) -> Cause {
        if let Some(stream) = self.streams.get_mut(&origin.gateway) {
            stream.sessions.remove(&number);
        }
        if how.is_waited_for() {
            self.lose(origin, (number, key), grace, now, config);
        } else {
            self.end(origin, (number, key), how);
        }
        ended_cause(how)
    }

    /// A session is over, and with one that took its leave those of its device that were lost before it.
    fn end(&mut self, origin: &Origin, (number, key): (SessionNumber, UserKey), how: Ending) {
        let Some(user) = self.users.get_mut(&key) else { return };
        let Some(at) = user.sessions.iter().position(|session| session.is(origin, number)) else { return };
        let over = user.sessions.remove(at);
        if how == Ending::Bye {
            user.sessions.retain_mut(|session| !session.leaves_with(&over));
        }
    }

    /// A session was lost at `at`. What two gateways say comes in any order: where its device has opened another one since,
    /// or so shortly before that the loss may be what is late, it has come back already, and counts until that one takes
    /// its leave. Not only as long as that one lives: a gateway that stood still may open what the device gave up long ago.
    fn lose(
        &mut self,
        origin: &Origin,
        (number, key): (SessionNumber, UserKey),
        grace: MonoTime,
        at: MonoTime,
        config: &Config,
    ) {
        let Some(session) = self.session(origin, number, key) else { return };
        session.lease = Lease::Grace(grace);
        session.followed = session.followed.filter(|by| at <= by.opened().after(config.gateway_stale));
        if matches!(session.followed, Some(Followed::Left(_)))
            && let Some(user) = self.users.get_mut(&key)
        {
            user.sessions.retain(|session| !session.is(origin, number));
        }
    }

    fn heard_of(&mut self, origin: &Origin, number: SessionNumber) {
        if let Some(stream) = self.streams.get_mut(&origin.gateway) {
            stream.newest = stream.newest.max(number);
        }
    }

    /// A session in grace turns out to have been lost later: it lapsed with its gateway, which had not died.
    fn prolong(&mut self, origin: &Origin, number: SessionNumber, key: UserKey, until: MonoTime) {
        if let Some(Session { lease: Lease::Grace(end), unconfirmed, .. }) = self.session(origin, number, key)
        {
            *end = until.max(*end);
            *unconfirmed = None;
        }
    }

    fn session(&mut self, origin: &Origin, number: SessionNumber, key: UserKey) -> Option<&mut Session> {
        self.users.get_mut(&key)?.sessions.iter_mut().find(|session| session.is(origin, number))
    }

    /// The user, known from now on.
    pub(crate) fn user(&mut self, key: UserKey, id: &UserId, config: &Config) -> &mut User {
        self.make_room(config.max_users_per_partition, key);
        self.users.entry(key).or_insert_with(|| User::new(id.clone()))
    }

    /// Decides anew what a user is shown as, and notes the change if there is one. Who did not come back waits for its
    /// turn to be shown offline.
    pub(crate) fn evaluate(&mut self, key: UserKey, cause: Cause, now: Now, config: &Config) {
        self.judge(key, cause, false, now, config);
    }

    /// The same; `turn`: it does not wait.
    pub(crate) fn judge(&mut self, key: UserKey, cause: Cause, turn: bool, now: Now, config: &Config) {
        let Some(user) = self.users.get_mut(&key) else { return };
        let ended = user.prune(now.mono);
        let cause = if cause == Cause::Expired { ended.unwrap_or(cause) } else { cause };
        let spent = (self.settled || !config.keeps()) && drop_spent_claim(user);
        set_timer(&mut self.timers, user, key);
        let derived = derive(&user.sessions, &user.claims, config.publish_devices, now.mono);
        if spent || ended.is_some() || matches!(cause, Cause::Manual | Cause::Api) {
            self.note_changed(key, config);
        }
        if !self.settled && (is_negative(&derived) || self.holds_back(cause, now.mono, config)) {
            self.hold_back(key, derived.public.status, now.wall);
            return;
        }
        let Some(user) = self.users.get_mut(&key) else { return };
        if !turn && self.fading.takes(key, user, &derived, cause) {
            return;
        }
        let from = user.public.status;
        let told = public_cause(cause, derived.own.is_some(), user.own.is_some());
        let changed = user.show(derived, self.n + 1, cause == Cause::Rebuilt, now);
        if !changed.any() {
            return;
        }
        self.n += 1;
        self.outbox.entries.push(user.entry(key));
        if changed.public {
            let (presence, cause) = (presence(user, self.epoch), told);
            let opened =
                if presence.status == from { Opened::default() } else { std::mem::take(&mut user.opened) };
            self.outbox.changes.push((self.n, Change { from, cause, presence: presence.clone() }));
            let user = user.id.clone();
            self.outbox.transitions.push(Transition {
                partition: self.partition,
                user,
                from,
                cause,
                presence,
                opened,
            });
            self.note_changed(key, config);
        }
    }

    /// Lets end what ends by itself by now.
    pub(crate) fn handle_timers(&mut self, now: Now, config: &Config) {
        while let Some((_, key)) = self.timers.first().filter(|(due, _)| *due <= now.mono).copied() {
            self.timers.pop_first();
            if let Some(user) = self.users.get_mut(&key) {
                user.timer = None;
            }
            self.evaluate(key, Cause::Expired, now, config);
        }
    }

    /// When something ends by itself next.
    pub(crate) fn next_timer(&self) -> Option<MonoTime> {
        self.timers.first().map(|(due, _)| *due)
    }

    /// R8: what a user is shown as is not so any more, as far as is known, and that may not be said yet. It is told as
    /// before, but not as certain.
    fn hold_back(&mut self, key: UserKey, status: Status, now: WallTime) {
        let Some(user) = self.users.get_mut(&key) else { return };
        if user.public.n == 0 || user.public.held.is_some() || user.public.status == status {
            return;
        }
        self.n += 1;
        user.public.n = self.n;
        user.public.held = self.sure_at.or(Some(now));
        self.outbox.entries.push(user.entry(key));
    }

    /// R8: every gateway is heard, so absence means something. Says now what was held back.
    pub(crate) fn settle(&mut self, now: Now, config: &Config) {
        self.settled = true;
        self.evaluate_all(now, config);
    }

    /// Decides anew what everybody is shown as.
    pub(crate) fn evaluate_all(&mut self, now: Now, config: &Config) {
        let mut keys: Vec<UserKey> = self.users.keys().copied().collect();
        keys.sort_unstable();
        for key in keys {
            self.evaluate(key, Cause::Rebuilt, now, config);
        }
    }

    /// Says that nothing is known of a user any more, to watchers and to stores.
    pub(crate) fn state_erased(&mut self, key: UserKey) {
        let Some(user) = self.users.get_mut(&key).filter(|user| user.is_idle_record()) else { return };
        self.n += 1;
        let from = user.public.status;
        user.public = Shown { n: self.n, ..Shown::never_seen() };
        user.own = None;
        self.outbox.entries.push(user.entry(key));
        let presence = presence(user, self.epoch);
        let cause = Cause::Erased;
        self.outbox.changes.push((self.n, Change { from, cause, presence: presence.clone() }));
        let user = user.id.clone();
        let (partition, opened) = (self.partition, Opened::default());
        self.outbox.transitions.push(Transition { partition, user, from, cause, presence, opened });
    }

    /// Forgets a user, if no session holds it.
    pub(crate) fn forget(&mut self, key: UserKey) {
        if !self.users.get(&key).is_some_and(User::is_idle_record) {
            return;
        }
        self.note_forgotten(key);
        if let Some(due) = self.users.remove(&key).and_then(|user| user.timer) {
            self.timers.remove(&(due, key));
        }
    }

    /// Makes room for one more user by forgetting those longest offline, an eighth at a time: first those of whom
    /// nothing else is known, then also those who left a claim behind.
    fn make_room(&mut self, most: usize, wanted: UserKey) {
        if self.users.len() < most || self.users.contains_key(&wanted) {
            return;
        }
        let away = |user: &User| user.sessions.is_empty() && user.fading.is_none();
        let away = self.users.iter().filter(|(_, user)| away(user));
        let mut away: Vec<_> =
            away.map(|(key, user)| (!user.claims.is_empty(), user.public.since, *key)).collect();
        away.sort_unstable();
        for (_, _, key) in away.into_iter().take(most / 8 + 1) {
            if let Some(user) = self.users.get_mut(&key) {
                user.claims = crate::claims::Claims::default();
            }
            self.forget(key);
        }
    }
}

const fn ended_cause(how: Ending) -> Cause {
    match how {
        Ending::Bye => Cause::Left,
        Ending::Lost | Ending::Moving => Cause::GraceOver,
        Ending::Silent => Cause::Silent,
    }
}

const fn earlier(time: MonoTime, ms: u64) -> MonoTime {
    MonoTime::from_millis(time.as_millis().saturating_sub(ms))
}

fn session(origin: &Origin, record: SessionRecord, lease: Lease) -> Session {
    Session {
        holder: Holder::Gateway(origin.clone(), record.number),
        device: Some(record.device),
        kind: record.kind,
        activity: record.activity,
        since: record.since,
        lease,
        unconfirmed: None,
        followed: None,
    }
}

/// Who hides must look like who leaves, and who shows itself again like who comes.
const fn public_cause(cause: Cause, hides: bool, hid: bool) -> Cause {
    match (hides, hid) {
        (true, _) => Cause::Left,
        (false, true) => Cause::Connected,
        (false, false) => cause,
    }
}

/// A status that another session, not heard of yet, could prove wrong. A claim of the user's own or of a backend
/// holds whatever other sessions there are.
fn is_negative(derived: &Derived) -> bool {
    match derived.rule {
        Rule::Invisible | Rule::Manual | Rule::Api => false,
        Rule::NoSession => true,
        Rule::Sessions => derived.public.status != Status::Online,
    }
}

/// Appearing offline by a backend's claim ends with the sessions it was about.
fn drop_spent_claim(user: &mut User) -> bool {
    use herenow_protocol::message::ApiStatus;
    let spent = user.sessions.is_empty()
        && user.claims.api.as_ref().is_some_and(|claim| claim.status == ApiStatus::Offline);
    if spent {
        user.claims.api = None;
    }
    spent
}

fn set_timer(timers: &mut BTreeSet<(MonoTime, UserKey)>, user: &mut User, key: UserKey) {
    let next = user.next_end();
    if user.timer == next {
        return;
    }
    if let Some(due) = user.timer {
        timers.remove(&(due, key));
    }
    if let Some(due) = next {
        timers.insert((due, key));
    }
    user.timer = next;
}

/// What watchers see of a user.
pub(crate) fn presence(user: &User, epoch: Epoch) -> Presence {
    let shown = &user.public;
    Presence {
        user_id: user.id.clone(),
        status: shown.status,
        last_updated: shown.since,
        version: Version { epoch, n: shown.n },
        text: shown.text.clone(),
        emoji: shown.emoji.clone(),
        reachable: shown.reachable,
        devices: shown.devices.clone(),
        invisible: false,
        as_of: shown.held,
    }
}
