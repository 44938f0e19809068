//! A claim of many partitions is no storm: so many syncs are asked of one gateway at once, and the next with each answer.

#![expect(clippy::unwrap_used, reason = "a test ends where something is not as expected")]
#![expect(clippy::wildcard_enum_match_arm, reason = "a test looks for some kinds of output")]

use std::collections::{BTreeMap, BTreeSet};

use herenow_coordinator_core::{Config, Coordinator, Input, Output, Recorded};
use herenow_protocol::id::ProcessId;
use herenow_protocol::message::{GatewayBeat, Sync, ToGateway, Up};
use herenow_protocol::{
    Epoch, GatewayId, Incarnation, MonoTime, Now, Origin, Partition, Placement, WallTime,
};

const PARTITIONS: usize = 64;
const MOST: usize = 32;
const START: u64 = 10_000;

struct World {
    core: Coordinator,
    ms: u64,
    /// What was asked and not answered yet, of which gateway.
    open: BTreeMap<GatewayId, BTreeMap<Partition, Epoch>>,
    asked: Vec<(u64, GatewayId, Partition)>,
}

fn process(name: &str) -> ProcessId {
    ProcessId::new(name).unwrap()
}

fn origin(name: &str) -> Origin {
    let gateway = GatewayId { process: process(name), shard: 0 };
    Origin { gateway, incarnation: Incarnation(1) }
}

impl World {
    /// A coordinator that has heard of these gateways and has claimed everything.
    fn new(gateways: &[&str]) -> Self {
        let config = Config { settle_after: std::time::Duration::ZERO, ..Config::default() };
        assert_eq!(config.max_resyncs, MOST);
        let placement = Placement::new(b"secret", 6);
        let core = Coordinator::new(config, process("me"), Incarnation(1), placement, 4, at(START));
        let mut world = Self { core, ms: START, open: BTreeMap::new(), asked: Vec::new() };
        while world.core.stats().partitions < PARTITIONS as u64 {
            world.beats(gateways);
            world.advance(10);
        }
        world
    }

    fn beats(&mut self, gateways: &[&str]) {
        for name in gateways {
            let beat = GatewayBeat { origin: origin(name), streams: vec![], interests: vec![], left: false };
            self.handle(Input::GatewayBeat(beat));
        }
    }

    fn handle(&mut self, input: Input) {
        let mut out = Vec::new();
        self.core.handle(input, at(self.ms), &mut out);
        self.carry_out(out);
    }

    fn advance(&mut self, ms: u64) {
        let end = self.ms + ms;
        while let Some(due) = self.core.poll_timeout().map(MonoTime::as_millis).filter(|due| *due <= end) {
            self.ms = due.max(self.ms);
            let mut out = Vec::new();
            self.core.handle_timeout(at(self.ms), &mut out);
            self.carry_out(out);
        }
        self.ms = end;
    }

    fn carry_out(&mut self, out: Vec<Output>) {
        for output in out {
            match output {
                Output::Record { partition, epoch } => {
                    self.handle(Input::Recorded { partition, epoch, outcome: Recorded::Yes });
                }
                Output::Beat(beat) => self.handle(Input::Beat(beat)),
                Output::ToGateway(gateway, ToGateway::Resync { partition, epoch, .. }) => {
                    self.asked.push((self.ms, gateway.clone(), partition));
                    self.open.entry(gateway).or_default().insert(partition, epoch);
                }
                _ => {}
            }
        }
    }

    /// The gateway answers one question.
    fn answer(&mut self, name: &str) {
        let origin = origin(name);
        let (partition, epoch) = self.open.get_mut(&origin.gateway).unwrap().pop_first().unwrap();
        let (sessions, ended) = (Vec::new(), Vec::new());
        let sync = Sync {
            origin,
            partition,
            epoch_seen: epoch,
            seq: 0,
            page: 0,
            last: true,
            sessions,
            ended,
            forgot_ms: None,
        };
        self.handle(Input::Up(Up::Sync(sync)));
    }

    fn open_at(&self, name: &str) -> usize {
        self.open.get(&origin(name).gateway).map_or(0, BTreeMap::len)
    }
}

fn at(ms: u64) -> Now {
    Now { mono: MonoTime::from_millis(ms), wall: WallTime::from_millis(1_700_000_000_000 + ms) }
}

#[test]
fn so_many_syncs_are_asked_of_each_gateway_and_each_answer_asks_for_the_next() {
    let mut world = World::new(&["g1", "g2"]);
    assert_eq!((world.open_at("g1"), world.open_at("g2")), (MOST, MOST));
    world.answer("g1");
    assert_eq!((world.open_at("g1"), world.open_at("g2")), (MOST, MOST), "one answer, one question");
    assert_eq!(world.asked.len(), 2 * MOST + 1);
    for name in ["g1", "g2"] {
        while world.open_at(name) > 0 {
            world.answer(name);
            assert!(world.open_at(name) <= MOST);
        }
    }
    assert_eq!(world.asked.len(), 2 * PARTITIONS, "each once");
    world.advance(250);
    assert_eq!(world.core.stats().settled, PARTITIONS as u64, "as soon as the answers are there");
}

#[test]
fn no_more_than_the_limit_is_under_way_and_what_is_lost_is_asked_again_in_another_order() {
    let mut world = World::new(&["g1"]);
    for _ in 0..20 {
        world.beats(&["g1"]);
        world.advance(250);
    }
    let mut by_tick: BTreeMap<u64, Vec<Partition>> = BTreeMap::new();
    for (when, _, partition) in &world.asked {
        let within = world.asked.iter().filter(|(other, ..)| (*when..when + 150).contains(other)).count();
        assert!(within <= MOST, "{within} within the time that an answer is waited for");
        by_tick.entry(*when).or_default().push(*partition);
    }
    let asked: BTreeSet<Partition> = world.asked.iter().map(|(.., partition)| *partition).collect();
    assert_eq!(asked.len(), PARTITIONS, "each has its turn");
    let turns: BTreeSet<&Vec<Partition>> = by_tick.values().collect();
    assert!(by_tick.len() > 10 && turns.len() > 10, "others each time: {by_tick:?}");
}
