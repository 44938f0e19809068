//! Ids: who, on what, through which gateway, in which partition.

use std::fmt;
use std::hash::Hasher;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize};
use siphasher::sip128::{Hasher128, SipHasher24};

use crate::limit;

/// Why a text cannot be an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidId {
    /// Nothing was given.
    #[error("an id has at least 1 byte")]
    Empty,
    /// More bytes than the id may have.
    #[error("an id has at most {limit} bytes, this one has {given}")]
    TooLong {
        /// The most bytes allowed.
        limit: usize,
        /// The bytes given.
        given: usize,
    },
    /// A control character, which no id may carry.
    #[error("an id has no control characters")]
    Control,
    /// A character other than letters, digits, `_` and `-` in the id of a process.
    #[error("the id of a process has only letters, digits, '_' and '-'")]
    NotPlain,
}

fn check_text(text: &str, most: usize) -> Result<(), InvalidId> {
    if text.is_empty() {
        return Err(InvalidId::Empty);
    }
    if text.len() > most {
        return Err(InvalidId::TooLong { limit: most, given: text.len() });
    }
    if text.chars().any(char::is_control) { Err(InvalidId::Control) } else { Ok(()) }
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks a text and makes it an id.
            ///
            /// # Errors
            /// What is wrong with the text.
            pub fn new(text: &str) -> Result<Self, InvalidId> {
                let check: fn(&str) -> Result<(), InvalidId> = $check;
                check(text)?;
                Ok(Self(Arc::from(text)))
            }

            /// The id as it was given.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                Self::new(&text).map_err(serde::de::Error::custom)
            }
        }
    };
}

text_id! {
    /// Whose presence it is: an opaque text of 1 to 128 bytes of UTF-8 without control characters.
    UserId, |text| check_text(text, limit::USER_ID_BYTES)
}

text_id! {
    /// One installation of a user: an opaque text of 1 to 64 bytes without control characters.
    DeviceId, |text| check_text(text, limit::DEVICE_ID_BYTES)
}

fn check_plain(text: &str) -> Result<(), InvalidId> {
    check_text(text, limit::PROCESS_ID_BYTES)?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    if text.bytes().all(plain) { Ok(()) } else { Err(InvalidId::NotPlain) }
}

text_id! {
    /// A process, as its operator named it: 1 to 32 letters, digits, `_` or `-`, so that it fits a subject.
    ProcessId, check_plain
}

/// A coordinator: the name of its process.
pub type CoordinatorId = ProcessId;

/// A gateway as coordinators know it: one shard of one process. Shards share nothing, so each reports for itself.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct GatewayId {
    /// The process.
    pub process: ProcessId,
    /// The shard within it.
    pub shard: u16,
}

impl fmt::Display for GatewayId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.process, self.shard)
    }
}

/// One life of a process. A later life is a higher number: the wall clock of its start in milliseconds in the
/// upper 44 bits, random below, so that two lives in one millisecond differ.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Incarnation(pub u64);

impl Incarnation {
    /// The incarnation of a process that starts at `wall`, with `random` bits to tell it from another.
    #[must_use]
    pub const fn starting(wall: crate::WallTime, random: u64) -> Self {
        Self((wall.as_millis() << 20) | (random & 0xf_ffff))
    }
}

/// Who reports: a gateway in one of its lives.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Origin {
    /// The gateway.
    pub gateway: GatewayId,
    /// Its life.
    pub incarnation: Incarnation,
}

/// The number of a session within one life of a gateway; never used twice in it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct SessionNumber(pub u64);

/// What kind of device a session runs on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceKind {
    /// A page in a browser; what a client that does not say is taken for.
    #[default]
    Web,
    /// A telephone or tablet.
    Mobile,
    /// A program on a computer.
    Desktop,
    /// A backend, a bot, or a virtual session made over REST.
    Server,
}

/// A user, as programs name it among themselves: a keyed hash of the id. Users choose their ids, so a hash without
/// a secret would let somebody make two users meet.
///
/// Two words rather than one `u128`, whose alignment would waste eight bytes a table slot.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct UserKey([u64; 2]);

impl UserKey {
    /// The key as bytes that order as keys do.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 16] {
        let both = u128::from(self.0[0]) << 64 | u128::from(self.0[1]);
        both.to_be_bytes()
    }

    /// The key of these bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        let [a, b, c, d, e, f, g, h, rest @ ..] = bytes;
        Self([u64::from_be_bytes([a, b, c, d, e, f, g, h]), u64::from_be_bytes(rest)])
    }
}

impl fmt::Display for UserKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}{:016x}", self.0[0], self.0[1])
    }
}

/// The text was no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a key is 32 hexadecimal digits")]
pub struct InvalidKey;

impl std::str::FromStr for UserKey {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        if text.len() != 32 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(InvalidKey);
        }
        let half = |from: usize| {
            text.get(from..from + 16).and_then(|part| u64::from_str_radix(part, 16).ok()).ok_or(InvalidKey)
        };
        Ok(Self([half(0)?, half(16)?]))
    }
}

/// A slice of the users, by key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Partition(pub u8);

impl Partition {
    /// The partition as an index.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Says where a user belongs. Every process of a deployment must be made with the same two values.
#[derive(Clone)]
pub struct Placement {
    key: [u8; 16],
    bits: u32,
}

impl fmt::Debug for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Placement").field("partitions", &self.partitions()).finish_non_exhaustive()
    }
}

impl Placement {
    /// The placement under a cluster secret of any length, with 2 to the power of `bits` partitions (0 to 8; the
    /// default elsewhere is 8, which is 256).
    ///
    /// # Panics
    /// When `bits` is over 8.
    #[must_use]
    pub fn new(secret: &[u8], bits: u32) -> Self {
        assert!(bits <= 8, "at most 256 partitions");
        let mut hasher = SipHasher24::new_with_keys(0x6865_7265_6e6f_7721, 0x706c_6163_656d_656e);
        hasher.write(secret);
        Self { key: hasher.finish128().as_bytes(), bits }
    }

    /// How many partitions there are.
    #[must_use]
    pub const fn partitions(&self) -> u16 {
        1 << self.bits
    }

    /// Every partition.
    pub fn all(&self) -> impl Iterator<Item = Partition> + use<> {
        (0..=u8::MAX).take(usize::from(self.partitions())).map(Partition)
    }

    /// The key of a user.
    #[must_use]
    pub fn key(&self, user: &UserId) -> UserKey {
        self.hash(&[user.as_str().as_bytes()])
    }

    /// The key of nobody, for a user somebody may not see. It is placed, asked for and answered as any other, so
    /// the answer cannot be told from that for a user who was never there: no id carries a NUL.
    #[must_use]
    pub fn decoy(&self, user: &UserId) -> UserKey {
        self.hash(&[b"\0", user.as_str().as_bytes()])
    }

    /// The partition of a key.
    #[must_use]
    pub fn partition(&self, key: UserKey) -> Partition {
        let top = key.0[0].checked_shr(64 - self.bits).unwrap_or(0);
        Partition(u8::try_from(top & 0xff).unwrap_or(u8::MAX))
    }

    /// The first and the last key of a partition.
    #[must_use]
    pub fn keys_of(&self, partition: Partition) -> (UserKey, UserKey) {
        let low = 64 - self.bits;
        let first = u64::from(partition.0).checked_shl(low).unwrap_or(0);
        let rest = u64::MAX.checked_shr(self.bits).unwrap_or(0);
        (UserKey([first, 0]), UserKey([first | rest, u64::MAX]))
    }

    /// A number that differs, as far as chance allows, between placements under different secrets, and tells nothing of
    /// the secret. It marks what is stored by key.
    #[must_use]
    pub fn mark(&self) -> u64 {
        self.hash(&[b"\0\0the mark of a placement"]).0[0]
    }

    fn hash(&self, parts: &[&[u8]]) -> UserKey {
        let mut hasher = SipHasher24::new_with_key(&self.key);
        for part in parts {
            hasher.write(part);
        }
        let sum = hasher.finish128();
        UserKey([sum.h1, sum.h2])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_ids_are_opaque_but_bounded() {
        for good in ["a", "*", ">", "a.b", "a b", "😀", "$SYS", "..", &"x".repeat(128)] {
            assert!(UserId::new(good).is_ok(), "{good}");
        }
        assert_eq!(UserId::new(""), Err(InvalidId::Empty));
        assert_eq!(UserId::new(&"x".repeat(129)), Err(InvalidId::TooLong { limit: 128, given: 129 }));
        for bad in ["a\0", "a\r\n", "\u{7f}", "\u{85}"] {
            assert_eq!(UserId::new(bad), Err(InvalidId::Control), "{bad:?}");
        }
    }

    #[test]
    fn process_ids_fit_a_subject() {
        assert!(ProcessId::new("gateway-1_a").is_ok());
        for bad in ["a.b", "a b", "*", "é", ">"] {
            assert_eq!(ProcessId::new(bad), Err(InvalidId::NotPlain), "{bad}");
        }
    }

    #[test]
    fn placement_depends_on_the_secret_and_fills_every_partition() {
        let one = Placement::new(b"one", 8);
        let user = UserId::new("ana").unwrap();
        assert_ne!(one.key(&user), Placement::new(b"two", 8).key(&user));
        assert_ne!(one.key(&user), one.decoy(&user));
        let mut hit = [false; 256];
        for i in 0..5_000 {
            hit[one.partition(one.key(&UserId::new(&format!("u{i}")).unwrap())).index()] = true;
        }
        assert!(hit.iter().all(|h| *h));
    }

    #[test]
    fn fewer_partitions_are_possible() {
        let placement = Placement::new(b"s", 0);
        assert_eq!(placement.partition(placement.key(&UserId::new("u").unwrap())), Partition(0));
        assert_eq!(Placement::new(b"s", 2).all().count(), 4);
    }

    #[test]
    fn a_partition_is_a_range_of_keys() {
        for bits in 0..=8 {
            let placement = Placement::new(b"s", bits);
            let mut before = None;
            for partition in placement.all() {
                let (first, last) = placement.keys_of(partition);
                assert_eq!(placement.partition(first), partition);
                assert_eq!(placement.partition(last), partition);
                assert!(first < last && before < Some(first));
                before = Some(last);
            }
            assert_eq!(before, Some(UserKey([u64::MAX; 2])));
        }
    }

    #[test]
    fn the_bytes_of_keys_order_as_keys_do() {
        let placement = Placement::new(b"s", 8);
        let mut keys: Vec<UserKey> =
            (0..100).map(|i| placement.key(&UserId::new(&format!("u{i}")).unwrap())).collect();
        keys.sort_unstable();
        assert!(keys.is_sorted_by_key(|key| key.to_bytes()));
        assert!(keys.iter().all(|key| UserKey::from_bytes(key.to_bytes()) == *key));
        assert_ne!(placement.mark(), Placement::new(b"t", 8).mark());
    }

    #[test]
    fn a_key_survives_its_string() {
        let placement = Placement::new(b"s", 8);
        let key = placement.key(&UserId::new("ana").unwrap());
        assert_eq!(key.to_string().parse(), Ok(key));
        for bad in ["", "x", &"g".repeat(32), &"é".repeat(16)] {
            assert_eq!(bad.parse::<UserKey>(), Err(InvalidKey), "{bad}");
        }
    }

    #[test]
    fn a_later_start_is_a_higher_incarnation() {
        let wall = crate::WallTime::from_millis;
        assert!(Incarnation::starting(wall(1), u64::MAX) < Incarnation::starting(wall(2), 0));
    }
}
