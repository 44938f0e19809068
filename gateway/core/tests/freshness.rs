//! How far what owners say is trusted: fresh, dated, unknown, doubted, held back (R7, R8, R11).

#![expect(clippy::unwrap_used, reason = "a test ends where something is not as expected")]

mod support;

use herenow_gateway_core::Input;
use herenow_protocol::frame::ClientFrame;
use herenow_protocol::{Activity, Presence, Status};
use support::{World, look, secs, told, watching};

#[test]
fn a_value_is_certain_then_dated_then_unknown_then_certain_again() {
    let mut world = watching(&[("bob", Status::Online)]);
    world.beat();
    let heard = world.wall(0);
    world.owner.beats = false;
    world.advance_ms(1_999);
    assert_eq!(world.told(0), []);
    world.advance_ms(101);
    let stale = world.told(0).remove(0);
    assert_eq!((stale.status, stale.as_of), (Status::Online, Some(heard)), "the last certain moment");
    world.advance_ms(17_800);
    assert_eq!(world.told(0), [], "19.9 s");
    world.advance_ms(300);
    let unknown = world.told(0).remove(0);
    assert_eq!((unknown.status, unknown.as_of), (Status::Unknown, Some(heard)));
    assert_eq!(unknown.last_updated, stale.last_updated);
    assert!(unknown.version >= stale.version, "clients drop what is older");
    world.owner.beats = true;
    world.beat();
    world.advance_ms(150);
    let back = world.told(0).remove(0);
    assert_eq!((back.status, back.as_of), (Status::Online, None));
    world.advance(secs(5));
    assert_eq!(world.told(0), [], "told once");
}

#[test]
fn what_was_asked_while_stale_is_told_again_when_fresh() {
    let mut world = watching(&[("bob", Status::Online)]);
    world.owner.beats = false;
    world.owner.answers = false;
    world.advance(secs(3));
    world.frames(0);
    world.open(1, "eve");
    world.frame(1, support::watch(1, &["bob"]));
    world.advance_ms(1_100);
    let seen = world.snapshot(1, 1).unwrap().remove(0);
    assert!(seen.as_of.is_some(), "{seen:?}");
    (world.owner.beats, world.owner.answers) = (true, true);
    world.beat();
    world.advance_ms(600);
    assert_eq!(world.told(1).last().map(|p| (p.status, p.as_of)), Some((Status::Online, None)));
}

#[test]
fn a_live_session_here_vouches_for_its_user() {
    let mut world = watching(&[("ana", Status::Online), ("bob", Status::Online)]);
    world.owner.beats = false;
    world.advance(secs(25));
    let told = world.told_statuses(0);
    assert!(told.contains(&("bob".to_owned(), Status::Unknown)), "{told:?}");
    assert!(!told.iter().any(|(name, status)| name == "ana" && *status != Status::Online), "{told:?}");
}

#[test]
fn whoever_leaves_while_its_owner_is_away_is_vouched_for_no_longer() {
    let mut world = watching(&[("ana", Status::Online), ("bob", Status::Online)]);
    world.open(1, "bob");
    world.owner.beats = false;
    world.advance(secs(3));
    assert!(world.told(0).iter().all(|p| p.user_id.as_str() != "bob" || p.as_of.is_none()));
    world.frame(1, ClientFrame::Bye {});
    world.advance_ms(50);
    let told = world.told(0);
    assert!(told.iter().any(|p| p.user_id.as_str() == "bob" && p.as_of.is_some()), "{told:?}");
}

#[test]
fn only_an_active_session_vouches_and_only_for_online() {
    let mut world = watching(&[("bob", Status::Online), ("cat", Status::Idle), ("dan", Status::Dnd)]);
    for (slot, name) in [(1, "bob"), (2, "cat"), (3, "dan")] {
        world.open(slot, name);
    }
    world.owner.beats = false;
    world.advance(secs(3));
    let doubted = |told: Vec<Presence>| -> Vec<String> {
        let doubted = told.into_iter().filter(|presence| presence.as_of.is_some());
        doubted.map(|presence| presence.user_id.as_str().to_owned()).collect()
    };
    assert_eq!(
        doubted(world.told(0)),
        ["cat", "dan"],
        "they may be active elsewhere, or claim something else"
    );
    let heartbeat = |activity| ClientFrame::Heartbeat { activity: Some(activity), id: None };
    world.frame(1, heartbeat(Activity::Idle));
    world.advance_ms(50);
    assert_eq!(doubted(world.told(0)), ["bob"], "now nothing here is active");
    world.frame(1, heartbeat(Activity::Active));
    world.advance_ms(50);
    assert_eq!(world.told(0).iter().map(|presence| presence.as_of).collect::<Vec<_>>(), [None]);
}

#[test]
fn an_owner_that_has_not_settled_vouches_for_who_is_there_and_for_nobody_else() {
    let mut world = watching(&[("bob", Status::Offline), ("cy", Status::Online)]);
    world.owner.settled = false;
    world.advance(secs(3));
    let told: Vec<_> = world.told(0).into_iter().map(|p| (p.user_id, p.status, p.as_of.is_some())).collect();
    let bob = told.iter().find(|(id, ..)| id.as_str() == "bob").unwrap();
    assert_eq!((bob.1, bob.2), (Status::Offline, true));
    assert!(told.iter().all(|(id, _, dated)| id.as_str() != "cy" || !dated), "{told:?}");
    world.owner.settled = true;
    world.advance_ms(400);
    let told = world.told(0);
    let bob = told.iter().find(|p| p.user_id.as_str() == "bob").unwrap();
    assert_eq!((bob.status, bob.as_of), (Status::Offline, None));
}

#[test]
fn an_owner_in_doubt_makes_nothing_fresh_but_who_is_active_here() {
    let mut world = watching(&[("bob", Status::Online), ("cy", Status::Online)]);
    world.open(1, "cy");
    world.owner.settled = false;
    world.owner.sure_at = Some(world.wall(0));
    world.advance_ms(1_700);
    assert_eq!(world.told(0), [], "what was confirmed holds for two seconds");
    world.advance_ms(500);
    let told: Vec<_> = world.told(0).into_iter().map(|p| (p.user_id, p.status, p.as_of.is_some())).collect();
    let of = |name: &str| told.iter().find(|(id, ..)| id.as_str() == name).map(|told| (told.1, told.2));
    assert_eq!(of("bob"), Some((Status::Online, true)));
    assert!(of("cy").is_none_or(|told| told == (Status::Online, false)), "{told:?}");
    world.owner.sure_at = None;
    world.advance_ms(400);
    let bob = world.told(0).into_iter().find(|p| p.user_id.as_str() == "bob").unwrap();
    assert_eq!((bob.status, bob.as_of), (Status::Online, None));
}

#[test]
fn what_a_settled_owner_answers_is_certain_before_its_next_beat() {
    let mut world = World::with(|_| {});
    world.owner.settled = false;
    world.beat();
    world.advance_ms(2_500);
    (world.owner.beats, world.owner.settled) = (false, true);
    let entry = world.owner.entry(world.key("bob"), Status::Idle, None);
    world.owner.users.insert(entry.key, entry);
    world.owner.clock += 1;
    world.open(0, "ana");
    let told = world.watched(0, 1, &["bob", "eve"]);
    let told: Vec<_> = told.iter().map(|p| (p.status, p.as_of)).collect();
    assert_eq!(told, [(Status::Idle, None), (Status::Offline, None)]);
    world.advance_ms(2_100);
    assert!(world.told(0).iter().all(|p| p.as_of.is_some()), "for as long as a beat would make it");
}

#[test]
fn what_an_owner_answers_in_doubt_is_not_made_certain_by_what_it_was_sure_of_before() {
    let mut world = watching(&[("bob", Status::Online)]);
    for (name, status) in [("dan", Status::Online), ("eve", Status::Idle)] {
        let entry = world.owner.entry(world.key(name), status, None);
        world.owner.users.insert(entry.key, entry);
    }
    world.beat();
    world.advance_ms(400);
    (world.owner.settled, world.owner.sure_at) = (false, Some(world.wall(0)));
    world.frame(0, support::watch(2, &["dan", "eve"]));
    world.advance_ms(300);
    let dated = |told: &[Presence]| told.iter().map(|p| (p.status, p.as_of.is_some())).collect::<Vec<_>>();
    let told = world.snapshot(0, 2).unwrap();
    assert_eq!(dated(&told), [(Status::Online, true), (Status::Idle, true)]);
    assert!(world.told(0).iter().all(|p| p.user_id.as_str() != "bob"), "of bob it was sure a moment ago");
    world.owner.sure_at = None;
    world.frame(0, support::watch(3, &["dan", "eve"]));
    world.advance_ms(300);
    assert_eq!(dated(&world.snapshot(0, 3).unwrap()), [(Status::Online, false), (Status::Idle, true)]);
    world.owner.settled = true;
    world.advance_ms(700);
    let told = world.told(0);
    for name in ["dan", "eve"] {
        let last = told.iter().rfind(|p| p.user_id.as_str() == name);
        assert_eq!(last.map(|p| p.as_of), Some(None), "{name}");
    }
}

#[test]
fn who_was_asked_for_in_vain_while_an_owner_doubted_is_asked_for_when_it_has_settled_again() {
    let mut world = watching(&[("bob", Status::Online)]);
    world.owner.settled = false;
    world.beat();
    world.frame(0, support::watch(2, &["eve"]));
    world.advance(secs(2));
    let told = world.snapshot(0, 2).unwrap();
    assert_eq!(told[0].status, Status::Unknown, "an owner in doubt does not tell who was never seen");
    world.owner.settled = true;
    world.advance_ms(500);
    let told = world.told(0);
    let eve = told.iter().rfind(|presence| presence.user_id.as_str() == "eve").unwrap();
    assert_eq!((eve.status, eve.as_of), (Status::Offline, None));
}

#[test]
fn a_live_session_does_not_vouch_for_a_user_who_appears_offline() {
    let mut world = watching(&[("ana", Status::Online), ("bob", Status::Offline)]);
    world.open(1, "bob");
    world.owner.beats = false;
    world.advance(secs(25));
    let told = world.told_statuses(0);
    assert!(told.contains(&("bob".to_owned(), Status::Unknown)), "hidden or gone: as for anybody, {told:?}");
}

/// The owner holds back what it knows of a user, or is sure of it again.
fn hold(world: &mut World, name: &str, held: bool) {
    let key = world.key(name);
    let since = Some(world.wall(0));
    let mut entry = world.owner.entry(key, Status::Online, since);
    entry.public.held = since.filter(|_| held);
    let delta = world.delta(vec![entry]);
    world.handle(Input::Down(delta));
    world.advance_ms(20);
}

#[test]
fn who_is_held_back_is_told_as_not_certain_once_and_others_as_before() {
    let mut world = watching(&[("bob", Status::Online), ("cy", Status::Online)]);
    let since = world.wall(0);
    hold(&mut world, "bob", true);
    let seen = world.told(0);
    assert_eq!((seen.len(), seen[0].status, seen[0].as_of), (1, Status::Online, Some(since)));
    world.advance(secs(5));
    assert_eq!(world.told(0), [], "nothing has changed");
    assert!(look(&mut world, 2, "bob").as_of.is_some() && look(&mut world, 3, "cy").as_of.is_none());
    hold(&mut world, "bob", false);
    let seen = world.told(0);
    assert_eq!((seen.len(), seen[0].status, seen[0].as_of), (1, Status::Online, None));
}

#[test]
fn a_process_that_stood_still_believes_no_view_until_owners_have_answered_anew() {
    let mut world = watching(&[("bob", Status::Online)]);
    let unheard = world.change("bob", Status::Offline);
    drop(unheard);
    world.owner.answers = false;
    world.stand_still(secs(3));
    // What piled up meanwhile: a beat from before the change.
    let mut beat = world.owner.beat();
    beat.owned[0].n -= 1;
    world.handle(Input::Beat(beat));
    assert_eq!(world.gateway.stats().stalls, 1);
    let pulls = world.pulls();
    assert_eq!(pulls.len(), 1, "all of it is asked for");
    world.advance_ms(100);
    let seen = world.told(0);
    assert!(seen.iter().all(|presence| presence.as_of.is_some()), "{seen:?}");
    world.owner.answers = true;
    world.advance_ms(700);
    assert_eq!(told(&mut world).last(), Some(&Status::Offline));
}

#[test]
fn a_beat_that_waited_to_be_read_after_a_stop_vouches_only_for_when_it_was_sent() {
    let mut world = watching(&[("bob", Status::Online)]);
    world.stand_still(secs(3));
    world.beat();
    world.owner.beats = false;
    world.advance_ms(100);
    let sent = world.owner.beat();
    let lost = world.change("bob", Status::Offline);
    drop(lost);
    for _ in 0..9 {
        world.handle(Input::Beat(sent.clone()));
        world.advance_ms(200);
    }
    assert!(world.told(0).iter().all(|presence| presence.as_of.is_none()), "it is not two seconds old");
    for _ in 0..3 {
        world.handle(Input::Beat(sent.clone()));
        world.advance_ms(200);
    }
    let seen = world.told(0);
    assert!(seen.last().is_some_and(|presence| presence.as_of.is_some()), "{seen:?}");
}

#[test]
fn an_owner_that_says_less_than_was_seen_before_is_not_believed_to_be_complete() {
    let mut world = watching(&[("bob", Status::Online)]);
    world.owner.answers = false;
    let lost = world.change("bob", Status::Offline);
    drop(lost);
    world.advance(secs(3));
    let seen = world.told(0);
    assert!(
        seen.last().is_some_and(|presence| presence.as_of.is_some()),
        "beats without their changes: {seen:?}"
    );
}
