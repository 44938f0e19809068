//! What goes wrong, and when: drawn from the seed before the run, or read from a file.

use std::fmt;
use std::str::FromStr;

use anyhow::bail;
use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;

use crate::net::Node;

/// How long before the quiet much is lost.
const LAST_WORDS_MS: u64 = 3_000;

/// How long all coordinators may stand still.
const SLEEP_MS: u64 = 20_000;
/// How long the bus may be away: longer than gateways remember who left ([`crate::process::ENDED_KEPT`]).
const AWAY_MS: u64 = 35_000;
/// How long before and after that nothing else goes wrong where nothing shall.
const AROUND_MS: u64 = 15_000;
/// How late messages of one process are at the most.
pub(crate) const LAG_MS: u64 = 400;

/// How big a world is and how much goes wrong in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Profile {
    /// Coordinators.
    pub coordinators: usize,
    /// Gateways.
    pub gateways: usize,
    /// Users; each has two devices.
    pub users: usize,
    /// Faults in the stormy part.
    pub faults: usize,
    /// Length of the stormy part, in milliseconds.
    pub storm_ms: u64,
    /// Length of the quiet part at the end, in milliseconds: within it everything must come right.
    pub quiet_ms: u64,
    /// Whether people and backends claim statuses. Then no coordinator dies, since nothing keeps claims beyond it.
    pub claims: bool,
    /// Whether there is a store, and people whose words it keeps. Statuses are not claimed then.
    pub keeps: bool,
    /// Breaks the cluster on purpose, to try the simulation itself: once the storm begins no sync arrives.
    pub syncs_lost: bool,
}

impl Profile {
    /// Three coordinators, three gateways, and a fault every few seconds.
    #[must_use]
    pub const fn normal() -> Self {
        Self {
            coordinators: 3,
            gateways: 3,
            users: 12,
            faults: 14,
            storm_ms: 60_000,
            quiet_ms: 60_000,
            claims: false,
            keeps: false,
            syncs_lost: false,
        }
    }

    /// The same world when nothing goes wrong.
    #[must_use]
    pub const fn calm() -> Self {
        Self { faults: 0, ..Self::normal() }
    }

    /// The normal world with a store, which is slow and away at times.
    #[must_use]
    pub const fn keeping() -> Self {
        Self { keeps: true, ..Self::normal() }
    }

    /// Some worlds have one coordinator: whatever it makes of a fault, nobody takes over from it. In most of them
    /// statuses are claimed.
    pub(crate) fn vary(self, rng: &mut ChaCha8Rng) -> Self {
        let lone = rng.random_bool(0.3);
        let coordinators = if lone { 1 } else { self.coordinators };
        Self { coordinators, claims: lone && rng.random_bool(0.6) && !self.keeps, ..self }
    }
}

/// One thing that goes wrong.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Fault {
    /// kill -9, back after so long.
    Crash(Node, u64),
    /// SIGSTOP, woken after so long.
    Freeze(Node, u64),
    /// No message from it (first), none to it (second), for so long.
    Cut(Node, bool, bool, u64),
    /// So many of all messages are lost, for so long.
    Loss(f64, u64),
    /// The arbiter does not answer for so long.
    ArbiterOut(u64),
    /// The store neither reads nor writes for so long.
    StoreOut(u64),
    /// The arbiter forgets its last writes.
    ArbiterLosesTail,
    /// kill -9, and it never comes back.
    Die(Node),
    /// SIGTERM to a gateway, whose clients are to leave within the first span; back so long after it has left.
    Drain(Node, u64, u64),
    /// So many changes of devices, all over, within so long.
    Rush(u64, u64),
    /// A coordinator's or gateway's wall clock jumps by so many milliseconds.
    WallJump(Node, i64),
    /// From now on its clock runs so many millionths too fast.
    Drift(Node, i64),
    /// Every coordinator is stopped, and woken after so long.
    Standstill(u64),
    /// Every coordinator is stopped when it has said that it lives, before it hears that itself; woken after so long.
    StandstillOnBeat(u64),
    /// All that it sends is late by so much (first), for so long.
    Lag(Node, u64, u64),
    /// Nothing goes from one (first) to the other (second), nor back if both are meant, for so long.
    Sever(Node, Node, bool, u64),
    /// Even messages of one process to another overtake one another, for so long.
    Shuffle(u64),
    /// The arbiter answers late, or that it cannot, whatever it did; for so long.
    ArbiterUnsure(u64),
    /// The bus is away, and with it the arbiter, for so long. Then each connection comes back by itself.
    Away(u64),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Crash(node, span) => write!(f, "crash {node} {span}"),
            Self::Freeze(node, span) => write!(f, "freeze {node} {span}"),
            Self::Cut(node, out, inward, span) => write!(f, "cut {node} {out} {inward} {span}"),
            Self::Loss(share, span) => write!(f, "loss {share} {span}"),
            Self::ArbiterOut(span) => write!(f, "arbiter-out {span}"),
            Self::StoreOut(span) => write!(f, "store-out {span}"),
            Self::ArbiterLosesTail => write!(f, "arbiter-loses-tail"),
            Self::Die(node) => write!(f, "die {node}"),
            Self::Drain(node, window, span) => write!(f, "drain {node} {window} {span}"),
            Self::Rush(changes, span) => write!(f, "rush {changes} {span}"),
            Self::WallJump(node, by) => write!(f, "wall-jump {node} {by}"),
            Self::Drift(node, millionths) => write!(f, "drift {node} {millionths}"),
            Self::Standstill(span) => write!(f, "standstill {span}"),
            Self::StandstillOnBeat(span) => write!(f, "standstill-on-beat {span}"),
            Self::Lag(node, by, span) => write!(f, "lag {node} {by} {span}"),
            Self::Sever(from, to, both, span) => write!(f, "sever {from} {to} {both} {span}"),
            Self::Shuffle(span) => write!(f, "shuffle {span}"),
            Self::ArbiterUnsure(span) => write!(f, "arbiter-unsure {span}"),
            Self::Away(span) => write!(f, "away {span}"),
        }
    }
}

impl FromStr for Fault {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let fault = match *words.as_slice() {
            ["crash", node, span] => Self::Crash(node.parse()?, span.parse()?),
            ["freeze", node, span] => Self::Freeze(node.parse()?, span.parse()?),
            ["cut", node, out, inward, span] => {
                Self::Cut(node.parse()?, out.parse()?, inward.parse()?, span.parse()?)
            }
            ["loss", share, span] => Self::Loss(probability(share)?, span.parse()?),
            ["arbiter-out", span] => Self::ArbiterOut(span.parse()?),
            ["store-out", span] => Self::StoreOut(span.parse()?),
            ["arbiter-loses-tail"] => Self::ArbiterLosesTail,
            ["die", node] => Self::Die(node.parse()?),
            ["drain", node, window, span] => Self::Drain(node.parse()?, window.parse()?, span.parse()?),
            ["rush", changes, span] => Self::Rush(changes.parse()?, span.parse()?),
            ["wall-jump", node, by] => Self::WallJump(node.parse()?, by.parse()?),
            ["drift", node, millionths] => Self::Drift(node.parse()?, millionths.parse()?),
            ["standstill", span] => Self::Standstill(span.parse()?),
            ["standstill-on-beat", span] => Self::StandstillOnBeat(span.parse()?),
            ["lag", node, by, span] => Self::Lag(node.parse()?, by.parse()?, span.parse()?),
            ["sever", from, to, both, span] => {
                Self::Sever(from.parse()?, to.parse()?, both.parse()?, span.parse()?)
            }
            ["shuffle", span] => Self::Shuffle(span.parse()?),
            ["arbiter-unsure", span] => Self::ArbiterUnsure(span.parse()?),
            ["away", span] => Self::Away(span.parse()?),
            _ => bail!("no fault is written so: {text}"),
        };
        Ok(fault)
    }
}

fn probability(text: &str) -> anyhow::Result<f64> {
    let share: f64 = text.parse()?;
    if !(0.0..=1.0).contains(&share) {
        bail!("a share is between 0 and 1, not {share}");
    }
    Ok(share)
}

impl Fault {
    /// Whether claims are gone after it, or end at another time than was said.
    const fn may_lose_claims(&self) -> bool {
        match self {
            Self::Crash(node, _) | Self::Die(node) | Self::WallJump(node, _) => {
                matches!(node, Node::Coordinator(_))
            }
            Self::Freeze(..)
            | Self::Cut(..)
            | Self::Drain(..)
            | Self::Drift(..)
            | Self::Lag(..)
            | Self::Sever(..)
            | Self::Loss(..)
            | Self::ArbiterOut(_)
            | Self::ArbiterUnsure(_)
            | Self::ArbiterLosesTail
            | Self::Rush(..)
            | Self::Shuffle(_)
            | Self::Standstill(_)
            | Self::StandstillOnBeat(_)
            | Self::Away(_) => false,
            Self::StoreOut(_) => true,
        }
    }

    /// The processes it strikes.
    pub(crate) const fn nodes(&self) -> [Option<Node>; 2] {
        match self {
            Self::Sever(from, to, ..) => [Some(*from), Some(*to)],
            Self::Crash(node, _)
            | Self::Freeze(node, _)
            | Self::Cut(node, ..)
            | Self::Die(node)
            | Self::Drain(node, ..)
            | Self::Drift(node, _)
            | Self::Lag(node, ..)
            | Self::WallJump(node, _) => [Some(*node), None],
            Self::Loss(..)
            | Self::ArbiterOut(_)
            | Self::ArbiterUnsure(_)
            | Self::StoreOut(_)
            | Self::ArbiterLosesTail
            | Self::Rush(..)
            | Self::Shuffle(_)
            | Self::Standstill(_)
            | Self::StandstillOnBeat(_)
            | Self::Away(_) => [None, None],
        }
    }
}

/// Draws the faults of a run with their times.
pub(crate) fn schedule(profile: Profile, start: u64, rng: &mut ChaCha8Rng) -> Vec<(u64, Fault)> {
    let mut faults: Vec<(u64, Fault)> = (0..profile.faults)
        .map(|_| (start + rng.random_range(0..profile.storm_ms), draw(profile, rng)))
        .collect();
    // Of each kind some are left.
    if profile.faults > 0 && rng.random_bool(0.3) {
        faults.push((start + rng.random_range(0..profile.storm_ms), Fault::Die(gateway(profile, rng))));
    }
    if profile.faults > 0 && profile.coordinators > 1 && rng.random_bool(0.2) {
        faults.push((start + rng.random_range(0..profile.storm_ms), Fault::Die(coordinator(profile, rng))));
    }
    if profile.faults > 0 && rng.random_bool(0.5) {
        last_words(start + profile.storm_ms, rng, &mut faults);
    }
    if profile.faults > 0 && rng.random_bool(0.6) {
        let (window, back) = (rng.random_range(0..10_000), rng.random_range(100..8_000));
        let at = start + rng.random_range(0..profile.storm_ms);
        faults.push((at, Fault::Drain(gateway(profile, rng), window, back)));
    }
    if profile.faults > 0 && rng.random_bool(0.4) {
        long_sleep(profile, start, rng, &mut faults);
    }
    if profile.faults > 0 && rng.random_bool(0.15) {
        sleep_on_beat(profile, start, rng, &mut faults);
    }
    if profile.keeps && profile.faults > 0 && rng.random_bool(0.4) {
        let span = rng.random_range(1_000..20_000);
        faults.push((start + rng.random_range(0..profile.storm_ms), Fault::StoreOut(span)));
    }
    if profile.faults > 0 && rng.random_bool(0.2) {
        bus_away(profile, start, rng, &mut faults);
    }
    if profile.claims {
        faults.retain(|(_, fault)| !fault.may_lose_claims());
    }
    faults.sort_by_key(|(at, _)| *at);
    faults
}

/// In half of the worlds that this happens to, nothing else goes wrong around it: what comes of it alone is exact.
fn bus_away(profile: Profile, start: u64, rng: &mut ChaCha8Rng, faults: &mut Vec<(u64, Fault)>) {
    let at = start + rng.random_range(0..profile.storm_ms - AWAY_MS);
    let span = rng.random_range(1_000..AWAY_MS);
    if rng.random_bool(0.5) {
        faults.retain(|(when, _)| *when + AROUND_MS < at || *when > at + span + AROUND_MS);
    }
    faults.push((at, Fault::Away(span)));
}

/// All coordinators stand still for so long that who was in grace when it began is back long before it ends. A host
/// that is about to stop is slow before: messages are still under way.
fn long_sleep(profile: Profile, start: u64, rng: &mut ChaCha8Rng, faults: &mut Vec<(u64, Fault)>) {
    let at = start + rng.random_range(SLEEP_MS / 2..profile.storm_ms - SLEEP_MS);
    faults.push((at - SLEEP_MS / 4, Fault::Rush(rng.random_range(20..80), SLEEP_MS / 2)));
    for index in 0..profile.coordinators {
        let by = rng.random_range(LAG_MS / 2..LAG_MS);
        faults.push((at - 2 * LAG_MS, Fault::Lag(Node::Coordinator(index), by, 2 * LAG_MS)));
    }
    faults.push((at, Fault::Standstill(rng.random_range(SLEEP_MS / 2..SLEEP_MS))));
}

/// The same, with a sign of its own life under way to each: it is read first when they wake, and must not be believed.
fn sleep_on_beat(profile: Profile, start: u64, rng: &mut ChaCha8Rng, faults: &mut Vec<(u64, Fault)>) {
    let at = start + rng.random_range(SLEEP_MS / 2..profile.storm_ms - SLEEP_MS);
    faults.push((at - SLEEP_MS / 4, Fault::Rush(rng.random_range(20..80), SLEEP_MS / 2)));
    faults.push((at, Fault::StandstillOnBeat(rng.random_range(SLEEP_MS / 2..SLEEP_MS))));
}

/// Much changes and much is lost just before the quiet, in which nothing that happens later covers it.
fn last_words(end: u64, rng: &mut ChaCha8Rng, faults: &mut Vec<(u64, Fault)>) {
    faults.push((end - LAST_WORDS_MS, Fault::Loss(rng.random_range(0.05..0.4), LAST_WORDS_MS)));
    faults.push((end - LAST_WORDS_MS / 2, Fault::Rush(rng.random_range(20..150), LAST_WORDS_MS / 2)));
}

fn draw(profile: Profile, rng: &mut ChaCha8Rng) -> Fault {
    match rng.random_range(0..28) {
        0..=3 => Fault::Crash(coordinator(profile, rng), rng.random_range(100..8_000)),
        4..=6 => Fault::Crash(gateway(profile, rng), rng.random_range(100..12_000)),
        7..=8 => Fault::Freeze(coordinator(profile, rng), rng.random_range(200..15_000)),
        9 => Fault::Freeze(gateway(profile, rng), rng.random_range(200..15_000)),
        10 => cut(coordinator(profile, rng), rng),
        // Deaf, and still heard.
        11 => Fault::Cut(coordinator(profile, rng), false, true, rng.random_range(50..25_000)),
        12..=14 => cut(gateway(profile, rng), rng),
        15..=16 => Fault::Loss(rng.random_range(0.01..0.3), rng.random_range(500..10_000)),
        17 => Fault::ArbiterOut(rng.random_range(500..7_000)),
        18 => Fault::ArbiterLosesTail,
        19 => Fault::Drift(either(profile, rng), rng.random_range(-50_000..=50_000)),
        20..=21 => Fault::Standstill(rng.random_range(200..25_000)),
        22..=23 => {
            Fault::Lag(either(profile, rng), rng.random_range(20..LAG_MS), rng.random_range(500..15_000))
        }
        24 => Fault::Shuffle(rng.random_range(500..8_000)),
        25..=26 => {
            let (from, to) = (either(profile, rng), either(profile, rng));
            Fault::Sever(from, to, rng.random_bool(0.5), rng.random_range(500..15_000))
        }
        27 => Fault::ArbiterUnsure(rng.random_range(500..15_000)),
        _ => Fault::WallJump(either(profile, rng), rng.random_range(-7_200_000..7_200_000)),
    }
}

fn cut(node: Node, rng: &mut ChaCha8Rng) -> Fault {
    let (out, inward) = [(true, true), (true, true), (true, false), (false, true)][rng.random_range(0..4)];
    Fault::Cut(node, out, inward, rng.random_range(50..9_000))
}

fn coordinator(profile: Profile, rng: &mut ChaCha8Rng) -> Node {
    Node::Coordinator(rng.random_range(0..profile.coordinators))
}

fn gateway(profile: Profile, rng: &mut ChaCha8Rng) -> Node {
    Node::Gateway(rng.random_range(0..profile.gateways))
}

fn either(profile: Profile, rng: &mut ChaCha8Rng) -> Node {
    if rng.random_bool(0.5) { coordinator(profile, rng) } else { gateway(profile, rng) }
}
