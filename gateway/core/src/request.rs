//! Questions that wait for owners: watches and queries of sessions, and what backends ask.

use std::collections::BTreeSet;

use hashbrown::{HashMap, HashSet};
use herenow_protocol::message::ClaimRequest;
use herenow_protocol::patience::Patience;
use herenow_protocol::{Epoch, MonoTime, Partition, SessionNumber, UserId, UserKey, WallTime};

use crate::io::{Slot, Ticket};
use crate::watch::Known;

/// A session that waits, and for which frame. Slots are used again, so the session's number is kept too.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Caller {
    pub(crate) slot: Slot,
    pub(crate) session: SessionNumber,
    pub(crate) id: u64,
}

/// Who waits for an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Asker {
    /// A session, for the snapshot of a `watch` or the `ack` of a claim.
    Watch(Caller),
    /// A session, for the snapshot of a `query`.
    Query(Caller),
    /// A backend.
    Ticket(Ticket),
}

/// A question about users.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) asker: Asker,
    /// The asker's own key: it sees the truth about itself.
    pub(crate) own: UserKey,
    pub(crate) users: Vec<(UserId, UserKey)>,
    pub(crate) missing: HashSet<UserKey>,
    pub(crate) pulls: Vec<u64>,
    pub(crate) got: HashMap<UserKey, Answer>,
}

/// What an owner answered about a user.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) known: Known,
    /// When the owner was last sure of it, if it was not when it answered.
    pub(crate) as_of: Option<WallTime>,
}

/// A pull that was sent to an owner.
#[derive(Debug)]
pub(crate) struct PullState {
    pub(crate) partition: Partition,
    /// For which question; none: for everything watched in the partition.
    pub(crate) request: Option<u64>,
    /// Who is asked for now.
    pub(crate) users: Vec<UserKey>,
    /// Who is asked for afterwards.
    pub(crate) rest: Vec<UserKey>,
    /// When it was sent first.
    pub(crate) sent: MonoTime,
    /// When it is sent again.
    pub(crate) due: MonoTime,
    /// Since when an answer is waited for.
    pub(crate) asked: Option<MonoTime>,
    /// Its owner left users out because it had not settled: nothing is to be had of it before it has.
    pub(crate) early: bool,
    /// What the owner's clock said when it answered.
    pub(crate) clock: u64,
    /// The number at which the first values held.
    pub(crate) n: Option<u64>,
    /// The pages so far: under which epoch, how many, and who was on them.
    pub(crate) epoch: Epoch,
    pub(crate) pages: u16,
    pub(crate) listed: HashSet<UserKey>,
}

/// Most users of one pull, so that the message stays under its limit.
const PULL_USERS: usize = 8_000;
const _: () = assert!(PULL_USERS * 20 < herenow_protocol::limit::MESSAGE_BYTES);

impl PullState {
    /// Goes on to the next users.
    pub(crate) fn next_page(&mut self) {
        let later = self.rest.split_off(self.rest.len().min(PULL_USERS));
        self.users = std::mem::replace(&mut self.rest, later);
        self.pages = 0;
        self.listed.clear();
    }
}

/// A claim that was sent to an owner.
#[derive(Debug)]
pub(crate) struct ClaimState {
    pub(crate) asker: Asker,
    pub(crate) message: ClaimRequest,
    pub(crate) due: MonoTime,
}

/// A question of an operator.
#[derive(Debug)]
pub(crate) struct ExplainState {
    pub(crate) ticket: Ticket,
}

/// Something that falls due.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Due {
    /// A question is answered with what is known.
    Request(u64),
    /// A pull is sent again.
    Pull(u64),
    /// A claim is sent again, or given up.
    Claim(u64),
    /// A question of an operator is given up.
    Explain(u64),
    /// A session is told what changed.
    Flush(Slot),
}

/// Everything that waits, and when it falls due.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    next: u64,
    pub(crate) requests: HashMap<u64, Request>,
    pub(crate) pulls: HashMap<u64, PullState>,
    pub(crate) claims: HashMap<u64, ClaimState>,
    pub(crate) explains: HashMap<u64, ExplainState>,
    /// How long answers to pulls are waited for.
    pub(crate) patience: Patience,
    dues: BTreeSet<(MonoTime, Due)>,
}

/// So much room is kept whatever happens.
const SPARE: usize = 64;

/// Numbers of one life; the seed chooses among twice as many lives.
const NUMBERS: u64 = 1 << 32;

impl Pending {
    /// Gives back what a storm of questions took.
    pub(crate) fn shrink(&mut self) {
        if self.pulls.capacity() > 4 * self.pulls.len() + SPARE {
            self.pulls.shrink_to(2 * self.pulls.len());
        }
        if self.requests.capacity() > 4 * self.requests.len() + SPARE {
            self.requests.shrink_to(2 * self.requests.len());
        }
    }

    /// I7: numbers begin where the seed says, so that answers to an earlier life fit none of them.
    pub(crate) fn new(seed: u64) -> Self {
        Self { next: (seed >> 1) / NUMBERS * NUMBERS, ..Self::default() }
    }

    /// A number for something new.
    pub(crate) const fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// How much waits, against the limit.
    pub(crate) fn len(&self) -> usize {
        self.requests.len() + self.claims.len() + self.explains.len()
    }

    pub(crate) fn at(&mut self, when: MonoTime, due: Due) {
        self.dues.insert((when, due));
    }

    pub(crate) fn next_due(&self) -> Option<MonoTime> {
        self.dues.first().map(|(when, _)| *when)
    }

    pub(crate) fn pop_due(&mut self, now: MonoTime) -> Option<Due> {
        let due = self.dues.first().filter(|(when, _)| *when <= now).copied()?;
        self.dues.remove(&due);
        Some(due.1)
    }

    /// Adds a question.
    pub(crate) fn ask(&mut self, request: Request, due: MonoTime) -> u64 {
        let number = self.number();
        self.requests.insert(number, request);
        self.at(due, Due::Request(number));
        number
    }

    /// Takes a question out, answered or not.
    pub(crate) fn take(&mut self, number: u64) -> Option<Request> {
        let request = self.requests.remove(&number)?;
        for pull in &request.pulls {
            self.pulls.remove(pull);
        }
        Some(request)
    }

    /// This process stood still for longer than any question waits: what was answered before then is old, and so is what
    /// piled up since. Every question is due, and answered with what is known.
    pub(crate) fn distrust(&mut self) {
        for request in self.requests.values_mut() {
            request.got.clear();
            for pull in request.pulls.drain(..) {
                self.pulls.remove(&pull);
            }
        }
    }

    /// The owner's answer to a question names a user; true when it was the last one missing.
    pub(crate) fn learn(&mut self, number: u64, key: UserKey, answer: Answer) -> bool {
        let Some(request) = self.requests.get_mut(&number) else { return false };
        request.missing.remove(&key);
        request.got.insert(key, answer);
        request.missing.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_storm_of_questions_took_is_given_back() {
        let mut pending = Pending::default();
        pending.pulls.reserve(10_000);
        pending.requests.reserve(10_000);
        pending.shrink();
        assert!(pending.pulls.capacity() + pending.requests.capacity() <= 2 * SPARE);
    }
}
