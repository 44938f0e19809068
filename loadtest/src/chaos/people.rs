//! Actors, whose truth is known, and watchers, whose views are judged. Raw sockets: a judge that used our SDK would
//! judge with what it judges.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::timeout;

use super::journal::{Moment, Truth};
use super::wire::{self, Heard};
use super::world::{Habit, World};
use crate::connection::{Closed, Reader, Writer, connect};

/// An attempt to connect is given up after this.
const ATTEMPT: Duration = Duration::from_secs(2);
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
/// The same of a watcher.
const WATCH_AGAIN: (u64, u64) = (50, 500);

/// A session that is open.
struct Session {
    reader: Reader,
    writer: Writer,
    beat: Duration,
}

/// How a session ended.
enum Ended {
    Lost(String),
    Left,
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Opens a session and waits for its welcome.
async fn open(world: &World, gateway: usize, user: &str) -> anyhow::Result<Session> {
    let token = world.issuer.token(user)?;
    timeout(ATTEMPT, greet(&world.gateways[gateway], &token)).await.context("no answer")?
}

async fn greet(gateway: &str, token: &str) -> anyhow::Result<Session> {
    let (mut reader, writer) = connect(gateway, token, "&device=one&activity=active").await?;
    loop {
        if let Ok(Heard::Welcome(beat)) = Heard::read(&reader.next_text().await?) {
            return Ok(Session { reader, writer, beat });
        }
    }
}

/// Reads until the connection ends, and says why. Ends with its handle.
struct Listening(JoinHandle<anyhow::Error>);

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Listening {
    fn start(mut reader: Reader, mut hear: impl FnMut(&str) + 'static) -> Self {
        Self(spawn_local(async move {
            loop {
                match reader.next_text().await {
                    Ok(text) => hear(&text),
                    Err(error) => return error,
                }
            }
        }))
    }

    async fn end(&mut self) -> anyhow::Error {
        (&mut self.0).await.unwrap_or_else(Into::into)
    }
}

/// One user, for the whole scenario.
pub(super) async fn actor(world: Rc<World>, index: usize) {
    let user = world.users[index].clone();
    let mut gateway = user.home;
    let mut lost_at: Option<Moment> = None;
    // Until when a session lost with its gateway may still be taken for one that lives.
    let mut haunted = Moment::ZERO;
    loop {
        let began = world.now();
        // From here on the service may know of the session before its client does.
        world.truth(index, began, Truth::Either { until: world.excuse(began + ATTEMPT) });
        let Ok(session) = open(&world, gateway, &user.name).await else {
            gateway = (gateway + 1) % world.gateways.len();
            tokio::time::sleep(LOOK).await;
            continue;
        };
        arrived(&world, index, lost_at.take());
        match stay(&world, index, gateway, session, haunted).await {
            Ended::Left => {
                let longest = Duration::from_millis(AWAY.1) + world.timers.scaled(BOUND);
                tokio::time::sleep(world.between(AWAY.0, millis(longest))).await;
                while world.ending.get() {
                    tokio::time::sleep(LOOK).await;
                }
            }
            Ended::Lost(why) => {
                let at = world.now();
                world.truth(index, at, Truth::Either { until: world.excuse(at) });
                world.forced(&user.name, gateway, why);
                if world.stay_away.get() {
                    return;
                }
                lost_at = Some(at);
                haunted = world.excuse(at);
                gateway = (gateway + 1) % world.gateways.len();
                tokio::time::sleep(world.between(RETURN.0, RETURN.1 / u64::from(world.timers.shorter))).await;
            }
        }
    }
}

/// Who comes back inside its grace was on all the time, so that no flicker is excused.
fn arrived(world: &World, index: usize, lost_at: Option<Moment>) {
    let now = world.now();
    match lost_at.filter(|at| now - *at < world.timers.grace - GRACE_MARGIN) {
        Some(at) => world.journal.borrow_mut().amend_truth(index, at, Truth::On),
        None => world.truth(index, now, Truth::On),
    }
}

async fn stay(world: &World, index: usize, gateway: usize, session: Session, haunted: Moment) -> Ended {
    let Session { reader, mut writer, beat: every } = session;
    let mut listening = Listening::start(reader, |_| {});
    let churns = world.users[index].habit == Habit::Churner;
    let leave_at = world.now() + world.between(STAY.0, STAY.1);
    let mut beat_at = world.now() + every;
    loop {
        let now = world.now();
        if churns && now >= leave_at && !world.ending.get() {
            let at = world.now();
            // Who leaves while an earlier session of its own is not given up yet may be shown until it is.
            let truth = if at < haunted { Truth::Either { until: haunted } } else { Truth::Off };
            world.truth(index, at, truth);
            return leave(world, index, gateway, &mut writer, &mut listening).await;
        }
        if now >= beat_at {
            beat_at = now + every;
            if let Err(error) = writer.send_text(wire::heartbeat()).await {
                return Ended::Lost(format!("{error:#}"));
            }
        }
        if let Ok(error) = timeout(LOOK, listening.end()).await {
            return Ended::Lost(format!("{error:#}"));
        }
    }
}

/// Leaves in order. When the gateway does not confirm it, it may not have heard it.
async fn leave(
    world: &World,
    index: usize,
    gateway: usize,
    writer: &mut Writer,
    listening: &mut Listening,
) -> Ended {
    let at = world.now();
    let sent = writer.send_text(wire::bye()).await;
    let ended = timeout(BYE_PATIENCE, listening.end()).await;
    let code = ended.as_ref().ok().and_then(|error| error.downcast_ref::<Closed>()?.code);
    if sent.is_err() || code != Some(IN_ORDER) {
        world.journal.borrow_mut().amend_truth(index, at, Truth::Either { until: world.excuse(at) });
        let why = ended.map_or_else(|_| "silence".to_owned(), |error| format!("{error:#}"));
        world.forced(&world.users[index].name, gateway, format!("instead of a close after bye: {why}"));
    }
    Ended::Left
}

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

async fn watch(world: &Rc<World>, number: usize, session: Session) -> anyhow::Error {
    let Session { reader, mut writer, beat: every } = session;
    let sees = Rc::clone(world);
    let heard = Rc::new(Cell::new(world.now()));
    let hears = Rc::clone(&heard);
    let mut listening = Listening::start(reader, move |text| {
        let now = sees.now();
        hears.set(now);
        let mut journal = sees.journal.borrow_mut();
        match Heard::read(text) {
            Ok(Heard::Snapshot(users) | Heard::Presence(users)) => {
                users.iter().for_each(|record| journal.shown(number, now, record));
            }
            Ok(Heard::Welcome(_) | Heard::Other) => {}
            Err(what) => journal.odd.push(format!("{now:.3?} watcher {number}: {what}")),
        }
    });
    let users: Vec<&str> = world.users.iter().map(|user| user.name.as_str()).collect();
    if let Err(error) = writer.send_text(wire::watch(&users)).await {
        return error;
    }
    for id in 2.. {
        if let Ok(error) = timeout(every, listening.end()).await {
            return error;
        }
        // WS-15: who hears nothing asks, and goes elsewhere when nobody answers.
        if world.now() - heard.get() > every + BYE_PATIENCE {
            break;
        }
        if let Err(error) = writer.send_text(wire::question(id)).await {
            return error;
        }
    }
    anyhow!("the gateway no longer answers")
}

/// Holds a session of each user until one of them ends; `ready` is called when all are open.
pub(super) async fn hold(
    gateway: &str,
    tokens: Vec<String>,
    ready: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut sessions = tokio::task::JoinSet::new();
    for token in tokens {
        let session = timeout(ATTEMPT, greet(gateway, &token)).await.context("no answer")??;
        sessions.spawn_local(async move {
            let Session { reader, mut writer, beat: every } = session;
            let mut listening = Listening::start(reader, |_| {});
            loop {
                if let Ok(error) = timeout(every, listening.end()).await {
                    return error;
                }
                if let Err(error) = writer.send_text(wire::heartbeat()).await {
                    return error;
                }
            }
        });
    }
    ready()?;
    match sessions.join_next().await {
        Some(ended) => Err(ended?),
        None => Ok(()),
    }
}
