//! The coordinators heard of, who should own what (R1), and whether this one is cut off itself (R7).

use std::collections::BTreeMap;
use std::hash::Hasher as _;
use std::time::Duration;

use herenow_protocol::message::CoordinatorBeat;
use herenow_protocol::{CoordinatorId, Incarnation, MonoTime, Partition};
use siphasher::sip::SipHasher24;

#[derive(Debug)]
struct Peer {
    incarnation: Incarnation,
    at: MonoTime,
    ready: bool,
}

/// Everybody who beats, this coordinator among them.
#[derive(Debug)]
pub(crate) struct Peers {
    me: CoordinatorId,
    my_incarnation: Incarnation,
    dead_after: Duration,
    known: BTreeMap<CoordinatorId, Peer>,
    heard_self: MonoTime,
    /// Only a beat of its own with this number or a later one tells this coordinator that it is heard.
    expected: u64,
}

impl Peers {
    pub(crate) fn new(
        me: CoordinatorId,
        incarnation: Incarnation,
        dead_after: Duration,
        now: MonoTime,
    ) -> Self {
        Self {
            me,
            my_incarnation: incarnation,
            dead_after,
            known: BTreeMap::new(),
            heard_self: now,
            expected: 0,
        }
    }

    /// Notes a beat; false when it is of a life that is over.
    pub(crate) fn hear(&mut self, beat: &CoordinatorBeat, now: MonoTime) -> bool {
        if beat.id == self.me && beat.incarnation == self.my_incarnation && beat.number >= self.expected {
            self.heard_self = now;
        }
        let fresh = || Peer { incarnation: beat.incarnation, at: now, ready: beat.ready };
        let peer = self.known.entry(beat.id.clone()).or_insert_with(fresh);
        if beat.incarnation < peer.incarnation {
            return false;
        }
        *peer = fresh();
        true
    }

    /// This coordinator stood still: it is cut off until a beat that it has yet to send comes back.
    pub(crate) fn distrust(&mut self, next: u64) {
        self.heard_self = MonoTime::default();
        self.expected = next;
    }

    /// R7: this coordinator's own beats do not come back.
    pub(crate) fn isolated(&self, now: MonoTime) -> bool {
        now.since(self.heard_self) > self.dead_after
    }

    /// Whether a coordinator was heard of late.
    pub(crate) fn alive(&self, id: &CoordinatorId, now: MonoTime) -> bool {
        self.known.get(id).is_some_and(|peer| now.since(peer.at) <= self.dead_after)
    }

    /// How many were heard of late.
    pub(crate) fn alive_count(&self, now: MonoTime) -> usize {
        self.known.keys().filter(|id| self.alive(id, now)).count()
    }

    /// R1: who should own a partition, by rendezvous hash among those who are ready. A coordinator that joins or
    /// leaves moves only the partitions it wins or held.
    pub(crate) fn winner(&self, partition: Partition, now: MonoTime) -> Option<&CoordinatorId> {
        let ready = self.known.iter().filter(|(id, peer)| peer.ready && self.alive(id, now));
        ready.map(|(id, _)| id).max_by_key(|id| (weight(id, partition), *id))
    }

    /// Forgets who has been gone for long.
    pub(crate) fn prune(&mut self, now: MonoTime) {
        let long = self.dead_after.saturating_mul(60);
        self.known.retain(|_, peer| now.since(peer.at) <= long);
    }
}

/// Fixed keys: every coordinator must come to the same result, and nobody outside chooses the ids.
fn weight(id: &CoordinatorId, partition: Partition) -> u64 {
    let mut hasher = SipHasher24::new_with_keys(0x6865_7265_6e6f_7721, 0x7265_6e64_657a_766f);
    hasher.write(id.as_str().as_bytes());
    hasher.write_u8(partition.0);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use herenow_protocol::id::ProcessId;

    fn beat(name: &str, ready: bool) -> CoordinatorBeat {
        CoordinatorBeat {
            id: ProcessId::new(name).unwrap(),
            incarnation: Incarnation(1),
            number: 1,
            clock: 0,
            ready,
            mourning_ms: 0,
            owned: Vec::new(),
        }
    }

    fn peers(names: &[&str]) -> Peers {
        let me = ProcessId::new("me").unwrap();
        let mut peers = Peers::new(me, Incarnation(1), Duration::from_secs(1), MonoTime::default());
        for name in names {
            peers.hear(&beat(name, true), MonoTime::default());
        }
        peers
    }

    fn winners(peers: &Peers) -> Vec<Option<String>> {
        let now = MonoTime::default();
        (0..=255).map(|p| peers.winner(Partition(p), now).map(ToString::to_string)).collect()
    }

    #[test]
    fn partitions_are_shared_and_one_who_joins_takes_only_what_it_wins() {
        let two = winners(&peers(&["a", "b"]));
        let three = winners(&peers(&["a", "b", "c"]));
        for name in ["a", "b", "c"] {
            let count = three.iter().flatten().filter(|winner| *winner == name).count();
            assert!((50..120).contains(&count), "{name} has {count} of 256");
        }
        for (before, after) in two.iter().zip(&three) {
            assert!(after == before || after.as_deref() == Some("c"));
        }
    }

    #[test]
    fn who_is_not_ready_or_not_heard_wins_nothing() {
        let mut peers = peers(&["a"]);
        peers.hear(&beat("b", false), MonoTime::default());
        assert!(winners(&peers).iter().all(|winner| winner.as_deref() == Some("a")));
        assert_eq!(peers.winner(Partition(0), MonoTime::from_millis(1_001)), None);
    }

    #[test]
    fn a_coordinator_that_does_not_hear_itself_is_isolated() {
        let mut peers = peers(&[]);
        assert!(!peers.isolated(MonoTime::from_millis(1_000)));
        assert!(peers.isolated(MonoTime::from_millis(1_001)));
        peers.hear(&beat("me", true), MonoTime::from_millis(1_500));
        assert!(!peers.isolated(MonoTime::from_millis(2_000)));
    }

    #[test]
    fn an_earlier_life_is_not_heard() {
        let mut peers = peers(&[]);
        let later = CoordinatorBeat { incarnation: Incarnation(2), ..beat("a", true) };
        assert!(peers.hear(&later, MonoTime::default()));
        assert!(!peers.hear(&beat("a", true), MonoTime::default()));
    }
}
