//! A gateway under a virtual clock, and somebody who plays the owner of its only partition.

#![allow(dead_code, missing_docs, unreachable_pub, reason = "each test file uses its part")]
#![expect(clippy::wildcard_enum_match_arm, reason = "a test looks for one kind of output")]

use std::collections::BTreeMap;
use std::time::Duration;

use herenow_gateway_core::{Config, Gateway, Grants, Input, Opening, Output, Slot, Viewer};
use herenow_protocol::code::{CloseCode, ErrorCode};
use herenow_protocol::frame::{ClientFrame, ServerFrame};
use herenow_protocol::id::ProcessId;
use herenow_protocol::message::{
    ClaimDone, ClaimRequest, Claimed, CoordinatorBeat, Delta, Ending, Entry, OwnedBeat, Pull, Report,
    SessionChange, Shown, Snapshot, Sync, ToGateway, Up,
};
use herenow_protocol::{
    Activity, CoordinatorId, DeviceId, DeviceKind, Epoch, GatewayId, Incarnation, MonoTime, Now, Origin,
    Partition, Placement, Presence, Status, UserId, UserKey, WallTime,
};

pub const PARTITION: Partition = Partition(0);
pub const ONE: Epoch = Epoch { counter: 1, nonce: 7 };
pub const TWO: Epoch = Epoch { counter: 2, nonce: 3 };
const WALL_MS: u64 = 1_700_000_000_000;
const OWNER_BEAT_MS: u64 = 250;

/// The owner of the partition, as far as a gateway meets one.
pub struct Owner {
    pub id: CoordinatorId,
    pub epoch: Epoch,
    pub n: u64,
    pub settled: bool,
    /// When it was last sure, if it is not now.
    pub sure_at: Option<WallTime>,
    pub by_user: bool,
    pub users: BTreeMap<UserKey, Entry>,
    /// Answers pulls and claims.
    pub answers: bool,
    pub beats: bool,
    pub beat_number: u64,
    /// What its clock says.
    pub clock: u64,
    pub page: usize,
    next_beat: u64,
}

pub struct World {
    pub gateway: Gateway,
    pub config: Config,
    pub owner: Owner,
    pub placement: Placement,
    pub ms: u64,
    /// Everything the gateway wanted done since this was last taken.
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

pub fn origin() -> Origin {
    Origin { gateway: GatewayId { process: process("gw"), shard: 0 }, incarnation: Incarnation(5) }
}

pub fn everybody(name: &str) -> Viewer {
    Viewer { user: user(name), grants: Grants::Everybody }
}

pub fn some(name: &str, seen: &[&str]) -> Viewer {
    let seen = seen.iter().map(|name| user(name)).collect();
    Viewer { user: user(name), grants: Grants::Some(Box::new(seen)) }
}

pub fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

pub fn many(count: usize) -> Vec<String> {
    (0..count).map(|i| format!("u{i:05}")).collect()
}

pub fn watch(id: u64, users: &[&str]) -> ClientFrame {
    ClientFrame::Watch { id, users: names(users) }
}

pub fn heartbeat(activity: Option<Activity>) -> ClientFrame {
    ClientFrame::Heartbeat { activity, id: None }
}

impl World {
    /// A gateway whose owner has settled and is heard.
    pub fn new() -> Self {
        Self::with(|_| {})
    }

    pub fn with(change: impl FnOnce(&mut Config)) -> Self {
        let mut world = Self::alone(change);
        world.owner.beats = true;
        world.owner.answers = true;
        world.beat();
        world.out.clear();
        world
    }

    /// A gateway that hears no owner yet.
    pub fn alone(change: impl FnOnce(&mut Config)) -> Self {
        // Times that the tests reckon with, whatever the defaults are.
        let ms = Duration::from_millis;
        let mut config = Config {
            beat_interval: ms(500),
            tail_patience: ms(100),
            pull_timeout: ms(400),
            ..Config::default()
        };
        change(&mut config);
        config.check().unwrap();
        let placement = Placement::new(b"secret", 0);
        let owner = Owner {
            id: process("owner"),
            epoch: ONE,
            n: 0,
            settled: true,
            sure_at: None,
            by_user: false,
            users: BTreeMap::new(),
            answers: false,
            beats: false,
            beat_number: 0,
            clock: 0,
            page: 500,
            next_beat: 0,
        };
        let start = 10_000;
        let gateway = Gateway::new(config.clone(), origin(), placement.clone(), 1, at(start));
        Self { gateway, config, owner, placement, ms: start, out: Vec::new() }
    }

    pub fn now(&self) -> Now {
        at(self.ms)
    }

    pub fn wall(&self, offset_ms: u64) -> WallTime {
        WallTime::from_millis(WALL_MS + self.ms + offset_ms)
    }

    pub fn key(&self, name: &str) -> UserKey {
        self.placement.key(&user(name))
    }

    pub fn handle(&mut self, input: Input) {
        let mut out = Vec::new();
        self.gateway.handle(input, at(self.ms), &mut out);
        self.carry_out(out);
    }

    fn carry_out(&mut self, out: Vec<Output>) {
        self.owner.clock = self.ms;
        for output in out {
            let answers = if self.owner.answers { self.owner.answer(&output) } else { Vec::new() };
            self.out.push(output);
            for message in answers {
                self.handle(Input::Message(message));
            }
        }
    }

    /// Lets time pass, with everything that falls due in it.
    pub fn advance(&mut self, wait: Duration) {
        let end = self.ms + u64::try_from(wait.as_millis()).unwrap();
        loop {
            let due = self.gateway.poll_timeout().map_or(end, MonoTime::as_millis);
            let beat = if self.owner.beats { self.owner.next_beat } else { u64::MAX };
            let next = due.min(beat).max(self.ms);
            if next > end {
                break;
            }
            self.ms = next;
            if beat <= next {
                self.beat();
            }
            let mut out = Vec::new();
            self.gateway.handle_timeout(at(self.ms), &mut out);
            self.carry_out(out);
        }
        self.ms = end;
    }

    pub fn advance_ms(&mut self, ms: u64) {
        self.advance(Duration::from_millis(ms));
    }

    /// Stands still: time passes and nothing is done in it.
    pub fn stand_still(&mut self, wait: Duration) {
        self.ms += u64::try_from(wait.as_millis()).unwrap();
        self.owner.next_beat = self.ms + OWNER_BEAT_MS;
    }

    /// The owner's sign of life.
    pub fn beat(&mut self) {
        self.owner.next_beat = self.ms + OWNER_BEAT_MS;
        self.owner.beat_number += 1;
        self.owner.clock = self.ms;
        let beat = self.owner.beat();
        self.handle(Input::Beat(beat));
    }

    pub fn opening(&self, viewer: Viewer, activity: Option<Activity>) -> Opening {
        let token_expires = self.wall(3_600_000);
        let device = DeviceId::new("phone").unwrap();
        Opening { viewer, device, kind: DeviceKind::Web, activity, token_expires }
    }

    /// Opens a session that may see everybody and says what its person does.
    pub fn open(&mut self, slot: u32, name: &str) {
        let opening = self.opening(everybody(name), Some(Activity::Active));
        self.open_as(slot, opening);
    }

    pub fn open_as(&mut self, slot: u32, opening: Opening) {
        self.handle(Input::Open(Slot(slot), Box::new(opening)));
    }

    pub fn frame(&mut self, slot: u32, frame: ClientFrame) {
        self.handle(Input::Frame(Slot(slot), frame));
    }

    pub fn close(&mut self, slot: u32, how: Ending) {
        self.handle(Input::Closed(Slot(slot), how));
    }

    /// The next frame, as text.
    pub fn raw(&mut self, slot: u32) -> Option<String> {
        let mut text = String::new();
        let more = self.gateway.poll_transmit(Slot(slot), at(self.ms), &mut text);
        assert_eq!(more, !text.is_empty(), "a frame is written exactly when one is announced");
        more.then_some(text)
    }

    /// The owner answers one pull.
    pub fn answer(&mut self, pull: &Pull) {
        for page in self.owner.snapshots(pull) {
            self.handle(Input::Message(ToGateway::Snapshot(page)));
        }
    }

    /// What the socket would take now.
    pub fn frames(&mut self, slot: u32) -> Vec<ServerFrame> {
        std::iter::from_fn(|| self.raw(slot)).map(|text| ServerFrame::parse(&text).unwrap()).collect()
    }

    /// The presences told in `presence` frames now.
    pub fn told(&mut self, slot: u32) -> Vec<Presence> {
        let users = self.frames(slot).into_iter().filter_map(|frame| match frame {
            ServerFrame::Presence { users } => Some(users),
            _ => None,
        });
        users.flatten().collect()
    }

    /// Statuses told now, by name.
    pub fn told_statuses(&mut self, slot: u32) -> Vec<(String, Status)> {
        self.told(slot).into_iter().map(|p| (p.user_id.to_string(), p.status)).collect()
    }

    /// All users of the pages of the snapshot for `id`.
    pub fn snapshot(&mut self, slot: u32, id: u64) -> Option<Vec<Presence>> {
        let mut pages = Vec::new();
        for frame in self.frames(slot) {
            if let ServerFrame::Snapshot { id: of, users, complete } = frame
                && of == id
            {
                pages.extend(users);
                if complete {
                    return Some(pages);
                }
            }
        }
        None
    }

    pub fn errors(&mut self, slot: u32) -> Vec<(Option<u64>, ErrorCode)> {
        let errors = self.frames(slot).into_iter().filter_map(|frame| match frame {
            ServerFrame::Error { id, code, .. } => Some((id, code)),
            _ => None,
        });
        errors.collect()
    }

    /// Watches and reads the answer.
    pub fn watched(&mut self, slot: u32, id: u64, users: &[&str]) -> Vec<Presence> {
        self.frame(slot, watch(id, users));
        self.snapshot(slot, id).expect("the watch is answered")
    }

    pub fn ups(&mut self) -> Vec<Up> {
        let ups = std::mem::take(&mut self.out).into_iter().filter_map(|output| match output {
            Output::Up(up) => Some(up),
            _ => None,
        });
        ups.collect()
    }

    pub fn reports(&mut self) -> Vec<Report> {
        self.ups().into_iter().filter_map(|up| if let Up::Report(r) = up { Some(r) } else { None }).collect()
    }

    pub fn changes(&mut self) -> Vec<SessionChange> {
        self.reports().into_iter().flat_map(|report| report.changes).collect()
    }

    pub fn syncs(&mut self) -> Vec<Sync> {
        self.ups().into_iter().filter_map(|up| if let Up::Sync(s) = up { Some(s) } else { None }).collect()
    }

    pub fn pulls(&mut self) -> Vec<Pull> {
        self.ups().into_iter().filter_map(|up| if let Up::Pull(p) = up { Some(p) } else { None }).collect()
    }

    pub fn claims(&mut self) -> Vec<ClaimRequest> {
        self.ups().into_iter().filter_map(|up| if let Up::Claim(c) = up { Some(c) } else { None }).collect()
    }

    pub fn closes(&mut self) -> Vec<(u32, CloseCode)> {
        let closes = std::mem::take(&mut self.out).into_iter().filter_map(|output| match output {
            Output::Close(slot, code) => Some((slot.0, code)),
            _ => None,
        });
        closes.collect()
    }

    /// The owner changes a user; says the delta without sending it.
    pub fn change(&mut self, name: &str, status: Status) -> Delta {
        let since = Some(self.wall(0));
        let entry = self.owner.entry(self.key(name), status, since);
        self.delta(vec![entry])
    }

    /// The delta that follows with these entries.
    pub fn delta(&mut self, entries: Vec<Entry>) -> Delta {
        let first = entries.iter().map(Entry::n).min().unwrap_or(self.owner.n);
        for entry in &entries {
            self.owner.users.insert(entry.key, entry.clone());
        }
        Delta {
            from: self.owner.id.clone(),
            partition: PARTITION,
            epoch: self.owner.epoch,
            prev: first.saturating_sub(1),
            last: self.owner.n,
            entries,
        }
    }

    /// The owner changes a user and publishes that.
    pub fn publish(&mut self, name: &str, status: Status) {
        let delta = self.change(name, status);
        self.handle(Input::Down(delta));
    }

    /// The owner is another one from now on, with the same users numbered anew.
    pub fn new_owner(&mut self, name: &str, epoch: Epoch) {
        self.owner.id = process(name);
        self.owner.epoch = epoch;
        self.owner.beat_number = 0;
        for (n, entry) in (1..).zip(self.owner.users.values_mut()) {
            entry.public.n = n;
            self.owner.n = n;
        }
    }
}

fn at(ms: u64) -> Now {
    Now { mono: MonoTime::from_millis(ms), wall: WallTime::from_millis(WALL_MS + ms) }
}

impl Owner {
    /// The next change of a user.
    pub fn entry(&mut self, key: UserKey, status: Status, since: Option<WallTime>) -> Entry {
        self.n += 1;
        let public = Shown { n: self.n, status, since, ..Shown::never_seen() };
        Entry { key, public, own: None }
    }

    pub fn beat(&self) -> CoordinatorBeat {
        let owned = vec![OwnedBeat {
            partition: PARTITION,
            epoch: self.epoch,
            n: self.n,
            settled: self.settled,
            doubts: self.sure_at.is_some(),
            by_user: self.by_user,
        }];
        CoordinatorBeat {
            id: self.id.clone(),
            incarnation: Incarnation(1),
            number: self.beat_number,
            clock: self.clock,
            ready: true,
            mourning_ms: 0,
            owned,
        }
    }

    pub fn answer(&mut self, output: &Output) -> Vec<ToGateway> {
        match output {
            Output::Up(Up::Pull(pull)) => self.snapshots(pull).into_iter().map(ToGateway::Snapshot).collect(),
            Output::Up(Up::Claim(claim)) => vec![self.claim_done(claim)],
            _ => Vec::new(),
        }
    }

    /// The answer to a pull, in pages.
    pub fn snapshots(&self, pull: &Pull) -> Vec<Snapshot> {
        let entries: Vec<Entry> = pull.users.iter().filter_map(|key| self.users.get(key).cloned()).collect();
        let pages = entries.len().div_ceil(self.page).max(1);
        let page = |page: usize| Snapshot {
            from: self.id.clone(),
            partition: pull.partition,
            epoch: self.epoch,
            n: self.n,
            settled: self.settled,
            as_of: self.sure_at,
            clock: self.clock,
            request: pull.request,
            page: u16::try_from(page).unwrap(),
            last: page + 1 == pages,
            entries: entries.iter().skip(page * self.page).take(self.page).cloned().collect(),
        };
        (0..pages).map(page).collect()
    }

    pub fn claim_done(&mut self, claim: &ClaimRequest) -> ToGateway {
        let entry = self.entry(claim.key, Status::Dnd, Some(WallTime::from_millis(1)));
        self.users.insert(entry.key, entry.clone());
        let claimed = Claimed { entry, covered: false, expires_at: None };
        ToGateway::ClaimDone(Box::new(ClaimDone {
            request: claim.request,
            epoch: self.epoch,
            outcome: Ok(claimed),
        }))
    }
}

/// Ana, who watches everybody, in a world where these are so.
pub fn watching(users: &[(&str, Status)]) -> World {
    let mut world = World::new();
    for (name, status) in users {
        world.publish(name, *status);
    }
    world.open(0, "ana");
    let names: Vec<&str> = users.iter().map(|(name, _)| *name).collect();
    world.watched(0, 1, &names);
    world.advance_ms(300);
    world.frames(0);
    world.out.clear();
    world
}

/// The statuses that she was told.
pub fn told(world: &mut World) -> Vec<Status> {
    world.told(0).into_iter().map(|presence| presence.status).collect()
}

/// What she is answered when she begins to watch somebody.
pub fn look(world: &mut World, id: u64, name: &str) -> Presence {
    world.watched(0, id, &[name]).remove(0)
}
