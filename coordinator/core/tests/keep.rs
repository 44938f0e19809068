//! What outlives an owner: claims, virtual sessions and last seen are kept, and the next owner has them back; and a
//! store that is slow or gone holds nobody up for long.

#![expect(clippy::unwrap_used, reason = "a test ends where something is not as expected")]
#![expect(clippy::wildcard_enum_match_arm, reason = "a test looks for one kind of output")]

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use herenow_coordinator_core::{Input, Output};
use herenow_protocol::frame::ManualStatus;
use herenow_protocol::message::{ApiStatus, ClaimCommand, Ending};
use herenow_protocol::record::Record;
use herenow_protocol::{Activity, Epoch, Status, UserKey, Version, WallTime};
use support::{PARTITION, World, api, manual, named, secs, user};

const TIMEOUT: Duration = Duration::from_secs(2);

type Store = BTreeMap<UserKey, Record>;

/// An owner that has asked its store, which has not answered.
fn waiting() -> World {
    let mut world = World::fresh(|config| {
        config.ready_after = Duration::ZERO;
        config.settle_after = Duration::ZERO;
        config.restore_timeout = TIMEOUT;
    });
    world.add_gateway("g1");
    world.advance_ms(300);
    assert!(world.owns() && !world.settled());
    world
}

fn owner(store: &Store) -> World {
    let mut world = waiting();
    answer(&mut world, store);
    world
}

fn asked(world: &World) -> Option<(Epoch, u32)> {
    world.out.iter().rev().find_map(|output| match output {
        Output::Load { partition, epoch, attempt } if *partition == PARTITION => Some((*epoch, *attempt)),
        _ => None,
    })
}

fn answer(world: &mut World, store: &Store) {
    let (epoch, attempt) = asked(world).expect("the store is asked");
    let records: Vec<Record> = store.values().cloned().collect();
    let newest = records.iter().map(|record| record.written.epoch).max().unwrap_or(Epoch::NONE);
    world.handle(Input::Restored { partition: PARTITION, epoch, attempt, records, newest, last: true });
}

/// Takes over what an owner wants kept, as a store does.
fn keep(world: &World, store: &mut Store) {
    for output in &world.out {
        match output {
            Output::Keep(record) => {
                let before = store.insert(record.key, (**record).clone());
                assert!(before.is_none_or(|before| before.written < record.written));
            }
            Output::Forget { key, .. } => {
                store.remove(key);
            }
            _ => {}
        }
    }
}

fn kept(world: &World) -> Store {
    let mut store = Store::new();
    keep(world, &mut store);
    store
}

/// What an owner left that died while a user was online and had said something.
fn left_by(commands: Vec<ClaimCommand>) -> Store {
    let mut world = owner(&Store::new());
    world.open(0, 1, "ana", Activity::Active);
    for command in commands {
        world.claim("ana", command);
    }
    world.advance_ms(20);
    kept(&world)
}

#[test]
fn a_claim_outlives_its_owner() {
    for (status, seen) in [
        (ManualStatus::Dnd, Status::Dnd),
        (ManualStatus::Invisible, Status::Offline),
        (ManualStatus::Idle, Status::Idle),
    ] {
        let mut world = owner(&left_by(vec![manual(status)]));
        world.open(0, 1, "ana", Activity::Active);
        world.advance_ms(20);
        assert_eq!(world.status("ana"), seen);
        assert_eq!(world.explain("ana").claims, [format!("manual: {status:?}")]);
    }
}

#[test]
fn a_claim_that_was_taken_back_does_not_return() {
    let mut world = owner(&left_by(vec![manual(ManualStatus::Dnd), manual(ManualStatus::Auto)]));
    world.open(0, 1, "ana", Activity::Active);
    assert_eq!(world.status("ana"), Status::Online);
}

#[test]
fn words_and_covered_claims_come_back_too() {
    let words = ClaimCommand::Manual {
        status: ManualStatus::Dnd,
        text: Some("in a meeting".into()),
        emoji: Some("📅".into()),
        expires_at: None,
    };
    let mut world = owner(&left_by(vec![api(ApiStatus::Idle, None), words]));
    world.open(0, 1, "ana", Activity::Active);
    let shown = world.public("ana").unwrap();
    assert_eq!((shown.status, shown.text.as_deref()), (Status::Dnd, Some("in a meeting")));
    world.claim("ana", manual(ManualStatus::Auto));
    assert_eq!(world.status("ana"), Status::Idle, "the claim of the backend was below");
}

#[test]
fn a_claim_ends_when_it_was_to_end() {
    let store = left_by(vec![api(ApiStatus::Dnd, Some(60))]);
    let mut world = waiting();
    world.advance_ms(1_000);
    answer(&mut world, &store);
    world.open(0, 1, "ana", Activity::Active);
    assert_eq!(world.status("ana"), Status::Dnd);
    world.advance(secs(57));
    assert_eq!(world.status("ana"), Status::Dnd);
    world.advance(secs(3));
    assert_eq!(world.status("ana"), Status::Online);

    let mut late = owner(&Store::new());
    late.advance(secs(61));
    let mut ended = store.values().next().unwrap().clone();
    ended.api.as_mut().unwrap().expires_at = Some(late.wall(0));
    let mut world = owner(&Store::from([(ended.key, ended)]));
    world.advance(secs(61));
    world.open(0, 1, "ana", Activity::Active);
    assert_eq!(world.status("ana"), Status::Online);
}

#[test]
fn a_virtual_session_outlives_its_owner() {
    let mut first = owner(&Store::new());
    first.claim("ben", named(ApiStatus::Online, "kiosk", Some(60)));
    first.claim("cleo", api(ApiStatus::Dnd, Some(60)));
    let mut world = owner(&kept(&first));
    assert_eq!((world.status("ben"), world.status("cleo")), (Status::Online, Status::Dnd));
    world.advance(secs(61));
    assert_eq!((world.status("ben"), world.status("cleo")), (Status::Offline, Status::Offline));
}

#[test]
fn last_seen_outlives_its_owner_and_versions_move_on() {
    let mut first = owner(&Store::new());
    first.open(0, 1, "ana", Activity::Active);
    first.advance(secs(5));
    first.close(0, 1, Ending::Bye);
    let last_seen = first.wall(0);
    first.advance_ms(20);
    let mut world = owner(&kept(&first));
    world.advance(secs(60));
    let shown = world.public("ana").unwrap();
    assert_eq!((shown.status, shown.since), (Status::Offline, Some(last_seen)));
    assert_eq!(world.told(), [], "nothing has changed, so nothing is published");
    world.open(0, 1, "ana", Activity::Active);
    world.advance_ms(20);
    let seen = |store: Store| store.values().next().unwrap().seen.clone();
    assert!(seen(kept(&world)).version.n > 0);
}

#[test]
fn who_was_here_and_is_gone_was_seen_until_now() {
    let mut world = owner(&left_by(Vec::new()));
    let transitions = world.transitions();
    assert_eq!(transitions.len(), 1);
    assert_eq!((transitions[0].from, transitions[0].presence.status), (Status::Online, Status::Offline));
    assert_eq!(world.public("ana").unwrap().since, Some(world.wall(0)));
}

#[test]
fn who_is_still_here_is_published_and_keeps_its_time() {
    let store = left_by(Vec::new());
    let since = store.values().next().unwrap().seen.since;
    let mut world = waiting();
    world.advance_ms(500);
    world.open(0, 1, "ana", Activity::Active);
    answer(&mut world, &store);
    world.advance_ms(20);
    let shown = world.public("ana").unwrap();
    assert_eq!((shown.status, shown.since), (Status::Online, since));
    assert!(shown.n > 0);
}

#[test]
fn nothing_is_said_of_who_may_hide_until_the_store_is_read() {
    let store = left_by(vec![manual(ManualStatus::Invisible)]);
    let mut world = waiting();
    world.open(0, 1, "ana", Activity::Active);
    world.advance_ms(500);
    assert_eq!(world.public("ana"), None);
    assert_eq!(world.ask_claim("ana", api(ApiStatus::Dnd, None)), None, "it is asked again");
    answer(&mut world, &store);
    world.advance_ms(20);
    assert_eq!(world.status("ana"), Status::Offline);
    assert!(!world.told().contains(&Status::Online), "nobody was told that it is there");
}

#[test]
fn a_store_that_does_not_answer_holds_nobody_up_for_long() {
    let mut world = waiting();
    world.open(0, 1, "ana", Activity::Active);
    world.advance(TIMEOUT);
    world.advance_ms(300);
    assert_eq!(world.status("ana"), Status::Online);
    assert!(world.settled());
    assert_eq!(world.core.stats().unread, 1);
    world.claim("ana", api(ApiStatus::Dnd, None));
    world.advance_ms(20);
    assert_eq!(kept(&world), Store::new(), "what was not read is not written over");
}

#[test]
fn what_is_asserted_meanwhile_is_newer_than_what_is_read_late() {
    let store = left_by(vec![manual(ManualStatus::Dnd), api(ApiStatus::Idle, None)]);
    let mut world = waiting();
    world.open(0, 1, "ana", Activity::Active);
    world.advance(TIMEOUT + secs(1));
    world.claim("ana", manual(ManualStatus::Auto));
    answer(&mut world, &store);
    world.advance_ms(20);
    assert_eq!(world.status("ana"), Status::Idle, "the backend's claim comes back, the user's own does not");
    let record = kept(&world).remove(&world.key("ana")).unwrap();
    assert_eq!((record.manual, record.api.unwrap().status), (None, ApiStatus::Idle));
}

#[test]
fn last_seen_that_is_read_late_is_told() {
    let mut first = owner(&Store::new());
    first.open(0, 1, "ana", Activity::Active);
    first.close(0, 1, Ending::Bye);
    first.advance_ms(20);
    let store = kept(&first);
    let mut world = waiting();
    world.advance(TIMEOUT + secs(1));
    assert!(world.settled());
    assert_eq!(world.public("ana"), None);
    world.out.retain(|output| matches!(output, Output::Load { .. }));
    answer(&mut world, &store);
    world.advance_ms(20);
    let delta = world.deltas().pop().unwrap();
    assert_eq!(delta.entries.len(), 1);
    assert_eq!(delta.entries[0].public.since, store.values().next().unwrap().seen.since);
    assert_eq!(delta.entries[0].public.n, delta.last);
}

#[test]
fn who_is_gone_is_never_told_as_there_by_what_is_read_late() {
    let store = left_by(Vec::new());
    let mut world = waiting();
    world.advance(TIMEOUT + secs(1));
    assert!(world.settled());
    world.out.retain(|output| matches!(output, Output::Load { .. }));
    answer(&mut world, &store);
    world.advance_ms(20);
    let told: Vec<_> = world.deltas().into_iter().flat_map(|delta| delta.entries).collect();
    let told: Vec<_> = told.iter().map(|entry| entry.public.status).collect();
    assert_eq!(told, [Status::Offline]);
}

#[test]
fn who_was_erased_is_not_read_back() {
    let store = left_by(vec![manual(ManualStatus::Dnd)]);
    let mut world = waiting();
    world.advance(TIMEOUT + secs(1));
    world.claim("ana", ClaimCommand::Erase);
    let forgotten = world.out.iter().any(|output| matches!(output, Output::Forget { .. }));
    assert!(forgotten, "the store is told at once, read or not");
    answer(&mut world, &store);
    world.advance_ms(20);
    assert_eq!(world.public("ana"), None);
    let mut left = store;
    keep(&world, &mut left);
    assert_eq!(left, Store::new());
}

#[test]
fn an_answer_to_another_question_is_dropped() {
    let store = left_by(vec![manual(ManualStatus::Dnd)]);
    let mut world = waiting();
    let (epoch, attempt) = asked(&world).unwrap();
    let records: Vec<Record> = store.values().cloned().collect();
    let others = [(Epoch { counter: 99, nonce: 1 }, attempt), (epoch, attempt + 1)];
    for (epoch, attempt) in others {
        let records = records.clone();
        let newest = Epoch::NONE;
        world.handle(Input::Restored { partition: PARTITION, epoch, attempt, records, newest, last: true });
        assert_eq!(world.core.stats().unread, 1);
    }
    answer(&mut world, &Store::new());
    answer(&mut world, &store);
    world.open(0, 1, "ana", Activity::Active);
    assert_eq!(world.status("ana"), Status::Online, "it was read already");
}

#[test]
fn one_that_is_cut_off_asks_again() {
    let store = left_by(vec![manual(ManualStatus::Dnd)]);
    let mut world = waiting();
    world.echo = false;
    world.advance(secs(2));
    assert!(world.core.stats().isolated);
    let before = asked(&world).unwrap();
    answer(&mut world, &store);
    assert_eq!(world.core.stats().unread, 1);
    world.echo = true;
    world.advance(secs(1));
    let after = asked(&world).unwrap();
    assert_eq!(after, (before.0, before.1 + 1));
    answer(&mut world, &store);
    world.open(0, 1, "ana", Activity::Active);
    world.advance_ms(20);
    assert_eq!(world.status("ana"), Status::Dnd);
}

#[test]
fn writes_are_numbered_from_epoch_to_epoch() {
    let mut world = owner(&Store::new());
    world.open(0, 1, "ana", Activity::Active);
    world.advance_ms(20);
    world.claim("ana", manual(ManualStatus::Dnd));
    world.advance_ms(20);
    let written: Vec<Version> = world.take(|output| match output {
        Output::Keep(record) => Some(record.written),
        _ => None,
    });
    assert!(written.len() >= 2 && written.is_sorted() && written[0].epoch > Epoch::NONE, "{written:?}");
}

#[test]
fn as_many_are_read_as_a_partition_may_know() {
    let mut world = World::fresh(|config| {
        config.ready_after = Duration::ZERO;
        config.settle_after = Duration::ZERO;
        config.restore_timeout = TIMEOUT;
        config.max_users_per_partition = 2;
    });
    world.add_gateway("g1");
    world.advance_ms(300);
    let one = left_by(Vec::new()).into_values().next().unwrap();
    let records = ["ana", "ben", "cleo"].map(|name| {
        let mut record = Record { key: world.key(name), user: user(name), ..one.clone() };
        (record.seen.status, record.seen.since) = (Status::Offline, Some(WallTime::from_millis(5)));
        (record.key, record)
    });
    answer(&mut world, &records.into_iter().collect());
    assert_eq!(world.core.stats().users, 2);
}

#[test]
fn without_a_store_nothing_is_asked_for_and_nothing_is_kept() {
    let mut world = World::new();
    world.open(0, 1, "ana", Activity::Active);
    world.claim("ana", manual(ManualStatus::Dnd));
    world.advance(secs(3));
    let about_stores =
        |output: &Output| matches!(output, Output::Load { .. } | Output::Keep(_) | Output::Forget { .. });
    assert!(!world.out.iter().any(about_stores));
}

#[test]
fn a_claim_of_somebody_who_is_not_known_yet_is_taken_and_not_answered() {
    let mut world = World::fresh(|config| {
        config.ready_after = Duration::ZERO;
        config.restore_timeout = TIMEOUT;
    });
    world.add_gateway("g1");
    world.advance_ms(300);
    answer(&mut world, &Store::new());
    assert!(world.owns() && !world.settled());
    // The answer would say that the user is offline, and a gateway not heard yet may have a session of it.
    assert_eq!(world.ask_claim("ana", manual(ManualStatus::Dnd)), None);
    world.open(0, 1, "ana", Activity::Active);
    assert!(world.ask_claim("ana", manual(ManualStatus::Dnd)).is_some());
    assert_eq!(world.status("ana"), Status::Dnd);
}

#[test]
fn an_owner_that_finds_a_newer_epoch_in_the_store_claims_above_it() {
    let mut store = left_by(vec![manual(ManualStatus::Dnd)]);
    let newest = Epoch { counter: 7, nonce: 3 };
    store.values_mut().for_each(|record| record.written.epoch = newest);
    let mut world = waiting();
    answer(&mut world, &store);
    assert!(!world.owns(), "the arbiter had forgotten who owned it");
    world.advance(secs(1));
    assert_eq!(world.epoch().counter, 8);
    answer(&mut world, &store);
    world.open(0, 1, "ana", Activity::Active);
    world.advance_ms(20);
    assert_eq!(world.status("ana"), Status::Dnd);
}
