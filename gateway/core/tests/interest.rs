//! What a gateway states of its watchers to an owner that sends by user, and what it shows of its beliefs.

#![expect(clippy::wildcard_enum_match_arm, reason = "a test looks for one kind of output")]
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as expected")]

mod support;

use herenow_gateway_core::{Input, Output};
use herenow_protocol::message::{
    Advance, Advanced, Audit, Interest, InterestBeat, InterestBody, ToGateway, Up,
};
use herenow_protocol::{Incarnation, Status, UserKey};
use support::{ONE, PARTITION, TWO, World, names, origin, secs, user};

/// A session that watches bob, with an owner that sends by user.
fn world() -> World {
    let mut world = World::new();
    world.publish("bob", Status::Online);
    world.open(0, "ana");
    world.watched(0, 1, &["bob"]);
    world.owner.by_user = true;
    world.out.clear();
    world.beat();
    world
}

fn key(world: &World, name: &str) -> UserKey {
    world.placement.key(&user(name))
}

/// What was stated, in order with questions: "pull" where one went out.
fn stated(world: &mut World) -> Vec<(u64, Option<InterestBody>)> {
    let said = world.out.drain(..).filter_map(|output| match output {
        Output::Up(Up::Interest(Interest { seq, body, epoch, .. })) => {
            assert_eq!(epoch, world.owner.epoch);
            Some((seq, Some(body)))
        }
        Output::Up(Up::Pull(_)) => Some((0, None)),
        _ => None,
    });
    said.collect()
}

fn beats(world: &mut World) -> Vec<InterestBeat> {
    let beat = world.out.drain(..).filter_map(|output| match output {
        Output::Beat(beat) => Some(beat.interests),
        _ => None,
    });
    let mut beat = beat;
    beat.next_back().unwrap_or_default()
}

fn whole(users: Vec<UserKey>) -> Option<InterestBody> {
    Some(InterestBody::Whole { page: 0, last: true, users })
}

#[test]
fn everything_watched_is_stated_to_an_owner_that_wants_it_and_once() {
    let mut world = world();
    let bob = key(&world, "bob");
    assert_eq!(stated(&mut world), [(1, whole(vec![bob])), (0, None)], "as every partition that is repaired");
    world.beat();
    assert_eq!(stated(&mut world), []);
}

#[test]
fn where_nobody_is_watched_that_is_stated_too() {
    let mut world = World::new();
    world.owner.by_user = true;
    world.out.clear();
    world.beat();
    assert_eq!(stated(&mut world), [], "of an empty set the beat tells enough");
    world.advance_ms(1_000);
    let beats = beats(&mut world);
    assert_eq!((beats[0].seq, beats[0].users), (1, 0));
}

#[test]
fn an_owner_that_sends_to_everybody_is_told_nothing() {
    let mut world = World::new();
    world.open(0, "ana");
    world.watched(0, 1, &["bob"]);
    world.beat();
    assert!(stated(&mut world).iter().all(|(_, body)| body.is_none()), "only the question");
    world.advance_ms(1_000);
    assert_eq!(beats(&mut world), []);
}

#[test]
fn a_user_watched_anew_is_stated_before_it_is_asked_for() {
    let mut world = world();
    world.out.clear();
    let eve = key(&world, "eve");
    world.frame(0, support::watch(2, &["eve"]));
    let pulls = world.out.iter().filter_map(|output| match output {
        Output::Up(Up::Pull(pull)) => Some(pull.interest),
        _ => None,
    });
    assert_eq!(pulls.collect::<Vec<_>>(), [Some(2)], "and the question says what comes before it");
    assert_eq!(stated(&mut world), [(2, Some(InterestBody::Changes(vec![(eve, true)]))), (0, None)]);
    world.open(1, "zoe");
    world.frame(1, support::watch(3, &["eve"]));
    assert_eq!(stated(&mut world), [], "it is watched already");
}

#[test]
fn a_user_nobody_watches_any_more_is_stated_with_the_next_beat() {
    let mut world = world();
    world.out.clear();
    let bob = key(&world, "bob");
    world.frame(0, herenow_protocol::frame::ClientFrame::Unwatch { id: 2, users: names(&["bob"]) });
    assert_eq!(stated(&mut world), []);
    world.advance_ms(600);
    let said: Vec<_> = world.out.iter().filter(|o| matches!(o, Output::Up(Up::Interest(_)))).collect();
    let [Output::Up(Up::Interest(Interest { seq: 2, body: InterestBody::Changes(changes), .. }))] =
        said.as_slice()
    else {
        panic!("{said:?}")
    };
    assert_eq!(*changes, [(bob, false)]);
    let beat = beats(&mut world);
    assert_eq!((beat[0].seq, beat[0].users), (2, 0));
}

#[test]
fn heartbeats_hurry_nothing_and_so_many_who_are_gone_do_not_wait_for_the_beat() {
    let mut world = World::with(|config| config.max_watches = 600);
    let users = support::many(500);
    world.open(0, "ana");
    world.watched(0, 1, &users.iter().map(String::as_str).collect::<Vec<_>>());
    world.owner.by_user = true;
    world.beat();
    world.out.clear();
    let unwatch =
        |users: &[String]| herenow_protocol::frame::ClientFrame::Unwatch { id: 2, users: users.to_vec() };
    world.frame(0, unwatch(&users[..499]));
    world.frame(0, support::heartbeat(None));
    assert_eq!(stated(&mut world), []);
    world.frame(0, unwatch(&users[499..]));
    assert_eq!(stated(&mut world).len(), 1);
}

#[test]
fn interest_that_was_lost_is_stated_again_and_what_was_missed_is_asked_for() {
    let mut world = world();
    world.out.clear();
    let bob = key(&world, "bob");
    let ask = |incarnation| ToGateway::Reinterest { partition: PARTITION, epoch: ONE, incarnation };
    world.handle(Input::Message(ask(Incarnation(origin().incarnation.0 - 1))));
    assert_eq!(stated(&mut world), [], "an earlier life was asked");
    world.handle(Input::Message(ask(origin().incarnation)));
    let again = stated(&mut world);
    assert_eq!(again, [(2, whole(vec![bob])), (0, None)], "an audit from before it has another number");
}

#[test]
fn a_new_owner_is_told_everything_anew_with_numbers_that_go_on() {
    let mut world = world();
    world.out.clear();
    let bob = key(&world, "bob");
    world.new_owner("next", TWO);
    world.beat();
    let said: Vec<_> = stated(&mut world).into_iter().filter(|(_, body)| body.is_some()).collect();
    assert_eq!(said, [(2, whole(vec![bob]))]);
}

#[test]
fn a_stream_of_its_own_is_followed_like_that_of_the_partition() {
    let mut world = world();
    world.frames(0);
    let gaps = world.gateway.stats().gaps;
    let delta = world.change("bob", Status::Idle);
    let last = delta.last;
    world.handle(Input::Message(ToGateway::Delta(delta)));
    assert_eq!(world.told(0).pop().map(|presence| presence.status), Some(Status::Idle));
    world.out.clear();
    world.owner.n = last + 5;
    let streams = vec![Advance { partition: PARTITION, epoch: ONE, prev: last, last: last + 5 }];
    let from = world.owner.id.clone();
    world.handle(Input::Message(ToGateway::Advanced(Advanced { from, streams })));
    world.beat();
    world.advance_ms(200);
    assert_eq!(world.gateway.stats().gaps, gaps);
    assert!(stated(&mut world).is_empty(), "nothing is missing");
}

#[test]
fn a_gap_in_its_own_stream_is_pulled() {
    let mut world = world();
    world.out.clear();
    let (last, gaps) = (world.owner.n, world.gateway.stats().gaps);
    let streams = vec![Advance { partition: PARTITION, epoch: ONE, prev: last + 1, last: last + 2 }];
    let from = world.owner.id.clone();
    world.handle(Input::Message(ToGateway::Advanced(Advanced { from, streams })));
    assert_eq!(world.gateway.stats().gaps, gaps + 1);
    assert_eq!(stated(&mut world), [(0, None)]);
}

#[test]
fn what_it_believes_is_audited_in_turns_and_pulled_where_it_differs() {
    let mut world = World::with(|config| config.digest_interval = secs(1));
    let users: Vec<String> = support::many(20);
    let users: Vec<&str> = users.iter().map(String::as_str).collect();
    users.iter().for_each(|name| world.publish(name, Status::Online));
    world.open(0, "ana");
    world.watched(0, 1, &users);
    world.out.clear();
    world.advance_ms(2_100);
    let audits: Vec<Audit> = world
        .out
        .drain(..)
        .filter_map(|output| match output {
            Output::Up(Up::Audit(audit)) => Some(audit),
            _ => None,
        })
        .collect();
    assert_eq!(audits.iter().map(|audit| audit.users.len()).collect::<Vec<_>>(), [16, 16]);
    let shown: std::collections::BTreeSet<UserKey> =
        audits.iter().flat_map(|audit| audit.users.iter().map(|user| user.key)).collect();
    assert_eq!(shown.len(), 20, "the second goes on where the first ended");
    world.handle(Input::Message(ToGateway::Differs { partition: PARTITION, epoch: ONE }));
    assert_eq!(stated(&mut world), [(0, None)]);
}

#[test]
fn two_that_speak_under_one_epoch_are_counted() {
    let mut world = world();
    let mut beat = world.owner.beat();
    beat.id = support::process("twin");
    world.handle(Input::Beat(beat));
    assert_eq!(world.gateway.stats().owners_doubled, 1);
}
