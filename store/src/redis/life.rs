//! How long entries are kept.

use std::time::Duration;

use herenow_protocol::{UserKey, Version};

use crate::codec::VERSION;

/// How long entries are kept at most.
#[derive(Clone, Copy, Debug)]
pub(super) struct Life {
    pub(super) whole: Duration,
    /// Of an entry that nothing is kept of a user.
    pub(super) absent: Duration,
}

impl Life {
    /// The life of one entry: up to a fifth less than the most, by user and version, so that entries which were made
    /// together do not end together.
    pub(super) fn of(&self, key: UserKey, version: Version, value: &[u8]) -> Duration {
        let most = if value.len() > VERSION { self.whole } else { self.absent };
        // Keys are hashes: any of their bytes are as good as drawn.
        let [.., a, b] = key.to_bytes();
        let drawn = u64::from(u16::from_be_bytes([a, b])).wrapping_add(version.n.wrapping_mul(40_503));
        let fifths = u32::try_from(drawn % 1_024).unwrap_or(0);
        (most - most * fifths / 5 / 1_024).max(Duration::from_millis(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{key, version};

    #[test]
    fn lives_are_spread_over_a_fifth_and_never_longer_than_said() {
        let life = Life { whole: Duration::from_secs(30), absent: Duration::from_secs(5) };
        let lives: Vec<Duration> =
            (0..1_000).map(|i| life.of(key(&format!("u{i}")), version(1, 1), &[0; 40])).collect();
        let (shortest, longest) = (lives.iter().min().unwrap(), lives.iter().max().unwrap());
        assert!(*shortest >= Duration::from_secs(24) && *shortest < Duration::from_millis(24_300));
        assert!(*longest <= Duration::from_secs(30) && *longest > Duration::from_millis(29_700));
        let absent = life.of(key("u"), Version::default(), &[0; VERSION]);
        assert!(absent <= Duration::from_secs(5) && absent >= Duration::from_secs(4));
    }
}
