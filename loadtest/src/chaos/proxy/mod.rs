//! Proxies between processes and NATS servers that lose, double, delay, move and swallow what goes through them.
//!
//! They run on a thread of their own, so that clients of the test do not wait for them.

mod lane;
mod link;
mod split;

use std::fmt;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;

use tokio::sync::{oneshot, watch};
use tokio::task::{JoinSet, LocalSet};

use self::lane::Counters;
use self::link::Shared;
use crate::clock;

pub(super) use self::lane::Side;
pub(super) use self::split::Wire;

/// Connections of one proxy at a time; a process has two.
const MAX_LINKS: usize = 64;

/// What happens to both directions of all connections of a proxy.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(super) struct Rules {
    /// From the process to the server.
    pub(super) up: Side,
    /// From the server to the process.
    pub(super) down: Side,
    /// Connections are reset, and new ones refused.
    pub(super) refuse: bool,
}

impl Rules {
    /// The same in both directions.
    pub(super) fn both(side: Side) -> Self {
        Self { up: side, down: side, refuse: false }
    }

    /// Nothing passes, and nobody is told.
    pub(super) fn cut() -> Self {
        Self::both(Side { cut: true, ..Side::default() })
    }

    pub(super) fn refuse() -> Self {
        Self { refuse: true, ..Self::default() }
    }
}

/// How connections are carried.
#[derive(Clone, Copy, Debug)]
pub(super) struct Options {
    pub(super) wire: Wire,
    /// The size of the sockets' buffers, so that a process which does not read is soon felt by the server. None: the
    /// system's.
    pub(super) buffers: Option<usize>,
    /// Where the proxy listens.
    pub(super) at: IpAddr,
}

/// One way to one server.
#[derive(Debug)]
pub(super) struct Proxy {
    /// Where to connect instead of to the server.
    pub(super) address: SocketAddr,
    rules: watch::Sender<Rules>,
    counters: Arc<Counters>,
}

/// What faults did; the proof that they bit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Counts {
    pub(super) passed: u64,
    pub(super) lost: u64,
    pub(super) twice: u64,
    pub(super) late: u64,
    pub(super) passing: u64,
    pub(super) swallowed: u64,
    pub(super) refused: u64,
}

impl Proxy {
    /// From now on.
    pub(super) fn set(&self, rules: Rules) {
        self.rules.send_replace(rules);
    }

    pub(super) fn counts(&self) -> Counts {
        let of = |counter: &AtomicU64| counter.load(Relaxed);
        Counts {
            passed: of(&self.counters.passed),
            lost: of(&self.counters.lost),
            twice: of(&self.counters.twice),
            late: of(&self.counters.late),
            passing: of(&self.counters.passing),
            swallowed: of(&self.counters.swallowed),
            refused: of(&self.counters.refused),
        }
    }
}

impl std::iter::Sum for Counts {
    fn sum<I: Iterator<Item = Self>>(counts: I) -> Self {
        counts.fold(Self::default(), |a, b| Self {
            passed: a.passed + b.passed,
            lost: a.lost + b.lost,
            twice: a.twice + b.twice,
            late: a.late + b.late,
            passing: a.passing + b.passing,
            swallowed: a.swallowed + b.swallowed,
            refused: a.refused + b.refused,
        })
    }
}

impl std::ops::Sub for Counts {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            passed: self.passed - before.passed,
            lost: self.lost - before.lost,
            twice: self.twice - before.twice,
            late: self.late - before.late,
            passing: self.passing - before.passing,
            swallowed: self.swallowed - before.swallowed,
            refused: self.refused - before.refused,
        }
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} messages passed", self.passed)?;
        let others = [
            (self.lost, "lost"),
            (self.twice, "doubled"),
            (self.late, "delayed"),
            (self.passing, "passed an earlier one"),
            (self.swallowed, "pieces swallowed"),
            (self.refused, "connections refused"),
        ];
        others
            .iter()
            .filter(|(count, _)| *count > 0)
            .try_for_each(|(count, what)| write!(f, ", {count} {what}"))
    }
}

/// A proxy that listens, and does not take connections yet.
#[derive(Debug)]
struct Door {
    listener: TcpListener,
    server: SocketAddr,
    options: Options,
    rules: watch::Receiver<Rules>,
    counters: Arc<Counters>,
    seed: u64,
}

/// The thread of some proxies. They end with it.
#[derive(Debug)]
pub(super) struct Thread {
    doors: Vec<Door>,
    seed: u64,
    running: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl Thread {
    /// Faults follow from the seed, as far as the order of messages does.
    pub(super) const fn new(seed: u64) -> Self {
        Self { doors: Vec::new(), seed, running: None }
    }

    /// Opens a way to a server.
    pub(super) fn open(&mut self, server: SocketAddr, options: Options) -> anyhow::Result<Proxy> {
        let listener = TcpListener::bind((options.at, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let (sender, rules) = watch::channel(Rules::default());
        let counters = Arc::new(Counters::default());
        self.seed = self.seed.wrapping_add(0x1_0000);
        let seed = self.seed;
        self.doors.push(Door { listener, server, options, rules, counters: Arc::clone(&counters), seed });
        Ok(Proxy { address, rules: sender, counters })
    }

    /// Takes connections on all that was opened.
    pub(super) fn run(&mut self) -> anyhow::Result<()> {
        let doors = std::mem::take(&mut self.doors);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        let work = move || {
            let tasks = LocalSet::new();
            for door in doors {
                tasks.spawn_local(door.serve());
            }
            // It ends when its owner does, in whatever way.
            runtime.block_on(tasks.run_until(async { drop(stopped.await) }));
        };
        let thread = std::thread::Builder::new().name("proxies".to_owned()).spawn(work)?;
        self.running = Some((stop, thread));
        Ok(())
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.running.take() {
            drop(stop);
            let _ = thread.join();
        }
    }
}

impl Door {
    async fn serve(self) {
        let (start, mut rules) = (clock::now(), self.rules);
        let shared = Shared { rules: rules.clone(), counters: self.counters, options: self.options, start };
        let Ok(address) = self.listener.local_addr() else { return };
        let mut listener = tokio::net::TcpListener::from_std(self.listener).ok();
        let mut links = JoinSet::new();
        let mut number = self.seed;
        loop {
            let refuse = rules.borrow_and_update().refuse;
            if refuse {
                listener = None;
            } else if listener.is_none() {
                // The port was ours until now; when another has taken it, the row finds that nobody gets through.
                listener = tokio::net::TcpListener::bind(address).await.ok();
            }
            while links.try_join_next().is_some() {}
            tokio::select! {
                changed = rules.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    if rules.borrow().refuse {
                        shared.counters.refused.fetch_add(links.len() as u64, Relaxed);
                    }
                }
                accepted = accept(listener.as_ref()) => {
                    let Ok((client, _)) = accepted else { continue };
                    if links.len() < MAX_LINKS {
                        number = number.wrapping_add(1);
                        links.spawn_local(link::carry(client, self.server, shared.clone(), number));
                    }
                }
            }
        }
    }
}

async fn accept(
    listener: Option<&tokio::net::TcpListener>,
) -> std::io::Result<(tokio::net::TcpStream, SocketAddr)> {
    match listener {
        Some(listener) => listener.accept().await,
        None => std::future::pending().await,
    }
}
