//! A watcher of many whose link is narrow.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{Bite, Scene};
use crate::chaos::line::{Line, address};
use crate::chaos::session::{Listening, Session};
use crate::chaos::wire::{self, Activity, Heard, Record, Status};
use crate::chaos::world::World;
use crate::clock;
use crate::connection::{Reader, Writer};

/// 64 kbit/s.
const BYTES_PER_SECOND: u32 = 8_000;
/// Who is watched.
const CROWD: usize = 1_000;
/// How long they change, and how many of them every so often: far more than the link can tell.
const BUSY: Duration = Duration::from_secs(15);
const EVERY: Duration = Duration::from_millis(100);
const CHANGE: usize = 40;
/// Beside one record of each, so much may wait in sockets, which the service cannot take back.
const IN_SOCKETS: u64 = 64 * 1024;
/// Signs of life of others for each that comes.
const MEANWHILE: usize = 5;
const LOOK: Duration = Duration::from_millis(50);
/// How long the first state of all may take.
const PATIENCE: Duration = Duration::from_secs(90);

impl Scene<'_> {
    /// What the link cannot carry is told as it is last, and never sooner is anybody cut off who still reads.
    pub(super) async fn narrow_watcher(&mut self) -> anyhow::Result<Bite> {
        let world = self.world;
        let mut crowd = Crowd::open(world).await?;
        let line = Line::open(&world.gateways[0], address(3), Some(BYTES_PER_SECOND)).await?;
        let injected = world.now();
        let mut slow = Slow::open(world, &line).await?;
        tokio::select! {
            first = slow.until(PATIENCE, |seen| seen.shown.len() == CROWD) => first.context("at first")?,
            failed = crowd.live(None) => failed.context("who is watched")?,
        }
        let (records, bytes) = (slow.seen.borrow().records, line.passed());
        let size = bytes / records.max(1);
        let cut = tokio::select! {
            cut = slow.until(PATIENCE, |_| false) => cut.err(),
            changed = crowd.live(Some(BUSY)) => changed.map(|()| None).context("who is watched")?,
        };
        if let Some(error) = cut {
            let proof = format!("{BYTES_PER_SECOND} bytes/s, {} changes of {CROWD} users", crowd.changes);
            return Ok(Bite { misses: vec![format!("{error:#}")], ..self.bite(injected, proof) });
        }
        let (last, told) = (clock::now(), slow.seen.borrow().records - records);
        let allowed = (CROWD as u64 * size + IN_SOCKETS) / u64::from(BYTES_PER_SECOND);
        let allowed = Duration::from_secs(allowed) + world.timers.machine;
        let (idle, changes) = (crowd.idle.clone(), crowd.changes);
        let missed = tokio::select! {
            drained = slow.until(allowed, |seen| seen.is(&idle)) => drained.err(),
            failed = crowd.live(None) => failed.err(),
        };
        let misses = missed.map(|error| vec![format!("{error:#}")]).unwrap_or_default();
        let (after, total) = (clock::now() - last, slow.seen.borrow().records - records);
        ensure!(changes > told * 2, "the link told {told} of {changes} changes");
        let proof = format!(
            "{BYTES_PER_SECOND} bytes/s, {changes} changes of {CROWD} users told as {total} records of {size} bytes, \
             all right {} ms after the last, allowed {} ms",
            after.as_millis(),
            allowed.as_millis()
        );
        Ok(Bite { misses, ..self.bite(injected, proof) })
    }
}

/// Who is watched over the narrow link, and what each does.
struct Crowd {
    members: Vec<(Reader, Writer)>,
    idle: Vec<bool>,
    changes: u64,
}

impl Crowd {
    fn name(number: usize) -> String {
        format!("crowd-{number}")
    }

    async fn open(world: &World) -> anyhow::Result<Self> {
        let mut opening = JoinSet::new();
        for (number, gateway) in world.gateways.iter().enumerate() {
            let mine: Vec<usize> = (0..CROWD).filter(|one| one % world.gateways.len() == number).collect();
            let (gateway, issuer) = (gateway.clone(), world.issuer.clone());
            opening.spawn_local(async move {
                let mut opened: Vec<(usize, Session)> = Vec::new();
                let mut oldest = 0;
                for number in mine {
                    // On a busy machine the last comes when the first would be silent for too long.
                    for _ in 0..MEANWHILE.min(opened.len()) {
                        opened[oldest].1.writer.send_text(wire::heartbeat(Activity::Active, None)).await?;
                        oldest = (oldest + 1) % opened.len();
                    }
                    let token = issuer.token(&Self::name(number))?;
                    let session = Session::open(&gateway, &token, "one", Activity::Active).await?;
                    opened.push((number, session));
                }
                anyhow::Ok(opened)
            });
        }
        let mut all = Vec::new();
        while let Some(opened) = opening.join_next().await {
            all.extend(opened??);
        }
        all.sort_by_key(|(number, _)| *number);
        let members = all.into_iter().map(|(_, session)| (session.reader, session.writer)).collect();
        Ok(Self { members, idle: vec![false; CROWD], changes: 0 })
    }

    /// Signs of life of a few of them every so often, one after the other; for a while they change with each.
    async fn live(&mut self, changing: Option<Duration>) -> anyhow::Result<()> {
        let (begin, mut next) = (clock::now(), 0);
        while changing.is_none_or(|time| clock::now() < begin + time) {
            let turn = clock::now() + EVERY;
            for _ in 0..CHANGE {
                if changing.is_some() {
                    self.idle[next] = !self.idle[next];
                    self.changes += 1;
                }
                let activity = if self.idle[next] { Activity::Idle } else { Activity::Active };
                self.members[next].1.send_text(wire::heartbeat(activity, None)).await?;
                next = (next + 1) % CROWD;
            }
            tokio::time::sleep_until(turn).await;
        }
        Ok(())
    }
}

/// What was told over the narrow link.
#[derive(Default)]
struct Seen {
    shown: HashMap<String, Option<Status>>,
    records: u64,
}

impl Seen {
    fn tell(&mut self, records: Vec<Record>) {
        for record in records {
            self.records += 1;
            self.shown.insert(record.user, record.status);
        }
    }

    /// Whether all of the crowd is shown as it is.
    fn is(&self, idle: &[bool]) -> bool {
        idle.iter().enumerate().all(|(number, idle)| {
            let status = if *idle { Status::Idle } else { Status::Online };
            self.shown.get(&Crowd::name(number)) == Some(&Some(status))
        })
    }
}

/// The watcher at the end of it.
struct Slow {
    listening: Listening,
    writer: Writer,
    beat: Duration,
    seen: Rc<RefCell<Seen>>,
}

impl Slow {
    async fn open(world: &World, line: &Line) -> anyhow::Result<Self> {
        let token = world.issuer.token("slow")?;
        let session = Session::open(&line.url(), &token, "one", Activity::Active).await?;
        let Session { reader, mut writer, beat } = session;
        let names: Vec<String> = (0..CROWD).map(Crowd::name).collect();
        writer.send_text(wire::watch(&names.iter().map(String::as_str).collect::<Vec<_>>())).await?;
        let seen = Rc::<RefCell<Seen>>::default();
        let tells = Rc::clone(&seen);
        let listening = Listening::start(reader, move |text| {
            if let Ok(Heard::Snapshot(records) | Heard::Presence(records)) = Heard::read(text) {
                tells.borrow_mut().tell(records);
            }
        });
        Ok(Self { listening, writer, beat, seen })
    }

    /// Waits until this is seen, with signs of life.
    async fn until(&mut self, patience: Duration, so: impl Fn(&Seen) -> bool) -> anyhow::Result<()> {
        let end = clock::now() + patience;
        let mut beat = clock::now();
        while !so(&self.seen.borrow()) {
            ensure!(clock::now() < end, "the watcher is not told the last state within {patience:?}");
            if clock::now() >= beat {
                beat = clock::now() + self.beat;
                self.writer.send_text(wire::heartbeat(Activity::Active, None)).await?;
            }
            if let Ok(error) = timeout(LOOK, self.listening.end()).await {
                return Err(error.context("the watcher was cut off"));
            }
        }
        Ok(())
    }
}
