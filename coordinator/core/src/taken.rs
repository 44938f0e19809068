//! Which claims were taken of late. Gateways say a claim again while no answer comes, and a bus may hold one back: what
//! comes once more must not undo what the same gateway claimed there after it.

use std::collections::VecDeque;

use hashbrown::HashMap;
use herenow_protocol::message::{ClaimCommand, ClaimRequest};
use herenow_protocol::{DeviceId, GatewayId, Incarnation, UserKey, WallTime};

/// What a claim replaces: the earlier ones of its kind. Virtual sessions of several names stand beside one another.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Kind {
    Manual,
    Api(Option<DeviceId>),
    Erase,
}

/// Of whom, through which gateway.
type Place = (UserKey, GatewayId, Kind);

/// The last that was taken. Gateways number what they are asked for in that order.
#[derive(Clone, Copy, Debug)]
struct Last {
    number: (Incarnation, u64),
    ends: Option<WallTime>,
}

/// A claim, as it is remembered.
#[derive(Debug)]
pub(crate) struct Mark {
    place: Place,
    number: (Incarnation, u64),
}

impl Mark {
    pub(crate) fn of(request: &ClaimRequest) -> Self {
        let kind = match &request.command {
            ClaimCommand::Manual { .. } => Kind::Manual,
            ClaimCommand::Api { session, .. } => Kind::Api(session.clone()),
            ClaimCommand::Erase => Kind::Erase,
        };
        let place = (request.key, request.origin.gateway.clone(), kind);
        Self { place, number: (request.origin.incarnation, request.request) }
    }
}

/// The last claim of each place, for so many claims.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    last: HashMap<Place, Last>,
    /// In the order they came, also those that were replaced since.
    order: VecDeque<Mark>,
}

impl Taken {
    /// `Some`: this one, a later one of its kind, or a later word to erase all was taken before; with the end that this
    /// one was answered, if it had one.
    pub(crate) fn repeated(&self, mark: &Mark) -> Option<Option<WallTime>> {
        if let Some(last) = self.last.get(&mark.place).filter(|last| mark.number <= last.number) {
            return Some(last.ends.filter(|_| mark.number == last.number));
        }
        let (key, gateway, _) = &mark.place;
        let erased = self.last.get(&(*key, gateway.clone(), Kind::Erase));
        erased.filter(|last| mark.number < last.number).map(|_| None)
    }

    /// A claim was taken, and `ends` answered. Forgets what is longest past where there are more than `most`.
    pub(crate) fn note(&mut self, mark: Mark, ends: Option<WallTime>, most: usize) {
        self.last.insert(mark.place.clone(), Last { number: mark.number, ends });
        self.order.push_back(mark);
        while self.order.len() > most {
            let Some(Mark { place, number }) = self.order.pop_front() else { return };
            if self.last.get(&place).is_some_and(|last| last.number == number) {
                self.last.remove(&place);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use herenow_protocol::id::ProcessId;

    use super::*;

    fn mark(user: u8, kind: Kind, number: u64) -> Mark {
        let gateway = GatewayId { process: ProcessId::new("g").unwrap(), shard: 0 };
        Mark { place: (UserKey::from_bytes([user; 16]), gateway, kind), number: (Incarnation(1), number) }
    }

    #[test]
    fn what_was_taken_or_replaced_is_not_taken_again() {
        let mut taken = Taken::default();
        let ends = Some(WallTime::from_millis(9));
        assert_eq!(taken.repeated(&mark(0, Kind::Manual, 5)), None);
        taken.note(mark(0, Kind::Manual, 5), ends, 9);
        assert_eq!(taken.repeated(&mark(0, Kind::Manual, 5)), Some(ends), "answered the same");
        assert_eq!(taken.repeated(&mark(0, Kind::Manual, 4)), Some(None), "replaced before it came");
        assert_eq!(taken.repeated(&mark(0, Kind::Manual, 6)), None, "a later one");
        assert_eq!(taken.repeated(&mark(0, Kind::Api(None), 4)), None, "another kind");
        assert_eq!(taken.repeated(&mark(1, Kind::Manual, 4)), None, "another user");
        taken.note(mark(0, Kind::Erase, 7), None, 9);
        assert_eq!(taken.repeated(&mark(0, Kind::Api(None), 4)), Some(None), "all was erased after it");
        assert_eq!(taken.repeated(&mark(0, Kind::Api(None), 8)), None);
    }

    #[test]
    fn so_many_are_remembered_and_what_was_replaced_takes_nothing_else_along() {
        let mut taken = Taken::default();
        taken.note(mark(0, Kind::Manual, 1), None, 2);
        taken.note(mark(0, Kind::Manual, 2), None, 2);
        taken.note(mark(1, Kind::Manual, 3), None, 2);
        assert_eq!(taken.repeated(&mark(0, Kind::Manual, 1)), Some(None));
        assert_eq!(taken.repeated(&mark(1, Kind::Manual, 3)), Some(None));
        taken.note(mark(2, Kind::Manual, 4), None, 2);
        assert_eq!(taken.repeated(&mark(0, Kind::Manual, 1)), None, "forgotten");
        assert_eq!((taken.last.len(), taken.order.len()), (2, 2));
    }
}
