//! What sessions are sent, and when: the latest values, one frame a window, each encoded once and never stale.

#![expect(clippy::unwrap_used, reason = "a test ends where something is not as expected")]

mod support;

use herenow_gateway_core::{Input, Output, Slot};
use herenow_protocol::Status;
use herenow_protocol::frame::ServerFrame;
use support::{World, many, secs};

const TURNS: [Status; 4] = [Status::Online, Status::Idle, Status::Dnd, Status::Offline];

fn pair() -> World {
    let mut world = World::new();
    for (slot, name) in [(0, "ana"), (1, "eve")] {
        world.open(slot, name);
        world.watched(slot, 1, &["bob", "cy"]);
    }
    world.advance_ms(100);
    world.out.clear();
    world
}

fn readies(world: &mut World, slot: u32) -> usize {
    let out = std::mem::take(&mut world.out);
    out.iter().filter(|output| **output == Output::Ready(Slot(slot))).count()
}

#[test]
fn while_a_socket_is_full_changes_of_one_user_become_one_value() {
    let mut world = pair();
    for turn in 0..1_000 {
        world.publish("bob", TURNS[turn % 4]);
        world.publish("cy", TURNS[(turn + 1) % 4]);
        world.advance_ms(1);
    }
    let frames = world.frames(0);
    let [ServerFrame::Presence { users }] = frames.as_slice() else { panic!("{frames:?}") };
    let mut statuses: Vec<_> = users.iter().map(|p| (p.user_id.as_str(), p.status)).collect();
    statuses.sort_by_key(|(name, _)| *name);
    assert_eq!(statuses, [("bob", TURNS[999 % 4]), ("cy", TURNS[1_000 % 4])]);
}

#[test]
fn the_first_change_after_a_silence_is_sent_at_once_and_the_next_wait_for_the_window() {
    let mut world = pair();
    world.publish("bob", Status::Online);
    assert_eq!(readies(&mut world, 0), 1);
    assert_eq!(world.told(0).len(), 1);
    world.publish("bob", Status::Idle);
    world.advance_ms(4);
    world.publish("bob", Status::Dnd);
    world.advance_ms(5);
    assert_eq!(readies(&mut world, 0), 0);
    assert_eq!(world.frames(0), []);
    world.advance_ms(1);
    assert_eq!(readies(&mut world, 0), 1, "ten milliseconds after the frame before");
    let told = world.told(0);
    assert_eq!(told.iter().map(|p| p.status).collect::<Vec<_>>(), [Status::Dnd]);
}

#[test]
fn with_no_window_nothing_waits() {
    let mut world = World::with(|config| config.flush_window = secs(0));
    world.open(0, "ana");
    world.watched(0, 1, &["bob"]);
    for turn in 0..8 {
        world.publish("bob", TURNS[turn % 4]);
        assert_eq!(world.told(0).len(), 1);
    }
}

#[test]
fn a_session_is_called_ready_once_until_it_was_found_empty() {
    let mut world = pair();
    world.publish("bob", Status::Online);
    world.publish("cy", Status::Online);
    world.publish("bob", Status::Idle);
    world.advance_ms(100);
    assert_eq!(readies(&mut world, 0), 1);
    world.frames(0);
    world.advance_ms(100);
    world.publish("bob", Status::Online);
    assert_eq!(readies(&mut world, 0), 1);
}

#[test]
fn what_waited_for_the_window_is_never_forgotten() {
    let mut world = pair();
    let mut last = Status::Offline;
    for turn in 0..200_usize {
        last = TURNS[turn % 3];
        world.publish("bob", last);
        world.advance_ms(turn as u64 % 7);
        if readies(&mut world, 0) > 0 {
            let seen = world.told(0);
            assert_eq!(seen.last().map(|p| p.status), Some(last));
        }
    }
    world.advance_ms(20);
    let _ = readies(&mut world, 0);
    let rest = world.told(0);
    assert!(rest.is_empty() || rest.last().map(|p| p.status) == Some(last));
    world.frame(0, support::watch(9, &["bob"]));
    assert_eq!(world.snapshot(0, 9).unwrap()[0].status, last);
}

#[test]
fn all_watchers_are_told_the_same_bytes() {
    let mut world = pair();
    world.publish("bob", Status::Dnd);
    let (ana, eve) = (world.raw(0), world.raw(1));
    assert!(ana.is_some());
    assert_eq!(ana, eve);
}

#[test]
fn a_value_made_for_one_watcher_is_not_sent_to_another_after_it_changed() {
    let mut world = pair();
    for turn in 0..40 {
        world.publish("bob", TURNS[turn % 4]);
        world.advance_ms(20);
        let reader = u32::try_from(turn % 2).unwrap();
        assert_eq!(world.told(reader).last().map(|p| p.status), Some(TURNS[turn % 4]), "turn {turn}");
    }
}

#[test]
fn a_value_made_while_certain_is_not_sent_when_it_is_not() {
    let mut world = pair();
    world.beat();
    world.publish("bob", Status::Online);
    assert_eq!(world.told(0)[0].as_of, None, "made for one");
    world.owner.beats = false;
    world.advance_ms(1_999);
    world.ms += 1;
    let told = world.told(1);
    let bob = told.iter().find(|p| p.user_id.as_str() == "bob").unwrap();
    assert!(bob.as_of.is_some(), "read by the other when it was no longer certain");
    world.owner.beats = true;
    world.beat();
    world.advance_ms(150);
    for slot in [0, 1] {
        assert!(world.told(slot).iter().all(|p| p.as_of.is_none()), "and the dated value is not kept either");
    }
}

#[test]
fn one_frame_holds_two_hundred_users_and_the_rest_follow() {
    let mut world = World::new();
    world.open(0, "ana");
    let users = many(450);
    world.frame(0, herenow_protocol::frame::ClientFrame::Watch { id: 1, users: users.clone() });
    world.frames(0);
    world.advance_ms(100);
    for name in &users {
        world.publish(name, Status::Online);
    }
    let frames = world.frames(0);
    let size = |frame: &ServerFrame| {
        let ServerFrame::Presence { users } = frame else { panic!("only presence is sent") };
        users.len()
    };
    assert_eq!(frames.iter().map(size).collect::<Vec<_>>(), [200, 200, 50]);
}

#[test]
fn what_a_snapshot_has_told_is_not_told_again() {
    let mut world = pair();
    world.publish("bob", Status::Online);
    world.frame(0, support::watch(2, &["bob"]));
    let frames = world.frames(0);
    assert_eq!(frames.len(), 1, "{frames:?}");
    world.publish("bob", Status::Idle);
    world.advance_ms(20);
    assert_eq!(world.told(0).len(), 1, "what changes afterwards is");
}

#[test]
fn an_answer_goes_before_changes() {
    let mut world = pair();
    world.publish("bob", Status::Online);
    world.frame(0, herenow_protocol::frame::ClientFrame::Heartbeat { activity: None, id: Some(1) });
    let frames = world.frames(0);
    assert_eq!(frames.first(), Some(&ServerFrame::Ack { id: 1 }));
    assert_eq!(frames.len(), 2);
}

#[test]
fn a_session_that_is_over_is_told_no_more_changes() {
    let mut world = pair();
    world.publish("bob", Status::Online);
    world.frame(0, herenow_protocol::frame::ClientFrame::Bye {});
    world.publish("bob", Status::Idle);
    assert_eq!(world.frames(0), []);
    world.handle(Input::Closed(Slot(0), herenow_protocol::message::Ending::Bye));
    assert_eq!(world.gateway.stats().watches, 2, "the other session's");
}

#[test]
fn the_first_value_waits_for_the_answer_that_tells_it() {
    let mut world = World::new();
    world.publish("bob", Status::Online);
    world.open(0, "ana");
    world.frames(0);
    world.owner.answers = false;
    world.out.clear();
    world.frame(0, support::watch(1, &["bob"]));
    let pulls = world.pulls();
    assert_eq!(pulls.len(), 2, "everything watched, and the question");
    world.answer(&pulls[0]);
    assert_eq!(readies(&mut world, 0), 0, "the snapshot is still to come");
    world.answer(&pulls[1]);
    assert_eq!(readies(&mut world, 0), 1);
    let frames = world.frames(0);
    assert!(matches!(frames[..], [ServerFrame::Snapshot { id: 1, .. }]), "{frames:?}");
}

#[test]
fn a_first_value_that_the_awaited_answer_does_not_tell_follows_it() {
    let mut world = World::new();
    world.publish("bob", Status::Online);
    world.open(0, "ana");
    world.owner.answers = false;
    world.frame(0, support::watch(1, &["bob"]));
    world.advance_ms(1_000);
    assert_eq!(world.snapshot(0, 1).map(|users| users[0].status), Some(Status::Unknown));
    world.frame(0, herenow_protocol::frame::ClientFrame::Query { id: 2, users: support::names(&["cy"]) });
    world.owner.answers = true;
    world.out.clear();
    world.publish("bob", Status::Idle);
    assert_eq!(readies(&mut world, 0), 0);
    world.advance_ms(1_000);
    assert_eq!(readies(&mut world, 0), 1);
    let frames = world.frames(0);
    assert!(matches!(frames[0], ServerFrame::Snapshot { id: 2, .. }), "{frames:?}");
    let ServerFrame::Presence { users } = &frames[1] else { panic!("{frames:?}") };
    assert_eq!((users[0].user_id.as_str(), users[0].status), ("bob", Status::Idle));
}
