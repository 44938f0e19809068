//! What the application's handles and the driver share. Nothing in it grows with time: changes are kept as "this user
//! changed", once per stream.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use herenow_client_core::Failure;
use herenow_protocol::code::ErrorCode;
use herenow_protocol::{Activity, Presence, UserId};
use tokio::sync::Notify;

/// One stream of changes.
#[derive(Debug, Default)]
struct Reader {
    users: HashSet<UserId>,
    /// Whose latest value was not read yet.
    unread: BTreeSet<UserId>,
    waker: Option<Waker>,
}

/// What the driver has to tell the core.
#[derive(Debug, Default)]
pub(crate) struct Wishes {
    pub(crate) unwatch: BTreeSet<UserId>,
    pub(crate) watch: BTreeSet<UserId>,
    pub(crate) activity: Option<Activity>,
    pub(crate) bye: bool,
}

#[derive(Debug, Default)]
struct State {
    records: HashMap<UserId, Presence>,
    /// The streams that follow a user; a user is watched while there is one.
    followers: HashMap<UserId, Vec<u64>>,
    readers: HashMap<u64, Reader>,
    last_reader: u64,
    wishes: Wishes,
    closed: bool,
}

#[derive(Debug)]
pub(crate) struct Hub {
    state: Mutex<State>,
    max_watches: usize,
    /// Told when there are new wishes.
    pub(crate) wished: Notify,
}

impl Hub {
    pub(crate) fn new(max_watches: usize) -> Self {
        Self { state: Mutex::default(), max_watches, wished: Notify::new() }
    }

    /// No code that can panic runs under the lock, so a poisoned one is as good as any.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn add_reader(&self) -> u64 {
        let mut state = self.lock();
        state.last_reader += 1;
        let id = state.last_reader;
        state.readers.insert(id, Reader::default());
        id
    }

    pub(crate) fn follow(&self, reader: u64, users: Vec<UserId>) -> Result<(), Failure> {
        let mut state = self.lock();
        if state.closed {
            return Err(closed());
        }
        let new =
            users.iter().filter(|user| !state.followers.contains_key(user)).collect::<HashSet<_>>().len();
        if state.followers.len() + new > self.max_watches {
            let message = format!("a client watches at most {} users", self.max_watches);
            let code = ErrorCode::TooManyWatches;
            return Err(Failure::new(code.word(), &message, code.remediation()));
        }
        for user in users {
            state.follow(reader, user);
        }
        drop(state);
        self.wished.notify_one();
        Ok(())
    }

    pub(crate) fn unfollow(&self, reader: u64, users: &[UserId]) {
        let mut state = self.lock();
        for user in users {
            state.unfollow(reader, user);
        }
        drop(state);
        self.wished.notify_one();
    }

    /// Takes users off every stream.
    pub(crate) fn forget(&self, users: &[UserId]) {
        let mut state = self.lock();
        for user in users {
            for reader in state.followers.get(user).cloned().unwrap_or_default() {
                state.unfollow(reader, user);
            }
        }
        drop(state);
        self.wished.notify_one();
    }

    pub(crate) fn drop_reader(&self, reader: u64) {
        let mut state = self.lock();
        let users = state.readers.get(&reader).map(|reader| reader.users.clone()).unwrap_or_default();
        for user in &users {
            state.unfollow(reader, user);
        }
        state.readers.remove(&reader);
        drop(state);
        self.wished.notify_one();
    }

    pub(crate) fn set_activity(&self, activity: Activity) {
        self.lock().wishes.activity = Some(activity);
        self.wished.notify_one();
    }

    pub(crate) fn say_bye(&self) {
        self.lock().wishes.bye = true;
        self.wished.notify_one();
    }

    pub(crate) fn take_wishes(&self) -> Wishes {
        std::mem::take(&mut self.lock().wishes)
    }

    /// Keeps the new value and wakes who follows the user.
    pub(crate) fn changed(&self, presence: Presence) {
        let mut guard = self.lock();
        let state = &mut *guard;
        let user = presence.user_id.clone();
        let Some(followers) = state.followers.get(&user) else { return };
        state.records.insert(user.clone(), presence);
        for id in followers {
            if let Some(reader) = state.readers.get_mut(id) {
                reader.unread.insert(user.clone());
                reader.wake();
            }
        }
    }

    pub(crate) fn presence(&self, user: &UserId) -> Option<Presence> {
        self.lock().records.get(user).cloned()
    }

    /// The next change of a stream; the end when the client is closed and all is read.
    pub(crate) fn poll_change(&self, reader: u64, cx: &Context<'_>) -> Poll<Option<Presence>> {
        let mut guard = self.lock();
        let state = &mut *guard;
        let Some(reader) = state.readers.get_mut(&reader) else { return Poll::Ready(None) };
        while let Some(user) = reader.unread.pop_first() {
            if let Some(presence) = state.records.get(&user) {
                return Poll::Ready(Some(presence.clone()));
            }
        }
        if state.closed {
            return Poll::Ready(None);
        }
        reader.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Ends every stream.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        for reader in state.readers.values_mut() {
            reader.wake();
        }
    }
}

impl Reader {
    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl State {
    fn follow(&mut self, id: u64, user: UserId) {
        let Some(reader) = self.readers.get_mut(&id) else { return };
        if !reader.users.insert(user.clone()) {
            return;
        }
        if self.records.contains_key(&user) {
            reader.unread.insert(user.clone());
            reader.wake();
        }
        let followers = self.followers.entry(user.clone()).or_default();
        if followers.is_empty() {
            self.wishes.watch.insert(user);
        }
        followers.push(id);
    }

    fn unfollow(&mut self, id: u64, user: &UserId) {
        if let Some(reader) = self.readers.get_mut(&id) {
            reader.users.remove(user);
            reader.unread.remove(user);
        }
        let Some(followers) = self.followers.get_mut(user) else { return };
        followers.retain(|follower| *follower != id);
        if followers.is_empty() {
            self.followers.remove(user);
            self.records.remove(user);
            self.wishes.watch.remove(user);
            self.wishes.unwatch.insert(user.clone());
        }
    }
}

pub(crate) fn closed() -> Failure {
    Failure::new("closed", "the client is closed", "Connect a new client.")
}
