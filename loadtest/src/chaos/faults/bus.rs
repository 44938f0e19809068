//! What happens between processes and NATS.

use std::time::Duration;

use anyhow::ensure;

use super::{Bite, Scene, member};
use crate::chaos::journal::View;
use crate::chaos::proxy::{Counts, Rules, Side};
use crate::chaos::wire::Status;
use crate::chaos::world::User;

/// How long a message takes, at the least and at the most, in milliseconds with the default timers: up to NATS, and as
/// long down again.
const SLOW: (u64, u64) = (50, 150);
/// How much later the second of a doubled message comes at the most, and how far messages pass each other.
const SCATTERED: (u64, u64) = (0, 50);

/// Of a hundred packets so many are lost.
const PERCENT: u32 = 10;

impl Scene<'_> {
    /// This part of all messages, for a minute. Each goes up to NATS and down again, and may be lost on both ways.
    pub(super) async fn lose(&mut self, lost: f64) -> anyhow::Result<Bite> {
        let loss = 1.0 - (1.0 - lost).sqrt();
        let (bite, did) = self.disturbed(60, Side { loss, ..Side::default() }).await;
        ensure!(did.lost > 0, "nothing was lost");
        Ok(bite)
    }

    pub(super) async fn delay(&mut self) -> anyhow::Result<Bite> {
        let (bite, did) = self.disturbed(60, Side { delay: self.span(SLOW), ..Side::default() }).await;
        ensure!(did.passing > 0, "no message passed another");
        Ok(bite)
    }

    pub(super) async fn double(&mut self) -> anyhow::Result<Bite> {
        let delay = self.span(SCATTERED);
        let side = Side { twice: 0.5, delay, reorder: true, ..Side::default() };
        let (bite, did) = self.disturbed(60, side).await;
        ensure!(did.twice > 0 && did.passing > 0, "no message was doubled, or passed another");
        Ok(bite)
    }

    pub(super) async fn lose_packets(&mut self) -> anyhow::Result<Bite> {
        let injected = self.world.now();
        self.fleet.lose_packets(member(0), PERCENT)?;
        self.wait(60).await;
        let lost = self.fleet.keep_packets(member(0))?;
        ensure!(lost > 0, "no packet was lost");
        Ok(self.bite(injected, format!("{lost} packets lost")))
    }

    fn span(&self, milliseconds: (u64, u64)) -> (Duration, Duration) {
        let short = |number| Duration::from_millis(number) / self.world.timers.shorter;
        (short(milliseconds.0), short(milliseconds.1))
    }

    /// The same happens to every process, both ways.
    async fn disturbed(&self, seconds: u64, side: Side) -> (Bite, Counts) {
        let everybody = 0..self.fleet.len();
        let (before, injected) = (self.fleet.counts(everybody.clone()), self.world.now());
        self.fleet.disturb(everybody.clone(), Rules::both(side));
        self.wait(seconds).await;
        let did = self.fleet.counts(everybody.clone()) - before;
        self.fleet.disturb(everybody, Rules::default());
        (self.bite(injected, did.to_string()), did)
    }

    pub(super) async fn cut_coordinator(&mut self) -> anyhow::Result<Bite> {
        let (injected, before) = (self.world.now(), self.fleet.counts(0..1));
        self.fleet.disturb(0..1, Rules::cut());
        self.wait(30).await;
        let did = self.fleet.counts(0..1) - before;
        let isolated = self.fleet.metric(0, "herenow_coordinator_isolated").await?;
        self.fleet.disturb(0..1, Rules::default());
        ensure!(did.swallowed > 0 && isolated > 0.5, "{did}; isolated: {isolated}");
        Ok(self.bite(injected, format!("{}: {did}; it knew that it was cut off", self.fleet.name(0))))
    }

    pub(super) async fn cut_gateway(&mut self) -> anyhow::Result<Bite> {
        self.sever(60, Rules::cut()).await
    }

    pub(super) async fn refuse_gateway(&mut self) -> anyhow::Result<Bite> {
        self.sever(30, Rules::refuse()).await
    }

    pub(super) async fn mute_gateway(&mut self) -> anyhow::Result<Bite> {
        let up = Side { loss: 1.0, ..Side::default() };
        self.sever(30, Rules { up, ..Rules::default() }).await
    }

    /// It is heard, so that everybody else must see its users rightly; only its own watchers cannot be told.
    pub(super) async fn deafen_gateway(&mut self) -> anyhow::Result<Bite> {
        let gateway = member(0)..member(1);
        let (injected, before) = (self.world.now(), self.fleet.counts(gateway.clone()));
        let down = Side { loss: 1.0, ..Side::default() };
        self.fleet.disturb(gateway.clone(), Rules { down, ..Rules::default() });
        self.wait(30).await;
        let unknown = self.told_unknown();
        let did = self.fleet.counts(gateway.clone()) - before;
        self.fleet.disturb(gateway, Rules::default());
        ensure!(did.lost > 0 && unknown > 0, "{did}; {unknown} pairs told unknown");
        Ok(self.bite(injected, format!("{did}; {unknown} pairs told unknown")))
    }

    /// One gateway, so long that its own watchers are told `unknown`, and that the others take it for dead.
    async fn sever(&self, seconds: u64, rules: Rules) -> anyhow::Result<Bite> {
        let (world, gateway) = (self.world, member(0)..member(1));
        let (injected, before) = (world.now(), self.fleet.counts(gateway.clone()));
        let forced = world.journal.borrow().forced.len();
        self.fleet.disturb(gateway.clone(), rules);
        let off = self.gone_elsewhere(injected + self.short(seconds)).await;
        let unknown = self.told_unknown();
        let did = self.fleet.counts(gateway.clone()) - before;
        self.fleet.disturb(gateway, Rules::default());
        ensure!(did.swallowed + did.lost + did.refused > 0, "nothing was cut");
        let mut misses = Vec::new();
        if rules.up.loss < 1.0 && unknown == 0 {
            misses.push("its clients were not told unknown".to_owned());
        }
        let allowed = world.timers.gateway_timeout + world.timers.grace + world.timers.machine;
        let off = off.map(|moment| moment - injected);
        if off.is_none_or(|after| after > allowed) {
            misses.push(format!("elsewhere its users were not offline within {allowed:?}"));
        }
        if world.journal.borrow().forced.len() > forced {
            misses.push("it closed connections".to_owned());
        }
        let off = off.map_or_else(|| "never".to_owned(), |off| format!("after {} ms", off.as_millis()));
        let proof = format!("{did}; {unknown} pairs told unknown, its users offline elsewhere {off}");
        Ok(Bite { misses, ..self.severed(0, injected, proof) })
    }

    /// Waits until a moment; when, before it, all other watchers first saw that the users of the gateway are gone.
    async fn gone_elsewhere(&self, until: Duration) -> Option<Duration> {
        let others = self.watchers(|gateway| gateway != 0);
        let steady = |user: &User| user.home == 0 && user.habit.is_steady();
        let count = self.world.users.iter().filter(|user| steady(user)).count() * others.len();
        let mut gone = None;
        while self.world.now() < until {
            let off = self.shown_of(&others, steady, |view| {
                matches!(view, View::Known { status: Status::Offline, .. })
            });
            gone = gone.or_else(|| (off == count).then(|| self.world.now()));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        gone
    }

    /// How much its watchers are told that they do not know, of users elsewhere, while they are connected.
    fn told_unknown(&self) -> usize {
        let own = self.watchers(|gateway| gateway == 0);
        self.shown_of(&own, |user| user.home != 0, |view| view == View::Unknown)
    }
}
