//! How every engine writes records: keys and versions in the order of bytes, the rest by postcard.

use std::path::Path;

use herenow_protocol::api::Cause;
use herenow_protocol::frame::ManualStatus;
use herenow_protocol::history::Opened;
use herenow_protocol::message::ApiStatus;
use herenow_protocol::record::{KeptClaim, KeptSession, Record, Seen};
use herenow_protocol::{Epoch, Status, UserId, UserKey, Version, WallTime};

use crate::activity::day;
use crate::{ActivityRecord, StoreError};

/// Bytes of a version.
pub(crate) const VERSION: usize = 16;
/// Bytes of the day before a key in the history.
pub(crate) const DAY: usize = 4;

type Body<'a> = (&'a UserId, &'a Seen, &'a Manual, &'a Api, &'a [KeptSession]);
type OwnBody = (UserId, Seen, Manual, Api, Vec<KeptSession>);
type Manual = Option<KeptClaim<ManualStatus>>;
type Api = Option<KeptClaim<ApiStatus>>;

/// Sixteen bytes that order as versions do.
pub(crate) fn version_bytes(version: Version) -> [u8; VERSION] {
    let Version { epoch, n } = version;
    let all = u128::from(epoch.counter) << 96 | u128::from(epoch.nonce) << 64 | u128::from(n);
    all.to_be_bytes()
}

pub(crate) fn read_version(bytes: [u8; VERSION]) -> Version {
    let [a, b, c, d, e, f, g, h, n @ ..] = bytes;
    let epoch = Epoch { counter: u32::from_be_bytes([a, b, c, d]), nonce: u32::from_be_bytes([e, f, g, h]) };
    Version { epoch, n: u64::from_be_bytes(n) }
}

/// A record's value. One that has a version and no more is an erased user's.
pub(crate) fn write_record(record: &Record) -> Result<Vec<u8>, StoreError> {
    let mut value = Vec::new();
    append_record(&mut value, record)?;
    Ok(value)
}

/// The same behind what is there already, which is lost with an error.
pub(crate) fn append_record(to: &mut Vec<u8>, record: &Record) -> Result<(), StoreError> {
    let body: Body<'_> = (&record.user, &record.seen, &record.manual, &record.api, &record.virtual_sessions);
    to.extend_from_slice(&version_bytes(record.written));
    *to = postcard::to_extend(&body, std::mem::take(to))
        .map_err(|error| StoreError::Unavailable(error.to_string()))?;
    Ok(())
}

/// An erased user's value.
pub(crate) fn write_erased(version: Version) -> Vec<u8> {
    version_bytes(version).to_vec()
}

/// The version of a value.
pub(crate) fn written(path: &Path, value: &[u8]) -> Result<Version, StoreError> {
    value.first_chunk().copied().map(read_version).ok_or_else(|| unreadable(path))
}

/// The record of a value; `None` for an erased user's.
pub(crate) fn read_record(path: &Path, key: UserKey, value: &[u8]) -> Result<Option<Record>, StoreError> {
    let (version, body) = value.split_first_chunk().ok_or_else(|| unreadable(path))?;
    if body.is_empty() {
        return Ok(None);
    }
    let body: OwnBody = postcard::from_bytes(body).map_err(|_| unreadable(path))?;
    let (user, seen, manual, api, virtual_sessions) = body;
    let written = read_version(*version);
    Ok(Some(Record { key, user, written, seen, manual, api, virtual_sessions }))
}

/// A key of a table, as a user's.
pub(crate) fn read_key(path: &Path, bytes: &[u8]) -> Result<UserKey, StoreError> {
    bytes.try_into().map(UserKey::from_bytes).map_err(|_| unreadable(path))
}

/// What begins the keys of a user's entries on a day.
pub(crate) fn day_of_user(day: u32, key: UserKey) -> Vec<u8> {
    [day.to_be_bytes().as_slice(), &key.to_bytes()].concat()
}

/// An entry's key and value.
pub(crate) fn write_entry(entry: &ActivityRecord) -> Result<(Vec<u8>, Vec<u8>), StoreError> {
    let mut key = day_of_user(day(entry.at), entry.key);
    key.extend(entry.at.as_millis().to_be_bytes());
    key.extend(version_bytes(entry.version));
    let value = postcard::to_stdvec(&(&entry.user, entry.from, entry.to, entry.cause));
    let mut value = value.map_err(|error| StoreError::Unavailable(error.to_string()))?;
    // Behind the rest, and only where there is something: older programs wrote none, and read up to there.
    if !entry.opened.is_none() {
        value.extend(entry.opened.to_bytes());
    }
    Ok((key, value))
}

/// The entry of a key and a value.
pub(crate) fn read_entry(path: &Path, key: &[u8], value: &[u8]) -> Result<ActivityRecord, StoreError> {
    let parts = || {
        let (user, rest) = key.get(DAY..)?.split_first_chunk()?;
        let (at, rest) = rest.split_first_chunk()?;
        let at = WallTime::from_millis(u64::from_be_bytes(*at));
        Some((UserKey::from_bytes(*user), at, read_version(rest.try_into().ok()?)))
    };
    let (key, at, version) = parts().ok_or_else(|| unreadable(path))?;
    type Body = (UserId, Status, Status, Cause);
    let body = postcard::take_from_bytes::<Body>(value).map_err(|_| unreadable(path))?;
    let ((user, from, to, cause), opened) = body;
    let opened = match opened {
        [] => Opened::default(),
        _ => Opened::from_bytes(opened.try_into().map_err(|_| unreadable(path))?),
    };
    Ok(ActivityRecord { key, user, at, version, from, to, cause, opened })
}

/// The day that a key of the history begins with.
pub(crate) fn read_day(path: &Path, key: &[u8]) -> Result<u32, StoreError> {
    key.first_chunk().map(|day| u32::from_be_bytes(*day)).ok_or_else(|| unreadable(path))
}

fn unreadable(path: &Path) -> StoreError {
    StoreError::Damaged { path: path.to_owned(), reason: "an entry cannot be understood".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(counter: u32, nonce: u32, n: u64) -> Version {
        Version { epoch: Epoch { counter, nonce }, n }
    }

    fn record() -> Record {
        let moment = WallTime::from_millis(1_700_000_000_000);
        let user = UserId::new("ana").unwrap();
        let version = version(1, 2, 3);
        let seen = Seen { version, status: Status::Offline, since: Some(moment), text: None, emoji: None };
        let claim =
            KeptClaim { status: ManualStatus::Dnd, text: Some("x".into()), emoji: None, expires_at: None };
        Record {
            key: UserKey::from_bytes([5; 16]),
            user,
            written: version,
            seen,
            manual: Some(claim),
            api: None,
            virtual_sessions: vec![KeptSession { name: None, since: moment, expires_at: moment }],
        }
    }

    #[test]
    fn versions_order_as_their_bytes() {
        let order =
            [version(0, 0, 0), version(1, 9, 300), version(2, 1, 1), version(2, 1, 255), version(2, 2, 0)];
        assert!(order.is_sorted());
        assert!(order.is_sorted_by_key(|version| version_bytes(*version)));
        assert!(order.iter().all(|version| read_version(version_bytes(*version)) == *version));
    }

    /// Whoever changes these bytes makes a new [`crate::FORMAT`], and reads the old one.
    #[test]
    fn what_is_on_the_disk_of_format_1() {
        let bytes = write_record(&record()).unwrap();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, GOLDEN);
        let read = read_record(Path::new("/x"), record().key, &bytes).unwrap();
        assert_eq!(read, Some(record()));
    }

    const GOLDEN: &str = "0000000100000002000000000000000303616e61010203030180d095ffbc31000001030101780000\
                          00010080d095ffbc3180d095ffbc31";

    /// An entry without sessions is what older programs wrote, and what they read of one with some.
    #[test]
    fn an_entry_of_the_history_on_the_disk_of_format_1() {
        use crate::testing::entry;
        let path = Path::new("/x");
        let none = ActivityRecord { opened: Opened::default(), ..entry("ana", 5, 1) };
        let (key, value) = write_entry(&none).unwrap();
        assert_eq!(value, [3, b'a', b'n', b'a', 3, 0, 0]);
        assert_eq!(read_entry(path, &key, &value).unwrap(), none);
        let some = ActivityRecord { opened: Opened { web: 2, server: 1, ..Opened::default() }, ..none };
        let (key, more) = write_entry(&some).unwrap();
        assert_eq!(more, [&value[..], &[2, 0, 0, 1]].concat());
        assert_eq!(read_entry(path, &key, &more).unwrap(), some);
        assert!(read_entry(path, &key, &more[..more.len() - 1]).is_err());
    }

    #[test]
    fn what_is_no_record_is_damage() {
        let path = Path::new("/x");
        let bytes = write_record(&record()).unwrap();
        for short in [0, 1, 15] {
            assert!(written(path, &bytes[..short]).is_err());
            assert!(read_record(path, record().key, &bytes[..short]).is_err());
        }
        assert!(read_record(path, record().key, &bytes[..bytes.len() - 1]).is_err());
        assert!(read_entry(path, &[1; 43], &[1]).is_err());
        assert!(read_key(path, &[1; 15]).is_err());
    }
}
