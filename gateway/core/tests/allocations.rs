//! What allocates nothing: the paths that are walked for every session, however many there are.

#[path = "../benches/world/mod.rs"]
mod world;

use allocation_counter::measure;
use world::World;

/// How often each is tried, after as many tries that are not counted: what grows has grown.
const TIMES: u32 = 1_000;

#[test]
fn a_heartbeat_allocates_nothing() {
    let mut world = World::new(200);
    for _ in 0..TIMES {
        let beat = world.next_heartbeat();
        world.handle(beat);
    }
    for _ in 0..TIMES {
        let beat = world.next_heartbeat();
        let allocated = measure(|| world.handle(beat));
        assert_eq!(allocated.count_total, 0, "{allocated:?}");
    }
    assert_eq!(world.stats().heartbeats, u64::from(2 * TIMES));
}

#[test]
fn a_change_of_a_user_whom_nobody_watches_allocates_nothing() {
    let mut world = World::with_watchers(200, 0);
    for round in 0..2 * TIMES {
        let delta = world.next_delta(0);
        let allocated = measure(|| world.handle(delta));
        assert!(round < TIMES || allocated.count_total == 0, "{allocated:?}");
    }
    let stats = world.stats();
    assert_eq!((stats.deltas, stats.gaps), (u64::from(2 * TIMES), 0));
}
