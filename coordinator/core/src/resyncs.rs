//! How many syncs are asked of one gateway at once (R3), so that a claim of many partitions is no storm.
//!
//! A gateway is asked for a few partitions at a time; each answer makes room for the next question. What is not answered
//! in time makes room too, and is asked again with the next tick: not all of it at the same moment.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use herenow_protocol::patience::Patience;
use herenow_protocol::time::millis;
use herenow_protocol::{GatewayId, MonoTime, Partition};
use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng as _;

use crate::Config;

/// The questions to all gateways. No larger than gateways times partitions.
#[derive(Debug)]
pub(crate) struct Resyncs {
    lanes: BTreeMap<GatewayId, Lane>,
    rng: ChaCha8Rng,
}

#[derive(Debug, Default)]
struct Lane {
    asked: BTreeMap<Partition, Asked>,
    waiting: BTreeSet<Partition>,
    patience: Patience,
}

#[derive(Clone, Copy, Debug)]
struct Asked {
    /// The first time.
    at: MonoTime,
    /// Until then the answer is waited for.
    until: MonoTime,
}

impl Resyncs {
    pub(crate) fn new(seed: u64) -> Self {
        Self { lanes: BTreeMap::new(), rng: ChaCha8Rng::seed_from_u64(seed) }
    }

    /// Whether to ask now. If not, because enough is asked, it waits for its turn.
    pub(crate) fn want(
        &mut self,
        gateway: &GatewayId,
        partition: Partition,
        now: MonoTime,
        config: &Config,
    ) -> bool {
        let lane = self.lanes.entry(gateway.clone()).or_default();
        // Not asked again since, it was answered by something else.
        lane.asked.retain(|_, asked| now < asked.until.after(config.resync_timeout * 4));
        let before = lane.asked.get(&partition).copied();
        if before.is_some_and(|asked| now < asked.until) {
            return false;
        }
        if lane.asked.values().filter(|asked| now < asked.until).count() >= config.max_resyncs {
            lane.waiting.insert(partition);
            return false;
        }
        let patience = lane.patience.again(config.resync_timeout);
        let jitter = Duration::from_millis(self.rng.random_range(0..=millis(patience) / 4));
        lane.waiting.remove(&partition);
        let at = before.map_or(now, |asked| asked.at);
        lane.asked.insert(partition, Asked { at, until: now.after(patience + jitter) });
        true
    }

    /// The answer came; whose turn it is now.
    pub(crate) fn answered(
        &mut self,
        gateway: &GatewayId,
        partition: Partition,
        now: MonoTime,
    ) -> Option<Partition> {
        let lane = self.lanes.get_mut(gateway)?;
        if let Some(asked) = lane.asked.remove(&partition) {
            lane.patience.answered(now.since(asked.at));
        }
        lane.waiting.remove(&partition);
        lane.waiting.pop_first()
    }

    /// How long what this gateway's beats tell of may be under way.
    pub(crate) fn tail(&self, gateway: &GatewayId, config: &Config) -> Duration {
        let patience = self.lanes.get(gateway).map(|lane| lane.patience).unwrap_or_default();
        patience.tail(config.tail_patience)
    }

    /// The gateway is gone, or lives anew.
    pub(crate) fn forget(&mut self, gateway: &GatewayId) {
        self.lanes.remove(gateway);
    }

    /// What was asked for a partition before it was claimed anew counts no longer.
    pub(crate) fn claimed(&mut self, partition: Partition) {
        for lane in self.lanes.values_mut() {
            lane.asked.remove(&partition);
            lane.waiting.remove(&partition);
        }
    }

    /// Brings questions into another order each time, so that none is always the last.
    pub(crate) fn rotate<T>(&mut self, questions: &mut [T]) {
        if !questions.is_empty() {
            questions.rotate_left(self.rng.random_range(0..questions.len()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gateway() -> GatewayId {
        let process = herenow_protocol::id::ProcessId::new("g").unwrap();
        GatewayId { process, shard: 0 }
    }

    #[test]
    fn a_gateway_that_answers_slowly_is_asked_again_later() {
        let (config, gateway) = (Config::default(), gateway());
        let mut resyncs = Resyncs::new(7);
        let mut ms = 0;
        let mut asked_within = |resyncs: &mut Resyncs, within: u64| {
            let asked = (ms..ms + within)
                .filter(|ms| resyncs.want(&gateway, Partition(1), MonoTime::from_millis(*ms), &config))
                .count();
            ms += within;
            resyncs.answered(&gateway, Partition(1), MonoTime::from_millis(ms));
            asked
        };
        assert!((5..=7).contains(&asked_within(&mut resyncs, 1_000)));
        for _ in 0..50 {
            asked_within(&mut resyncs, 1_000);
        }
        assert_eq!(asked_within(&mut resyncs, 1_000), 2);
    }
}
