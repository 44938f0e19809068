//! Claims and virtual sessions: what stands above what, when it ends, and that one reads what one wrote.

#![expect(clippy::unwrap_used, reason = "a test ends where something is not as expected")]

mod support;

use herenow_coordinator_core::Output;
use herenow_protocol::api::Cause;
use herenow_protocol::frame::ManualStatus;
use herenow_protocol::message::{ApiStatus, ClaimCommand, Ending};
use herenow_protocol::{Activity, Status};
use support::{World, api, manual, named, secs};

fn online() -> World {
    let mut world = World::new();
    world.open(0, 1, "ana", Activity::Active);
    world.advance_ms(20);
    world.out.clear();
    world
}

#[test]
fn one_reads_what_one_wrote_at_once() {
    let mut world = online();
    for status in [ApiStatus::Dnd, ApiStatus::Idle, ApiStatus::Online, ApiStatus::Offline] {
        let claimed = world.claim("ana", api(status, None));
        let read = world.public("ana").unwrap();
        assert_eq!(claimed.entry.public, read, "{status:?}");
        let expected = match status {
            ApiStatus::Dnd => Status::Dnd,
            ApiStatus::Idle => Status::Idle,
            ApiStatus::Online => Status::Online,
            ApiStatus::Offline => Status::Offline,
        };
        assert_eq!(read.status, expected);
    }
}

#[test]
fn claims_stack_and_what_was_covered_comes_back() {
    let mut world = online();
    assert!(!world.claim("ana", api(ApiStatus::Dnd, None)).covered);
    assert_eq!(world.status("ana"), Status::Dnd);
    world.claim("ana", manual(ManualStatus::Idle));
    assert_eq!(world.status("ana"), Status::Idle);
    let covered = world.claim("ana", api(ApiStatus::Online, None));
    assert!(covered.covered, "the answer says that another claim stands above");
    assert_eq!(covered.entry.public.status, Status::Idle);
    world.claim("ana", api(ApiStatus::Dnd, None));
    world.claim("ana", manual(ManualStatus::Auto));
    assert_eq!(world.status("ana"), Status::Dnd, "the covered claim is back");
    world.claim("ana", api(ApiStatus::Online, None));
    assert_eq!(world.status("ana"), Status::Online, "and then the sessions");
}

#[test]
fn of_two_claims_of_one_source_the_newer_holds() {
    let mut world = online();
    world.claim("ana", manual(ManualStatus::Dnd));
    world.claim("ana", manual(ManualStatus::Idle));
    assert_eq!(world.status("ana"), Status::Idle);
    world.claim("ana", manual(ManualStatus::Auto));
    assert_eq!(world.status("ana"), Status::Online, "nothing lies below");
}

#[test]
fn a_manual_claim_ends_by_itself_to_the_millisecond() {
    let mut world = online();
    let expires_at = Some(world.wall(5_000));
    let text = Some(Box::from("lunch"));
    let claim = ClaimCommand::Manual { status: ManualStatus::Dnd, text, emoji: None, expires_at };
    let claimed = world.claim("ana", claim);
    assert_eq!(claimed.expires_at, expires_at);
    assert_eq!(claimed.entry.public.text.as_deref(), Some("lunch"));
    world.advance_ms(4_999);
    assert_eq!(world.told(), [Status::Dnd]);
    world.advance_ms(1);
    let transitions = world.transitions();
    assert_eq!(transitions[0].presence.status, Status::Online);
    assert_eq!((transitions[0].presence.text.as_deref(), transitions[0].cause), (None, Cause::Expired));
}

#[test]
fn an_api_claim_ends_by_itself() {
    let mut world = online();
    let claimed = world.claim("ana", api(ApiStatus::Dnd, Some(7)));
    assert_eq!(claimed.expires_at, Some(world.wall(7_000)));
    world.advance_ms(7_000);
    assert_eq!(world.told(), [Status::Dnd, Status::Online]);
}

#[test]
fn a_claim_without_an_end_holds() {
    let mut world = online();
    assert_eq!(world.claim("ana", api(ApiStatus::Dnd, None)).expires_at, None);
    world.advance(secs(3_600));
    assert_eq!(world.status("ana"), Status::Dnd);
}

#[test]
fn no_claim_makes_somebody_present_who_is_not() {
    for command in [manual(ManualStatus::Online), manual(ManualStatus::Dnd)] {
        let mut world = World::new();
        world.claim("ana", command);
        assert_eq!(world.status("ana"), Status::Offline);
        world.open(0, 1, "ana", Activity::Idle);
        assert_ne!(world.status("ana"), Status::Idle, "it holds when the user comes");
    }
}

#[test]
fn words_alone_are_a_claim_that_leaves_the_status() {
    let mut world = online();
    let text = Some(Box::from("hello"));
    world.claim(
        "ana",
        ClaimCommand::Manual { status: ManualStatus::Auto, text, emoji: None, expires_at: None },
    );
    let shown = world.public("ana").unwrap();
    assert_eq!((shown.status, shown.text.as_deref()), (Status::Online, Some("hello")));
    let answer = world.claim("ana", api(ApiStatus::Dnd, None));
    assert!(!answer.covered, "words stand above no status");
    assert_eq!(world.status("ana"), Status::Dnd);
}

#[test]
fn a_backend_makes_somebody_online_for_a_while_and_again_by_asking_again() {
    let mut world = World::new();
    let claimed = world.claim("bot", api(ApiStatus::Online, None));
    assert_eq!(claimed.entry.public.status, Status::Online);
    assert_eq!(claimed.expires_at, Some(world.wall(300_000)), "the configured time");
    world.advance(secs(299));
    world.claim("bot", api(ApiStatus::Online, None));
    world.advance(secs(299));
    assert_eq!(world.told(), [Status::Online], "renewed, and nobody saw it");
    world.advance(secs(1));
    let transitions = world.transitions();
    assert_eq!((transitions[0].presence.status, transitions[0].cause), (Status::Offline, Cause::Expired));
}

#[test]
fn a_virtual_session_holds_as_long_as_the_backend_says() {
    let mut world = World::new();
    let claimed = world.claim("bot", api(ApiStatus::Online, Some(5)));
    assert_eq!(claimed.expires_at, Some(world.wall(5_000)));
    world.advance_ms(4_999);
    assert_eq!(world.told(), [Status::Online]);
    world.advance_ms(1);
    assert_eq!(world.told(), [Status::Offline], "no grace: the backend said how long");
}

#[test]
fn virtual_sessions_with_names_are_apart() {
    let mut world = World::new();
    world.claim("bot", named(ApiStatus::Online, "one", Some(5)));
    world.claim("bot", named(ApiStatus::Online, "two", Some(50)));
    assert_eq!(world.explain("bot").sessions.len(), 2);
    world.claim("bot", named(ApiStatus::Online, "one", Some(5)));
    assert_eq!(world.explain("bot").sessions.len(), 2, "the same name is the same session");
    world.advance(secs(6));
    assert_eq!(world.told(), [Status::Online], "one is over, the other not");
    world.advance(secs(45));
    assert_eq!(world.told(), [Status::Offline]);
}

#[test]
fn offline_ends_a_virtual_session() {
    let mut world = World::new();
    world.claim("bot", api(ApiStatus::Online, None));
    let claimed = world.claim("bot", api(ApiStatus::Offline, None));
    assert_eq!(claimed.entry.public.status, Status::Offline);
    assert_eq!(world.explain("bot").sessions.len(), 0);
    world.advance_ms(20);
    assert_eq!(world.told(), [Status::Online, Status::Offline]);
    world.open(0, 1, "bot", Activity::Active);
    assert_eq!(world.status("bot"), Status::Online, "it is no claim that would hold the next session back");
}

#[test]
fn offline_while_there_appears_offline_until_the_sessions_are_over() {
    let mut world = online();
    world.claim("ana", api(ApiStatus::Offline, None));
    assert_eq!(world.status("ana"), Status::Offline);
    world.activity(0, 1, Activity::Idle);
    assert_eq!(world.status("ana"), Status::Offline);
    world.close(0, 1, Ending::Bye);
    world.open(0, 2, "ana", Activity::Active);
    assert_eq!(world.status("ana"), Status::Online, "it ended with the sessions it was about");
}

#[test]
fn online_over_an_idle_session_holds_as_long_as_a_virtual_session_would() {
    let mut world = World::new();
    world.open(0, 1, "ana", Activity::Idle);
    let claimed = world.claim("ana", api(ApiStatus::Online, None));
    assert_eq!(claimed.entry.public.status, Status::Online);
    assert_eq!(claimed.expires_at, Some(world.wall(300_000)));
    world.advance(secs(300));
    assert_eq!(world.status("ana"), Status::Idle);
}

#[test]
fn a_virtual_session_needs_no_grace_for_real_ones() {
    let mut world = online();
    world.claim("ana", named(ApiStatus::Online, "bridge", None));
    world.close(0, 1, Ending::Bye);
    world.advance_ms(20);
    assert_eq!(world.told(), []);
    assert_eq!(world.status("ana"), Status::Online);
}

#[test]
fn virtual_sessions_count_against_the_limit_of_a_user() {
    let mut world = World::with(|config| config.max_sessions_per_user = 2);
    for name in ["one", "two", "three"] {
        world.claim("bot", named(ApiStatus::Online, name, None));
    }
    let sessions: Vec<String> = world.explain("bot").sessions.into_iter().map(|s| s.session).collect();
    assert_eq!(sessions, ["api/two", "api/three"]);
}

#[test]
fn a_claim_that_comes_once_more_undoes_nothing_and_is_answered_alike() {
    let mut world = online();
    let dnd = || api(ApiStatus::Dnd, Some(7));
    let (number, first) = (world.requests, world.claim("ana", dnd()));
    world.advance_ms(1_000);
    world.requests = number;
    assert_eq!(world.claim("ana", dnd()).expires_at, first.expires_at, "it ends when it was said to");
    world.claim("ana", api(ApiStatus::Idle, None));
    world.requests = number;
    let again = world.claim("ana", dnd());
    assert_eq!((again.entry.public.status, again.expires_at), (Status::Idle, None), "as it is now");
}

#[test]
fn erasing_forgets_everything_and_says_so() {
    let mut world = online();
    world.claim("ana", manual(ManualStatus::Dnd));
    world.close(0, 1, Ending::Bye);
    world.advance_ms(20);
    world.out.clear();
    let claimed = world.claim("ana", ClaimCommand::Erase);
    assert_eq!((claimed.entry.public.status, claimed.entry.public.since), (Status::Offline, None));
    assert_eq!(world.core.stats().users, 0);
    assert_eq!(world.public("ana"), None);
    let transitions = world.transitions();
    let last = transitions.last().unwrap();
    assert_eq!((last.cause, last.presence.last_updated), (Cause::Erased, None), "stores are told");
    world.open(0, 2, "ana", Activity::Active);
    assert_eq!(world.status("ana"), Status::Online, "the claim is gone too");
}

#[test]
fn the_history_hears_of_an_erasure_behind_all_that_came_before_it() {
    let mut world = online();
    world.claim("ana", manual(ManualStatus::Dnd));
    // This waits for the end of the window.
    world.claim("ana", manual(ManualStatus::Idle));
    world.claim("ana", ClaimCommand::Erase);
    world.advance_ms(20);
    let erased = |output: &Output| matches!(output, Output::Erased(user) if user.as_str() == "ana");
    let at = world.out.iter().position(erased).unwrap();
    for output in &world.out[at + 1..] {
        if let Output::Transition(later) = output {
            assert_eq!(later.cause, Cause::Erased, "{later:?}");
        }
    }
}

#[test]
fn erasing_leaves_live_sessions() {
    let mut world = online();
    world.claim("ana", manual(ManualStatus::Dnd));
    world.claim("ana", named(ApiStatus::Online, "bridge", None));
    world.claim("ana", ClaimCommand::Erase);
    assert_eq!(world.status("ana"), Status::Online);
    let why = world.explain("ana");
    assert_eq!((why.sessions.len(), why.claims.len()), (1, 0));
}

#[test]
fn erasing_somebody_never_seen_is_taken() {
    let mut world = World::new();
    let claimed = world.claim("ghost", ClaimCommand::Erase);
    assert_eq!(claimed.entry.public.since, None);
    assert_eq!(world.core.stats().users, 0);
}

#[test]
fn an_explanation_names_rule_sessions_claims_and_timers() {
    let mut world = online();
    world.open(0, 2, "ana", Activity::Idle);
    world.close(0, 2, Ending::Lost);
    world.claim("ana", api(ApiStatus::Dnd, Some(60)));
    let why = world.explain("ana");
    assert_eq!(why.owner, "me");
    assert_eq!(why.epoch, world.epoch().to_string());
    assert!(why.settled);
    assert!(why.rule.starts_with('4'), "{}", why.rule);
    let states: Vec<&str> = why.sessions.iter().map(|s| s.state.as_str()).collect();
    assert_eq!(states, ["live", "lost, in grace, ends in 10000 ms"]);
    assert_eq!(why.claims, ["api: Dnd, ends in 60000 ms"]);
    assert_eq!(why.timers, ["next end in 10000 ms"]);
    let nobody = world.explain("nobody");
    assert!(nobody.rule.starts_with('2') && nobody.sessions.is_empty() && nobody.timers.is_empty());
}

#[test]
fn an_explanation_of_one_who_hides_tells_the_truth() {
    let mut world = online();
    world.claim("ana", manual(ManualStatus::Invisible));
    let why = world.explain("ana");
    assert!(why.rule.starts_with('1'), "{}", why.rule);
    assert_eq!(why.sessions.len(), 1);
}
