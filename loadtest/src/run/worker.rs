//! One process of the load: drives its people along the schedule, and tells every second what it counted.

use std::cell::RefCell;
use std::io::{BufRead as _, Write as _};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use serde::{Deserialize, Serialize};
use tokio::task::LocalSet;

use super::plan::{Deed, Moment, Plan, micros};
use super::scenario::Scenario;
use super::stream::Trust;
use super::tally::{End, Line, Phase, Tick};
use super::world::{Access, Shared, World, act, work};
use crate::token::Issuer;

const SECOND: Moment = 1_000_000;
/// The longest time without a look at what has become due.
const NAP: Moment = 10_000;
/// Deeds in a row, before what came meanwhile is read.
const IN_A_ROW: u32 = 128;
/// How long sessions take to say goodbye at the end.
const GOODBYE: Duration = Duration::from_secs(1);

/// What a worker is to do. It comes over the standard input, so that no secret is among the arguments.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Job {
    pub(crate) index: u32,
    /// The whole load's part of this worker.
    pub(crate) scenario: Scenario,
    /// With the names that they are asked for by.
    pub(crate) gateways: Vec<(SocketAddr, String)>,
    /// They are spoken to under TLS, and whom to believe.
    pub(crate) trust: Option<Trust>,
    /// HS256 and its secret, or another algorithm and its private key.
    pub(crate) algorithm: String,
    pub(crate) key: String,
    pub(crate) issuer: Option<String>,
    pub(crate) audience: Option<String>,
    pub(crate) prefix: String,
}

impl Job {
    fn access(&self) -> anyhow::Result<Access> {
        ensure!(!self.gateways.is_empty(), "no gateway is named");
        let (issuer, audience) = (self.issuer.clone(), self.audience.clone());
        let issuer = match self.algorithm.as_str() {
            "HS256" => Issuer::new(self.key.as_bytes(), issuer, audience),
            other => Issuer::with_key(other, self.key.as_bytes(), issuer, audience)?,
        };
        let prefix = format!("{}{}-", self.prefix, self.index);
        let secure = self.trust.as_ref().map(Trust::connector).transpose()?;
        Ok(Access { gateways: self.gateways.clone(), secure, issuer, prefix, worker: self.index })
    }
}

/// The whole life of a worker process. It ends when its standard input does.
pub(crate) async fn process() -> anyhow::Result<()> {
    let mut input = std::io::stdin().lock();
    let mut text = String::new();
    input.read_line(&mut text)?;
    let job: Job = serde_json::from_str(&text).context("the job")?;
    drop(text);
    tell(&Line::Ready)?;
    let mut go = String::new();
    ensure!(input.read_line(&mut go)? > 0, "nobody wants the load any longer");
    drop(input);
    // Nothing more is said: the input ends when the other side does. A thread of its own, since it is never waited for.
    let (gone, orphaned) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let mut rest = String::new();
        while std::io::stdin().lock().read_line(&mut rest).is_ok_and(|read| read > 0) {}
        // The load may be over already.
        let _ = gone.send(());
    });
    let load = LocalSet::new();
    tokio::select! {
        done = load.run_until(run(job)) => done,
        _ = orphaned => bail!("the coordinating process is gone"),
    }
}

fn tell(line: &Line) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(line)?)?;
    Ok(out.flush()?)
}

async fn run(job: Job) -> anyhow::Result<()> {
    let access = job.access()?;
    let mut plan = Plan::new(job.scenario.clone());
    let (begin, end) = plan.measured();
    let settle = micros(job.scenario.phases.ramp);
    let over = end + micros(job.scenario.phases.patience);
    let shared: Shared = Rc::new(RefCell::new(World::new(access, job.scenario)));
    let phase = |now| match now {
        _ if now < settle => Phase::Ramp,
        _ if now < begin => Phase::Settle,
        _ if now < end => Phase::Measure,
        _ => Phase::Patience,
    };
    shared.borrow_mut().start();
    let mut step = plan.next();
    let mut tick = SECOND;
    loop {
        let mut in_a_row = 0;
        let now = shared.borrow().now();
        while let Some(due) = step.filter(|step| step.at <= now && in_a_row < IN_A_ROW) {
            act(&shared, due);
            in_a_row += u32::from(!matches!(due.deed, Deed::Flip));
            step = plan.next();
        }
        work(&shared);
        if now >= tick {
            if phase(tick) < Phase::Measure {
                // Examples of what counts.
                shared.borrow_mut().referee.samples.clear();
            }
            // The second that is over belongs to the phase that it began in.
            tell(&Line::Tick(Box::new(take(&shared, tick / SECOND, phase(tick - SECOND)))))?;
            tick += SECOND;
        }
        if now >= over {
            break;
        }
        if in_a_row >= IN_A_ROW {
            tokio::task::yield_now().await;
            continue;
        }
        let until = step.map_or(Moment::MAX, |step| step.at);
        let until = until.min(shared.borrow().next_due().unwrap_or(Moment::MAX)).min(tick).min(now + NAP);
        let at = shared.borrow().at(until);
        tokio::time::sleep_until(at).await;
    }
    finish(&shared, over / SECOND + 1).await
}

async fn finish(shared: &Shared, second: u64) -> anyhow::Result<()> {
    let end = {
        let mut world = shared.borrow_mut();
        world.ending = true;
        let now = world.now();
        let (views, wrong, blind) = world.referee.end(now);
        End { views, wrong, blind, samples: std::mem::take(&mut world.referee.samples) }
    };
    tell(&Line::Tick(Box::new(take(shared, second, Phase::Patience))))?;
    tell(&Line::End(end))?;
    let people = u32::try_from(shared.borrow().people.len()).unwrap_or(u32::MAX);
    for user in 0..people {
        shared.borrow_mut().say_goodbye(shared, user);
        if user % IN_A_ROW == 0 {
            tokio::task::yield_now().await;
        }
    }
    tokio::time::sleep(GOODBYE).await;
    Ok(())
}

fn take(shared: &Shared, second: u64, phase: Phase) -> Tick {
    let mut world = shared.borrow_mut();
    Tick {
        second,
        phase,
        sessions: world.sessions,
        wrong_now: world.referee.wrong,
        blind_now: world.referee.blind,
        counts: std::mem::take(&mut world.referee.counts),
        spreads: std::mem::take(&mut world.referee.spreads),
    }
}
