//! What happens to clients.

use anyhow::{Context as _, ensure};

use super::{Bite, Scene};
use crate::chaos::fleet::{self, GATEWAYS};
use crate::chaos::timers::MACHINE;
use crate::chaos::truth::{Moment, Truth};
use crate::chaos::world::Habit;

impl Scene<'_> {
    pub(super) async fn freeze_clients(&mut self) -> anyhow::Result<Bite> {
        let pid = self.clients.as_ref().context("they are started")?.0.id();
        let (injected, timeout) = (self.world.now(), self.world.timers.heartbeat_timeout);
        self.lose_apart(injected + timeout);
        fleet::freeze(pid).await?;
        tokio::time::sleep(timeout + MACHINE * 2).await;
        fleet::thaw(pid)?;
        Ok(self.bite(injected, format!("clients pid {pid} state T")))
    }

    pub(super) async fn kill_clients(&mut self) -> anyhow::Result<Bite> {
        let (injected, grace) = (self.world.now(), self.world.timers.grace);
        self.lose_apart(injected + grace);
        let clients = self.clients.as_mut().context("they are started")?;
        let pid = clients.0.id();
        clients.0.kill()?;
        clients.0.wait()?;
        ensure!(fleet::state(pid).is_none(), "process {pid} is still there");
        tokio::time::sleep(grace + MACHINE).await;
        Ok(self.bite(injected, format!("clients pid {pid} gone")))
    }

    fn lose_apart(&self, until: Moment) {
        let now = self.world.now();
        for (index, user) in self.world.users.iter().enumerate() {
            if user.habit == Habit::Apart {
                self.world.truth(index, now, Truth::Either { until });
            }
        }
    }

    pub(super) async fn reconnect_storm(&mut self) -> anyhow::Result<Bite> {
        let injected = self.world.now();
        let before = self.world.journal.borrow().forced.len();
        self.world.taken.borrow_mut().extend(0..GATEWAYS.len());
        for index in GATEWAYS {
            self.fleet.kill(index).await?;
        }
        self.fleet.restart_all(GATEWAYS).await?;
        let bite = self.bite(injected, "all gateways gone, their ports refuse");
        let cut = self.world.journal.borrow().forced.len() - before;
        ensure!(cut >= self.world.users.len() / 2, "only {cut} connections were cut");
        self.world.taken.borrow_mut().clear();
        Ok(Bite { proof: format!("{}, {cut} connections cut", bite.proof), ..bite })
    }
}
