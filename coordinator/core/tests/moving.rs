//! Gateways that leave in order: their sessions move, and nobody waits for them.

#![expect(clippy::unwrap_used, reason = "a test ends where something is not as expected")]

mod support;

use herenow_coordinator_core::Input;
use herenow_protocol::api::Cause;
use herenow_protocol::message::{Ending, GatewayBeat, SessionChange};
use herenow_protocol::{Activity, Status};
use support::{World, secs};

/// Two gateways; ana and bob at the first.
fn world() -> World {
    let mut world = World::new();
    world.add_gateway("g2");
    world.advance_ms(600);
    world.open(0, 1, "ana", Activity::Active);
    world.open(0, 2, "bob", Activity::Idle);
    world.advance_ms(50);
    world.out.clear();
    world
}

/// The gateway says its last word and is never heard again.
fn leave(world: &mut World, index: usize) {
    world.gateways[index].beats = false;
    world.gateways[index].answers = false;
    let beat = world.gateways[index].beat();
    world.handle(Input::GatewayBeat(GatewayBeat { left: true, ..beat }));
}

#[test]
fn a_session_that_moves_counts_for_the_whole_window_as_it_was() {
    let mut world = world();
    world.close(0, 1, Ending::Moving);
    world.close(0, 2, Ending::Moving);
    world.advance_ms(14_900);
    assert_eq!((world.status("ana"), world.status("bob")), (Status::Online, Status::Idle));
    world.open_on(1, 1, "bob", "device 0 2", Activity::Idle);
    world.advance_ms(300);
    let seen = world.transitions();
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert_eq!((seen[0].user.as_str(), seen[0].presence.status), ("ana", Status::Offline));
    assert_eq!(seen[0].cause, Cause::GraceOver, "who does not come back was lost");
    assert_eq!(world.status("bob"), Status::Idle);
}

/// Ana's device opens a session at the second gateway after it lost that at the first, which is heard of later.
fn come_back_unheard(world: &mut World, how: Ending) -> SessionChange {
    let lost = world.ended(0, 1, how);
    world.open_on(1, 1, "ana", "device 0 1", Activity::Active);
    lost
}

#[test]
fn a_device_that_is_heard_to_come_back_before_it_was_lost_is_not_waited_for_once_it_leaves() {
    for how in [Ending::Moving, Ending::Lost] {
        let mut world = world();
        let lost = come_back_unheard(&mut world, how);
        world.advance_ms(20);
        world.report(0, vec![lost]);
        world.advance_ms(3_000);
        assert_eq!(world.told(), [], "it is there");
        world.close(1, 1, Ending::Bye);
        world.advance_ms(50);
        assert_eq!(world.told(), [Status::Offline], "{how:?}");
    }
}

#[test]
fn a_device_that_came_back_and_left_before_a_sync_tells_that_it_was_lost_is_not_waited_for() {
    let mut world = world();
    come_back_unheard(&mut world, Ending::Moving);
    // The report was lost: only the next beat tells that there was one.
    world.gateways[0].seq += 1;
    world.close(1, 1, Ending::Bye);
    world.advance_ms(1_000);
    assert_eq!(world.told(), [Status::Offline]);
}

#[test]
fn what_a_gateway_opens_late_does_not_end_the_grace_of_where_the_device_is() {
    let mut world = world();
    // The device gave that up before it came to the first gateway; the second one stood still meanwhile.
    world.open_on(1, 1, "ana", "device 0 1", Activity::Active);
    world.advance_ms(1_400);
    world.close(0, 1, Ending::Lost);
    world.advance_ms(8_000);
    world.close(1, 1, Ending::Silent);
    world.advance_ms(1_500);
    assert_eq!(world.told(), [], "the grace of the loss is not over");
    world.advance_ms(700);
    assert_eq!(world.told(), [Status::Offline]);
}

#[test]
fn of_a_device_that_is_heard_to_come_back_before_it_was_lost_the_new_session_says_what_it_does() {
    let mut world = world();
    let lost = world.ended(0, 1, Ending::Lost);
    world.open_on(1, 1, "ana", "device 0 1", Activity::Idle);
    world.report(0, vec![lost]);
    world.advance_ms(50);
    assert_eq!(world.told(), [Status::Idle]);
}

#[test]
fn one_of_two_tabs_of_a_device_that_is_lost_later_is_waited_for() {
    let mut world = world();
    world.open_on(1, 1, "ana", "device 0 1", Activity::Idle);
    world.advance_ms(2_100);
    world.out.clear();
    world.close(0, 1, Ending::Lost);
    world.close(1, 1, Ending::Bye);
    world.advance_ms(9_800);
    assert_eq!(world.told(), []);
    world.advance_ms(300);
    assert_eq!(world.told(), [Status::Offline]);
}

#[test]
fn who_moves_is_waited_for_even_where_who_is_lost_is_not() {
    let mut world = World::with(|config| config.grace_period = secs(0));
    world.open(0, 1, "ana", Activity::Active);
    world.open(0, 2, "bob", Activity::Active);
    world.advance_ms(50);
    world.out.clear();
    world.close(0, 1, Ending::Moving);
    world.close(0, 2, Ending::Lost);
    world.advance_ms(14_900);
    assert_eq!(world.told(), [Status::Offline]);
    assert_eq!(world.status("ana"), Status::Online);
    world.advance_ms(200);
    assert_eq!(world.told(), [Status::Offline]);
}

#[test]
fn a_gateway_that_left_is_not_waited_for_and_what_it_still_held_moves() {
    let mut world = world();
    leave(&mut world, 0);
    world.advance_ms(400);
    let stats = world.core.stats();
    assert_eq!((stats.gateways, stats.left_gateways, stats.lapsed_gateways), (1, 1, 0));
    world.advance_ms(14_500);
    assert_eq!(world.told(), []);
    world.open_on(1, 1, "ana", "device 0 1", Activity::Active);
    world.advance_ms(600);
    assert_eq!(world.told(), [Status::Offline], "bob did not come back");
    assert_eq!(world.status("ana"), Status::Online);
}

#[test]
fn reports_that_the_last_word_overtook_still_count() {
    let mut world = world();
    let bye = world.ended(0, 2, Ending::Bye);
    let late = world.gateways[0].report(vec![bye]);
    leave(&mut world, 0);
    world.advance_ms(50);
    world.handle(Input::Up(herenow_protocol::message::Up::Report(late)));
    world.advance_ms(300);
    assert_eq!(world.told(), [Status::Offline], "bob took its leave");
    assert_eq!(world.core.stats().gateways, 1);
}

#[test]
fn what_comes_of_a_life_that_left_does_not_bring_it_back_and_a_later_life_does() {
    let mut world = world();
    leave(&mut world, 0);
    world.advance_ms(400);
    let ghost = world.record(3, "cy", "phone", Activity::Active);
    world.report(0, vec![SessionChange::Opened(ghost)]);
    world.beat_of(0);
    assert_eq!(world.core.stats().gateways, 1);
    assert_eq!(world.public("cy").map(|shown| shown.status), None);
    world.gateways[0].reborn();
    world.gateways[0].answers = true;
    world.beat_of(0);
    assert_eq!(world.core.stats().gateways, 2);
    world.open_on(0, 1, "ana", "device 0 1", Activity::Active);
    world.advance_ms(400);
    assert_eq!(world.told(), []);
}

#[test]
fn a_later_life_that_comes_at_once_does_not_cost_the_earlier_ones_sessions_their_window() {
    let mut world = world();
    world.close(0, 1, Ending::Moving);
    world.close(0, 2, Ending::Moving);
    leave(&mut world, 0);
    world.gateways[0].reborn();
    world.gateways[0].answers = true;
    world.beat_of(0);
    world.advance_ms(14_000);
    assert_eq!(world.told(), []);
}

#[test]
fn a_sync_tells_a_new_owner_who_moves_and_it_goes_on_waiting() {
    let mut world = world();
    let _ = world.ended(0, 2, Ending::Moving);
    world.gateways[0].seq += 1;
    world.advance_ms(5_000);
    let seen = herenow_protocol::Epoch { counter: world.epoch().counter + 1, nonce: 1 };
    world.peer_beat("other", 1, false, Some(seen));
    world.gateways[0].beats = true;
    for _ in 0..4 {
        world.advance_ms(500);
    }
    assert!(world.owns());
    world.out.clear();
    world.advance_ms(7_500);
    assert_eq!(world.status("bob"), Status::Idle, "14.5 s");
    world.advance_ms(1_000);
    assert_eq!(world.status("bob"), Status::Offline, "15.5 s");
}

#[test]
fn a_partition_claimed_after_a_gateway_left_waits_for_those_who_may_be_on_their_way() {
    let mut world = world();
    leave(&mut world, 0);
    world.advance_ms(400);
    let seen = herenow_protocol::Epoch { counter: world.epoch().counter + 1, nonce: 1 };
    world.peer_beat("other", 1, false, Some(seen));
    world.advance_ms(10_000);
    assert!(world.owns() && !world.settled(), "only the old owner knew of them");
    world.advance_ms(6_000);
    assert!(world.settled());
}

/// A partition changes hands to a coordinator that did not listen yet when a gateway died, `mourning_ms` before that is
/// over.
fn taken_over_in_mourning(mourning_ms: u64) -> World {
    let mut world = World::fresh(|_| {});
    world.add_gateway("g1");
    let epoch = herenow_protocol::Epoch { counter: 7, nonce: 1 };
    for number in 1..=24 {
        world.peer_beat("other", number, false, Some(epoch));
        world.advance_ms(250);
    }
    assert!(!world.owns());
    world.peer_mourns("other", 25, mourning_ms);
    world.advance_ms(500);
    assert!(world.owns(), "{:?}", world.core.stats());
    world
}

#[test]
fn who_takes_over_waits_for_sessions_of_gateways_that_only_others_knew() {
    assert!(taken_over_in_mourning(0).settled(), "nothing to wait for");
    let mut world = taken_over_in_mourning(9_000);
    world.advance_ms(8_000);
    assert!(!world.settled());
    world.advance_ms(1_000);
    assert!(world.settled());
}

#[test]
fn nobody_makes_another_wait_for_longer_than_a_grace_can_be() {
    let mut world = taken_over_in_mourning(u64::MAX);
    world.advance(world.config.grace_max);
    world.advance_ms(500);
    assert!(world.settled());
}
