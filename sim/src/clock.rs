//! Clocks of the simulated world: each process has its own, which may run fast or slow, began somewhere, and on the wall
//! shows something else than the others.

use herenow_protocol::{MonoTime, Now, WallTime};
use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;

use crate::world::WALL_MS;

/// What a rate is a part of.
const MILLION: u64 = 1_000_000;

/// A clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    /// In the world's time: since when it runs at this rate.
    anchor: u64,
    /// What it showed then.
    mono: u64,
    wall: u64,
    /// Millionths of a second that it counts in a second.
    rate: u64,
}

impl Clock {
    /// A clock that is right, and that began with the world.
    pub(crate) const fn new() -> Self {
        Self { anchor: 0, mono: 0, wall: WALL_MS, rate: MILLION }
    }

    /// A clock that has run for some time, at most 5 % fast or slow.
    pub(crate) fn draw(rng: &mut ChaCha8Rng) -> Self {
        let mut clock = Self::new();
        clock.begin(0, rng);
        if rng.random_bool(0.3) {
            clock.set_rate(0, rng.random_range(-50_000..=50_000));
        }
        clock
    }

    fn run(&self, now: u64) -> u64 {
        now.saturating_sub(self.anchor) * self.rate / MILLION
    }

    /// What it shows.
    pub(crate) fn now(&self, now: u64) -> Now {
        let (mono, wall) = (self.mono + self.run(now), self.wall + self.run(now));
        Now { mono: MonoTime::from_millis(mono), wall: WallTime::from_millis(wall) }
    }

    /// When, in the world's time, it shows at least this.
    pub(crate) fn when(&self, due: MonoTime) -> u64 {
        let ahead = due.as_millis().saturating_sub(self.mono);
        let mut at = self.anchor + ahead * MILLION / self.rate;
        while self.now(at).mono < due {
            at += 1;
        }
        at
    }

    fn settle(&mut self, now: u64) {
        (self.mono, self.wall) = (self.mono + self.run(now), self.wall + self.run(now));
        self.anchor = now;
    }

    /// A process begins: its clock of steady time may begin anywhere.
    pub(crate) fn begin(&mut self, now: u64, rng: &mut ChaCha8Rng) {
        self.settle(now);
        self.mono = if rng.random_bool(0.5) { 0 } else { rng.random_range(0..10_000_000) };
    }

    /// Runs that many millionths faster than it should, from now on.
    pub(crate) fn set_rate(&mut self, now: u64, millionths: i64) {
        self.settle(now);
        self.rate = MILLION.saturating_add_signed(millionths).max(MILLION / 2);
    }

    /// Shows another time of day from now on.
    pub(crate) fn jump(&mut self, by: i64) {
        self.wall = self.wall.saturating_add_signed(by);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fast_clock_shows_its_time_sooner_and_never_goes_back() {
        let mut clock = Clock::new();
        clock.set_rate(1_000, 50_000);
        assert_eq!(clock.now(21_000).mono.as_millis(), 22_000);
        assert_eq!(clock.when(MonoTime::from_millis(22_000)), 21_000);
        clock.set_rate(21_000, -50_000);
        assert_eq!(clock.now(21_000).mono.as_millis(), 22_000);
        assert_eq!(clock.now(41_000).mono.as_millis(), 41_000);
    }
}
