//! A gateway as it stands in the middle of its work, by its public surface only: every owner settled and heard,
//! sessions open, nothing waiting. Also what the instruction counts (`counts`) run.

#![allow(dead_code, reason = "each of those who include it uses its part")]

use std::time::Duration;

use herenow_gateway_core::{Config, Gateway, Grants, Input, Opening, Output, Slot, Stats, Viewer};
use herenow_protocol::frame::ClientFrame;
use herenow_protocol::id::ProcessId;
use herenow_protocol::message::{
    CoordinatorBeat, Delta, Entry, OwnedBeat, Pull, Shown, Snapshot, ToGateway, Up,
};
use herenow_protocol::{
    Activity, DeviceId, DeviceKind, Epoch, GatewayId, Incarnation, MonoTime, Now, Origin, Placement, Status,
    UserId, WallTime,
};

const EPOCH: Epoch = Epoch { counter: 1, nonce: 7 };
const WALL_MS: u64 = 1_700_000_000_000;
/// Owners are heard this often.
const BEAT_MS: u64 = 200;

/// A gateway, the owner of all its partitions, and the time.
pub(crate) struct World {
    gateway: Gateway,
    placement: Placement,
    owner: ProcessId,
    /// The number of the last change of each partition.
    numbers: Vec<u64>,
    beats: u64,
    beat_due: u64,
    ms: u64,
    turn: u32,
    out: Vec<Output>,
    frame: String,
}

impl World {
    /// With so many sessions, each of a user of its own (`user 0` and on), that watch nobody.
    pub(crate) fn new(sessions: u32) -> Self {
        let placement = Placement::new(b"secret", 8);
        let owner = ProcessId::new("coordinator-1").expect("a plain name");
        let process = ProcessId::new("gateway-1").expect("a plain name");
        let origin = Origin { gateway: GatewayId { process, shard: 0 }, incarnation: Incarnation(5) };
        let start = 10_000;
        // Nobody is taken for silent, however long it goes on.
        let config = Config { heartbeat_timeout: Duration::from_secs(1_000_000_000), ..Config::default() };
        let gateway = Gateway::new(config, origin, placement.clone(), 1, at(start));
        let numbers = vec![0; usize::from(placement.partitions())];
        let mut world = Self {
            gateway,
            placement,
            owner,
            numbers,
            beats: 0,
            beat_due: start,
            ms: start,
            turn: 0,
            out: Vec::new(),
            frame: String::new(),
        };
        world.wait(0);
        for slot in 0..sessions {
            world.open(slot);
        }
        world.wait(1_000);
        world
    }

    /// So many sessions, the first of which watch `user 0`. The last one watches somebody else of the same partition, so
    /// that its changes come here in any case.
    pub(crate) fn with_watchers(sessions: u32, watchers: u32) -> Self {
        let sessions = sessions.max(watchers);
        let mut world = Self::new(sessions);
        let partition = |number| world.placement.partition(world.placement.key(&user(number)));
        let neighbour = (sessions..).find(|number| partition(*number) == partition(0));
        world.watch(sessions - 1, neighbour.expect("every partition has users"));
        for slot in 0..watchers {
            world.watch(slot, 0);
        }
        world.wait(1_000);
        world
    }

    fn watch(&mut self, slot: u32, number: u32) {
        let watch = ClientFrame::Watch { id: 1, users: vec![name(number)] };
        self.say(Input::Frame(Slot(slot), watch));
    }

    fn open(&mut self, slot: u32) {
        let opening = Opening {
            viewer: Viewer { user: user(slot), grants: Grants::Everybody },
            device: DeviceId::new("phone").expect("a short name"),
            kind: DeviceKind::Web,
            activity: Some(Activity::Active),
            token_expires: WallTime::from_millis(u64::MAX / 2),
        };
        self.say(Input::Open(Slot(slot), Box::new(opening)));
    }

    /// Takes an input and leaves nothing undone.
    fn say(&mut self, input: Input) {
        self.gateway.handle(input, at(self.ms), &mut self.out);
        self.carry_out();
    }

    /// Lets time pass, a little at a time, with everything that falls due in it.
    pub(crate) fn wait(&mut self, ms: u64) {
        let end = self.ms + ms;
        loop {
            if self.beat_due <= self.ms {
                self.beat();
            }
            self.gateway.handle_timeout(at(self.ms), &mut self.out);
            self.carry_out();
            if self.ms >= end {
                return;
            }
            self.ms = end.min(self.ms + 20);
        }
    }

    /// The owner's sign of life.
    fn beat(&mut self) {
        self.beat_due = self.ms + BEAT_MS;
        self.beats += 1;
        let owned = self.placement.all().map(|partition| OwnedBeat {
            partition,
            epoch: EPOCH,
            n: self.numbers[partition.index()],
            settled: true,
            doubts: false,
            by_user: false,
        });
        let beat = CoordinatorBeat {
            id: self.owner.clone(),
            incarnation: Incarnation(1),
            number: self.beats,
            clock: self.ms,
            ready: true,
            mourning_ms: 0,
            owned: owned.collect(),
        };
        self.say(Input::Beat(beat));
    }

    fn carry_out(&mut self) {
        let mut out = std::mem::take(&mut self.out);
        for output in out.drain(..) {
            match output {
                Output::Ready(slot) => {
                    while self.gateway.poll_transmit(slot, at(self.ms), &mut self.frame) {}
                }
                Output::Up(Up::Pull(pull)) => {
                    let snapshot = self.snapshot(&pull);
                    self.gateway.handle(Input::Message(snapshot), at(self.ms), &mut self.out);
                }
                Output::Close(slot, code) => panic!("{slot:?} was closed with {code:?}"),
                Output::Up(_)
                | Output::Beat(_)
                | Output::Subscribe(_)
                | Output::Verify { .. }
                | Output::Fenced(..)
                | Output::Unsubscribe(_)
                | Output::Answered(..)
                | Output::ClaimDone(..)
                | Output::Explained(..) => {}
            }
        }
        if self.out.is_empty() {
            self.out = out;
        } else {
            self.carry_out();
        }
    }

    /// Nobody was ever seen.
    fn snapshot(&self, pull: &Pull) -> ToGateway {
        ToGateway::Snapshot(Snapshot {
            from: self.owner.clone(),
            partition: pull.partition,
            epoch: EPOCH,
            n: self.numbers[pull.partition.index()],
            settled: true,
            as_of: None,
            clock: self.ms,
            request: pull.request,
            page: 0,
            last: true,
            entries: Vec::new(),
        })
    }

    /// The heartbeat of one session after another, in an order that is no order, all of them once in 20 s.
    pub(crate) fn next_heartbeat(&mut self) -> (Input, Now) {
        let sessions = u32::try_from(self.gateway.stats().sessions).expect("few sessions");
        // 7,919 is prime, so that everybody has a turn.
        self.turn = (self.turn + 7_919) % sessions;
        self.ms += u64::from(20_000_u32.div_ceil(sessions));
        let heartbeat = ClientFrame::Heartbeat { activity: Some(Activity::Active), id: None };
        (Input::Frame(Slot(self.turn), heartbeat), at(self.ms))
    }

    /// The next change of a user, 10 ms after the last, so that no watcher has to wait for the end of a window. Nothing is
    /// left to be done before it.
    pub(crate) fn next_delta(&mut self, number: u32) -> (Input, Now) {
        self.wait(10);
        let key = self.placement.key(&user(number));
        let partition = self.placement.partition(key);
        let n = &mut self.numbers[partition.index()];
        *n += 1;
        let status = if n.is_multiple_of(2) { Status::Idle } else { Status::Online };
        let public = Shown { n: *n, status, since: Some(at(self.ms).wall), ..Shown::never_seen() };
        let delta = Delta {
            from: self.owner.clone(),
            partition,
            epoch: EPOCH,
            prev: *n - 1,
            last: *n,
            entries: vec![Entry { key, public, own: None }],
        };
        (Input::Down(delta), at(self.ms))
    }

    /// The gateway's turn; nothing of what it wants done is done.
    pub(crate) fn handle(&mut self, (input, now): (Input, Now)) {
        self.out.clear();
        self.gateway.handle(input, now, &mut self.out);
    }

    /// The gateway's turn, and every frame that follows is written. Answers with how many were.
    pub(crate) fn handle_and_write(&mut self, (input, now): (Input, Now)) -> usize {
        self.handle((input, now));
        let mut frames = 0;
        for output in &self.out {
            if let Output::Ready(slot) = output {
                while self.gateway.poll_transmit(*slot, now, &mut self.frame) {
                    frames += 1;
                }
            }
        }
        frames
    }

    /// Counts and sizes.
    pub(crate) fn stats(&self) -> Stats {
        self.gateway.stats()
    }
}

fn name(number: u32) -> String {
    format!("user {number}")
}

fn user(number: u32) -> UserId {
    UserId::new(&name(number)).expect("a short name")
}

fn at(ms: u64) -> Now {
    Now { mono: MonoTime::from_millis(ms), wall: WallTime::from_millis(WALL_MS + ms) }
}
