//! One read of the store for all who miss the same user at the same time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::future::{BoxFuture, FutureExt as _, Shared};
use herenow_protocol::UserKey;
use herenow_protocol::record::Record;

use crate::StoreError;

/// What the store has of some users.
pub(super) type Found = Arc<HashMap<UserKey, Option<Record>>>;
/// A read that several wait for.
pub(super) type Flight = Shared<BoxFuture<'static, Result<Found, StoreError>>>;

/// The reads that are on their way.
#[derive(Debug, Default)]
pub(super) struct Flights {
    air: Mutex<Air>,
}

#[derive(Debug, Default)]
struct Air {
    next: u64,
    by_user: HashMap<UserKey, (u64, Flight)>,
}

/// What a caller waits for.
#[derive(Debug)]
pub(super) struct Boarded {
    pub(super) flights: Vec<Flight>,
    /// How many users others were reading already.
    pub(super) joined: usize,
}

impl Flights {
    fn air(&self) -> MutexGuard<'_, Air> {
        self.air.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits with those who read these users already, and begins one read of the others.
    pub(super) fn board(
        &self,
        keys: &[UserKey],
        begin: impl FnOnce(u64, Vec<UserKey>) -> BoxFuture<'static, Result<Found, StoreError>>,
    ) -> Boarded {
        let mut air = self.air();
        let mut flights: HashMap<u64, Flight> = HashMap::new();
        let (mut own, mut joined) = (Vec::new(), 0);
        for key in keys {
            match air.by_user.get(key) {
                Some((number, flight)) => {
                    joined += 1;
                    flights.entry(*number).or_insert_with(|| flight.clone());
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
            air.by_user.extend(own.into_iter().map(|key| (key, (number, flight.clone()))));
            flights.insert(number, flight);
        }
        Boarded { flights: flights.into_values().collect(), joined }
    }

    /// Users of this read whose answer is not older than a write that has ended meanwhile.
    pub(super) fn current(&self, number: u64, keys: &[UserKey]) -> Vec<UserKey> {
        let air = self.air();
        let is_current = |key: &&UserKey| air.by_user.get(*key).is_some_and(|(of, _)| *of == number);
        keys.iter().filter(is_current).copied().collect()
    }

    /// The read has ended.
    pub(super) fn land(&self, number: u64, keys: &[UserKey]) {
        let mut air = self.air();
        for key in keys {
            if air.by_user.get(key).is_some_and(|(of, _)| *of == number) {
                air.by_user.remove(key);
            }
        }
    }

    /// Who comes now must not get what was read before these were written.
    pub(super) fn forget(&self, keys: impl Iterator<Item = UserKey>) {
        let mut air = self.air();
        for key in keys {
            air.by_user.remove(&key);
        }
    }
}
