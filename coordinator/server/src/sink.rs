//! Where transitions go for keeping.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use herenow_coordinator_core::Transition;
use herenow_protocol::UserId;

/// Takes every transition, in the order of versions per user: the door to the store of last statuses and to the
/// activity history.
///
/// It is called on the coordinator's own task, so it must not wait: an implementation puts the transition into a
/// queue with a limit and, when that is full, drops and counts. What is kept is written behind; the version of each
/// transition decides which of two is newer.
pub trait TransitionSink: Send {
    /// Takes one transition.
    fn accept(&mut self, transition: Transition);

    /// A user was erased: whatever was taken of it before is to be forgotten. Transitions that the erasure itself made
    /// come behind it, with [`herenow_protocol::api::Cause::Erased`].
    fn erased(&mut self, _user: UserId) {}
}

/// Keeps nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Discard;

impl TransitionSink for Discard {
    fn accept(&mut self, _transition: Transition) {}
}

/// Counts all transitions and keeps the last few, for tests. Clones share what they keep.
#[derive(Clone, Debug)]
pub struct Counting {
    most: usize,
    kept: Arc<Mutex<(u64, VecDeque<Transition>)>>,
}

impl Counting {
    /// Keeps the last `most` transitions.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { most, kept: Arc::default() }
    }

    /// How many there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).0
    }

    /// The last ones, oldest first.
    #[must_use]
    pub fn last(&self) -> Vec<Transition> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).1.iter().cloned().collect()
    }
}

impl TransitionSink for Counting {
    fn accept(&mut self, transition: Transition) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.0 += 1;
        if kept.1.len() == self.most {
            kept.1.pop_front();
        }
        if self.most > 0 {
            kept.1.push_back(transition);
        }
    }
}
