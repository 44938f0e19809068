//! The sessions of one user. Nearly everybody has one, which needs no memory of its own.

use crate::Slot;

/// Slots in the order of their sessions' beginnings, until one leaves.
#[derive(Debug)]
pub(crate) enum Slots {
    One(Slot),
    Many(Box<[Slot]>),
}

const _: () = assert!(size_of::<Slots>() == 16);

impl Slots {
    pub(crate) fn as_slice(&self) -> &[Slot] {
        match self {
            Self::One(slot) => std::slice::from_ref(slot),
            Self::Many(slots) => slots,
        }
    }

    pub(crate) fn push(&mut self, slot: Slot) {
        match self {
            Self::One(first) => *self = Self::Many(Box::new([*first, slot])),
            Self::Many(slots) => *slots = slots.iter().copied().chain([slot]).collect(),
        }
    }

    /// Takes a slot out; true when it was the last one.
    pub(crate) fn remove(&mut self, slot: Slot) -> bool {
        match self {
            Self::One(only) => *only == slot,
            Self::Many(slots) => {
                let rest: Box<[Slot]> = slots.iter().copied().filter(|other| *other != slot).collect();
                *self = if let [only] = rest[..] { Self::One(only) } else { Self::Many(rest) };
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_left_is_there_and_the_last_one_is_told() {
        let mut slots = Slots::One(Slot(1));
        assert!(!slots.remove(Slot(9)));
        slots.push(Slot(2));
        slots.push(Slot(3));
        assert_eq!(slots.as_slice(), [Slot(1), Slot(2), Slot(3)]);
        assert!(!slots.remove(Slot(1)) && !slots.remove(Slot(9)));
        assert_eq!(slots.as_slice(), [Slot(2), Slot(3)]);
        assert!(!slots.remove(Slot(3)));
        assert!(matches!(slots, Slots::One(Slot(2))), "{slots:?}");
        assert!(slots.remove(Slot(2)));
    }
}
