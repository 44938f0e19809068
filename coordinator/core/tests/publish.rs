//! How changes leave: numbered without a hole, in pages, after a window; and pages for backends (R9, R13).

#![expect(clippy::unwrap_used, reason = "a test ends where something is not as expected")]

mod support;

use herenow_coordinator_core::{Input, Output};
use herenow_protocol::frame::ManualStatus;
use herenow_protocol::message::{ApiStatus, Ending, SessionChange};
use herenow_protocol::{Activity, Status};
use support::{World, api, manual, secs};

fn crowd(world: &mut World, users: u64) {
    let opened = |i| world.record(i, &format!("user {i}"), "phone", Activity::Active);
    let records: Vec<_> = (1..=users).map(opened).collect();
    for record in &records {
        world.gateways[0].sessions.insert(record.number.0, record.clone());
    }
    world.report(0, records.into_iter().map(SessionChange::Opened).collect());
}

#[test]
fn the_first_change_after_a_silence_does_not_wait_and_the_next_wait_together() {
    let mut world = World::new();
    world.open(0, 1, "ana", Activity::Active);
    assert_eq!(world.deltas().len(), 1);
    world.open(0, 2, "bob", Activity::Active);
    world.open(0, 3, "cy", Activity::Active);
    world.advance_ms(9);
    assert_eq!(world.deltas(), []);
    world.advance_ms(1);
    let deltas = world.deltas();
    assert_eq!(deltas.len(), 1);
    assert_eq!((deltas[0].prev, deltas[0].last, deltas[0].entries.len()), (1, 3, 2));
}

#[test]
fn with_no_window_none_waits() {
    let mut world = World::with(|config| config.publish_window = secs(0));
    for number in 1..=3 {
        world.open(0, number, &format!("user {number}"), Activity::Active);
    }
    assert_eq!(world.deltas().len(), 3);
}

#[test]
fn numbers_follow_without_a_hole_in_both_feeds() {
    let mut world = World::new();
    for round in 0..30 {
        let number = round + 1;
        let name = format!("user {}", round % 4);
        world.open(0, number, &name, Activity::Active);
        world.advance_ms(round % 13);
        world.claim(&name, manual(ManualStatus::Invisible));
        world.activity(0, number, Activity::Idle);
        world.advance_ms(round % 7);
        world.claim(&name, manual(ManualStatus::Auto));
        world.claim(&name, api(ApiStatus::Dnd, None));
        world.close(0, number, if round % 2 == 0 { Ending::Bye } else { Ending::Lost });
    }
    world.advance(secs(20));
    let out = std::mem::take(&mut world.out);
    let (mut deltas, mut batches) = (0, 0);
    for output in &out {
        if let Output::Down(delta) = output {
            assert_eq!(delta.prev, deltas);
            assert!(delta.last > delta.prev && delta.entries.iter().all(|e| e.n() > delta.prev));
            assert!(delta.entries.iter().all(|e| e.n() <= delta.last));
            deltas = delta.last;
        }
        if let Output::Changes(changes) = output {
            assert_eq!(changes.prev, batches);
            assert_eq!(changes.epoch, world.epoch().to_string());
            let numbers: Vec<u64> = changes.changes.iter().map(|change| change.presence.version.n).collect();
            assert!(numbers.is_sorted_by(|a, b| a < b), "in order: {numbers:?}");
            assert!(numbers.iter().all(|n| (changes.prev + 1..=changes.last).contains(n)));
            batches = changes.last;
        }
    }
    assert_eq!(deltas, batches);
    assert!(deltas > 60);
    assert_eq!(world.core.stats().changes, deltas);
}

#[test]
fn a_delta_holds_a_hundred_and_fifty_entries_and_the_next_goes_into_another() {
    for (users, sizes) in [(150, &[150][..]), (151, &[150, 1]), (450, &[150, 150, 150])] {
        let mut world = World::new();
        crowd(&mut world, users);
        world.advance_ms(20);
        let out = std::mem::take(&mut world.out);
        let mut deltas = Vec::new();
        let mut batches = Vec::new();
        let mut at = (0, 0);
        for output in out {
            if let Output::Down(delta) = output {
                assert_eq!(delta.prev, at.0);
                at.0 = delta.last;
                deltas.push(delta.entries.len());
            } else if let Output::Changes(changes) = output {
                assert_eq!(changes.prev, at.1);
                at.1 = changes.last;
                batches.push(changes.changes.len());
            }
        }
        assert_eq!((deltas.as_slice(), batches.as_slice()), (sizes, sizes));
        assert_eq!(at, (users, users));
    }
}

#[test]
fn a_beat_tells_the_last_number_that_was_published() {
    let mut world = World::with(|config| config.publish_window = secs(2));
    world.open(0, 1, "ana", Activity::Active);
    world.open(0, 2, "bob", Activity::Active);
    world.out.clear();
    world.advance_ms(600);
    assert_eq!(world.beats().last().unwrap().owned[0].n, 1, "not what still waits");
    world.advance(secs(2));
    assert_eq!(world.beats().last().unwrap().owned[0].n, 2);
}

#[test]
fn many_changes_of_one_user_are_all_transitions_in_order() {
    let mut world = World::new();
    world.open(0, 1, "ana", Activity::Active);
    for turn in 0..6 {
        world.activity(0, 1, if turn % 2 == 0 { Activity::Idle } else { Activity::Active });
    }
    world.advance_ms(20);
    let transitions = world.transitions();
    assert_eq!(transitions.len(), 7);
    for pair in transitions.windows(2) {
        assert_eq!(pair[1].from, pair[0].presence.status);
        assert!(pair[1].presence.version > pair[0].presence.version);
    }
}

#[test]
fn what_looks_the_same_is_not_published() {
    let mut world = World::new();
    world.open(0, 1, "ana", Activity::Active);
    world.advance_ms(20);
    world.out.clear();
    world.open(0, 2, "ana", Activity::Idle);
    world.activity(0, 2, Activity::Active);
    world.claim("ana", manual(ManualStatus::Online));
    world.claim("ana", api(ApiStatus::Dnd, None));
    world.advance_ms(50);
    assert_eq!(world.deltas(), []);
}

#[test]
fn each_users_own_subject_is_used_only_where_wanted() {
    for wanted in [false, true] {
        let mut world = World::with(|config| config.publish_user_subjects = wanted);
        world.open(0, 1, "ana", Activity::Active);
        let users = world.take(|o| if let Output::UserChange(user, _) = o { Some(user) } else { None });
        assert_eq!(users.len(), usize::from(wanted));
    }
}

#[test]
fn a_long_answer_to_a_pull_comes_in_numbered_pages() {
    let mut world = World::new();
    crowd(&mut world, 501);
    let keys = (1..=501).map(|i| world.key(&format!("user {i}"))).collect();
    let pages = world.pull_keys(keys);
    let shape: Vec<_> = pages.iter().map(|page| (page.page, page.last, page.entries.len())).collect();
    assert_eq!(shape, [(0, false, 500), (1, true, 1)]);
    assert!(pages.iter().all(|page| page.n == 501 && page.settled && page.request == pages[0].request));
    let none = world.pull(&["nobody"]);
    assert_eq!((none.len(), none[0].last, none[0].entries.len()), (1, true, 0), "an empty answer is one too");
}

#[test]
fn a_partition_is_listed_in_pages_in_order_and_each_user_once() {
    let mut world = World::new();
    for first in 0..3 {
        let opened = |i| world.record(i, &format!("user {i}"), "phone", Activity::Active);
        let records: Vec<_> = (first * 500 + 1..=first * 500 + 500).map(opened).collect();
        world.report(0, records.into_iter().map(SessionChange::Opened).collect());
    }
    let first = world.list(None).unwrap();
    assert_eq!((first.users.len(), first.n, first.settled), (1_000, 1_500, true));
    let after = first.next.clone().unwrap().parse().unwrap();
    let second = world.list(Some(after)).unwrap();
    assert_eq!((second.users.len(), second.next.clone()), (500, None));
    let users = first.users.iter().chain(&second.users);
    let keys: Vec<_> = users.map(|presence| world.key(presence.user_id.as_str())).collect();
    assert!(keys.is_sorted_by(|a, b| a < b), "in the order of keys");
}

#[test]
fn a_full_page_that_is_the_last_names_no_next() {
    let mut world = World::new();
    crowd(&mut world, 1_000);
    let page = world.list(None).unwrap();
    assert_eq!((page.users.len(), page.next), (1_000, None));
}

#[test]
fn a_list_shows_what_everybody_may_see() {
    let mut world = World::new();
    world.open(0, 1, "ana", Activity::Active);
    world.claim("ana", manual(ManualStatus::Invisible));
    let page = world.list(None).unwrap();
    let ana = &page.users[0];
    assert_eq!((ana.status, ana.invisible, ana.as_of), (Status::Offline, false, None));
    assert_eq!(page.epoch, world.epoch().to_string());
}

#[test]
fn an_owner_that_has_not_settled_lists_only_whom_it_has_told() {
    let mut world = World::fresh(|_| {});
    world.add_gateway("g1");
    let here = world.record(1, "ana", "phone", Activity::Active);
    let idle = world.record(2, "bob", "phone", Activity::Idle);
    world.gateways[0].seq = 1;
    world.gateways[0].sessions.extend([(1, here), (2, idle)]);
    world.advance_ms(2_000);
    assert!(!world.settled());
    let page = world.list(None).unwrap();
    let names: Vec<&str> = page.users.iter().map(|presence| presence.user_id.as_str()).collect();
    assert_eq!((names, page.settled), (vec!["ana"], false));
}

#[test]
fn a_drained_owner_keeps_answering_until_somebody_takes_over() {
    let mut world = World::new();
    world.open(0, 1, "ana", Activity::Active);
    world.handle(Input::Drain);
    world.advance(secs(3));
    if world.owns() {
        assert_eq!(world.status("ana"), Status::Online);
    }
}
