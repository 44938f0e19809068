//! Clients of the simulated world: people with devices who come, go, idle, reload, vanish and watch one another. On
//! each device runs the real core of the SDK.

use std::collections::BTreeMap;

use herenow_client_core as sdk;
use herenow_protocol::{Activity, Presence, UserId, Version};
use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;

use crate::clock::Clock;
use crate::fault::Profile;

/// How long somebody is away who went at the end.
const LEFT_MS: u64 = 10_000;

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
    /// The program, while it runs, and how often it was started.
    pub(crate) sdk: Option<sdk::Client>,
    pub(crate) instance: u64,
    /// Counts connections and attempts, so that what belongs to an earlier one is told apart.
    pub(crate) attempt: u64,
    /// On which of them it took its leave: whatever ends that connection, nobody waits for it.
    pub(crate) left_on: Option<u64>,
    pub(crate) link: Link,
    pub(crate) no_network_until: u64,
    /// Its person is not back before.
    pub(crate) away_until: u64,
    pub(crate) activity: Activity,
    pub(crate) activity_since: u64,
    /// The program is dead, and its gateway does not know.
    pub(crate) mute: bool,
    pub(crate) watches: Vec<usize>,
    /// What the application was told last.
    pub(crate) shown: BTreeMap<usize, Presence>,
    /// The versions it was sent in this session.
    pub(crate) sent: BTreeMap<UserId, Version>,
    pub(crate) alarm: u64,
    pub(crate) clock: Clock,
}

/// What a person does next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// Starts the program.
    Start,
    /// Becomes active, idle, or puts the device away.
    Activity(Activity),
    /// Reloads: the program ends and is started again soon.
    Reload(u64),
    /// Has no network for a while; the program goes on.
    Lose(u64),
    /// Says goodbye.
    Bye(u64),
    /// The device dies without a word.
    Vanish(u64),
    /// Watches others than before.
    Rewatch,
    /// Says what to show.
    Claim,
    /// Nothing.
    Rest,
}

impl Client {
    pub(crate) fn new(index: usize, profile: Profile, rng: &mut ChaCha8Rng) -> Self {
        Self {
            user: index / 2,
            device: format!("device-{index}"),
            sdk: None,
            instance: 0,
            attempt: 0,
            left_on: None,
            link: Link::Away,
            no_network_until: 0,
            away_until: 0,
            activity: Activity::Active,
            activity_since: 0,
            mute: false,
            watches: draw_watches(profile, rng),
            shown: BTreeMap::new(),
            sent: BTreeMap::new(),
            alarm: 0,
            clock: Clock::draw(rng),
        }
    }

    /// Which version it holds of what it shows: a newer one that looks the same is not told to the application, which
    /// can ask for it.
    pub(crate) fn held(&self, shown: &Presence) -> Version {
        let held = self.sdk.as_ref().and_then(|sdk| sdk.presence(&shown.user_id));
        held.map_or(shown.version, |held| held.version)
    }

    /// Whether it is connected, and runs.
    pub(crate) fn is_connected(&self) -> bool {
        self.link != Link::Away && !self.mute
    }

    /// Draws what the person does next.
    pub(crate) fn draw(&self, rng: &mut ChaCha8Rng) -> Step {
        if self.sdk.is_none() {
            return Step::Start;
        }
        match rng.random_range(0..20) {
            0..=6 => Step::Activity(draw_activity(rng)),
            7..=9 => Step::Reload(rng.random_range(50..4_000)),
            10 => Step::Lose(rng.random_range(500..30_000)),
            11..=12 => Step::Bye(rng.random_range(100..15_000)),
            13 => Step::Vanish(rng.random_range(1_000..50_000)),
            14..=15 => Step::Rewatch,
            16..=17 => Step::Claim,
            _ => Step::Rest,
        }
    }
}

pub(crate) fn draw_activity(rng: &mut ChaCha8Rng) -> Activity {
    [Activity::Active, Activity::Idle, Activity::Background][rng.random_range(0..3)]
}

/// Draws how a person goes who does not come back.
pub(crate) fn draw_leave(rng: &mut ChaCha8Rng) -> Step {
    [Step::Reload(LEFT_MS), Step::Bye(LEFT_MS), Step::Vanish(LEFT_MS)][rng.random_range(0..3)]
}

pub(crate) fn draw_watches(profile: Profile, rng: &mut ChaCha8Rng) -> Vec<usize> {
    (0..profile.users).filter(|_| rng.random_bool(0.5)).collect()
}
