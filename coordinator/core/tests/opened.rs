//! How many sessions the history is told of, by kind of device.

#![expect(clippy::unwrap_used, reason = "a test ends where something is not as expected")]

mod support;

use herenow_protocol::message::{ApiStatus, Ending, SessionChange};
use herenow_protocol::{Activity, DeviceKind, Status};
use support::{World, api, named, secs};

/// What the history was told: the status after each change, and the sessions by web, mobile, desktop and server.
fn told(world: &mut World) -> Vec<(Status, [u8; 4])> {
    world.advance_ms(20);
    let of = |one: herenow_coordinator_core::Transition| (one.presence.status, one.opened.to_bytes());
    world.transitions().into_iter().map(of).collect()
}

fn open(world: &mut World, number: u64, device: &str, kind: DeviceKind) {
    let mut record = world.record(number, "ana", device, Activity::Active);
    record.kind = kind;
    world.gateways[0].sessions.insert(number, record.clone());
    world.report(0, vec![SessionChange::Opened(record)]);
}

#[test]
fn each_is_told_once_with_the_next_change_of_the_status() {
    let mut world = World::new();
    open(&mut world, 1, "laptop", DeviceKind::Web);
    assert_eq!(told(&mut world), [(Status::Online, [1, 0, 0, 0])]);
    open(&mut world, 2, "phone", DeviceKind::Mobile);
    open(&mut world, 3, "laptop", DeviceKind::Web);
    open(&mut world, 4, "desk", DeviceKind::Desktop);
    assert_eq!(told(&mut world), [], "nobody sees a difference");
    (1..=4).for_each(|number| world.close(0, number, Ending::Bye));
    assert_eq!(told(&mut world), [(Status::Offline, [1, 1, 1, 0])]);
    open(&mut world, 5, "phone", DeviceKind::Mobile);
    assert_eq!(told(&mut world), [(Status::Online, [0, 1, 0, 0])]);
}

#[test]
fn another_text_is_no_change_of_the_status_and_takes_none() {
    let mut world = World::new();
    open(&mut world, 1, "laptop", DeviceKind::Web);
    told(&mut world);
    world.claim("ana", api(ApiStatus::Dnd, None));
    open(&mut world, 2, "phone", DeviceKind::Mobile);
    assert_eq!(told(&mut world), [(Status::Dnd, [0, 0, 0, 0])]);
    let mut other = api(ApiStatus::Dnd, None);
    if let herenow_protocol::message::ClaimCommand::Api { text, .. } = &mut other {
        *text = Some("in a meeting".into());
    }
    world.claim("ana", other);
    assert_eq!(told(&mut world), [(Status::Dnd, [0, 0, 0, 0])]);
    (1..=2).for_each(|number| world.close(0, number, Ending::Bye));
    assert_eq!(told(&mut world), [(Status::Offline, [0, 1, 0, 0])]);
}

#[test]
fn whoever_comes_back_goes_on_with_its_session() {
    let mut world = World::new();
    open(&mut world, 1, "phone", DeviceKind::Mobile);
    told(&mut world);
    for number in 2..5 {
        world.close(0, number - 1, Ending::Lost);
        world.advance(secs(5));
        open(&mut world, number, "phone", DeviceKind::Mobile);
    }
    world.close(0, 4, Ending::Lost);
    world.advance(secs(10));
    assert_eq!(told(&mut world), [(Status::Offline, [0, 0, 0, 0])]);
    open(&mut world, 5, "phone", DeviceKind::Mobile);
    assert_eq!(told(&mut world), [(Status::Online, [0, 1, 0, 0])], "after the grace it is another one");
}

#[test]
fn a_virtual_session_is_a_servers_and_one_however_often_it_is_renewed() {
    let mut world = World::new();
    for _ in 0..3 {
        world.claim("ana", named(ApiStatus::Online, "bot", Some(60)));
        world.advance(secs(30));
    }
    assert_eq!(told(&mut world), [(Status::Online, [0, 0, 0, 1])]);
    world.advance(secs(60));
    assert_eq!(told(&mut world), [(Status::Offline, [0, 0, 0, 0])]);
}

/// What was reported and lost comes with a sync; what an earlier owner was told is not told again by the next.
#[test]
fn what_a_sync_tells_first_counts_and_what_a_new_owner_is_told_does_not() {
    let mut world = World::new();
    open(&mut world, 1, "laptop", DeviceKind::Web);
    told(&mut world);
    let lost = world.record(2, "ben", "phone", Activity::Active);
    world.gateways[0].sessions.insert(2, lost);
    world.gateways[0].seq += 1;
    world.advance(secs(2));
    assert_eq!(told(&mut world), [(Status::Online, [1, 0, 0, 0])]);
    world.close(0, 1, Ending::Bye);
    assert_eq!(told(&mut world), [(Status::Offline, [0, 0, 0, 0])], "hers was told before");

    let mut next = World::fresh(|config| config.ready_after = secs(0));
    next.add_gateway("g1");
    let there = next.record(1, "ana", "laptop", Activity::Active);
    next.gateways[0].sessions.insert(1, there);
    next.gateways[0].seq = 1;
    next.advance(secs(1));
    assert_eq!(told(&mut next), [(Status::Online, [0, 0, 0, 0])]);
}

#[test]
fn who_is_erased_leaves_none_behind() {
    use herenow_protocol::message::ClaimCommand;
    let mut world = World::new();
    open(&mut world, 1, "laptop", DeviceKind::Web);
    open(&mut world, 2, "phone", DeviceKind::Mobile);
    told(&mut world);
    open(&mut world, 3, "desk", DeviceKind::Desktop);
    world.claim("ana", ClaimCommand::Erase);
    told(&mut world);
    (1..=3).for_each(|number| world.close(0, number, Ending::Bye));
    assert_eq!(told(&mut world), [(Status::Offline, [0, 0, 0, 0])]);
}
