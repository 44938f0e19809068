//! When many partitions have new owners at once, so many are asked for at a time, and what is lost not all at once again.

#![expect(clippy::wildcard_enum_match_arm, reason = "a test looks for some kinds of output")]
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as expected")]

use std::collections::BTreeSet;

use herenow_gateway_core::{Config, Gateway, Grants, Input, Opening, Output, Slot, Viewer};
use herenow_protocol::frame::ClientFrame;
use herenow_protocol::id::ProcessId;
use herenow_protocol::message::{
    CoordinatorBeat, Interest, InterestBody, OwnedBeat, Pull, Snapshot, ToGateway, Up,
};
use herenow_protocol::{
    DeviceId, DeviceKind, Epoch, GatewayId, Incarnation, MonoTime, Now, Origin, Partition, Placement, UserId,
    WallTime,
};

const EPOCH: Epoch = Epoch { counter: 1, nonce: 7 };

struct World {
    gateway: Gateway,
    ms: u64,
    pulls: Vec<Pull>,
    /// Of which all watched users were stated.
    stated: Vec<Partition>,
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
    fn new(max_repairs: usize) -> Self {
        let placement = Placement::new(b"secret", 6);
        let gateway = GatewayId { process: process("gw"), shard: 0 };
        let origin = Origin { gateway, incarnation: Incarnation(5) };
        let config = Config { max_repairs, ..Config::default() };
        let gateway = Gateway::new(config, origin, placement.clone(), 1, at(10_000));
        let mut world = Self { gateway, ms: 10_000, pulls: Vec::new(), stated: Vec::new() };
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
            match output {
                Output::Up(Up::Pull(pull)) => self.pulls.push(pull),
                Output::Up(Up::Interest(Interest {
                    partition, body: InterestBody::Whole { .. }, ..
                })) => {
                    self.stated.push(partition);
                }
                _ => {}
            }
        }
    }

    fn beat(&mut self) {
        self.beat_of(false);
    }

    fn beat_of(&mut self, by_user: bool) {
        let owned =
            |partition| OwnedBeat { partition, epoch: EPOCH, n: 3, settled: true, doubts: false, by_user };
        let beat = CoordinatorBeat {
            id: process("owner"),
            incarnation: Incarnation(1),
            number: 1,
            clock: 0,
            ready: true,
            mourning_ms: 0,
            owned: partitions().into_iter().map(owned).collect(),
        };
        self.handle(Input::Beat(beat));
    }

    fn answer(&mut self, pull: &Pull) {
        let (partition, request) = (pull.partition, pull.request);
        let snapshot = Snapshot {
            from: process("owner"),
            partition,
            epoch: EPOCH,
            n: 3,
            settled: true,
            as_of: None,
            clock: 0,
            request,
            page: 0,
            last: true,
            entries: Vec::new(),
        };
        self.handle(Input::Message(ToGateway::Snapshot(snapshot)));
    }

    /// Partitions that are repaired now, and that wait.
    fn repairs(&self) -> (u64, u64) {
        let stats = self.gateway.stats();
        (stats.repairs, stats.repairs_waiting)
    }
}

#[test]
fn one_partition_more_than_may_be_repaired_at_once_waits_for_an_answer() {
    let most = 63;
    let mut world = World::new(most);
    world.beat_of(true);
    let asked = |world: &World| world.pulls.iter().map(|pull| pull.partition).collect::<Vec<_>>();
    assert_eq!((asked(&world).len(), world.repairs()), (most, (63, 1)));
    assert_eq!(world.stated, asked(&world), "each is stated when it is asked for");
    world.answer(&world.pulls[7].clone());
    assert_eq!((asked(&world).len(), world.repairs()), (64, (63, 0)));
    assert_eq!(world.stated, asked(&world));
    assert_eq!(asked(&world).into_iter().collect::<BTreeSet<_>>(), partitions());
    for pull in world.pulls.clone() {
        world.answer(&pull);
    }
    assert_eq!(world.repairs(), (0, 0));
}

#[test]
fn who_is_not_answered_keeps_nobody_waiting_for_good() {
    let mut world = World::new(16);
    world.beat();
    let mut asked = BTreeSet::new();
    for _ in 0..60 {
        world.advance(100);
        world.beat();
        asked.extend(world.pulls.drain(..).map(|pull| pull.partition));
        assert!(world.repairs().0 <= 16, "{:?}", world.repairs());
    }
    assert_eq!(asked, partitions(), "in 6 s, as each gives way after a second");
}

#[test]
fn lost_answers_are_asked_again_and_not_all_at_the_same_moment() {
    let mut world = World::new(64);
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
