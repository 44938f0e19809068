//! A user as the owner of its partition knows it.

use herenow_protocol::api::Cause;
use herenow_protocol::history::Opened;
use herenow_protocol::message::{Entry, Shown};
use herenow_protocol::{Activity, DeviceId, MonoTime, Now, Status, UserId, UserKey, WallTime};

use crate::claims::Claims;
use crate::derive::{Derived, Face};
use crate::session::{Lease, Session};

/// A user with its sessions, claims, and what was last published of it.
#[derive(Clone, Debug)]
pub(crate) struct User {
    pub(crate) id: UserId,
    pub(crate) sessions: Vec<Session>,
    pub(crate) claims: Claims,
    /// What everybody was told.
    pub(crate) public: Shown,
    /// What the user itself was told, while it hides.
    pub(crate) own: Option<Shown>,
    /// The timer that is set for it.
    pub(crate) timer: Option<MonoTime>,
    /// It waits for its turn to be shown offline, for this reason.
    pub(crate) fading: Option<Cause>,
    /// The sessions opened since its status changed last, for the history.
    pub(crate) opened: Opened,
}

impl User {
    pub(crate) const fn new(id: UserId) -> Self {
        Self {
            id,
            sessions: Vec::new(),
            claims: Claims { manual: None, api: None },
            public: Shown::never_seen(),
            own: None,
            timer: None,
            fading: None,
            opened: Opened { web: 0, mobile: 0, desktop: 0, server: 0 },
        }
    }

    /// The user's entry in deltas and snapshots.
    pub(crate) fn entry(&self, key: UserKey) -> Entry {
        Entry { key, public: self.said(), own: self.own.clone() }
    }

    /// What was said of it in this epoch: of what an earlier owner said only when it was last seen.
    fn said(&self) -> Shown {
        match (self.public.n, self.public.status) {
            (0, Status::Offline) => Shown { since: self.public.since, ..Shown::never_seen() },
            (0, _) => Shown::never_seen(),
            _ => self.public.clone(),
        }
    }

    /// When something about it ends by itself.
    pub(crate) fn next_end(&self) -> Option<MonoTime> {
        self.sessions.iter().filter_map(Session::ends).chain(self.claims.next_end()).min()
    }

    /// Forgets what has ended by itself; says what that was.
    pub(crate) fn prune(&mut self, now: MonoTime) -> Option<Cause> {
        let graced = self.sessions.iter().any(|s| matches!(s.lease, Lease::Grace(_)) && !s.counts(now));
        let before = self.sessions.len();
        self.sessions.retain(|session| session.counts(now));
        let claims_ended = self.claims.prune(now);
        if graced {
            Some(Cause::GraceOver)
        } else if claims_ended || self.sessions.len() < before {
            Some(Cause::Expired)
        } else {
            None
        }
    }

    /// Whether a session of a device goes on with one that was lost: somebody has come back.
    pub(crate) fn has_lost(&self, device: &DeviceId) -> bool {
        self.sessions.iter().any(|session| !session.is_live() && session.device.as_ref() == Some(device))
    }

    /// Makes room for one more session: the oldest that is lost or virtual goes, else the oldest.
    pub(crate) fn drop_least(&mut self) {
        let at = self.sessions.iter().position(|session| !session.is_live()).unwrap_or(0);
        if at < self.sessions.len() {
            self.sessions.remove(at);
        }
    }

    /// Nothing is known of it that the stores would not know.
    pub(crate) fn is_idle_record(&self) -> bool {
        self.sessions.is_empty() && self.claims.is_empty()
    }

    /// Takes over what was derived. `n` is the number the change gets if it is one. `rebuilt`: the change is older
    /// than this epoch, so that its time is what the sessions tell.
    pub(crate) fn show(&mut self, derived: Derived, n: u64, rebuilt: bool, now: Now) -> Changed {
        let since = if rebuilt { self.began().unwrap_or(now.wall) } else { now.wall };
        // What an earlier owner said of one who is there is said anew.
        let unsaid = self.public.n == 0 && derived.public.status != Status::Offline;
        let public = unsaid || derived.public.differs(&self.public);
        let before_public = self.public.clone();
        let held = self.unsure_since(now.mono);
        let turned = self.public.held.is_some() != held.is_some() && !public;
        if public {
            self.public = Shown { held, ..shown(derived.public, &self.public, n, since) };
        } else if turned {
            (self.public.n, self.public.held) = (n, held);
        }
        let own = match (derived.own, &self.own) {
            (Some(face), Some(before)) if !face.differs(before) => false,
            (Some(face), before) => {
                let before = before.clone().unwrap_or(before_public);
                self.own = Some(shown(face, &before, n, since));
                true
            }
            (None, Some(_)) => {
                // The user shows itself again. What it sees is what everybody sees, told anew under this number.
                self.own = None;
                self.public.n = n;
                true
            }
            (None, None) => false,
        };
        Changed { public, own, turned }
    }

    /// R8: when its owner was last sure that it is there, if all that counts of it is what nobody confirms any more.
    fn unsure_since(&self, now: MonoTime) -> Option<WallTime> {
        // None is less than any time: one session that is sure is enough.
        self.sessions
            .iter()
            .filter(|session| session.counts(now))
            .map(|session| session.unconfirmed)
            .min()
            .flatten()
    }

    /// When the status that the sessions make began, as far as they tell.
    fn began(&self) -> Option<WallTime> {
        let active = self.sessions.iter().filter(|s| s.activity == Activity::Active).map(|s| s.since).min();
        active.or_else(|| self.sessions.iter().map(|s| s.since).max())
    }
}

/// Who has to be told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Changed {
    pub(crate) public: bool,
    pub(crate) own: bool,
    /// It looks as before, and is certain again, or no longer.
    pub(crate) turned: bool,
}

impl Changed {
    pub(crate) const fn any(self) -> bool {
        self.public || self.own || self.turned
    }
}

fn shown(face: Face, before: &Shown, n: u64, since: WallTime) -> Shown {
    // The time is that of the transition to the present status: other changes leave it.
    let since = if face.status == before.status { before.since } else { Some(since) };
    Shown {
        n,
        status: face.status,
        since,
        text: face.text,
        emoji: face.emoji,
        reachable: face.reachable,
        devices: face.devices,
        held: None,
    }
}
