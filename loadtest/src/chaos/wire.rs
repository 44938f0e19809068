//! Frames and records as docs/PROTOCOL.md has them. Read and written here by themselves: a judge that used the types
//! of the service would share its mistakes.

use std::time::Duration;

use serde_json::{Map, Value, json};

/// What a record says of a user (COM-4), but for `unknown`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Status {
    Online,
    Idle,
    Dnd,
    Offline,
}

impl Status {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Online => "online",
            Self::Idle => "idle",
            Self::Dnd => "dnd",
            Self::Offline => "offline",
        }
    }
}

/// What a client says that its person does (WS-9).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Activity {
    Active,
    Idle,
    /// Of a phone in a pocket; others see the same as of an idle one.
    Background,
}

impl Activity {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Idle => "idle",
            Self::Background => "background",
        }
    }
}

/// Orders the records of one user by plain comparison of strings (COM-5).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct Version(String);

/// One record (COM-4).
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Record {
    pub(super) user: String,
    /// None: `unknown`.
    pub(super) status: Option<Status>,
    pub(super) version: Version,
    /// It came with `asOf`.
    pub(super) stale: bool,
    /// `lastUpdated`.
    pub(super) since: Value,
    /// All else that is to be seen.
    pub(super) content: Map<String, Value>,
}

/// A frame of a gateway, as far as it matters here.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Heard {
    /// WS-20, with the interval of heartbeats.
    Welcome(Duration),
    /// WS-21.
    Snapshot(Vec<Record>),
    /// WS-22.
    Presence(Vec<Record>),
    /// WS-23, with the number of what it confirms.
    Ack(u64),
    /// Another one (WS-27).
    Other,
}

impl Version {
    const DIGITS: usize = 28;

    fn read(text: &str) -> Option<Self> {
        let digits = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        (digits && text.len() == Self::DIGITS).then(|| Self(text.to_owned()))
    }

    /// Its first 16 digits.
    pub(super) fn epoch(&self) -> &str {
        &self.0[..16]
    }
}

impl Heard {
    /// Reads a frame.
    ///
    /// # Errors
    /// It is not as the protocol says; with what is wrong.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        let frame: Value = serde_json::from_str(text).map_err(|error| format!("no JSON: {error}"))?;
        let wrong = |what: &str| format!("{what}: {text}");
        match frame["type"].as_str().ok_or_else(|| wrong("no type"))? {
            "welcome" => {
                let interval = frame["heartbeatIntervalMs"].as_u64();
                Ok(Self::Welcome(Duration::from_millis(interval.ok_or_else(|| wrong("no interval"))?)))
            }
            "ack" => Ok(Self::Ack(frame["id"].as_u64().ok_or_else(|| wrong("no id"))?)),
            "snapshot" if !frame["complete"].is_boolean() => Err(wrong("no complete")),
            "snapshot" => Ok(Self::Snapshot(records(&frame["users"])?)),
            "presence" => Ok(Self::Presence(records(&frame["users"])?)),
            _ => Ok(Self::Other),
        }
    }
}

fn records(list: &Value) -> Result<Vec<Record>, String> {
    let list = list.as_array().ok_or_else(|| format!("no list of users: {list}"))?;
    list.iter().map(Record::read).collect()
}

impl Record {
    /// Reads a record.
    ///
    /// # Errors
    /// It is not as the protocol says; with what is wrong.
    pub(super) fn read(value: &Value) -> Result<Self, String> {
        let wrong = |what: &str| format!("{what}: {value}");
        let record = value.as_object().ok_or_else(|| wrong("no record"))?;
        let text = |name: &str| record.get(name).and_then(Value::as_str);
        let status = match text("status").ok_or_else(|| wrong("no status"))? {
            "online" => Some(Status::Online),
            "idle" => Some(Status::Idle),
            "dnd" => Some(Status::Dnd),
            "offline" => Some(Status::Offline),
            "unknown" => None,
            _ => return Err(wrong("no status that there is")),
        };
        if record.get("lastUpdated").is_none_or(|time| !time.is_null() && !is_time(time)) {
            return Err(wrong("no lastUpdated"));
        }
        if record.get("asOf").is_some_and(|time| !is_time(time)) {
            return Err(wrong("asOf is no time"));
        }
        Ok(Self {
            user: text("userId").ok_or_else(|| wrong("no userId"))?.to_owned(),
            status,
            version: text("version").and_then(Version::read).ok_or_else(|| wrong("no version"))?,
            stale: record.contains_key("asOf"),
            since: record["lastUpdated"].clone(),
            content: without(record, &["userId", "version", "asOf", "lastUpdated"]),
        })
    }
}

fn without(record: &Map<String, Value>, names: &[&str]) -> Map<String, Value> {
    let kept = record.iter().filter(|(name, _)| !names.contains(&name.as_str()));
    kept.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// `2026-01-31T08:15:30.123Z` (COM-3).
fn is_time(value: &Value) -> bool {
    const FORM: &[u8] = b"0000-00-00T00:00:00.000Z";
    let fits = |(byte, form): (u8, &u8)| if *form == b'0' { byte.is_ascii_digit() } else { byte == *form };
    value.as_str().is_some_and(|text| text.len() == FORM.len() && text.bytes().zip(FORM).all(fits))
}

/// Of a welcome (WS-20): the seconds of the day of its `serverTime`.
pub(super) fn server_time(text: &str) -> Option<i64> {
    let frame: Value = serde_json::from_str(text).ok()?;
    let time = frame.get("serverTime").filter(|time| is_time(time))?.as_str()?;
    let part = |from: usize| time.get(from..from + 2)?.parse::<i64>().ok();
    Some(part(11)? * 3_600 + part(14)? * 60 + part(17)?)
}

/// WS-9. With a number it is answered.
pub(super) fn heartbeat(activity: Activity, id: Option<u64>) -> String {
    let mut frame = json!({"type": "heartbeat", "activity": activity.word()});
    if let Some(id) = id {
        frame["id"] = json!(id);
    }
    frame.to_string()
}

/// WS-13.
pub(super) fn status(id: u64, word: &str) -> String {
    json!({"type": "status", "id": id, "status": word}).to_string()
}

/// WS-10.
pub(super) fn watch(users: &[&str]) -> String {
    json!({"type": "watch", "id": 1, "users": users}).to_string()
}

/// WS-14.
pub(super) fn bye() -> String {
    json!({"type": "bye"}).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERSION: &str = "00000001a3f09b7c00000000002a";

    fn record() -> Value {
        json!({"userId": "ana", "status": "online", "lastUpdated": null, "version": VERSION})
    }

    #[test]
    fn frames_are_read() {
        let presence = json!({"type": "presence", "users": [record()]}).to_string();
        let Ok(Heard::Presence(records)) = Heard::read(&presence) else { panic!("{presence}") };
        assert_eq!((records[0].status, records[0].stale), (Some(Status::Online), false));
        let welcome = json!({"type": "welcome", "heartbeatIntervalMs": 4_000});
        assert_eq!(Heard::read(&welcome.to_string()), Ok(Heard::Welcome(Duration::from_secs(4))));
        assert_eq!(Heard::read(r#"{"type":"new"}"#), Ok(Heard::Other));
    }

    #[test]
    fn what_breaks_the_protocol_is_told() {
        for (field, value) in [
            ("userId", json!(7)),
            ("status", json!("away")),
            ("status", json!(null)),
            ("lastUpdated", json!("yesterday")),
            ("lastUpdated", json!("2026-01-31T08:15:30Z")),
            ("version", json!("00000001A3F09B7C00000000002A")),
            ("version", json!("1")),
            ("asOf", json!(null)),
        ] {
            let mut record = record();
            record[field] = value;
            let frame = json!({"type": "presence", "users": [record]}).to_string();
            assert!(Heard::read(&frame).is_err(), "{frame}");
        }
        for frame in ["", "[]", r#"{"type":"presence"}"#, r#"{"type":"snapshot","users":[]}"#] {
            assert!(Heard::read(frame).is_err(), "{frame}");
        }
    }

    #[test]
    fn versions_order_as_strings_of_digits() {
        let read = |text: &str| Version::read(text).unwrap();
        assert!(read("00000001a3f09b7c00000000002a") < read("00000001a3f09b7c00000000002b"));
        assert!(read("00000001ffffffffffffffffffff") < read("00000002000000000000000000ff"));
    }

    #[test]
    fn a_welcome_tells_the_time_of_day() {
        let welcome = r#"{"type":"welcome","serverTime":"2026-01-31T08:15:30.123Z"}"#;
        assert_eq!(server_time(welcome), Some(8 * 3_600 + 15 * 60 + 30));
        assert_eq!(server_time(r#"{"type":"ack"}"#), None);
    }

    #[test]
    fn a_time_has_milliseconds_and_a_z() {
        assert!(is_time(&json!("2026-01-31T08:15:30.123Z")));
        assert!(!is_time(&json!("2026-01-31T08:15:30.123+00:00")));
        assert!(!is_time(&json!(12)));
    }
}
