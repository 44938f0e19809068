//! Level 2 of interest: each gateway is sent only what is watched there, and everything while that is not known.

#![expect(clippy::wildcard_enum_match_arm, reason = "a test looks for one kind of output")]
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as expected")]

mod support;

use herenow_coordinator_core::{Input, Output};
use herenow_protocol::message::{
    Audit, Audited, Delta, Interest, InterestBeat, InterestBody, Pull, Shown, ToGateway, Up, UsersDigest,
};
use herenow_protocol::{Activity, Status, UserKey};
use support::{PARTITION, World, user};

/// Two gateways, one session of bob's on the first, and level 2 from the first gateway on.
fn world(change: impl FnOnce(&mut herenow_coordinator_core::Config)) -> World {
    let mut world = World::with(|config| {
        config.interest_by_user_from = 1;
        change(config);
    });
    world.add_gateway("g2");
    world.advance_ms(600);
    world.open(0, 1, "bob", Activity::Active);
    world.advance_ms(300);
    world.out.clear();
    world
}

fn key(world: &World, name: &str) -> UserKey {
    world.placement.key(&user(name))
}

fn interest(world: &World, gateway: usize, seq: u64, body: InterestBody) -> Input {
    let origin = world.gateways[gateway].origin.clone();
    let epoch = world.epoch();
    Input::Up(Up::Interest(Interest { origin, partition: PARTITION, epoch, seq, body }))
}

fn whole(users: Vec<UserKey>) -> InterestBody {
    InterestBody::Whole { page: 0, last: true, users }
}

/// Gateway 0 watches nobody, gateway 1 watches bob.
fn told(world: &mut World) {
    let bob = key(world, "bob");
    world.handle(interest(world, 0, 1, whole(vec![])));
    world.handle(interest(world, 1, 1, whole(vec![bob])));
    world.advance_ms(300);
    world.out.clear();
}

fn beat(world: &World, gateway: usize, seq: u64, users: &[UserKey]) -> Input {
    let mut beat = world.gateways[gateway].beat();
    let mut digest = UsersDigest::default();
    users.iter().for_each(|key| digest.toggle(*key));
    let users = u32::try_from(users.len()).unwrap();
    let epoch = world.epoch();
    beat.interests.push(InterestBeat { partition: PARTITION, epoch, seq, users, digest });
    Input::GatewayBeat(beat)
}

/// Who was sent deltas: everybody ("all"), or one gateway; with the numbers.
fn deltas(world: &mut World) -> Vec<(String, u64, u64)> {
    let sent = world.out.drain(..).filter_map(|output| match output {
        Output::Down(Delta { prev, last, .. }) => Some(("all".to_owned(), prev, last)),
        Output::ToGateway(to, ToGateway::Delta(Delta { prev, last, .. })) => {
            Some((to.process.to_string(), prev, last))
        }
        _ => None,
    });
    sent.collect()
}

fn asked(world: &mut World) -> Vec<String> {
    let asked = world.out.drain(..).filter_map(|output| match output {
        Output::ToGateway(to, ToGateway::Reinterest { .. }) => Some(to.process.to_string()),
        _ => None,
    });
    asked.collect()
}

#[test]
fn a_gateway_is_sent_what_is_watched_there_and_the_others_nothing() {
    let mut world = world(|_| {});
    told(&mut world);
    assert_eq!(world.core.stats().selective, 1);
    world.activity(0, 1, Activity::Idle);
    assert_eq!(deltas(&mut world), [("g2".to_owned(), 1, 2)]);
    world.open(0, 2, "eve", Activity::Active);
    assert_eq!(deltas(&mut world), [], "nobody watches eve");
}

#[test]
fn everybody_is_sent_everything_until_every_gateway_has_said_what_it_needs() {
    let mut world = world(|_| {});
    let bob = key(&world, "bob");
    world.handle(interest(&world, 1, 1, whole(vec![bob])));
    world.advance_ms(300);
    world.out.clear();
    world.activity(0, 1, Activity::Idle);
    assert_eq!(deltas(&mut world), [("all".to_owned(), 1, 2)]);
    told(&mut world);
    world.add_gateway("g3");
    world.advance_ms(10);
    world.out.clear();
    world.activity(0, 1, Activity::Active);
    assert_eq!(deltas(&mut world), [("all".to_owned(), 2, 3)], "somebody new may watch bob");
}

#[test]
fn numbers_without_anything_for_a_gateway_move_on_with_the_beat() {
    let mut world = world(|_| {});
    told(&mut world);
    world.open(0, 2, "eve", Activity::Active);
    world.out.clear();
    world.advance_ms(250);
    let advanced = world.out.iter().find_map(|output| match output {
        Output::ToGateway(to, ToGateway::Advanced(advanced)) => Some((to.process.to_string(), advanced)),
        _ => None,
    });
    let (to, advanced) = advanced.unwrap();
    assert_eq!((to.as_str(), advanced.streams[0].prev, advanced.streams[0].last), ("g2", 1, 2));
    world.out.clear();
    world.activity(0, 1, Activity::Idle);
    assert_eq!(deltas(&mut world), [("g2".to_owned(), 2, 3)]);
}

#[test]
fn a_gap_in_what_a_gateway_says_is_asked_for_and_fails_open() {
    let mut world = world(|_| {});
    told(&mut world);
    let eve = key(&world, "eve");
    world.handle(interest(&world, 1, 3, InterestBody::Changes(vec![(eve, true)])));
    assert_eq!(asked(&mut world), ["g2"]);
    world.handle(interest(&world, 1, 4, InterestBody::Changes(vec![])));
    assert_eq!(asked(&mut world), [""; 0], "one question at a time");
    world.activity(0, 1, Activity::Idle);
    assert_eq!(deltas(&mut world), [("all".to_owned(), 1, 2)]);
}

#[test]
fn a_lost_last_message_of_interest_is_found_by_the_beat() {
    let mut world = world(|_| {});
    told(&mut world);
    let (bob, eve) = (key(&world, "bob"), key(&world, "eve"));
    world.handle(beat(&world, 1, 2, &[bob, eve]));
    assert_eq!(asked(&mut world), [""; 0], "it may be under way");
    world.advance_ms(150);
    world.handle(beat(&world, 1, 2, &[bob, eve]));
    assert_eq!(asked(&mut world), ["g2"]);
}

/// A question of a gateway, which says up to which number it has stated whom it watches.
fn pull(world: &World, gateway: usize, interest: Option<u64>, users: &[UserKey]) -> Input {
    let (origin, users) = (world.gateways[gateway].origin.clone(), users.to_vec());
    Input::Up(Up::Pull(Pull { origin, partition: PARTITION, request: 7, interest, users }))
}

#[test]
fn a_pull_that_rests_on_interest_never_heard_is_a_gap_at_once() {
    let mut world = world(|_| {});
    told(&mut world);
    let eve = key(&world, "eve");
    world.handle(pull(&world, 1, None, &[eve]));
    world.handle(pull(&world, 1, Some(1), &[eve]));
    assert_eq!((asked(&mut world), world.core.stats().selective), (vec![], 1), "all of it was heard");
    // That the second gateway watches eve from now on was lost, and so are its beats.
    world.handle(pull(&world, 1, Some(2), &[eve]));
    assert_eq!(asked(&mut world), ["g2"]);
    world.open(0, 2, "eve", Activity::Active);
    assert_eq!(deltas(&mut world), [("all".to_owned(), 1, 2)], "it would take the numbers for all there is");
    world.handle(pull(&world, 1, Some(2), &[eve]));
    assert_eq!(asked(&mut world), [""; 0], "one question at a time");
}

#[test]
fn a_later_life_that_asks_is_not_sent_what_an_earlier_one_watched() {
    let mut world = world(|_| {});
    told(&mut world);
    let (bob, eve) = (key(&world, "bob"), key(&world, "eve"));
    let earlier = pull(&world, 1, Some(1), &[eve]);
    world.gateways[1].reborn();
    world.gateways[1].beats = false;
    world.handle(pull(&world, 1, None, &[bob, eve]));
    world.handle(earlier);
    assert_eq!(asked(&mut world), ["g2"]);
    world.open(0, 2, "eve", Activity::Active);
    assert_eq!(deltas(&mut world), [("all".to_owned(), 1, 2)]);
}

#[test]
fn a_set_that_differs_at_equal_numbers_is_counted_and_asked_for() {
    let mut world = world(|_| {});
    told(&mut world);
    let eve = key(&world, "eve");
    world.handle(beat(&world, 1, 1, &[eve]));
    assert_eq!(world.core.stats().sets_differed, 1);
    assert_eq!(asked(&mut world), ["g2"]);
}

#[test]
fn one_watched_user_more_than_the_limit_and_everything_goes_to_everybody() {
    let mut world = world(|config| config.max_watched_per_partition = 2);
    let keys: Vec<UserKey> = ["bob", "eve", "kim"].map(|name| key(&world, name)).to_vec();
    world.handle(interest(&world, 0, 1, whole(vec![])));
    world.handle(interest(&world, 1, 1, whole(keys[..2].to_vec())));
    world.advance_ms(300);
    assert_eq!((world.core.stats().selective, world.core.stats().watched_users), (1, 2));
    world.handle(interest(&world, 1, 2, InterestBody::Changes(vec![(keys[2], true)])));
    world.out.clear();
    world.handle(beat(&world, 1, 2, &keys));
    assert_eq!(asked(&mut world), [""; 0], "it would not fit either");
    assert_eq!((world.core.stats().selective, world.core.stats().watched_users), (0, 0));
}

#[test]
fn a_set_in_pages_over_the_limit_is_given_up_before_its_last_page() {
    let mut world = world(|config| config.max_watched_per_partition = 2);
    let keys: Vec<UserKey> = ["bob", "eve", "kim"].map(|name| key(&world, name)).to_vec();
    world.handle(interest(&world, 0, 1, whole(vec![])));
    let page = |page, last, users: &[UserKey]| InterestBody::Whole { page, last, users: users.to_vec() };
    world.handle(interest(&world, 1, 1, page(0, false, &keys[..2])));
    world.handle(interest(&world, 1, 1, page(1, false, &keys[2..])));
    world.out.clear();
    world.handle(beat(&world, 1, 1, &keys));
    assert_eq!(asked(&mut world), [""; 0], "what would not fit is not asked for");
    world.handle(interest(&world, 1, 1, page(2, true, &[])));
    world.advance_ms(300);
    assert_eq!((world.core.stats().selective, world.core.stats().watched_users), (0, 0));
}

#[test]
fn what_an_earlier_life_of_a_gateway_watched_counts_for_nothing() {
    let mut world = world(|_| {});
    told(&mut world);
    let (bob, eve) = (key(&world, "bob"), key(&world, "eve"));
    let earlier = interest(&world, 1, 2, InterestBody::Changes(vec![(eve, true)]));
    world.gateways[1].reborn();
    world.beat_of(1);
    world.handle(interest(&world, 1, 1, whole(vec![bob])));
    world.advance_ms(300);
    world.out.clear();
    world.handle(earlier);
    assert_eq!((world.core.stats().selective, world.core.stats().watched_users), (1, 1));
    assert_eq!(asked(&mut world), [""; 0]);
}

#[test]
fn the_death_of_a_gateway_ends_its_interest() {
    let mut world = world(|config| config.gateway_timeout = support::secs(3));
    told(&mut world);
    world.gateways[1].beats = false;
    world.advance_ms(4_000);
    assert_eq!(world.core.stats().watched_users, 0);
}

#[test]
fn a_value_that_no_later_change_explains_is_counted_and_repaired() {
    let mut world = world(|_| {});
    let bob = key(&world, "bob");
    let shown = |n, status| Shown { n, status, ..Shown::never_seen() };
    let mut audit = |n: u64, value: Shown| {
        world.out.clear();
        let (origin, epoch) = (world.gateways[1].origin.clone(), world.epoch());
        let users = vec![Audited::new(bob, value.n, &value)];
        let audit = Audit { origin, partition: PARTITION, epoch, n, interest: None, users };
        world.handle(Input::Up(Up::Audit(audit)));
        let told = |o: &Output| matches!(o, Output::ToGateway(_, ToGateway::Differs { .. }));
        (world.core.stats().values_differed, world.out.iter().any(told))
    };
    assert_eq!(audit(1, shown(1, Status::Online)), (0, false), "equal");
    assert_eq!(audit(0, shown(0, Status::Offline)), (0, false), "the change may be under way");
    assert_eq!(audit(1, shown(0, Status::Offline)), (1, true), "it should have come");
    assert_eq!(audit(1, shown(1, Status::Idle)), (2, true), "one number, two values");
}
