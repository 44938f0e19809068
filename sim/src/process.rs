//! Coordinators and gateways as processes: started, fed, woken, and what they send carried to whom it is for.

use std::collections::BTreeSet;

use herenow_coordinator_core as coordinator;
use herenow_gateway_core as gateway;
use herenow_protocol::id::ProcessId;
use herenow_protocol::message::{CoordinatorBeat, Delta, Fenced, GatewayBeat, ToGateway, Up};
use herenow_protocol::{
    CoordinatorId, DeviceId, Epoch, GatewayId, Incarnation, MonoTime, Now, Origin, Partition, UserId,
};
use rand::RngExt as _;

use crate::backend::Told;
use crate::backlog::Backlog;
use crate::clock::Clock;
use crate::net::Node;
use crate::world::{Event, STORM_MS, World};

/// So low that a few users wait for one another to be shown offline, as thousands do in the world outside.
const OFFLINE_RATE: u32 = 10;
/// So few syncs asked of a gateway at once that four partitions wait for one another, as hundreds do.
const AT_ONCE: usize = 1;
/// So few partitions that a gateway repairs at once, for the same reason.
const REPAIRED_AT_ONCE: usize = 1;

/// So short a memory of who left that the bus may be away for longer, as it may in the world outside.
pub(crate) const ENDED_KEPT: std::time::Duration = std::time::Duration::from_secs(20);

/// How long a new owner waits for the store.
const RESTORE: std::time::Duration = std::time::Duration::from_secs(2);

/// A message on its way.
#[derive(Clone, Debug)]
pub(crate) enum Packet {
    Up(Up),
    GatewayBeat(GatewayBeat),
    CoordinatorBeat(CoordinatorBeat),
    Fenced(Fenced),
    Down(Delta),
    ToGateway(ToGateway),
    Recorded(Partition, Epoch, coordinator::Recorded),
}

#[derive(Debug)]
pub(crate) struct Process<C> {
    pub(crate) core: Option<C>,
    pub(crate) life: u64,
    pub(crate) frozen: bool,
    pub(crate) backlog: Backlog,
    pub(crate) clock: Clock,
    pub(crate) cut_until: u64,
    /// It is stopped for so long when it has sent its next beat.
    pub(crate) stops_on_beat: Option<u64>,
    /// It sends its clients elsewhere.
    pub(crate) draining: bool,
}

/// What a process finds when it wakes.
#[derive(Debug)]
pub(crate) enum Work {
    Packet(Packet),
    Client(gateway::Input),
}

impl<C> Process<C> {
    pub(crate) fn new(clock: Clock) -> Self {
        Self {
            core: None,
            life: 0,
            frozen: false,
            backlog: Backlog::default(),
            clock,
            cut_until: 0,
            stops_on_beat: None,
            draining: false,
        }
    }

    pub(crate) fn now(&self, now: u64) -> Now {
        self.clock.now(now)
    }
}

impl World {
    pub(crate) fn life(&self, node: Node) -> u64 {
        match node {
            Node::Coordinator(i) => self.coordinators[i].life,
            Node::Gateway(i) => self.gateways[i].life,
        }
    }

    pub(crate) fn start(&mut self, node: Node) {
        let seed = self.rng.random();
        self.subscribed.insert(node, BTreeSet::new());
        self.net.connect_anew(node);
        match node {
            Node::Coordinator(i) => {
                let interest_by_user_from = interest_by_user_from(self.seed, self.gateways.len());
                let process = &mut self.coordinators[i];
                process.life += 1;
                process.stops_on_beat = None;
                process.clock.begin(self.now, &mut self.rng);
                process.backlog = Backlog::default();
                let id = name("c", i);
                let incarnation = Incarnation(process.life);
                let now = process.now(self.now);
                let config = coordinator::Config {
                    interest_by_user_from,
                    offline_rate: OFFLINE_RATE,
                    max_resyncs: AT_ONCE,
                    grace_max: ENDED_KEPT,
                    restore_timeout: if self.profile.keeps { RESTORE } else { std::time::Duration::ZERO },
                    ..coordinator::Config::default()
                };
                let core =
                    coordinator::Coordinator::new(config, id, incarnation, self.placement.clone(), seed, now);
                process.core = Some(core);
                self.load_arbiter(i);
                if self.profile.keeps {
                    self.begin_to_write(i);
                }
            }
            Node::Gateway(i) => {
                let process = &mut self.gateways[i];
                process.life += 1;
                process.draining = false;
                self.closing.retain(|(gateway, _)| *gateway != i);
                process.clock.begin(self.now, &mut self.rng);
                process.backlog = Backlog::default();
                let id = GatewayId { process: name("g", i), shard: 0 };
                let origin = Origin { gateway: id, incarnation: Incarnation(process.life) };
                let now = process.now(self.now);
                let config = gateway::Config {
                    max_repairs: REPAIRED_AT_ONCE,
                    ended_kept: ENDED_KEPT,
                    ..gateway::Config::default()
                };
                process.core = Some(gateway::Gateway::new(config, origin, self.placement.clone(), seed, now));
            }
        }
        let life = self.life(node);
        self.alarms.remove(&node);
        self.at(self.now, Event::Wake(node, life));
    }

    pub(crate) fn arrive(&mut self, node: Node, life: u64, work: Work) {
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
        let backlog = match node {
            Node::Coordinator(i) => &mut self.coordinators[i].backlog,
            Node::Gateway(i) => &mut self.gateways[i].backlog,
        };
        if frozen || backlog.is_behind(&work) {
            backlog.push(work);
            return;
        }
        self.deliver(node, work);
    }

    pub(crate) fn deliver(&mut self, node: Node, work: Work) {
        match (node, work) {
            (Node::Coordinator(i), Work::Packet(packet)) => {
                self.note_told(i, &packet);
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

    pub(crate) fn wake(&mut self, node: Node, life: u64) {
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
        let clock = match node {
            Node::Coordinator(i) => self.coordinators[i].clock,
            Node::Gateway(i) => self.gateways[i].clock,
        };
        let at = clock.when(due).max(self.now + 1);
        if self.alarms.get(&node).is_some_and(|set| *set > self.now && *set <= at) {
            return;
        }
        self.alarms.insert(node, at);
        let life = self.life(node);
        self.at(at, Event::Wake(node, life));
    }

    pub(crate) fn coordinator_input(&mut self, index: usize, input: coordinator::Input) {
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
                Output::Beat(beat) => {
                    if !self.net.is_mute(node, true, self.now) {
                        let silent = self.silent_coordinators();
                        self.oracle.owns(&beat, &silent, self.now);
                    }
                    self.broadcast(node, true, |_, _| true, &Packet::CoordinatorBeat(beat));
                    self.stop_on_beat(index);
                }
                Output::Down(delta) => self.send_delta(index, delta),
                Output::ToGateway(gateway, message) => {
                    self.note(|| format!("c{index} answers {gateway} with {message:?}"));
                    if !self.net.is_mute(node, false, self.now) {
                        self.oracle.answered(&message, self.now);
                    }
                    if let Some(to) = index_of(&gateway.process) {
                        self.send(node, Node::Gateway(to), false, Packet::ToGateway(message));
                    }
                }
                Output::Fenced(coordinator, fenced) => {
                    if let Some(to) = index_of(&coordinator) {
                        self.send(node, Node::Coordinator(to), false, Packet::Fenced(fenced));
                    }
                }
                Output::Load { partition, epoch, attempt } => self.load(index, partition, epoch, attempt),
                Output::Keep(record) => self.keep(index, *record),
                Output::Changes(batch) => self.tell_backend(index, &Told::Changes(batch)),
                Output::Listed { reply, page } => {
                    if let Ok(page) = page {
                        self.tell_backend(index, &Told::Page(reply, page));
                    }
                }
                Output::Forget { .. }
                | Output::Erased(_)
                | Output::UserChange(..)
                | Output::Transition(_) => {}
            }
        }
        let due = self.coordinators[index].core.as_ref().and_then(coordinator::Coordinator::poll_timeout);
        self.schedule_wake(node, due);
    }

    fn silent_coordinators(&self) -> Vec<CoordinatorId> {
        let silent = |i: &usize| {
            self.coordinators[*i].frozen || self.net.is_mute(Node::Coordinator(*i), true, self.now)
        };
        (0..self.coordinators.len()).filter(silent).map(|i| name("c", i)).collect()
    }

    fn send_delta(&mut self, index: usize, delta: Delta) {
        let life = self.coordinators[index].life;
        let heard = !self.net.is_mute(Node::Coordinator(index), false, self.now);
        self.oracle.published(&delta, index, life, heard, self.now);
        self.note(|| format!("c{index} publishes {delta:?}"));
        let partition = delta.partition;
        let listens = move |world: &Self, to: Node| {
            matches!(to, Node::Gateway(_))
                && world.subscribed.get(&to).is_some_and(|s| s.contains(&partition))
        };
        self.broadcast(Node::Coordinator(index), false, listens, &Packet::Down(delta));
    }

    pub(crate) fn gateway_input(&mut self, index: usize, input: gateway::Input) {
        if let gateway::Input::Closed(slot, _) = &input {
            self.closing.remove(&(index, slot.0));
        }
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
                    self.hang_up(index, slot, code.number());
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
                Output::ClaimDone(ticket, outcome) => {
                    self.oracle.ledger.told(ticket.0, outcome.is_ok(), self.now);
                }
                Output::Answered(_, users) => self.answered_over_rest(index, &users),
                Output::Verify { .. } | Output::Explained(..) => {}
            }
        }
        let due = self.gateways[index].core.as_ref().and_then(gateway::Gateway::poll_timeout);
        self.schedule_wake(node, due);
    }

    fn send_up(&mut self, index: usize, up: Up) {
        self.oracle.reported(&up, self.now);
        self.note(|| format!("g{index} sends {up:?}"));
        let (node, partition) = (Node::Gateway(index), up.partition());
        let gateway = &self.gateways[index];
        let now = gateway.now(self.now).mono;
        let owner = gateway.core.as_ref().and_then(|core| core.addressee(&up, now)).and_then(index_of);
        match owner {
            Some(owner) => self.send(node, Node::Coordinator(owner), false, Packet::Up(up)),
            None => self.ask_owner(node, &Packet::Up(up), partition),
        }
    }

    /// Publishes on a partition's upward subject.
    pub(crate) fn ask_owner(&mut self, from: Node, packet: &Packet, partition: Partition) {
        let listens = move |world: &Self, to: Node| {
            matches!(to, Node::Coordinator(_))
                && world.subscribed.get(&to).is_some_and(|s| s.contains(&partition))
        };
        self.broadcast(from, false, listens, packet);
    }

    pub(crate) fn nodes(&self) -> Vec<Node> {
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
        let is_sync = matches!(packet, Packet::Up(Up::Sync(_)));
        if self.profile.syncs_lost && is_sync && self.now >= STORM_MS {
            return;
        }
        for at in self.net.arrivals(from, to, beat, self.now, &mut self.rng) {
            self.at(at, Event::Arrive(to, life, Box::new(packet.clone())));
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

pub(crate) fn name(prefix: &str, index: usize) -> ProcessId {
    match ProcessId::new(&format!("{prefix}{index}")) {
        Ok(id) => id,
        Err(error) => unreachable!("{error}"),
    }
}

fn index_of(id: &ProcessId) -> Option<usize> {
    id.as_str().get(1..)?.parse().ok()
}

pub(crate) fn user_id(user: usize) -> UserId {
    match UserId::new(&format!("u{user}")) {
        Ok(id) => id,
        Err(error) => unreachable!("{error}"),
    }
}

pub(crate) fn device_id(device: &str) -> DeviceId {
    match DeviceId::new(device) {
        Ok(id) => id,
        Err(error) => unreachable!("{error}"),
    }
}

/// R10: from how many gateways on: worlds at level 1, at level 2, and such that change between them as gateways come and
/// go.
pub(crate) fn interest_by_user_from(seed: u64, gateways: usize) -> u32 {
    match seed % 4 {
        0 => 0,
        1 => u32::try_from(gateways).unwrap_or(u32::MAX),
        _ => 1,
    }
}
