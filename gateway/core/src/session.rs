//! One session: who, on what, what its person does, and what waits to be sent to it.

use std::time::Duration;

use herenow_protocol::message::SessionRecord;
use herenow_protocol::{
    Activity, DeviceId, DeviceKind, MonoTime, Now, Partition, SessionNumber, UserKey, WallTime,
};

use crate::outbox::Outbox;
use crate::{Config, Opening, Viewer};

/// The index of a watched user.
pub(crate) type UserIndex = u32;

/// A session.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) number: SessionNumber,
    pub(crate) viewer: Viewer,
    pub(crate) key: UserKey,
    pub(crate) partition: Partition,
    pub(crate) device: DeviceId,
    pub(crate) kind: DeviceKind,
    pub(crate) activity: Activity,
    pub(crate) since: WallTime,
    /// The client says what its person does; nothing is inferred.
    pub(crate) says: bool,
    pub(crate) last_heard: MonoTime,
    /// The last frame other than a heartbeat.
    pub(crate) last_used: MonoTime,
    pub(crate) token_expires: WallTime,
    pub(crate) token_warned: bool,
    /// It has ended; only what waits is still sent.
    pub(crate) over: bool,
    /// In order, so that one is found fast among thousands.
    pub(crate) watches: Vec<UserIndex>,
    /// Watched users that changed since it was last told; may name one twice.
    pub(crate) dirty: Vec<UserIndex>,
    /// When it was last told of changes, if it ever was.
    flushed_at: MonoTime,
    flushed: bool,
    pub(crate) flush_set: bool,
    /// Told that it has something to send, and not yet found empty.
    pub(crate) ready: bool,
    /// None: nothing waits.
    pub(crate) outbox: Option<Box<Outbox>>,
    /// Requests that are not answered yet, or whose answer is not sent yet.
    pub(crate) open_requests: u16,
    credit: u32,
    credit_at: MonoTime,
}

/// There are a hundred thousand of them, and an allocator's next size is 32 B away.
const _: () = assert!(size_of::<Session>() <= 192);

/// The rate limit is averaged over this many seconds.
const CREDIT_SECONDS: u32 = 3;

impl Session {
    pub(crate) fn new(
        number: SessionNumber,
        opening: Opening,
        key: UserKey,
        partition: Partition,
        now: Now,
        config: &Config,
    ) -> Self {
        Self {
            number,
            viewer: opening.viewer,
            key,
            partition,
            device: opening.device,
            kind: opening.kind,
            activity: opening.activity.unwrap_or_default(),
            since: now.wall,
            says: opening.activity.is_some(),
            last_heard: now.mono,
            last_used: now.mono,
            token_expires: opening.token_expires,
            token_warned: false,
            over: false,
            watches: Vec::new(),
            dirty: Vec::new(),
            flushed_at: MonoTime::default(),
            flushed: false,
            flush_set: false,
            ready: false,
            outbox: None,
            open_requests: 0,
            credit: config.max_frames_per_second.saturating_mul(CREDIT_SECONDS),
            credit_at: now.mono,
        }
    }

    /// What the owner of its user's partition needs to know.
    pub(crate) fn record(&self) -> SessionRecord {
        SessionRecord {
            number: self.number,
            key: self.key,
            user: self.viewer.user.clone(),
            device: self.device.clone(),
            kind: self.kind,
            activity: self.activity,
            since: self.since,
        }
    }

    /// Counts a frame against the rate; false when there were too many.
    pub(crate) fn spend(&mut self, now: MonoTime, config: &Config) -> bool {
        let rate = config.max_frames_per_second;
        let seconds = now.since(self.credit_at).as_secs();
        if seconds > 0 {
            let earned = u64::from(rate).saturating_mul(seconds);
            let most = u64::from(rate.saturating_mul(CREDIT_SECONDS));
            let credit = most.min(earned.saturating_add(u64::from(self.credit)));
            self.credit = u32::try_from(credit).unwrap_or(u32::MAX);
            // Only whole seconds are paid: what is left of this one counts towards the next.
            self.credit_at = self.credit_at.after(Duration::from_secs(seconds));
        }
        self.credit = match self.credit.checked_sub(1) {
            Some(left) => left,
            None => return false,
        };
        true
    }

    /// Liveness: silent for the heartbeat timeout, it is over.
    pub(crate) fn is_silent(&self, now: MonoTime, config: &Config) -> bool {
        now.since(self.last_heard) >= config.heartbeat_timeout
    }

    /// Activity: a client that never says what its person does is idle when nothing but heartbeats came for long.
    pub(crate) fn inferred(&self, now: MonoTime, idle_after: Duration) -> Option<Activity> {
        if self.says {
            return None;
        }
        let idle = now.since(self.last_used) >= idle_after;
        let inferred = if idle { Activity::Idle } else { Activity::Active };
        Some(inferred).filter(|activity| *activity != self.activity)
    }

    /// Whether presence may be sent now, or must wait for the end of the window.
    pub(crate) fn flush_at(&self, window: Duration) -> MonoTime {
        if self.flushed { self.flushed_at.after(window) } else { MonoTime::default() }
    }

    /// Whether it was told of changes in this turn.
    pub(crate) fn is_flushed(&self, now: MonoTime) -> bool {
        self.flushed && self.flushed_at == now
    }

    pub(crate) const fn note_flush(&mut self, now: MonoTime) {
        (self.flushed, self.flushed_at) = (true, now);
    }

    /// Nothing waits: what it waited in is given back.
    pub(crate) fn put_away(&mut self) {
        if self.outbox.as_ref().is_some_and(|outbox| outbox.is_empty()) {
            self.outbox = None;
        }
    }

    /// Notes that a watched user changed. The list stays within twice the watch list.
    pub(crate) fn mark(&mut self, user: UserIndex) {
        if self.dirty.last() == Some(&user) {
            return;
        }
        self.dirty.push(user);
        if self.dirty.len() > 2 * self.watches.len().max(16) {
            self.dirty.sort_unstable();
            self.dirty.dedup();
        }
    }
}
