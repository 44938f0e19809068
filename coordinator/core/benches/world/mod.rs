//! A coordinator as it stands in the middle of its work, by its public surface only: it owns every partition, has
//! settled, and hears one gateway. Also what the instruction counts (`counts`) run.

#![allow(dead_code, reason = "each of those who include it uses its part")]

use std::time::Duration;

use herenow_coordinator_core::{Config, Coordinator, Holder, Input, Lease, Output, Recorded, Session};
use herenow_protocol::id::ProcessId;
use herenow_protocol::message::{
    Delta, GatewayBeat, Report, SessionChange, SessionRecord, StreamBeat, Sync, ToGateway, Up,
};
use herenow_protocol::{
    Activity, DeviceId, DeviceKind, Epoch, GatewayId, Incarnation, MonoTime, Now, Origin, Partition,
    Placement, SessionNumber, UserId, UserKey, WallTime,
};

const WALL_MS: u64 = 1_700_000_000_000;
/// The gateway is heard this often.
const BEAT_MS: u64 = 200;

/// A coordinator, its gateway, and the time.
pub(crate) struct World {
    core: Coordinator,
    origin: Origin,
    /// Of each partition: the highest epoch, and the number of the last report.
    streams: Vec<(Epoch, u64)>,
    /// The sessions by number: whose, and active or not.
    sessions: Vec<(UserKey, Partition, bool)>,
    beat_due: u64,
    ms: u64,
    turn: usize,
    out: Vec<Output>,
}

impl World {
    /// With so many users, each with one session.
    pub(crate) fn new(users: u32) -> Self {
        let placement = Placement::new(b"secret", 8);
        let start = 10_000;
        let config =
            Config { ready_after: Duration::ZERO, settle_after: Duration::ZERO, ..Config::default() };
        let id = ProcessId::new("coordinator-1").expect("a plain name");
        let core = Coordinator::new(config, id, Incarnation(1), placement.clone(), 4, at(start));
        let mut world = Self {
            core,
            origin: origin(),
            streams: vec![(Epoch::NONE, 0); usize::from(placement.partitions())],
            sessions: Vec::new(),
            beat_due: start,
            ms: start,
            turn: 0,
            out: Vec::new(),
        };
        world.wait(2_000);
        assert_eq!(world.core.stats().settled, placement.all().count() as u64, "it owns everything");
        for number in 0..users {
            world.open(&placement, number);
        }
        world.wait(2_000);
        world
    }

    fn open(&mut self, placement: &Placement, number: u32) {
        let user = UserId::new(&format!("user {number}")).expect("a short name");
        let key = placement.key(&user);
        let partition = placement.partition(key);
        let record = SessionRecord {
            number: SessionNumber(self.sessions.len() as u64),
            key,
            user,
            device: DeviceId::new("phone").expect("a short name"),
            kind: DeviceKind::Web,
            activity: Activity::Active,
            since: at(self.ms).wall,
        };
        self.sessions.push((key, partition, true));
        let report = self.report(partition, SessionChange::Opened(record));
        self.say(report);
    }

    fn report(&mut self, partition: Partition, change: SessionChange) -> Input {
        let (epoch_seen, seq) = &mut self.streams[partition.index()];
        *seq += 1;
        let (epoch_seen, seq, changes) = (*epoch_seen, *seq, vec![change]);
        Input::Up(Up::Report(Report { origin: self.origin.clone(), partition, epoch_seen, seq, changes }))
    }

    /// Takes an input and leaves nothing undone.
    fn say(&mut self, input: Input) {
        self.core.handle(input, at(self.ms), &mut self.out);
        self.carry_out();
    }

    /// Lets time pass, a little at a time, with everything that falls due in it.
    pub(crate) fn wait(&mut self, ms: u64) {
        let end = self.ms + ms;
        loop {
            if self.beat_due <= self.ms {
                self.beat();
            }
            self.core.handle_timeout(at(self.ms), &mut self.out);
            self.carry_out();
            if self.ms >= end {
                return;
            }
            self.ms = end.min(self.ms + 20);
        }
    }

    /// The gateway's sign of life.
    fn beat(&mut self) {
        self.beat_due = self.ms + BEAT_MS;
        let partitions = (0..=u8::MAX).map(Partition);
        let spoken = partitions.zip(&self.streams).filter(|(_, (_, seq))| *seq > 0);
        let stream = |(partition, (epoch_seen, seq)): (Partition, &(Epoch, u64))| StreamBeat {
            partition,
            seq: *seq,
            epoch_seen: *epoch_seen,
            digest: None,
        };
        let streams = spoken.map(stream).collect();
        let origin = self.origin.clone();
        self.say(Input::GatewayBeat(GatewayBeat { origin, streams, interests: Vec::new(), left: false }));
    }

    /// What the rest of the cluster does about it: the arbiter agrees, the bus brings its own beats back, and the gateway,
    /// as long as it has no sessions, says so.
    fn carry_out(&mut self) {
        while !self.out.is_empty() {
            for output in std::mem::take(&mut self.out) {
                let answer = match output {
                    Output::Record { partition, epoch } => {
                        Input::Recorded { partition, epoch, outcome: Recorded::Yes }
                    }
                    Output::Beat(beat) => Input::Beat(beat),
                    Output::ToGateway(_, ToGateway::Resync { partition, epoch, .. }) => {
                        Input::Up(Up::Sync(self.sync(partition, epoch)))
                    }
                    Output::ToGateway(..)
                    | Output::Subscribe(_)
                    | Output::Unsubscribe(_)
                    | Output::Down(_)
                    | Output::Fenced(..)
                    | Output::Changes(_)
                    | Output::UserChange(..)
                    | Output::Listed { .. }
                    | Output::Transition(_)
                    | Output::Erased(_)
                    | Output::Load { .. }
                    | Output::Keep(_)
                    | Output::Forget { .. } => continue,
                };
                self.core.handle(answer, at(self.ms), &mut self.out);
            }
        }
    }

    fn sync(&mut self, partition: Partition, epoch: Epoch) -> Sync {
        let (epoch_seen, seq) = &mut self.streams[partition.index()];
        assert_eq!(*seq, 0, "nothing is asked again");
        *epoch_seen = epoch;
        Sync {
            origin: self.origin.clone(),
            partition,
            epoch_seen: epoch,
            seq: 0,
            page: 0,
            last: true,
            sessions: Vec::new(),
            ended: Vec::new(),
            forgot_ms: None,
        }
    }

    /// The report that the next user has become idle, or active again, 10 ms after the last, so that it waits for no window.
    /// Nothing is left to be done before it.
    pub(crate) fn next_report(&mut self) -> (Input, Now) {
        self.wait(10);
        // 7,919 is prime, so that everybody has a turn.
        self.turn = (self.turn + 7_919) % self.sessions.len();
        let (key, partition, active) = &mut self.sessions[self.turn];
        *active = !*active;
        let activity = if *active { Activity::Active } else { Activity::Idle };
        let (key, partition, since) = (*key, *partition, at(self.ms).wall);
        let number = SessionNumber(self.turn as u64);
        (self.report(partition, SessionChange::Activity { number, key, activity, since }), at(self.ms))
    }

    /// The coordinator's turn. Answers with the delta that it publishes.
    pub(crate) fn handle(&mut self, (input, now): (Input, Now)) -> Option<&Delta> {
        self.out.clear();
        self.core.handle(input, now, &mut self.out);
        self.out.iter().find_map(|output| if let Output::Down(delta) = output { Some(delta) } else { None })
    }
}

/// So many sessions of a user, none of them active but the last.
pub(crate) fn sessions(count: u64) -> Vec<Session> {
    let session = |number| Session {
        holder: Holder::Gateway(origin(), SessionNumber(number)),
        device: None,
        kind: DeviceKind::Web,
        activity: if number + 1 == count { Activity::Active } else { Activity::Idle },
        since: at(0).wall,
        lease: Lease::Live,
        unconfirmed: None,
        followed: None,
    };
    (0..count).map(session).collect()
}

fn origin() -> Origin {
    let process = ProcessId::new("gateway-1").expect("a plain name");
    Origin { gateway: GatewayId { process, shard: 0 }, incarnation: Incarnation(5) }
}

fn at(ms: u64) -> Now {
    Now { mono: MonoTime::from_millis(ms), wall: WallTime::from_millis(WALL_MS + ms) }
}
