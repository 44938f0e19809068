//! What happens to NATS servers.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use herenow_protocol::id::{GatewayId, ProcessId};
use herenow_protocol::subject;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{Bite, Excuse, Scene, gateway_of, member};
use crate::chaos::fleet::{self, EACH};
use crate::chaos::journal::View;
use crate::chaos::proxy::Rules;
use crate::chaos::timers::MACHINE;

/// What waits for a client may not be more than this, nor wait longer.
pub(super) const SLOW_LINES: &str = "max_pending: 262144\nwrite_deadline: \"500ms\"\nmax_payload: 262144";
/// Little room in the sockets between, in bytes.
pub(super) const SLOW_BUFFERS: usize = 32 * 1024;
/// No room for what claims say, in bytes.
pub(super) const FULL_LINES: &str = "max_file_store: 4096";
/// Messages for a gateway that does not read, and the size of each.
const FLOOD: usize = 256;
const FLOOD_BYTES: usize = 64 * 1024;
const PONG: &[u8] = b"PONG";
/// How much more memory a process may have after an outage than before, in KiB.
const GROWTH: u64 = 20 * 1024;
const LOOK: Duration = Duration::from_millis(50);
const PATIENCE: Duration = Duration::from_secs(60);
const UNRECORDED: &str = "herenow_coordinator_claims_without_record_total";
const CLAIMED: &str = "herenow_coordinator_claims_total";

impl Scene<'_> {
    pub(super) async fn kill_server(&mut self) -> anyhow::Result<Bite> {
        let busiest = self.busiest().await?;
        let injected = self.world.now();
        let proof = self.fleet.kill_nats(busiest).await?;
        self.wait(15).await;
        self.fleet.restart_nats(busiest).await?;
        Ok(self.bite(injected, proof))
    }

    pub(super) async fn freeze_server(&mut self) -> anyhow::Result<Bite> {
        let busiest = self.busiest().await?;
        let pid = self.fleet.nats[busiest].pid().context("the server runs")?;
        let injected = self.world.now();
        fleet::freeze(pid).await?;
        self.wait(10).await;
        fleet::thaw(pid)?;
        Ok(self.bite(injected, format!("nats-{} pid {pid} state T", busiest + 1)))
    }

    /// The server with the most traffic: to lose one that nobody is connected to would prove little.
    async fn busiest(&self) -> anyhow::Result<usize> {
        let before = self.fleet.passed();
        tokio::time::sleep(MACHINE).await;
        let passed = self.fleet.passed().into_iter().zip(before).map(|(now, before)| now - before);
        let busiest = passed.enumerate().max_by_key(|(_, passed)| *passed);
        let (server, passed) = busiest.context("there are servers")?;
        ensure!(passed > 0, "no message passes");
        Ok(server)
    }

    /// Long enough that what nobody confirms is unknown. Every socket stays, and nobody's memory grows.
    pub(super) async fn restart_servers(&mut self, seconds: u64) -> anyhow::Result<Bite> {
        let (injected, before) = (self.world.now(), self.memory()?);
        let mut proofs = Vec::new();
        for index in 0..self.fleet.nats.len() {
            proofs.push(self.fleet.kill_nats(index).await?);
        }
        self.wait(seconds).await;
        let mut misses = Vec::new();
        let unknown = self.strangers_unknown();
        if unknown == 0 {
            misses.push("nobody was told unknown".to_owned());
        }
        let grown = self.memory()?.saturating_sub(before);
        if grown > GROWTH {
            misses.push(format!("memory of the largest process grew by {grown} KiB"));
        }
        for index in 0..self.fleet.nats.len() {
            self.fleet.restart_nats(index).await?;
        }
        let proof = format!("{}; {unknown} pairs told unknown, memory +{grown} KiB", proofs.join(", "));
        Ok(Bite { misses, ..self.bite(injected, proof) })
    }

    /// Pairs of a watcher and of a user of another gateway that are unknown now.
    fn strangers_unknown(&self) -> usize {
        let watchers = self.watchers(|_| true);
        let of = |watcher: usize| {
            self.shown_of(&[watcher], |user| user.home != gateway_of(watcher), |view| view == View::Unknown)
        };
        watchers.into_iter().map(of).sum()
    }

    /// KiB of the largest process.
    fn memory(&self) -> anyhow::Result<u64> {
        let pids = (0..self.fleet.len()).map(|index| self.fleet.pid(index));
        let sizes = pids.map(|pid| fleet::resident(pid?).context("it runs"));
        Ok(sizes.collect::<anyhow::Result<Vec<_>>>()?.into_iter().max().unwrap_or_default())
    }

    /// The first server, with whoever is connected to it, on one side.
    ///
    /// It is over when the servers have found each other, for which NATS takes as long as it takes: no timer of the
    /// service. Gateways that are not heard for the time of `gateway_timeout` and the grace are gone to the other side.
    pub(super) async fn split_servers(&mut self) -> anyhow::Result<Bite> {
        let (injected, before) = (self.world.now(), self.fleet.route_counts(0));
        self.fleet.disturb_routes(0, Rules::cut());
        self.wait(5).await;
        let did = self.fleet.route_counts(0) - before;
        self.fleet.disturb_routes(0, Rules::default());
        ensure!(did.swallowed > 0, "nothing was swallowed");
        let meant = self.world.now();
        self.joined().await?;
        let mut bite = self.bite(injected, "");
        bite.longer = bite.healed - meant;
        let timers = self.world.timers;
        let from = injected + timers.gateway_timeout + timers.grace;
        if bite.healed > from {
            let (to, ghosts_to) = (bite.healed, bite.healed + timers.gateway_timeout + timers.grace);
            bite.excused = (0..EACH).map(|gateway| Excuse { gateway, from, to, ghosts_to }).collect();
        }
        let swallowed = did.swallowed;
        let took = bite.longer;
        bite.proof =
            format!("nats-1 from the others: {swallowed} pieces swallowed; joined {took:.1?} after it");
        Ok(bite)
    }

    /// Waits until what is published at either of the other servers comes out of the first one.
    async fn joined(&self) -> anyhow::Result<()> {
        let address = |server: usize| self.fleet.nats[server].url.trim_start_matches("nats://").to_owned();
        let mut ear = TcpStream::connect(address(0)).await?;
        ear.write_all(b"CONNECT {\"verbose\":false}\r\nSUB chaos.joined 1\r\n").await?;
        for server in 1..self.fleet.nats.len() {
            let mut mouth = TcpStream::connect(address(server)).await?;
            mouth.write_all(b"CONNECT {\"verbose\":false}\r\n").await?;
            let word = format!("from {server}.");
            let line = format!("PUB chaos.joined {}\r\n{word}\r\n", word.len());
            let (end, mut heard) = (self.world.now() + PATIENCE, Vec::new());
            while !heard.windows(word.len()).any(|part| part == word.as_bytes()) {
                ensure!(self.world.now() < end, "the servers do not find each other");
                mouth.write_all(line.as_bytes()).await?;
                // Silence is what is waited out here.
                let _ = tokio::time::timeout(LOOK, ear.read_buf(&mut heard)).await;
            }
        }
        Ok(())
    }

    /// A gateway that does not read; the server says what it did about it.
    pub(super) async fn slow_consumer(&mut self) -> anyhow::Result<Bite> {
        let world = self.world;
        let injected = world.now();
        world.taken.borrow_mut().insert(0);
        let proof = self.fleet.freeze(member(0)).await?;
        let end = world.now() + PATIENCE;
        self.flood(member(0)).await?;
        while self.slow_consumers() == 0 {
            ensure!(world.now() < end, "no server took it for a slow consumer");
            tokio::time::sleep(LOOK).await;
        }
        let cut = self.slow_consumers();
        self.fleet.thaw(member(0))?;
        world.taken.borrow_mut().remove(&0);
        Ok(self.severed(0, injected, format!("{proof}, {cut} times called a slow consumer by NATS")))
    }

    /// More for a gateway, and nobody else, than may wait for it; nothing that it can read.
    async fn flood(&self, index: usize) -> anyhow::Result<()> {
        let gateway = GatewayId { process: ProcessId::new(self.fleet.name(index))?, shard: 0 };
        let message = [&[0xff; FLOOD_BYTES][..], b"\r\n"].concat();
        let line = format!("PUB {} {FLOOD_BYTES}\r\n", subject::gateway(&gateway));
        let address = self.fleet.nats[0].url.trim_start_matches("nats://");
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(b"CONNECT {\"verbose\":false}\r\n").await?;
        for _ in 0..FLOOD {
            stream.write_all(line.as_bytes()).await?;
            stream.write_all(&message).await?;
        }
        // The answer comes when all of it was taken.
        stream.write_all(b"PING\r\n").await?;
        let mut said = Vec::new();
        while !said.windows(PONG.len()).any(|part| part == PONG) {
            ensure!(stream.read_buf(&mut said).await? > 0, "the server does not take the flood");
        }
        Ok(())
    }

    fn slow_consumers(&self) -> usize {
        self.fleet.nats.iter().map(|server| server.log().matches("Slow Consumer").count()).sum()
    }

    /// Claims cannot be recorded, and stand all the same.
    pub(super) async fn fill_jetstream(&mut self) -> anyhow::Result<Bite> {
        let (unrecorded, claimed) = (self.counted(UNRECORDED).await?, self.counted(CLAIMED).await?);
        let bite = self.kill_coordinator().await?;
        let unrecorded = self.counted(UNRECORDED).await? - unrecorded;
        let claimed = self.counted(CLAIMED).await? - claimed;
        ensure!(unrecorded > 0.5, "{claimed} claims, and all were recorded");
        Ok(Bite { proof: format!("{}; {unrecorded} of {claimed} claims unrecorded", bite.proof), ..bite })
    }

    /// Of the coordinators that stay.
    async fn counted(&self, metric: &str) -> anyhow::Result<f64> {
        Ok(self.fleet.metric(1, metric).await? + self.fleet.metric(2, metric).await?)
    }
}
