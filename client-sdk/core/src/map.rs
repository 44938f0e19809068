//! What is known of the watched users: clauses SDK-P of `protocol/vectors/README.md`.

use std::collections::BTreeMap;
use std::time::Duration;

use herenow_protocol::{MonoTime, Presence, Status, UserId, WallTime};

/// How well a held record is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Known {
    /// By a record of the present connection.
    Now,
    /// By a connection that is gone, as of a moment; it decays when it is due.
    AsOf { wall: WallTime, due: MonoTime },
    /// No longer.
    Decayed,
}

#[derive(Clone, Debug)]
struct Entry {
    held: Option<Presence>,
    known: Known,
    /// The best record of the present connection that is older than an unconfirmed held one.
    aside: Option<Presence>,
}

impl Entry {
    const EMPTY: Self = Self { held: None, known: Known::Decayed, aside: None };

    fn confirm(&mut self, record: Presence) {
        *self = Self { held: Some(record), known: Known::Now, aside: None };
    }

    fn take(&mut self, record: Presence) {
        let Some(held) = &self.held else { return self.confirm(record) };
        if record.version >= held.version {
            return self.confirm(record);
        }
        if record.status == Status::Unknown {
            return self.doubt(record.as_of);
        }
        match self.known {
            Known::Now => {}
            Known::Decayed => self.confirm(record),
            Known::AsOf { .. } => {
                if self.aside.as_ref().is_none_or(|aside| record.version >= aside.version) {
                    self.aside = Some(record);
                }
            }
        }
    }

    fn cut(&mut self, wall: WallTime, due: MonoTime) {
        self.aside = None;
        if self.known == Known::Now {
            self.known = Known::AsOf { wall, due };
        }
    }

    fn decay(&mut self, wall: WallTime) {
        if let Some(aside) = self.aside.take() {
            return self.confirm(aside);
        }
        self.known = Known::Decayed;
        let as_of = self.held.as_ref().and_then(|held| held.as_of);
        self.forget(as_of.or(Some(wall)));
    }

    /// The gateway cannot vouch for the held record any longer, whatever it was.
    fn doubt(&mut self, as_of: Option<WallTime>) {
        self.aside = None;
        let before = self.held.as_ref().and_then(|held| held.as_of);
        let last_known = match self.known {
            Known::AsOf { wall, .. } => Some(wall),
            Known::Now | Known::Decayed => None,
        };
        self.forget(as_of.or(before).or(last_known));
    }

    /// The held record is no longer known. One that is unknown already stays as it is.
    fn forget(&mut self, as_of: Option<WallTime>) {
        if let Some(held) = self.held.as_mut().filter(|held| held.status != Status::Unknown) {
            *held = unknown(held, as_of);
        }
    }
}

/// Only what stays true: who, when the last known status began, its version, and until when it was known.
fn unknown(held: &Presence, as_of: Option<WallTime>) -> Presence {
    Presence {
        user_id: held.user_id.clone(),
        status: Status::Unknown,
        last_updated: held.last_updated,
        version: held.version,
        text: None,
        emoji: None,
        reachable: false,
        devices: Vec::new(),
        invisible: false,
        as_of,
    }
}

/// Whether a person would see a difference: anything but the version.
fn differs(before: Option<&Presence>, after: Option<&Presence>) -> bool {
    match (before, after) {
        (Some(before), Some(after)) => {
            *before != *after && Presence { version: after.version, ..before.clone() } != *after
        }
        (before, after) => before.is_some() != after.is_some(),
    }
}

/// The server's clock, as the present or last connection told it.
#[derive(Clone, Copy, Debug)]
struct Server {
    /// The wall clock when `welcome` came.
    wall: WallTime,
    /// When `welcome` came.
    at: MonoTime,
    fresh_for: Duration,
    last_heard: MonoTime,
}

/// The watched users and what is known of them. Holds at most as many users as are watched.
#[derive(Clone, Debug, Default)]
pub struct PresenceMap {
    entries: BTreeMap<UserId, Entry>,
    server: Option<Server>,
    connected: bool,
    /// Not later than the first decay.
    due: Option<MonoTime>,
}

impl PresenceMap {
    /// An empty map, cut off.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A connection is up: its `welcome` came.
    pub fn connected(&mut self, server_time: WallTime, fresh_for: Duration, now: MonoTime) {
        self.server = Some(Server { wall: server_time, at: now, fresh_for, last_heard: now });
        self.connected = true;
    }

    /// Something was heard on the connection.
    pub fn heard(&mut self, now: MonoTime) {
        if let Some(server) = self.server.as_mut().filter(|_| self.connected) {
            server.last_heard = now;
        }
    }

    /// The connection is gone. What decays at once is told by [`Self::handle_timeout`].
    pub fn disconnected(&mut self) {
        let Some(server) = self.server.filter(|_| self.connected) else { return };
        self.connected = false;
        let wall = server.wall.after(server.last_heard.since(server.at));
        let due = server.last_heard.after(server.fresh_for);
        for entry in self.entries.values_mut() {
            entry.cut(wall, due);
        }
        self.due = Some(self.due.map_or(due, |earlier| earlier.min(due)));
    }

    /// Adds a user. False: it was watched already.
    pub fn watch(&mut self, user: UserId) -> bool {
        let mut added = false;
        self.entries.entry(user).or_insert_with(|| {
            added = true;
            Entry::EMPTY
        });
        added
    }

    /// Forgets a user. False: it was not watched.
    pub fn unwatch(&mut self, user: &UserId) -> bool {
        self.entries.remove(user).is_some()
    }

    /// Takes the records of one frame and appends what changed visibly.
    pub fn take(&mut self, records: Vec<Presence>, changed: &mut Vec<Presence>) {
        let mut before: BTreeMap<UserId, Option<Presence>> = BTreeMap::new();
        for record in records {
            let Some(entry) = self.entries.get_mut(&record.user_id) else { continue };
            before.entry(record.user_id.clone()).or_insert_with(|| entry.held.clone());
            entry.take(record);
        }
        for (user, before) in before {
            let after = self.get(&user);
            if differs(before.as_ref(), after) {
                changed.extend(after.cloned());
            }
        }
    }

    /// When [`Self::handle_timeout`] wants to be called next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<MonoTime> {
        self.due
    }

    /// Lets decay what is due and appends what changed visibly.
    pub fn handle_timeout(&mut self, now: MonoTime, changed: &mut Vec<Presence>) {
        if self.due.is_none_or(|due| due > now) {
            return;
        }
        self.due = None;
        for entry in self.entries.values_mut() {
            let Known::AsOf { wall, due } = entry.known else { continue };
            if due > now {
                self.due = Some(self.due.map_or(due, |earlier| earlier.min(due)));
                continue;
            }
            let before = entry.held.clone();
            entry.decay(wall);
            if differs(before.as_ref(), entry.held.as_ref()) {
                changed.extend(entry.held.clone());
            }
        }
    }

    /// What is known of a user. `None`: it is not watched, or nothing was heard of it yet.
    #[must_use]
    pub fn get(&self, user: &UserId) -> Option<&Presence> {
        self.entries.get(user)?.held.as_ref()
    }

    /// Whether the user is watched.
    #[must_use]
    pub fn is_watched(&self, user: &UserId) -> bool {
        self.entries.contains_key(user)
    }

    /// The watched users.
    pub fn users(&self) -> impl Iterator<Item = &UserId> {
        self.entries.keys()
    }

    /// What is known of all watched users.
    pub fn records(&self) -> impl Iterator<Item = &Presence> {
        self.entries.values().filter_map(|entry| entry.held.as_ref())
    }

    /// How many users are watched.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nobody is watched.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}
