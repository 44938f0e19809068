//! What coordinators say for the history, on the stream [`crate::subject::ACTIVITY_STREAM`]: JSON, so that people can
//! read what an archiver could not.

use serde::{Deserialize, Serialize};

use crate::api::Cause;
use crate::limit::HISTORY_ENTRIES;
use crate::{DeviceKind, Status, UserId, Version, WallTime};

/// The form of [`HistoryMessage`] that this program writes and reads. Grows when an older program would misread it.
pub const HISTORY_FORMAT: u32 = 1;

/// One message.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HistoryMessage {
    /// [`HISTORY_FORMAT`].
    pub format: u32,
    /// What is said.
    #[serde(flatten)]
    pub said: HistorySaid,
}

/// What a message says.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HistorySaid {
    /// Transitions, at most [`HISTORY_ENTRIES`]; of one user in the order of versions.
    Entries(Vec<HistoryEntry>),
    /// Forget a user, whatever was said of it before.
    Erase(UserId),
}

/// One transition of one user.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HistoryEntry {
    /// Whose.
    pub user_id: UserId,
    /// What it was, in a word.
    pub event: Event,
    /// When it happened.
    pub at: WallTime,
    /// The version that it led to.
    pub version: Version,
    /// The status before.
    pub from: Status,
    /// The status after.
    pub to: Status,
    /// Why.
    pub cause: Cause,
    /// The sessions that the user has opened since the transition before it. Older programs do not say.
    #[serde(default, skip_serializing_if = "Opened::is_none")]
    pub opened: Opened,
}

/// How many sessions somebody has opened, by kind of device: at most 255 of each, more are not counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Opened {
    /// In browsers.
    #[serde(skip_serializing_if = "is_zero")]
    pub web: u8,
    /// On phones and tablets.
    #[serde(skip_serializing_if = "is_zero")]
    pub mobile: u8,
    /// In programs on desktops.
    #[serde(skip_serializing_if = "is_zero")]
    pub desktop: u8,
    /// By servers, virtual sessions among them.
    #[serde(skip_serializing_if = "is_zero")]
    pub server: u8,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
const fn is_zero(count: &u8) -> bool {
    *count == 0
}

impl Opened {
    /// Counts one more.
    pub const fn add(&mut self, kind: DeviceKind) {
        let count = match kind {
            DeviceKind::Web => &mut self.web,
            DeviceKind::Mobile => &mut self.mobile,
            DeviceKind::Desktop => &mut self.desktop,
            DeviceKind::Server => &mut self.server,
        };
        *count = count.saturating_add(1);
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// As stores keep it: web, mobile, desktop, server.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 4] {
        [self.web, self.mobile, self.desktop, self.server]
    }

    /// The opposite of [`Self::to_bytes`].
    #[must_use]
    pub const fn from_bytes([web, mobile, desktop, server]: [u8; 4]) -> Self {
        Self { web, mobile, desktop, server }
    }
}

/// What a transition was, in a word.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// Somebody who was not there is.
    Login,
    /// Somebody who was there is not.
    Logout,
    /// Anything else.
    StatusChange,
}

impl Event {
    /// What the way from one status to another was.
    #[must_use]
    pub const fn of(from: Status, to: Status) -> Self {
        match (is_there(from), is_there(to)) {
            (false, true) => Self::Login,
            (true, false) => Self::Logout,
            (true, true) | (false, false) => Self::StatusChange,
        }
    }
}

const fn is_there(status: Status) -> bool {
    match status {
        Status::Online | Status::Idle | Status::Dnd => true,
        Status::Offline | Status::Unknown => false,
    }
}

impl HistoryMessage {
    /// A message of the present form.
    #[must_use]
    pub const fn new(said: HistorySaid) -> Self {
        Self { format: HISTORY_FORMAT, said }
    }

    /// As it travels.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        // Every part of it can be written as JSON.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads a message.
    ///
    /// # Errors
    /// Why nobody can do anything with it, in words without what it says.
    pub fn read(bytes: &[u8]) -> Result<HistorySaid, String> {
        #[derive(Deserialize)]
        struct Form {
            format: u32,
        }
        let kind = |error: serde_json::Error| format!("is not understood: {:?} error", error.classify());
        let form: Form = serde_json::from_slice(bytes).map_err(kind)?;
        if form.format != HISTORY_FORMAT {
            return Err(format!("has format {}, this program reads {HISTORY_FORMAT}", form.format));
        }
        let message: Self = serde_json::from_slice(bytes).map_err(kind)?;
        match &message.said {
            HistorySaid::Entries(entries) if entries.len() > HISTORY_ENTRIES => {
                Err(format!("has {} entries, over the limit of {HISTORY_ENTRIES}", entries.len()))
            }
            HistorySaid::Entries(_) | HistorySaid::Erase(_) => Ok(message.said),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Epoch;

    fn entry() -> HistoryEntry {
        HistoryEntry {
            user_id: UserId::new("ana").unwrap(),
            event: Event::Login,
            at: WallTime::from_millis(1_700_000_000_000),
            version: Version { epoch: Epoch { counter: 1, nonce: 2 }, n: 3 },
            from: Status::Offline,
            to: Status::Online,
            cause: Cause::Connected,
            opened: Opened::default(),
        }
    }

    const MOST: Opened = Opened { web: 255, mobile: 255, desktop: 255, server: 255 };

    #[test]
    fn what_is_written_is_read_and_looks_like_this() {
        let said = HistorySaid::Entries(vec![entry()]);
        let bytes = HistoryMessage::new(said.clone()).to_bytes();
        assert_eq!(
            String::from_utf8(bytes.clone()).unwrap(),
            r#"{"format":1,"entries":[{"userId":"ana","event":"login","at":"2023-11-14T22:13:20.000Z","version":"0000000100000002000000000003","from":"offline","to":"online","cause":"connected"}]}"#
        );
        assert_eq!(HistoryMessage::read(&bytes).unwrap(), said);
        let opened = Opened { web: 2, server: 1, ..Opened::default() };
        let said = HistorySaid::Entries(vec![HistoryEntry { opened, ..entry() }]);
        let bytes = HistoryMessage::new(said.clone()).to_bytes();
        let end = r#""cause":"connected","opened":{"web":2,"server":1}}]}"#;
        assert!(String::from_utf8(bytes.clone()).unwrap().ends_with(end));
        assert_eq!(HistoryMessage::read(&bytes).unwrap(), said);
        let erase = HistorySaid::Erase(UserId::new("ana").unwrap());
        let bytes = HistoryMessage::new(erase.clone()).to_bytes();
        assert_eq!(bytes, br#"{"format":1,"erase":"ana"}"#);
        assert_eq!(HistoryMessage::read(&bytes).unwrap(), erase);
    }

    #[test]
    fn what_nobody_can_use_says_why_and_not_what_it_says() {
        let with =
            |entry: HistoryEntry, n| HistoryMessage::new(HistorySaid::Entries(vec![entry; n])).to_bytes();
        assert!(HistoryMessage::read(&with(entry(), HISTORY_ENTRIES)).is_ok());
        // Calendars of stores have trouble with what is later.
        let late = String::from_utf8(with(entry(), 1)).unwrap().replace("2023-", "+010000-");
        for (bytes, reason) in [
            (b"nonsense of ana".to_vec(), "not understood"),
            (br#"{"format":1,"entries":[{"userId":"ana"}]}"#.to_vec(), "not understood"),
            (br#"{"format":1,"erase":""}"#.to_vec(), "not understood"),
            (br#"{"format":2,"entries":[]}"#.to_vec(), "format 2"),
            (with(entry(), HISTORY_ENTRIES + 1), "over the limit"),
            (late.into_bytes(), "not understood"),
        ] {
            let said = HistoryMessage::read(&bytes).unwrap_err();
            assert!(said.contains(reason) && !said.contains("ana"), "{said}");
        }
    }

    #[test]
    fn the_longest_message_is_under_the_limit() {
        let longest =
            HistoryEntry { user_id: UserId::new(&"\"".repeat(128)).unwrap(), opened: MOST, ..entry() };
        let bytes = HistoryMessage::new(HistorySaid::Entries(vec![longest; HISTORY_ENTRIES])).to_bytes();
        assert!(bytes.len() <= crate::limit::MESSAGE_BYTES, "{}", bytes.len());
    }

    #[test]
    fn sessions_are_counted_by_kind_and_one_more_than_the_most_is_not() {
        let mut opened = Opened::default();
        assert!(opened.is_none());
        for kind in
            [DeviceKind::Web, DeviceKind::Mobile, DeviceKind::Desktop, DeviceKind::Server, DeviceKind::Mobile]
        {
            opened.add(kind);
        }
        assert_eq!(opened.to_bytes(), [1, 2, 1, 1]);
        assert_eq!(Opened::from_bytes([1, 2, 1, 1]), opened);
        (0..300).for_each(|_| opened.add(DeviceKind::Mobile));
        assert_eq!(opened.mobile, 255);
    }

    #[test]
    fn coming_and_going_have_names() {
        assert_eq!(Event::of(Status::Offline, Status::Dnd), Event::Login);
        assert_eq!(Event::of(Status::Idle, Status::Offline), Event::Logout);
        assert_eq!(Event::of(Status::Online, Status::Idle), Event::StatusChange);
    }
}
