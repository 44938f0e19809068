//! What a fault does to one direction of one connection. Pure but for the counters.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::split::{Kind, Piece};
use crate::chaos::dice::Dice;
use crate::chaos::truth::Moment;

/// Pieces that wait out their delay; more are lost.
const MAX_WAITING: usize = 100_000;

/// What happens to one direction.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(in crate::chaos) struct Side {
    /// The part of the messages that is lost: 0 to 1.
    pub(in crate::chaos) loss: f64,
    /// The part of the messages that comes twice, the second time a moment later: 0 to 1.
    pub(in crate::chaos) twice: f64,
    /// How long a message takes, at the least and at the most. Only messages to different subjects pass each other.
    pub(in crate::chaos) delay: (Duration, Duration),
    /// Messages to the same subject pass each other too.
    pub(in crate::chaos) reorder: bool,
    /// Everything is swallowed, and the connection stays open.
    pub(in crate::chaos) cut: bool,
}

/// What was done, over all connections of a proxy.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) passed: AtomicU64,
    pub(super) lost: AtomicU64,
    pub(super) twice: AtomicU64,
    pub(super) late: AtomicU64,
    pub(super) passing: AtomicU64,
    pub(super) swallowed: AtomicU64,
    pub(super) refused: AtomicU64,
}

/// One direction of one connection.
#[derive(Debug)]
pub(super) struct Lane {
    dice: Dice,
    waiting: BTreeMap<(Moment, u64), Bytes>,
    number: u64,
    /// When the last message to each subject is due.
    last: HashMap<Bytes, Moment>,
    /// A line was swallowed without which the connection makes no sense.
    pub(super) torn: bool,
}

impl Lane {
    pub(super) fn new(seed: u64) -> Self {
        Self { dice: Dice::new(seed), waiting: BTreeMap::new(), number: 0, last: HashMap::new(), torn: false }
    }

    /// Puts a piece into what goes out at once, or into what waits, or nowhere.
    pub(super) fn take(
        &mut self,
        piece: Piece,
        side: Side,
        now: Moment,
        counters: &Counters,
        out: &mut BytesMut,
    ) {
        if side.cut {
            self.torn |= !matches!(piece.kind, Kind::Message { .. });
            counters.swallowed.fetch_add(1, Relaxed);
            return;
        }
        let Kind::Message { subject } = piece.kind else {
            return out.extend_from_slice(&piece.bytes);
        };
        if self.dice.chance(side.loss) {
            counters.lost.fetch_add(1, Relaxed);
            return;
        }
        counters.passed.fetch_add(1, Relaxed);
        if self.dice.chance(side.twice) {
            counters.twice.fetch_add(1, Relaxed);
            self.wait(subject.clone(), piece.bytes.clone(), side, now, counters);
        }
        if side.delay.1.is_zero() {
            out.extend_from_slice(&piece.bytes);
        } else {
            counters.late.fetch_add(1, Relaxed);
            self.wait(subject, piece.bytes, side, now, counters);
        }
    }

    fn wait(&mut self, subject: Bytes, bytes: Bytes, side: Side, now: Moment, counters: &Counters) {
        if self.waiting.len() >= MAX_WAITING {
            counters.lost.fetch_add(1, Relaxed);
            return;
        }
        if self.waiting.is_empty() {
            self.last.clear();
        }
        let mut due = now + self.dice.spread(side.delay);
        if !side.reorder {
            due = due.max(self.last.get(&subject).copied().unwrap_or_default());
        }
        if self.waiting.last_key_value().is_some_and(|((last, _), _)| *last > due) {
            counters.passing.fetch_add(1, Relaxed);
        }
        self.last.insert(subject, due);
        self.number += 1;
        self.waiting.insert((due, self.number), bytes);
    }

    /// Puts what is due into what goes out.
    pub(super) fn release(&mut self, now: Moment, out: &mut BytesMut) {
        while let Some(entry) = self.waiting.first_entry()
            && entry.key().0 <= now
        {
            out.extend_from_slice(&entry.remove());
        }
    }

    pub(super) fn next_due(&self) -> Option<Moment> {
        self.waiting.first_key_value().map(|((due, _), _)| *due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(subject: &'static str, text: &'static str) -> Piece {
        let kind = Kind::Message { subject: Bytes::from_static(subject.as_bytes()) };
        Piece { kind, bytes: Bytes::from_static(text.as_bytes()) }
    }

    fn line(text: &'static str) -> Piece {
        Piece { kind: Kind::Other, bytes: Bytes::from_static(text.as_bytes()) }
    }

    const SPREAD: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(90));

    #[test]
    fn about_as_many_messages_are_lost_as_asked_and_no_line() {
        let (mut lane, counters, mut out) = (Lane::new(1), Counters::default(), BytesMut::new());
        let side = Side { loss: 0.1, ..Side::default() };
        for _ in 0..10_000 {
            lane.take(message("a", "x"), side, Moment::ZERO, &counters, &mut out);
            lane.take(line("-"), side, Moment::ZERO, &counters, &mut out);
        }
        let lost = counters.lost.load(Relaxed);
        assert!((900..1_100).contains(&lost), "{lost} of 10000");
        assert_eq!(out.iter().filter(|byte| **byte == b'-').count(), 10_000);
        assert_eq!(out.iter().filter(|byte| **byte == b'x').count() as u64, 10_000 - lost);
    }

    #[test]
    fn messages_to_different_subjects_pass_each_other_and_those_to_one_do_not() {
        for reorder in [false, true] {
            let (mut lane, counters, mut out) = (Lane::new(1), Counters::default(), BytesMut::new());
            let side = Side { delay: SPREAD, reorder, ..Side::default() };
            for text in ["a", "b", "c", "d", "e", "f"] {
                lane.take(message("one", text), side, Moment::ZERO, &counters, &mut out);
                lane.take(message(text, "-"), side, Moment::ZERO, &counters, &mut out);
            }
            assert!(out.is_empty());
            assert!(counters.passing.load(Relaxed) > 0);
            let first = lane.next_due().unwrap();
            assert!(first >= SPREAD.0);
            lane.release(first - Duration::from_nanos(1), &mut out);
            assert!(out.is_empty());
            lane.release(SPREAD.1, &mut out);
            assert_eq!(lane.next_due(), None);
            let letters: Vec<u8> = out.iter().copied().filter(|byte| *byte != b'-').collect();
            assert_eq!(letters.len(), 6);
            assert_eq!(letters.is_sorted(), !reorder);
        }
    }

    #[test]
    fn a_doubled_message_comes_at_once_and_again() {
        let (mut lane, counters, mut out) = (Lane::new(1), Counters::default(), BytesMut::new());
        lane.take(
            message("a", "x"),
            Side { twice: 1.0, ..Side::default() },
            Moment::ZERO,
            &counters,
            &mut out,
        );
        lane.release(Moment::ZERO, &mut out);
        assert_eq!(&out[..], b"xx");
    }

    #[test]
    fn a_cut_swallows_all_and_only_a_lost_line_tears_the_connection() {
        let (mut lane, counters, mut out) = (Lane::new(1), Counters::default(), BytesMut::new());
        let cut = Side { cut: true, ..Side::default() };
        lane.take(message("a", "x"), cut, Moment::ZERO, &counters, &mut out);
        assert!(!lane.torn);
        lane.take(line("PING"), cut, Moment::ZERO, &counters, &mut out);
        assert!(lane.torn);
        assert!(out.is_empty());
        assert_eq!(counters.swallowed.load(Relaxed), 2);
    }

    #[test]
    fn no_more_wait_than_may() {
        let (mut lane, counters, mut out) = (Lane::new(1), Counters::default(), BytesMut::new());
        let side = Side { delay: SPREAD, ..Side::default() };
        for _ in 0..=MAX_WAITING {
            lane.take(message("a", "x"), side, Moment::ZERO, &counters, &mut out);
        }
        assert_eq!(counters.lost.load(Relaxed), 1);
    }
}
