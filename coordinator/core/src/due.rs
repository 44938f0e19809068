//! What falls due, when, and in which partitions: an input costs what it touches, however many partitions there are.
//!
//! [`crate::ownership::Ownership`] notes which partitions it has let somebody change. What is due in those is asked anew
//! before anybody wants to know, and nowhere else.

use std::collections::BTreeMap;

use herenow_protocol::{MonoTime, Partition};

use crate::Config;
use crate::partition::PartitionState;

/// What a partition waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Due {
    /// When something is to be told, or written.
    tell: Option<MonoTime>,
    /// When something ends by itself.
    end: Option<MonoTime>,
    /// How many wait for their turn to be shown offline.
    fading: usize,
}

impl PartitionState {
    pub(crate) fn due(&self, config: &Config) -> Due {
        let keep = self.has_to_keep().then(MonoTime::default);
        let tell = keep.or_else(|| self.publish_due(config));
        Due { tell, end: self.next_timer(), fading: self.fading.len() }
    }
}

/// What all partitions wait for.
#[derive(Debug, Default)]
pub(crate) struct Dues {
    each: BTreeMap<Partition, Due>,
    tell: Times,
    end: Times,
    fading: BTreeMap<Partition, usize>,
}

impl Dues {
    pub(crate) fn set(&mut self, partition: Partition, due: Due) {
        let before = self.each.insert(partition, due).unwrap_or_default();
        self.tell.shift(partition, before.tell, due.tell);
        self.end.shift(partition, before.end, due.end);
        if due.fading > 0 {
            self.fading.insert(partition, due.fading);
        } else if before.fading > 0 {
            self.fading.remove(&partition);
        }
    }

    pub(crate) fn get(&self, partition: Partition) -> Due {
        self.each.get(&partition).copied().unwrap_or_default()
    }

    /// When something is to be told next.
    pub(crate) fn next_tell(&self) -> Option<MonoTime> {
        self.tell.first()
    }

    /// When something ends by itself next.
    pub(crate) fn next_end(&self) -> Option<MonoTime> {
        self.end.first()
    }

    /// Where something is to be told by now.
    pub(crate) fn to_tell(&self, now: MonoTime) -> Partitions {
        self.tell.by(now)
    }

    /// Where something ends by itself by now.
    pub(crate) fn to_end(&self, now: MonoTime) -> Partitions {
        self.end.by(now)
    }

    /// The partition after `last`, in a ring, in which somebody is to be shown offline, and how many there are.
    pub(crate) fn next_fading(&self, last: Option<Partition>) -> Option<(Partition, usize)> {
        let after = self.fading.iter().find(|(partition, _)| last.is_none_or(|last| **partition > last));
        after.or_else(|| self.fading.first_key_value()).map(|(partition, count)| (*partition, *count))
    }
}

/// At most one time for each partition, the first in front.
#[derive(Debug, Default)]
struct Times(Vec<(MonoTime, Partition)>);

impl Times {
    fn shift(&mut self, partition: Partition, from: Option<MonoTime>, to: Option<MonoTime>) {
        if from == to {
            return;
        }
        let place = |times: &[_], time| times.binary_search(&(time, partition));
        if let Some(Ok(at)) = from.map(|time| place(&self.0, time)) {
            self.0.remove(at);
        }
        if let Some((time, Err(at))) = to.map(|time| (time, place(&self.0, time))) {
            self.0.insert(at, (time, partition));
        }
    }

    fn first(&self) -> Option<MonoTime> {
        self.0.first().map(|(time, _)| *time)
    }

    fn by(&self, now: MonoTime) -> Partitions {
        let mut partitions = Partitions::default();
        self.0.iter().take_while(|(time, _)| *time <= now).for_each(|(_, at)| partitions.insert(*at));
        partitions
    }
}

/// Some of the 256 partitions there can be, each once. It yields them in their order.
#[derive(PartialEq, Eq, Debug, Default)]
pub(crate) struct Partitions([u64; 4]);

impl Partitions {
    pub(crate) fn insert(&mut self, partition: Partition) {
        if let Some(word) = self.0.get_mut(partition.index() / 64) {
            *word |= 1 << (partition.index() % 64);
        }
    }
}

impl Iterator for Partitions {
    type Item = Partition;

    fn next(&mut self) -> Option<Partition> {
        let (at, word) = self.0.iter_mut().enumerate().find(|(_, word)| **word != 0)?;
        let bit = word.trailing_zeros() as usize;
        *word &= *word - 1;
        u8::try_from(at * 64 + bit).ok().map(Partition)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(ms: u64) -> MonoTime {
        MonoTime::from_millis(ms)
    }

    fn told(ms: u64) -> Due {
        Due { tell: Some(at(ms)), ..Due::default() }
    }

    #[test]
    fn what_is_due_comes_in_the_order_of_partitions() {
        let mut dues = Dues::default();
        for (partition, ms) in [(255, 5), (64, 7), (0, 9), (63, 20)] {
            dues.set(Partition(partition), told(ms));
        }
        assert_eq!(dues.next_tell(), Some(at(5)));
        assert_eq!(dues.to_tell(at(4)).count(), 0);
        assert_eq!(dues.to_tell(at(9)).collect::<Vec<_>>(), [Partition(0), Partition(64), Partition(255)]);
        assert_eq!((dues.next_end(), dues.to_end(at(9)).count()), (None, 0));
    }

    #[test]
    fn what_a_partition_waits_for_replaces_what_it_waited_for() {
        let mut dues = Dues::default();
        dues.set(Partition(3), Due { end: Some(at(8)), ..told(5) });
        dues.set(Partition(4), told(5));
        dues.set(Partition(3), told(6));
        assert_eq!((dues.next_tell(), dues.next_end()), (Some(at(5)), None));
        dues.set(Partition(4), Due::default());
        assert_eq!(dues.next_tell(), Some(at(6)));
        dues.set(Partition(3), Due::default());
        assert_eq!((dues.next_tell(), dues.get(Partition(3))), (None, Due::default()));
    }

    #[test]
    fn those_who_are_to_be_shown_offline_have_their_turns_in_a_ring() {
        let mut dues = Dues::default();
        assert_eq!(dues.next_fading(None), None);
        for (partition, fading) in [(2, 20), (9, 90)] {
            dues.set(Partition(partition), Due { fading, ..Due::default() });
        }
        assert_eq!(dues.next_fading(None), Some((Partition(2), 20)));
        assert_eq!(dues.next_fading(Some(Partition(2))), Some((Partition(9), 90)));
        assert_eq!(dues.next_fading(Some(Partition(9))), Some((Partition(2), 20)));
        dues.set(Partition(2), Due::default());
        assert_eq!(dues.next_fading(Some(Partition(9))), Some((Partition(9), 90)));
    }
}
