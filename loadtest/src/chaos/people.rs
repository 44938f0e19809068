//! Actors: every device of every user does what the seed says, and notes what is true of it.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::timeout;

use super::dice::Dice;
use super::session::{ATTEMPT, Listening, Session};
use super::truth::{Claim, Doing, May, Moment, Person, Truth};
use super::wire::{self, Activity, Heard};
use super::world::{Habit, World};
use crate::connection::{Closed, Writer};

/// The code of a close after `bye`.
const IN_ORDER: u16 = 1000;
/// How long the close after `bye` is waited for.
const BYE_PATIENCE: Duration = Duration::from_secs(1);
/// Who is back this long before the end of its grace was never away.
const GRACE_MARGIN: Duration = Duration::from_millis(200);
const LOOK: Duration = Duration::from_millis(50);
/// The shortest and longest time that a churner stays, and is away, in milliseconds. Some are away for longer than any
/// bound, so that to be back does not hide that they were shown wrongly.
const STAY: (u64, u64) = (600, 1_800);
const AWAY: (u64, u64) = (600, 2_700);
/// The longest bound with the default timers, which shrinks with them, comes on top of the longest time away.
const BOUND: Duration = Duration::from_secs(5);
/// The same of a lost user before it tries the next gateway, with the default timers: some within the time until a
/// gateway is given up, some after it, all inside their grace.
const RETURN: (u64, u64) = (50, 7_500);
/// The same between one change of what a person does, or claims, and the next.
const FLIP: (u64, u64) = (400, 2_000);
/// What is claimed, in this order, again and again.
const CLAIMS: [(&str, Claim); 7] = [
    ("dnd", Claim::Dnd),
    ("auto", Claim::Nothing),
    ("invisible", Claim::Invisible),
    ("dnd", Claim::Dnd),
    ("invisible", Claim::Invisible),
    ("auto", Claim::Nothing),
    ("dnd", Claim::Dnd),
];

/// How a session ended.
enum Ended {
    Lost(String),
    Left,
}

/// One device of a user.
struct Actor {
    world: Rc<World>,
    user: usize,
    device: usize,
    dice: Dice,
    gateway: usize,
    doing: Doing,
    lost_at: Option<Moment>,
    claimed: usize,
    /// A claim that was made and is not confirmed yet.
    pending: Rc<Cell<Option<(u64, Claim)>>>,
}

/// When what is due.
struct Plan {
    leave: Option<Moment>,
    flip: Option<Moment>,
    claim: Option<Moment>,
    beat: Moment,
}

/// One device, for the whole scenario.
pub(super) async fn actor(world: Rc<World>, user: usize, device: usize) {
    let dice = world.dice_of(user, device);
    let gateway = world.gateway_of(user, device);
    let mut actor = Actor {
        world,
        user,
        device,
        dice,
        gateway,
        doing: Doing::Active,
        lost_at: None,
        claimed: 0,
        pending: Rc::default(),
    };
    while actor.come_and_go().await {}
}

impl Actor {
    /// One attempt to connect, and what comes of it. False: it stays away for good.
    async fn come_and_go(&mut self) -> bool {
        let Some(session) = self.come().await else {
            self.gateway = (self.gateway + 1) % self.world.gateways.len();
            tokio::time::sleep(LOOK).await;
            return true;
        };
        self.arrived();
        match self.stay(session).await {
            Ended::Left => {
                let longest = Duration::from_millis(AWAY.1) + self.world.timers.scaled(BOUND);
                tokio::time::sleep(self.dice.between((AWAY.0, millis(longest)))).await;
                while self.world.ending.get() {
                    tokio::time::sleep(LOOK).await;
                }
            }
            Ended::Lost(why) => {
                self.lost(self.world.now());
                self.forced(why);
                if self.world.stay_away.get() {
                    return false;
                }
                self.gateway = (self.gateway + 1) % self.world.gateways.len();
                tokio::time::sleep(
                    self.dice.between((RETURN.0, RETURN.1 / u64::from(self.world.timers.shorter))),
                )
                .await;
            }
        }
        true
    }

    /// Tries to connect. From the beginning the service may know of the session before its client does.
    async fn come(&self) -> Option<Session> {
        let (began, device) = (self.world.now(), self.device);
        let coming = May::be(&[self.doing, Doing::Gone]);
        self.note(|person| {
            let before = self.lost_at.map_or(coming, |at| person.lately(device, at));
            person.may(device, began, coming.or(before), self.world.excuse(began + ATTEMPT));
        });
        let user = &self.world.users[self.user];
        let open = async {
            let token = self.world.issuer.token(&user.name)?;
            let gateway = self.world.way(self.user, self.gateway);
            Session::open(&gateway, &token, user.devices()[device], self.activity()).await
        };
        match open.await {
            Ok(session) => Some(session),
            // Nobody was there to know of it.
            Err(error) if is_refused(&error) => {
                self.note(|person| person.forget_since(device, began));
                None
            }
            Err(_) => {
                let until = self.world.excuse(self.world.now());
                self.note(|person| person.haunt(device, began, coming, until));
                None
            }
        }
    }

    /// Who comes back inside its grace was there all the time, so that no flicker is excused.
    fn arrived(&mut self) {
        let (now, device, truth) = (self.world.now(), self.device, self.truth());
        let lost_at = self.lost_at.take().filter(|at| now - *at < self.world.timers.grace - GRACE_MARGIN);
        self.note(|person| {
            if let Some(at) = lost_at {
                person.forget_since(device, at);
                let as_it_was = person.lately(device, at);
                person.may(device, at, as_it_was, Moment::MAX);
            }
            person.set(device, now, truth);
        });
    }

    /// Lost against its will: it may be taken for one that lives until its gateway is given up, whatever it does.
    fn lost(&mut self, at: Moment) {
        let (device, until) = (self.device, self.world.excuse(at));
        self.lost_at = Some(at);
        self.note(|person| {
            let lately = person.lately(device, at);
            person.haunt(device, at, lately, until);
            person.set(device, at, Truth::Either { until });
        });
    }

    async fn stay(&mut self, session: Session) -> Ended {
        let Session { reader, mut writer, beat: every } = session;
        let mut listening = Listening::start(reader, self.hear());
        let mut plan = self.plan(self.world.now(), every);
        loop {
            let now = self.world.now();
            let due = |at: Option<Moment>| at.is_some_and(|at| now >= at) && !self.world.ending.get();
            let frame = if due(plan.leave) {
                return self.leave(&mut writer, &mut listening).await;
            } else if due(plan.flip) {
                plan.flip = Some(now + self.dice.between(FLIP));
                Some(self.flip(now))
            } else if due(plan.claim) && self.world.begun.get() {
                plan.claim = Some(now + self.dice.between(FLIP));
                Some(self.claim(now))
            } else if now >= plan.beat {
                plan.beat = now + every;
                Some(wire::heartbeat(self.activity(), None))
            } else {
                None
            };
            if let Some(frame) = frame
                && let Err(error) = writer.send_text(frame).await
            {
                return Ended::Lost(format!("{error:#}"));
            }
            if let Ok(error) = timeout(LOOK, listening.end()).await {
                return Ended::Lost(format!("{error:#}"));
            }
        }
    }

    fn plan(&mut self, now: Moment, every: Duration) -> Plan {
        let habit = self.world.users[self.user].habit;
        let mut within = |least_most, wanted: bool| wanted.then(|| now + self.dice.between(least_most));
        Plan {
            leave: within(STAY, !habit.is_steady()),
            flip: within(FLIP, habit == Habit::Several),
            claim: within(FLIP, habit == Habit::Claimer),
            beat: now + every,
        }
    }

    fn flip(&mut self, now: Moment) -> String {
        self.doing = if self.doing == Doing::Active { Doing::Idle } else { Doing::Active };
        let (device, truth) = (self.device, self.truth());
        self.note(|person| person.set(device, now, truth));
        wire::heartbeat(self.activity(), None)
    }

    /// Until the claim is confirmed, it may hold or not.
    fn claim(&mut self, now: Moment) -> String {
        let (word, claim) = CLAIMS[self.claimed % CLAIMS.len()];
        self.claimed += 1;
        let id = self.claimed as u64;
        self.note(|person| person.claim(now, person.claims().or(May::be(&[claim]))));
        self.pending.set(Some((id, claim)));
        wire::status(id, word)
    }

    fn hear(&self) -> impl FnMut(&str) + use<> {
        let (world, user, pending) = (Rc::clone(&self.world), self.user, Rc::clone(&self.pending));
        move |text| {
            let (now, heard) = (world.now(), Heard::read(text));
            let mut journal = world.journal.borrow_mut();
            match (heard, pending.get()) {
                (Ok(Heard::Ack(id)), Some((asked, claim))) if id == asked => {
                    pending.set(None);
                    journal.person(user).claim(now, May::be(&[claim]));
                }
                (Ok(_), _) => {}
                (Err(what), _) => journal.odd.push(format!("{now:.3?} {}: {what}", world.users[user].name)),
            }
        }
    }

    /// Leaves in order. When the gateway does not confirm it, it may not have heard it.
    async fn leave(&mut self, writer: &mut Writer, listening: &mut Listening) -> Ended {
        let (at, device) = (self.world.now(), self.device);
        self.note(|person| person.set(device, at, Truth::Off));
        let sent = writer.send_text(wire::bye()).await;
        let ended = timeout(BYE_PATIENCE, listening.end()).await;
        let code = ended.as_ref().ok().and_then(|error| error.downcast_ref::<Closed>()?.code);
        if sent.is_err() || code != Some(IN_ORDER) {
            self.note(|person| person.forget_since(device, at));
            self.lost(at);
            // It is gone all the same, and does not come back as who was never away.
            self.lost_at = None;
            let why = ended.map_or_else(|_| "silence".to_owned(), |error| format!("{error:#}"));
            self.forced(format!("instead of a close after bye: {why}"));
        }
        Ended::Left
    }

    fn forced(&self, why: String) {
        let user = &self.world.users[self.user];
        self.world.forced(&format!("{}/{}", user.name, user.devices()[self.device]), self.gateway, why);
    }

    fn note(&self, note: impl FnOnce(&mut Person)) {
        note(self.world.journal.borrow_mut().person(self.user));
    }

    const fn truth(&self) -> Truth {
        match self.doing {
            Doing::Active => Truth::On,
            Doing::Idle => Truth::Idle,
            Doing::Gone => Truth::Off,
        }
    }

    /// Phones do not go idle: they go into pockets.
    const fn activity(&self) -> Activity {
        match (self.doing, self.device) {
            (Doing::Active, _) => Activity::Active,
            (Doing::Idle | Doing::Gone, 0) => Activity::Background,
            (Doing::Idle | Doing::Gone, _) => Activity::Idle,
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn is_refused(error: &anyhow::Error) -> bool {
    let refused = |cause: &io::Error| cause.kind() == io::ErrorKind::ConnectionRefused;
    error.chain().any(|cause| cause.downcast_ref::<io::Error>().is_some_and(refused))
}
