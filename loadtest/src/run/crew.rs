//! The workers: processes of this same program, and what they tell.

use std::collections::BTreeMap;
use std::process::Stdio;

use anyhow::{Context as _, bail, ensure};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::mpsc;

use super::tally::{Counts, End, Line, Phase, Spreads, Tick};
use super::worker::Job;
use crate::cluster::yielding;

/// Lines of workers that wait to be read.
const LINES: usize = 1_024;

/// A worker process. Killed when dropped.
#[derive(Debug)]
struct Worker {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

/// All workers, ready to begin.
#[derive(Debug)]
pub(super) struct Crew(Vec<Worker>);

impl Crew {
    /// Starts a worker for each job, and waits until they are ready.
    ///
    /// # Errors
    /// One does not start.
    pub(super) async fn start(jobs: Vec<Job>) -> anyhow::Result<Self> {
        let program = std::env::current_exe()?;
        let mut workers = Vec::new();
        for job in jobs {
            let mut child = Command::from(yielding(&program))
                .arg("worker")
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .kill_on_drop(true)
                .spawn()
                .context("a worker does not start")?;
            let mut input = child.stdin.take().context("a worker without an input")?;
            let output = child.stdout.take().context("a worker without an output")?;
            let text = format!("{}\n", serde_json::to_string(&job)?);
            input.write_all(text.as_bytes()).await?;
            workers.push(Worker { child, input, output: BufReader::new(output).lines() });
        }
        for worker in &mut workers {
            let line = worker.output.next_line().await?.context("a worker ended at once")?;
            ensure!(matches!(serde_json::from_str(&line)?, Line::Ready), "a worker said {line}");
        }
        Ok(Self(workers))
    }

    pub(super) fn pids(&self) -> Vec<u32> {
        self.0.iter().filter_map(|worker| worker.child.id()).collect()
    }

    /// Lets all begin, and hands out every second that all have told, in order; then what they said at the end.
    ///
    /// # Errors
    /// A worker fails.
    pub(super) async fn run(self, mut each: impl FnMut(&Tick)) -> anyhow::Result<Gathered> {
        let count = self.0.len();
        let (send, mut receive) = mpsc::channel(LINES);
        let mut children = Vec::new();
        for mut worker in self.0 {
            worker.input.write_all(b"go\n").await?;
            let send = send.clone();
            // The input stays open until the worker ends: that is how it knows that somebody listens.
            children.push((worker.child, worker.input));
            tokio::spawn(async move {
                while let Ok(Some(line)) = worker.output.next_line().await {
                    if send.send(serde_json::from_str::<Line>(&line)).await.is_err() {
                        return;
                    }
                }
            });
        }
        drop(send);
        let mut gathered = Gathered::default();
        let mut open: BTreeMap<u64, (usize, Tick)> = BTreeMap::new();
        while let Some(line) = receive.recv().await {
            match line.context("a line of a worker")? {
                Line::Ready => {}
                Line::Failed(why) => bail!("a worker failed: {why}"),
                Line::End(end) => gathered.end(end),
                Line::Tick(tick) => {
                    let (told, sum) = open.entry(tick.second).or_default();
                    *told += 1;
                    add(sum, &tick);
                    while let Some(entry) = open.first_entry().filter(|entry| entry.get().0 == count) {
                        let (_, whole) = entry.remove();
                        gathered.add(&whole);
                        each(&whole);
                    }
                }
            }
        }
        ensure!(gathered.ended == count, "{} of {count} workers ended early", count - gathered.ended);
        Ok(gathered)
    }
}

fn add(sum: &mut Tick, tick: &Tick) {
    (sum.second, sum.phase) = (tick.second, sum.phase.max(tick.phase));
    sum.sessions += tick.sessions;
    sum.wrong_now += tick.wrong_now;
    sum.blind_now += tick.blind_now;
    sum.counts.add(&tick.counts);
    sum.spreads.add(&tick.spreads);
}

/// What all workers told.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    pub(super) before: (Counts, Spreads),
    pub(super) measured: (Counts, Spreads),
    pub(super) end: End,
    ended: usize,
}

impl Gathered {
    fn add(&mut self, tick: &Tick) {
        let (counts, spreads) = match tick.phase {
            Phase::Ramp | Phase::Settle => &mut self.before,
            Phase::Measure | Phase::Patience => &mut self.measured,
        };
        counts.add(&tick.counts);
        spreads.add(&tick.spreads);
    }

    fn end(&mut self, end: End) {
        self.ended += 1;
        self.end.views += end.views;
        self.end.wrong += end.wrong;
        self.end.blind += end.blind;
        self.end.samples.extend(end.samples);
    }
}
