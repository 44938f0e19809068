//! Users whose entry in the cache may be older than the store, as far as this process knows: while it writes them, and
//! after it could not tell the cache.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use herenow_protocol::{UserKey, Version};

/// What the cache has to be told.
#[derive(Debug)]
pub(super) struct Debts {
    most: usize,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    /// How many writes of a user are on their way.
    writing: HashMap<UserKey, u32>,
    /// What could not be told: the entry is at least this old.
    owed: HashMap<UserKey, Version>,
    /// More was owed than may be kept: nothing in the cache is believed.
    all: bool,
}

/// What to tell the cache next.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Payment {
    /// That everything in it is void.
    All,
    /// That entries older than these are void.
    Users(Vec<(UserKey, Version)>),
}

impl Debts {
    pub(super) fn new(most: usize) -> Self {
        Self { most, kept: Mutex::default() }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to write users. Until the answer is settled, whatever becomes of it, they are owed.
    pub(super) fn write(&self, users: Vec<(UserKey, Version)>) -> Writing<'_> {
        let mut kept = self.kept();
        kept.writing.reserve(users.len());
        for (key, _) in &users {
            *kept.writing.entry(*key).or_default() += 1;
        }
        Writing { debts: self, users, settled: false }
    }

    /// Splits users into those whose entries may be believed and the others.
    pub(super) fn believed(&self, keys: &[UserKey]) -> (Vec<UserKey>, Vec<UserKey>) {
        let kept = self.kept();
        let doubted =
            |key: &UserKey| kept.all || kept.owed.contains_key(key) || kept.writing.contains_key(key);
        keys.iter().copied().partition(|key| !doubted(key))
    }

    /// How many users are owed; `usize::MAX`: all.
    pub(super) fn owed(&self) -> usize {
        let kept = self.kept();
        if kept.all { usize::MAX } else { kept.owed.len() }
    }

    /// What to tell the cache next, of at most so many users; `None`: nothing.
    pub(super) fn next(&self, at_most: usize) -> Option<Payment> {
        let kept = self.kept();
        if kept.all {
            return Some(Payment::All);
        }
        let users: Vec<_> = kept.owed.iter().take(at_most).map(|(key, at)| (*key, *at)).collect();
        (!users.is_empty()).then_some(Payment::Users(users))
    }

    /// The cache was told.
    pub(super) fn paid(&self, payment: &Payment) {
        let mut kept = self.kept();
        match payment {
            Payment::All => {
                kept.all = false;
                kept.owed.clear();
            }
            Payment::Users(users) => {
                for (key, at) in users {
                    // One that came meanwhile stays owed.
                    if kept.owed.get(key) == Some(at) {
                        kept.owed.remove(key);
                    }
                }
            }
        }
    }

    fn written(&self, users: &[(UserKey, Version)], settled: bool) {
        let mut kept = self.kept();
        for (key, at) in users {
            if let Some(count) = kept.writing.get_mut(key) {
                *count -= 1;
                if *count == 0 {
                    kept.writing.remove(key);
                }
            }
            if !settled && !kept.all {
                let owed = kept.owed.entry(*key).or_default();
                *owed = (*owed).max(*at);
            }
        }
        if kept.owed.len() > self.most {
            kept.owed = HashMap::new();
            kept.all = true;
        }
    }
}

/// Users that are being written. Dropped without [`Self::settle`], they are owed.
#[derive(Debug)]
pub(super) struct Writing<'a> {
    debts: &'a Debts,
    users: Vec<(UserKey, Version)>,
    settled: bool,
}

impl Writing<'_> {
    /// The cache has what the store has.
    pub(super) fn settle(mut self) {
        self.settled = true;
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.debts.written(&self.users, self.settled);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{key, version};

    fn users(names: &[&str]) -> Vec<(UserKey, Version)> {
        names.iter().map(|name| (key(name), version(1, 1))).collect()
    }

    #[test]
    fn who_is_written_is_doubted_and_afterwards_believed_when_it_was_settled() {
        let debts = Debts::new(10);
        let (ana, ben) = (key("ana"), key("ben"));
        let first = debts.write(users(&["ana"]));
        let second = debts.write(users(&["ana"]));
        assert_eq!(debts.believed(&[ana, ben]), (vec![ben], vec![ana]));
        first.settle();
        assert_eq!(debts.believed(&[ana]).1, [ana], "the other still writes");
        second.settle();
        assert_eq!(debts.believed(&[ana]).0, [ana]);
        assert_eq!(debts.next(10), None);
    }

    #[test]
    fn what_was_not_settled_is_owed_until_it_is_paid() {
        let debts = Debts::new(10);
        drop(debts.write(users(&["ana", "ben"])));
        assert_eq!(debts.owed(), 2);
        let payment = debts.next(10).unwrap();
        // A newer one while the cache was being told.
        drop(debts.write(vec![(key("ana"), version(1, 2))]));
        debts.paid(&payment);
        assert_eq!(debts.next(10), Some(Payment::Users(vec![(key("ana"), version(1, 2))])));
    }

    #[test]
    fn one_more_than_may_be_owed_makes_all_doubtful() {
        let debts = Debts::new(2);
        drop(debts.write(users(&["ana", "ben"])));
        assert_eq!(debts.believed(&[key("cleo")]).0.len(), 1);
        drop(debts.write(users(&["dora"])));
        assert_eq!(debts.believed(&[key("cleo")]).1.len(), 1);
        assert_eq!(debts.next(1), Some(Payment::All));
        debts.paid(&Payment::All);
        assert_eq!((debts.owed(), debts.believed(&[key("ana")]).0.len()), (0, 1));
    }
}
