//! How far what owners say is followed and trusted: epochs, numbers, snapshots, freshness (R2, R4, R9, R11).

#![expect(clippy::wildcard_enum_match_arm, reason = "a test looks for one kind of output")]
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as expected")]

mod support;

use herenow_gateway_core::{Input, Output};
use herenow_protocol::frame::ClientFrame;
use herenow_protocol::message::{Delta, Entry, Fenced, Shown, ToGateway, Up};
use herenow_protocol::{Activity, Epoch, Presence, Status};
use support::{ONE, PARTITION, TWO, World, process, secs};

fn watching(users: &[(&str, Status)]) -> World {
    let mut world = World::new();
    for (name, status) in users {
        world.publish(name, *status);
    }
    world.open(0, "ana");
    let names: Vec<&str> = users.iter().map(|(name, _)| *name).collect();
    world.watched(0, 1, &names);
    world.advance_ms(300);
    world.frames(0);
    world.out.clear();
    world
}

fn told(world: &mut World) -> Vec<Status> {
    world.told(0).into_iter().map(|presence| presence.status).collect()
}

fn look(world: &mut World, id: u64, name: &str) -> Presence {
    world.watched(0, id, &[name]).remove(0)
}

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
