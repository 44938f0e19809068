//! What piles up for a process that stands still, and how it comes to it afterwards: connection by connection, each in
//! its order, as fast as each is read. Meanwhile new messages wait behind the old ones.

use std::collections::VecDeque;

use rand::RngExt as _;

use crate::net::Node;
use crate::process::{Packet, Work};
use crate::world::{Event, World};

/// Signs of life, other messages, and clients: connections of their own.
pub(crate) const LANES: usize = 3;
/// How long everything that piled up on one connection may take to be read.
const MOST_MS: u64 = 2_000;

/// All that waits for one process.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    lanes: [VecDeque<Work>; LANES],
    /// Milliseconds between two messages of a connection, until all is read.
    pace: [u64; LANES],
    until: u64,
}

fn lane(work: &Work) -> usize {
    match work {
        Work::Packet(Packet::GatewayBeat(_) | Packet::CoordinatorBeat(_)) => 0,
        Work::Packet(
            Packet::Up(_) | Packet::Fenced(_) | Packet::Down(_) | Packet::ToGateway(_) | Packet::Recorded(..),
        ) => 1,
        Work::Client(_) => 2,
    }
}

impl Backlog {
    pub(crate) fn push(&mut self, work: Work) {
        self.lanes[lane(&work)].push_back(work);
    }

    /// Whether what came on its connection before is not read yet.
    pub(crate) fn is_behind(&self, work: &Work) -> bool {
        !self.lanes[lane(work)].is_empty()
    }
}

impl World {
    fn backlog(&mut self, node: Node) -> &mut Backlog {
        match node {
            Node::Coordinator(i) => &mut self.coordinators[i].backlog,
            Node::Gateway(i) => &mut self.gateways[i].backlog,
        }
    }

    /// A process that wakes finds what has piled up, and its clock moved on.
    pub(crate) fn thaw(&mut self, node: Node, life: u64) {
        if self.life(node) != life {
            return;
        }
        match node {
            Node::Coordinator(i) => self.coordinators[i].frozen = false,
            Node::Gateway(i) => self.gateways[i].frozen = false,
        }
        self.alarms.remove(&node);
        let mut pace: [u64; LANES] = std::array::from_fn(|_| [0, 0, 5, 50][self.rng.random_range(0..4)]);
        if self.rng.random_bool(0.4) {
            // Signs of life are read long before what they vouch for.
            (pace[0], pace[1]) = (0, 50);
        }
        // It may look at the time first, or at what is there to be read.
        if self.rng.random_bool(0.5) {
            self.wake(node, life);
        }
        let until = self.now + MOST_MS;
        let backlog = self.backlog(node);
        (backlog.pace, backlog.until) = (pace, until);
        for lane in 0..LANES {
            self.at(self.now, Event::ReadOn(node, life, lane));
        }
        self.at(self.now, Event::Wake(node, life));
    }

    /// Reads on: everything at once, or one message and the next in a while.
    pub(crate) fn read_on(&mut self, node: Node, life: u64, lane: usize) {
        let still = match node {
            Node::Coordinator(i) => self.coordinators[i].frozen,
            Node::Gateway(i) => self.gateways[i].frozen,
        };
        if self.life(node) != life || still {
            return;
        }
        while let Some(work) = self.backlog(node).lanes[lane].pop_front() {
            self.deliver(node, work);
            let (pace, until) = (self.backlog(node).pace[lane], self.backlog(node).until);
            if pace > 0 && self.now < until {
                self.at(self.now + pace, Event::ReadOn(node, life, lane));
                return;
            }
        }
    }
}
