//! The one function that decides what a user is shown as. Pure: sessions, claims and the time go in.
//!
//! First that applies:
//! 1. an `invisible` manual claim: others see `offline`, the user itself what it would be without;
//! 2. no session counts (live, virtual or in grace): `offline`;
//! 3. a manual claim of `online`, `idle` or `dnd`: that;
//! 4. an API claim: that;
//! 5. any active session: `online`; else `idle`.

use herenow_protocol::frame::ManualStatus;
use herenow_protocol::message::{ApiStatus, Shown};
use herenow_protocol::{Activity, DeviceKind, MonoTime, Status};

use crate::claims::Claims;
use crate::session::Session;

/// What somebody sees of a user, without number and time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Face {
    /// The status.
    pub status: Status,
    /// The text beside it.
    pub text: Option<Box<str>>,
    /// The emoji beside it.
    pub emoji: Option<Box<str>>,
    /// Nobody is active, but a device in the background can be reached.
    pub reachable: bool,
    /// The kinds of device in use, each once.
    pub devices: Vec<DeviceKind>,
}

impl Face {
    const fn offline() -> Self {
        Self { status: Status::Offline, text: None, emoji: None, reachable: false, devices: Vec::new() }
    }

    /// Whether a watcher who was shown `shown` would see a difference.
    #[must_use]
    pub fn differs(&self, shown: &Shown) -> bool {
        self.status != shown.status
            || self.text != shown.text
            || self.emoji != shown.emoji
            || self.reachable != shown.reachable
            || self.devices != shown.devices
    }
}

/// Which rule decided.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rule {
    /// 1: the user hides.
    Invisible,
    /// 2: nobody is there.
    NoSession,
    /// 3: the user says so.
    Manual,
    /// 4: a backend says so.
    Api,
    /// 5: the sessions say so.
    Sessions,
}

impl Rule {
    /// The rule in words, for people.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Invisible => "1: an invisible claim shows the user offline to others",
            Self::NoSession => "2: no session counts",
            Self::Manual => "3: a manual claim is in force",
            Self::Api => "4: an API claim is in force",
            Self::Sessions => "5: the most active session decides",
        }
    }
}

/// What a user is shown as, and why.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Derived {
    /// What everybody sees.
    pub public: Face,
    /// What the user itself sees, where it differs: only for one who hides.
    pub own: Option<Face>,
    /// Why.
    pub rule: Rule,
}

/// Decides what a user is shown as at `now`.
#[must_use]
pub fn derive(sessions: &[Session], claims: &Claims, publish_devices: bool, now: MonoTime) -> Derived {
    let counting = sessions.iter().filter(|session| session.counts(now) && !session.is_stood_for(sessions));
    let (face, rule) = visible(counting, claims, publish_devices, now);
    if claims.manual(now).is_some_and(|claim| claim.status == ManualStatus::Invisible) {
        return Derived { public: Face::offline(), own: Some(face), rule: Rule::Invisible };
    }
    Derived { public: face, own: None, rule }
}

/// Rules 2 to 5.
fn visible<'a>(
    sessions: impl Iterator<Item = &'a Session> + Clone,
    claims: &Claims,
    publish_devices: bool,
    now: MonoTime,
) -> (Face, Rule) {
    if sessions.clone().next().is_none() {
        return (Face::offline(), Rule::NoSession);
    }
    let by_sessions = || (by_sessions(sessions.clone()), Rule::Sessions);
    let (status, rule) = claimed(claims, now).unwrap_or_else(by_sessions);
    if status == Status::Offline {
        return (Face::offline(), rule);
    }
    let active = sessions.clone().any(|session| session.activity == Activity::Active);
    let background = sessions.clone().any(|session| session.activity == Activity::Background);
    let devices = if publish_devices { kinds(sessions) } else { Vec::new() };
    let (text, emoji) = claims.words(now);
    (Face { status, text, emoji, reachable: background && !active, devices }, rule)
}

/// Rules 3 and 4.
fn claimed(claims: &Claims, now: MonoTime) -> Option<(Status, Rule)> {
    let manual = claims.manual(now).and_then(|claim| match claim.status {
        ManualStatus::Online => Some(Status::Online),
        ManualStatus::Idle => Some(Status::Idle),
        ManualStatus::Dnd => Some(Status::Dnd),
        ManualStatus::Auto | ManualStatus::Invisible => None,
    });
    let api = || {
        claims.api(now).map(|claim| match claim.status {
            ApiStatus::Online => Status::Online,
            ApiStatus::Idle => Status::Idle,
            ApiStatus::Dnd => Status::Dnd,
            ApiStatus::Offline => Status::Offline,
        })
    };
    manual.map(|status| (status, Rule::Manual)).or_else(|| api().map(|status| (status, Rule::Api)))
}

/// Rule 5.
fn by_sessions<'a>(mut sessions: impl Iterator<Item = &'a Session>) -> Status {
    if sessions.any(|session| session.activity == Activity::Active) { Status::Online } else { Status::Idle }
}

fn kinds<'a>(sessions: impl Iterator<Item = &'a Session>) -> Vec<DeviceKind> {
    let mut kinds: Vec<DeviceKind> = sessions.map(|session| session.kind).collect();
    kinds.sort_unstable();
    kinds.dedup();
    kinds
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::claims::Claim;
    use crate::session::testing::session;

    const NOW: MonoTime = MonoTime::from_millis(1_000);

    fn manual(status: ManualStatus) -> Claims {
        Claims { manual: Some(Claim::plain(status)), api: None }
    }

    fn api(status: ApiStatus) -> Claims {
        Claims { manual: None, api: Some(Claim::plain(status)) }
    }

    fn status(sessions: &[Session], claims: &Claims) -> Status {
        derive(sessions, claims, false, NOW).public.status
    }

    #[test]
    fn the_most_active_session_decides() {
        let (active, idle) = (session(1, Activity::Active), session(2, Activity::Idle));
        assert_eq!(status(&[], &Claims::default()), Status::Offline);
        assert_eq!(status(std::slice::from_ref(&idle), &Claims::default()), Status::Idle);
        assert_eq!(status(&[idle, active], &Claims::default()), Status::Online);
    }

    #[test]
    fn the_background_is_idle_and_reachable() {
        let pocket = session(1, Activity::Background);
        let face = derive(std::slice::from_ref(&pocket), &Claims::default(), false, NOW).public;
        assert_eq!((face.status, face.reachable), (Status::Idle, true));
        let face = derive(&[pocket, session(2, Activity::Active)], &Claims::default(), false, NOW).public;
        assert_eq!((face.status, face.reachable), (Status::Online, false));
    }

    #[test]
    fn invisible_is_offline_to_others_and_the_truth_to_oneself() {
        let seen = derive(&[session(1, Activity::Active)], &manual(ManualStatus::Invisible), true, NOW);
        assert_eq!(seen.public, Face::offline());
        assert_eq!(seen.own.unwrap().status, Status::Online);
    }

    #[test]
    fn claims_rank_manual_before_api_before_sessions_but_need_a_session() {
        let here = [session(1, Activity::Active)];
        let both = Claims { manual: manual(ManualStatus::Idle).manual, api: api(ApiStatus::Dnd).api };
        assert_eq!(status(&here, &both), Status::Idle);
        assert_eq!(status(&here, &api(ApiStatus::Dnd)), Status::Dnd);
        assert_eq!(status(&here, &api(ApiStatus::Offline)), Status::Offline);
        assert_eq!(status(&here, &manual(ManualStatus::Dnd)), Status::Dnd);
        assert_eq!(status(&[session(1, Activity::Idle)], &manual(ManualStatus::Online)), Status::Online);
        assert_eq!(status(&[], &both), Status::Offline);
    }

    #[test]
    fn a_covered_claim_comes_back_when_the_upper_one_ends() {
        let here = [session(1, Activity::Active)];
        let mut claims = Claims { manual: manual(ManualStatus::Idle).manual, api: api(ApiStatus::Dnd).api };
        claims.manual.as_mut().unwrap().until = Some(NOW.after(Duration::from_secs(1)));
        assert_eq!(derive(&here, &claims, false, NOW).public.status, Status::Idle);
        let later = NOW.after(Duration::from_secs(1));
        assert_eq!(derive(&here, &claims, false, later).public.status, Status::Dnd);
    }

    #[test]
    fn devices_are_told_only_where_published_each_kind_once() {
        let here = [session(1, Activity::Active), session(2, Activity::Active)];
        assert!(derive(&here, &Claims::default(), false, NOW).public.devices.is_empty());
        assert_eq!(derive(&here, &Claims::default(), true, NOW).public.devices, [DeviceKind::Web]);
    }
}
