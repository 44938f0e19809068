//! The world: processes, clients, faults, and one queue of everything that will happen.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use herenow_coordinator_core as coordinator;
use herenow_gateway_core as gateway;
use herenow_protocol::{Epoch, Partition, Placement};
use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng as _;

use crate::backend::{Copy, Told};
use crate::client::Client;
use crate::clock::Clock;
use crate::fault::{Fault, Profile};
use crate::keep::{Happening, Store};
use crate::net::{Net, Node};
use crate::oracle::{Oracle, Violation};
use crate::plan::Plan;
use crate::process::{Packet, Process, Work, user_id};
use crate::timeline::Timeline;

/// When clients begin.
const START_MS: u64 = 8_000;
/// When faults begin.
pub(crate) const STORM_MS: u64 = START_MS + 3_000;
/// The wall clock at the start.
pub(crate) const WALL_MS: u64 = 1_700_000_000_000;

/// By gateway and slot: whose session it is, at which gateway.
pub(crate) type Ghosts = BTreeMap<(usize, u32), (usize, usize)>;

/// Something that will happen.
#[derive(Debug)]
pub(crate) enum Event {
    /// A message reaches a process, if it still lives.
    Arrive(Node, u64, Box<Packet>),
    /// A process wanted to be called.
    Wake(Node, u64),
    /// A process that woke reads on, from one of its connections.
    ReadOn(Node, u64, usize),
    /// A person does something.
    Step(usize),
    /// Something reaches the backend that keeps a copy.
    ToBackend(Box<Told>),
    /// It looks what it lacks.
    BackendTick,
    /// A backend claims something.
    BackendClaims,
    /// A person does something between the steps.
    Nudge(usize),
    /// A person takes its leave with a device, and is not back before that time.
    Depart(usize, u64),
    /// A client's SDK wanted to be called.
    Alarm(usize, u64),
    /// A client's attempt to connect.
    Dial(usize, u64),
    /// A frame reaches a client, if the connection is still that one.
    ToClient(usize, u64, String),
    /// A connection's end reaches a client: with a close code, or without.
    HungUp(usize, u64, Option<u16>),
    /// Something of a client reaches a gateway, if it still lives.
    FromClient(usize, u64, Box<gateway::Input>),
    /// Something goes wrong.
    Fault(Fault),
    /// Something happens to what is kept.
    Kept(Happening),
    /// Something comes right.
    Heal(Heal),
}

/// What comes right.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Heal {
    Restart(Node),
    Thaw(Node, u64),
    Join(Node),
    /// A draining gateway's window is over; it is back so long after it.
    Leave(usize, u64, u64),
    Loss,
}

impl Heal {
    /// Whether owners can hear again what they could not.
    pub(crate) const fn is_of_owners(self) -> bool {
        match self {
            Self::Restart(node) | Self::Thaw(node, _) | Self::Join(node) => {
                matches!(node, Node::Coordinator(_))
            }
            Self::Loss => true,
            Self::Leave(..) => false,
        }
    }
}

/// What a run came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// The seed that makes it again.
    pub seed: u64,
    /// What did not hold; empty when all is well.
    pub violations: Vec<Violation>,
    /// Messages sent, and of these lost.
    pub messages: (u64, u64),
    /// Transitions that watchers saw.
    pub transitions: u64,
    /// Faults that struck.
    pub faults: u64,
    /// Epochs claimed.
    pub claims: u64,
}

/// A world.
#[derive(Debug)]
pub struct World {
    pub(crate) seed: u64,
    pub(crate) profile: Profile,
    pub(crate) rng: ChaCha8Rng,
    pub(crate) now: u64,
    pub(crate) order: u64,
    pub(crate) queue: BTreeMap<(u64, u64), Event>,
    pub(crate) alarms: BTreeMap<Node, u64>,
    pub(crate) net: Net,
    pub(crate) coordinators: Vec<Process<coordinator::Coordinator>>,
    pub(crate) gateways: Vec<Process<gateway::Gateway>>,
    pub(crate) subscribed: BTreeMap<Node, BTreeSet<Partition>>,
    pub(crate) arbiter: BTreeMap<Partition, Vec<Epoch>>,
    pub(crate) arbiter_out_until: u64,
    pub(crate) arbiter_unsure_until: u64,
    pub(crate) placement: Placement,
    pub(crate) clients: Vec<Client>,
    pub(crate) slots: BTreeMap<(usize, u32), usize>,
    /// Slots whose client is dead, which the gateway does not know.
    pub(crate) ghosts: Ghosts,
    /// Slots of which their gateway has yet to hear that they are free.
    pub(crate) closing: BTreeSet<(usize, u32)>,
    /// What a backend has copied, how often it has asked, and how often it has looked.
    pub(crate) copies: BTreeMap<Partition, Copy>,
    pub(crate) backend_asks: u64,
    pub(crate) backend_ticks: u64,
    pub(crate) oracle: Oracle,
    /// When owners have heard again what they missed.
    pub(crate) owners_mended_at: u64,
    /// People did something that the oracle has not seen.
    pub(crate) stirred: bool,
    pub(crate) store: Store,
    pub(crate) claims: u64,
    pub(crate) faults: u64,
    pub(crate) trace: Option<String>,
}

impl World {
    /// A world made from a seed.
    #[must_use]
    pub fn new(seed: u64, profile: Profile) -> Self {
        Self::planned(&Plan::draw(seed, profile))
    }

    /// A world in which that goes wrong which the plan says.
    #[must_use]
    pub fn planned(plan: &Plan) -> Self {
        let (seed, profile) = (plan.seed, plan.profile);
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let clients = (0..profile.users * 2).map(|i| Client::new(i, profile, &mut rng)).collect();
        let placement = Placement::new(b"a secret of the simulated cluster", 2);
        let users = (0..profile.users).map(|user| {
            let key = placement.key(&user_id(user));
            (key, (user, placement.partition(key)))
        });
        let mut oracle = Oracle::new(Timeline::new(users.collect()));
        oracle.ledger.words_elsewhere = profile.keeps;
        let mut world = Self {
            seed,
            profile,
            now: 0,
            order: 0,
            queue: BTreeMap::new(),
            alarms: BTreeMap::new(),
            net: Net::new(),
            coordinators: (0..profile.coordinators).map(|_| Process::new(Clock::draw(&mut rng))).collect(),
            gateways: (0..profile.gateways).map(|_| Process::new(Clock::draw(&mut rng))).collect(),
            subscribed: BTreeMap::new(),
            arbiter: BTreeMap::new(),
            arbiter_out_until: 0,
            arbiter_unsure_until: 0,
            placement,
            clients,
            slots: BTreeMap::new(),
            ghosts: Ghosts::new(),
            closing: BTreeSet::new(),
            copies: BTreeMap::new(),
            backend_asks: 0,
            backend_ticks: 0,
            oracle,
            owners_mended_at: 0,
            stirred: false,
            store: Store::new(seed),
            claims: 0,
            faults: 0,
            trace: None,
            rng,
        };
        world.plan(&plan.faults);
        world
    }

    /// Keeps an account of everything that happens, for [`Self::trace`].
    pub fn keep_trace(&mut self) {
        self.trace = Some(String::new());
    }

    /// The account.
    #[must_use]
    pub fn trace(&self) -> &str {
        self.trace.as_deref().unwrap_or_default()
    }

    pub(crate) fn note(&mut self, what: impl FnOnce() -> String) {
        let now = self.now;
        if let Some(trace) = &mut self.trace {
            let _ = writeln!(trace, "{now:>7} {}", what());
        }
    }

    fn plan(&mut self, faults: &[(u64, Fault)]) {
        for index in 0..self.coordinators.len() {
            self.start(Node::Coordinator(index));
        }
        for index in 0..self.gateways.len() {
            self.start(Node::Gateway(index));
        }
        for index in 0..self.clients.len() {
            let at = START_MS + self.rng.random_range(0..3_000);
            self.at(at, Event::Step(index));
        }
        self.at(START_MS, Event::BackendTick);
        if self.profile.claims {
            self.at(STORM_MS, Event::BackendClaims);
        }
        if self.profile.keeps {
            self.let_people_speak(START_MS);
        }
        for (at, fault) in faults {
            self.at(*at, Event::Fault(*fault));
        }
    }

    pub(crate) fn storm_ends(&self) -> u64 {
        STORM_MS + self.profile.storm_ms
    }

    /// Lives the whole run through.
    pub fn run(&mut self) -> Report {
        let end = self.storm_ends() + self.profile.quiet_ms;
        while let Some(entry) = self.queue.first_entry() {
            if entry.key().0 > end {
                break;
            }
            let ((at, _), event) = entry.remove_entry();
            self.now = at;
            self.happen(event);
            if std::mem::take(&mut self.stirred) {
                self.oracle.stirred(&self.clients, &self.ghosts, at);
            }
        }
        self.now = end;
        for index in 0..self.coordinators.len() {
            self.take_counts(Node::Coordinator(index));
        }
        for index in 0..self.gateways.len() {
            self.take_counts(Node::Gateway(index));
        }
        self.judge_claims();
        self.judge_backend();
        self.oracle.judge(&self.clients, end);
        if self.profile.keeps {
            self.judge_kept(end);
        }
        Report {
            seed: self.seed,
            violations: self.oracle.violations.clone(),
            messages: (self.net.sent, self.net.lost),
            transitions: self.oracle.seen,
            faults: self.faults,
            claims: self.claims,
        }
    }

    /// What a core itself counts as broken, in production too: looked at before it dies.
    pub(crate) fn take_counts(&mut self, node: Node) {
        let (oracle, now) = (&mut self.oracle, self.now);
        match node {
            Node::Coordinator(index) => {
                let Some(stats) = self.coordinators[index].core.as_ref().map(|core| core.stats()) else {
                    return;
                };
                // Numbers mean what they say as long as one sender's messages keep their order. Where they do not, this
                // is how it is found, and repaired.
                if self.net.shuffled_until == 0 {
                    oracle.counted("I6", stats.sets_differed, "a set differed at equal numbers", now);
                    oracle.counted("I9", stats.values_differed, "a value differed at equal numbers", now);
                }
            }
            Node::Gateway(index) => {
                let Some(stats) = self.gateways[index].core.as_ref().map(|core| core.stats()) else { return };
                oracle.counted("I1", stats.versions_doubled, "one version had two values", now);
                oracle.counted("I2", stats.owners_doubled, "two spoke under one epoch", now);
            }
        }
    }

    pub(crate) fn at(&mut self, at: u64, event: Event) {
        self.order += 1;
        self.queue.insert((at, self.order), event);
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Arrive(node, life, packet) => self.arrive(node, life, Work::Packet(*packet)),
            Event::Wake(node, life) => self.wake(node, life),
            Event::ReadOn(node, life, lane) => self.read_on(node, life, lane),
            Event::Step(index) => self.step(index),
            Event::Nudge(index) => self.nudge(index),
            Event::Depart(index, until) => self.depart(index, until),
            Event::ToBackend(told) => self.backend_hears(*told),
            Event::BackendTick => self.backend_tick(),
            Event::BackendClaims => self.backend_claims(),
            Event::Alarm(index, instance) => self.alarm(index, instance),
            Event::Dial(index, link) => self.dial(index, link),
            Event::ToClient(index, link, text) => self.frame_arrives(index, link, text),
            Event::HungUp(index, link, code) => self.hung_up(index, link, code),
            Event::FromClient(gateway, life, input) => {
                self.arrive(Node::Gateway(gateway), life, Work::Client(*input));
            }
            Event::Fault(fault) => self.strike(fault),
            Event::Kept(happening) => self.on_kept(happening),
            Event::Heal(heal) => self.heal(heal),
        }
    }
}
