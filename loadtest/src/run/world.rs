//! A worker's people: carries out the schedule, keeps the truth, and comes back when it is cut off.

mod outbox;

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::task::spawn_local;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use super::chance::Chance;
use super::graph;
use super::person::{Device, Link, Person, Then};
use super::plan::{Deed, Moment, Step, micros};
use super::referee::{Referee, UNTIMED};
use super::scenario::{Scenario, WATCH_PAGE};
use super::session::{self, Id};
use super::socket::{self, Refused};
use super::truth::May;
use super::wire;
use crate::clock;
use crate::token::Issuer;

/// An attempt to connect is given up after this.
const ATTEMPT: Duration = Duration::from_secs(15);
/// The first and the longest wait before another attempt, of which a random share is waited.
const BACKOFF: Duration = Duration::from_millis(500);
const BACKOFF_LONGEST: Duration = Duration::from_secs(20);
/// Heartbeats are sent at multiples of this, a thousandth of the default interval.
const BEAT_GRAIN: Moment = 20_000;
/// Clocks of two processes and the granularity of their timers.
const SLACK: Moment = 10_000;

/// Shared by everything on the worker's one thread.
pub(super) type Shared = Rc<RefCell<World>>;

/// Something that is due for a connection.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Task {
    Beat,
    Retry,
    /// As `reconnect` told.
    Move,
    /// The grace, or the heartbeat timeout, may be over; is over.
    MayBeOver,
    IsOver,
    /// It cannot be known by anybody any longer, whatever happened.
    Forgotten,
}

type Due = Reverse<(Moment, u32, u8, u32, Task)>;

/// Where and as whom a worker connects.
#[derive(Clone)]
pub(super) struct Access {
    pub(super) gateways: Vec<(SocketAddr, String)>,
    /// Under TLS, with this.
    pub(super) secure: Option<TlsConnector>,
    pub(super) issuer: Issuer,
    /// Before the number of a user.
    pub(super) prefix: String,
    pub(super) worker: u32,
}

/// Everything of a worker.
pub(super) struct World {
    pub(super) access: Access,
    pub(super) scenario: Scenario,
    pub(super) referee: Referee,
    pub(super) people: Vec<Person>,
    pub(super) sessions: u64,
    due: BinaryHeap<Due>,
    pub(super) beat: Duration,
    pub(super) chance: Chance,
    started: Instant,
    /// Filled and emptied by whichever session reads.
    pub(super) buffer: Vec<u8>,
    requests: u64,
    /// What could not be written yet, of the few connections where that is so.
    pending: HashMap<Id, Vec<u8>>,
    /// It is over: what is lost is not missed.
    pub(super) ending: bool,
}

impl World {
    pub(super) fn new(access: Access, scenario: Scenario) -> Self {
        let people = scenario.people.sessions;
        let mut referee = Referee::new(people as usize, micros(scenario.promise.bound));
        for (watcher, list) in (0..).zip(graph::lists(&scenario.watch, people, scenario.seed)) {
            list.into_iter().for_each(|user| referee.watch(watcher, user, false, 0));
        }
        Self {
            access,
            referee,
            people: std::iter::repeat_with(Person::default).take(people as usize).collect(),
            sessions: 0,
            due: BinaryHeap::new(),
            beat: Duration::from_secs(20),
            // Another stream of numbers than the schedule's.
            chance: Chance::new(!scenario.seed),
            started: clock::now(),
            buffer: vec![0; 256 * 1024],
            requests: 0,
            pending: HashMap::new(),
            scenario,
            ending: false,
        }
    }

    pub(super) fn start(&mut self) {
        self.started = clock::now();
    }

    pub(super) fn now(&self) -> Moment {
        micros(clock::now() - self.started)
    }

    pub(super) fn at(&self, moment: Moment) -> Instant {
        self.started + Duration::from_micros(moment)
    }

    pub(super) fn is_slow(&self, user: u32) -> bool {
        // A fixed pseudo-random order of users, so that slow ones are on all gateways.
        let place = f64::from(user.wrapping_mul(2_654_435_761)) / f64::from(u32::MAX);
        self.scenario.slow.as_ref().is_some_and(|slow| place < slow.share)
    }

    pub(super) fn name(&self, user: u32) -> String {
        format!("{}{user}", self.access.prefix)
    }

    fn device(&mut self, user: u32, device: u8) -> &mut Device {
        &mut self.people[user as usize].devices[usize::from(device & 1)]
    }

    /// Whether this is still the connection that something belongs to.
    pub(super) fn is_current(&self, user: u32, device: u8, generation: u32) -> bool {
        self.people[user as usize].devices[usize::from(device & 1)].generation == generation
    }

    fn schedule(&mut self, at: Moment, user: u32, device: u8, task: Task) {
        let generation = self.device(user, device).generation;
        self.due.push(Reverse((at, user, device, generation, task)));
    }

    /// When the next task is due.
    pub(super) fn next_due(&self) -> Option<Moment> {
        self.due.peek().map(|Reverse((at, ..))| *at)
    }

    const fn doing(idle: bool) -> May {
        if idle { May::IDLE } else { May::ON }
    }

    fn truth(&mut self, user: u32, device: u8, may: May, meant: Moment) {
        let now = self.now();
        self.referee.truth(user, device, may, meant, now);
    }
}

/// Does a step of the schedule.
pub(super) fn act(shared: &Shared, step: Step) {
    let mut world = shared.borrow_mut();
    let now = world.now();
    world.referee.spreads.lateness.record(now.saturating_sub(step.at));
    let Step { at, user, deed } = step;
    match deed {
        Deed::Come(device) => {
            world.device(user, device).attempt = 0;
            drop(world);
            come(shared, user, device, at);
        }
        Deed::Leave(device) => world.go(shared, user, device, Then::Leave, at),
        Deed::Cut(device) => world.go(shared, user, device, Then::Cut, at),
        Deed::Die(device) => world.go(shared, user, device, Then::Die, at),

        Deed::Flip => world.flip(shared, user, at),
        Deed::Churn(number) => world.churn(shared, user, number),
    }
}

/// Does what is due until now.
pub(super) fn work(shared: &Shared) {
    loop {
        let mut world = shared.borrow_mut();
        let now = world.now();
        if world.next_due().is_none_or(|at| at > now) {
            return;
        }
        let Some(Reverse((at, user, device, generation, task))) = world.due.pop() else { return };
        if !world.is_current(user, device, generation) {
            continue;
        }
        let link = world.device(user, device).link;
        match task {
            Task::Beat => world.heartbeat(shared, user, device, at),
            Task::Retry if link == Link::Waiting => {
                drop(world);
                come(shared, user, device, UNTIMED);
            }
            Task::Move if link == Link::Open => {
                world.referee.counts.moved += 1;
                world.cut(user, device, at);
                drop(world);
                come(shared, user, device, UNTIMED);
            }
            Task::Retry | Task::Move => {}
            Task::MayBeOver => {
                let may = world.referee.device(user, device).or(May::OFF);
                world.truth(user, device, may, at + SLACK);
            }
            Task::IsOver | Task::Forgotten => world.truth(user, device, May::OFF, at),
        }
    }
}

/// Connects. Until it is welcome, the service may know of it or not.
fn come(shared: &Shared, user: u32, device: u8, meant: Moment) {
    let mut world = shared.borrow_mut();
    let idle = world.people[user as usize].idle;
    // What was due for the connection before no longer is: the truth of it is written down here.
    let may = world.referee.device(user, device).or(World::doing(idle));
    world.truth(user, device, may, meant);
    let place = world.device(user, device);
    place.link = Link::Opening;
    place.generation = place.generation.wrapping_add(1);
    (place.idle, place.meant, place.then) = (idle, meant, None);
    place.writer = None;
    let generation = place.generation;
    let gateway = (user as usize + usize::from(device)) % world.access.gateways.len().max(1);
    let (address, authority) = world.access.gateways[gateway].clone();
    let from = socket::source(address, world.access.worker, user);
    let slow = world.is_slow(user);
    let secure = world.access.secure.clone();
    let token = world.access.issuer.token(&world.name(user)).unwrap_or_default();
    drop(world);
    let shared = Rc::clone(shared);
    spawn_local(async move {
        let request = wire::request(&authority, &token, device, idle);
        let secure = secure.as_ref().map(|secure| (secure, &*authority));
        let open = socket::open(address, from, slow, secure, &request);
        let opened = tokio::time::timeout(ATTEMPT, open).await;
        let opened = opened.unwrap_or_else(|_| Err(Refused::Broken("no answer".to_owned())));
        if !shared.borrow().is_current(user, device, generation) {
            return;
        }
        match opened {
            Ok((stream, bytes)) => {
                let (reader, writer) = stream.split();
                shared.borrow_mut().device(user, device).writer = Some(Rc::new(writer));
                session::spawn(&shared, (user, device, generation), reader, bytes);
            }
            Err(refused) => shared.borrow_mut().refused(user, device, &refused),
        }
    });
}

impl World {
    /// There is no session; another attempt follows, unless it is not wanted any longer.
    fn refused(&mut self, user: u32, device: u8, refused: &Refused) {
        self.referee.counts.failed += 1;
        let mut told = None;
        match refused {
            Refused::Status(status, wait) => {
                *self.referee.counts.errors.entry(format!("http {status}")).or_default() += 1;
                self.referee.counts.told_to_wait += u64::from(wait.is_some());
                told = *wait;
            }
            Refused::Nobody => {
                *self.referee.counts.errors.entry("nobody listens".to_owned()).or_default() += 1
            }
            Refused::Broken(why) => *self.referee.counts.errors.entry(why.clone()).or_default() += 1,
        }
        self.retry(user, device, told);
    }

    /// Waits with full jitter, or as it was told, and tries again.
    fn retry(&mut self, user: u32, device: u8, told: Option<Duration>) {
        let now = self.now();
        let fraction = self.chance.fraction();
        let place = self.device(user, device);
        let again = place.then.is_none();
        place.link = if again { Link::Waiting } else { Link::Off };
        let longest = BACKOFF.saturating_mul(1 << place.attempt.min(10)).min(BACKOFF_LONGEST);
        place.attempt = place.attempt.saturating_add(1);
        let wait = told.unwrap_or_default() + longest.mul_f64(fraction);
        let either = self.scenario.promise.heartbeat_timeout.max(self.scenario.grace_longest());
        self.schedule(now + micros(either + self.scenario.promise.bound), user, device, Task::Forgotten);
        if again {
            self.schedule(now + micros(wait), user, device, Task::Retry);
        }
    }

    /// The gateway took it.
    pub(super) fn welcome(&mut self, shared: &Shared, user: u32, device: u8) {
        let (now, beat, slow) = (self.now(), self.beat, self.is_slow(user));
        let place = self.device(user, device);
        if place.link != Link::Opening {
            return;
        }
        (place.link, place.attempt, place.welcome, place.wrote) = (Link::Open, 0, now, now);
        let (meant, idle, then) = (place.meant, place.idle, place.then.take());
        self.sessions += 1;
        self.referee.counts.opened += 1;
        if meant != UNTIMED {
            self.referee.spreads.connect.record(now.saturating_sub(meant));
        }
        self.truth(user, device, Self::doing(idle), meant);
        let first = beat.mul_f64(self.chance.fraction());
        self.schedule_beat(now, first, user, device);
        if !slow {
            self.referee.open(user, now);
        }
        self.people[user as usize].watching = device;
        self.watch_all(shared, user, device);
        let idle = self.people[user as usize].idle;
        if self.device(user, device).idle != idle {
            self.say(shared, user, device, idle, now);
        }
        if let Some(how) = then {
            self.go(shared, user, device, how, now);
        }
    }

    fn watch_all(&mut self, shared: &Shared, user: u32, device: u8) {
        let names: Vec<String> = self.referee.list(user).map(|other| self.name(other)).collect();
        self.device(user, device).awaited = 0;
        for page in names.chunks(WATCH_PAGE) {
            self.requests += 1;
            let text = wire::watch(self.requests, page);
            self.device(user, device).awaited += 1;
            self.send(shared, user, device, &text);
        }
    }

    fn heartbeat(&mut self, shared: &Shared, user: u32, device: u8, at: Moment) {
        if self.device(user, device).link == Link::Open {
            let idle = self.people[user as usize].idle;
            self.send(shared, user, device, wire::heartbeat(idle));
            self.schedule_beat(at, self.beat, user, device);
        }
    }

    /// Heartbeats that are due within a few milliseconds go at once: nobody measures when they arrive, and a wake for each
    /// costs more than sending it.
    fn schedule_beat(&mut self, at: Moment, after: Duration, user: u32, device: u8) {
        let at = (at + micros(after)).next_multiple_of(BEAT_GRAIN);
        self.schedule(at, user, device, Task::Beat);
    }

    fn flip(&mut self, shared: &Shared, user: u32, meant: Moment) {
        let person = &mut self.people[user as usize];
        person.idle = !person.idle;
        let idle = person.idle;
        for device in [0, 1] {
            if self.device(user, device).link == Link::Open {
                self.say(shared, user, device, idle, meant);
            }
        }
    }

    /// Says what its person does now.
    fn say(&mut self, shared: &Shared, user: u32, device: u8, idle: bool, meant: Moment) {
        self.device(user, device).idle = idle;
        self.truth(user, device, Self::doing(idle), meant);
        self.send(shared, user, device, wire::heartbeat(idle));
    }

    fn churn(&mut self, shared: &Shared, user: u32, number: u64) {
        let device = self.people[user as usize].watching;
        let length = self.referee.list(user).len();
        if self.device(user, device).link != Link::Open || length == 0 || self.is_slow(user) {
            return;
        }
        let now = self.now();
        let place = usize::try_from(number).unwrap_or(usize::MAX) % length;
        let old = self.referee.list(user).nth(place);
        if let Some(old) = old {
            self.referee.unwatch(user, old, now);
            self.requests += 1;
            let text = wire::unwatch(self.requests, &self.name(old));
            self.send(shared, user, device, &text);
        }
        let new = graph::popular(self.scenario.people.sessions, &mut Chance::new(number));
        if new != user && self.referee.list(user).all(|other| other != new) {
            self.referee.watch(user, new, true, now);
            self.requests += 1;
            let text = wire::watch(self.requests, &[self.name(new)]);
            self.send(shared, user, device, &text);
        }
    }

    /// Leaves, is cut, or dies.
    fn go(&mut self, shared: &Shared, user: u32, device: u8, how: Then, meant: Moment) {
        match (self.device(user, device).link, how) {
            (Link::Open, Then::Leave) => {
                self.closed(user, device);
                self.device(user, device).link = Link::Leaving;
                self.truth(user, device, May::OFF, meant);
                self.send(shared, user, device, wire::BYE);
            }
            (Link::Open, Then::Die) => {
                self.closed(user, device);
                let place = self.device(user, device);
                place.link = Link::Dead;
                let over = place.wrote + micros(self.scenario.promise.heartbeat_timeout);
                self.over(user, device, over, over);
            }
            (Link::Open, Then::Cut) => self.cut(user, device, meant),
            (Link::Opening, _) => self.device(user, device).then = Some(how),
            (Link::Waiting, _) => self.device(user, device).link = Link::Off,
            (Link::Off | Link::Leaving | Link::Dead, _) => {}
        }
    }

    /// Closes the connection without a word.
    fn cut(&mut self, user: u32, device: u8, meant: Moment) {
        self.closed(user, device);
        let now = self.now();
        let place = self.device(user, device);
        place.link = Link::Off;
        place.generation = place.generation.wrapping_add(1);
        place.writer = None;
        let from = meant.max(now) + micros(self.scenario.promise.grace);
        self.over(user, device, from, now + micros(self.scenario.grace_longest()));
    }

    /// It still counts, until between these moments.
    fn over(&mut self, user: u32, device: u8, from: Moment, until: Moment) {
        self.schedule(from.saturating_sub(SLACK), user, device, Task::MayBeOver);
        self.schedule(until, user, device, Task::IsOver);
    }

    /// A session is none any longer.
    fn closed(&mut self, user: u32, device: u8) {
        let now = self.now();
        self.sessions -= 1;
        let place = self.device(user, device);
        if place.awaited > 0 {
            let blind = now.saturating_sub(place.welcome);
            self.referee.counts.blind_sessions_micros += blind;
        }
        let person = &mut self.people[user as usize];
        if person.watching == device & 1 {
            self.referee.close(user, now);
        }
    }

    /// The connection ended, with the code of a close frame where there was one.
    pub(super) fn ended(&mut self, user: u32, device: u8, code: Option<u16>) {
        let place = self.device(user, device);
        place.writer = None;
        match place.link {
            Link::Open => {
                self.closed(user, device);
                self.forced(user, code);
            }
            Link::Opening => self.referee.counts.failed += 1,
            Link::Leaving | Link::Dead | Link::Off | Link::Waiting => {
                self.device(user, device).link = Link::Off;
                return;
            }
        }
        let may = self.referee.device(user, device).or(May::OFF);
        self.truth(user, device, may, UNTIMED);
        self.retry(user, device, None);
    }

    fn forced(&mut self, user: u32, code: Option<u16>) {
        if self.ending {
            return;
        }
        if self.is_slow(user) {
            self.referee.counts.forced_slow += 1;
        } else {
            let code = code.map_or_else(|| "no code".to_owned(), |code| code.to_string());
            *self.referee.counts.forced.entry(code).or_default() += 1;
        }
    }

    /// It is to come back within this time, without `bye`.
    pub(super) fn move_away(&mut self, user: u32, device: u8, after: Duration, within: Duration) {
        let at = self.now() + micros(after + within.mul_f64(self.chance.fraction()));
        self.schedule(at, user, device, Task::Move);
    }

    /// A token that lasts longer.
    pub(super) fn renew(&mut self, shared: &Shared, user: u32, device: u8) {
        let token = self.access.issuer.token(&self.name(user)).unwrap_or_default();
        self.send(shared, user, device, &wire::auth(&token));
    }

    pub(super) fn say_goodbye(&mut self, shared: &Shared, user: u32) {
        for device in [0, 1] {
            let now = self.now();
            self.go(shared, user, device, Then::Leave, now);
        }
    }
}
