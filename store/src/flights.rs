//! One read of the store for all who miss the same user at the same time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::future::{BoxFuture, FutureExt as _, Shared, try_join_all};
use herenow_protocol::UserKey;
use herenow_protocol::record::Record;

use crate::StoreError;

/// Users that are looked at before others have their turn.
#[cfg(feature = "near")]
const LOCKED: usize = 256;

/// What the store has of some users.
pub(crate) type Found = Arc<HashMap<UserKey, Option<Record>>>;
/// A read that several wait for.
pub(crate) type Flight = Shared<BoxFuture<'static, Result<Found, StoreError>>>;

/// The reads that are on their way.
#[derive(Debug, Default)]
pub(crate) struct Flights {
    air: Mutex<Air>,
}

#[derive(Debug, Default)]
struct Air {
    next: u64,
    by_user: HashMap<UserKey, (u64, Flight)>,
}

/// What a caller waits for.
#[derive(Debug)]
pub(crate) struct Boarded {
    /// Each with the users that it was boarded for. It carries others' too, some of whom were written since.
    flights: Vec<(Flight, Vec<UserKey>)>,
    /// How many users others were reading already.
    pub(crate) joined: usize,
}

impl Boarded {
    /// What was read, once all have landed.
    pub(crate) async fn landed(self) -> Result<HashMap<UserKey, Option<Record>>, StoreError> {
        let (flights, users): (Vec<_>, Vec<_>) = self.flights.into_iter().unzip();
        let mut records = HashMap::with_capacity(users.iter().map(Vec::len).sum());
        for (found, users) in try_join_all(flights).await?.into_iter().zip(users) {
            let of = |key| found.get(&key).map(|record| (key, record.clone()));
            records.extend(users.into_iter().filter_map(of));
        }
        Ok(records)
    }
}

impl Flights {
    fn air(&self) -> MutexGuard<'_, Air> {
        self.air.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits with those who read these users already, and begins one read of the others.
    pub(crate) fn board(
        &self,
        keys: &[UserKey],
        begin: impl FnOnce(u64, Vec<UserKey>) -> BoxFuture<'static, Result<Found, StoreError>>,
    ) -> Boarded {
        let mut air = self.air();
        let mut flights: HashMap<u64, (Flight, Vec<UserKey>)> = HashMap::new();
        let (mut own, mut joined) = (Vec::new(), 0);
        for key in keys {
            match air.by_user.get(key) {
                Some((number, flight)) => {
                    joined += 1;
                    flights.entry(*number).or_insert_with(|| (flight.clone(), Vec::new())).1.push(*key);
                }
                None => own.push(*key),
            }
        }
        if !own.is_empty() {
            own.sort_unstable();
            own.dedup();
            let number = air.next;
            air.next += 1;
            let flight = begin(number, own.clone()).shared();
            air.by_user.extend(own.iter().map(|key| (*key, (number, flight.clone()))));
            flights.insert(number, (flight, own));
        }
        Boarded { flights: flights.into_values().collect(), joined }
    }

    /// Does something for each user of this read whose answer is not older than a write that has ended meanwhile; while
    /// it is done, none ends.
    #[cfg(feature = "near")]
    pub(crate) fn for_current(&self, number: u64, keys: &[UserKey], mut then: impl FnMut(UserKey)) {
        for some in keys.chunks(LOCKED) {
            let air = self.air();
            for key in some {
                if air.by_user.get(key).is_some_and(|(of, _)| *of == number) {
                    then(*key);
                }
            }
        }
    }

    /// Users of this read whose answer is not older than a write that has ended meanwhile.
    #[cfg(feature = "redis")]
    pub(crate) fn current(&self, number: u64, keys: &[UserKey]) -> Vec<UserKey> {
        let air = self.air();
        let is_current = |key: &&UserKey| air.by_user.get(*key).is_some_and(|(of, _)| *of == number);
        keys.iter().filter(is_current).copied().collect()
    }

    /// The read has ended.
    pub(crate) fn land(&self, number: u64, keys: &[UserKey]) {
        let mut air = self.air();
        for key in keys {
            if air.by_user.get(key).is_some_and(|(of, _)| *of == number) {
                air.by_user.remove(key);
            }
        }
    }

    /// Who comes now must not get what was read before these were written.
    pub(crate) fn forget(&self, keys: impl Iterator<Item = UserKey>) {
        let mut air = self.air();
        // As mostly: nobody reads anybody.
        if air.by_user.is_empty() {
            return;
        }
        for key in keys {
            air.by_user.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::future::ready;

    use super::*;
    use crate::testing::{key, record, version};

    fn found(names: &[&str], n: u64) -> BoxFuture<'static, Result<Found, StoreError>> {
        let records = names.iter().map(|name| (key(name), Some(record(name, version(1, n)))));
        ready(Ok(Arc::new(records.collect()))).boxed()
    }

    #[tokio::test]
    async fn a_user_that_was_written_is_not_taken_from_the_read_that_another_user_waits_for() {
        for _ in 0..20 {
            let flights = Flights::default();
            drop(flights.board(&[key("ana"), key("ben")], |_, _| found(&["ana", "ben"], 1)));
            flights.forget([key("ana")].into_iter());
            let boarded = flights.board(&[key("ana"), key("ben")], |_, _| found(&["ana"], 2));
            assert_eq!(boarded.joined, 1);
            let landed = boarded.landed().await.unwrap();
            assert_eq!(landed[&key("ana")], Some(record("ana", version(1, 2))));
            assert_eq!(landed[&key("ben")], Some(record("ben", version(1, 1))));
        }
    }
}
