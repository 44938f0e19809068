//! Faults as they strike and heal.

use herenow_protocol::Incarnation;
use rand::RngExt as _;

use crate::backlog::Backlog;
use crate::clock::Clock;
use crate::fault::Fault;
use crate::net::Node;
use crate::people::GRACE_MS;
use crate::process::name;
use crate::world::{Event, Heal, World};

/// How long an owner that could not hear takes to hear from everybody what it missed.
const MENDING_MS: u64 = 4_000;
/// How much later than the bus a connection to it may be back.
const RECONNECT_MS: u64 = 1_000;
/// How soon after the bus people leave.
const DEPARTING_MS: u64 = 10_000;

impl World {
    pub(crate) fn strike(&mut self, fault: Fault) {
        self.faults += 1;
        self.note(|| format!("FAULT {fault:?}"));
        if fault.may_lose_what_owners_know() {
            self.oracle.owners_at_fault();
        }
        match fault {
            Fault::Crash(node, back) => {
                if self.kill(node) {
                    self.at((self.now + back).min(self.storm_ends()), Event::Heal(Heal::Restart(node)));
                }
            }
            Fault::Die(node) => {
                self.kill(node);
            }
            Fault::Drain(Node::Gateway(i), window, back) => self.drain(i, window, back),
            Fault::Drain(Node::Coordinator(_), ..) => {}
            Fault::Rush(changes, span) => self.rush(changes, span),
            Fault::Freeze(node, span) => self.freeze(node, span),
            Fault::Cut(node, out, inward, span) => self.cut(node, out, inward, span),
            Fault::Loss(loss, span) => {
                self.oracle.leaves.rough(self.now + span);
                self.net.loss = loss;
                self.net.doubling = loss / 2.0;
                self.at((self.now + span).min(self.storm_ends()), Event::Heal(Heal::Loss));
            }
            Fault::ArbiterOut(span) => self.arbiter_out_until = (self.now + span).min(self.storm_ends()),
            Fault::StoreOut(span) => self.store.out_until = (self.now + span).min(self.storm_ends()),
            Fault::ArbiterLosesTail => {
                for epochs in self.arbiter.values_mut() {
                    epochs.pop();
                }
            }
            Fault::WallJump(node, by) => self.clock(node).jump(by),
            Fault::Drift(node, millionths) => {
                let now = self.now;
                self.clock(node).set_rate(now, millionths);
            }
            Fault::Standstill(span) => self.stand_still(span),
            Fault::StandstillOnBeat(span) => {
                for process in self.coordinators.iter_mut().filter(|process| process.core.is_some()) {
                    process.stops_on_beat = Some(span);
                }
            }
            Fault::Lag(node, by, span) => {
                self.oracle.leaves.rough(self.now + span);
                self.net.lags.insert(node, (by, (self.now + span).min(self.storm_ends())));
            }
            Fault::Sever(from, to, both, span) => self.sever(from, to, both, span),
            Fault::Shuffle(span) => {
                self.oracle.leaves.rough(self.now + span);
                self.net.shuffled_until = (self.now + span).min(self.storm_ends());
            }
            Fault::Away(span) => self.take_bus_away(span),
            Fault::ArbiterUnsure(span) => {
                self.arbiter_unsure_until = (self.now + span).min(self.storm_ends());
            }
        }
    }

    fn clock(&mut self, node: Node) -> &mut Clock {
        match node {
            Node::Coordinator(i) => &mut self.coordinators[i].clock,
            Node::Gateway(i) => &mut self.gateways[i].clock,
        }
    }

    /// The host of all coordinators is stopped. When it goes on they do not all wake at once.
    fn stand_still(&mut self, span: u64) {
        for index in 0..self.coordinators.len() {
            let longer = self.rng.random_range(0..500);
            self.freeze(Node::Coordinator(index), span + longer);
        }
    }

    /// It has said that it lives; what comes after that it will hear late.
    pub(crate) fn stop_on_beat(&mut self, coordinator: usize) {
        let span = self.coordinators[coordinator].stops_on_beat.take();
        if let Some(span) = span.filter(|_| self.now < self.storm_ends()) {
            self.oracle.owners_at_fault();
            self.freeze(Node::Coordinator(coordinator), span);
        }
    }

    /// False when it is dead already.
    fn kill(&mut self, node: Node) -> bool {
        self.take_counts(node);
        let alive = match node {
            Node::Coordinator(i) => self.coordinators[i].core.take().is_some(),
            Node::Gateway(i) => self.gateways[i].core.take().is_some(),
        };
        if !alive {
            return false;
        }
        match node {
            Node::Coordinator(i) => {
                let life = Incarnation(self.coordinators[i].life);
                self.oracle.coordinator_gone(&name("c", i), life);
                self.store.lose(i);
                (self.coordinators[i].frozen, self.coordinators[i].backlog) = (false, Backlog::default())
            }
            Node::Gateway(i) => {
                (self.gateways[i].frozen, self.gateways[i].backlog) = (false, Backlog::default());
                self.oracle.disturb(i, self.now);
                self.oracle.gone(i);
                self.drop_clients(i);
            }
        }
        true
    }

    fn rush(&mut self, changes: u64, span: u64) {
        for _ in 0..changes {
            let (after, index) =
                (self.rng.random_range(0..=span), self.rng.random_range(0..self.clients.len()));
            self.at(self.now + after, Event::Nudge(index));
        }
    }

    fn drop_clients(&mut self, gateway: usize) {
        let dropped: Vec<u32> =
            self.slots.keys().filter(|(g, _)| *g == gateway).map(|(_, slot)| *slot).collect();
        for slot in dropped {
            self.cut_off(gateway, slot);
        }
        self.ghosts.retain(|(g, _), _| *g != gateway);
    }

    fn freeze(&mut self, node: Node, span: u64) {
        let (alive, frozen) = match node {
            Node::Coordinator(i) => (self.coordinators[i].core.is_some(), &mut self.coordinators[i].frozen),
            Node::Gateway(i) => (self.gateways[i].core.is_some(), &mut self.gateways[i].frozen),
        };
        if *frozen || !alive {
            return;
        }
        *frozen = true;
        let until = (self.now + span).min(self.storm_ends());
        match node {
            // Of a loss that it reads late it cannot tell when that was, and gives the grace from then on.
            Node::Coordinator(_) => self.oracle.leaves.rough(until + GRACE_MS),
            Node::Gateway(i) => {
                self.oracle.disturb(i, until);
                self.oracle.stands_still(i, until);
            }
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

    /// Processes find the bus again one after another, each with its two connections, in any order.
    fn take_bus_away(&mut self, span: u64) {
        let back = (self.now + span).min(self.storm_ends());
        self.arbiter_out_until = self.arbiter_out_until.max(back);
        for node in self.nodes() {
            for beat in [true, false] {
                let until = back + self.rng.random_range(0..RECONNECT_MS);
                self.net.away.insert((node, beat), until);
            }
        }
        self.depart_with_bus(back);
    }

    /// Some leave soon after the bus, and are away until long after it is back: who never hears of it goes on to show them.
    fn depart_with_bus(&mut self, back: u64) {
        for index in 0..self.clients.len() {
            let (user, after) = (self.clients[index].user, self.rng.random_range(0..DEPARTING_MS));
            if user.is_multiple_of(2) {
                self.at(self.now + after, Event::Depart(index, back + DEPARTING_MS));
            }
        }
    }

    fn sever(&mut self, from: Node, to: Node, both: bool, span: u64) {
        let until = (self.now + span).min(self.storm_ends());
        self.net.severed.insert((from, to), until);
        if both {
            self.net.severed.insert((to, from), until);
        }
        for node in [from, to] {
            if let Node::Gateway(i) = node {
                self.oracle.disturb(i, until);
            }
        }
    }

    pub(crate) fn heal(&mut self, heal: Heal) {
        self.note(|| format!("HEAL {heal:?}"));
        if heal.is_of_owners() {
            self.owners_mended_at = self.now + MENDING_MS;
        }
        match heal {
            Heal::Restart(node) => {
                if let Node::Gateway(i) = node {
                    self.oracle.left(i, false);
                }
                self.start(node);
            }
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
            Heal::Leave(gateway, life, back) => self.leave(gateway, life, back),
        }
    }
}
