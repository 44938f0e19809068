//! What waits to be written: the last wish of each user, in the order in which users came.
//!
//! In order, since what came first is the oldest that a kill would lose, and whoever changes all the time must not keep
//! others waiting.

use std::collections::{BTreeMap, HashMap};

use herenow_protocol::record::Record;
use herenow_protocol::{MonoTime, UserKey, Version};

/// What is to become of a user's record.
pub(super) enum Wish {
    Keep(Box<Record>),
    Forget(Version),
}

/// A wish that is being carried out.
pub(super) struct Taken {
    pub(super) key: UserKey,
    pub(super) wish: Wish,
    place: Place,
}

impl Taken {
    /// Since when the user waited.
    pub(super) const fn since(&self) -> MonoTime {
        self.place.0
    }
}

/// A place in the order: since when, and a number for those who came at the same time.
type Place = (MonoTime, u64);

/// The wishes that wait.
#[derive(Default)]
pub(super) struct Waiting {
    users: HashMap<UserKey, (Place, Wish)>,
    /// The same users, the first in front.
    order: BTreeMap<Place, UserKey>,
    /// How many places were given.
    places: u64,
}

/// What became of a wish.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Taking {
    /// It waits.
    Taken,
    /// It waits, in place of somebody else's change, which is dropped.
    InPlace,
    /// There was no room: it is dropped.
    Dropped,
}

impl Waiting {
    /// How many users wait.
    pub(super) fn len(&self) -> usize {
        self.users.len()
    }

    /// Since when the first waits.
    pub(super) fn oldest(&self) -> Option<MonoTime> {
        self.order.first_key_value().map(|((since, _), _)| *since)
    }

    /// Takes a wish, in place of an earlier one about the same user. Where as many wait as may, `most`, a change is
    /// dropped; for somebody who is to be forgotten there is always room, as long as changes of others wait.
    pub(super) fn wish(&mut self, key: UserKey, wish: Wish, most: usize, now: MonoTime) -> Taking {
        if let Some((_, earlier)) = self.users.get_mut(&key) {
            *earlier = wish;
            return Taking::Taken;
        }
        let full = self.users.len() >= most;
        if full && !self.make_room(&wish) {
            return Taking::Dropped;
        }
        self.places += 1;
        self.insert(key, (now, self.places), wish);
        if full { Taking::InPlace } else { Taking::Taken }
    }

    /// Drops the change of somebody else for an erasure.
    fn make_room(&mut self, wish: &Wish) -> bool {
        if matches!(wish, Wish::Keep(_)) {
            return false;
        }
        let change = self.users.values().find(|(_, other)| matches!(other, Wish::Keep(_)));
        let Some(key) = change.and_then(|(place, _)| self.order.remove(place)) else { return false };
        self.users.remove(&key).is_some()
    }

    fn insert(&mut self, key: UserKey, place: Place, wish: Wish) {
        self.users.insert(key, (place, wish));
        self.order.insert(place, key);
    }

    /// The first that wait, at most so many, and of those that have waited since `until` or longer.
    pub(super) fn take(&mut self, most: usize, until: MonoTime) -> Vec<Taken> {
        let mut taken = Vec::new();
        while taken.len() < most
            && let Some(first) = self.order.first_entry()
            && first.key().0 <= until
        {
            let key = first.remove();
            taken.extend(self.users.remove(&key).map(|(place, wish)| Taken { key, wish, place }));
        }
        taken
    }

    /// Takes back what could not be written, to the front. What has come since is newer, and is as urgent. These users
    /// were counted already, so there is room for them.
    pub(super) fn put_back(&mut self, taken: Vec<Taken>) {
        for Taken { key, wish, place } in taken {
            let newer = self.users.remove(&key).map(|(later, newer)| {
                self.order.remove(&later);
                newer
            });
            self.insert(key, place, newer.unwrap_or(wish));
        }
    }
}

#[cfg(test)]
mod tests {
    use herenow_store::testing::{key, record};

    use super::*;

    const fn at(ms: u64) -> MonoTime {
        MonoTime::from_millis(ms)
    }

    /// A wish that is known again by its number.
    fn forget(n: u64) -> Wish {
        Wish::Forget(Version { n, ..Version::default() })
    }

    fn waiting(users: &[(&str, u64)]) -> Waiting {
        let mut waiting = Waiting::default();
        for (number, (user, ms)) in (1..).zip(users) {
            assert_eq!(waiting.wish(key(user), forget(number), 10, at(*ms)), Taking::Taken);
        }
        waiting
    }

    fn take(waiting: &mut Waiting, most: usize, until: u64) -> Vec<(UserKey, u64)> {
        let taken = waiting.take(most, at(until));
        let number = |wish: &Wish| match wish {
            Wish::Keep(record) => record.written.n,
            Wish::Forget(version) => version.n,
        };
        taken.iter().map(|taken| (taken.key, number(&taken.wish))).collect()
    }

    #[test]
    fn who_came_first_is_first_whoever_changes_again() {
        let mut waiting = waiting(&[("ana", 10), ("ben", 20), ("ana", 30), ("cleo", 40)]);
        assert_eq!((waiting.len(), waiting.oldest()), (3, Some(at(10))));
        assert_eq!(take(&mut waiting, 2, 40), [(key("ana"), 3), (key("ben"), 2)]);
        assert_eq!(waiting.oldest(), Some(at(40)));
    }

    #[test]
    fn only_what_waits_since_a_moment_is_taken() {
        let mut waiting = waiting(&[("ana", 10), ("ben", 20), ("cleo", 21)]);
        assert_eq!(take(&mut waiting, 9, 20), [(key("ana"), 1), (key("ben"), 2)]);
        assert_eq!(take(&mut waiting, 9, 20), []);
        assert_eq!(take(&mut waiting, 9, 21), [(key("cleo"), 3)]);
        assert_eq!((waiting.len(), waiting.oldest()), (0, None));
    }

    #[test]
    fn what_could_not_be_written_is_first_again_unless_something_newer_has_come() {
        let mut waiting = waiting(&[("ana", 10), ("ben", 20), ("cleo", 30)]);
        let taken = waiting.take(2, at(30));
        waiting.wish(key("ben"), forget(9), 10, at(40));
        waiting.put_back(taken);
        assert_eq!((waiting.len(), waiting.oldest()), (3, Some(at(10))));
        assert_eq!(take(&mut waiting, 9, 40), [(key("ana"), 1), (key("ben"), 9), (key("cleo"), 3)]);
        assert_eq!(waiting.oldest(), None);
    }

    /// However long the store is away, and whoever changes meanwhile: there is one place for each who waits.
    #[test]
    fn nothing_grows_while_the_store_fails() {
        let mut waiting = waiting(&[("ana", 10), ("ben", 20), ("cleo", 30)]);
        for round in 0..100 {
            let taken = waiting.take(2, at(1_000));
            waiting.wish(key("ana"), forget(round), 3, at(1_000 + round));
            waiting.wish(key("ben"), forget(round), 3, at(1_000 + round));
            waiting.put_back(taken);
            assert_eq!((waiting.users.len(), waiting.order.len()), (3, 3), "round {round}");
        }
        assert_eq!(take(&mut waiting, 9, 30), [(key("ana"), 99), (key("ben"), 99), (key("cleo"), 3)]);
    }

    #[test]
    fn one_more_than_may_wait_is_dropped_and_an_erasure_takes_the_place_of_a_change() {
        let mut waiting = Waiting::default();
        let keep = || Wish::Keep(Box::new(record("ana", Version::default())));
        let mut wish = |user, wish| waiting.wish(key(user), wish, 2, at(1));
        assert_eq!((wish("ana", keep()), wish("ben", keep())), (Taking::Taken, Taking::Taken));
        assert_eq!(wish("cleo", keep()), Taking::Dropped);
        assert_eq!(wish("ben", forget(5)), Taking::Taken, "who waits may change its mind");
        assert_eq!((wish("cleo", forget(6)), wish("dan", forget(7))), (Taking::InPlace, Taking::Dropped));
        assert_eq!(waiting.order.len(), 2, "who was dropped has no place");
        assert_eq!(take(&mut waiting, 9, 1), [(key("ben"), 5), (key("cleo"), 6)]);
    }
}
