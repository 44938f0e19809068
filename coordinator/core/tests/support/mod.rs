//! A coordinator under a virtual clock, with gateways, an arbiter and other coordinators played by the test.

#![allow(dead_code, missing_docs, unreachable_pub, reason = "each test file uses its part")]
#![expect(clippy::wildcard_enum_match_arm, reason = "a test looks for one kind of output")]

use std::collections::BTreeMap;
use std::time::Duration;

use herenow_coordinator_core::{Config, Coordinator, Input, Output, Recorded, Transition};
use herenow_protocol::api::{Changes, Explanation, PartitionPage};
use herenow_protocol::code::ErrorCode;
use herenow_protocol::frame::ManualStatus;
use herenow_protocol::id::ProcessId;
use herenow_protocol::message::{
    ApiStatus, ClaimCommand, ClaimDone, ClaimRequest, Claimed, CoordinatorBeat, Delta, Ended, Ending, Entry,
    ExplainRequest, GatewayBeat, ListRequest, OwnedBeat, Pull, Report, SessionChange, SessionRecord,
    SessionsDigest, Shown, Snapshot, StreamBeat, Sync, ToGateway, Up,
};
use herenow_protocol::{
    Activity, CoordinatorId, DeviceId, DeviceKind, Epoch, GatewayId, Incarnation, MonoTime, Now, Origin,
    Partition, Placement, SessionNumber, Status, UserId, UserKey, WallTime,
};

pub const PARTITION: Partition = Partition(0);
pub const WALL_MS: u64 = 1_700_000_000_000;
const GATEWAY_BEAT_MS: u64 = 500;

/// A gateway, as far as a coordinator meets one.
pub struct Gateway {
    pub origin: Origin,
    pub epoch_seen: Epoch,
    pub seq: u64,
    pub sessions: BTreeMap<u64, SessionRecord>,
    pub ended: Vec<(u64, Ending, SessionRecord)>,
    /// When the last one ended that is in neither list.
    pub forgot: Option<u64>,
    /// Answers requests for a sync.
    pub answers: bool,
    pub beats: bool,
    next_beat: u64,
}

/// A cluster of one partition, one coordinator under test, and what the test plays.
pub struct World {
    pub core: Coordinator,
    pub config: Config,
    pub placement: Placement,
    pub ms: u64,
    pub gateways: Vec<Gateway>,
    /// What the arbiter says; `None`: nothing.
    pub arbiter: Option<Recorded>,
    /// The coordinator hears its own beats.
    pub echo: bool,
    pub requests: u64,
    /// Everything the coordinator wanted done since this was last taken.
    pub out: Vec<Output>,
}

pub fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub fn process(name: &str) -> ProcessId {
    ProcessId::new(name).unwrap()
}

pub fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

pub fn at(ms: u64) -> Now {
    Now { mono: MonoTime::from_millis(ms), wall: WallTime::from_millis(WALL_MS + ms) }
}

pub fn manual(status: ManualStatus) -> ClaimCommand {
    ClaimCommand::Manual { status, text: None, emoji: None, expires_at: None }
}

pub fn api(status: ApiStatus, ttl_s: Option<u64>) -> ClaimCommand {
    ClaimCommand::Api { status, text: None, ttl_ms: ttl_s.map(|s| s * 1_000), session: None }
}

pub fn named(status: ApiStatus, name: &str, ttl_s: Option<u64>) -> ClaimCommand {
    let session = Some(DeviceId::new(name).unwrap());
    ClaimCommand::Api { status, text: None, ttl_ms: ttl_s.map(|s| s * 1_000), session }
}

impl World {
    /// A coordinator that owns the partition, has settled, and hears one gateway.
    pub fn new() -> Self {
        Self::with(|_| {})
    }

    pub fn with(change: impl FnOnce(&mut Config)) -> Self {
        let mut world = Self::fresh(|config| {
            config.ready_after = Duration::ZERO;
            config.settle_after = Duration::ZERO;
            change(config);
        });
        world.add_gateway("g1");
        world.advance_ms(300);
        assert!(world.owns() && world.settled(), "{:?}", world.core.stats());
        world.out.clear();
        world
    }

    /// A coordinator in its first moment, with its default patience.
    pub fn fresh(change: impl FnOnce(&mut Config)) -> Self {
        // Times that the tests reckon with, whatever the defaults are.
        let ms = Duration::from_millis;
        let mut config = Config {
            heartbeat_interval: ms(250),
            tail_patience: ms(100),
            resync_timeout: ms(400),
            hand_over_after: ms(2_000),
            ..Config::default()
        };
        change(&mut config);
        config.check().unwrap();
        let placement = Placement::new(b"secret", 0);
        let start = 10_000;
        let (id, life) = (process("me"), Incarnation(1));
        let core = Coordinator::new(config.clone(), id, life, placement.clone(), 4, at(start));
        Self {
            core,
            config,
            placement,
            ms: start,
            gateways: Vec::new(),
            arbiter: Some(Recorded::Yes),
            echo: true,
            requests: 0,
            out: Vec::new(),
        }
    }

    /// A gateway that beats from now on and answers.
    pub fn add_gateway(&mut self, name: &str) -> usize {
        let gateway = GatewayId { process: process(name), shard: 0 };
        self.gateways.push(Gateway {
            origin: Origin { gateway, incarnation: Incarnation(1) },
            epoch_seen: Epoch::NONE,
            seq: 0,
            sessions: BTreeMap::new(),
            ended: Vec::new(),
            forgot: None,
            answers: true,
            beats: true,
            next_beat: self.ms,
        });
        self.gateways.len() - 1
    }

    pub fn owns(&self) -> bool {
        self.core.epoch(PARTITION).is_some()
    }

    pub fn epoch(&self) -> Epoch {
        self.core.epoch(PARTITION).expect("it owns the partition")
    }

    pub fn settled(&self) -> bool {
        self.core.stats().settled == 1
    }

    pub fn key(&self, name: &str) -> UserKey {
        self.placement.key(&user(name))
    }

    pub fn wall(&self, offset_ms: u64) -> WallTime {
        WallTime::from_millis(WALL_MS + self.ms + offset_ms)
    }

    pub fn handle(&mut self, input: Input) {
        let mut out = Vec::new();
        self.core.handle(input, at(self.ms), &mut out);
        self.carry_out(out);
    }

    fn carry_out(&mut self, out: Vec<Output>) {
        for output in out {
            let reply = self.reply(&output);
            self.out.push(output);
            for input in reply {
                self.handle(input);
            }
        }
    }

    /// What the rest of the cluster does about an output.
    fn reply(&mut self, output: &Output) -> Vec<Input> {
        match output {
            Output::Record { partition, epoch } => {
                let (partition, epoch) = (*partition, *epoch);
                let answer = |outcome| Input::Recorded { partition, epoch, outcome };
                self.arbiter.map(answer).into_iter().collect()
            }
            Output::Beat(beat) if self.echo => vec![Input::Beat(beat.clone())],
            Output::ToGateway(to, ToGateway::Resync { epoch, incarnation, .. }) => {
                let asked = self.gateways.iter_mut().find(|gateway| {
                    gateway.answers
                        && gateway.origin.gateway == *to
                        && gateway.origin.incarnation == *incarnation
                });
                let now = self.ms;
                let sync = asked.map(|gateway| {
                    gateway.epoch_seen = gateway.epoch_seen.max(*epoch);
                    Input::Up(Up::Sync(gateway.sync(now)))
                });
                sync.into_iter().collect()
            }
            _ => Vec::new(),
        }
    }

    /// Lets time pass, with everything that falls due in it.
    pub fn advance(&mut self, wait: Duration) {
        let end = self.ms + u64::try_from(wait.as_millis()).unwrap();
        loop {
            let due = self.core.poll_timeout().map_or(end, MonoTime::as_millis);
            let beats = self.gateways.iter().filter(|gateway| gateway.beats).map(|gateway| gateway.next_beat);
            let beat = beats.min().unwrap_or(u64::MAX);
            let next = due.min(beat).max(self.ms);
            if next > end {
                break;
            }
            self.ms = next;
            for index in 0..self.gateways.len() {
                if self.gateways[index].beats && self.gateways[index].next_beat <= next {
                    self.beat_of(index);
                }
            }
            let mut out = Vec::new();
            self.core.handle_timeout(at(self.ms), &mut out);
            self.carry_out(out);
        }
        self.ms = end;
    }

    pub fn advance_ms(&mut self, ms: u64) {
        self.advance(Duration::from_millis(ms));
    }

    pub fn beat_of(&mut self, index: usize) {
        let gateway = &mut self.gateways[index];
        gateway.next_beat = self.ms + GATEWAY_BEAT_MS;
        let beat = gateway.beat();
        self.handle(Input::GatewayBeat(beat));
    }

    /// A sign of life of another coordinator.
    pub fn peer_beat(&mut self, name: &str, number: u64, ready: bool, owned: Option<Epoch>) {
        let owned = owned.map(|epoch| OwnedBeat {
            partition: PARTITION,
            epoch,
            n: 0,
            settled: true,
            doubts: false,
            by_user: false,
        });
        let owned = owned.into_iter().collect();
        let (id, incarnation) = (process(name), Incarnation(1));
        let beat = CoordinatorBeat { id, incarnation, number, clock: self.ms, ready, mourning_ms: 0, owned };
        self.handle(Input::Beat(beat));
    }

    /// A coordinator that owns nothing any more says for how long sessions of gateways it knew may be in grace.
    pub fn peer_mourns(&mut self, name: &str, number: u64, mourning_ms: u64) {
        let (id, incarnation, clock) = (process(name), Incarnation(1), self.ms);
        let owned = Vec::new();
        let beat = CoordinatorBeat { id, incarnation, number, clock, ready: false, mourning_ms, owned };
        self.handle(Input::Beat(beat));
    }

    pub fn report(&mut self, index: usize, changes: Vec<SessionChange>) {
        let report = self.gateways[index].report(changes);
        self.handle(Input::Up(Up::Report(report)));
    }

    pub fn record(&self, number: u64, name: &str, device: &str, activity: Activity) -> SessionRecord {
        SessionRecord {
            number: SessionNumber(number),
            key: self.key(name),
            user: user(name),
            device: DeviceId::new(device).unwrap(),
            kind: DeviceKind::Web,
            activity,
            since: self.wall(0),
        }
    }

    /// A session begins at a gateway, on a device of its own.
    pub fn open(&mut self, index: usize, number: u64, name: &str, activity: Activity) {
        self.open_on(index, number, name, &format!("device {index} {number}"), activity);
    }

    pub fn open_on(&mut self, index: usize, number: u64, name: &str, device: &str, activity: Activity) {
        let record = self.record(number, name, device, activity);
        self.gateways[index].sessions.insert(number, record.clone());
        self.report(index, vec![SessionChange::Opened(record)]);
    }

    pub fn activity(&mut self, index: usize, number: u64, activity: Activity) {
        let since = self.wall(0);
        let record = self.gateways[index].sessions.get_mut(&number).unwrap();
        (record.activity, record.since) = (activity, since);
        let key = record.key;
        let number = SessionNumber(number);
        self.report(index, vec![SessionChange::Activity { number, key, activity, since }]);
    }

    pub fn close(&mut self, index: usize, number: u64, how: Ending) {
        let change = self.ended(index, number, how);
        self.report(index, vec![change]);
    }

    /// A session ends at its gateway; says the change without sending it.
    pub fn ended(&mut self, index: usize, number: u64, how: Ending) -> SessionChange {
        let now = self.ms;
        let gateway = &mut self.gateways[index];
        let record = gateway.sessions.remove(&number).unwrap();
        let change = SessionChange::Closed { number: record.number, key: record.key, how };
        gateway.ended.push((now, how, record));
        change
    }

    /// A claim through the first gateway, and its answer.
    pub fn claim(&mut self, name: &str, command: ClaimCommand) -> Claimed {
        self.try_claim(name, command).outcome.expect("the claim is taken")
    }

    pub fn try_claim(&mut self, name: &str, command: ClaimCommand) -> ClaimDone {
        self.ask_claim(name, command).expect("a claim is answered")
    }

    pub fn ask_claim(&mut self, name: &str, command: ClaimCommand) -> Option<ClaimDone> {
        self.requests += 1;
        let request = ClaimRequest {
            origin: self.gateways[0].origin.clone(),
            partition: PARTITION,
            request: self.requests,
            key: self.key(name),
            user: user(name),
            command,
        };
        let before = self.out.len();
        self.handle(Input::Up(Up::Claim(request)));
        let done = self.out.iter().skip(before).find_map(|output| match output {
            Output::ToGateway(_, ToGateway::ClaimDone(done)) => Some((**done).clone()),
            _ => None,
        });
        done.filter(|done| done.request == self.requests)
    }

    /// The pages of the answer to a pull.
    pub fn pull(&mut self, names: &[&str]) -> Vec<Snapshot> {
        let users = names.iter().map(|name| self.key(name)).collect();
        self.pull_keys(users)
    }

    pub fn pull_keys(&mut self, users: Vec<UserKey>) -> Vec<Snapshot> {
        self.requests += 1;
        let origin = self.gateways[0].origin.clone();
        let pull = Pull { origin, partition: PARTITION, request: self.requests, interest: None, users };
        let before = self.out.len();
        self.handle(Input::Up(Up::Pull(pull)));
        let pages = self.out.iter().skip(before).filter_map(|output| match output {
            Output::ToGateway(_, ToGateway::Snapshot(snapshot)) => Some(snapshot.clone()),
            _ => None,
        });
        pages.collect()
    }

    /// What everybody sees of a user now; `None`: not stated.
    pub fn public(&mut self, name: &str) -> Option<Shown> {
        self.entry(name).map(|entry| entry.public)
    }

    fn entry(&mut self, name: &str) -> Option<Entry> {
        let pages = self.pull(&[name]);
        assert!(pages.last().expect("a pull is answered").last);
        pages.into_iter().flat_map(|page| page.entries).next()
    }

    /// What the user sees of itself now.
    pub fn own(&mut self, name: &str) -> Shown {
        let entry = self.entry(name).unwrap();
        entry.own.unwrap_or(entry.public)
    }

    pub fn status(&mut self, name: &str) -> Status {
        self.public(name).map_or(Status::Unknown, |shown| shown.status)
    }

    pub fn explain(&mut self, name: &str) -> Explanation {
        self.requests += 1;
        let origin = self.gateways[0].origin.clone();
        let (request, key) = (self.requests, self.key(name));
        let before = self.out.len();
        let ask = ExplainRequest { origin, partition: PARTITION, request, key };
        self.handle(Input::Up(Up::Explain(ask)));
        let json = self.out.iter().skip(before).find_map(|output| match output {
            Output::ToGateway(_, ToGateway::Explained { json, .. }) => Some(json.clone()),
            _ => None,
        });
        serde_json::from_str(&json.expect("an explanation is answered")).unwrap()
    }

    pub fn list(&mut self, after: Option<UserKey>) -> Result<PartitionPage, ErrorCode> {
        let before = self.out.len();
        let request = ListRequest { partition: PARTITION, reply: "inbox".to_owned(), after };
        self.handle(Input::Up(Up::List(request)));
        let page = self.out.iter().skip(before).find_map(|output| match output {
            Output::Listed { reply, page } if reply == "inbox" => Some(page.clone()),
            _ => None,
        });
        page.expect("a list is answered").map(|page| *page).map_err(|problem| problem.code)
    }

    pub fn deltas(&mut self) -> Vec<Delta> {
        self.take(|output| if let Output::Down(delta) = output { Some(delta) } else { None })
    }

    pub fn changes(&mut self) -> Vec<Changes> {
        self.take(|output| if let Output::Changes(changes) = output { Some(changes) } else { None })
    }

    pub fn transitions(&mut self) -> Vec<Transition> {
        self.take(|output| if let Output::Transition(transition) = output { Some(*transition) } else { None })
    }

    /// The statuses published, in order.
    pub fn told(&mut self) -> Vec<Status> {
        self.transitions().into_iter().map(|transition| transition.presence.status).collect()
    }

    pub fn beats(&mut self) -> Vec<CoordinatorBeat> {
        self.take(|output| if let Output::Beat(beat) = output { Some(beat) } else { None })
    }

    pub fn resyncs(&mut self) -> Vec<(CoordinatorId, Epoch, Incarnation)> {
        self.take(|output| match output {
            Output::ToGateway(to, ToGateway::Resync { epoch, incarnation, .. }) => {
                Some((to.process, epoch, incarnation))
            }
            _ => None,
        })
    }

    pub fn take<T>(&mut self, pick: impl FnMut(Output) -> Option<T>) -> Vec<T> {
        std::mem::take(&mut self.out).into_iter().filter_map(pick).collect()
    }
}

impl Gateway {
    pub fn report(&mut self, changes: Vec<SessionChange>) -> Report {
        self.seq += 1;
        Report {
            origin: self.origin.clone(),
            partition: PARTITION,
            epoch_seen: self.epoch_seen,
            seq: self.seq,
            changes,
        }
    }

    pub fn sync(&self, now: u64) -> Sync {
        let ended = self.ended.iter().map(|(when, how, record)| Ended {
            record: record.clone(),
            how: *how,
            ago_ms: now - when,
        });
        Sync {
            origin: self.origin.clone(),
            partition: PARTITION,
            epoch_seen: self.epoch_seen,
            seq: self.seq,
            page: 0,
            last: true,
            sessions: self.sessions.values().cloned().collect(),
            ended: ended.collect(),
            forgot_ms: self.forgot.map(|when| now - when),
        }
    }

    pub fn beat(&self) -> GatewayBeat {
        let (partition, seq, epoch_seen) = (PARTITION, self.seq, self.epoch_seen);
        let mut digest = SessionsDigest::default();
        for record in self.sessions.values() {
            digest.add(record.number, record.key);
        }
        let stream = StreamBeat { partition, seq, epoch_seen, digest: Some(digest) };
        let streams = if seq == 0 { Vec::new() } else { vec![stream] };
        GatewayBeat { origin: self.origin.clone(), streams, interests: Vec::new(), left: false }
    }

    /// The process starts anew.
    pub fn reborn(&mut self) {
        self.origin.incarnation = Incarnation(self.origin.incarnation.0 + 1);
        self.seq = 0;
        self.epoch_seen = Epoch::NONE;
        self.sessions.clear();
        self.ended.clear();
        self.forgot = None;
    }
}
