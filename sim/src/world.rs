//! The world: processes, clients, faults, and one queue of everything that will happen.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use herenow_coordinator_core as coordinator;
use herenow_gateway_core as gateway;
use herenow_gateway_core::{Grants, Opening, Slot, Viewer};
use herenow_protocol::frame::{ClientFrame, ServerFrame};
use herenow_protocol::id::ProcessId;
use herenow_protocol::message::{CoordinatorBeat, Delta, Ending, Fenced, GatewayBeat, ToGateway, Up};
use herenow_protocol::{
    Activity, DeviceId, DeviceKind, Epoch, GatewayId, Incarnation, MonoTime, Now, Origin, Partition,
    Placement, Presence, Status, UserId, WallTime,
};
use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng as _;

use crate::client::{Client, Link, Step};
use crate::fault::{Fault, Profile, schedule};
use crate::net::{Net, Node};
use crate::oracle::{Oracle, Violation};

/// When clients begin, and when faults do.
const START_MS: u64 = 8_000;
const WALL_MS: u64 = 1_700_000_000_000;

/// A message on its way.
#[derive(Clone, Debug)]
enum Packet {
    Up(Up),
    GatewayBeat(GatewayBeat),
    CoordinatorBeat(CoordinatorBeat),
    Fenced(Fenced),
    Down(Delta),
    ToGateway(ToGateway),
    Recorded(Partition, Epoch, coordinator::Recorded),
}

#[derive(Debug)]
enum Event {
    Arrive(Node, u64, Box<Packet>),
    Wake(Node, u64),
    Step(usize),
    Heartbeat(usize),
    Fault(Fault),
    Heal(Heal),
}

#[derive(Clone, Copy, Debug)]
enum Heal {
    Restart(Node),
    Thaw(Node, u64),
    Join(Node),
    Loss,
}

#[derive(Debug)]
struct Process<C> {
    core: Option<C>,
    life: u64,
    frozen: bool,
    backlog: Vec<Work>,
    wall_skew: i64,
    cut_until: u64,
}

/// What a process finds when it wakes.
#[derive(Debug)]
enum Work {
    Packet(Packet),
    Client(gateway::Input),
}

impl<C> Process<C> {
    const fn new() -> Self {
        Self { core: None, life: 0, frozen: false, backlog: Vec::new(), wall_skew: 0, cut_until: 0 }
    }

    fn now(&self, now: u64) -> Now {
        let wall = (WALL_MS + now).saturating_add_signed(self.wall_skew);
        Now { mono: MonoTime::from_millis(now), wall: WallTime::from_millis(wall) }
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
    seed: u64,
    profile: Profile,
    rng: ChaCha8Rng,
    now: u64,
    order: u64,
    queue: BTreeMap<(u64, u64), Event>,
    alarms: BTreeMap<Node, u64>,
    net: Net,
    coordinators: Vec<Process<coordinator::Coordinator>>,
    gateways: Vec<Process<gateway::Gateway>>,
    subscribed: BTreeMap<Node, BTreeSet<Partition>>,
    arbiter: BTreeMap<Partition, Vec<Epoch>>,
    arbiter_out_until: u64,
    placement: Placement,
    clients: Vec<Client>,
    slots: BTreeMap<(usize, u32), usize>,
    oracle: Oracle,
    claims: u64,
    faults: u64,
    trace: Option<String>,
}

impl World {
    /// A world made from a seed.
    #[must_use]
    pub fn new(seed: u64, profile: Profile) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let clients = (0..profile.users * 2).map(|i| client(i, profile, &mut rng)).collect();
        let mut world = Self {
            seed,
            profile,
            now: 0,
            order: 0,
            queue: BTreeMap::new(),
            alarms: BTreeMap::new(),
            net: Net::new(),
            coordinators: (0..profile.coordinators).map(|_| Process::new()).collect(),
            gateways: (0..profile.gateways).map(|_| Process::new()).collect(),
            subscribed: BTreeMap::new(),
            arbiter: BTreeMap::new(),
            arbiter_out_until: 0,
            placement: Placement::new(b"a secret of the simulated cluster", 2),
            clients,
            slots: BTreeMap::new(),
            oracle: Oracle::default(),
            claims: 0,
            faults: 0,
            trace: None,
            rng,
        };
        world.plan();
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

    fn note(&mut self, what: impl FnOnce() -> String) {
        let now = self.now;
        if let Some(trace) = &mut self.trace {
            let _ = writeln!(trace, "{now:>7} {}", what());
        }
    }

    fn plan(&mut self) {
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
        for (at, fault) in schedule(self.profile, START_MS + 3_000, &mut self.rng) {
            self.at(at, Event::Fault(fault));
        }
    }

    fn storm_ends(&self) -> u64 {
        START_MS + 3_000 + self.profile.storm_ms
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
        }
        self.now = end;
        self.oracle.judge(&self.clients, end);
        Report {
            seed: self.seed,
            violations: self.oracle.violations.clone(),
            messages: (self.net.sent, self.net.lost),
            transitions: self.oracle.seen,
            faults: self.faults,
            claims: self.claims,
        }
    }

    fn at(&mut self, at: u64, event: Event) {
        self.order += 1;
        self.queue.insert((at, self.order), event);
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Arrive(node, life, packet) => self.arrive(node, life, Work::Packet(*packet)),
            Event::Wake(node, life) => self.wake(node, life),
            Event::Step(index) => self.step(index),
            Event::Heartbeat(index) => self.heartbeat(index),
            Event::Fault(fault) => self.strike(fault),
            Event::Heal(heal) => self.heal(heal),
        }
    }

    // ---- processes

    fn life(&self, node: Node) -> u64 {
        match node {
            Node::Coordinator(i) => self.coordinators[i].life,
            Node::Gateway(i) => self.gateways[i].life,
        }
    }

    fn start(&mut self, node: Node) {
        let seed = self.rng.random();
        self.subscribed.insert(node, BTreeSet::new());
        match node {
            Node::Coordinator(i) => {
                let process = &mut self.coordinators[i];
                process.life += 1;
                let id = name("c", i);
                let incarnation = Incarnation(process.life);
                let now = process.now(self.now);
                let config = coordinator::Config::default();
                let core =
                    coordinator::Coordinator::new(config, id, incarnation, self.placement.clone(), seed, now);
                process.core = Some(core);
                self.load_arbiter(i);
            }
            Node::Gateway(i) => {
                let process = &mut self.gateways[i];
                process.life += 1;
                let id = GatewayId { process: name("g", i), shard: 0 };
                let origin = Origin { gateway: id, incarnation: Incarnation(process.life) };
                let now = process.now(self.now);
                let config = gateway::Config::default();
                process.core = Some(gateway::Gateway::new(config, origin, self.placement.clone(), seed, now));
            }
        }
        let life = self.life(node);
        self.alarms.remove(&node);
        self.at(self.now, Event::Wake(node, life));
    }

    fn load_arbiter(&mut self, index: usize) {
        if self.now < self.arbiter_out_until {
            return;
        }
        let known: Vec<_> =
            self.arbiter.iter().filter_map(|(p, epochs)| Some((*p, *epochs.last()?))).collect();
        for (partition, epoch) in known {
            self.coordinator_input(index, coordinator::Input::Known { partition, epoch });
        }
    }

    fn arrive(&mut self, node: Node, life: u64, work: Work) {
        if self.life(node) != life {
            return;
        }
        let (frozen, alive) = match node {
            Node::Coordinator(i) => (self.coordinators[i].frozen, self.coordinators[i].core.is_some()),
            Node::Gateway(i) => (self.gateways[i].frozen, self.gateways[i].core.is_some()),
        };
        if !alive {
            return;
        }
        if frozen {
            match node {
                Node::Coordinator(i) => self.coordinators[i].backlog.push(work),
                Node::Gateway(i) => self.gateways[i].backlog.push(work),
            }
            return;
        }
        self.deliver(node, work);
    }

    fn deliver(&mut self, node: Node, work: Work) {
        match (node, work) {
            (Node::Coordinator(i), Work::Packet(packet)) => {
                if let Some(input) = coordinator_packet(packet) {
                    self.coordinator_input(i, input);
                }
            }
            (Node::Gateway(i), Work::Packet(packet)) => {
                if let Some(input) = gateway_packet(packet) {
                    self.gateway_input(i, input);
                }
            }
            (Node::Gateway(i), Work::Client(input)) => self.gateway_input(i, input),
            (Node::Coordinator(_), Work::Client(_)) => {}
        }
    }

    fn wake(&mut self, node: Node, life: u64) {
        if self.life(node) != life || self.alarms.get(&node).is_some_and(|set| *set > self.now) {
            return;
        }
        match node {
            Node::Coordinator(i) => {
                let process = &mut self.coordinators[i];
                let now = process.now(self.now);
                let Some(core) = process.core.as_mut().filter(|_| !process.frozen) else { return };
                let mut out = Vec::new();
                if core.poll_timeout().is_some_and(|due| due <= now.mono) {
                    core.handle_timeout(now, &mut out);
                }
                self.coordinator_outputs(i, out);
            }
            Node::Gateway(i) => {
                let process = &mut self.gateways[i];
                let now = process.now(self.now);
                let Some(core) = process.core.as_mut().filter(|_| !process.frozen) else { return };
                let mut out = Vec::new();
                if core.poll_timeout().is_some_and(|due| due <= now.mono) {
                    core.handle_timeout(now, &mut out);
                }
                self.gateway_outputs(i, out);
            }
        }
    }

    /// One alarm per process: an earlier one takes the place of a later.
    fn schedule_wake(&mut self, node: Node, due: Option<MonoTime>) {
        let Some(due) = due else { return };
        let at = due.as_millis().max(self.now + 1);
        if self.alarms.get(&node).is_some_and(|set| *set > self.now && *set <= at) {
            return;
        }
        self.alarms.insert(node, at);
        let life = self.life(node);
        self.at(at, Event::Wake(node, life));
    }

    fn coordinator_input(&mut self, index: usize, input: coordinator::Input) {
        let process = &mut self.coordinators[index];
        let now = process.now(self.now);
        let Some(core) = process.core.as_mut() else { return };
        let mut out = Vec::new();
        core.handle(input, now, &mut out);
        self.coordinator_outputs(index, out);
    }

    fn coordinator_outputs(&mut self, index: usize, out: Vec<coordinator::Output>) {
        use coordinator::Output;
        let node = Node::Coordinator(index);
        for output in out {
            match output {
                Output::Subscribe(partition) => {
                    self.subscribed.entry(node).or_default().insert(partition);
                }
                Output::Unsubscribe(partition) => {
                    self.subscribed.entry(node).or_default().remove(&partition);
                }
                Output::Record { partition, epoch } => self.record(index, partition, epoch),
                Output::Beat(beat) => self.broadcast(node, true, |_, _| true, &Packet::CoordinatorBeat(beat)),
                Output::Down(delta) => self.send_delta(index, delta),
                Output::ToGateway(gateway, message) => {
                    if let Some(to) = index_of(&gateway.process) {
                        self.send(node, Node::Gateway(to), false, Packet::ToGateway(message));
                    }
                }
                Output::Fenced(coordinator, fenced) => {
                    if let Some(to) = index_of(&coordinator) {
                        self.send(node, Node::Coordinator(to), false, Packet::Fenced(fenced));
                    }
                }
                Output::Changes(_)
                | Output::UserChange(..)
                | Output::Listed { .. }
                | Output::Transition(_) => {}
            }
        }
        let due = self.coordinators[index].core.as_ref().and_then(coordinator::Coordinator::poll_timeout);
        self.schedule_wake(node, due);
    }

    fn send_delta(&mut self, index: usize, delta: Delta) {
        let life = self.coordinators[index].life;
        self.oracle.published(&delta, index, life, self.now);
        self.note(|| format!("c{index} publishes {delta:?}"));
        let partition = delta.partition;
        let listens = move |world: &Self, to: Node| {
            matches!(to, Node::Gateway(_))
                && world.subscribed.get(&to).is_some_and(|s| s.contains(&partition))
        };
        self.broadcast(Node::Coordinator(index), false, listens, &Packet::Down(delta));
    }

    fn record(&mut self, index: usize, partition: Partition, epoch: Epoch) {
        self.claims += 1;
        self.note(|| format!("c{index} claims {partition} {epoch}"));
        if self.now < self.arbiter_out_until {
            return;
        }
        let epochs = self.arbiter.entry(partition).or_default();
        let highest = epochs.last().copied().unwrap_or(Epoch::NONE);
        let outcome = if epoch > highest {
            epochs.push(epoch);
            coordinator::Recorded::Yes
        } else {
            coordinator::Recorded::Conflict(highest)
        };
        // The record may be made and the answer lost.
        if self.rng.random_bool(self.net.loss) {
            return;
        }
        let at = self.now + self.rng.random_range(1..=5);
        let node = Node::Coordinator(index);
        let life = self.life(node);
        self.at(at, Event::Arrive(node, life, Box::new(Packet::Recorded(partition, epoch, outcome))));
    }

    fn gateway_input(&mut self, index: usize, input: gateway::Input) {
        let process = &mut self.gateways[index];
        let now = process.now(self.now);
        let Some(core) = process.core.as_mut() else { return };
        let mut out = Vec::new();
        core.handle(input, now, &mut out);
        self.gateway_outputs(index, out);
    }

    fn gateway_outputs(&mut self, index: usize, out: Vec<gateway::Output>) {
        use gateway::Output;
        let node = Node::Gateway(index);
        for output in out {
            match output {
                Output::Ready(slot) => self.pull_frames(index, slot),
                Output::Close(slot, code) => {
                    self.pull_frames(index, slot);
                    self.note(|| format!("g{index} closes slot {} with {code:?}", slot.0));
                    self.hang_up(index, slot);
                }
                Output::Up(up) => self.send_up(index, up),
                Output::Beat(beat) => {
                    let to_coordinators = |_: &Self, to: Node| matches!(to, Node::Coordinator(_));
                    self.broadcast(node, true, to_coordinators, &Packet::GatewayBeat(beat));
                }
                Output::Fenced(coordinator, fenced) => {
                    if let Some(to) = index_of(&coordinator) {
                        self.send(node, Node::Coordinator(to), false, Packet::Fenced(fenced));
                    }
                }
                Output::Subscribe(partition) => {
                    self.subscribed.entry(node).or_default().insert(partition);
                }
                Output::Unsubscribe(partition) => {
                    self.subscribed.entry(node).or_default().remove(&partition);
                }
                Output::Verify { .. }
                | Output::Answered(..)
                | Output::ClaimDone(..)
                | Output::Explained(..) => {}
            }
        }
        let due = self.gateways[index].core.as_ref().and_then(gateway::Gateway::poll_timeout);
        self.schedule_wake(node, due);
    }

    fn send_up(&mut self, index: usize, up: Up) {
        self.oracle.reported(&up, self.now);
        self.note(|| format!("g{index} sends {up:?}"));
        let partition = up.partition();
        let listens = move |world: &Self, to: Node| {
            matches!(to, Node::Coordinator(_))
                && world.subscribed.get(&to).is_some_and(|s| s.contains(&partition))
        };
        self.broadcast(Node::Gateway(index), false, listens, &Packet::Up(up));
    }

    fn nodes(&self) -> Vec<Node> {
        let coordinators = (0..self.coordinators.len()).map(Node::Coordinator);
        coordinators.chain((0..self.gateways.len()).map(Node::Gateway)).collect()
    }

    fn broadcast(&mut self, from: Node, beat: bool, to: impl Fn(&Self, Node) -> bool, packet: &Packet) {
        for node in self.nodes() {
            if to(self, node) {
                self.send(from, node, beat, packet.clone());
            }
        }
    }

    fn send(&mut self, from: Node, to: Node, beat: bool, packet: Packet) {
        let life = self.life(to);
        for at in self.net.arrivals(from, to, beat, self.now, &mut self.rng) {
            self.at(at, Event::Arrive(to, life, Box::new(packet.clone())));
        }
    }

    // ---- clients

    /// The frames that a gateway has for a client, shown on its screen.
    fn pull_frames(&mut self, index: usize, slot: Slot) {
        let mut frame = String::new();
        loop {
            let process = &mut self.gateways[index];
            let now = process.now(self.now);
            let Some(core) = process.core.as_mut() else { return };
            if !core.poll_transmit(slot, now, &mut frame) {
                return;
            }
            if let Some(client) = self.slots.get(&(index, slot.0)).copied() {
                self.show(client, &frame);
            }
        }
    }

    fn show(&mut self, client: usize, frame: &str) {
        let users = match ServerFrame::parse(frame) {
            Ok(ServerFrame::Snapshot { users, .. } | ServerFrame::Presence { users }) => users,
            Ok(_) => return,
            Err(error) => unreachable!("a gateway wrote what no client reads: {error}: {frame}"),
        };
        for presence in users {
            let Some(user) = presence.user_id.as_str().strip_prefix('u').and_then(|n| n.parse().ok()) else {
                continue;
            };
            if self.clients[client].watches.contains(&user) {
                self.note(|| format!("client {client} is shown {presence:?}"));
                self.take(client, user, presence);
            }
        }
    }

    /// What a client does with a value: a lower version is dropped; `unknown` says only that what it has is old.
    fn take(&mut self, client: usize, user: usize, mut presence: Presence) {
        let in_session = self.clients[client].told.contains(&user);
        if let Some(held) = self.clients[client].view.get(&user) {
            if presence.status == Status::Unknown {
                presence.version = presence.version.max(held.version);
            } else if presence.version < held.version && !in_session {
                return;
            }
        }
        self.oracle.shown(client, &self.clients, user, &presence, in_session, self.now);
        if presence.status != Status::Unknown {
            self.clients[client].told.insert(user);
        }
        self.clients[client].view.insert(user, presence);
    }

    fn step(&mut self, index: usize) {
        let step = self.clients[index].draw(&mut self.rng);
        let stormy = self.now < self.storm_ends();
        let pause = self.rng.random_range(300..6_000);
        if stormy || step == Step::Connect {
            let next = self.act(index, step).unwrap_or(pause);
            self.at(self.now + next, Event::Step(index));
        } else {
            self.at(self.now + pause, Event::Step(index));
        }
    }

    /// Carries out a step; says when the next one follows, if that is part of it.
    fn act(&mut self, index: usize, step: Step) -> Option<u64> {
        self.note(|| format!("client {index}: {step:?}"));
        match step {
            Step::Connect => self.connect(index),
            Step::Activity(activity) => {
                self.clients[index].activity = activity;
                self.frame(index, ClientFrame::Heartbeat { activity: Some(activity), id: None });
            }
            Step::Reload(away) | Step::Lose(away) => {
                self.break_off(index);
                return Some(away);
            }
            Step::Bye(away) => {
                self.oracle.no_grace(self.clients[index].user);
                self.frame(index, ClientFrame::Bye {});
                self.part(index, Ending::Bye);
                return Some(away);
            }
            Step::Vanish => {
                self.oracle.no_grace(self.clients[index].user);
                self.clients[index].mute = true;
            }
            Step::Rewatch => self.rewatch(index),
            Step::Rest => {}
        }
        None
    }

    fn connect(&mut self, index: usize) {
        let up: Vec<usize> = (0..self.gateways.len())
            .filter(|i| self.gateways[*i].core.is_some() && !self.gateways[*i].frozen)
            .collect();
        if up.is_empty() {
            return;
        }
        let gateway = up[self.rng.random_range(0..up.len())];
        let slot = (0..).find(|slot| !self.slots.contains_key(&(gateway, *slot))).unwrap_or(0);
        self.slots.insert((gateway, slot), index);
        let life = self.gateways[gateway].life;
        let client = &mut self.clients[index];
        client.link = Link::Open { gateway, life, slot, since: self.now };
        client.mute = false;
        client.told.clear();
        client.activity = Activity::Active;
        let opening = Opening {
            viewer: Viewer { user: user_id(client.user), grants: Grants::Everybody },
            device: device_id(&client.device),
            kind: DeviceKind::Web,
            activity: Some(Activity::Active),
            token_expires: WallTime::from_millis(u64::MAX / 2),
        };
        self.hand_to_gateway(gateway, gateway::Input::Open(Slot(slot), Box::new(opening)));
        self.send_watch(index);
        self.at(self.now + 20_000, Event::Heartbeat(index));
    }

    fn send_watch(&mut self, index: usize) {
        let client = &mut self.clients[index];
        client.next_id += 1;
        let users = client.watches.iter().map(|user| format!("u{user}")).collect();
        let frame = ClientFrame::Watch { id: client.next_id, users };
        self.frame(index, frame);
    }

    fn rewatch(&mut self, index: usize) {
        let client = &mut self.clients[index];
        let before: Vec<String> = client.watches.iter().map(|user| format!("u{user}")).collect();
        client.watches = draw_watches(self.profile, &mut self.rng);
        let kept = client.watches.clone();
        client.view.retain(|user, _| kept.contains(user));
        client.told.retain(|user| kept.contains(user));
        client.next_id += 1;
        let frame = ClientFrame::Unwatch { id: client.next_id, users: before };
        self.frame(index, frame);
        self.send_watch(index);
    }

    fn frame(&mut self, index: usize, frame: ClientFrame) {
        if let Link::Open { gateway, slot, .. } = self.clients[index].link {
            self.hand_to_gateway(gateway, gateway::Input::Frame(Slot(slot), frame));
        }
    }

    /// What a client sends waits in a socket while the gateway stands still.
    fn hand_to_gateway(&mut self, gateway: usize, input: gateway::Input) {
        let life = self.gateways[gateway].life;
        self.arrive(Node::Gateway(gateway), life, Work::Client(input));
    }

    fn heartbeat(&mut self, index: usize) {
        let client = &self.clients[index];
        if matches!(client.link, Link::Open { .. }) {
            if !client.mute {
                let activity = Some(client.activity);
                self.frame(index, ClientFrame::Heartbeat { activity, id: None });
            }
            self.at(self.now + 20_000, Event::Heartbeat(index));
        }
    }

    /// The connection breaks: the gateway hears of it.
    fn break_off(&mut self, index: usize) {
        if let Link::Open { gateway, since, .. } = self.clients[index].link {
            let user = self.clients[index].user;
            self.oracle.grace(user, gateway, since, self.now);
            self.part(index, Ending::Lost);
        }
    }

    fn part(&mut self, index: usize, how: Ending) {
        if let Link::Open { gateway, slot, .. } = self.clients[index].link {
            self.clients[index].link = Link::Away;
            self.slots.remove(&(gateway, slot));
            self.hand_to_gateway(gateway, gateway::Input::Closed(Slot(slot), how));
        }
    }

    /// The gateway closes the connection.
    fn hang_up(&mut self, gateway: usize, slot: Slot) {
        if let Some(index) = self.slots.remove(&(gateway, slot.0)) {
            let client = &mut self.clients[index];
            client.link = Link::Away;
            client.mute = false;
            self.hand_to_gateway(gateway, gateway::Input::Closed(slot, Ending::Lost));
        }
    }

    // ---- faults

    fn strike(&mut self, fault: Fault) {
        self.faults += 1;
        self.note(|| format!("FAULT {fault:?}"));
        match fault {
            Fault::Crash(node, back) => self.crash(node, back),
            Fault::Freeze(node, span) => self.freeze(node, span),
            Fault::Cut(node, out, inward, span) => self.cut(node, out, inward, span),
            Fault::Loss(loss, span) => {
                self.net.loss = loss;
                self.net.doubling = loss / 2.0;
                self.at((self.now + span).min(self.storm_ends()), Event::Heal(Heal::Loss));
            }
            Fault::ArbiterOut(span) => self.arbiter_out_until = (self.now + span).min(self.storm_ends()),
            Fault::ArbiterLosesTail => {
                for epochs in self.arbiter.values_mut() {
                    epochs.pop();
                }
            }
            Fault::WallJump(Node::Coordinator(i), by) => self.coordinators[i].wall_skew += by,
            Fault::WallJump(Node::Gateway(i), by) => self.gateways[i].wall_skew += by,
        }
    }

    fn crash(&mut self, node: Node, back: u64) {
        let alive = match node {
            Node::Coordinator(i) => self.coordinators[i].core.take().is_some(),
            Node::Gateway(i) => self.gateways[i].core.take().is_some(),
        };
        if !alive {
            return;
        }
        match node {
            Node::Coordinator(i) => {
                (self.coordinators[i].frozen, self.coordinators[i].backlog) = (false, Vec::new())
            }
            Node::Gateway(i) => {
                (self.gateways[i].frozen, self.gateways[i].backlog) = (false, Vec::new());
                self.oracle.disturb(i, self.now);
                self.drop_clients(i);
            }
        }
        self.at((self.now + back).min(self.storm_ends()), Event::Heal(Heal::Restart(node)));
    }

    fn drop_clients(&mut self, gateway: usize) {
        let dropped: Vec<(usize, u32)> = self.slots.keys().filter(|(g, _)| *g == gateway).copied().collect();
        for key in dropped {
            if let Some(index) = self.slots.remove(&key) {
                self.clients[index].link = Link::Away;
                self.clients[index].mute = false;
            }
        }
    }

    fn freeze(&mut self, node: Node, span: u64) {
        let frozen = match node {
            Node::Coordinator(i) => &mut self.coordinators[i].frozen,
            Node::Gateway(i) => &mut self.gateways[i].frozen,
        };
        if *frozen {
            return;
        }
        *frozen = true;
        let until = (self.now + span).min(self.storm_ends());
        if let Node::Gateway(i) = node {
            self.oracle.disturb(i, until);
        }
        let life = self.life(node);
        self.at(until, Event::Heal(Heal::Thaw(node, life)));
    }

    fn cut(&mut self, node: Node, out: bool, inward: bool, span: u64) {
        let until = (self.now + span).min(self.storm_ends());
        self.net.cuts.insert(node, (out, inward));
        match node {
            Node::Coordinator(i) => self.coordinators[i].cut_until = until,
            Node::Gateway(i) => {
                self.gateways[i].cut_until = until;
                self.oracle.disturb(i, until);
            }
        }
        self.at(until, Event::Heal(Heal::Join(node)));
    }

    fn heal(&mut self, heal: Heal) {
        self.note(|| format!("HEAL {heal:?}"));
        match heal {
            Heal::Restart(node) => self.start(node),
            Heal::Loss => (self.net.loss, self.net.doubling) = (0.0, 0.0),
            Heal::Join(node) => {
                let until = match node {
                    Node::Coordinator(i) => self.coordinators[i].cut_until,
                    Node::Gateway(i) => self.gateways[i].cut_until,
                };
                if until <= self.now {
                    self.net.cuts.remove(&node);
                }
            }
            Heal::Thaw(node, life) => self.thaw(node, life),
        }
    }

    /// A process that wakes finds what has piled up, and its clock moved on.
    fn thaw(&mut self, node: Node, life: u64) {
        if self.life(node) != life {
            return;
        }
        let backlog = match node {
            Node::Coordinator(i) => {
                self.coordinators[i].frozen = false;
                std::mem::take(&mut self.coordinators[i].backlog)
            }
            Node::Gateway(i) => {
                self.gateways[i].frozen = false;
                std::mem::take(&mut self.gateways[i].backlog)
            }
        };
        self.alarms.remove(&node);
        self.wake(node, life);
        for work in backlog {
            self.deliver(node, work);
        }
    }
}

fn coordinator_packet(packet: Packet) -> Option<coordinator::Input> {
    match packet {
        Packet::Up(up) => Some(coordinator::Input::Up(up)),
        Packet::GatewayBeat(beat) => Some(coordinator::Input::GatewayBeat(beat)),
        Packet::CoordinatorBeat(beat) => Some(coordinator::Input::Beat(beat)),
        Packet::Fenced(fenced) => Some(coordinator::Input::Fenced(fenced)),
        Packet::Recorded(partition, epoch, outcome) => {
            Some(coordinator::Input::Recorded { partition, epoch, outcome })
        }
        Packet::Down(_) | Packet::ToGateway(_) => None,
    }
}

fn gateway_packet(packet: Packet) -> Option<gateway::Input> {
    match packet {
        Packet::CoordinatorBeat(beat) => Some(gateway::Input::Beat(beat)),
        Packet::Down(delta) => Some(gateway::Input::Down(delta)),
        Packet::ToGateway(message) => Some(gateway::Input::Message(message)),
        Packet::Up(_) | Packet::GatewayBeat(_) | Packet::Fenced(_) | Packet::Recorded(..) => None,
    }
}

fn client(index: usize, profile: Profile, rng: &mut ChaCha8Rng) -> Client {
    Client {
        user: index / 2,
        device: format!("device-{index}"),
        link: Link::Away,
        activity: Activity::Active,
        mute: false,
        watches: draw_watches(profile, rng),
        view: BTreeMap::new(),
        told: BTreeSet::new(),
        next_id: 0,
    }
}

fn draw_watches(profile: Profile, rng: &mut ChaCha8Rng) -> Vec<usize> {
    (0..profile.users).filter(|_| rng.random_bool(0.5)).collect()
}

fn name(prefix: &str, index: usize) -> ProcessId {
    match ProcessId::new(&format!("{prefix}{index}")) {
        Ok(id) => id,
        Err(error) => unreachable!("{error}"),
    }
}

fn index_of(id: &ProcessId) -> Option<usize> {
    id.as_str().get(1..)?.parse().ok()
}

fn user_id(user: usize) -> UserId {
    match UserId::new(&format!("u{user}")) {
        Ok(id) => id,
        Err(error) => unreachable!("{error}"),
    }
}

fn device_id(device: &str) -> DeviceId {
    match DeviceId::new(device) {
        Ok(id) => id,
        Err(error) => unreachable!("{error}"),
    }
}
