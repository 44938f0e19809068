//! Backends that write and read: each connection makes 20 writes of one user for every read of 100, which are five
//! reads for every write, as docs/BENCHMARKS.md has them.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use futures::future::try_join_all;
use hdrhistogram::Histogram;
use serde_json::Value;
use tokio::time::{Instant, sleep_until};

use super::http::Connection;
use crate::clock;

/// Writes for every call that reads.
const WRITES: u32 = 20;
/// Users of one call that reads.
pub(super) const READ: usize = 100;
/// Users who change in turn.
const USERS: u64 = 200_000;
/// Of so many answers to reads one is read as people would.
const LOOKED_AT: u32 = 50;
/// What a user becomes, one after the other: each is a change.
const STATUSES: [&str; 4] = ["online", "idle", "dnd", "offline"];

/// What to do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub(super) at: SocketAddr,
    /// How many writes there were before.
    pub(super) first: u64,
    pub(super) connections: u32,
    /// Calls that write a second, of all connections together; `None`: as many as are answered.
    pub(super) writes: Option<f64>,
    pub(super) warm_up: Duration,
    pub(super) lasts: Duration,
}

/// What came of it. Microseconds from when a call was due until its answer was whole.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) writes: Histogram<u64>,
    pub(super) reads: Histogram<u64>,
    /// How many writes there were, those before included.
    pub(super) next: u64,
}

impl Outcome {
    fn new(next: u64) -> anyhow::Result<Self> {
        Ok(Self { writes: Histogram::new(3)?, reads: Histogram::new(3)?, next })
    }
}

type Shared = Rc<RefCell<Outcome>>;

/// Drives the load. `begun` is called when what counts begins.
pub(super) async fn drive(plan: Plan, token: &str, begun: impl FnOnce()) -> anyhow::Result<Outcome> {
    let shared: Shared = Rc::new(RefCell::new(Outcome::new(plan.first)?));
    let began = clock::now();
    let backends = (0..plan.connections).map(|number| backend(plan, token, number, began, &shared));
    let counted = async {
        sleep_until(began + plan.warm_up).await;
        begun();
        Ok(())
    };
    tokio::try_join!(try_join_all(backends), counted)?;
    Ok(Rc::into_inner(shared).context("a backend still runs")?.into_inner())
}

async fn backend(
    plan: Plan,
    token: &str,
    number: u32,
    began: Instant,
    shared: &Shared,
) -> anyhow::Result<()> {
    let mut connection = Connection::open(plan.at, token).await?;
    let (counts_from, end) = (began + plan.warm_up, began + plan.warm_up + plan.lasts);
    // One read for every 20 writes: so many calls a second, and connections do not begin together.
    let apart = plan.writes.map(|writes| {
        let calls = writes * f64::from(WRITES + 1) / f64::from(WRITES);
        Duration::from_secs_f64(f64::from(plan.connections) / calls)
    });
    let mut due = began + apart.unwrap_or_default() * number / plan.connections;
    for call in number.. {
        if apart.is_some() {
            sleep_until(due).await;
        } else {
            due = clock::now();
        }
        if due >= end {
            break;
        }
        let is_read = call.is_multiple_of(WRITES + 1);
        if is_read {
            read(&mut connection, shared, (call / (WRITES + 1)).is_multiple_of(LOOKED_AT)).await?;
        } else {
            write(&mut connection, shared).await?;
        }
        let took = clock::now() - due;
        if due >= counts_from {
            let outcome = &mut *shared.borrow_mut();
            let histogram = if is_read { &mut outcome.reads } else { &mut outcome.writes };
            histogram.record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX))?;
        }
        due += apart.unwrap_or_default();
    }
    Ok(())
}

async fn write(connection: &mut Connection, shared: &Shared) -> anyhow::Result<()> {
    let turn = shared.borrow().next;
    shared.borrow_mut().next += 1;
    let status = STATUSES[usize::try_from(turn / USERS).unwrap_or(0) % STATUSES.len()];
    let body = format!(r#"{{"userId":"user-{:010}","status":"{status}"}}"#, turn % USERS);
    connection.call("POST /status", &body).await.map(drop)
}

async fn read(connection: &mut Connection, shared: &Shared, is_looked_at: bool) -> anyhow::Result<()> {
    // From all over what was written, without a memory of it.
    let turn = shared.borrow().next;
    let user = |i: u64| format!("user-{:010}", turn.wrapping_mul(7).wrapping_add(i * 15_485_863) % USERS);
    let body = users_of((0..READ as u64).map(user));
    let answer = connection.call("POST /statuses", &body).await?;
    if is_looked_at {
        let answer: Value = serde_json::from_slice(answer)?;
        let statuses = answer["statuses"].as_array().context("no statuses in an answer")?;
        let known = statuses.iter().filter(|user| user["status"] != "unknown").count();
        ensure!(known == READ, "{known} of {READ} users were known: {answer}");
    }
    Ok(())
}

/// The body of a read.
pub(super) fn users_of(users: impl Iterator<Item = String>) -> String {
    let quoted: Vec<String> = users.map(|user| format!("\"{user}\"")).collect();
    format!("{{\"userIds\":[{}]}}", quoted.join(","))
}
