//! When many partitions have new owners at once, what is lost is not asked for again all at once.

#![expect(clippy::unwrap_used, reason = "a test ends where something is not as expected")]

use std::collections::BTreeSet;

use herenow_gateway_core::{Config, Gateway, Grants, Input, Opening, Output, Slot, Viewer};
use herenow_protocol::frame::ClientFrame;
use herenow_protocol::id::ProcessId;
use herenow_protocol::message::{CoordinatorBeat, OwnedBeat, Pull, Up};
use herenow_protocol::{
    DeviceId, DeviceKind, Epoch, GatewayId, Incarnation, MonoTime, Now, Origin, Partition, Placement, UserId,
    WallTime,
};

const EPOCH: Epoch = Epoch { counter: 1, nonce: 7 };

struct World {
    gateway: Gateway,
    ms: u64,
    pulls: Vec<Pull>,
}

fn process(name: &str) -> ProcessId {
    ProcessId::new(name).unwrap()
}

fn at(ms: u64) -> Now {
    Now { mono: MonoTime::from_millis(ms), wall: WallTime::from_millis(1_700_000_000_000 + ms) }
}

fn partitions() -> BTreeSet<Partition> {
    Placement::new(b"secret", 6).all().collect()
}

impl World {
    /// One session that watches somebody in each of 64 partitions.
    fn new() -> Self {
        let placement = Placement::new(b"secret", 6);
        let gateway = GatewayId { process: process("gw"), shard: 0 };
        let origin = Origin { gateway, incarnation: Incarnation(5) };
        let config = Config { max_requests_per_session: 100, ..Config::default() };
        let gateway = Gateway::new(config, origin, placement.clone(), 1, at(10_000));
        let mut world = Self { gateway, ms: 10_000, pulls: Vec::new() };
        let opening = Opening {
            viewer: Viewer { user: UserId::new("ana").unwrap(), grants: Grants::Everybody },
            device: DeviceId::new("phone").unwrap(),
            kind: DeviceKind::Web,
            activity: None,
            token_expires: at(100_000_000).wall,
        };
        world.handle(Input::Open(Slot(0), Box::new(opening)));
        let mut missing = partitions();
        let names = (0..).map(|n| format!("u{n}"));
        let covers =
            |name: &String| missing.remove(&placement.partition(placement.key(&UserId::new(name).unwrap())));
        let users: Vec<String> = names.take(10_000).filter(covers).collect();
        assert_eq!(users.len(), 64);
        world.handle(Input::Frame(Slot(0), ClientFrame::Watch { id: 1, users }));
        world.advance(1_900);
        world.pulls.clear();
        world
    }

    fn handle(&mut self, input: Input) {
        let mut out = Vec::new();
        self.gateway.handle(input, at(self.ms), &mut out);
        self.take(out);
    }

    fn advance(&mut self, ms: u64) {
        let end = self.ms + ms;
        while let Some(due) = self.gateway.poll_timeout().map(MonoTime::as_millis).filter(|due| *due <= end) {
            self.ms = due.max(self.ms);
            let mut out = Vec::new();
            self.gateway.handle_timeout(at(self.ms), &mut out);
            self.take(out);
        }
        self.ms = end;
    }

    fn take(&mut self, out: Vec<Output>) {
        for output in out {
            if let Output::Up(Up::Pull(pull)) = output {
                self.pulls.push(pull);
            }
        }
    }

    fn beat(&mut self) {
        let owned = |partition| OwnedBeat {
            partition,
            epoch: EPOCH,
            n: 3,
            settled: true,
            doubts: false,
            by_user: false,
        };
        let beat = CoordinatorBeat {
            id: process("owner"),
            incarnation: Incarnation(1),
            number: 1,
            clock: 0,
            ready: true,
            owned: partitions().into_iter().map(owned).collect(),
        };
        self.handle(Input::Beat(beat));
    }
}

#[test]
fn lost_answers_are_asked_again_and_not_all_at_the_same_moment() {
    let mut world = World::new();
    world.beat();
    assert_eq!(world.pulls.len(), 64, "one for each");
    let mut moments = BTreeSet::new();
    for _ in 0..250 {
        world.pulls.clear();
        world.advance(2);
        assert!(world.pulls.len() < 32, "not all at once");
        if !world.pulls.is_empty() {
            moments.insert(world.ms);
        }
    }
    assert!(moments.len() >= 10 && *moments.first().unwrap() >= 11_900 + 150, "{moments:?}");
}
