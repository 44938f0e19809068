//! What is believed of gateways: streams, syncs, deaths, and when absence means something (R3 to R8).

#![expect(clippy::unwrap_used, reason = "a test ends where something is not as expected")]

mod support;

use herenow_coordinator_core::{Input, Output};
use herenow_protocol::api::Cause;
use herenow_protocol::code::ErrorCode;
use herenow_protocol::frame::ManualStatus;
use herenow_protocol::message::{ApiStatus, ClaimCommand, Ending, SessionChange, Sync, Up};
use herenow_protocol::{Activity, Incarnation, Status};
use support::{World, api, secs};

fn online() -> World {
    let mut world = World::new();
    world.open(0, 1, "ana", Activity::Active);
    world.advance_ms(50);
    world.out.clear();
    world
}

/// A node that started long ago takes over a partition that another owned.
fn take_over(world: &mut World) {
    let seen = herenow_protocol::Epoch { counter: world.epoch().counter + 1, nonce: 1 };
    world.peer_beat("other", 1, false, Some(seen));
    assert!(!world.owns());
    world.advance_ms(1_600);
    assert!(world.owns());
}

#[test]
fn a_report_that_comes_twice_or_late_is_dropped() {
    let mut world = online();
    world.close(0, 1, Ending::Bye);
    let record = world.record(1, "ana", "device 0 1", Activity::Active);
    world.gateways[0].seq = 0;
    let again = world.gateways[0].report(vec![SessionChange::Opened(record)]);
    world.handle(Input::Up(Up::Report(again)));
    world.gateways[0].seq = 2;
    world.advance_ms(50);
    assert_eq!(world.told(), [Status::Offline]);
    assert_eq!(world.core.stats().old_reports, 1);
}

#[test]
fn a_gap_asks_for_everything_and_is_not_applied() {
    let mut world = online();
    world.gateways[0].answers = false;
    let lost = world.ended(0, 1, Ending::Bye);
    let _ = world.gateways[0].report(vec![lost]);
    world.open(0, 2, "bob", Activity::Active);
    assert_eq!(world.resyncs().len(), 1);
    assert_eq!(world.public("bob"), None, "nothing beyond the gap is merged");
    assert_eq!(world.core.stats().gaps, 1);
    world.gateways[0].answers = true;
    world.advance_ms(700);
    assert_eq!((world.status("ana"), world.status("bob")), (Status::Offline, Status::Online));
}

#[test]
fn one_gap_is_asked_for_once_until_the_answer_is_late() {
    let mut world = online();
    world.gateways[0].answers = false;
    world.gateways[0].seq += 1;
    for number in 2..10 {
        world.open(0, number, "bob", Activity::Active);
        world.advance_ms(10);
    }
    assert_eq!(world.resyncs().len(), 1);
    world.advance_ms(1_000);
    let again = world.resyncs().len();
    assert!((1..=3).contains(&again), "each 400 ms at the most: {again}");
}

#[test]
fn a_lost_last_report_is_found_by_the_beat_after_some_patience() {
    let mut world = online();
    let lost = world.ended(0, 1, Ending::Bye);
    let _ = world.gateways[0].report(vec![lost]);
    world.beat_of(0);
    world.advance_ms(99);
    assert_eq!(world.resyncs(), [], "it may be under way");
    world.advance_ms(300);
    assert_eq!(world.told(), [Status::Offline]);
}

#[test]
fn a_set_that_went_wrong_without_a_lost_message_is_found_by_its_digest() {
    let mut world = online();
    world.beat_of(0);
    assert_eq!((world.resyncs().len(), world.core.stats().sets_differed), (0, 0));
    world.gateways[0].sessions.remove(&1);
    world.beat_of(0);
    assert_eq!((world.resyncs().len(), world.core.stats().sets_differed), (1, 1));
}

#[test]
fn a_sync_replaces_what_was_known_and_does_not_merge() {
    let mut world = online();
    world.open(0, 2, "bob", Activity::Active);
    world.advance_ms(50);
    world.gateways[0].sessions.remove(&1);
    world.gateways[0].sessions.get_mut(&2).unwrap().activity = Activity::Idle;
    world.gateways[0].seq += 2;
    world.open(0, 3, "cy", Activity::Active);
    world.advance_ms(50);
    assert_eq!(world.status("bob"), Status::Idle);
    assert_eq!(world.status("cy"), Status::Online);
    assert_eq!(world.status("ana"), Status::Online, "missing without a word: lost, so in grace");
    world.advance(secs(11));
    assert_eq!(world.status("ana"), Status::Offline);
}

#[test]
fn who_is_missing_ended_no_later_than_the_last_that_its_gateway_forgot() {
    for (forgot_ms, rest_ms) in [(4_000, 6_000), (9_500, 500), (60_000, 0)] {
        let mut world = online();
        world.advance(secs(70));
        world.gateways[0].sessions.remove(&1);
        world.gateways[0].forgot = Some(world.ms - forgot_ms);
        world.gateways[0].seq += 1;
        world.open(0, 2, "bob", Activity::Active);
        if rest_ms > 0 {
            world.advance_ms(rest_ms - 100);
            assert_eq!(world.status("ana"), Status::Online, "{forgot_ms}");
        }
        world.advance_ms(300);
        assert_eq!(world.status("ana"), Status::Offline, "{forgot_ms}");
    }
}

#[test]
fn a_sync_tells_how_a_session_ended() {
    for (how, after) in [(Ending::Bye, Status::Offline), (Ending::Lost, Status::Online)] {
        let mut world = online();
        let _ = world.ended(0, 1, how);
        world.gateways[0].seq += 1;
        world.open(0, 2, "bob", Activity::Active);
        world.advance_ms(50);
        assert_eq!(world.status("ana"), after, "{how:?}");
    }
}

#[test]
fn pages_of_a_sync_out_of_order_or_with_a_hole_are_not_taken() {
    let mut world = online();
    world.gateways[0].answers = false;
    world.gateways[0].seq = 5;
    let whole = world.gateways[0].sync(world.ms);
    let record = |world: &World, n| vec![world.record(n, &format!("user {n}"), "phone", Activity::Active)];
    let page = |page, last, sessions| Sync { page, last, sessions, ended: Vec::new(), ..whole.clone() };
    let pages = [
        page(0, false, record(&world, 11)),
        page(1, false, record(&world, 12)),
        page(2, true, record(&world, 13)),
    ];
    let syncs = world.core.stats().syncs;
    for order in [&[1, 2, 0][..], &[0, 2], &[2, 1, 0], &[0, 2, 1], &[1, 2]] {
        for index in order {
            world.handle(Input::Up(Up::Sync(pages[*index].clone())));
        }
        assert_eq!(world.core.stats().syncs, syncs, "{order:?}");
        assert_eq!(world.status("ana"), Status::Online);
    }
    for index in [0, 1, 2] {
        world.handle(Input::Up(Up::Sync(pages[index].clone())));
    }
    assert_eq!(world.core.stats().syncs, syncs + 1);
    for name in ["user 11", "user 12", "user 13"] {
        assert_eq!(world.status(name), Status::Online, "{name}");
    }
}

#[test]
fn a_sync_that_was_overtaken_by_reports_is_dropped() {
    let mut world = online();
    let old = world.gateways[0].sync(world.ms);
    world.close(0, 1, Ending::Bye);
    world.handle(Input::Up(Up::Sync(old)));
    world.advance_ms(50);
    assert_eq!(world.told(), [Status::Offline]);
}

#[test]
fn a_sync_made_before_the_gateway_knew_of_the_epoch_is_asked_for_again() {
    let mut world = online();
    world.gateways[0].answers = false;
    let mut old = world.gateways[0].sync(world.ms);
    old.epoch_seen = herenow_protocol::Epoch::NONE;
    old.sessions.clear();
    world.handle(Input::Up(Up::Sync(old)));
    assert_eq!(world.resyncs().len(), 1);
    world.advance(secs(1));
    assert_eq!(world.told(), []);
}

#[test]
fn the_sessions_of_a_silent_gateway_lapse_together_and_have_grace() {
    let mut world = online();
    world.gateways[0].beats = false;
    world.advance_ms(2_400);
    assert_eq!(world.core.stats().stale_gateways, 1);
    world.advance_ms(2_300);
    assert_eq!(world.core.stats().lapsed_gateways, 0);
    world.advance_ms(600);
    assert_eq!((world.core.stats().lapsed_gateways, world.core.stats().gateways), (1, 0));
    world.advance_ms(9_600);
    assert_eq!(world.told(), []);
    world.advance_ms(600);
    assert_eq!(world.told(), [Status::Offline]);
}

#[test]
fn a_session_that_lapsed_with_its_gateway_and_lived_on_has_the_grace_of_its_real_end() {
    let mut world = online();
    world.gateways[0].beats = false;
    world.advance_ms(5_500);
    assert_eq!(world.core.stats().lapsed_gateways, 1, "its grace would end after 15 s");
    world.advance(secs(7));
    let _ = world.ended(0, 1, Ending::Lost);
    world.gateways[0].beats = true;
    world.advance_ms(500);
    world.out.clear();
    world.advance_ms(9_000);
    assert_eq!(world.told(), [], "lost 9.5 s ago");
    world.advance_ms(1_000);
    assert_eq!(world.told(), [Status::Offline]);
}

#[test]
fn a_session_that_came_and_was_lost_unheard_has_its_grace_from_a_settled_owner_too() {
    let mut world = online();
    world.close(0, 1, Ending::Lost);
    world.advance(secs(5));
    world.gateways[0].answers = false;
    let record = world.record(2, "ana", "device 0 1", Activity::Active);
    world.gateways[0].sessions.insert(2, record);
    world.advance(secs(2));
    let _ = world.ended(0, 2, Ending::Lost);
    world.gateways[0].seq += 2;
    world.gateways[0].answers = true;
    assert!(world.settled());
    world.advance_ms(9_500);
    assert_eq!(world.told(), [], "16.5 s after the first loss, and 9.5 s after the second");
    world.advance_ms(1_000);
    assert_eq!(world.told(), [Status::Offline]);
}

#[test]
fn a_grace_that_ended_with_its_devices_return_does_not_come_back_with_a_sync() {
    let mut world = online();
    world.close(0, 1, Ending::Lost);
    world.open_on(0, 2, "ana", "device 0 1", Activity::Active);
    world.close(0, 2, Ending::Bye);
    world.advance_ms(100);
    assert_eq!(world.told(), [Status::Offline]);
    world.gateways[0].seq += 1;
    world.advance(secs(2));
    assert_eq!(world.told(), []);
}

#[test]
fn any_word_of_a_gateway_is_a_sign_of_life() {
    let mut world = online();
    world.gateways[0].beats = false;
    for number in 2..10 {
        world.advance(secs(3));
        world.open(0, number, "bob", Activity::Active);
    }
    assert_eq!(world.core.stats().lapsed_gateways, 0);
}

#[test]
fn users_of_a_dead_gateway_who_come_back_elsewhere_are_never_seen_to_leave() {
    let mut world = online();
    let other = world.add_gateway("g2");
    world.advance_ms(600);
    world.out.clear();
    world.gateways[0].beats = false;
    world.advance(secs(12));
    world.open_on(other, 1, "ana", "device 0 1", Activity::Active);
    world.advance(secs(60));
    assert_eq!(world.told(), []);
}

#[test]
fn a_reborn_gateway_ends_its_earlier_life_with_grace() {
    let mut world = online();
    world.gateways[0].reborn();
    world.beat_of(0);
    assert_eq!(world.core.stats().lapsed_gateways, 1);
    world.advance(secs(9));
    assert_eq!(world.told(), [], "they are coming back");
    world.advance(secs(2));
    assert_eq!(world.told(), [Status::Offline]);
}

#[test]
fn nothing_of_an_earlier_life_counts() {
    let mut world = online();
    let ghost = world.gateways[0].sync(world.ms);
    let ghost_beat = world.gateways[0].beat();
    let record = world.record(9, "ghost", "phone", Activity::Active);
    let ghost_report = world.gateways[0].report(vec![SessionChange::Opened(record)]);
    world.gateways[0].reborn();
    world.beat_of(0);
    world.open(0, 1, "ana", Activity::Idle);
    world.handle(Input::Up(Up::Report(ghost_report)));
    world.handle(Input::Up(Up::Sync(ghost)));
    world.handle(Input::GatewayBeat(ghost_beat));
    world.advance(secs(12));
    assert_eq!(world.status("ana"), Status::Idle);
    assert_eq!(world.public("ghost"), None);
    assert_eq!(world.gateways[0].origin.incarnation, Incarnation(2));
}

#[test]
fn when_most_gateways_fall_silent_at_once_none_is_taken_for_dead_for_a_while() {
    let mut world = online();
    for name in ["g2", "g3"] {
        world.add_gateway(name);
    }
    world.advance_ms(700);
    world.gateways[0].beats = false;
    world.gateways[1].beats = false;
    world.advance(secs(8));
    assert!(world.core.stats().frozen);
    assert_eq!(world.core.stats().lapsed_gateways, 0);
    let doubts =
        |world: &mut World| (world.beats().last().unwrap().owned[0].doubts, world.pull(&["ana"])[0].as_of);
    let (beat, as_of) = doubts(&mut world);
    assert!(beat && as_of.is_some_and(|at| at < world.wall(0)) && world.settled(), "it doubts its own ears");
    world.advance(secs(5));
    assert!(!world.core.stats().frozen, "the freeze ends by itself");
    assert_eq!(doubts(&mut world), (false, None));
    assert_eq!(world.core.stats().lapsed_gateways, 2);
    world.advance(secs(11));
    assert_eq!(world.told(), [Status::Offline]);
}

#[test]
fn gateways_that_are_heard_again_in_the_freeze_have_lost_nothing() {
    let mut world = online();
    for name in ["g2", "g3"] {
        world.add_gateway(name);
    }
    world.advance_ms(700);
    world.gateways[0].beats = false;
    world.gateways[1].beats = false;
    world.advance(secs(9));
    world.gateways[0].beats = true;
    world.gateways[1].beats = true;
    world.advance(secs(30));
    assert_eq!(world.core.stats().lapsed_gateways, 0);
    assert_eq!(world.told(), []);
}

#[test]
fn a_young_node_waits_before_it_says_who_is_absent() {
    let mut world = World::fresh(|_| {});
    world.add_gateway("g1");
    world.advance_ms(2_000);
    assert!(world.owns() && !world.settled());
    world.advance_ms(3_400);
    assert!(!world.settled(), "5.4 s: a gateway may be there that it has not heard");
    world.advance_ms(400);
    assert!(world.settled());
}

#[test]
fn a_node_that_heard_nothing_since_it_began_is_still_young() {
    let mut world = World::fresh(|_| {});
    world.add_gateway("g1");
    world.echo = false;
    world.advance_ms(30_000);
    world.echo = true;
    world.advance_ms(3_000);
    assert!(world.owns() && !world.settled(), "another gateway may be there that it could not hear");
    world.advance_ms(3_000);
    assert!(world.settled());
}

#[test]
fn an_old_node_settles_as_soon_as_every_gateway_has_answered() {
    let mut world = World::fresh(|_| {});
    world.add_gateway("g1");
    world.advance(secs(6));
    take_over(&mut world);
    assert!(world.settled());
}

#[test]
fn a_gateway_that_does_not_answer_keeps_an_owner_from_settling() {
    let mut world = World::new();
    let other = world.add_gateway("g2");
    world.advance_ms(600);
    world.gateways[other].answers = false;
    take_over(&mut world);
    world.advance(secs(20));
    assert!(!world.settled());
    world.gateways[other].answers = true;
    world.advance_ms(700);
    assert!(world.settled());
}

#[test]
fn only_good_news_is_told_before_an_owner_settles_and_the_rest_then() {
    let mut world = World::new();
    let other = world.add_gateway("g2");
    world.advance_ms(600);
    world.open(0, 1, "ana", Activity::Active);
    world.open(0, 2, "bob", Activity::Active);
    world.gateways[other].answers = false;
    take_over(&mut world);
    world.out.clear();
    world.open(0, 3, "cy", Activity::Active);
    world.open(0, 4, "dan", Activity::Idle);
    world.close(0, 1, Ending::Bye);
    world.activity(0, 2, Activity::Idle);
    let left_at = world.wall(0);
    world.advance_ms(100);
    let seen: Vec<_> = world.transitions().into_iter().map(|t| t.presence.user_id.to_string()).collect();
    assert_eq!(seen, ["cy"], "who is idle or gone here may be active at the other gateway");
    assert_eq!(world.status("ana"), Status::Online, "as it was told last");
    assert_eq!(world.public("dan"), None, "not stated");
    let pages = world.pull(&["dan", "nobody"]);
    assert_eq!(pages[0].as_of, None);
    let page = world.pull(&["ana", "cy"]).remove(0);
    let held: Vec<_> = page.entries.iter().map(|entry| entry.public.held).collect();
    assert_eq!((page.as_of, held), (None, vec![Some(left_at), None]), "ana is told as there, and has left");
    assert!(!pages[0].settled && pages[0].entries.is_empty());
    world.gateways[other].answers = true;
    world.advance_ms(700);
    let mut told: Vec<_> = world
        .transitions()
        .into_iter()
        .map(|t| (t.presence.user_id.to_string(), t.presence.status))
        .collect();
    told.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(world.pull(&["ana"])[0].as_of, None);
    let expected = [("ana", Status::Offline), ("bob", Status::Idle), ("dan", Status::Idle)];
    let expected: Vec<_> = expected.into_iter().map(|(name, status)| (name.to_owned(), status)).collect();
    assert_eq!(told, expected);
}

#[test]
fn a_new_owner_changes_nobodys_status_and_goes_on_with_their_grace() {
    let mut world = World::new();
    world.open(0, 1, "ana", Activity::Active);
    world.open(0, 2, "bob", Activity::Idle);
    world.open(0, 3, "cy", Activity::Active);
    world.advance_ms(50);
    world.close(0, 3, Ending::Lost);
    world.advance_ms(4_000);
    take_over(&mut world);
    let started = world.ms;
    assert_eq!(world.status("ana"), Status::Online);
    assert_eq!(world.status("bob"), Status::Idle);
    assert_eq!(world.status("cy"), Status::Online, "in grace");
    world.out.clear();
    world.advance(secs(11));
    let transitions = world.transitions();
    assert_eq!(transitions.len(), 1);
    assert_eq!(transitions[0].cause, Cause::GraceOver);
    assert!(world.ms > started);
    let left = transitions[0].presence.last_updated.unwrap().as_millis() - support::WALL_MS - started;
    assert!(left < 6_000, "four seconds of the grace were over before: {left}");
}

#[test]
fn a_new_owner_tells_since_when_by_the_sessions() {
    let mut world = World::new();
    world.open(0, 1, "ana", Activity::Active);
    let since = world.wall(0);
    world.advance(secs(100));
    take_over(&mut world);
    assert_eq!(world.public("ana").unwrap().since, Some(since));
}

#[test]
fn lost_messages_take_back_the_right_to_say_who_is_absent_until_gateways_confirm() {
    let mut world = online();
    world.handle(Input::BusLossy);
    assert!(!world.settled());
    world.close(0, 1, Ending::Bye);
    world.advance_ms(20);
    let before = world.told();
    world.advance_ms(1_000);
    assert!(world.settled());
    assert_eq!((before, world.told()), (Vec::new(), vec![Status::Offline]));
}

#[test]
fn a_gateway_without_sessions_is_asked_once_and_then_confirms_by_its_beats() {
    let mut world = World::new();
    world.out.clear();
    world.advance(secs(30));
    assert_eq!(world.resyncs(), []);
    assert!(world.settled());
}

#[test]
fn while_frozen_nothing_settles() {
    let mut world = World::new();
    for name in ["g2", "g3"] {
        world.add_gateway(name);
    }
    world.advance_ms(700);
    world.gateways[0].beats = false;
    world.gateways[1].beats = false;
    world.advance(secs(3));
    assert!(world.core.stats().frozen);
    world.handle(Input::BusLossy);
    world.gateways[0].answers = false;
    world.advance(secs(3));
    assert!(!world.settled());
    assert!(!world.out.iter().any(|output| matches!(output, Output::Transition(_))));
}

/// An owner that waits for the answer of a second gateway, and hears the first.
fn unsettled() -> World {
    let mut world = World::new();
    let other = world.add_gateway("g2");
    world.advance_ms(600);
    world.gateways[other].answers = false;
    take_over(&mut world);
    world.out.clear();
    world
}

#[test]
fn a_backends_word_holds_before_an_owner_settles() {
    let mut world = unsettled();
    world.open(0, 1, "ana", Activity::Active);
    let claimed = world.claim("ana", api(ApiStatus::Offline, None));
    assert_eq!(claimed.entry.public.status, Status::Offline, "whatever other sessions there are");
    assert_eq!(world.status("ana"), Status::Offline);
}

#[test]
fn words_beside_a_status_do_not_make_it_certain() {
    let mut world = unsettled();
    world.open(0, 1, "ana", Activity::Active);
    let text = Some(Box::from("hello"));
    let status = ManualStatus::Auto;
    world.claim("ana", ClaimCommand::Manual { status, text, emoji: None, expires_at: None });
    world.activity(0, 1, Activity::Idle);
    assert_eq!(world.status("ana"), Status::Online, "she may be active at the other gateway");
}

#[test]
fn nobody_is_erased_before_an_owner_settles() {
    let mut world = unsettled();
    let refused = world.try_claim("ana", ClaimCommand::Erase).outcome;
    assert_eq!(refused, Err(ErrorCode::Unavailable), "she may be live at the other gateway");
    assert_eq!(world.told(), []);
    world.gateways[1].answers = true;
    world.advance_ms(700);
    assert!(world.try_claim("ana", ClaimCommand::Erase).outcome.is_ok());
}
