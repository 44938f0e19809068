//! How far what owners say is followed and trusted: epochs, numbers, snapshots, freshness (R2, R4, R9, R11).

#![expect(clippy::wildcard_enum_match_arm, reason = "a test looks for one kind of output")]
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as expected")]

mod support;

use herenow_gateway_core::{Input, Output};
use herenow_protocol::message::{Delta, Entry, Fenced, Shown, ToGateway, Up};
use herenow_protocol::{Epoch, Status};
use support::{ONE, PARTITION, TWO, World, look, process, secs, told, watching};

#[test]
fn a_lower_epoch_is_dropped_and_its_sender_told() {
    let mut world = watching(&[("bob", Status::Online)]);
    let delta = world.change("bob", Status::Offline);
    let epoch = Epoch { counter: 0, nonce: 9 };
    world.handle(Input::Down(Delta { from: process("old"), epoch, ..delta }));
    let fenced = Output::Fenced(process("old"), Fenced { partition: PARTITION, seen: ONE });
    assert_eq!(world.out, std::slice::from_ref(&fenced));
    assert_eq!(told(&mut world), []);
    world.out.clear();
    let mut beat = world.owner.beat();
    (beat.id, beat.owned[0].epoch) = (process("old"), epoch);
    world.handle(Input::Beat(beat));
    assert_eq!(world.out, [fenced], "also for a beat");
    assert_eq!(world.gateway.stats().fenced, 2);
}

#[test]
fn an_equal_counter_is_told_apart_by_the_nonce() {
    let mut world = watching(&[("bob", Status::Online)]);
    let mut delta = world.change("bob", Status::Offline);
    delta.epoch = Epoch { counter: ONE.counter, nonce: ONE.nonce - 1 };
    world.handle(Input::Down(delta));
    assert!(matches!(world.out.as_slice(), [Output::Fenced(..)]), "{:?}", world.out);
}

#[test]
fn a_higher_epoch_is_adopted_with_a_sync_and_a_pull() {
    let mut world = watching(&[("bob", Status::Online)]);
    world.owner.answers = false;
    world.new_owner("next", TWO);
    world.beat();
    let kinds: Vec<_> = world
        .ups()
        .iter()
        .map(|up| match up {
            Up::Sync(sync) => ("sync", sync.epoch_seen, sync.sessions.len()),
            Up::Pull(pull) => ("pull", TWO, pull.users.len()),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(kinds, [("sync", TWO, 1), ("pull", TWO, 1)]);
    world.beat();
    assert_eq!(world.syncs(), [], "once");
}

#[test]
fn a_new_owner_that_says_the_same_is_not_noticed_by_watchers() {
    let mut world = watching(&[("bob", Status::Online), ("cy", Status::Idle)]);
    world.new_owner("next", TWO);
    for entry in world.owner.users.values_mut() {
        entry.public.since = None;
    }
    world.advance(secs(5));
    assert_eq!(world.frames(0), []);
    let bob = look(&mut world, 2, "bob");
    assert_eq!((bob.version.epoch, bob.as_of), (TWO, None));
    assert!(bob.last_updated.is_some(), "the time that was known is kept");
}

#[test]
fn deltas_are_taken_in_order_without_asking() {
    let mut world = watching(&[("bob", Status::Online)]);
    for status in [Status::Idle, Status::Dnd, Status::Offline] {
        world.publish("bob", status);
        world.advance_ms(10);
        assert_eq!(told(&mut world), [status]);
    }
    assert_eq!(world.pulls(), []);
}

#[test]
fn a_delta_that_comes_twice_or_late_changes_nothing() {
    let mut world = watching(&[("bob", Status::Online)]);
    let first = world.change("bob", Status::Idle);
    let second = world.change("bob", Status::Offline);
    world.handle(Input::Down(first.clone()));
    world.handle(Input::Down(second.clone()));
    world.advance_ms(10);
    assert_eq!(told(&mut world), [Status::Offline]);
    world.handle(Input::Down(first));
    world.handle(Input::Down(second));
    world.advance_ms(10);
    assert_eq!(told(&mut world), []);
    assert_eq!(world.pulls(), []);
}

#[test]
fn a_gap_is_pulled_and_what_came_after_it_is_taken_all_the_same() {
    let mut world = watching(&[("bob", Status::Online), ("cy", Status::Online)]);
    world.owner.answers = false;
    let gaps = world.gateway.stats().gaps;
    let lost = world.change("bob", Status::Dnd);
    let next = world.change("cy", Status::Idle);
    drop(lost);
    world.handle(Input::Down(next));
    assert_eq!(told(&mut world), [Status::Idle]);
    let pulls = world.pulls();
    assert_eq!(pulls.len(), 1);
    assert_eq!(pulls[0].users.len(), 2, "everything watched there");
    for snapshot in world.owner.snapshots(&pulls[0]) {
        world.handle(Input::Message(ToGateway::Snapshot(snapshot)));
    }
    world.advance_ms(10);
    assert_eq!(told(&mut world), [Status::Dnd]);
    assert_eq!(world.gateway.stats().gaps - gaps, 1);
}

#[test]
fn one_gap_is_asked_for_once_until_the_answer_is_late() {
    let mut world = watching(&[("bob", Status::Online), ("cy", Status::Online)]);
    world.owner.answers = false;
    let lost = world.change("bob", Status::Dnd);
    drop(lost);
    for _ in 0..20 {
        world.publish("cy", Status::Idle);
    }
    assert_eq!(world.pulls().len(), 1);
    world.advance_ms(399);
    assert_eq!(world.pulls().len(), 0);
    world.advance_ms(101);
    assert_eq!(world.pulls().len(), 1);
}

#[test]
fn an_answer_that_takes_longer_than_it_is_waited_for_is_an_answer_all_the_same() {
    let mut world = watching(&[("bob", Status::Online)]);
    world.owner.answers = false;
    let lost = world.change("bob", Status::Dnd);
    drop(lost);
    world.publish("cy", Status::Idle);
    let first = world.pulls().remove(0);
    let answer = world.owner.snapshots(&first).remove(0);
    world.advance_ms(900);
    let again = world.pulls();
    assert!(!again.is_empty() && again.iter().all(|pull| pull.request == first.request), "{again:?}");
    world.handle(Input::Message(ToGateway::Snapshot(answer)));
    world.advance_ms(10);
    assert_eq!(told(&mut world), [Status::Dnd]);
    world.advance_ms(2_000);
    assert_eq!(world.pulls(), []);
}

#[test]
fn who_was_not_answered_for_while_a_slow_pull_is_under_way_is_asked_for_after_it() {
    let mut world = watching(&[("bob", Status::Online)]);
    world.owner.answers = false;
    let lost = world.change("bob", Status::Dnd);
    drop(lost);
    world.publish("dan", Status::Idle);
    let first = world.pulls().remove(0);
    world.publish("cy", Status::Online);
    world.frame(0, support::watch(2, &["cy"]));
    world.advance_ms(1_100);
    assert_eq!(world.snapshot(0, 2).unwrap()[0].status, Status::Unknown);
    let answer = world.owner.snapshots(&first).remove(0);
    world.handle(Input::Message(ToGateway::Snapshot(answer)));
    world.owner.answers = true;
    world.advance_ms(600);
    assert!(world.told_statuses(0).contains(&("cy".to_owned(), Status::Online)));
}

#[test]
fn a_lost_last_delta_is_found_by_the_next_beat() {
    let mut world = watching(&[("bob", Status::Online)]);
    let lost = world.change("bob", Status::Offline);
    drop(lost);
    world.advance_ms(250 + 100 + 10);
    assert_eq!(told(&mut world), [Status::Offline]);
    assert_eq!(world.pulls().len(), 1);
}

#[test]
fn a_delta_that_is_just_behind_its_beat_is_waited_for() {
    let mut world = watching(&[("bob", Status::Online)]);
    let delta = world.change("bob", Status::Offline);
    world.beat();
    world.advance_ms(99);
    world.handle(Input::Down(delta));
    world.advance_ms(500);
    assert_eq!(world.pulls(), []);
}

#[test]
fn a_snapshot_with_a_missing_page_does_not_say_who_is_absent() {
    let mut world = watching(&[("bob", Status::Online), ("cy", Status::Online), ("dan", Status::Online)]);
    world.owner.answers = false;
    world.owner.page = 1;
    world.new_owner("next", TWO);
    world.beat();
    let pull = world.pulls().pop().unwrap();
    let pages = world.owner.snapshots(&pull);
    assert_eq!(pages.len(), 3);
    for page in [&pages[0], &pages[2]] {
        world.handle(Input::Message(ToGateway::Snapshot(page.clone())));
    }
    world.advance_ms(300);
    assert_eq!(told(&mut world), [], "whoever was on the lost page is not offline for it");
    world.owner.answers = true;
    world.advance_ms(500);
    assert_eq!(told(&mut world), []);
    assert_eq!(look(&mut world, 2, "cy").status, Status::Online);
}

#[test]
fn whom_a_settled_owner_does_not_list_is_offline() {
    let mut world = watching(&[("bob", Status::Online), ("cy", Status::Online)]);
    world.owner.users.remove(&world.placement.key(&support::user("bob")));
    world.new_owner("next", TWO);
    world.advance_ms(300);
    let told = world.told_statuses(0);
    assert_eq!(told, [("bob".to_owned(), Status::Offline)]);
}

#[test]
fn whom_an_unsettled_owner_does_not_list_stays_as_known_until_it_settles() {
    let mut world = watching(&[("bob", Status::Online), ("cy", Status::Online)]);
    world.owner.users.remove(&world.placement.key(&support::user("bob")));
    world.new_owner("next", TWO);
    world.owner.settled = false;
    world.advance_ms(1_500);
    assert_eq!(world.told_statuses(0), []);
    world.owner.settled = true;
    world.advance_ms(400);
    assert_eq!(world.told_statuses(0), [("bob".to_owned(), Status::Offline)]);
}

#[test]
fn a_user_nobody_knows_is_unknown_at_an_unsettled_owner() {
    let mut world = World::new();
    world.owner.settled = false;
    world.beat();
    world.open(0, "ana");
    world.frame(0, support::watch(1, &["bob"]));
    world.advance_ms(1_100);
    assert_eq!(world.snapshot(0, 1).unwrap()[0].status, Status::Unknown);
    world.owner.settled = true;
    world.advance_ms(400);
    assert_eq!(told(&mut world), [Status::Offline], "and is told when it is known");
}

#[test]
fn an_invisible_user_sees_the_truth_and_nobody_else_does() {
    let mut world = watching(&[("ana", Status::Online)]);
    world.open(1, "bob");
    world.watched(1, 1, &["ana"]);
    let key = world.key("ana");
    world.owner.n += 1;
    let n = world.owner.n;
    let public = Shown { n, since: Some(world.wall(0)), ..Shown::never_seen() };
    let own = Some(Shown { n, status: Status::Idle, since: Some(world.wall(0)), ..Shown::never_seen() });
    let delta = world.delta(vec![Entry { key, public: public.clone(), own }]);
    world.handle(Input::Down(delta));
    let (ana, bob) = (world.told(0).remove(0), world.told(1).remove(0));
    assert_eq!((ana.status, ana.invisible), (Status::Idle, true));
    assert_eq!((bob.status, bob.invisible), (Status::Offline, false));

    world.owner.n += 1;
    let n = world.owner.n;
    let own = Some(Shown { n, status: Status::Online, since: Some(world.wall(0)), ..Shown::never_seen() });
    let mut delta = world.delta(vec![Entry { key, public, own }]);
    (delta.prev, delta.last) = (n - 1, n);
    world.handle(Input::Down(delta));
    world.advance_ms(20);
    assert_eq!(world.told(0).remove(0).status, Status::Online);
    assert_eq!(world.frames(1), [], "what she does while hidden is nobody else's");
}

#[test]
fn the_version_of_a_user_never_goes_back() {
    let mut world = watching(&[("bob", Status::Online)]);
    world.publish("bob", Status::Idle);
    let newest = world.told(0).remove(0).version;
    let key = world.key("bob");
    let old = Shown { n: 1, status: Status::Online, since: None, ..Shown::never_seen() };
    world.owner.n += 1;
    let n = world.owner.n;
    let entries = vec![Entry { key, public: old, own: None }];
    let from = world.owner.id.clone();
    let delta = Delta { from, partition: PARTITION, epoch: ONE, prev: n - 1, last: n, entries };
    world.handle(Input::Down(delta));
    world.advance_ms(20);
    assert_eq!(told(&mut world), []);
    assert_eq!(look(&mut world, 2, "bob").version, newest);
}
