//! Whether all who are told of a user are told parts of one sequence, each forward only, and nothing twice. Pure.

use std::collections::HashMap;

use super::wire::{Record, Version};

/// How somebody was told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum How {
    /// An answer to `watch`; changes that it does not know yet may have come before it (WS-29).
    Snapshot,
    /// A change.
    Presence,
    /// An answer of the owner.
    Poll,
}

/// What must not be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Disorder {
    /// A lower version than before, on one connection or over REST.
    Back,
    /// Not what another one was told of the same version.
    Differs,
    /// A change that changes nothing: it tells that something happened which is not to be seen.
    Hollow,
}

impl Disorder {
    pub(super) const fn words(self) -> &'static str {
        match self {
            Self::Back => "went back to a lower version",
            Self::Differs => "differs from what another was told of this version",
            Self::Hollow => "a change that changes nothing",
        }
    }
}

/// What everybody holds, and what every version was.
#[derive(Debug)]
pub(super) struct Order {
    held: Vec<Vec<Option<Record>>>,
    told: HashMap<(usize, Version), Record>,
}

impl Order {
    pub(super) fn new(watchers: usize, users: usize) -> Self {
        Self { held: vec![vec![None; users]; watchers], told: HashMap::new() }
    }

    /// Somebody is told of a user. What is unknown has no order.
    pub(super) fn tell(&mut self, who: usize, user: usize, record: &Record, how: How) -> Option<Disorder> {
        record.status?;
        let told = self.told.entry((user, record.version.clone())).or_insert_with(|| record.clone());
        let differs = told.content != record.content;
        let held = &mut self.held[who][user];
        let before = held.as_ref();
        // A gateway that cannot hear the owner answers with what it knows.
        let guessed = how == How::Poll && record.stale;
        if before.is_some_and(|before| record.version < before.version) {
            return (how != How::Snapshot && !guessed).then_some(Disorder::Back);
        }
        let hollow = how == How::Presence && before.is_some_and(|before| is_hollow(before, record));
        *held = Some(record.clone());
        match (differs, hollow) {
            (true, _) => Some(Disorder::Differs),
            (false, true) => Some(Disorder::Hollow),
            (false, false) => None,
        }
    }

    /// Whether a client would drop this record, since it holds a newer one.
    pub(super) fn is_late(&self, who: usize, user: usize, record: &Record) -> bool {
        self.held[who][user].as_ref().is_some_and(|held| record.version < held.version)
    }

    /// It comes back as a fresh client that holds nothing.
    pub(super) fn forget(&mut self, who: usize) {
        self.held[who].fill(None);
    }
}

/// A new owner may tell again what the old one told.
fn is_hollow(before: &Record, now: &Record) -> bool {
    let same = before.content == now.content && before.since == now.since && before.stale == now.stale;
    same && before.version.epoch() == now.version.epoch()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn record(status: &str, n: u64, since: u64) -> Value {
        let since = format!("2026-01-31T08:15:{since:02}.000Z");
        let version = format!("0000000000000001{n:012x}");
        json!({"userId": "ana", "status": status, "lastUpdated": since, "version": version})
    }

    fn tell(order: &mut Order, who: usize, record: &Value, how: How) -> Option<Disorder> {
        order.tell(who, 0, &Record::read(record).unwrap(), how)
    }

    #[test]
    fn forward_is_in_order_whatever_is_left_out() {
        let mut order = Order::new(2, 1);
        for (n, status) in [(1, "online"), (2, "idle"), (5, "online")] {
            assert_eq!(tell(&mut order, 0, &record(status, n, n), How::Presence), None);
        }
        for (n, status) in [(2, "idle"), (7, "offline")] {
            assert_eq!(tell(&mut order, 1, &record(status, n, n), How::Presence), None);
        }
    }

    #[test]
    fn back_is_found_but_in_a_late_snapshot() {
        for (how, found) in
            [(How::Presence, Some(Disorder::Back)), (How::Poll, Some(Disorder::Back)), (How::Snapshot, None)]
        {
            let mut order = Order::new(1, 1);
            tell(&mut order, 0, &record("online", 2, 2), how);
            assert_eq!(tell(&mut order, 0, &record("offline", 1, 1), how), found);
        }
        let mut order = Order::new(1, 1);
        tell(&mut order, 0, &record("online", 2, 2), How::Presence);
        order.forget(0);
        assert_eq!(tell(&mut order, 0, &record("offline", 1, 1), How::Presence), None);
    }

    #[test]
    fn one_version_is_one_thing_to_everybody() {
        let mut order = Order::new(2, 1);
        tell(&mut order, 0, &record("online", 2, 2), How::Presence);
        assert_eq!(tell(&mut order, 1, &record("idle", 2, 2), How::Snapshot), Some(Disorder::Differs));
        assert_eq!(tell(&mut order, 1, &record("online", 2, 2), How::Poll), None);
    }

    #[test]
    fn a_change_that_changes_nothing_is_found() {
        let offline = |n| record("offline", n, 1);
        for n in [2, 3] {
            let mut order = Order::new(1, 1);
            tell(&mut order, 0, &offline(2), How::Snapshot);
            assert_eq!(tell(&mut order, 0, &offline(n), How::Presence), Some(Disorder::Hollow));
        }
    }

    #[test]
    fn freshness_time_and_a_new_owner_are_changes() {
        let mut stale = record("offline", 2, 1);
        stale["asOf"] = json!("2026-01-31T08:15:30.123Z");
        let mut later = record("offline", 2, 1);
        later["version"] = json!("0000000000000002000000000001");
        for changed in [stale, later, record("offline", 3, 9)] {
            let mut order = Order::new(1, 1);
            tell(&mut order, 0, &record("offline", 2, 1), How::Presence);
            assert_eq!(tell(&mut order, 0, &changed, How::Presence), None, "{changed}");
        }
    }

    #[test]
    fn the_unknown_has_no_order() {
        let mut order = Order::new(1, 1);
        tell(&mut order, 0, &record("offline", 2, 1), How::Presence);
        assert_eq!(tell(&mut order, 0, &record("unknown", 1, 1), How::Presence), None);
        assert_eq!(tell(&mut order, 0, &record("offline", 2, 1), How::Snapshot), None);
    }
}
