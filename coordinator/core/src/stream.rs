//! What an owner has heard of one gateway about one partition (R3 to R5).

use std::collections::HashMap;

use herenow_protocol::message::{Ended, SessionRecord, SessionsDigest, Sync};
use herenow_protocol::{Incarnation, MonoTime, SessionNumber, UserKey};

/// One upward stream.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    pub(crate) incarnation: Incarnation,
    /// The number of the last report applied.
    pub(crate) last: u64,
    /// A whole sync of this epoch was applied.
    pub(crate) synced: bool,
    /// The gateway said since the last doubt that nothing is missing.
    pub(crate) confirmed: bool,
    /// A beat told of reports that have not come: up to which, and since when that is known.
    pub(crate) behind: Option<(u64, MonoTime)>,
    /// Pages of a sync that is not whole yet.
    assembly: Option<Assembly>,
    /// Where each of its sessions is found.
    pub(crate) sessions: HashMap<SessionNumber, UserKey>,
    /// The newest session that it told of: gateways number them in their order.
    pub(crate) newest: SessionNumber,
}

#[derive(Debug)]
struct Assembly {
    incarnation: Incarnation,
    seq: u64,
    next_page: u16,
    whole: Whole,
}

/// All that a sync says.
#[derive(Debug, Default)]
pub(crate) struct Whole {
    pub(crate) sessions: Vec<SessionRecord>,
    pub(crate) ended: Vec<Ended>,
    pub(crate) forgot_ms: Option<u64>,
}

/// What to do with a report.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// It is the next: apply it.
    Next,
    /// It was applied before, or belongs to an earlier life: drop it.
    Old,
    /// Something before it is missing: ask for a sync.
    Gap,
}

impl Stream {
    pub(crate) fn new(incarnation: Incarnation) -> Self {
        Self { incarnation, ..Self::default() }
    }

    /// R3, R5: judges a report by its number.
    pub(crate) fn judge(&self, incarnation: Incarnation, seq: u64) -> Verdict {
        if incarnation < self.incarnation
            || (incarnation == self.incarnation && self.synced && seq <= self.last)
        {
            Verdict::Old
        } else if incarnation == self.incarnation && self.synced && seq == self.last + 1 {
            Verdict::Next
        } else {
            Verdict::Gap
        }
    }

    /// Takes a page of a sync; the whole, when this was the last page.
    pub(crate) fn assemble(&mut self, page: Sync) -> Option<Whole> {
        let incarnation = page.origin.incarnation;
        if page.page == 0 {
            self.assembly =
                Some(Assembly { incarnation, seq: page.seq, next_page: 0, whole: Whole::default() });
        }
        let assembly = self.assembly.as_mut()?;
        if (assembly.incarnation, assembly.seq, assembly.next_page) != (incarnation, page.seq, page.page) {
            self.assembly = None;
            return None;
        }
        assembly.whole.sessions.extend(page.sessions);
        assembly.whole.ended.extend(page.ended);
        assembly.whole.forgot_ms = page.forgot_ms;
        assembly.next_page = assembly.next_page.checked_add(1)?;
        if page.last { self.assembly.take().map(|assembly| assembly.whole) } else { None }
    }

    /// A whole sync was applied. One that was long under way may lack what a beat has told of since: it confirms
    /// nothing.
    pub(crate) fn set_synced(&mut self, incarnation: Incarnation, seq: u64) {
        if self.incarnation != incarnation {
            self.behind = None;
        }
        self.incarnation = incarnation;
        self.last = seq;
        self.synced = true;
        self.confirmed |= self.has_all();
    }

    /// Nothing that a beat told of is missing; forgets what has come.
    fn has_all(&mut self) -> bool {
        self.behind = self.behind.filter(|(seq, _)| *seq > self.last);
        self.behind.is_none()
    }

    /// R4: the gateway's beat says it has sent up to `seq`. True when that much has not come for `patience`. Beats may
    /// be late too: what an earlier one told of stays missing.
    pub(crate) fn compare(&mut self, seq: u64, now: MonoTime, patience: std::time::Duration) -> bool {
        if !self.synced {
            // The sync that comes next may have been sent before this.
            self.note_behind(seq, now);
            return true;
        }
        let has_all = self.has_all();
        if seq <= self.last {
            self.confirmed |= has_all && seq == self.last;
            return false;
        }
        let since = self.note_behind(seq, now);
        now.since(since) >= patience && !has_all
    }

    /// Notes up to which report a beat told of; says since when some are missing.
    fn note_behind(&mut self, seq: u64, now: MonoTime) -> MonoTime {
        let (most, since) = self.behind.unwrap_or((seq, now));
        self.behind = Some((most.max(seq), since));
        since
    }

    /// R15: what its sessions come to.
    pub(crate) fn digest(&self) -> SessionsDigest {
        let mut digest = SessionsDigest::default();
        for (number, key) in &self.sessions {
            digest.add(*number, *key);
        }
        digest
    }

    /// Whether what the beat told of is still missing after `patience`.
    pub(crate) fn overdue(&self, now: MonoTime, patience: std::time::Duration) -> bool {
        self.behind.is_some_and(|(seq, since)| seq > self.last && now.since(since) >= patience)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const PATIENCE: Duration = Duration::from_millis(50);

    fn at(ms: u64) -> MonoTime {
        MonoTime::from_millis(ms)
    }

    fn synced(seq: u64) -> Stream {
        let mut stream = Stream::new(Incarnation(1));
        stream.set_synced(Incarnation(1), seq);
        stream
    }

    #[test]
    fn a_sync_without_what_a_beat_has_told_of_confirms_nothing() {
        let mut stream = synced(5);
        assert!(!stream.compare(7, at(0), PATIENCE), "it may be under way");
        stream.confirmed = false;
        stream.set_synced(Incarnation(1), 6);
        assert!(!stream.confirmed && stream.overdue(at(50), PATIENCE));
        stream.set_synced(Incarnation(1), 7);
        assert!(stream.confirmed && !stream.overdue(at(50), PATIENCE));
    }

    #[test]
    fn a_first_sync_from_before_a_beat_that_told_of_more_confirms_nothing() {
        let mut stream = Stream::new(Incarnation(1));
        assert!(stream.compare(5, at(0), PATIENCE), "it is asked for");
        stream.set_synced(Incarnation(1), 0);
        assert!(!stream.confirmed && stream.overdue(at(50), PATIENCE));
        stream.set_synced(Incarnation(1), 5);
        assert!(stream.confirmed);
    }

    #[test]
    fn a_late_beat_confirms_nothing_that_an_earlier_one_told_more_of() {
        let mut stream = synced(5);
        stream.compare(7, at(0), PATIENCE);
        stream.confirmed = false;
        assert!(!stream.compare(5, at(10), PATIENCE) && !stream.confirmed);
        assert!(stream.compare(7, at(50), PATIENCE), "missing since the first");
        stream.last = 7;
        assert!(!stream.compare(7, at(60), PATIENCE) && stream.confirmed);
    }

    #[test]
    fn what_an_earlier_life_lacked_is_nothing_to_the_next() {
        let mut stream = synced(5);
        stream.compare(7, at(0), PATIENCE);
        stream.set_synced(Incarnation(2), 0);
        assert!(stream.confirmed && !stream.overdue(at(50), PATIENCE));
    }
}
