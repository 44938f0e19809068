//! A network of its own for one process, so that packets can be lost on its way to NATS, and not messages.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};

/// The addresses of both ends; of a block that is kept for tests of networks.
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(198, 18, 99, 1);
const INSIDE: Ipv4Addr = Ipv4Addr::new(198, 18, 99, 2);
const PREFIX: u8 = 30;
const TABLE: &str = "herenow_chaos";

/// Why none can be made on this machine, if so.
pub(in crate::chaos) fn missing() -> Option<String> {
    let tool =
        |name: &str| ["/usr/sbin", "/sbin", "/usr/bin"].iter().any(|at| Path::new(at).join(name).exists());
    if !tool("ip") || !tool("nft") {
        return Some("needs ip and nft; on Debian: apt-get install iproute2 nftables".to_owned());
    }
    // Making one is the only sure way to know whether it may be made.
    Namespace::new("probe").err().map(|error| format!("no network namespace can be made: {error:#}"))
}

/// Removed when dropped.
#[derive(Debug)]
pub(super) struct Namespace {
    name: String,
}

impl Namespace {
    pub(super) fn new(what: &str) -> anyhow::Result<Self> {
        let name = format!("herenow-{what}-{}", std::process::id());
        // Names of links have at most 15 bytes.
        let (outside, inside) = (format!("hn{}a", std::process::id()), format!("hn{}b", std::process::id()));
        ip(&["netns", "add", &name])?;
        let made = Self { name };
        ip(&["link", "add", &outside, "type", "veth", "peer", "name", &inside, "netns", &made.name])?;
        ip(&["address", "add", &format!("{OUTSIDE}/{PREFIX}"), "dev", &outside])?;
        ip(&["link", "set", &outside, "up"])?;
        ip(&["-n", &made.name, "address", "add", &format!("{INSIDE}/{PREFIX}"), "dev", &inside])?;
        ip(&["-n", &made.name, "link", "set", &inside, "up"])?;
        ip(&["-n", &made.name, "link", "set", "lo", "up"])?;
        Ok(made)
    }

    /// Where those outside are reached from within.
    pub(super) const fn outside(&self) -> IpAddr {
        IpAddr::V4(OUTSIDE)
    }

    /// Where the one within is reached from outside.
    pub(super) const fn inside(&self) -> IpAddr {
        IpAddr::V4(INSIDE)
    }

    /// Runs a program within; it keeps its process id.
    pub(super) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }

    /// Of a hundred packets to and from these ports so many are lost from now on.
    pub(super) fn lose(&self, percent: u32, ports: &[u16]) -> anyhow::Result<()> {
        let list: Vec<String> = ports.iter().map(ToString::to_string).collect();
        let list = list.join(", ");
        let lost = format!("numgen random mod 100 < {percent} counter drop");
        let rules = format!(
            "table inet {TABLE} {{\n\
             chain in {{ type filter hook input priority 0; tcp sport {{ {list} }} {lost}\n}}\n\
             chain out {{ type filter hook output priority 0; tcp dport {{ {list} }} {lost}\n}}\n}}\n"
        );
        self.nft(&[&rules]).map(drop)
    }

    /// Loses no more; how many were lost.
    pub(super) fn heal(&self) -> anyhow::Result<u64> {
        let told = self.nft(&[&format!("list table inet {TABLE}")])?;
        self.nft(&[&format!("delete table inet {TABLE}")])?;
        let words: Vec<&str> = told.split_ascii_whitespace().collect();
        let packets = words.windows(2).filter(|pair| pair[0] == "packets");
        Ok(packets.filter_map(|pair| pair[1].parse::<u64>().ok()).sum())
    }

    fn nft(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let output =
            Command::new("ip").args(["netns", "exec", &self.name, "nft"]).args(arguments).output()?;
        ensure!(output.status.success(), "nft: {}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // The link goes with it.
        let _ = Command::new("ip").args(["netns", "del", &self.name]).stderr(Stdio::null()).status();
    }
}

fn ip(arguments: &[&str]) -> anyhow::Result<()> {
    let output = Command::new("ip").args(arguments).output().context("ip")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ip {}: {}", arguments.join(" "), said.trim());
    Ok(())
}
