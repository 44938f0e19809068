//! What is read and written: frames of clients as JSON, messages between roles as postcard.
#![allow(missing_docs, reason = "criterion's macros make functions without any")]

mod samples;

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use herenow_protocol::codec;
use herenow_protocol::frame::{ClientFrame, encode};
use herenow_protocol::message::Delta;
use samples::{HEARTBEAT, delta, presence};

/// Frames between a client and a gateway.
fn frames(c: &mut Criterion) {
    c.bench_function("frame/read a heartbeat", |b| b.iter(|| ClientFrame::parse(black_box(HEARTBEAT))));
    let mut group = c.benchmark_group("frame/write presence");
    for users in [1, 50] {
        let frame = presence(users);
        group.throughput(Throughput::Elements(u64::from(users)));
        group.bench_function(format!("of {users}"), |b| b.iter(|| encode(black_box(&frame))));
    }
}

/// Deltas between a coordinator and gateways.
fn messages(c: &mut Criterion) {
    let mut group = c.benchmark_group("delta");
    for users in [1, 100] {
        let message = delta(users);
        let bytes = codec::encode(&message).expect("a delta is small");
        group.throughput(Throughput::Elements(u64::from(users)));
        group.bench_function(format!("write {users}"), |b| b.iter(|| codec::encode(black_box(&message))));
        group.bench_function(format!("read {users}"), |b| {
            b.iter(|| codec::decode::<Delta>(black_box(&bytes)))
        });
    }
}

criterion_group!(codecs, frames, messages);
criterion_main!(codecs);
