//! The arbiter of the simulated world: it records claims by compare-and-set, and its answers may be late, lost or untrue.

use herenow_coordinator_core::{Input, Recorded};
use herenow_protocol::{Epoch, Partition};
use rand::RngExt as _;

use crate::net::Node;
use crate::process::Packet;
use crate::world::{Event, World};

impl World {
    /// A coordinator that begins reads the record.
    pub(crate) fn load_arbiter(&mut self, index: usize) {
        if self.now < self.arbiter_out_until {
            return;
        }
        let known: Vec<_> =
            self.arbiter.iter().filter_map(|(p, epochs)| Some((*p, *epochs.last()?))).collect();
        for (partition, epoch) in known {
            self.coordinator_input(index, Input::Known { partition, epoch });
        }
    }

    pub(crate) fn record(&mut self, index: usize, partition: Partition, epoch: Epoch) {
        self.claims += 1;
        self.note(|| format!("c{index} claims {partition} {epoch}"));
        if self.now < self.arbiter_out_until {
            return;
        }
        if self.now < self.arbiter_unsure_until {
            self.record_somehow(index, partition, epoch);
            return;
        }
        let outcome = self.compare_and_set(partition, epoch);
        // The record may be made and the answer lost.
        if !self.rng.random_bool(self.net.loss) {
            let after = self.rng.random_range(1..=5);
            self.say_recorded(index, partition, epoch, outcome, after);
        }
    }

    fn compare_and_set(&mut self, partition: Partition, epoch: Epoch) -> Recorded {
        let epochs = self.arbiter.entry(partition).or_default();
        let highest = epochs.last().copied().unwrap_or(Epoch::NONE);
        if epoch > highest {
            epochs.push(epoch);
            Recorded::Yes
        } else {
            Recorded::Conflict(highest)
        }
    }

    /// Whether it was recorded, and whether the coordinator is told so, are two things.
    fn record_somehow(&mut self, index: usize, partition: Partition, epoch: Epoch) {
        let late = self.rng.random_range(100..3_000);
        match self.rng.random_range(0..4) {
            0 => {
                let _ = self.compare_and_set(partition, epoch);
            }
            1 => {
                let _ = self.compare_and_set(partition, epoch);
                self.say_recorded(index, partition, epoch, Recorded::Unavailable, late);
            }
            2 => {
                let outcome = self.compare_and_set(partition, epoch);
                self.say_recorded(index, partition, epoch, outcome, late);
            }
            _ => self.say_recorded(index, partition, epoch, Recorded::Unavailable, late),
        }
    }

    fn say_recorded(
        &mut self,
        index: usize,
        partition: Partition,
        epoch: Epoch,
        outcome: Recorded,
        after: u64,
    ) {
        let node = Node::Coordinator(index);
        let packet = Box::new(Packet::Recorded(partition, epoch, outcome));
        self.at(self.now + after, Event::Arrive(node, self.life(node), packet));
    }
}
