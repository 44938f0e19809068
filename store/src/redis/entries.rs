//! What the cache is told of users: thousands of values in one piece of memory, until they are copied into commands.

use std::ops::Range;

use herenow_protocol::record::Record;
use herenow_protocol::{UserKey, Version};

use crate::StoreError;
use crate::codec::{append_record, version_bytes};

/// Bytes of a usual value, with its version; more are made room for when they come.
const USUAL: usize = 64;

/// Users with their values, each of which begins with its version.
#[derive(Debug)]
pub(super) struct Entries {
    users: Vec<(UserKey, Version)>,
    values: Vec<u8>,
    /// Where the value of each user ends in `values`.
    ends: Vec<usize>,
}

/// One of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry<'a> {
    pub(super) key: UserKey,
    pub(super) version: Version,
    pub(super) value: &'a [u8],
}

impl Entries {
    pub(super) fn with_capacity(users: usize) -> Self {
        Self {
            users: Vec::with_capacity(users),
            values: Vec::with_capacity(users * USUAL),
            ends: Vec::with_capacity(users),
        }
    }

    pub(super) fn of_records(records: &[Record]) -> Result<Self, StoreError> {
        let mut entries = Self::with_capacity(records.len());
        records.iter().try_for_each(|record| entries.push(record))?;
        Ok(entries)
    }

    pub(super) fn of_erased(users: &[(UserKey, Version)]) -> Self {
        let mut entries = Self::with_capacity(users.len());
        users.iter().for_each(|(key, version)| entries.push_nothing(*key, *version));
        entries
    }

    /// Adds what is kept of a user.
    pub(super) fn push(&mut self, record: &Record) -> Result<(), StoreError> {
        append_record(&mut self.values, record)?;
        self.end(record.key, record.written);
        Ok(())
    }

    /// Adds that nothing is kept of a user.
    pub(super) fn push_nothing(&mut self, key: UserKey, version: Version) {
        self.values.extend_from_slice(&version_bytes(version));
        self.end(key, version);
    }

    fn end(&mut self, key: UserKey, version: Version) {
        self.users.push((key, version));
        self.ends.push(self.values.len());
    }

    pub(super) fn users(&self) -> &[(UserKey, Version)] {
        &self.users
    }

    /// Those at these places.
    pub(super) fn part(&self, places: Range<usize>) -> impl Iterator<Item = Entry<'_>> + Clone {
        places.filter_map(|at| {
            let (key, version) = *self.users.get(at)?;
            let start = at.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
            let value = self.values.get(start..*self.ends.get(at)?)?;
            Some(Entry { key, version, value })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{write_erased, write_record};
    use crate::testing::{key, record, version};

    #[test]
    fn each_user_has_its_own_value() {
        let records = ["ana", "ben", "cleo"].map(|name| record(name, version(1, 5)));
        let mut entries = Entries::of_records(&records).unwrap();
        entries.push_nothing(key("dora"), version(2, 6));
        let mut wanted: Vec<_> = records.iter().map(|record| write_record(record).unwrap()).collect();
        wanted.push(write_erased(version(2, 6)));
        let found: Vec<_> = entries.part(0..4).map(|entry| entry.value.to_vec()).collect();
        assert_eq!(found, wanted);
        let later: Vec<_> = entries.part(2..9).map(|entry| (entry.key, entry.version)).collect();
        assert_eq!(later, [(key("cleo"), version(1, 5)), (key("dora"), version(2, 6))]);
        assert_eq!(later, entries.users()[2..]);
    }
}
