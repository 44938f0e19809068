//! The bus of the simulated world: delays, loses, doubles and cuts.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use anyhow::{Context as _, bail};
use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;

/// How late messages are at the most that overtake one another.
const SHUFFLED_MS: u64 = 200;

/// A process of the world.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Node {
    /// A coordinator, by index.
    Coordinator(usize),
    /// A gateway, by index.
    Gateway(usize),
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Coordinator(index) => write!(f, "c{index}"),
            Self::Gateway(index) => write!(f, "g{index}"),
        }
    }
}

impl FromStr for Node {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let (kind, index) = text.split_at_checked(1).context("a process is c or g with a number")?;
        let index = index.parse()?;
        match kind {
            "c" => Ok(Self::Coordinator(index)),
            "g" => Ok(Self::Gateway(index)),
            _ => bail!("a process is c or g with a number, not {text}"),
        }
    }
}

/// What the network does to messages now.
#[derive(Debug)]
pub(crate) struct Net {
    /// Probability that a message is lost.
    pub(crate) loss: f64,
    /// Probability that a message arrives twice.
    pub(crate) doubling: f64,
    /// Who is cut off, in which directions: cannot send, cannot receive.
    pub(crate) cuts: BTreeMap<Node, (bool, bool)>,
    /// From whom to whom nothing goes, and until when.
    pub(crate) severed: BTreeMap<(Node, Node), u64>,
    /// Until when a process has no connection to the bus: that for its beats, or that for everything else.
    pub(crate) away: BTreeMap<(Node, bool), u64>,
    /// By how much everything that a process sends is late, and until when.
    pub(crate) lags: BTreeMap<Node, (u64, u64)>,
    /// Until when even messages of one link overtake one another.
    pub(crate) shuffled_until: u64,
    /// Messages of one link arrive in order, as over one connection.
    last: BTreeMap<(Node, Node, bool), u64>,
    pub(crate) sent: u64,
    pub(crate) lost: u64,
}

impl Net {
    pub(crate) fn new() -> Self {
        Self {
            loss: 0.0,
            doubling: 0.0,
            cuts: BTreeMap::new(),
            severed: BTreeMap::new(),
            away: BTreeMap::new(),
            lags: BTreeMap::new(),
            shuffled_until: 0,
            last: BTreeMap::new(),
            sent: 0,
            lost: 0,
        }
    }

    /// Whether nothing that a process sends, beats or everything else, arrives anywhere.
    pub(crate) fn is_mute(&self, node: Node, beat: bool, now: u64) -> bool {
        self.cuts.get(&node).is_some_and(|(mute, _)| *mute) || self.is_away(node, beat, now)
    }

    fn is_away(&self, node: Node, beat: bool, now: u64) -> bool {
        self.away.get(&(node, beat)).is_some_and(|until| now < *until)
    }

    fn cut(&self, from: Node, to: Node, beat: bool, now: u64) -> bool {
        let away = self.is_away(from, beat, now) || self.is_away(to, beat, now);
        let sends = self.cuts.get(&from).is_none_or(|(deaf_out, _)| !deaf_out);
        let hears = self.cuts.get(&to).is_none_or(|(_, deaf_in)| !deaf_in);
        away || !sends || !hears || self.severed.get(&(from, to)).is_some_and(|until| now < *until)
    }

    /// A process begins anew, with new connections: what it sent over the old ones may come after.
    pub(crate) fn connect_anew(&mut self, node: Node) {
        self.last.retain(|(from, ..), _| *from != node);
    }

    /// When a message sent now arrives: never, once or twice. Beats go over a connection of their own.
    pub(crate) fn arrivals(
        &mut self,
        from: Node,
        to: Node,
        beat: bool,
        now: u64,
        rng: &mut ChaCha8Rng,
    ) -> Vec<u64> {
        self.sent += 1;
        if self.cut(from, to, beat, now) || rng.random_bool(self.loss) {
            self.lost += 1;
            return Vec::new();
        }
        let last = self.last.entry((from, to, beat)).or_default();
        let at = if now < self.shuffled_until {
            now + rng.random_range(1..=SHUFFLED_MS)
        } else {
            let lag = self.lags.get(&from).filter(|(_, until)| now < *until).map_or(0, |(by, _)| *by);
            (now + lag + rng.random_range(1..=20)).max(*last)
        };
        *last = at.max(*last);
        let mut arrivals = vec![at];
        if rng.random_bool(self.doubling) {
            arrivals.push(at + rng.random_range(0..=50));
        }
        arrivals
    }
}
