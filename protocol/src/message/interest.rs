//! Interest of gateways in users (R10, level 2), and spot checks of what they believe (R15).

use std::hash::Hasher as _;

use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher13;

use super::Shown;
use crate::{CoordinatorId, Epoch, Origin, Partition, UserKey};

/// Whom a gateway has watchers for, told to the owner of a partition. Numbered per (gateway incarnation, partition);
/// only the next number is applied, and a gap asks for the whole, which replaces.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Interest {
    /// Who says so.
    pub origin: Origin,
    /// Of which partition.
    pub partition: Partition,
    /// To the owner of which epoch.
    pub epoch: Epoch,
    /// One more than the last; of a whole: the number of the last change it includes.
    pub seq: u64,
    /// What it says.
    pub body: InterestBody,
}

/// What a message of interest says.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum InterestBody {
    /// Users who got their first watcher (true) or lost their last (false), in this order.
    Changes(Vec<(UserKey, bool)>),
    /// A page of everybody watched, which replaces what the owner had.
    Whole {
        /// The page, from 0.
        page: u16,
        /// No page follows.
        last: bool,
        /// The users.
        users: Vec<UserKey>,
    },
}

/// One statement of interest in a gateway's beat. A partition in which nothing was stated to its owner is not named.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct InterestBeat {
    /// Of which partition.
    pub partition: Partition,
    /// To the owner of which epoch.
    pub epoch: Epoch,
    /// The number of the last message, so that a lost last one is found.
    pub seq: u64,
    /// How many users are watched.
    pub users: u32,
    /// What they come to.
    pub digest: UsersDigest,
}

/// What a set of users comes to, kept up as they come and go: adding one twice takes it away.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct UsersDigest(u64);

impl UsersDigest {
    /// Of nobody.
    #[must_use]
    pub const fn new() -> Self {
        Self(0)
    }

    /// Adds a user, or takes it away. It finds slips of programs, not forgeries: the keys of the hash are known.
    pub fn toggle(&mut self, key: UserKey) {
        self.0 ^= hash(&key, 0x696e_7465_7265_7374);
    }
}

/// An owner's numbers for one gateway moved on without anything for it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Advanced {
    /// The owner that says so.
    pub from: CoordinatorId,
    /// By how much, per partition.
    pub streams: Vec<Advance>,
}

/// One partition of an [`Advanced`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Advance {
    /// Which partition.
    pub partition: Partition,
    /// In which epoch.
    pub epoch: Epoch,
    /// The number that the last thing sent to this gateway ended at.
    pub prev: u64,
    /// The number up to which nothing follows for it.
    pub last: u64,
}

/// A gateway shows an owner some of the values it believes. Those that no later change explains must be the owner's.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Audit {
    /// Who asks.
    pub origin: Origin,
    /// Of which partition.
    pub partition: Partition,
    /// In which epoch.
    pub epoch: Epoch,
    /// The number up to which the gateway has applied everything.
    pub n: u64,
    /// The number of the last message of interest, where interest was stated.
    pub interest: Option<u64>,
    /// The values.
    pub users: Vec<Audited>,
}

/// One value that a gateway believes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Audited {
    /// Whose.
    pub key: UserKey,
    /// Of which number.
    pub n: u64,
    /// What everybody sees, hashed.
    pub looks: u64,
}

impl Audited {
    /// The value as it is audited. Times are left out: gateways keep better ones across owners.
    #[must_use]
    pub fn new(key: UserKey, n: u64, public: &Shown) -> Self {
        let seen = (public.status, &public.text, &public.emoji, public.reachable, &public.devices);
        Self { key, n, looks: hash(&seen, 0x6c6f_6f6b_7321_2121) }
    }
}

fn hash(value: &impl std::hash::Hash, what: u64) -> u64 {
    let mut hasher = SipHasher13::new_with_keys(0x6865_7265_6e6f_7721, what);
    value.hash(&mut hasher);
    hasher.finish()
}
