//! Many gateways that lose NATS at once, and return to it.

use std::time::Duration;

use anyhow::ensure;

use herenow_bus::{Bus as _, NatsBus, NatsConfig, Subscription};
use herenow_protocol::id::{GatewayId, ProcessId};
use herenow_protocol::subject;

use super::{Bite, Scene};
use crate::chaos::fleet::GATEWAYS;
use crate::chaos::truth::Moment;
use crate::clock;

/// With the gateways of every fleet they are 50. What they are on the bus and no more, so that any machine can have so
/// many: how they come back is decided there.
const MORE: usize = 47;
/// Connections of a process: one for its beats alone.
const EACH: usize = 2;
/// From the first to the last that are back, without the first and the last twentieth. Between two attempts are 0.5 to
/// 1 s by then, so that whoever waits for the next is due at any moment of a second.
const SPREAD: Duration = Duration::from_millis(500);
/// No tenth of a second may see more than this part of them.
const BUSIEST: f64 = 0.5;
const TENTH: Duration = Duration::from_millis(100);
const LOOK: Duration = Duration::from_millis(10);
const PATIENCE: Duration = Duration::from_secs(20);

impl Scene<'_> {
    /// They come back each at a moment of its own, and meanwhile nobody is shown wrongly.
    pub(super) async fn herd(&mut self) -> anyhow::Result<Bite> {
        let herd = self.gather().await?;
        let connections = (MORE + self.fleet.len()) * EACH;
        let end = clock::now() + PATIENCE;
        // One that is being replaced is there twice for a moment.
        while self.connected()? != connections {
            ensure!(clock::now() < end, "there are not {connections} connections");
            tokio::time::sleep(LOOK).await;
        }
        let (injected, mut proofs) = (self.world.now(), Vec::new());
        for index in 0..self.fleet.nats.len() {
            proofs.push(self.fleet.kill_nats(index).await?);
        }
        let most = self.connected()?;
        ensure!(most == 0, "{most} connections are still there");
        self.wait(30).await;
        for index in 0..self.fleet.nats.len() {
            self.fleet.restart_nats(index).await?;
        }
        let healed = self.world.now();
        let back = self.returns(connections).await?;
        let twentieth = connections / 20;
        let spread = back[connections - 1 - twentieth] - back[twentieth];
        let within = |from: &Moment| back.iter().filter(|at| **at >= *from && **at < *from + TENTH).count();
        let busiest = back.iter().map(within).max().unwrap_or_default();
        let mut misses = Vec::new();
        if spread < SPREAD || busiest as f64 > connections as f64 * BUSIEST {
            misses.push("they came back at once".to_owned());
        }
        let proof = format!(
            "{}; {connections} connections of {} gateways and {} coordinators back within {} ms, 90 of 100 within {} ms, at most \
             {busiest} in 100 ms",
            proofs.join(", "),
            MORE + GATEWAYS.len(),
            self.fleet.len() - GATEWAYS.len(),
            (back[connections - 1] - back[0]).as_millis(),
            spread.as_millis()
        );
        drop(herd);
        let bite = self.bite(injected, proof);
        Ok(Bite { misses, healed, ..bite })
    }

    /// The buses of more gateways, each with what is sent to it alone.
    async fn gather(&self) -> anyhow::Result<Vec<(NatsBus, Subscription)>> {
        let servers: Vec<String> = self.fleet.nats.iter().map(|server| server.url.clone()).collect();
        let mut herd = Vec::new();
        for number in 0..MORE {
            let name = format!("more-{number}");
            let gateway = GatewayId { process: ProcessId::new(&name)?, shard: 0 };
            let config = NatsConfig { servers: servers.clone(), name, ..NatsConfig::default() };
            let bus = NatsBus::connect(&config).await?;
            let subscription = bus.subscribe(&subject::gateway(&gateway), None).await?;
            herd.push((bus, subscription));
        }
        let end = clock::now() + PATIENCE;
        while !herd.iter().all(|(bus, _)| bus.is_connected()) {
            ensure!(clock::now() < end, "not all of {MORE} gateways more are connected");
            tokio::time::sleep(LOOK).await;
        }
        Ok(herd)
    }

    /// When each of so many connections to the NATS servers is there again.
    async fn returns(&self, connections: usize) -> anyhow::Result<Vec<Moment>> {
        let (end, mut back) = (clock::now() + PATIENCE, Vec::new());
        while back.len() < connections {
            let now = self.connected()?;
            ensure!(clock::now() < end, "{now} of {connections} connections are back after {PATIENCE:?}");
            back.resize(now.max(back.len()), self.world.now());
            tokio::time::sleep(LOOK).await;
        }
        Ok(back)
    }

    /// Connections to all NATS servers, as the system counts them.
    fn connected(&self) -> anyhow::Result<usize> {
        let ports = self.fleet.nats.iter().map(|server| {
            let port = server.url.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
            port.map(|port| format!("{port:04X}")).unwrap_or_default()
        });
        let ports: Vec<String> = ports.collect();
        let table = std::fs::read_to_string("/proc/net/tcp")?;
        // A number, the local address and port, the other one's, and the state: 01 is a connection.
        let of_ours = |line: &&str| {
            let words: Vec<&str> = line.split_ascii_whitespace().take(4).collect();
            let [_, local, _, "01"] = words[..] else { return false };
            local.rsplit_once(':').is_some_and(|(_, port)| ports.iter().any(|own| own == port))
        };
        Ok(table.lines().filter(of_ours).count())
    }
}
