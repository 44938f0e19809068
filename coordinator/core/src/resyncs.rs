//! How many syncs are asked of one gateway at once (R3), so that a claim of many partitions is no storm.
//!
//! A gateway is asked for a few partitions at a time; each answer makes room for the next question. What is not answered
//! in time makes room too, and is asked again with the next tick: not all of it at the same moment.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

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
    /// Asked, and until when the answer is waited for.
    asked: BTreeMap<Partition, MonoTime>,
    waiting: BTreeSet<Partition>,
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
        lane.asked.retain(|_, until| now < *until);
        if lane.asked.contains_key(&partition) {
            return false;
        }
        if lane.asked.len() >= config.max_resyncs {
            lane.waiting.insert(partition);
            return false;
        }
        let patience = config.resync_timeout;
        let jitter = Duration::from_millis(self.rng.random_range(0..=millis(patience) / 4));
        lane.waiting.remove(&partition);
        lane.asked.insert(partition, now.after(patience + jitter));
        true
    }

    /// The answer came; whose turn it is now.
    pub(crate) fn answered(&mut self, gateway: &GatewayId, partition: Partition) -> Option<Partition> {
        let lane = self.lanes.get_mut(gateway)?;
        lane.asked.remove(&partition);
        lane.waiting.remove(&partition);
        lane.waiting.pop_first()
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
