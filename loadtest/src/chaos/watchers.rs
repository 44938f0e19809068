//! Watchers, whose views are judged.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use anyhow::anyhow;
use tokio::task::spawn_local;
use tokio::time::timeout;

use super::order::How;
use super::plant::{self, Between, Plant};
use super::rest;
use super::session::{Listening, Session};
use super::wire::{self, Activity, Heard, Record};
use super::world::World;

/// The shortest and longest time until a watcher that was cut off tries the next gateway, in milliseconds.
const WATCH_AGAIN: (u64, u64) = (50, 500);
/// How often a poller asks.
pub(super) const POLL: Duration = Duration::from_millis(500);
/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// One watcher of everybody, for the whole scenario.
pub(super) async fn watcher(world: Rc<World>, number: usize) {
    let name = format!("watcher-{number}");
    let mut gateway = number % world.gateways.len();
    loop {
        if let Ok(session) = open(&world, gateway, &name).await {
            let why = watch(&world, number, session).await;
            world.journal.borrow_mut().blinded(number, world.now());
            world.forced(&name, gateway, format!("{why:#}"));
        }
        gateway = (gateway + 1) % world.gateways.len();
        tokio::time::sleep(world.between(WATCH_AGAIN.0, WATCH_AGAIN.1)).await;
    }
}

async fn open(world: &World, gateway: usize, name: &str) -> anyhow::Result<Session> {
    let token = world.issuer.token(name)?;
    Session::open(&world.gateways[gateway], &token, "one", Activity::Active).await
}

async fn watch(world: &Rc<World>, number: usize, session: Session) -> anyhow::Error {
    let Session { reader, mut writer, beat: every } = session;
    let heard = Rc::new(Cell::new(world.now()));
    let hears = Rc::clone(&heard);
    let sees = Rc::clone(world);
    // What is told late is told to a connection that is there.
    let connected = Rc::new(());
    let still = Rc::downgrade(&connected);
    let mut between = world.plant.get().map(|plant| Between::new(plant, number));
    let mut listening = Listening::start(reader, move |text| {
        hears.set(sees.now());
        let Some(between) = &mut between else { return tell(&sees, number, text) };
        for (after, text) in between.pass(text, sees.now(), sees.begun.get()) {
            if after.is_zero() {
                tell(&sees, number, &text);
                continue;
            }
            let (sees, still) = (Rc::clone(&sees), still.clone());
            spawn_local(async move {
                tokio::time::sleep(after).await;
                if still.upgrade().is_some() {
                    tell(&sees, number, &text);
                }
            });
        }
    });
    let users: Vec<&str> = world.users.iter().map(|user| user.name.as_str()).collect();
    if let Err(error) = writer.send_text(wire::watch(&users)).await {
        return error;
    }
    let every = if world.plant.get() == Some(Plant::NeedlessCut) { plant::CUT.min(every) } else { every };
    for id in 2.. {
        if let Ok(error) = timeout(every, listening.end()).await {
            return error;
        }
        if world.plant.get() == Some(Plant::NeedlessCut) && world.begun.get() {
            return anyhow!("a planted mistake");
        }
        // WS-15: who hears nothing asks, and goes elsewhere when nobody answers.
        if world.now() - heard.get() > every + PATIENCE {
            break;
        }
        if let Err(error) = writer.send_text(wire::heartbeat(Activity::Active, Some(id))).await {
            return error;
        }
    }
    anyhow!("the gateway no longer answers")
}

/// A watcher is told a frame.
fn tell(world: &World, number: usize, text: &str) {
    let now = world.now();
    let mut journal = world.journal.borrow_mut();
    match Heard::read(text) {
        Ok(Heard::Snapshot(users)) => {
            users.iter().for_each(|record| journal.shown(number, now, record, How::Snapshot));
        }
        Ok(Heard::Presence(users)) => {
            users.iter().for_each(|record| journal.shown(number, now, record, How::Presence));
        }
        Ok(Heard::Welcome(_) | Heard::Ack(_) | Heard::Other) => {}
        Err(what) => journal.odd.push(format!("{now:.3?} watcher {number}: {what}")),
    }
}

/// One watcher of everybody over REST, for the whole scenario: each time all at once, and one of them by itself.
pub(super) async fn poller(world: Rc<World>, number: usize) {
    let users: Vec<&str> = world.users.iter().map(|user| user.name.as_str()).collect();
    let mut gateway = (number + 1) % world.gateways.len();
    for turn in 0.. {
        let next = world.now() + POLL;
        let poll = Poll { world: &world, number, gateway };
        let answered = poll.all(&users).await && poll.one(users[turn % users.len()]).await;
        if !answered {
            gateway = (gateway + 1) % world.gateways.len();
        }
        tokio::time::sleep(next.saturating_sub(world.now())).await;
    }
}

/// One turn of a poller.
struct Poll<'a> {
    world: &'a World,
    number: usize,
    gateway: usize,
}

impl Poll<'_> {
    /// False: no answer.
    async fn all(&self, users: &[&str]) -> bool {
        let sent = self.world.now();
        let records =
            async { rest::statuses(&self.world.gateways[self.gateway], &self.token()?, users).await };
        self.note(sent, users, records.await)
    }

    async fn one(&self, user: &str) -> bool {
        let sent = self.world.now();
        let record = async { rest::status(&self.world.gateways[self.gateway], &self.token()?, user).await };
        self.note(sent, &[user], record.await.map(|record| vec![record]))
    }

    fn token(&self) -> anyhow::Result<String> {
        self.world.issuer.token(&format!("poller-{}", self.number))
    }

    fn note(&self, sent: Duration, users: &[&str], records: anyhow::Result<Vec<Record>>) -> bool {
        let received = self.world.now();
        let mut journal = self.world.journal.borrow_mut();
        match records {
            Ok(records) => {
                records.iter().for_each(|record| journal.polled(self.number, sent, received, record));
                true
            }
            Err(error) => {
                if let Some(broken) = error.downcast_ref::<rest::Broken>() {
                    journal.odd.push(format!("{received:.3?} poller {}: {broken}", self.number));
                }
                journal.unanswered(self.number, sent, received, users);
                false
            }
        }
    }
}
