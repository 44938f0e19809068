//! What is true of a user, as far as its client can know: a set of what may be shown without being wrong.

use super::plan::Moment;

/// A set of statuses, or of what a device may be taken for. It has one member where the truth is certain.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct May(u8);

impl May {
    pub(super) const OFF: Self = Self(1);
    pub(super) const IDLE: Self = Self(2);
    pub(super) const ON: Self = Self(4);

    pub(super) const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(super) const fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// The members of the set.
    pub(super) fn each(self) -> impl Iterator<Item = Self> {
        [Self::OFF, Self::IDLE, Self::ON].into_iter().filter(move |one| self.has(*one))
    }

    /// What a user may be shown as, of whose devices one may be this and one that: the most active counts.
    fn with(self, other: Self) -> Self {
        let pairs = self.each().flat_map(|one| other.each().map(move |two| Self(one.0.max(two.0))));
        pairs.fold(Self(0), Self::or)
    }

    /// The same in words, for people.
    pub(super) fn words(self) -> String {
        let word = |one| match one {
            Self::OFF => "offline",
            Self::IDLE => "idle",
            Self::ON => "online",
            _ => "unknown",
        };
        let words: Vec<_> = self.each().map(word).collect();
        if words.is_empty() { "unknown".to_owned() } else { words.join(" or ") }
    }
}

/// A user's devices, of which two can be there at once, and what follows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Truth {
    devices: [May; 2],
    pub(super) may: May,
    /// When `may` began, by the schedule: what is late is timed from here.
    pub(super) since: Moment,
    /// Until when each of offline, idle and online can still be an echo of what was true.
    echo: [Moment; 3],
}

impl Default for Truth {
    fn default() -> Self {
        Self { devices: [May::OFF; 2], may: May::OFF, since: 0, echo: [0; 3] }
    }
}

impl Truth {
    /// A device may now be taken for this. `since` is when that was meant to begin. True: the user's truth changed.
    pub(super) fn set(&mut self, device: u8, may: May, since: Moment, echo_until: Moment) -> bool {
        self.devices[usize::from(device & 1)] = may;
        let new = self.devices[0].with(self.devices[1]);
        if new == self.may {
            return false;
        }
        for old in self.may.each() {
            self.echo[index(old)] = echo_until;
        }
        (self.may, self.since) = (new, since);
        true
    }

    pub(super) const fn device(&self, device: u8) -> May {
        self.devices[(device & 1) as usize]
    }

    /// Whether this is true, or was until a moment ago.
    pub(super) fn explains(&self, shown: May, now: Moment) -> bool {
        self.may.has(shown) || shown.each().any(|one| now <= self.echo[index(one)])
    }
}

const fn index(one: May) -> usize {
    match one {
        May::OFF => 0,
        May::IDLE => 1,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_active_device_counts() {
        let mut truth = Truth::default();
        assert!(truth.set(0, May::IDLE, 10, 20));
        assert_eq!((truth.may, truth.since), (May::IDLE, 10));
        assert!(truth.set(1, May::ON, 30, 40));
        assert_eq!(truth.may, May::ON);
        assert!(!truth.set(0, May::OFF, 50, 60), "one of two devices closed: nothing changes");
        assert!(truth.set(1, May::ON.or(May::OFF), 70, 80));
        assert_eq!(truth.may, May::ON.or(May::OFF));
    }

    #[test]
    fn what_was_true_echoes_for_a_while() {
        let mut truth = Truth::default();
        truth.set(0, May::ON, 100, 200);
        assert!(truth.explains(May::OFF, 200) && !truth.explains(May::OFF, 201));
        assert!(truth.explains(May::ON, 1_000) && !truth.explains(May::IDLE, 150));
    }
}
