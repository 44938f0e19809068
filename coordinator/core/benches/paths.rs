//! The hot paths of a coordinator: what a user is shown as, and from a report to the delta that follows.
#![allow(missing_docs, reason = "criterion's macros make functions without any")]

mod world;

use std::cell::RefCell;
use std::hint::black_box;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use herenow_coordinator_core::{Claims, derive};
use herenow_protocol::MonoTime;
use world::{World, sessions};

/// What a user with so many sessions is shown as.
fn derived(c: &mut Criterion) {
    let mut group = c.benchmark_group("derive/sessions");
    for count in [1, 3, 16] {
        let sessions = sessions(count);
        let (claims, now) = (Claims::default(), MonoTime::from_millis(1));
        group.bench_function(count.to_string(), |b| {
            b.iter(|| derive(black_box(&sessions), &claims, false, now))
        });
    }
}

/// A report of one change, by an owner of all 256 partitions with 10,000 users, up to the delta that it publishes.
fn report(c: &mut Criterion) {
    let world = RefCell::new(World::new(10_000));
    c.bench_function("report/to delta", |b| {
        let next = || world.borrow_mut().next_report();
        let tell = |report| assert!(world.borrow_mut().handle(report).is_some(), "it is published");
        b.iter_batched(next, tell, BatchSize::PerIteration);
    });
}

criterion_group!(paths, derived, report);
criterion_main!(paths);
