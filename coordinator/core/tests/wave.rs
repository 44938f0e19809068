//! The offline wave: thousands who lapse in one moment are shown offline at a rate, in whole messages, and hold up
//! nobody who comes.

#![expect(clippy::unwrap_used, reason = "a test ends where something is not as expected")]
#![expect(clippy::wildcard_enum_match_arm, reason = "a test looks for some kinds of output")]

mod support;

use std::collections::BTreeMap;

use herenow_coordinator_core::{Config, Output};
use herenow_protocol::message::{Ending, SessionChange};
use herenow_protocol::{Activity, Status};
use support::{World, secs};

/// `count` users at a first gateway that is never heard again; a second one lives.
fn lost(count: u64, change: impl FnOnce(&mut Config)) -> World {
    let mut world = World::with(change);
    world.add_gateway("g2");
    world.advance_ms(600);
    let records: Vec<_> =
        (1..=count).map(|n| world.record(n, &format!("u{n}"), "phone", Activity::Active)).collect();
    for page in records.chunks(500) {
        world.gateways[0].sessions.extend(page.iter().map(|record| (record.number.0, record.clone())));
        world.report(0, page.iter().cloned().map(SessionChange::Opened).collect());
    }
    world.advance_ms(100);
    world.beat_of(0);
    world.gateways[0].beats = false;
    world.gateways[0].answers = false;
    world.out.clear();
    world
}

/// What is published in each of the next milliseconds, as sizes of deltas; and who was shown offline when.
fn follow(world: &mut World, ms: u64) -> (Vec<(u64, usize)>, BTreeMap<String, u64>) {
    let (mut deltas, mut offline) = (Vec::new(), BTreeMap::new());
    for _ in 0..ms {
        world.advance_ms(1);
        for output in std::mem::take(&mut world.out) {
            match output {
                Output::Down(delta) => deltas.push((world.ms, delta.entries.len())),
                Output::Transition(one) if one.presence.status == Status::Offline => {
                    let before = offline.insert(one.user.to_string(), world.ms);
                    assert_eq!(before, None, "each once");
                }
                _ => {}
            }
        }
    }
    (deltas, offline)
}

#[test]
fn twenty_thousand_users_of_a_lost_gateway_are_offline_within_the_bound_and_not_all_at_once() {
    let mut world = lost(20_000, |_| {});
    let silent = world.ms;
    world.advance_ms(14_990);
    assert_eq!(world.told(), [], "within gateway_timeout and grace");
    let (deltas, offline) = follow(&mut world, 1_000);
    assert_eq!(offline.len(), 20_000);
    let last = offline.values().max().unwrap() - silent;
    assert!(last <= 15_800, "{last} ms of the 16 s that are promised");
    let mut each_ms: BTreeMap<u64, usize> = BTreeMap::new();
    for at in offline.values() {
        *each_ms.entry(*at).or_default() += 1;
    }
    assert!(each_ms.values().all(|count| *count <= 650), "10 ms of the rate and one message: {each_ms:?}");
    let whole = deltas.iter().filter(|(_, entries)| *entries == 150).count();
    assert!(deltas.len() <= 180 && whole >= 100, "{} messages, {whole} of them whole", deltas.len());
}

#[test]
fn who_comes_back_while_the_wave_drains_was_never_away() {
    let mut world = lost(5_000, |config| config.offline_rate = 5_000);
    world.advance(secs(15));
    let (_, first) = follow(&mut world, 500);
    assert!((500..4_000).contains(&first.len()), "{}", first.len());
    assert!(world.core.stats().fading > 0);
    let waits: Vec<u64> = (1..=5_000).filter(|n| !first.contains_key(&format!("u{n}"))).take(100).collect();
    for n in &waits {
        world.open_on(1, *n, &format!("u{n}"), "phone", Activity::Active);
    }
    let (_, rest) = follow(&mut world, 1_500);
    assert!(waits.iter().all(|n| !rest.contains_key(&format!("u{n}"))), "none of them flickered");
    assert_eq!(first.len() + rest.len(), 4_900);
    assert_eq!(world.core.stats().fading, 0);
}

#[test]
fn who_comes_online_does_not_wait_behind_the_wave() {
    let mut world = lost(5_000, |config| config.offline_rate = 5_000);
    world.advance(secs(15));
    follow(&mut world, 400);
    let waiting = world.core.stats().fading;
    assert!(waiting > 1_000, "{waiting}");
    world.open(1, 1, "late", Activity::Active);
    world.open(1, 2, "gone", Activity::Active);
    world.close(1, 2, Ending::Bye);
    world.advance_ms(10);
    let told = world.transitions();
    let of = |name: &str| -> Vec<Status> {
        told.iter().filter(|one| one.user.as_str() == name).map(|one| one.presence.status).collect()
    };
    assert_eq!(of("late"), [Status::Online]);
    assert_eq!(of("gone"), [Status::Online, Status::Offline], "nor who takes its leave");
    assert!(world.core.stats().fading > waiting - 200);
}

#[test]
fn who_waits_is_shown_as_before_and_is_not_forgotten_to_make_room() {
    let mut world = lost(400, |config| {
        config.offline_rate = 100;
        config.max_users_per_partition = 400;
    });
    world.advance(secs(15));
    world.advance_ms(500);
    let waiting = world.core.stats().fading;
    assert!(waiting > 100, "{waiting}");
    world.open(1, 1, "one more", Activity::Active);
    world.advance(secs(10));
    let told = world.transitions();
    let offline = told.iter().filter(|one| one.presence.status == Status::Offline).count();
    assert_eq!(offline, 400, "each was told");
}

#[test]
fn a_rate_of_zero_is_no_limit_and_no_grace_is_no_way_around_it() {
    let mut world = lost(2_000, |config| config.offline_rate = 0);
    world.advance(secs(14));
    let (_, offline) = follow(&mut world, 1_500);
    assert_eq!(offline.values().collect::<std::collections::BTreeSet<_>>().len(), 1);
    let mut world = lost(2_000, |config| {
        config.offline_rate = 2_000;
        config.grace_period = secs(0);
    });
    world.advance(secs(4));
    let (_, offline) = follow(&mut world, 2_500);
    assert_eq!(offline.len(), 2_000);
    let spread = offline.values().max().unwrap() - offline.values().min().unwrap();
    assert!((800..=1_000).contains(&spread), "{spread}");
}
