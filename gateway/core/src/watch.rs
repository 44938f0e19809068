//! Who is watched here, by whom, and what is known of them. Bigger than the sessions: twenty bytes a watch at least.

use hashbrown::HashMap;
use herenow_protocol::message::{Entry, Shown};
use herenow_protocol::{Epoch, Partition, Status, UserId, UserKey, WallTime};
use slab::Slab;

use crate::io::Slot;
use crate::session::UserIndex;

/// What an owner said of a user.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Known {
    /// Under which epoch.
    pub(crate) epoch: Epoch,
    /// What everybody may see.
    pub(crate) public: Shown,
    /// What the user itself sees, where it differs.
    pub(crate) own: Option<Box<Shown>>,
    /// It was said in doubt: what the owner was sure of before says nothing of it.
    pub(crate) doubted: bool,
}

impl Known {
    pub(crate) fn new(epoch: Epoch, entry: Entry) -> Self {
        Self { epoch, public: entry.public, own: entry.own.map(Box::new), doubted: false }
    }

    /// Nobody ever saw the user, in this epoch.
    pub(crate) const fn never_seen(epoch: Epoch) -> Self {
        Self { epoch, public: Shown::never_seen(), own: None, doubted: false }
    }

    /// The number of the value: the later of what everybody and what the user itself sees.
    pub(crate) fn n(&self) -> u64 {
        self.own.as_ref().map_or(0, |own| own.n).max(self.public.n)
    }

    /// R8: whether a session that its owner has not heard of could prove it wrong.
    pub(crate) const fn is_negative(&self) -> bool {
        matches!(self.public.status, Status::Offline | Status::Idle)
    }

    fn version(&self) -> (Epoch, u64) {
        (self.epoch, self.n())
    }

    /// I1: whether whoever was told this may not be told the other any more.
    pub(crate) fn is_newer_than(&self, other: &Self) -> bool {
        self.version() > other.version()
    }

    /// I1: one version is one value, whatever its times.
    pub(crate) fn contradicts(&self, other: &Self) -> bool {
        let own = |known: &Self| known.own.is_some();
        self.version() == other.version()
            && (own(self) != own(other) || !self.public.looks_like(&other.public))
    }
}

/// A user with at least one watcher.
#[derive(Debug)]
pub(crate) struct Watched {
    pub(crate) id: UserId,
    pub(crate) key: UserKey,
    pub(crate) partition: Partition,
    pub(crate) watchers: Vec<Slot>,
    pub(crate) known: Option<Known>,
    /// The public presence as JSON, made once for all watchers; dropped when it changes, and soon after they were told.
    encoded: Option<Box<str>>,
}

/// Who has to be told of a new value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Tell {
    /// Nobody: it looks as before.
    Nobody,
    /// The user's own sessions.
    Own,
    /// Everybody, for the first time.
    First,
    /// Everybody.
    All,
}

impl Watched {
    /// The public presence as JSON, if a watcher was told it of late.
    pub(crate) fn encoded(&self) -> Option<&str> {
        self.encoded.as_deref()
    }

    pub(crate) fn forget_encoded(&mut self) {
        self.encoded = None;
    }

    /// I1: takes a value if it is newer than what is known.
    pub(crate) fn learn(&mut self, mut new: Known, now: WallTime) -> Tell {
        let Some(old) = &self.known else {
            self.known = Some(new);
            self.encoded = None;
            return Tell::First;
        };
        if new.version() <= old.version() {
            return Tell::Nobody;
        }
        if new.epoch != old.epoch {
            keep_times(&mut new, old, now);
        }
        let tell = if !new.public.looks_like(&old.public) || new.public.since != old.public.since {
            Tell::All
        } else if new.own != old.own {
            Tell::Own
        } else {
            Tell::Nobody
        };
        self.known = Some(new);
        self.encoded = None;
        tell
    }
}

/// A new owner knows times only from the sessions that are left, and nothing of those who went before it: where the
/// status is the same, the time known here is the better one; who is gone without a time was seen until now.
fn keep_times(new: &mut Known, old: &Known, now: WallTime) {
    let (before, after) = (old.public.since, new.public.since);
    new.public.since = if new.public.status == old.public.status {
        before.into_iter().chain(after).min()
    } else {
        after.or(Some(now))
    };
}

/// Every watched user, by partition and key.
#[derive(Debug)]
pub(crate) struct WatchIndex {
    users: Slab<Watched>,
    by_key: Vec<HashMap<UserKey, UserIndex>>,
    /// Whose presence was made into JSON of late.
    encoded: Vec<UserIndex>,
    /// Watches: pairs of session and user.
    pub(crate) edges: u64,
}

impl WatchIndex {
    pub(crate) fn new(partitions: u16) -> Self {
        let by_key = (0..partitions).map(|_| HashMap::new()).collect();
        Self { users: Slab::new(), by_key, encoded: Vec::new(), edges: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.users.len()
    }

    pub(crate) fn find(&self, partition: Partition, key: UserKey) -> Option<UserIndex> {
        self.by_key.get(partition.index())?.get(&key).copied()
    }

    pub(crate) fn get(&self, index: UserIndex) -> Option<&Watched> {
        self.users.get(index as usize)
    }

    pub(crate) fn get_mut(&mut self, index: UserIndex) -> Option<&mut Watched> {
        self.users.get_mut(index as usize)
    }

    /// The keys watched in a partition.
    pub(crate) fn keys(&self, partition: Partition) -> Vec<UserKey> {
        let mut keys: Vec<UserKey> =
            self.by_key.get(partition.index()).into_iter().flatten().map(|(key, _)| *key).collect();
        keys.sort_unstable();
        keys
    }

    /// The users watched in a partition.
    pub(crate) fn members(&self, partition: Partition) -> Vec<UserIndex> {
        let mut members: Vec<UserIndex> =
            self.by_key.get(partition.index()).into_iter().flatten().map(|(_, index)| *index).collect();
        members.sort_unstable();
        members
    }

    /// Nobody is watched in the partition.
    pub(crate) fn is_empty(&self, partition: Partition) -> bool {
        self.by_key.get(partition.index()).is_none_or(HashMap::is_empty)
    }

    /// Adds a watcher. The caller has made sure that it does not watch the user yet.
    pub(crate) fn add(
        &mut self,
        partition: Partition,
        key: UserKey,
        id: &UserId,
        slot: Slot,
    ) -> Option<UserIndex> {
        let by_key = self.by_key.get_mut(partition.index())?;
        let users = &mut self.users;
        let fresh = || {
            if users.len() == users.capacity() {
                users.reserve_exact((users.len() / 8).max(64));
            }
            let watched =
                Watched { id: id.clone(), key, partition, watchers: Vec::new(), known: None, encoded: None };
            u32::try_from(users.insert(watched)).unwrap_or(u32::MAX)
        };
        let index = *by_key.entry(key).or_insert_with(fresh);
        let watchers = &mut self.users.get_mut(index as usize)?.watchers;
        if watchers.len() == watchers.capacity() {
            // Doubling would leave a third of the bytes of all watches empty.
            watchers.reserve_exact((watchers.len() / 4).max(2));
        }
        watchers.push(slot);
        self.edges += 1;
        Some(index)
    }

    /// Keeps the JSON of a presence for the other watchers, who are told at the same time or a little later.
    pub(crate) fn keep_encoded(&mut self, index: UserIndex, text: String) {
        let Some(watched) = self.users.get_mut(index as usize) else { return };
        if watched.watchers.len() > 1 {
            watched.encoded = Some(text.into_boxed_str());
            self.encoded.push(index);
        }
    }

    /// Drops what was kept for those who have been told by now.
    pub(crate) fn drop_encoded(&mut self) {
        for index in std::mem::take(&mut self.encoded) {
            if let Some(watched) = self.users.get_mut(index as usize) {
                watched.encoded = None;
            }
        }
    }

    /// Takes a watcher away; the user with its last watcher. Says which partition that left without any.
    pub(crate) fn remove(&mut self, index: UserIndex, slot: Slot) -> Option<Partition> {
        let watched = self.users.get_mut(index as usize)?;
        let at = watched.watchers.iter().position(|watcher| *watcher == slot)?;
        watched.watchers.swap_remove(at);
        self.edges -= 1;
        if !watched.watchers.is_empty() {
            return None;
        }
        let (partition, key) = (watched.partition, watched.key);
        self.users.remove(index as usize);
        self.by_key.get_mut(partition.index())?.remove(&key);
        self.is_empty(partition).then_some(partition)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(user: u64) -> UserKey {
        UserKey::from_bytes(u128::from(user).to_be_bytes())
    }

    fn watching(watchers: u32) -> (WatchIndex, UserIndex) {
        let mut index = WatchIndex::new(1);
        let id = UserId::new("ana").unwrap();
        let mut add = |slot| index.add(Partition(0), key(1), &id, Slot(slot)).unwrap();
        let user = (0..watchers).map(&mut add).last().unwrap();
        (index, user)
    }

    #[test]
    fn the_text_of_a_presence_is_kept_for_other_watchers_and_not_for_long() {
        let (mut index, user) = watching(2);
        index.keep_encoded(user, "{}".to_owned());
        assert_eq!(index.get(user).unwrap().encoded(), Some("{}"));
        index.drop_encoded();
        assert_eq!(index.get(user).unwrap().encoded(), None);
        let (mut index, user) = watching(1);
        index.keep_encoded(user, "{}".to_owned());
        assert_eq!(index.get(user).unwrap().encoded(), None, "nobody else is told");
    }

    #[test]
    fn lists_have_little_room_that_is_not_used() {
        let (index, user) = watching(1_000);
        assert!(index.get(user).unwrap().watchers.capacity() <= 1_250);
        let mut index = WatchIndex::new(1);
        for user in 0..10_000 {
            let id = UserId::new(&format!("u{user}")).unwrap();
            index.add(Partition(0), key(user), &id, Slot(0)).unwrap();
        }
        assert!(index.users.capacity() <= 11_250, "{}", index.users.capacity());
    }
}
