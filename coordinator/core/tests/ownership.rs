//! Who owns a partition, and what becomes of one who is cut off (R1, R2, R7, R12).

#![expect(clippy::unwrap_used, reason = "a test ends where something is not as expected")]

mod support;

use std::time::Duration;

use herenow_coordinator_core::{Input, Output, Recorded};
use herenow_protocol::code::ErrorCode;
use herenow_protocol::frame::ManualStatus;
use herenow_protocol::message::{ApiStatus, ClaimCommand, CoordinatorBeat, Ending, Fenced, OwnedBeat};
use herenow_protocol::{Activity, Epoch, Incarnation, Partition, Status};
use support::{PARTITION, World, api, process, secs};

/// A name that wins the only partition against `me`, and one that loses it.
fn rivals() -> (String, String) {
    let mut winner = None;
    let mut loser = None;
    for i in 0..100 {
        let name = format!("peer-{i}");
        let mut world = World::fresh(|config| config.ready_after = Duration::ZERO);
        world.peer_beat(&name, 1, true, None);
        world.advance_ms(300);
        let slot = if world.owns() { &mut loser } else { &mut winner };
        slot.get_or_insert(name);
        if let (Some(winner), Some(loser)) = (&winner, &loser) {
            return (winner.clone(), loser.clone());
        }
    }
    panic!("a hash that always chooses the same is none");
}

fn higher(epoch: Epoch) -> Epoch {
    Epoch { counter: epoch.counter + 1, nonce: 5 }
}

fn subscriptions(world: &mut World) -> Vec<Output> {
    let out = std::mem::take(&mut world.out);
    let about = |output: &Output| matches!(output, Output::Subscribe(_) | Output::Unsubscribe(_));
    out.into_iter().filter(about).collect()
}

#[test]
fn who_is_alone_claims_every_partition_when_it_is_ready() {
    let mut world = World::fresh(|_| {});
    world.advance_ms(999);
    assert!(!world.owns(), "it does not know yet who else is there");
    assert!(world.beats().iter().all(|beat| !beat.ready));
    world.advance_ms(300);
    assert!(world.owns());
    assert_eq!(world.epoch().counter, 1);
    let beats = world.beats();
    assert!(beats.last().is_some_and(|beat| beat.ready && beat.owned.len() == 1));
}

#[test]
fn what_is_owned_is_announced_at_once() {
    let mut world = World::fresh(|config| config.ready_after = Duration::ZERO);
    world.arbiter = None;
    world.advance_ms(260);
    let epoch = world.take(|o| if let Output::Record { epoch, .. } = o { Some(epoch) } else { None })[0];
    world.handle(Input::Recorded { partition: PARTITION, epoch, outcome: Recorded::Yes });
    assert!(world.core.poll_timeout().unwrap().as_millis() <= world.ms);
    world.advance_ms(0);
    let beats = world.beats();
    assert_eq!(beats.last().unwrap().owned.iter().map(|owned| owned.epoch).collect::<Vec<_>>(), [epoch]);
}

#[test]
fn a_claim_is_higher_than_every_epoch_known() {
    let mut world = World::fresh(|_| {});
    let known = Epoch { counter: 41, nonce: u32::MAX };
    world.handle(Input::Known { partition: PARTITION, epoch: known });
    world.advance_ms(1_300);
    assert_eq!(world.epoch().counter, 42);
}

#[test]
fn an_owner_who_is_heard_is_left_alone() {
    let (_, loser) = rivals();
    let mut world = World::fresh(|_| {});
    let epoch = Epoch { counter: 3, nonce: 3 };
    for number in 1..20 {
        world.peer_beat(&loser, number, true, Some(epoch));
        world.advance_ms(250);
    }
    assert!(!world.owns(), "though this one should own it: the owner hands over when it is time");
    world.advance_ms(1_300);
    assert!(world.owns(), "it is heard no more");
    assert_eq!(world.epoch().counter, 4);
}

#[test]
fn who_should_not_own_does_not_claim() {
    let (winner, _) = rivals();
    let mut world = World::fresh(|_| {});
    for number in 1..20 {
        world.peer_beat(&winner, number, true, None);
        world.advance_ms(250);
    }
    assert!(!world.owns());
    world.advance_ms(1_500);
    assert!(world.owns(), "the other is gone");
}

#[test]
fn who_is_not_ready_is_given_nothing() {
    let (winner, _) = rivals();
    let mut world = World::fresh(|_| {});
    for number in 1..8 {
        world.peer_beat(&winner, number, false, None);
        world.advance_ms(250);
    }
    assert!(world.owns());
}

#[test]
fn a_claim_on_record_makes_the_owner() {
    let mut world = World::fresh(|config| config.ready_after = Duration::ZERO);
    world.arbiter = None;
    world.advance_ms(260);
    assert!(!world.owns(), "not before the answer");
    assert_eq!(subscriptions(&mut world), [Output::Subscribe(PARTITION)]);
    world.advance_ms(600);
    assert!(world.owns());
    assert_eq!(world.core.stats().claims_without_record, 1, "no answer in time: it stands without");
}

#[test]
fn a_claim_stands_where_the_arbiter_cannot_be_reached() {
    let mut world = World::fresh(|config| config.ready_after = Duration::ZERO);
    world.arbiter = Some(Recorded::Unavailable);
    world.advance_ms(260);
    assert!(world.owns());
    assert_eq!(world.core.stats().claims_without_record, 1);
}

#[test]
fn a_claim_that_conflicts_is_let_go_and_made_again_above_the_record() {
    let mut world = World::fresh(|config| config.ready_after = Duration::ZERO);
    let theirs = Epoch { counter: 9, nonce: 1 };
    world.arbiter = Some(Recorded::Conflict(theirs));
    world.advance_ms(0);
    assert!(!world.owns());
    world.arbiter = Some(Recorded::Yes);
    world.advance_ms(600);
    assert_eq!(world.epoch().counter, 10);
}

#[test]
fn an_answer_about_another_claim_is_nobodys() {
    let mut world = World::fresh(|config| config.ready_after = Duration::ZERO);
    world.arbiter = None;
    world.advance_ms(260);
    let epoch = Epoch { counter: 77, nonce: 0 };
    world.handle(Input::Recorded { partition: PARTITION, epoch, outcome: Recorded::Yes });
    assert!(!world.owns());
    world.handle(Input::Recorded { partition: Partition(200), epoch, outcome: Recorded::Yes });
}

#[test]
fn an_owner_lets_go_as_soon_as_it_hears_of_a_higher_epoch() {
    let told: [fn(&mut World, Epoch); 4] = [
        |world, seen| world.handle(Input::Fenced(Fenced { partition: PARTITION, seen })),
        |world, seen| world.peer_beat("other", 1, true, Some(seen)),
        |world, seen| {
            world.gateways[0].epoch_seen = seen;
            world.gateways[0].seq = 1;
            world.beat_of(0);
        },
        |world, seen| {
            world.gateways[0].epoch_seen = seen;
            world.report(0, Vec::new());
        },
    ];
    for tell in told {
        let mut world = World::new();
        let seen = higher(world.epoch());
        tell(&mut world, seen);
        assert!(!world.owns());
        assert_eq!(world.core.stats().fenced, 1);
        assert_eq!(subscriptions(&mut world), [Output::Unsubscribe(PARTITION)]);
    }
}

#[test]
fn a_lower_epoch_impresses_nobody_and_its_owner_is_told() {
    let mut world = World::new();
    let mine = world.epoch();
    let old = Epoch { counter: mine.counter, nonce: mine.nonce.wrapping_sub(1).min(mine.nonce) };
    world.peer_beat("other", 1, true, Some(old));
    assert!(world.owns());
    let told = Output::Fenced(process("other"), Fenced { partition: PARTITION, seen: mine });
    assert!(world.out.contains(&told), "{:?}", world.out);
    world.handle(Input::Fenced(Fenced { partition: PARTITION, seen: mine }));
    assert!(world.owns(), "its own epoch fences it not");
}

#[test]
fn a_partition_is_handed_over_to_who_joins_after_a_while_with_everything_said() {
    let (winner, _) = rivals();
    let mut world = World::with(|config| config.publish_window = secs(5));
    world.open(0, 1, "ana", Activity::Active);
    world.advance_ms(100);
    world.open(0, 2, "bob", Activity::Active);
    world.out.clear();
    let mut number = 0;
    let mut waited = 0;
    while world.owns() {
        number += 1;
        world.peer_beat(&winner, number, true, None);
        world.advance_ms(250);
        waited += 250;
        assert!(waited < 5_000);
    }
    assert!((2_000..=2_500).contains(&waited), "{waited}");
    let deltas = world.out.iter().position(|output| matches!(output, Output::Down(_)));
    let unsubscribed = world.out.iter().position(|output| matches!(output, Output::Unsubscribe(_)));
    assert!(deltas.unwrap() < unsubscribed.unwrap(), "what waited is published first");
    assert_eq!(world.core.stats().handed_over, 1);
    assert!(world.beats().last().unwrap().owned.is_empty(), "and the new owner hears that it is free");
}

#[test]
fn who_joins_and_goes_again_is_given_nothing() {
    let (winner, _) = rivals();
    let mut world = World::new();
    for number in 1..=3 {
        world.peer_beat(&winner, number, true, None);
        world.advance_ms(250);
    }
    world.advance(secs(10));
    assert!(world.owns());
    assert_eq!(world.core.stats().claims, 1);
}

#[test]
fn who_drains_is_not_ready_and_gives_its_partitions_away_at_once() {
    let (_, loser) = rivals();
    let mut world = World::new();
    world.peer_beat(&loser, 1, true, None);
    world.out.clear();
    world.handle(Input::Drain);
    world.advance_ms(0);
    assert!(world.beats().iter().all(|beat| !beat.ready));
    world.peer_beat(&loser, 2, true, None);
    world.advance_ms(260);
    assert!(!world.owns());
    for number in 3..20 {
        world.peer_beat(&loser, number, true, None);
        world.advance_ms(250);
    }
    assert!(!world.owns(), "nor does it claim anew");
}

#[test]
fn who_does_not_hear_itself_claims_nothing() {
    let mut world = World::fresh(|_| {});
    world.echo = false;
    world.advance(secs(10));
    assert!(!world.owns());
    assert!(world.core.stats().isolated);
    world.echo = true;
    world.advance_ms(600);
    assert!(world.owns());
}

#[test]
fn who_is_cut_off_ends_nothing_and_answers_nothing_fresh() {
    let mut world = World::new();
    world.open(0, 1, "ana", Activity::Active);
    world.claim("bot", api(ApiStatus::Online, Some(2)));
    world.advance_ms(50);
    world.close(0, 1, Ending::Lost);
    world.open(0, 2, "cy", Activity::Active);
    let expires_at = Some(world.wall(5_000));
    let status = ManualStatus::Dnd;
    world.claim("cy", ClaimCommand::Manual { status, text: None, emoji: None, expires_at });
    world.advance_ms(50);
    world.out.clear();
    world.echo = false;
    world.advance(secs(30));
    assert!(world.core.stats().isolated);
    assert_eq!(world.told(), [], "neither grace nor claim nor virtual session");
    assert_eq!(world.pull(&["ana"]), [], "somebody else may know better by now");
    assert_eq!(world.try_claim("ana", api(ApiStatus::Dnd, None)).outcome, Err(ErrorCode::Unavailable));
    assert_eq!(world.list(None), Err(ErrorCode::Unavailable));
    assert!(!world.settled());
    world.echo = true;
    world.advance_ms(1_000);
    let mut told = world.told();
    told.sort_unstable_by_key(|status| format!("{status:?}"));
    assert_eq!(told, [Status::Offline, Status::Offline, Status::Online], "all of it afterwards");
}

#[test]
fn who_hears_itself_again_recovers_without_telling_anybody_wrong_things() {
    let mut world = World::new();
    world.open(0, 1, "ana", Activity::Active);
    world.advance_ms(50);
    world.out.clear();
    world.echo = false;
    world.gateways[0].beats = false;
    world.advance(secs(30));
    world.echo = true;
    world.advance_ms(300);
    assert_eq!(world.core.stats().gateways, 1, "the silence was its own");
    world.gateways[0].beats = true;
    world.beat_of(0);
    world.advance_ms(600);
    assert!(world.settled());
    assert_eq!(world.told(), []);
    assert_eq!(world.status("ana"), Status::Online);
}

#[test]
fn who_was_cut_off_doubts_what_it_has_until_each_gateway_confirms_it() {
    let mut world = World::new();
    world.open(0, 1, "ana", Activity::Active);
    world.advance_ms(2_000);
    assert_eq!(world.pull(&["ana"])[0].as_of, None);
    let sure_at = world.wall(0);
    world.echo = false;
    world.gateways[0].beats = false;
    world.advance(secs(30));
    world.echo = true;
    world.advance_ms(300);
    world.out.clear();
    let page = world.pull(&["ana"]).remove(0);
    let as_of = page.as_of.unwrap();
    assert!(page.entries.len() == 1 && as_of <= sure_at && sure_at.as_millis() - as_of.as_millis() <= 1_750);
    world.out.clear();
    world.advance_ms(250);
    assert!(world.beats().last().unwrap().owned[0].doubts);
    world.beat_of(0);
    world.advance_ms(250);
    assert_eq!(world.pull(&["ana"])[0].as_of, None, "though others may have come that it has not heard");
    assert!(!world.beats().last().unwrap().owned[0].doubts);
}

/// An owner that was cut off, and hears now that ana has left; others may have come, so that it may not say so yet.
fn ana_is_held_back() -> World {
    let mut world = World::fresh(|config| config.settle_after = secs(2));
    world.add_gateway("g1");
    world.advance(secs(4));
    world.open(0, 1, "ana", Activity::Active);
    world.open(0, 2, "bob", Activity::Active);
    world.advance(secs(3));
    world.echo = false;
    world.gateways[0].beats = false;
    world.advance(secs(30));
    let unheard = world.ended(0, 1, Ending::Bye);
    drop(unheard);
    world.gateways[0].seq += 1;
    world.echo = true;
    world.advance_ms(300);
    world.gateways[0].beats = true;
    world.beat_of(0);
    world.out.clear();
    world.advance_ms(1_000);
    let beat =
        |output: &Output| if let Output::Beat(beat) = output { beat.owned.first().cloned() } else { None };
    let last = world.out.iter().filter_map(beat).next_back().unwrap();
    assert!(!last.settled && !last.doubts, "{last:?}");
    world
}

/// Who was told, as what, and whether that is held back.
fn entries(world: &World) -> Vec<(Status, bool)> {
    let entries =
        |output: &Output| if let Output::Down(delta) = output { delta.entries.clone() } else { Vec::new() };
    world
        .out
        .iter()
        .flat_map(entries)
        .map(|entry| (entry.public.status, entry.public.held.is_some()))
        .collect()
}

#[test]
fn who_left_while_its_owner_was_cut_off_is_held_back_until_that_may_be_said() {
    let mut world = ana_is_held_back();
    assert_eq!((entries(&world), world.transitions().len()), (vec![(Status::Online, true)], 0));
    let listed: Vec<_> = world.list(None).unwrap().users.iter().map(|user| user.as_of.is_some()).collect();
    assert_eq!(listed.iter().filter(|dated| **dated).count(), 1, "a backend is told so too: {listed:?}");
    assert_eq!(doubted(&mut world), (true, false));
    world.out.clear();
    world.advance(secs(3));
    assert_eq!(entries(&world), [(Status::Offline, false)]);
}

#[test]
fn who_is_held_back_and_comes_back_is_certain_again_and_was_never_seen_to_leave() {
    let mut world = ana_is_held_back();
    world.out.clear();
    world.open(0, 3, "ana", Activity::Active);
    world.advance(secs(3));
    assert_eq!((entries(&world), world.transitions().len()), (vec![(Status::Online, false)], 0));
}

/// Whether ana, and whether bob, is answered for as not certain.
fn doubted(world: &mut World) -> (bool, bool) {
    let page = world.pull(&["ana", "bob"]).remove(0);
    let is_doubted = |name: &str| {
        let entry = page.entries.iter().find(|entry| entry.key == world.key(name)).unwrap();
        entry.public.held.or(page.as_of).is_some()
    };
    (is_doubted("ana"), is_doubted("bob"))
}

/// An owner that was cut off, and hears the gateway of bob again, but not yet that of ana.
fn ana_is_unconfirmed() -> (World, usize) {
    let mut world = World::new();
    let gone = world.add_gateway("g2");
    world.open(gone, 1, "ana", Activity::Active);
    world.open(0, 1, "bob", Activity::Active);
    world.advance_ms(2_000);
    world.echo = false;
    world.gateways[0].beats = false;
    world.gateways[gone].beats = false;
    world.advance(secs(30));
    world.echo = true;
    world.gateways[0].beats = true;
    world.advance_ms(1_000);
    (world, gone)
}

#[test]
fn who_was_cut_off_doubts_whom_it_had_of_a_gateway_that_is_gone_since_while_they_count() {
    for back in [false, true] {
        let (mut world, gone) = ana_is_unconfirmed();
        world.advance(secs(5));
        assert_eq!((world.core.stats().gateways, world.settled()), (1, true));
        assert_eq!(world.status("ana"), Status::Online, "in grace");
        assert_eq!(doubted(&mut world), (true, false), "what it had of her is from before");
        if back {
            world.gateways[gone].beats = true;
            world.beat_of(gone);
            world.advance_ms(600);
        } else {
            world.advance(secs(10));
            assert_eq!(world.status("ana"), Status::Offline);
        }
        assert_eq!(doubted(&mut world), (false, false), "back: {back}");
    }
}

#[test]
fn who_was_cut_off_doubts_whom_it_had_of_an_earlier_life_of_a_gateway_while_they_count() {
    let (mut world, gone) = ana_is_unconfirmed();
    world.gateways[gone].reborn();
    world.gateways[gone].beats = true;
    world.beat_of(gone);
    world.advance_ms(600);
    assert!(world.settled());
    assert_eq!((world.status("ana"), doubted(&mut world)), (Status::Online, (true, false)));
    world.advance(secs(10));
    assert_eq!((world.status("ana"), doubted(&mut world)), (Status::Offline, (false, false)));
}

#[test]
fn while_cut_off_time_does_not_turn_in_a_loop() {
    let mut world = World::new();
    world.open(0, 1, "ana", Activity::Active);
    world.close(0, 1, Ending::Lost);
    world.echo = false;
    world.out.clear();
    world.advance(secs(20));
    let beats = world.beats().len();
    assert!((75..=90).contains(&beats), "four a second: {beats}");
}

#[test]
fn a_process_that_stood_still_trusts_only_a_beat_that_it_sends_afterwards() {
    let mut world = World::new();
    world.open(0, 1, "ana", Activity::Active);
    world.advance_ms(50);
    world.close(0, 1, Ending::Lost);
    let old = world.beats().pop();
    let number = old.map_or(2, |beat| beat.number);
    world.ms += 20_000;
    // What piled up meanwhile is read first: its own beat from before.
    let owned = vec![OwnedBeat {
        partition: PARTITION,
        epoch: world.epoch(),
        n: 0,
        settled: true,
        doubts: false,
        by_user: false,
    }];
    let (id, incarnation) = (process("me"), Incarnation(1));
    world.handle(Input::Beat(CoordinatorBeat {
        id,
        incarnation,
        number,
        clock: 0,
        ready: true,
        mourning_ms: 0,
        owned,
    }));
    assert!(world.core.stats().isolated);
    assert_eq!(world.core.stats().stalls, 1);
    let mut out = Vec::new();
    world.echo = false;
    world.core.handle_timeout(support::at(world.ms), &mut out);
    assert!(!out.iter().any(|output| matches!(output, Output::Transition(_))), "nothing ends by old news");
    world.echo = true;
    world.advance_ms(600);
    assert!(!world.core.stats().isolated);
    assert_eq!(world.status("ana"), Status::Offline, "and then the grace is over");
}

#[test]
fn a_process_that_stood_still_states_nobody_idle_by_what_it_reads_first() {
    let mut world = World::new();
    world.open(0, 1, "ana", Activity::Active);
    world.advance_ms(50);
    world.out.clear();
    world.ms += 20_000;
    world.activity(0, 1, Activity::Idle);
    assert_eq!(world.told(), [], "a report from before the stop");
    world.advance_ms(2_000);
    assert_eq!(world.told(), [Status::Idle], "when its gateway has confirmed it");
}

#[test]
fn messages_for_what_one_does_not_own_are_counted_and_dropped() {
    let mut world = World::new();
    let seen = higher(world.epoch());
    world.handle(Input::Fenced(Fenced { partition: PARTITION, seen }));
    world.arbiter = None;
    world.out.clear();
    world.open(0, 1, "ana", Activity::Active);
    assert_eq!(world.core.stats().misdirected, 1);
    assert_eq!(world.deltas(), []);
}

#[test]
fn who_is_deaf_lists_nothing_until_it_hears_itself_again() {
    let mut world = World::new();
    world.advance_ms(300);
    assert_eq!(world.beats().last().unwrap().owned.len(), 1);
    world.echo = false;
    world.advance(secs(3));
    assert!(world.core.stats().isolated);
    assert!(
        world.beats().last().unwrap().owned.is_empty(),
        "it may still be heard, and knows nothing any more"
    );
    world.echo = true;
    world.advance_ms(600);
    assert_eq!(world.beats().last().unwrap().owned.len(), 1);
}
