//! What happens to wall clocks.

use anyhow::ensure;

use super::{Bite, Scene, member};
use crate::chaos::fleet;
use crate::chaos::timers::MACHINE;

/// Shorter than tokens are good for.
const JUMPS: [&str; 3] = ["+30m", "-30m", "+0"];

impl Scene<'_> {
    /// On, further back, and right again; a coordinator and a gateway, each alone among its like.
    pub(super) async fn jump_clocks(&mut self) -> anyhow::Result<Bite> {
        let injected = self.world.now();
        let mut proof = Vec::new();
        for jump in JUMPS {
            for index in [0, member(0)] {
                fleet::turn(&self.fleet.clock_of(index), jump)?;
            }
            tokio::time::sleep(MACHINE * 2).await;
            let (moved, right) = (self.fleet.date(member(0)).await?, self.fleet.date(member(1)).await?);
            ensure!((jump == "+0") == same_minutes(&moved, &right), "{jump}: {moved} and {right}");
            proof.push(format!("{moved} at {right}"));
            self.wait(15).await;
        }
        Ok(self.bite(injected, proof.join(", ")))
    }
}

/// Whether two dates of HTTP are the same but for a second that may have begun in between.
fn same_minutes(one: &str, other: &str) -> bool {
    let minutes = |date: &str| date.rsplit_once(':').map(|(minutes, _)| minutes.to_owned());
    minutes(one) == minutes(other)
}
