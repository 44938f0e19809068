//! What was claimed of each user, by whom and when, and what of it can be in force: the reference model of claims.

use herenow_protocol::Status;

/// How long after it began a claim may still come to its owner, if nobody was told what became of it: the longest
/// standstill, every repetition, and the way.
pub(crate) const UNSETTLED_MS: u64 = 45_000;

/// Who claims.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Source {
    /// The user itself, on this device.
    Device(usize),
    /// A backend.
    Backend,
}

/// What is claimed of a status.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Says {
    Nothing,
    Online,
    Idle,
    Dnd,
    /// By the user itself: to others only.
    Offline,
}

/// A claim.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Claim {
    pub(crate) says: Says,
    pub(crate) text: Option<String>,
}

impl Claim {
    const NONE: Self = Self { says: Says::Nothing, text: None };
}

#[derive(Clone, Debug)]
struct Act {
    user: usize,
    source: Source,
    claim: Claim,
    /// When it ends by itself.
    ends: Option<u64>,
    begun: u64,
    /// When the one who claimed was told that it is done, or that it may not be.
    told: Option<(u64, bool)>,
}

impl Act {
    fn is_done(&self) -> bool {
        self.told.is_some_and(|(_, done)| done)
    }

    /// From when on it cannot come to its owner any more.
    fn settled(&self) -> u64 {
        match self.told {
            Some((at, true)) => at,
            Some((at, false)) => at.max(self.begun + UNSETTLED_MS),
            None => self.begun + UNSETTLED_MS,
        }
    }

    /// Whether `later` certainly replaced it: begun when this was settled, or by the same device after it.
    fn is_replaced_by(&self, later: &Self) -> bool {
        let same_device = self.source == later.source && self.source != Source::Backend;
        later.is_done() && (later.begun > self.settled() || same_device && later.begun > self.begun)
    }
}

/// Every claim of a run.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// Words are judged by what is kept of them.
    pub(crate) words_elsewhere: bool,
    acts: Vec<Act>,
}

impl Ledger {
    /// Notes that something is claimed; with the number it is spoken of by.
    pub(crate) fn begin(
        &mut self,
        user: usize,
        source: Source,
        claim: Claim,
        ends: Option<u64>,
        now: u64,
    ) -> u64 {
        self.acts.push(Act { user, source, claim, ends, begun: now, told: None });
        self.acts.len() as u64 - 1
    }

    /// The one who claimed is told what became of it.
    pub(crate) fn told(&mut self, number: u64, done: bool, now: u64) {
        if let Some(act) = usize::try_from(number).ok().and_then(|number| self.acts.get_mut(number)) {
            act.told.get_or_insert((now, done));
        }
    }

    /// Whether anything was ever claimed of the user.
    pub(crate) fn concerns(&self, user: usize) -> bool {
        self.acts.iter().any(|act| act.user == user)
    }

    /// Claims begun since then that nobody was told are done.
    pub(crate) fn not_done_since(&self, since: u64) -> usize {
        self.acts.iter().filter(|act| act.begun >= since && !act.is_done()).count()
    }

    /// What of one kind of source can be in force: whatever nothing later has certainly replaced.
    fn possible(&self, user: usize, by_backend: bool, now: u64) -> Vec<Claim> {
        let of = |act: &&Act| act.user == user && (act.source == Source::Backend) == by_backend;
        let acts: Vec<&Act> = self.acts.iter().filter(of).collect();
        let stands = |act: &&&Act| !acts.iter().any(|later| act.is_replaced_by(later));
        let in_force = |act: &&Act| {
            if act.ends.is_some_and(|end| end <= now) { Claim::NONE } else { act.claim.clone() }
        };
        let mut claims: Vec<Claim> = acts.iter().filter(stands).map(in_force).collect();
        if !acts.iter().any(|act| act.is_done()) {
            claims.push(Claim::NONE);
        }
        claims
    }

    /// Whether what is shown of a user, to itself or to others, is what its sessions and claims can make of it.
    pub(crate) fn explains(
        &self,
        user: usize,
        sessions: Status,
        own: bool,
        seen: (Status, Option<&str>),
        now: u64,
    ) -> bool {
        let (manual, api) = (self.possible(user, false, now), self.possible(user, true, now));
        manual.iter().any(|manual| {
            api.iter().any(|api| {
                let (status, text) = face(sessions, manual, api, own);
                status == seen.0 && (self.words_elsewhere || text.as_deref() == seen.1)
            })
        })
    }
}

/// What is to be seen: the rules of `docs/PROTOCOL.md` §5, written a second time.
fn face(sessions: Status, manual: &Claim, api: &Claim, own: bool) -> (Status, Option<String>) {
    let hides = manual.says == Says::Offline;
    if hides && !own || sessions == Status::Offline {
        return (Status::Offline, None);
    }
    let manual_says = if hides { Says::Nothing } else { manual.says };
    let says = if manual_says == Says::Nothing { api.says } else { manual_says };
    let text = manual.text.clone().or_else(|| api.text.clone());
    match says {
        Says::Nothing => (sessions, text),
        Says::Online => (Status::Online, text),
        Says::Idle => (Status::Idle, text),
        Says::Dnd => (Status::Dnd, text),
        Says::Offline => (Status::Offline, None),
    }
}
