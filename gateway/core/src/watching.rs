//! Watching, unwatching and asking: what sessions and backends want to know.

use hashbrown::{HashMap, HashSet};
use herenow_protocol::code::ErrorCode;
use herenow_protocol::frame::{ServerFrame, check_users};
use herenow_protocol::{Now, Partition, Presence, UserId, UserKey};

use crate::gateway::Gateway;
use crate::io::{Ticket, Viewer};
use crate::outbox::Item;
use crate::request::{Asker, Caller, Request};
use crate::session::UserIndex;
use crate::watch::Known;
use crate::{Output, Slot};

impl Gateway {
    pub(crate) fn on_watch(
        &mut self,
        slot: Slot,
        id: u64,
        users: &[String],
        now: Now,
        out: &mut Vec<Output>,
    ) {
        let Some(users) = self.checked(slot, id, users, now, out) else { return };
        let keyed = self.keyed(slot, &users);
        if !self.has_room(slot, &keyed) {
            let message = format!("a session watches at most {} users", self.config.max_watches);
            self.post_error(slot, Some(id), ErrorCode::TooManyWatches, message, now, out);
            return;
        }
        if !self.take_request(slot, id, now, out) {
            return;
        }
        if let Some(session) = self.session(slot) {
            // Mostly all of them come at once, and stay.
            session.watches.reserve_exact(keyed.len());
        }
        for (user, key) in &keyed {
            self.watch_one(slot, user, *key, now, out);
        }
        let Some(caller) = self.caller(slot, id) else { return };
        self.ask(Asker::Watch(caller), keyed, self.own_key(slot), now, out);
    }

    fn checked(
        &mut self,
        slot: Slot,
        id: u64,
        users: &[String],
        now: Now,
        out: &mut Vec<Output>,
    ) -> Option<Vec<UserId>> {
        match check_users(users) {
            Ok(users) => Some(users),
            Err((code, message)) => {
                self.post_error(slot, Some(id), code, message, now, out);
                None
            }
        }
    }

    /// The users with the keys the session may ask for, each once.
    fn keyed(&mut self, slot: Slot, users: &[UserId]) -> Vec<(UserId, UserKey)> {
        let Some(viewer) = self.session(slot).map(|session| session.viewer.clone()) else {
            return Vec::new();
        };
        let mut seen = HashSet::new();
        let keyed = users.iter().map(|user| (user.clone(), self.key_for(&viewer, user)));
        keyed.filter(|(_, key)| seen.insert(*key)).collect()
    }

    fn has_room(&mut self, slot: Slot, keyed: &[(UserId, UserKey)]) -> bool {
        let most = self.config.max_watches;
        let new = keyed.iter().filter(|(_, key)| !self.watches(slot, *key)).count();
        self.session(slot).is_some_and(|session| session.watches.len() + new <= most)
    }

    fn watches(&self, slot: Slot, key: UserKey) -> bool {
        let index = self.watch.find(self.placement.partition(key), key);
        let session = self.sessions.get(slot.0 as usize).and_then(Option::as_ref);
        session.zip(index).is_some_and(|(session, index)| session.watches.binary_search(&index).is_ok())
    }

    fn own_key(&self, slot: Slot) -> UserKey {
        self.sessions.get(slot.0 as usize).and_then(Option::as_ref).map(|s| s.key).unwrap_or_default()
    }

    fn watch_one(&mut self, slot: Slot, user: &UserId, key: UserKey, now: Now, out: &mut Vec<Output>) {
        if self.watches(slot, key) {
            return;
        }
        let partition = self.placement.partition(key);
        let first = self.watch.is_empty(partition);
        let new = self.watch.find(partition, key).is_none();
        let Some(index) = self.watch.add(partition, key, user, slot) else { return };
        if new {
            self.note_interest(partition, key, true);
        }
        if let Some(session) = self.session(slot) {
            let at = session.watches.binary_search(&index).unwrap_or_else(|at| at);
            session.watches.insert(at, index);
        }
        if first {
            out.push(Output::Subscribe(partition));
            if let Some(view) = self.view(partition) {
                view.forget_level();
            }
            self.pull_anew(partition, now, out);
        }
    }

    /// Ends one watch; the subscription with the last watch of its partition.
    pub(crate) fn unwatch_one(&mut self, slot: Slot, index: UserIndex, out: &mut Vec<Output>) {
        let Some((partition, key)) = self.watch.get(index).map(|user| (user.partition, user.key)) else {
            return;
        };
        if let Some(empty) = self.watch.remove(index, slot) {
            out.push(Output::Unsubscribe(empty));
        }
        if self.watch.find(partition, key).is_none() {
            self.note_interest(partition, key, false);
        }
    }

    pub(crate) fn on_unwatch(
        &mut self,
        slot: Slot,
        id: u64,
        users: &[String],
        now: Now,
        out: &mut Vec<Output>,
    ) {
        let Some(users) = self.checked(slot, id, users, now, out) else { return };
        for (_, key) in self.keyed(slot, &users) {
            let Some(index) = self.watch.find(self.placement.partition(key), key) else { continue };
            self.drop_watch(slot, index, out);
        }
        self.post(slot, &ServerFrame::Ack { id }, now, out);
    }

    /// Takes a user off the watch list of a session, if it is on it.
    fn drop_watch(&mut self, slot: Slot, index: UserIndex, out: &mut Vec<Output>) {
        let Some(session) = self.session(slot) else { return };
        let Ok(at) = session.watches.binary_search(&index) else { return };
        session.watches.remove(at);
        session.dirty.retain(|dirty| *dirty != index);
        self.unwatch_one(slot, index, out);
    }

    /// The session may see others than before: whom it may see now, or no longer, it watches anew under the key that
    /// it may ask for. Everybody else stays as told.
    pub(crate) fn watch_again(&mut self, slot: Slot, now: Now, out: &mut Vec<Output>) {
        let Some(session) = self.session(slot) else { return };
        let (viewer, watches) = (session.viewer.clone(), session.watches.clone());
        let regranted = |index: UserIndex| {
            let watched = self.watch.get(index)?;
            let key = self.key_for(&viewer, &watched.id);
            (key != watched.key).then(|| (index, watched.id.clone(), key))
        };
        let changed: Vec<(UserIndex, UserId, UserKey)> = watches.into_iter().filter_map(regranted).collect();
        for (index, ..) in &changed {
            self.drop_watch(slot, *index, out);
        }
        for (_, user, key) in &changed {
            self.watch_one(slot, user, *key, now, out);
        }
        self.tell_regranted(slot, &changed, now, out);
    }

    fn tell_regranted(
        &mut self,
        slot: Slot,
        changed: &[(UserIndex, UserId, UserKey)],
        now: Now,
        out: &mut Vec<Output>,
    ) {
        let mut unasked = std::collections::BTreeSet::new();
        for (.., key) in changed {
            let partition = self.placement.partition(*key);
            let Some(index) = self.watch.find(partition, *key) else { continue };
            if self.watch.get(index).is_some_and(|watched| watched.known.is_none()) {
                unasked.insert(partition);
            }
            if let Some(session) = self.session(slot) {
                session.mark(index);
                self.ready(slot, out);
            }
        }
        for partition in unasked {
            self.pull_anew(partition, now, out);
        }
    }

    pub(crate) fn on_session_query(
        &mut self,
        slot: Slot,
        id: u64,
        users: &[String],
        now: Now,
        out: &mut Vec<Output>,
    ) {
        let Some(users) = self.checked(slot, id, users, now, out) else { return };
        if self.take_request(slot, id, now, out) {
            let keyed = self.keyed(slot, &users);
            let Some(caller) = self.caller(slot, id) else { return };
            self.ask(Asker::Query(caller), keyed, self.own_key(slot), now, out);
        }
    }

    pub(crate) fn on_query(
        &mut self,
        ticket: Ticket,
        viewer: &Viewer,
        users: Vec<UserId>,
        now: Now,
        out: &mut Vec<Output>,
    ) {
        let keyed: Vec<_> =
            users.into_iter().map(|user| (user.clone(), self.key_for(viewer, &user))).collect();
        let own = self.placement.key(&viewer.user);
        if self.pending.len() >= self.config.max_requests {
            let request = Request {
                asker: Asker::Ticket(ticket),
                own,
                users: keyed,
                missing: HashSet::new(),
                pulls: Vec::new(),
                got: HashMap::new(),
            };
            let answer = self.presences(&request, now);
            out.push(Output::Answered(ticket, answer));
            return;
        }
        self.ask(Asker::Ticket(ticket), keyed, own, now, out);
    }

    /// Counts a request of a session against its limit.
    pub(crate) fn take_request(&mut self, slot: Slot, id: u64, now: Now, out: &mut Vec<Output>) -> bool {
        let most = self.config.max_requests_per_session;
        let crowded = self.pending.len() >= self.config.max_requests;
        let Some(session) = self.session(slot) else { return false };
        if session.open_requests < u16::try_from(most).unwrap_or(u16::MAX) && !crowded {
            session.open_requests += 1;
            return true;
        }
        let message = format!("a session has at most {most} requests open");
        self.post_error(slot, Some(id), ErrorCode::TooManyRequests, message, now, out);
        false
    }

    pub(crate) fn close_request(&mut self, slot: Slot) {
        if let Some(session) = self.session(slot) {
            session.open_requests = session.open_requests.saturating_sub(1);
        }
    }

    /// Puts a question, or answers it at once. Sessions are answered from what is known here; backends always by
    /// the owners, so that they read what they have written.
    fn ask(
        &mut self,
        asker: Asker,
        users: Vec<(UserId, UserKey)>,
        own: UserKey,
        now: Now,
        out: &mut Vec<Output>,
    ) {
        let by_owner = matches!(asker, Asker::Ticket(_));
        let unknown = |key: &UserKey| by_owner || self.known_here(*key, now).is_none();
        let missing: HashSet<UserKey> = users.iter().map(|(_, key)| *key).filter(unknown).collect();
        let mut by_partition: std::collections::BTreeMap<Partition, Vec<UserKey>> =
            std::collections::BTreeMap::new();
        for key in &missing {
            by_partition.entry(self.placement.partition(*key)).or_default().push(*key);
        }
        let complete = missing.is_empty();
        let request = Request { asker, own, users, missing, pulls: Vec::new(), got: HashMap::new() };
        let number = self.pending.ask(request, now.mono.after(self.config.request_timeout));
        if complete {
            self.answer(number, now, out);
            return;
        }
        for (partition, mut keys) in by_partition {
            keys.sort_unstable();
            let pull = self.pull(partition, Some(number), keys, now.mono, out);
            if let Some(request) = self.pending.requests.get_mut(&number) {
                request.pulls.push(pull);
            }
        }
    }

    /// A value that a session may be answered with at once.
    fn known_here(&self, key: UserKey, now: Now) -> Option<&Known> {
        let partition = self.placement.partition(key);
        let watched = self.watch.get(self.watch.find(partition, key)?)?;
        let known = watched.known.as_ref()?;
        (self.trust(partition, known, key, now) == crate::view::Freshness::Fresh).then_some(known)
    }

    /// Answers a question with what is known.
    pub(crate) fn answer(&mut self, number: u64, now: Now, out: &mut Vec<Output>) {
        let Some(request) = self.pending.take(number) else { return };
        match request.asker {
            Asker::Ticket(ticket) => {
                let answer = self.presences(&request, now);
                out.push(Output::Answered(ticket, answer));
            }
            Asker::Watch(caller) => {
                self.put(caller, Item::Watched { id: caller.id, users: request.users, sent: 0 }, out);
            }
            Asker::Query(caller) => {
                let users = self.presences(&request, now);
                self.put(caller, Item::Queried { id: caller.id, users, sent: 0 }, out);
            }
        }
    }

    /// A session that will be answered.
    pub(crate) fn caller(&mut self, slot: Slot, id: u64) -> Option<Caller> {
        self.session(slot).map(|session| Caller { slot, session: session.number, id })
    }

    /// Where and for which frame to answer, if the session that asked is still the one there.
    pub(crate) fn still_there(&mut self, caller: Caller) -> Option<(Slot, u64)> {
        let session = self.session(caller.slot)?;
        (session.number == caller.session && !session.over).then_some((caller.slot, caller.id))
    }

    fn put(&mut self, caller: Caller, item: Item, out: &mut Vec<Output>) {
        let Some((slot, _)) = self.still_there(caller) else { return };
        if let Some(session) = self.session(slot) {
            session.outbox.get_or_insert_default().push_back(item);
            self.ready(slot, out);
        }
    }

    fn presences(&self, request: &Request, now: Now) -> Vec<Presence> {
        let presence = |(user, key): &(UserId, UserKey)| match request.got.get(key) {
            Some(answer) => self.answered_presence(user, *key, answer, *key == request.own),
            None => self.presence_of(user, *key, *key == request.own, now),
        };
        request.users.iter().map(presence).collect()
    }

    /// I1: while a question waited for others, watchers may have been told more of a user than its owner had answered.
    pub(crate) fn newer<'a>(&'a self, key: UserKey, got: &'a Known) -> &'a Known {
        let index = self.watch.find(self.placement.partition(key), key);
        let known = index.and_then(|index| self.watch.get(index)?.known.as_ref());
        known.filter(|known| known.is_newer_than(got)).unwrap_or(got)
    }
}
