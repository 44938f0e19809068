//! The gateway itself: its state, its clockwork, and which rule each input goes to.

use std::collections::VecDeque;

use hashbrown::HashMap;
use herenow_protocol::message::GatewayBeat;
use herenow_protocol::{Epoch, MonoTime, Now, Origin, Partition, Placement, UserId, UserKey, WallTime};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng as _;

use crate::interest::Statement;
use crate::io::{BusEvent, Viewer};
use crate::request::{Due, Pending};
use crate::rounds::Rounds;
use crate::session::Session;
use crate::slots::Slots;
use crate::uplink::Uplink;
use crate::view::View;
use crate::watch::WatchIndex;
use crate::window::Window;
use crate::{Config, Input, Output, Slot};

/// Counts since the gateway began, and sizes now. Read by metrics.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    /// Sessions now.
    pub sessions: u64,
    /// Users with a watcher here now.
    pub watched_users: u64,
    /// Watches now: pairs of session and watched user.
    pub watches: u64,
    /// Requests that wait for an owner now.
    pub requests: u64,
    /// Partitions that are asked for in full now.
    pub repairs: u64,
    /// Partitions that wait to be.
    pub repairs_waiting: u64,
    /// How long owners took to answer of late, in milliseconds.
    pub answers_ms: u64,
    /// Partitions with watchers whose owner was not heard of late.
    pub stale_partitions: u64,
    /// Heartbeats taken.
    pub heartbeats: u64,
    /// Frames taken, heartbeats included.
    pub frames: u64,
    /// Frames answered with an error.
    pub frame_errors: u64,
    /// Sessions that were silent for the heartbeat timeout.
    pub silent_sessions: u64,
    /// Reports sent.
    pub reports: u64,
    /// Syncs sent, pages counted.
    pub syncs: u64,
    /// Pulls sent.
    pub pulls: u64,
    /// Deltas taken.
    pub deltas: u64,
    /// Deltas before which something was missing.
    pub gaps: u64,
    /// Messages of an epoch that is over.
    pub fenced: u64,
    /// Interest stated again because messages of it were lost.
    pub reinterests: u64,
    /// Two coordinators that spoke for the same partition under the same epoch (I2). More than none is a slip of a program,
    /// or two processes of one name.
    pub owners_doubled: u64,
    /// Values of one version that looked different (I1). The same.
    pub versions_doubled: u64,
    /// Values told to watchers, snapshots not counted.
    pub deliveries: u64,
    /// `presence` frames written.
    pub presence_frames: u64,
    /// Requests answered without every value.
    pub request_timeouts: u64,
    /// Times that the process was found to have stood still.
    pub stalls: u64,
}

/// One gateway; see the crate's page.
#[derive(Debug)]
pub struct Gateway {
    pub(crate) config: Config,
    pub(crate) placement: Placement,
    pub(crate) sessions: Vec<Option<Box<Session>>>,
    pub(crate) by_user: HashMap<UserKey, Slots>,
    pub(crate) next_number: u64,
    pub(crate) live: usize,
    pub(crate) uplink: Uplink,
    pub(crate) views: Vec<View>,
    pub(crate) watch: WatchIndex,
    /// What owners were told of the watched users, by partition.
    pub(crate) statements: Vec<Statement>,
    /// Partitions with changes of that which wait.
    pub(crate) undisclosed: Vec<Partition>,
    /// Those with changes that cannot wait for the next beat.
    pub(crate) urgent: Vec<Partition>,
    /// Partitions that wait to be asked for in full.
    pub(crate) unrepaired: VecDeque<Partition>,
    pub(crate) pending: Pending,
    /// Since it was told to stop: the end of the window in which clients come back elsewhere.
    pub(crate) draining: Option<MonoTime>,
    /// It has said its last word.
    pub(crate) left: bool,
    pub(crate) stats: Stats,
    pub(crate) rng: ChaCha8Rng,
    scan_due: MonoTime,
    /// The last turn, by which a process finds that it stood still.
    turned_at: MonoTime,
    /// Only sessions heard since then vouch for their users (R11): what they said before may have piled up.
    pub(crate) vouching_since: MonoTime,
    /// Until then what is read may have waited since before a stop.
    pub(crate) late_until: MonoTime,
    /// Until then owners have time to answer, before watchers are told that nothing is certain.
    pub(crate) patient_until: MonoTime,
    beat_due: MonoTime,
    digests: Rounds,
    check_due: MonoTime,
    pub(crate) window: Window,
}

impl Gateway {
    /// A gateway without sessions. `seed` feeds every random choice.
    #[must_use]
    pub fn new(config: Config, origin: Origin, placement: Placement, seed: u64, now: Now) -> Self {
        Self {
            watch: WatchIndex::new(placement.partitions()),
            views: placement.all().map(|_| View::default()).collect(),
            statements: placement.all().map(|_| Statement::default()).collect(),
            undisclosed: Vec::new(),
            urgent: Vec::new(),
            unrepaired: VecDeque::new(),
            uplink: Uplink::new(origin),
            config,
            placement,
            sessions: Vec::new(),
            by_user: HashMap::new(),
            next_number: 0,
            live: 0,
            pending: Pending::new(seed),
            rng: ChaCha8Rng::seed_from_u64(seed),
            draining: None,
            left: false,
            stats: Stats::default(),
            scan_due: now.mono,
            turned_at: now.mono,
            vouching_since: MonoTime::default(),
            late_until: MonoTime::default(),
            patient_until: MonoTime::default(),
            beat_due: now.mono,
            digests: Rounds::new(now.mono),
            window: Window::default(),
            check_due: now.mono,
        }
    }

    /// Takes one input; appends what is to be done.
    pub fn handle(&mut self, input: Input, now: Now, out: &mut Vec<Output>) {
        self.turn(now.mono);
        match input {
            Input::Open(slot, opening) => self.open(slot, *opening, now, out),
            Input::Heard(slot) => self.heard(slot, now.mono),
            Input::Frame(slot, frame) => self.on_frame(slot, frame, now, out),
            Input::BadFrame(slot, error) => self.on_bad_frame(slot, error, now, out),
            Input::Renewed { slot, id, viewer, token_expires } => {
                self.renewed(slot, id, viewer, token_expires, now, out);
            }
            Input::NotRenewed { slot, id, code } => {
                self.post_error(slot, id, code, "the token is not accepted".to_owned(), now, out);
            }
            Input::Closed(slot, how) => self.closed(slot, how, now, out),
            Input::Down(delta) => self.on_delta(delta, now, out),
            Input::Message(message) => self.on_message(message, now, out),
            Input::Beat(beat) => self.on_beat(&beat, now, out),
            Input::Bus(event) => self.on_bus(event, now),
            Input::Query { ticket, viewer, users } => self.on_query(ticket, &viewer, users, now, out),
            Input::Claim { ticket, user, command } => self.on_claim(ticket, user, command, now, out),
            Input::Explain { ticket, user } => self.on_explain(ticket, &user, now, out),
            Input::List(request) => out.push(Output::Up(herenow_protocol::message::Up::List(request))),
            Input::Drain { within_ms } => self.drain(within_ms, now, out),
            Input::Leave => self.leave(now, out),
        }
        self.repair_next(now.mono, out);
        self.flush_urgent_interest(out);
        self.flush_reports(now.mono, out);
    }

    /// When [`Self::handle_timeout`] wants to be called next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<MonoTime> {
        let clockwork = [self.scan_due, self.beat_due, self.check_due];
        let due = clockwork.into_iter().chain(self.uplink.due(&self.config)).chain(self.pending.next_due());
        due.min()
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Now, out: &mut Vec<Output>) {
        self.turn(now.mono);
        if now.mono >= self.scan_due {
            self.scan(now, out);
            self.uplink.prune(now.mono, &self.config);
            self.watch.drop_encoded();
            self.pending.shrink();
            self.pending.patience.fade();
            self.window.measure(self.stats.presence_frames, now.mono, &self.config);
            self.scan_due = now.mono.after(self.scan_interval());
        }
        while let Some(due) = self.pending.pop_due(now.mono) {
            self.on_due(due, now, out);
        }
        if now.mono >= self.check_due {
            self.check_views(now, out);
            self.check_due =
                now.mono.after(self.config.tail_patience.max(std::time::Duration::from_millis(10)));
        }
        self.repair_next(now.mono, out);
        self.flush_reports(now.mono, out);
        if now.mono >= self.beat_due {
            self.beat(now.mono, out);
        }
    }

    pub(crate) fn beat(&mut self, now: MonoTime, out: &mut Vec<Output>) {
        self.beat_due = now.after(self.config.beat_interval);
        let all = usize::from(self.placement.partitions());
        let digests = self.digests.next(now, self.config.digest_interval, all);
        self.flush_interest(out);
        let views = &self.views;
        let beat = self.uplink.beat(|partition| epoch_of(views, partition), &digests);
        out.push(Output::Beat(GatewayBeat { left: self.left, interests: self.interest_beats(), ..beat }));
        self.audit(&digests, now, out);
    }

    /// Whether another session would be taken.
    #[must_use]
    pub const fn takes_sessions(&self) -> bool {
        self.live < self.config.max_sessions
    }

    /// How long owners took to answer of late; longer than they should, and whoever comes makes it longer.
    #[must_use]
    pub const fn answers_take(&self) -> std::time::Duration {
        self.pending.patience.mean()
    }

    /// Counts and sizes.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats {
            sessions: self.live as u64,
            watched_users: self.watch.len() as u64,
            watches: self.watch.edges,
            requests: self.pending.len() as u64,
            repairs: self.repairs() as u64,
            repairs_waiting: self.unrepaired.len() as u64,
            answers_ms: u64::try_from(self.answers_take().as_millis()).unwrap_or(u64::MAX),
            ..self.stats
        }
    }

    /// Deadlines are looked at a sixtieth of the heartbeat timeout apart, at most half a second: a dead session is found
    /// within that of its time, and the other half of the promised second is left for telling it. Shorter timers make it
    /// as much sooner.
    fn scan_interval(&self) -> std::time::Duration {
        let (least, most) = (std::time::Duration::from_millis(10), std::time::Duration::from_millis(500));
        (self.config.heartbeat_timeout / 60).clamp(least, most)
    }

    /// A process that stood still (stopped, starved, or its machine asleep) has not listened. Its sessions were not
    /// silent: they are given the time back. And what piled up for it meanwhile is old: it says nothing for certain
    /// until owners have answered anew.
    fn turn(&mut self, now: MonoTime) {
        let gap = now.since(self.turned_at);
        self.turned_at = now;
        if gap < self.config.stale_after {
            return;
        }
        self.stats.stalls += 1;
        self.vouching_since = now.after(self.config.stale_after);
        self.late_until = self.vouching_since.after(self.config.stale_after);
        self.patient_until = now.after(self.config.pull_timeout);
        for session in self.sessions.iter_mut().flatten() {
            session.last_heard = session.last_heard.after(gap).min(now);
        }
        for partition in self.placement.all() {
            if let Some(pull) = self.view(partition).and_then(View::restart) {
                self.pending.pulls.remove(&pull);
            }
        }
        self.pending.distrust();
    }

    fn on_due(&mut self, due: Due, now: Now, out: &mut Vec<Output>) {
        match due {
            Due::Request(number) => {
                if self.pending.requests.contains_key(&number) {
                    self.stats.request_timeouts += 1;
                    self.ask_later(number);
                    self.answer(number, now, out);
                }
            }
            Due::Pull(number) => self.pull_again(number, now.mono, out),
            Due::Claim(number) => self.claim_again(number, now, out),
            Due::Explain(number) => {
                if let Some(explain) = self.pending.explains.remove(&number) {
                    let code = herenow_protocol::code::ErrorCode::Unavailable;
                    out.push(Output::Explained(explain.ticket, Err(code)));
                }
            }
            Due::Flush(slot) => {
                if let Some(session) = self.session(slot) {
                    session.flush_set = false;
                    if !session.dirty.is_empty() {
                        self.ready(slot, out);
                    }
                }
            }
        }
    }

    /// A watched user whose value has not come in time is asked for with all others of its partition.
    fn ask_later(&mut self, number: u64) {
        let Some(request) = self.pending.requests.get(&number) else { return };
        let missing: Vec<Partition> =
            request.missing.iter().map(|key| self.placement.partition(*key)).collect();
        for partition in missing {
            if let Some(view) = self.view(partition) {
                view.miss();
            }
        }
    }

    fn flush_reports(&mut self, now: MonoTime, out: &mut Vec<Output>) {
        let views = &self.views;
        let mut reports = 0;
        self.uplink.flush(now, &self.config, |p| epoch_of(views, p), &mut |up| {
            reports += 1;
            out.push(Output::Up(up));
        });
        self.stats.reports += reports;
    }

    fn on_bus(&mut self, event: BusEvent, now: Now) {
        match event {
            // What was lost is found by numbers; looking at once finds it sooner.
            BusEvent::Connected | BusEvent::Lossy => self.check_due = now.mono,
            BusEvent::Disconnected => {}
        }
    }

    pub(crate) fn session(&mut self, slot: Slot) -> Option<&mut Session> {
        self.sessions.get_mut(slot.0 as usize)?.as_deref_mut()
    }

    pub(crate) fn view(&mut self, partition: Partition) -> Option<&mut View> {
        self.views.get_mut(partition.index())
    }

    /// R2: the highest epoch seen of a partition.
    pub(crate) fn epoch(&self, partition: Partition) -> Epoch {
        epoch_of(&self.views, partition)
    }

    /// Says once that a session has something to send.
    pub(crate) fn ready(&mut self, slot: Slot, out: &mut Vec<Output>) {
        if let Some(session) = self.session(slot)
            && !session.ready
        {
            session.ready = true;
            out.push(Output::Ready(slot));
        }
    }

    /// The key under which somebody may ask for a user: its own, or that of nobody.
    pub(crate) fn key_for(&self, viewer: &Viewer, user: &UserId) -> UserKey {
        if viewer.may_see(user) { self.placement.key(user) } else { self.placement.decoy(user) }
    }

    /// When a partition was last known for certain.
    pub(crate) fn certain_at(&self, partition: Partition) -> Option<WallTime> {
        self.views.get(partition.index()).and_then(|view| view.confirmed_wall)
    }
}

pub(crate) fn epoch_of(views: &[View], partition: Partition) -> Epoch {
    views.get(partition.index()).map_or(Epoch::NONE, |view| view.epoch)
}
