//! The hot paths of the cores, one by one, for callgrind to count: `cargo xtask bench counts`.
//!
//! Without an argument it says which paths there are; with the name of one it walks it, after everything that has to
//! be there was made. Only what happens within [`counted`] counts. What decides how a path goes (users, their order, times)
//! is the same in every run.
//!
//! The worlds are those of the cores' criterion benches.
#![allow(clippy::print_stdout, reason = "a program talks to its terminal")]

#[path = "../../coordinator/core/benches/world/mod.rs"]
mod coordinator;
#[path = "../../gateway/core/benches/world/mod.rs"]
mod gateway;
#[path = "../../protocol/benches/samples/mod.rs"]
mod samples;

use std::hint::black_box;
use std::process::ExitCode;

use herenow_coordinator_core::{Claims, derive};
use herenow_protocol::frame::{ClientFrame, encode};
use herenow_protocol::message::Delta;
use herenow_protocol::{MonoTime, codec};
use samples::HEARTBEAT;

/// A path, how often it is walked, and by what.
type Path = (&'static str, u32, fn(u32));

const PATHS: [Path; 10] = [
    ("heartbeat/read", 1_000, read_heartbeat),
    ("heartbeat/session", 5_000, heartbeat),
    ("delta/derive", 1_000, derived),
    ("delta/publish", 1_000, publish),
    ("delta/write", 1_000, write_delta),
    ("delta/read", 1_000, read_delta),
    ("delta/unwatched", 1_000, |times| tell(times, 0)),
    ("delta/1 watcher", 1_000, |times| tell(times, 1)),
    ("delta/100 watchers", 50, |times| tell(times, 100)),
    ("presence/write", 1_000, write_presence),
];

/// Walked so often before it counts: what grows has grown.
const WARM: u32 = 20;

fn main() -> ExitCode {
    let Some(wanted) = std::env::args().nth(1) else {
        PATHS.iter().for_each(|(name, times, _)| println!("{name}\t{times}"));
        return ExitCode::SUCCESS;
    };
    let Some((_, times, path)) = PATHS.iter().find(|(name, ..)| *name == wanted) else {
        println!("there is no path {wanted}");
        return ExitCode::FAILURE;
    };
    path(*times);
    ExitCode::SUCCESS
}

/// The frame of a client, from its text.
fn read_heartbeat(times: u32) {
    walk(times, (), |()| HEARTBEAT, |(), text| ClientFrame::parse(text));
}

/// A gateway takes that of one of its sessions, in no order. How many there are costs time, and no instructions.
fn heartbeat(times: u32) {
    walk(times, gateway::World::new(2_000), gateway::World::next_heartbeat, gateway::World::handle);
}

/// What a user with three sessions is shown as.
fn derived(times: u32) {
    let (sessions, claims) = (coordinator::sessions(3), Claims::default());
    let now = MonoTime::from_millis(1);
    walk(times, sessions, |_| (), |sessions, ()| derive(sessions, &claims, false, now));
}

/// A coordinator takes a report, and publishes what follows.
fn publish(times: u32) {
    let publish = |world: &mut coordinator::World, report| {
        assert!(world.handle(report).is_some(), "it is published");
    };
    walk(times, coordinator::World::new(500), coordinator::World::next_report, publish);
}

/// A delta of one user, to its bytes.
fn write_delta(times: u32) {
    walk(times, samples::delta(1), |_| (), |delta, ()| codec::encode(delta));
}

/// The same from its bytes.
fn read_delta(times: u32) {
    let bytes = codec::encode(&samples::delta(1)).expect("a delta is small");
    walk(times, bytes, |_| (), |bytes, ()| codec::decode::<Delta>(bytes));
}

/// A gateway takes a delta of one user, and writes each of its watchers a frame.
fn tell(times: u32, watchers: u32) {
    let next = |world: &mut gateway::World| world.next_delta(0);
    let told = |world: &mut gateway::World, delta| {
        assert_eq!(world.handle_and_write(delta), watchers as usize, "each watcher is written a frame");
    };
    walk(times, gateway::World::with_watchers(200, watchers), next, told);
}

/// What a watcher is told of one user, to its text.
fn write_presence(times: u32) {
    walk(times, samples::presence(1), |_| (), |frame, ()| encode(frame));
}

/// Makes an input and takes a step with it, again and again.
fn walk<S, I, O>(
    times: u32,
    mut world: S,
    mut next: impl FnMut(&mut S) -> I,
    mut step: impl FnMut(&mut S, I) -> O,
) {
    for round in 0..WARM + times {
        let input = black_box(next(&mut world));
        if round < WARM {
            black_box(step(&mut world, input));
        } else {
            drop(counted(&mut step, &mut world, input));
        }
    }
}

/// What counts. Never inlined, for callgrind knows it by its name.
#[inline(never)]
fn counted<S, I, O>(step: &mut impl FnMut(&mut S, I) -> O, world: &mut S, input: I) -> O {
    black_box(step(world, input))
}
