//! Epochs and versions: the order in which facts about a user hold.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What grows with each claim of a partition and fences older owners. Compared by counter, then nonce. The nonce
/// is drawn anew for each claim, so that a counter reused after the arbiter lost its tail is still told apart.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Epoch {
    /// One more than the highest counter the claimant had seen.
    pub counter: u32,
    /// Random, per claim.
    pub nonce: u32,
}

impl Epoch {
    /// Older than every epoch that was ever claimed.
    pub const NONE: Self = Self { counter: 0, nonce: 0 };
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}{:08x}", self.counter, self.nonce)
    }
}

/// The version of a user's presence: the epoch of its partition and the number of the change within it.
///
/// As a string it is 28 lower-case hexadecimal digits whose plain comparison is the order of versions.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Version {
    /// Which owner's numbering.
    pub epoch: Epoch,
    /// The number of the change; at most 48 bits, which at a million changes a second last nine years.
    pub n: u64,
}

/// The text was no version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a version is 28 hexadecimal digits")]
pub struct InvalidVersion;

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{:012x}", self.epoch, self.n)
    }
}

impl FromStr for Version {
    type Err = InvalidVersion;

    fn from_str(text: &str) -> Result<Self, InvalidVersion> {
        let digits = |from: usize, to: usize| {
            let part = text.get(from..to).ok_or(InvalidVersion)?;
            if part.bytes().all(|b| b.is_ascii_hexdigit()) {
                u64::from_str_radix(part, 16).map_err(|_| InvalidVersion)
            } else {
                Err(InvalidVersion)
            }
        };
        if text.len() != 28 {
            return Err(InvalidVersion);
        }
        let half = |value: u64| u32::try_from(value).map_err(|_| InvalidVersion);
        let epoch = Epoch { counter: half(digits(0, 8)?)?, nonce: half(digits(8, 16)?)? };
        Ok(Self { epoch, n: digits(16, 28)? })
    }
}

impl Serialize for Version {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            (self.epoch, self.n).serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
        } else {
            <(Epoch, u64)>::deserialize(deserializer).map(|(epoch, n)| Self { epoch, n })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(counter: u32, nonce: u32, n: u64) -> Version {
        Version { epoch: Epoch { counter, nonce }, n }
    }

    #[test]
    fn strings_compare_as_versions_do() {
        let order =
            [version(0, 0, 0), version(1, 9, 300), version(2, 1, 1), version(2, 1, 255), version(2, 2, 0)];
        for pair in order.windows(2) {
            assert!(pair[0] < pair[1]);
            assert!(pair[0].to_string() < pair[1].to_string());
        }
    }

    #[test]
    fn a_version_survives_its_string() {
        let v = version(7, 0xdead_beef, 42);
        assert_eq!(v.to_string(), "00000007deadbeef00000000002a");
        assert_eq!(v.to_string().parse(), Ok(v));
    }

    #[test]
    fn what_is_no_version_is_refused() {
        for text in [
            "",
            "0",
            "+0000007deadbeef00000000002a",
            "0000000gdeadbeef00000000002a",
            "é000007deadbeef0000000000",
        ] {
            assert_eq!(text.parse::<Version>(), Err(InvalidVersion), "{text}");
        }
    }
}
