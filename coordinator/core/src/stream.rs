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
        assembly.next_page = assembly.next_page.checked_add(1)?;
        if page.last { self.assembly.take().map(|assembly| assembly.whole) } else { None }
    }

    /// A whole sync was applied.
    pub(crate) fn set_synced(&mut self, incarnation: Incarnation, seq: u64) {
        self.incarnation = incarnation;
        self.last = seq;
        self.synced = true;
        self.confirmed = true;
        self.behind = None;
    }

    /// R4: the gateway's beat says it has sent up to `seq`. True when that much has not come for `patience`.
    pub(crate) fn compare(&mut self, seq: u64, now: MonoTime, patience: std::time::Duration) -> bool {
        if !self.synced {
            return true;
        }
        if seq <= self.last {
            self.behind = None;
            self.confirmed |= seq == self.last;
            return false;
        }
        match self.behind {
            Some((_, since)) => now.since(since) >= patience,
            None => {
                self.behind = Some((seq, now));
                false
            }
        }
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
