//! What happens to wall clocks.

use anyhow::ensure;

use super::{Bite, Scene, member};
use crate::chaos::fleet;
use crate::chaos::session;
use crate::chaos::timers::MACHINE;
use crate::clock;

/// Shorter than tokens are good for. In seconds too.
const JUMPS: [(&str, i64); 3] = [("+30m", 1_800), ("-30m", -1_800), ("+0", 0)];
/// How far a clock may be from where it was set, in seconds: the way of an answer on a busy machine.
const NEAR: i64 = 60;
const DAY: i64 = 86_400;

impl Scene<'_> {
    /// On, further back, and right again; a coordinator and a gateway, each alone among its like.
    ///
    /// The proof is the time that the gateway tells its clients. The dates of HTTP are none: they are kept for a second
    /// of the same clock, and so for an hour when it goes back. Of the coordinator they show the way on.
    pub(super) async fn jump_clocks(&mut self) -> anyhow::Result<Bite> {
        let injected = self.world.now();
        let mut proof = Vec::new();
        for (jump, wanted) in JUMPS {
            for index in [0, member(0)] {
                fleet::turn(&self.fleet.clock_of(index), jump)?;
            }
            tokio::time::sleep(MACHINE * 2).await;
            let off = self.off_by(wanted).await?;
            ensure!((off - wanted).abs() < NEAR, "{jump}: {off} s from the clock of another gateway");
            if wanted > 0 {
                let (moved, right) = (self.fleet.date(0).await?, self.fleet.date(1).await?);
                ensure!(!same_minutes(&moved, &right), "the coordinator's clock stayed: {moved} and {right}");
            }
            proof.push(format!("{off} s off"));
            self.wait(15).await;
        }
        Ok(self.bite(injected, proof.join(", then ")))
    }

    /// How many seconds the clock of the first gateway is before that of the second, if it takes a token of the time that
    /// is wanted of it.
    async fn off_by(&self, wanted: i64) -> anyhow::Result<i64> {
        let mut seconds = [0; 2];
        for (gateway, seconds) in seconds.iter_mut().enumerate() {
            let shift = if gateway == 0 { wanted } else { 0 };
            let token =
                self.world.issuer.token_at("clock", clock::unix_seconds().saturating_add_signed(shift))?;
            *seconds = session::server_time(&self.world.gateways[gateway], &token).await?;
        }
        // Of the day, so midnight may lie between them.
        Ok((seconds[0] - seconds[1] + DAY / 2).rem_euclid(DAY) - DAY / 2)
    }
}

/// Whether two dates of HTTP are the same but for a second that may have begun in between.
fn same_minutes(one: &str, other: &str) -> bool {
    let minutes = |date: &str| date.rsplit_once(':').map(|(minutes, _)| minutes.to_owned());
    minutes(one) == minutes(other)
}
