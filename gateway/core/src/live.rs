//! The life of a session: opening, signs of life, activity, token, end.

use hashbrown::hash_map::Entry;
use herenow_protocol::code::{CloseCode, ErrorCode};
use herenow_protocol::frame::{ClientFrame, FrameError, ServerFrame, Welcome};
use herenow_protocol::message::{Ending, SessionChange};
use herenow_protocol::time::millis;
use herenow_protocol::{Activity, MonoTime, Now, Partition, SessionNumber, UserKey, WallTime};

use crate::drain::reconnect;
use crate::gateway::Gateway;
use crate::io::Viewer;
use crate::session::Session;
use crate::slots::Slots;
use crate::view::Freshness;
use crate::watch::Tell;
use crate::{Opening, Output, Slot};

impl Gateway {
    pub(crate) fn open(&mut self, slot: Slot, opening: Opening, now: Now, out: &mut Vec<Output>) {
        let key = self.placement.key(&opening.viewer.user);
        let partition = self.placement.partition(key);
        self.next_number += 1;
        let number = SessionNumber(self.next_number);
        let session = Box::new(Session::new(number, opening, key, partition, now, &self.config));
        let record = session.record();
        let full = self.live >= self.config.max_sessions;
        let crowded = self
            .by_user
            .get(&key)
            .is_some_and(|slots| slots.as_slice().len() >= self.config.max_sessions_per_user);
        let index = slot.0 as usize;
        if self.sessions.len() <= index {
            self.sessions.resize_with(index + 1, || None);
        }
        if let Some(place) = self.sessions.get_mut(index) {
            *place = Some(session);
        }
        if full || crowded {
            self.refuse(slot, if full { CloseCode::GatewayFull } else { CloseCode::UserSessions }, out);
            return;
        }
        self.live += 1;
        match self.by_user.entry(key) {
            Entry::Occupied(mut slots) => slots.get_mut().push(slot),
            Entry::Vacant(place) => drop(place.insert(Slots::One(slot))),
        }
        self.uplink.push(partition, slot, SessionChange::Opened(record));
        self.welcome(slot, now, out);
    }

    /// A session that may not open is over before it began.
    fn refuse(&mut self, slot: Slot, code: CloseCode, out: &mut Vec<Output>) {
        if let Some(session) = self.session(slot) {
            session.over = true;
        }
        out.push(Output::Close(slot, code));
    }

    fn welcome(&mut self, slot: Slot, now: Now, out: &mut Vec<Output>) {
        let gateway = self.uplink.origin().gateway.clone();
        let config = &self.config;
        let Some(session) = self.sessions.get(slot.0 as usize).and_then(Option::as_ref) else { return };
        let welcome = ServerFrame::Welcome(Welcome {
            session: format!("{gateway}/{}", session.number.0),
            user_id: session.viewer.user.clone(),
            heartbeat_interval_ms: millis(config.heartbeat_interval),
            heartbeat_timeout_ms: millis(config.heartbeat_timeout),
            idle_after_ms: millis(config.idle_after),
            fresh_for_ms: millis(config.fresh_for),
            server_time: now.wall,
        });
        self.post(slot, &welcome, now, out);
        if let Some(until) = self.draining {
            self.post(slot, &reconnect(until, now), now, out);
        }
    }

    /// The hot path of a heartbeat: a number is written, and that is all.
    pub(crate) fn heard(&mut self, slot: Slot, now: MonoTime) {
        if let Some(session) = self.session(slot) {
            session.last_heard = now;
        }
    }

    pub(crate) fn on_frame(&mut self, slot: Slot, frame: ClientFrame, now: Now, out: &mut Vec<Output>) {
        if !self.admit(slot, now, out) {
            return;
        }
        if !matches!(frame, ClientFrame::Heartbeat { .. } | ClientFrame::Auth { .. } | ClientFrame::Bye {}) {
            self.used(slot, now, out);
        }
        match frame {
            ClientFrame::Heartbeat { activity, id } => self.on_heartbeat(slot, activity, id, now, out),
            ClientFrame::Auth { token, id, .. } => out.push(Output::Verify { slot, id, token }),
            ClientFrame::Watch { id, users } => self.on_watch(slot, id, &users, now, out),
            ClientFrame::Unwatch { id, users } => self.on_unwatch(slot, id, &users, now, out),
            ClientFrame::Query { id, users } => self.on_session_query(slot, id, &users, now, out),
            ClientFrame::Status { id, status, text, emoji, expires_at } => {
                let claim = crate::claim::manual(status, text, emoji, expires_at);
                self.on_session_claim(slot, id, claim, now, out);
            }
            ClientFrame::Bye {} => self.end(slot, Ending::Bye, CloseCode::Normal, now, out),
        }
    }

    pub(crate) fn on_bad_frame(&mut self, slot: Slot, error: FrameError, now: Now, out: &mut Vec<Output>) {
        if self.admit(slot, now, out) {
            self.post_error(slot, error.id, error.code, error.message, now, out);
        }
    }

    /// Counts a frame; false when the session is over, or sends too many.
    fn admit(&mut self, slot: Slot, now: Now, out: &mut Vec<Output>) -> bool {
        self.stats.frames += 1;
        let Some(session) = self.sessions.get_mut(slot.0 as usize).and_then(Option::as_deref_mut) else {
            return false;
        };
        if session.over {
            return false;
        }
        session.last_heard = now.mono;
        if session.spend(now.mono, &self.config) {
            return true;
        }
        self.end(slot, Ending::Lost, CloseCode::RateLimited, now, out);
        false
    }

    fn on_heartbeat(
        &mut self,
        slot: Slot,
        activity: Option<Activity>,
        id: Option<u64>,
        now: Now,
        out: &mut Vec<Output>,
    ) {
        self.stats.heartbeats += 1;
        if let Some(activity) = activity {
            if let Some(session) = self.session(slot) {
                session.says = true;
            }
            self.set_activity(slot, activity, now, out);
        }
        if let Some(id) = id {
            self.post(slot, &ServerFrame::Ack { id }, now, out);
        }
    }

    /// A frame other than a heartbeat: somebody uses the device.
    pub(crate) fn used(&mut self, slot: Slot, now: Now, out: &mut Vec<Output>) {
        if let Some(session) = self.session(slot) {
            session.last_used = now.mono;
            if !session.says {
                self.set_activity(slot, Activity::Active, now, out);
            }
        }
    }

    fn set_activity(&mut self, slot: Slot, activity: Activity, now: Now, out: &mut Vec<Output>) {
        let Some(session) = self.session(slot) else { return };
        if session.activity == activity || session.over {
            return;
        }
        session.activity = activity;
        session.since = now.wall;
        let (number, key, partition) = (session.number, session.key, session.partition);
        let change = SessionChange::Activity { number, key, activity, since: now.wall };
        self.uplink.push(partition, slot, change);
        self.vouch(partition, key, now, out);
    }

    pub(crate) fn renewed(
        &mut self,
        slot: Slot,
        id: Option<u64>,
        viewer: Viewer,
        token_expires: WallTime,
        now: Now,
        out: &mut Vec<Output>,
    ) {
        let Some(session) = self.session(slot).filter(|session| !session.over) else { return };
        if session.viewer.user != viewer.user {
            self.end(slot, Ending::Lost, CloseCode::UserChanged, now, out);
            return;
        }
        session.token_expires = token_expires;
        session.token_warned = false;
        let regranted = session.viewer.grants != viewer.grants;
        session.viewer = viewer;
        if regranted {
            self.watch_again(slot, now, out);
        }
        if let Some(id) = id {
            self.post(slot, &ServerFrame::Ack { id }, now, out);
        }
    }

    /// The connection is gone.
    pub(crate) fn closed(&mut self, slot: Slot, how: Ending, now: Now, out: &mut Vec<Output>) {
        if self.session(slot).is_some_and(|session| !session.over) {
            self.finish(slot, how, now, out);
        }
        if let Some(place) = self.sessions.get_mut(slot.0 as usize) {
            *place = None;
        }
    }

    /// The gateway ends a session: it reports that, and has the connection closed.
    pub(crate) fn end(&mut self, slot: Slot, how: Ending, code: CloseCode, now: Now, out: &mut Vec<Output>) {
        if self.session(slot).is_some_and(|session| !session.over) {
            self.finish(slot, how, now, out);
            out.push(Output::Close(slot, code));
        }
    }

    fn finish(&mut self, slot: Slot, how: Ending, now: Now, out: &mut Vec<Output>) {
        let how = self.ending(how);
        let Some(session) = self.session(slot) else { return };
        session.over = true;
        session.dirty = Vec::new();
        let watches = std::mem::take(&mut session.watches);
        let (record, key, partition) = (session.record(), session.key, session.partition);
        self.live -= 1;
        if self.by_user.get_mut(&key).is_some_and(|slots| slots.remove(slot)) {
            self.by_user.remove(&key);
        }
        self.uplink.close(partition, slot, record, how, now.mono, &self.config);
        for index in watches {
            self.unwatch_one(slot, index, out);
        }
        self.vouch(partition, key, now, out);
    }

    /// Whether any session of a user is active here, and has said so since the process last stood still.
    pub(crate) fn is_active_here(&self, key: UserKey) -> bool {
        let active = |slot: &Slot| {
            let session = self.sessions.get(slot.0 as usize).and_then(Option::as_ref);
            session.is_some_and(|s| s.activity == Activity::Active && s.last_heard >= self.vouching_since)
        };
        self.by_user.get(&key).is_some_and(|slots| slots.as_slice().iter().any(active))
    }

    /// A session of a user has changed or ended. Where the owner is not heard, its value may have rested on it:
    /// watchers are told whether it still does.
    fn vouch(&mut self, partition: Partition, key: UserKey, now: Now, out: &mut Vec<Output>) {
        let config = &self.config;
        let view = self.views.get(partition.index());
        let fresh = view.is_some_and(|view| view.freshness(now.mono, config) == Freshness::Fresh);
        if let Some(index) = self.watch.find(partition, key).filter(|_| !fresh) {
            self.tell(index, Tell::All, now, out);
        }
    }

    /// Liveness, inferred activity and tokens, once a scan.
    pub(crate) fn scan(&mut self, now: Now, out: &mut Vec<Output>) {
        for index in 0..self.sessions.len() {
            let Ok(slot) = u32::try_from(index).map(Slot) else { break };
            let Some(session) = self.sessions.get(index).and_then(Option::as_ref).filter(|s| !s.over) else {
                continue;
            };
            let leeway = session.token_expires.after(self.config.token_leeway);
            if session.is_silent(now.mono, &self.config) {
                self.stats.silent_sessions += 1;
                self.end(slot, Ending::Silent, CloseCode::HeartbeatTimeout, now, out);
            } else if now.wall >= leeway {
                self.end(slot, Ending::Lost, CloseCode::TokenExpired, now, out);
            } else if !session.token_warned
                && now.wall.after(self.config.token_warning) >= session.token_expires
            {
                self.warn_of_token(slot, now, out);
            } else if let Some(activity) = session.inferred(now.mono, self.config.idle_after) {
                self.set_activity(slot, activity, now, out);
            }
        }
    }

    fn warn_of_token(&mut self, slot: Slot, now: Now, out: &mut Vec<Output>) {
        let Some(session) = self.session(slot) else { return };
        session.token_warned = true;
        let expires_at = session.token_expires;
        self.post(slot, &ServerFrame::TokenExpiring { expires_at }, now, out);
    }

    /// Sends a frame; a session that reads too slowly for its answers is closed.
    pub(crate) fn post(&mut self, slot: Slot, frame: &ServerFrame, now: Now, out: &mut Vec<Output>) {
        let most = self.config.max_outbox_bytes;
        let Some(session) = self.session(slot).filter(|session| !session.over) else { return };
        if session.post(frame, most) {
            self.ready(slot, out);
        } else {
            self.end(slot, Ending::Lost, CloseCode::SlowConsumer, now, out);
        }
    }

    pub(crate) fn post_error(
        &mut self,
        slot: Slot,
        id: Option<u64>,
        code: ErrorCode,
        message: String,
        now: Now,
        out: &mut Vec<Output>,
    ) {
        self.stats.frame_errors += 1;
        let mut frame = ServerFrame::error(id, code, message);
        if let ServerFrame::Error { retry_after_ms, .. } = &mut frame {
            *retry_after_ms = self.retry_after(code).map(millis);
        }
        self.post(slot, &frame, now, out);
    }
}
