//! From a change to its watcher.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use hdrhistogram::Histogram;
use herenow_protocol::frame::{ClientFrame, ServerFrame};
use herenow_protocol::{Activity, Status, limit};
use tokio::task::{LocalSet, spawn_local};
use tokio::time::Instant;

use crate::clock;
use crate::connection::{Reader, Writer, connect};
use crate::token::Issuer;
use crate::track::Tracker;

/// How long it may take until changes are seen at all: a fresh cluster has partitions to claim, and says nothing
/// negative of them until it has heard every gateway.
const STEADY_LIMIT: Duration = Duration::from_secs(60);
/// How often in a row every user's change must be seen before the measurement, and how long each may take.
const STEADY_ROUNDS: u32 = 4;
const ROUND_LIMIT: Duration = Duration::from_secs(1);
/// How often the watcher, which changes nothing, gives a sign of life.
const BEAT: Duration = Duration::from_secs(5);
/// How often it is looked whether everybody, or every change, was seen.
const LOOK: Duration = Duration::from_millis(20);

/// What to measure.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) watched_gateway: String,
    pub(crate) watcher_gateway: String,
    pub(crate) issuer: Issuer,
    pub(crate) users: u32,
    /// Changes before those that count.
    pub(crate) warm_up: u32,
    pub(crate) changes: u32,
    /// A second, over all users.
    pub(crate) rate: f64,
    /// For the last changes to be seen.
    pub(crate) patience: Duration,
}

/// What was measured.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Microseconds from handing the change to the socket until the watcher's frame was read.
    pub(crate) latency: Histogram<u64>,
    /// Microseconds by which changes were made later than planned.
    pub(crate) lateness: Histogram<u64>,
    /// Changes that a later one of the same user overtook.
    pub(crate) conflated: u64,
    /// Changes that were never seen.
    pub(crate) missed: u64,
    /// The time that the changes took.
    pub(crate) took: Duration,
}

type Shared = Rc<RefCell<Tracker>>;

/// A watched user's connection.
struct Flipper {
    user: String,
    writer: Writer,
    activity: Activity,
}

/// Measures.
pub(crate) async fn run(plan: &Plan) -> anyhow::Result<Outcome> {
    LocalSet::new().run_until(measure(plan)).await
}

async fn measure(plan: &Plan) -> anyhow::Result<Outcome> {
    let tracker: Shared = Rc::new(RefCell::new(Tracker::new()?));
    let mut flippers = Vec::new();
    for number in 0..plan.users {
        flippers.push(flipper(plan, number).await?);
    }
    let watcher = watcher(plan, &flippers, &tracker).await?;
    let outcome = tokio::select! {
        outcome = change(plan, &mut flippers, &tracker) => outcome,
        ended = watcher => match ended? {
            Ok(never) => match never {},
            Err(error) => Err(error.context("the watcher's session ended")),
        },
    };
    for flipper in &mut flippers {
        // It is over; a session that does not end in order ends by itself.
        let _ = flipper.writer.send(&ClientFrame::Bye {}).await;
    }
    outcome
}

async fn flipper(plan: &Plan, number: u32) -> anyhow::Result<Flipper> {
    let user = format!("loadtest-{number}");
    let token = plan.issuer.token(&user)?;
    let query = format!("&device=d{number}&activity=active");
    let (mut reader, writer) = connect(&plan.watched_gateway, &token, &query).await?;
    welcome(&mut reader).await?;
    spawn_local(async move { while reader.next().await.is_ok() {} });
    Ok(Flipper { user, writer, activity: Activity::Active })
}

async fn welcome(reader: &mut Reader) -> anyhow::Result<()> {
    loop {
        if matches!(reader.next().await.context("before the welcome")?, ServerFrame::Welcome(_)) {
            return Ok(());
        }
    }
}

type Watching = tokio::task::JoinHandle<anyhow::Result<std::convert::Infallible>>;

/// Watches everybody, and tells the tracker what it sees and when.
async fn watcher(plan: &Plan, flippers: &[Flipper], tracker: &Shared) -> anyhow::Result<Watching> {
    let token = plan.issuer.token("loadtest-watcher")?;
    let (mut reader, mut writer) = connect(&plan.watcher_gateway, &token, "&device=w").await?;
    welcome(&mut reader).await?;
    let users: Vec<String> = flippers.iter().map(|flipper| flipper.user.clone()).collect();
    for (id, page) in (1..).zip(users.chunks(limit::USERS_PER_REQUEST)) {
        writer.send(&ClientFrame::Watch { id, users: page.to_vec() }).await?;
    }
    spawn_local(async move {
        let beat = ClientFrame::Heartbeat { activity: None, id: None };
        while writer.send(&beat).await.is_ok() {
            tokio::time::sleep(BEAT).await;
        }
    });
    let tracker = Rc::clone(tracker);
    Ok(spawn_local(async move {
        loop {
            let frame = reader.next().await?;
            let at = clock::now();
            match frame {
                ServerFrame::Snapshot { users, .. } | ServerFrame::Presence { users } => {
                    let mut tracker = tracker.borrow_mut();
                    users.iter().for_each(|presence| tracker.seen(presence, at));
                }
                ServerFrame::Error { code, message, .. } => {
                    bail!("the gateway answered {}: {message}", code.word())
                }
                ServerFrame::Welcome(_)
                | ServerFrame::Ack { .. }
                | ServerFrame::TokenExpiring { .. }
                | ServerFrame::Reconnect { .. } => {}
            }
        }
    }))
}

async fn change(plan: &Plan, flippers: &mut [Flipper], tracker: &Shared) -> anyhow::Result<Outcome> {
    let everybody = flippers.len();
    steady(flippers, tracker).await?;

    let mut lateness = Histogram::new_with_bounds(1, 60_000_000, 3)?;
    let start = clock::now();
    let total = plan.warm_up.saturating_add(plan.changes);
    let mut counted_from = start;
    for number in 0..total {
        let planned = start + Duration::from_secs_f64(f64::from(number) / plan.rate);
        tokio::time::sleep_until(planned).await;
        let counts = number >= plan.warm_up;
        if number == plan.warm_up {
            counted_from = clock::now();
        }
        let at = flip(&mut flippers[number as usize % everybody], tracker, counts).await?;
        if counts {
            lateness.saturating_record(micros(at - planned));
        }
    }
    let took = clock::now() - counted_from;
    wait(plan.patience, || tracker.borrow().open() == 0).await;
    let tracker = tracker.borrow();
    Ok(Outcome {
        latency: tracker.latency.clone(),
        lateness,
        conflated: tracker.conflated,
        missed: tracker.open(),
        took,
    })
}

/// Changes everybody, and waits until it was seen, until that has succeeded some times in a row.
async fn steady(flippers: &mut [Flipper], tracker: &Shared) -> anyhow::Result<()> {
    let end = clock::now() + STEADY_LIMIT;
    let mut rounds = 0;
    while rounds < STEADY_ROUNDS {
        ensure!(
            clock::now() < end,
            "changes were not seen within {ROUND_LIMIT:?} of their making, for {STEADY_LIMIT:?}"
        );
        for flipper in &mut *flippers {
            flip(flipper, tracker, false).await?;
        }
        let seen = wait(ROUND_LIMIT, || {
            let tracker = tracker.borrow();
            flippers.iter().all(|flipper| tracker.shown(&flipper.user) == Some(status(flipper.activity)))
        });
        rounds = if seen.await { rounds + 1 } else { 0 };
        tracker.borrow_mut().forget();
    }
    Ok(())
}

const fn status(activity: Activity) -> Status {
    match activity {
        Activity::Active => Status::Online,
        Activity::Idle | Activity::Background => Status::Idle,
    }
}

/// Changes what a user does, and notes when.
async fn flip(flipper: &mut Flipper, tracker: &Shared, counts: bool) -> anyhow::Result<Instant> {
    let activity = match flipper.activity {
        Activity::Active => Activity::Idle,
        Activity::Idle | Activity::Background => Activity::Active,
    };
    flipper.activity = activity;
    let at = clock::now();
    tracker.borrow_mut().changed(&flipper.user, status(activity), at, counts);
    let frame = ClientFrame::Heartbeat { activity: Some(activity), id: None };
    flipper.writer.send(&frame).await.context("a watched user's session ended")?;
    Ok(at)
}

async fn wait(limit: Duration, done: impl Fn() -> bool) -> bool {
    let end = clock::now() + limit;
    while !done() {
        if clock::now() >= end {
            return false;
        }
        tokio::time::sleep(LOOK).await;
    }
    true
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX).max(1)
}
