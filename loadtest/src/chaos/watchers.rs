//! Watchers, whose views are judged.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use anyhow::anyhow;
use tokio::time::timeout;

use super::session::{Listening, Session};
use super::wire::{self, Activity, Heard};
use super::world::World;

/// The shortest and longest time until a watcher that was cut off tries the next gateway, in milliseconds.
const WATCH_AGAIN: (u64, u64) = (50, 500);
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
            Ok(Heard::Welcome(_) | Heard::Ack(_) | Heard::Other) => {}
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
        if world.now() - heard.get() > every + PATIENCE {
            break;
        }
        if let Err(error) = writer.send_text(wire::heartbeat(Activity::Active, Some(id))).await {
            return error;
        }
    }
    anyhow!("the gateway no longer answers")
}
