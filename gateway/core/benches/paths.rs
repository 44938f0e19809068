//! The hot paths of a gateway: a heartbeat, and a change on its way to watchers.
#![allow(missing_docs, reason = "criterion's macros make functions without any")]

mod world;

use std::cell::RefCell;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use world::World;

/// A heartbeat of one of 18,000 sessions, in no order, so that each finds its session cold.
fn heartbeat(c: &mut Criterion) {
    let world = RefCell::new(World::new(18_000));
    c.bench_function("heartbeat/of one of 18,000 sessions", |b| {
        let next = || world.borrow_mut().next_heartbeat();
        b.iter_batched(next, |beat| world.borrow_mut().handle(beat), BatchSize::SmallInput);
    });
}

/// A delta of one user with so many watchers: it is taken, their sessions are marked, and each is written its frame.
fn delta(c: &mut Criterion) {
    let mut group = c.benchmark_group("delta/watched by");
    for watchers in [0, 1, 100, 10_000] {
        let world = RefCell::new(World::with_watchers(1_000, watchers));
        group.throughput(Throughput::Elements(u64::from(watchers.max(1))));
        group.bench_function(watchers.to_string(), |b| {
            let next = || world.borrow_mut().next_delta(0);
            let tell = |delta| {
                let frames = world.borrow_mut().handle_and_write(delta);
                assert_eq!(frames, watchers as usize, "each watcher is written one frame");
            };
            b.iter_batched(next, tell, BatchSize::PerIteration);
        });
    }
}

criterion_group!(paths, heartbeat, delta);
criterion_main!(paths);
