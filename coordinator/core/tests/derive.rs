//! The whole table of what a user is shown as: every mix of sessions and claims.

use std::time::Duration;

use herenow_coordinator_core::{Claim, Claims, Derived, Holder, Lease, Rule, Session, derive};
use herenow_protocol::frame::ManualStatus;
use herenow_protocol::message::ApiStatus;
use herenow_protocol::{Activity, DeviceKind, MonoTime, Status, WallTime};

const NOW: MonoTime = MonoTime::from_millis(1_000);
const ACTIVITIES: [Activity; 3] = [Activity::Active, Activity::Idle, Activity::Background];
const MANUALS: [ManualStatus; 5] = [
    ManualStatus::Auto,
    ManualStatus::Online,
    ManualStatus::Idle,
    ManualStatus::Dnd,
    ManualStatus::Invisible,
];
const APIS: [ApiStatus; 4] = [ApiStatus::Online, ApiStatus::Idle, ApiStatus::Dnd, ApiStatus::Offline];

fn session(activity: Activity, lease: Lease) -> Session {
    let (since, kind) = (WallTime::from_millis(0), DeviceKind::Web);
    Session {
        holder: Holder::Virtual(None),
        device: None,
        kind,
        activity,
        since,
        lease,
        unconfirmed: None,
        followed: None,
    }
}

/// No session, or one to three of every mix of activities.
fn mixes() -> Vec<Vec<Session>> {
    let live = |activity| session(activity, Lease::Live);
    let mut mixes = vec![Vec::new()];
    for a in ACTIVITIES {
        mixes.push(vec![live(a)]);
        for b in ACTIVITIES {
            mixes.push(vec![live(a), live(b)]);
            mixes.extend(ACTIVITIES.map(|c| vec![live(a), live(b), live(c)]));
        }
    }
    mixes
}

fn all_claims() -> Vec<Claims> {
    let manuals = MANUALS.map(|status| Some(Claim::plain(status)));
    let apis = APIS.map(|status| Some(Claim::plain(status)));
    let mut all = Vec::new();
    for manual in manuals.into_iter().chain([None]) {
        all.extend(apis.clone().into_iter().chain([None]).map(|api| Claims { manual: manual.clone(), api }));
    }
    all
}

fn each(mut check: impl FnMut(&[Session], &Claims, Derived)) {
    for sessions in mixes() {
        for claims in all_claims() {
            let derived = derive(&sessions, &claims, false, NOW);
            check(&sessions, &claims, derived);
        }
    }
}

fn manual(claims: &Claims) -> Option<ManualStatus> {
    claims.manual.as_ref().map(|claim| claim.status)
}

fn has(sessions: &[Session], activity: Activity) -> bool {
    sessions.iter().any(|session| session.activity == activity)
}

#[test]
fn nobody_without_a_session_is_shown_as_there() {
    each(|sessions, _, derived| {
        if sessions.is_empty() {
            assert_eq!(derived.public.status, Status::Offline);
            assert!(!derived.public.reachable);
            assert!(derived.own.is_none_or(|own| own.status == Status::Offline));
        }
    });
}

#[test]
fn invisible_is_the_plain_face_of_nobody_and_only_the_user_has_another() {
    let nobody = derive(&[], &Claims::default(), false, NOW).public;
    each(|sessions, claims, derived| {
        let hides = manual(claims) == Some(ManualStatus::Invisible);
        assert_eq!(derived.own.is_some(), hides);
        assert_eq!(derived.rule == Rule::Invisible, hides);
        if hides {
            assert_eq!(derived.public, nobody);
            let without = Claims { manual: None, ..claims.clone() };
            assert_eq!(derived.own, Some(derive(sessions, &without, false, NOW).public), "the truth");
        }
    });
}

#[test]
fn the_users_word_stands_above_the_backends_and_that_above_the_sessions() {
    each(|sessions, claims, derived| {
        if sessions.is_empty() || manual(claims) == Some(ManualStatus::Invisible) {
            return;
        }
        let by_user = match manual(claims) {
            Some(ManualStatus::Online) => Some(Status::Online),
            Some(ManualStatus::Idle) => Some(Status::Idle),
            Some(ManualStatus::Dnd) => Some(Status::Dnd),
            Some(ManualStatus::Auto | ManualStatus::Invisible) | None => None,
        };
        let by_backend = claims.api.as_ref().map(|claim| match claim.status {
            ApiStatus::Online => Status::Online,
            ApiStatus::Idle => Status::Idle,
            ApiStatus::Dnd => Status::Dnd,
            ApiStatus::Offline => Status::Offline,
        });
        let active = has(sessions, Activity::Active);
        let by_sessions = if active { Status::Online } else { Status::Idle };
        let (expected, rule) = match (by_user, by_backend) {
            (Some(status), _) => (status, Rule::Manual),
            (None, Some(status)) => (status, Rule::Api),
            (None, None) => (by_sessions, Rule::Sessions),
        };
        assert_eq!((derived.public.status, derived.rule), (expected, rule), "{sessions:?} {claims:?}");
    });
}

#[test]
fn reachable_means_in_the_background_and_nowhere_active() {
    each(|sessions, claims, derived| {
        let shown = derived.own.unwrap_or(derived.public);
        let there = shown.status != Status::Offline;
        let reachable = there && has(sessions, Activity::Background) && !has(sessions, Activity::Active);
        assert_eq!(shown.reachable, reachable, "{sessions:?} {claims:?}");
    });
}

#[test]
fn the_order_of_sessions_does_not_matter() {
    each(|sessions, claims, derived| {
        let mut turned = sessions.to_vec();
        turned.reverse();
        assert_eq!(derive(&turned, claims, false, NOW), derived);
    });
}

#[test]
fn a_lease_counts_until_its_moment_and_not_in_it() {
    let at =
        |lease| derive(&[session(Activity::Active, lease)], &Claims::default(), false, NOW).public.status;
    for lease in [Lease::Grace, Lease::Virtual] {
        assert_eq!(at(lease(NOW.after(Duration::from_millis(1)))), Status::Online);
        assert_eq!(at(lease(NOW)), Status::Offline);
    }
}

#[test]
fn a_claim_holds_until_its_moment_and_not_in_it() {
    let here = [session(Activity::Active, Lease::Live)];
    let until = |until| {
        let claim = Claim { until: Some(until), ..Claim::plain(ManualStatus::Dnd) };
        let claims = Claims { manual: Some(claim), api: None };
        derive(&here, &claims, false, NOW).public.status
    };
    assert_eq!(until(NOW.after(Duration::from_millis(1))), Status::Dnd);
    assert_eq!(until(NOW), Status::Online);
}

#[test]
fn words_are_those_of_the_user_else_of_the_backend() {
    let here = [session(Activity::Active, Lease::Live)];
    let words = |text: &str| Some(Box::from(text));
    let mut claims = Claims {
        manual: Some(Claim { text: words("mine"), ..Claim::plain(ManualStatus::Dnd) }),
        api: Some(Claim { text: words("theirs"), ..Claim::plain(ApiStatus::Idle) }),
    };
    let text = |claims: &Claims| derive(&here, claims, false, NOW).public.text;
    assert_eq!(text(&claims).as_deref(), Some("mine"));
    claims.manual = Some(Claim::plain(ManualStatus::Dnd));
    assert_eq!(text(&claims).as_deref(), Some("theirs"));
    claims.api = None;
    assert_eq!(text(&claims), None);
}
