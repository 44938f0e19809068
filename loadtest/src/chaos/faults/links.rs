//! What happens on the way of single clients to their gateways.

use std::net::Ipv4Addr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};

use super::{Bite, Scene, member};
use crate::chaos::journal::View;
use crate::chaos::line::{Line, address};
use crate::chaos::session::{Listening, Session};
use crate::chaos::timers::{MACHINE, Timers};
use crate::chaos::truth::{Moment, Truth};
use crate::chaos::wire::{self, Activity, Status};
use crate::connection::Writer;

/// Of a hundred packets so many are lost, for so long: retransmissions of TCP do not shrink with the timers.
const PERCENT: u32 = 30;
const LOSSY: Duration = Duration::from_secs(30);
/// From then on until those whose packets were lost must be there again: a new attempt may be that far off.
const AFTER_LOSS: Duration = Duration::from_secs(5);
/// How often clients move to another address.
const MOVES: u8 = 2;
/// Clients that watch, and die without a word.
const DEAD_WATCHERS: usize = 4;
/// Gateways show what they have counted once a second.
const SHOWN: Duration = Duration::from_secs(1);
const SILENT: &str = "herenow_gateway_silent_sessions_total";
const CLOSES: &str = "herenow_gateway_closes_total";
const LOOK: Duration = Duration::from_millis(50);

impl Scene<'_> {
    /// Whoever is back within the grace was never away, at whichever gateway, whatever becomes of its old session.
    pub(super) async fn move_clients(&mut self) -> anyhow::Result<Bite> {
        let (world, injected) = (self.world, self.world.now());
        let (users, opened) = (world.lines.users(), world.lines.opened());
        ensure!(!users.is_empty(), "nobody has a line");
        world.lines.breaking.set(true);
        for moved in 0..MOVES {
            world.lines.tear(address(2 + moved));
            self.wait(15).await;
        }
        world.lines.breaking.set(false);
        // Until their old sessions were silent for too long.
        tokio::time::sleep(world.timers.heartbeat_timeout).await;
        let back = world.lines.opened() - opened;
        ensure!(back >= users.len() * usize::from(MOVES), "{back} connections of {} clients", users.len());
        let seen = self.seen_to_change(&users, injected).into_iter().sum::<usize>();
        let misses = if seen > 0 { vec![format!("{seen} views of them changed")] } else { Vec::new() };
        let proof = format!("{} clients moved {MOVES} times, {back} connections from there", users.len());
        Ok(Bite { misses, ..self.bite(injected, proof) })
    }

    /// Clients die without a word while there is much to tell them. Silence ends them, as it ends who is stopped, or
    /// sooner that their sockets take nothing any more.
    pub(super) async fn kill_silently(&mut self) -> anyhow::Result<Bite> {
        let world = self.world;
        let line = Line::open(&world.gateways[0], address(9), None).await?;
        let mut watchers = Vec::new();
        for number in 0..DEAD_WATCHERS {
            watchers.push(self.watch_over(&line, number).await?);
        }
        let (users, timeout) = (world.lines.users(), world.timers.heartbeat_timeout);
        let before = self.given_up().await?;
        let injected = world.now();
        for user in &users {
            world.truth(*user, injected, Truth::Either { until: injected + timeout });
        }
        world.lines.die();
        line.die();
        tokio::time::sleep(timeout + world.timers.machine + SHOWN).await;
        let after = self.given_up().await?;
        let [silent, full] = [after[0] - before[0], after[1] - before[1]];
        // The clients find out.
        world.stay_away.set(true);
        world.lines.breaking.set(true);
        world.lines.tear(address(2));
        tokio::time::sleep(MACHINE).await;
        world.stay_away.set(false);
        world.lines.breaking.set(false);
        drop(watchers);
        let dead = users.len() + DEAD_WATCHERS;
        let ended = format!(
            "of {dead} dead clients {silent} were found silent for {timeout:?}, and {full} to take nothing"
        );
        ensure!(!users.is_empty(), "nobody has a line");
        let misses = if silent + full + 0.5 < dead as f64 { vec![ended.clone()] } else { Vec::new() };
        let proof =
            format!("nothing passes, nobody is told; {ended}, {DEAD_WATCHERS} of them watch everybody");
        Ok(Bite { misses, ..self.bite(injected, proof) })
    }

    /// One who watches everybody over a line; connected until it is dropped.
    async fn watch_over(&self, line: &Line, number: usize) -> anyhow::Result<(Listening, Writer)> {
        let token = self.world.issuer.token(&format!("dead-{number}"))?;
        let session = Session::open(&line.url(), &token, "one", Activity::Active).await?;
        let users: Vec<&str> = self.world.users.iter().map(|user| user.name.as_str()).collect();
        let Session { reader, mut writer, .. } = session;
        writer.send_text(wire::watch(&users)).await?;
        Ok((Listening::start(reader, |_| {}), writer))
    }

    /// Sessions that were silent for too long, and those whose sockets took nothing for too long, at all gateways.
    /// Whichever comes first counts.
    async fn given_up(&self) -> anyhow::Result<[f64; 2]> {
        let mut sums = [0.0; 2];
        for gateway in 0..self.world.gateways.len() {
            sums[0] += self.fleet.metric(member(gateway), SILENT).await?;
            sums[1] += self.fleet.labelled(member(gateway), CLOSES, "\"slow_consumer\"").await?;
        }
        Ok(sums)
    }

    /// Whoever's packets get lost may be taken for gone, and for back, but not more than once in each grace.
    pub(super) async fn lose_client_packets(&mut self) -> anyhow::Result<Bite> {
        let (world, injected) = (self.world, self.world.now());
        let users = world.lines.users();
        ensure!(!users.is_empty(), "nobody has a line");
        world.lines.breaking.set(true);
        let loss = Loss::begin(address(1), PERCENT)?;
        tokio::time::sleep(LOSSY).await;
        let lost = loss.end()?;
        ensure!(lost > 0, "no packet was lost");
        // What was lost last may be sent again only when its session was silent for too long, and has had its grace.
        let Timers { heartbeat_timeout, grace, machine, .. } = world.timers;
        tokio::time::sleep(heartbeat_timeout + grace + machine).await;
        let well = world.now();
        while self.shown_away(&users) && world.now() < well + AFTER_LOSS {
            tokio::time::sleep(LOOK).await;
        }
        world.lines.breaking.set(false);
        let bite = self.bite(injected, "");
        for user in &users {
            world.journal.borrow_mut().person(*user).excuse(0, injected, bite.healed);
        }
        let most = self.seen_to_change(&users, injected).into_iter().max().unwrap_or_default();
        let allowed = (bite.healed - injected).div_duration_f64(world.timers.grace).ceil();
        let mut misses = Vec::new();
        if most as f64 > allowed {
            misses.push(format!("{most} transitions of one of them, in {allowed} times the grace"));
        }
        if self.shown_away(&users) {
            misses.push(format!("not all are shown online {AFTER_LOSS:?} after all that was lost can count"));
        }
        let proof =
            format!("{lost} packets lost of {} clients; at most {most} transitions of one", users.len());
        Ok(Bite { misses, proof, ..bite })
    }

    fn shown_away(&self, users: &[usize]) -> bool {
        let watchers = self.watchers(|_| true);
        let away = |view| !matches!(view, View::Known { status: Status::Online, stale: false });
        let names: Vec<&str> = users.iter().map(|user| self.world.users[*user].name.as_str()).collect();
        self.shown_of(&watchers, |user| names.contains(&user.name.as_str()), away) > 0
    }

    /// For each pair of a watcher and one of these users, how often another status was shown than before.
    fn seen_to_change(&self, users: &[usize], since: Moment) -> Vec<usize> {
        let journal = self.world.journal.borrow();
        let status = |view: &View| match view {
            View::Known { status, .. } => Some(*status),
            View::Unknown => None,
        };
        let of = |watcher: usize, user: usize| {
            let steps = journal.view(watcher, user);
            let first = steps.iter().rposition(|(at, _)| *at <= since).unwrap_or(0);
            let shown = steps[first..].windows(2);
            shown.filter(|pair| status(&pair[0].1) != status(&pair[1].1)).count()
        };
        let watchers = 0..journal.watchers();
        watchers
            .flat_map(|watcher| users.iter().map(move |user| (watcher, *user)))
            .map(|(w, u)| of(w, u))
            .collect()
    }
}

/// Why packets of single clients cannot be lost on this machine, if so.
pub(super) fn no_loss() -> Option<String> {
    // To lose none of an address that nobody has is the only sure way to know whether it may be done.
    let tried = Loss::begin(address(250), 0).and_then(Loss::end);
    tried.err().map(|error| format!("needs root and nft; on Debian: apt-get install nftables: {error:#}"))
}

/// Packets to and from one address of this machine are lost; none any more when dropped.
struct Loss {
    table: String,
}

impl Loss {
    fn begin(of: Ipv4Addr, percent: u32) -> anyhow::Result<Self> {
        let loss = Self { table: format!("herenow_chaos_{}", std::process::id()) };
        let lost = format!("numgen random mod 100 < {percent} counter drop");
        let rules = format!(
            "table inet {} {{\nchain out {{ type filter hook output priority 0;\n\
             ip saddr {of} {lost}\nip daddr {of} {lost}\n}}\n}}\n",
            loss.table
        );
        nft(&rules)?;
        Ok(loss)
    }

    /// Loses no more; how many were lost.
    fn end(self) -> anyhow::Result<u64> {
        let told = nft(&format!("list table inet {}", self.table))?;
        let words: Vec<&str> = told.split_ascii_whitespace().collect();
        let packets = words.windows(2).filter(|pair| pair[0] == "packets");
        Ok(packets.filter_map(|pair| pair[1].parse::<u64>().ok()).sum())
    }
}

impl Drop for Loss {
    fn drop(&mut self) {
        // There may be none; then there is nothing to take away.
        let _ = nft(&format!("delete table inet {}", self.table));
    }
}

fn nft(rules: &str) -> anyhow::Result<String> {
    let output = Command::new("nft").arg(rules).output().context("nft")?;
    ensure!(output.status.success(), "nft: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
