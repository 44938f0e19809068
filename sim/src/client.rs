//! Clients of the simulated world: people with devices who come, go, idle, reload, vanish and watch one another.

use std::collections::{BTreeMap, BTreeSet};

use herenow_protocol::{Activity, Presence};
use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;

/// Where a client is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Link {
    /// Not connected.
    Away,
    /// Connected to a gateway's life, in a slot.
    Open { gateway: usize, life: u64, slot: u32, since: u64 },
}

/// A client: one device of one user.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) user: usize,
    pub(crate) device: String,
    pub(crate) link: Link,
    pub(crate) activity: Activity,
    /// It has vanished without a word: its heartbeats have stopped.
    pub(crate) mute: bool,
    pub(crate) watches: Vec<usize>,
    /// What its own screen shows.
    pub(crate) view: BTreeMap<usize, Presence>,
    /// Whose value it was told in this session.
    pub(crate) told: BTreeSet<usize>,
    pub(crate) next_id: u64,
}

/// What a client does next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// Connects.
    Connect,
    /// Its person becomes active, idle, or puts it away.
    Activity(Activity),
    /// The connection breaks and is made again soon: a reload.
    Reload(u64),
    /// The connection breaks for long.
    Lose(u64),
    /// It says goodbye.
    Bye(u64),
    /// It vanishes without a word.
    Vanish,
    /// It watches others than before.
    Rewatch,
    /// Nothing.
    Rest,
}

impl Client {
    /// Draws what a client does next.
    pub(crate) fn draw(&self, rng: &mut ChaCha8Rng) -> Step {
        if self.link == Link::Away {
            return Step::Connect;
        }
        if self.mute {
            return Step::Rest;
        }
        match rng.random_range(0..20) {
            0..=6 => Step::Activity(
                [Activity::Active, Activity::Idle, Activity::Background][rng.random_range(0..3)],
            ),
            7..=9 => Step::Reload(rng.random_range(50..4_000)),
            10 => Step::Lose(rng.random_range(5_000..30_000)),
            11..=12 => Step::Bye(rng.random_range(100..15_000)),
            13 => Step::Vanish,
            14..=15 => Step::Rewatch,
            _ => Step::Rest,
        }
    }
}
