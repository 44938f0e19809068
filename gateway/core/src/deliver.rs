//! What sessions are told: presence as they may see it, as fresh as it is known, one frame at a time.

use herenow_protocol::frame::{ServerFrame, encode};
use herenow_protocol::{Now, Partition, Presence, Status, UserId, UserKey, Version, WallTime};

use crate::gateway::Gateway;
use crate::outbox::{Item, USERS_PER_FRAME};
use crate::request::{Answer, Due};
use crate::session::UserIndex;
use crate::view::Freshness;
use crate::watch::{Known, Tell};
use crate::{Output, Slot};

/// A session that was told keeps room for so many changes, which most frames do not exceed: 128 bytes.
const ROOM: usize = 32;

impl Gateway {
    /// Takes a value for a user and tells its watchers.
    pub(crate) fn learn(
        &mut self,
        partition: Partition,
        key: UserKey,
        known: Known,
        now: Now,
        out: &mut Vec<Output>,
    ) {
        let Some(index) = self.watch.find(partition, key) else { return };
        let Some(watched) = self.watch.get_mut(index) else { return };
        let contradicts = watched.known.as_ref().is_some_and(|old| old.contradicts(&known));
        self.stats.versions_doubled += u64::from(contradicts);
        let whom = watched.learn(known, now.wall);
        self.tell(index, whom, now, out);
    }

    /// Notes for each watcher that a user changed.
    pub(crate) fn tell(&mut self, index: UserIndex, whom: Tell, now: Now, out: &mut Vec<Output>) {
        let Some(watched) = self.watch.get_mut(index).filter(|_| whom != Tell::Nobody) else { return };
        watched.forget_encoded();
        let key = watched.key;
        let watchers = std::mem::take(&mut watched.watchers);
        let window = self.window.length(&self.config);
        for slot in &watchers {
            let Some(session) = self.sessions.get_mut(slot.0 as usize).and_then(Option::as_deref_mut) else {
                continue;
            };
            if whom == Tell::Own && key != session.key {
                continue;
            }
            session.mark(index);
            // The answer that it waits for mostly tells the same. Whatever it does not tell goes out behind it.
            if whom == Tell::First && session.open_requests > 0 {
                continue;
            }
            let due = session.flush_at(window);
            if due <= now.mono {
                self.ready(*slot, out);
            } else if !session.flush_set {
                session.flush_set = true;
                self.pending.at(due, Due::Flush(*slot));
            }
        }
        if let Some(watched) = self.watch.get_mut(index) {
            watched.watchers = watchers;
        }
    }

    /// Writes the next frame for a session into `frame` (cleared first) as JSON text. False when nothing waits; then
    /// [`Output::Ready`] says when something does again.
    pub fn poll_transmit(&mut self, slot: Slot, now: Now, frame: &mut String) -> bool {
        frame.clear();
        let wrote = self.transmit_answer(slot, now, frame) || self.transmit_presence(slot, now, frame);
        if !wrote && let Some(session) = self.session(slot) {
            session.ready = false;
            session.put_away();
        }
        wrote
    }

    fn transmit_answer(&mut self, slot: Slot, now: Now, frame: &mut String) -> bool {
        let Some(session) = self.session(slot) else { return false };
        let own = session.key;
        match session.outbox.as_mut().and_then(|outbox| outbox.pop_front()) {
            None => return false,
            Some(Item::Frame(text)) => frame.push_str(&text),
            Some(Item::Watched { id, users, sent }) => {
                let page = users.get(sent..).unwrap_or_default().iter().take(USERS_PER_FRAME);
                let page: Vec<_> =
                    page.map(|(user, key)| (*key, self.presence_of(user, *key, *key == own, now))).collect();
                self.told(slot, page.iter().map(|(key, _)| *key));
                let page = page.into_iter().map(|(key, presence)| self.noted(key, presence)).collect();
                let sent = sent + USERS_PER_FRAME;
                let complete = sent >= users.len();
                frame.push_str(&encode(&ServerFrame::Snapshot { id, users: page, complete }));
                self.after_page(slot, complete, Item::Watched { id, users, sent });
            }
            Some(Item::Queried { id, users, sent }) => {
                let page =
                    users.get(sent..).unwrap_or_default().iter().take(USERS_PER_FRAME).cloned().collect();
                let sent = sent + USERS_PER_FRAME;
                let complete = sent >= users.len();
                frame.push_str(&encode(&ServerFrame::Snapshot { id, users: page, complete }));
                self.after_page(slot, complete, Item::Queried { id, users, sent });
            }
        }
        true
    }

    /// What a snapshot has just told need not be told again as a change.
    fn told(&mut self, slot: Slot, keys: impl Iterator<Item = UserKey>) {
        let index = |key| self.watch.find(self.placement.partition(key), key);
        let mut told: Vec<UserIndex> = keys.filter_map(index).collect();
        told.sort_unstable();
        if let Some(session) = self.session(slot) {
            session.dirty.retain(|dirty| told.binary_search(dirty).is_err());
        }
    }

    fn after_page(&mut self, slot: Slot, complete: bool, item: Item) {
        if complete {
            self.close_request(slot);
        } else if let Some(session) = self.session(slot) {
            session.outbox.get_or_insert_default().push_front(item);
        }
    }

    /// One frame of changes, once the window is over: each user as it is now, however often it changed.
    fn transmit_presence(&mut self, slot: Slot, now: Now, frame: &mut String) -> bool {
        let window = self.window.length(&self.config);
        let Some(session) = self.sessions.get_mut(slot.0 as usize).and_then(Option::as_deref_mut) else {
            return false;
        };
        let due = session.flush_at(window);
        if session.dirty.is_empty() || due > now.mono && !session.is_flushed(now.mono) {
            if !session.dirty.is_empty() && !session.flush_set {
                session.flush_set = true;
                self.pending.at(due, Due::Flush(slot));
            }
            return false;
        }
        session.dirty.sort_unstable();
        session.dirty.dedup();
        let mut page = std::mem::take(&mut session.dirty);
        session.note_flush(now.mono);
        let own = session.key;
        frame.push_str(r#"{"type":"presence","users":["#);
        let empty = frame.len();
        let len = page.len().min(USERS_PER_FRAME);
        for index in page.drain(..len) {
            self.write_presence(index, own, now, frame, empty);
        }
        frame.push_str("]}");
        self.stats.presence_frames += 1;
        page.shrink_to(ROOM);
        if let Some(session) = self.session(slot) {
            session.dirty = page;
        }
        true
    }

    fn write_presence(&mut self, index: UserIndex, own: UserKey, now: Now, frame: &mut String, empty: usize) {
        let Some(watched) = self.watch.get(index) else { return };
        let (key, partition) = (watched.key, watched.partition);
        let known = watched.known.as_ref();
        let fresh = known.is_some_and(|known| self.trust(partition, known, key, now) == Freshness::Fresh);
        let shared = fresh && key != own;
        if frame.len() > empty {
            frame.push(',');
        }
        self.stats.deliveries += 1;
        if shared && let Some(encoded) = watched.encoded() {
            frame.push_str(encoded);
            return;
        }
        let presence = self.presence_of(&watched.id, key, key == own, now);
        let text = encode(&self.noted(key, presence));
        frame.push_str(&text);
        if shared {
            self.watch.keep_encoded(index, text);
        }
    }

    /// Remembers that somebody was told less than is known when all is well, so that it is told better in time.
    fn noted(&mut self, key: UserKey, presence: Presence) -> Presence {
        let partition = self.placement.partition(key);
        let known = self.watch.find(partition, key).and_then(|index| self.watch.get(index)?.known.as_ref());
        // Of who is held back its owner says more by itself.
        let mended_by_trust = known.is_some_and(|known| known.public.held.is_none());
        let worse = presence.as_of.is_some() || presence.status == Status::Unknown;
        if mended_by_trust
            && worse
            && let Some(view) = self.view(partition)
        {
            view.told_worse = true;
        }
        presence
    }

    /// A user as somebody may see it, with what is known here.
    pub(crate) fn presence_of(&self, user: &UserId, key: UserKey, own: bool, now: Now) -> Presence {
        let partition = self.placement.partition(key);
        let watched = self.watch.find(partition, key).and_then(|index| self.watch.get(index));
        let Some(known) = watched.and_then(|watched| watched.known.as_ref()) else {
            return unknown(user, Version { epoch: self.epoch(partition), n: 0 }, self.certain_at(partition));
        };
        let mut presence = self.fresh_presence(user, known, own);
        match self.trust(partition, known, key, now) {
            Freshness::Fresh => {}
            Freshness::Stale => presence.as_of = known.public.held.or_else(|| self.certain_at(partition)),
            Freshness::Unknown => {
                let last_updated = presence.last_updated;
                presence = unknown(user, presence.version, self.certain_at(partition));
                presence.last_updated = last_updated;
            }
        }
        presence
    }

    /// A user as its owner answered, who may have doubted it. An active session here knows better.
    pub(crate) fn answered_presence(
        &self,
        user: &UserId,
        key: UserKey,
        answer: &Answer,
        own: bool,
    ) -> Presence {
        let known = self.newer(key, &answer.known);
        let as_of = known.public.held.or(answer.as_of).filter(|_| !self.is_vouched(known, key));
        Presence { as_of, ..self.fresh_presence(user, known, own) }
    }

    /// A user as its owner says it is.
    pub(crate) fn fresh_presence(&self, user: &UserId, known: &Known, own: bool) -> Presence {
        let hidden = known.own.as_deref().filter(|_| own);
        let shown = hidden.unwrap_or(&known.public);
        Presence {
            user_id: user.clone(),
            status: shown.status,
            last_updated: shown.since,
            version: Version { epoch: known.epoch, n: shown.n },
            text: shown.text.clone(),
            emoji: shown.emoji.clone(),
            reachable: shown.reachable,
            devices: shown.devices.clone(),
            invisible: hidden.is_some(),
            as_of: None,
        }
    }

    /// R11: how far a value can be trusted. Where the owner is not heard, an active session here still vouches for its
    /// user being online. Of no other status can a gateway be sure: a device elsewhere may be active by now.
    pub(crate) fn trust(&self, partition: Partition, known: &Known, key: UserKey, now: Now) -> Freshness {
        let Some(view) = self.views.get(partition.index()) else { return Freshness::Unknown };
        let doubted = known.public.held.is_some() || known.doubted && view.is_doubted(known.is_negative());
        let freshness = view.freshness(now.mono, &self.config);
        let freshness = if doubted && freshness == Freshness::Fresh { Freshness::Stale } else { freshness };
        let stated = view.is_settled() || !known.is_negative();
        let current =
            !doubted && known.epoch == view.epoch && stated && view.is_caught_up(now.mono, &self.config);
        if current || self.is_vouched(known, key) { Freshness::Fresh } else { freshness }
    }

    fn is_vouched(&self, known: &Known, key: UserKey) -> bool {
        known.public.status == Status::Online && self.is_active_here(key)
    }
}

fn unknown(user: &UserId, version: Version, as_of: Option<WallTime>) -> Presence {
    Presence {
        user_id: user.clone(),
        status: Status::Unknown,
        last_updated: None,
        version,
        text: None,
        emoji: None,
        reachable: false,
        devices: Vec::new(),
        invisible: false,
        as_of,
    }
}
