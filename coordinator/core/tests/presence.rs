//! What becomes of sessions: grace, leaving, silence, devices, limits.

#![expect(clippy::unwrap_used, reason = "a test ends where something is not as expected")]

mod support;

use herenow_protocol::api::Cause;
use herenow_protocol::message::{Ending, SessionChange};
use herenow_protocol::{Activity, Status};
use support::{World, secs};

fn online() -> World {
    let mut world = World::new();
    world.open(0, 1, "ana", Activity::Active);
    world.advance_ms(20);
    assert_eq!(world.told(), [Status::Online]);
    world
}

#[test]
fn a_lost_session_counts_until_the_grace_is_over() {
    let mut world = online();
    world.close(0, 1, Ending::Lost);
    world.advance_ms(9_999);
    assert_eq!(world.told(), []);
    assert_eq!(world.status("ana"), Status::Online);
    world.advance_ms(1);
    let transitions = world.transitions();
    assert_eq!(transitions.len(), 1);
    let offline = &transitions[0];
    assert_eq!((offline.from, offline.presence.status), (Status::Online, Status::Offline));
    assert_eq!(offline.cause, Cause::GraceOver);
    assert_eq!(offline.presence.last_updated, Some(world.wall(0)), "last seen");
}

#[test]
fn with_no_grace_a_lost_session_is_gone_at_once() {
    let mut world = World::with(|config| config.grace_period = secs(0));
    world.open(0, 1, "ana", Activity::Active);
    world.close(0, 1, Ending::Lost);
    world.advance_ms(20);
    assert_eq!(world.told().last(), Some(&Status::Offline));
}

#[test]
fn whoever_says_bye_is_gone_at_once() {
    let mut world = online();
    world.close(0, 1, Ending::Bye);
    world.advance_ms(10);
    let transitions = world.transitions();
    assert_eq!(transitions[0].presence.status, Status::Offline);
    assert_eq!(transitions[0].cause, Cause::Left);
}

#[test]
fn whoever_was_silent_has_had_its_time_and_is_gone_at_once() {
    let mut world = online();
    world.close(0, 1, Ending::Silent);
    world.advance_ms(10);
    let transitions = world.transitions();
    assert_eq!(transitions[0].presence.status, Status::Offline);
    assert_eq!(transitions[0].cause, Cause::Silent);
}

#[test]
fn a_reload_inside_the_grace_is_seen_by_nobody() {
    let mut world = online();
    let before = world.public("ana");
    world.out.clear();
    for number in 2..6 {
        world.close(0, number - 1, Ending::Lost);
        world.advance(secs(9));
        world.open_on(0, number, "ana", "device 0 1", Activity::Active);
        world.advance(secs(20));
    }
    assert_eq!(world.deltas(), []);
    assert_eq!(world.changes(), []);
    assert_eq!(world.public("ana"), before, "nor is a number used");
}

#[test]
fn a_device_that_is_back_ends_the_grace_of_its_lost_session() {
    let mut world = online();
    world.close(0, 1, Ending::Lost);
    world.open_on(0, 2, "ana", "device 0 1", Activity::Idle);
    world.advance_ms(20);
    assert_eq!(world.told(), [Status::Idle], "the lost session, which was active, no longer counts");
    world.close(0, 2, Ending::Bye);
    world.advance_ms(20);
    assert_eq!(world.told(), [Status::Offline]);
}

#[test]
fn another_device_does_not_end_the_grace_of_a_lost_session() {
    let mut world = online();
    world.close(0, 1, Ending::Lost);
    world.open_on(0, 2, "ana", "another", Activity::Idle);
    world.advance(secs(5));
    assert_eq!(world.told(), []);
    world.advance(secs(6));
    assert_eq!(world.told(), [Status::Idle]);
}

#[test]
fn a_device_may_have_several_live_sessions() {
    let mut world = online();
    world.open_on(0, 2, "ana", "device 0 1", Activity::Active);
    world.close(0, 2, Ending::Bye);
    world.advance(secs(60));
    assert_eq!(world.told(), []);
    assert_eq!(world.status("ana"), Status::Online);
}

#[test]
fn of_two_tabs_one_that_closes_changes_nothing() {
    for how in [Ending::Bye, Ending::Lost, Ending::Silent] {
        let mut world = online();
        world.open(0, 2, "ana", Activity::Active);
        world.close(0, 1, how);
        world.advance(secs(60));
        assert_eq!(world.deltas(), [], "{how:?}");
    }
}

#[test]
fn a_session_at_another_gateway_holds_a_user_as_well() {
    let mut world = online();
    let other = world.add_gateway("g2");
    world.advance_ms(600);
    world.open(other, 1, "ana", Activity::Active);
    world.close(0, 1, Ending::Bye);
    world.advance(secs(30));
    assert_eq!(world.told(), []);
    world.close(other, 1, Ending::Bye);
    world.advance_ms(20);
    assert_eq!(world.told(), [Status::Offline]);
}

#[test]
fn the_time_is_that_of_the_present_status_and_other_changes_leave_it() {
    let mut world = online();
    let since = world.public("ana").unwrap().since;
    world.advance(secs(5));
    world.open(0, 2, "ana", Activity::Background);
    world.activity(0, 1, Activity::Idle);
    world.advance_ms(20);
    let idle = world.public("ana").unwrap();
    assert_eq!(idle.status, Status::Idle);
    assert_eq!(idle.since, Some(world.wall(0).min(idle.since.unwrap())));
    assert!(idle.since > since);
    world.advance(secs(5));
    world.close(0, 2, Ending::Bye);
    world.advance_ms(20);
    let later = world.public("ana").unwrap();
    assert!(idle.reachable && !later.reachable);
    assert!(later.n > idle.n);
    assert_eq!(later.since, idle.since);
}

#[test]
fn kinds_of_device_are_published_only_where_the_operator_wants_it() {
    for (publish, seen) in [(false, 0), (true, 1)] {
        let mut world = World::with(|config| config.publish_devices = publish);
        world.open(0, 1, "ana", Activity::Active);
        assert_eq!(world.public("ana").unwrap().devices.len(), seen);
    }
}

#[test]
fn a_wave_of_losses_stretches_the_grace() {
    let mut world = World::with(|config| config.grace_rate = 10);
    let records: Vec<_> =
        (1..=300).map(|i| world.record(i, &format!("user {i}"), "phone", Activity::Active)).collect();
    for record in &records {
        world.gateways[0].sessions.insert(record.number.0, record.clone());
    }
    world.report(0, records.into_iter().map(SessionChange::Opened).collect());
    world.advance_ms(50);
    world.out.clear();
    let ends = (1..=300).map(|number| world.ended(0, number, Ending::Lost)).collect();
    world.report(0, ends);
    world.advance_ms(9_900);
    assert_eq!(world.told().len(), 0);
    world.advance(secs(10));
    let half = world.told().len();
    assert!((150..=250).contains(&half), "300 at 10 a second come back in 30 s: {half} gone after 20 s");
    world.advance_ms(10_200);
    assert_eq!(half + world.told().len(), 300);
}

#[test]
fn a_user_has_so_many_sessions_that_count_and_of_one_more_the_oldest_goes() {
    let mut world = World::with(|config| config.max_sessions_per_user = 3);
    for number in 1..=3 {
        world.open(0, number, "ana", Activity::Active);
    }
    assert_eq!(world.explain("ana").sessions.len(), 3);
    world.open(0, 4, "ana", Activity::Active);
    let sessions: Vec<String> = world.explain("ana").sessions.into_iter().map(|s| s.session).collect();
    assert_eq!(sessions, ["g1-0/2", "g1-0/3", "g1-0/4"]);
}

#[test]
fn a_partition_knows_so_many_users_and_of_one_more_the_longest_offline_is_forgotten() {
    let mut world = World::with(|config| config.max_users_per_partition = 4);
    for (number, name) in (1..).zip(["a", "b", "c", "d"]) {
        world.open(0, number, name, Activity::Active);
        world.close(0, number, Ending::Bye);
        world.advance_ms(20);
    }
    assert_eq!(world.core.stats().users, 4);
    world.open(0, 9, "e", Activity::Active);
    assert_eq!(world.core.stats().users, 4);
    assert_eq!(world.public("a"), None, "the longest offline");
    assert!(world.public("b").is_some());
    assert_eq!(world.status("e"), Status::Online);
}

#[test]
fn who_is_there_is_never_forgotten() {
    let mut world = World::with(|config| config.max_users_per_partition = 2);
    for (number, name) in (1..).zip(["a", "b", "c", "d"]) {
        world.open(0, number, name, Activity::Active);
    }
    for name in ["a", "b", "c", "d"] {
        assert_eq!(world.status(name), Status::Online, "sessions are limited where they are held");
    }
}

#[test]
fn a_change_of_activity_is_a_transition_with_its_cause() {
    let mut world = online();
    world.activity(0, 1, Activity::Idle);
    world.advance_ms(20);
    let transitions = world.transitions();
    assert_eq!(transitions[0].cause, Cause::Activity);
    assert_eq!((transitions[0].from, transitions[0].presence.status), (Status::Online, Status::Idle));
}

#[test]
fn changes_of_sessions_that_nobody_opened_do_nothing() {
    let mut world = World::new();
    let (number, key) = (herenow_protocol::SessionNumber(77), world.key("nobody"));
    let since = world.wall(0);
    world.report(
        0,
        vec![
            SessionChange::Activity { number, key, activity: Activity::Active, since },
            SessionChange::Closed { number, key, how: Ending::Lost },
        ],
    );
    world.advance(secs(20));
    assert_eq!(world.deltas(), []);
    assert_eq!(world.core.stats().users, 0);
}
