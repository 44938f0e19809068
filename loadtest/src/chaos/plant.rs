//! Mistakes that the judge must find, made between a gateway and a watcher, so that the service itself has no switch
//! for them. Pure.

use std::collections::HashMap;
use std::time::Duration;

use clap::ValueEnum;
use serde::Serialize;
use serde_json::{Value, json};

use super::truth::Moment;

/// One in so many records is lost, one in so many others is tampered with.
const LOST: u64 = 100;
const SOME: u64 = 10;
/// How long what is made up comes after what it follows.
const LATER: Duration = Duration::from_millis(200);
/// How long a snapshot takes that was read before it was watched.
const SNAPSHOT: Duration = Duration::from_millis(700);
/// How long a connection is let live.
pub(super) const CUT: Duration = Duration::from_secs(3);

/// A mistake.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Plant {
    /// One of 100 records is lost, and nothing repairs it
    LostRecord,
    /// What was true before comes again
    StaleReplay,
    /// Who has left comes back as a new change
    Ghost,
    /// One more `offline` for who is offline already, which tells that something happened
    ExtraOffline,
    /// A snapshot that knows nothing of what came while it was under way
    LostUpdate,
    /// Idle is told as online
    IdleAsOnline,
    /// What is known is told as unknown
    NeedlessUnknown,
    /// Watchers are cut off again and again
    NeedlessCut,
}

/// Between one watcher and its gateway.
#[derive(Debug)]
pub(super) struct Between {
    plant: Plant,
    records: u64,
    /// What was told last of every user.
    last: HashMap<String, Value>,
    /// Until when a snapshot is under way.
    under_way: Moment,
}

impl Between {
    /// The watchers with different numbers lose different records.
    pub(super) fn new(plant: Plant, number: usize) -> Self {
        Self { plant, records: 17 * number as u64, last: HashMap::new(), under_way: Moment::ZERO }
    }

    /// What the watcher is told instead of a frame, each after so long. Unarmed it only listens.
    pub(super) fn pass(&mut self, text: &str, now: Moment, armed: bool) -> Vec<(Duration, String)> {
        let as_it_is = || vec![(Duration::ZERO, text.to_owned())];
        let Ok(frame) = serde_json::from_str::<Value>(text) else { return as_it_is() };
        let Some(records) = frame["users"].as_array() else { return as_it_is() };
        let told = match frame["type"].as_str() {
            Some("presence") if armed => self.presence(records, now),
            Some("snapshot") if armed && self.plant == Plant::LostUpdate => {
                self.under_way = now + SNAPSHOT;
                vec![(SNAPSHOT, text.to_owned())]
            }
            _ => as_it_is(),
        };
        for record in records {
            self.last.insert(record["userId"].to_string(), record.clone());
        }
        told
    }

    fn presence(&mut self, records: &[Value], now: Moment) -> Vec<(Duration, String)> {
        if now < self.under_way {
            return Vec::new();
        }
        let (mut at_once, mut later) = (Vec::new(), Vec::new());
        for record in records {
            self.records += 1;
            at_once.extend(self.instead(record));
            later.extend(self.more(record));
        }
        let presence = |users: Vec<Value>| json!({"type": "presence", "users": users}).to_string();
        let told = [(Duration::ZERO, at_once), (LATER, later)];
        told.into_iter()
            .filter(|(_, users)| !users.is_empty())
            .map(|(after, users)| (after, presence(users)))
            .collect()
    }

    /// What is told instead of a record, if anything.
    fn instead(&self, record: &Value) -> Option<Value> {
        let as_status = |status: &str| {
            let mut record = record.clone();
            record["status"] = json!(status);
            record
        };
        if self.plant == Plant::LostRecord && self.records.is_multiple_of(LOST) {
            None
        } else if self.plant == Plant::IdleAsOnline && record["status"] == "idle" {
            Some(as_status("online"))
        } else if self.plant == Plant::NeedlessUnknown && self.records.is_multiple_of(SOME) {
            Some(as_status("unknown"))
        } else {
            Some(record.clone())
        }
    }

    /// What is told after it, if anything.
    fn more(&self, record: &Value) -> Option<Value> {
        let offline = record["status"] == "offline";
        let before = self.last.get(&record["userId"].to_string());
        if self.plant == Plant::StaleReplay && self.records.is_multiple_of(SOME) {
            before.cloned()
        } else if self.plant == Plant::Ghost && offline {
            before.map(|before| newer(before, record))
        } else if self.plant == Plant::ExtraOffline && offline {
            Some(newer(record, record))
        } else {
            None
        }
    }
}

/// A record with the version after that of another.
fn newer(record: &Value, than: &Value) -> Value {
    let mut record = record.clone();
    let version = than["version"].as_str().unwrap_or_default();
    let (epoch, n) = version.split_at_checked(16).unwrap_or_default();
    let n = u64::from_str_radix(n, 16).unwrap_or_default() + 1;
    record["version"] = json!(format!("{epoch}{n:012x}"));
    record
}

#[cfg(test)]
mod tests {
    use super::*;

    fn presence(status: &str, n: u64) -> String {
        let version = format!("0000000000000001{n:012x}");
        let record = json!({"userId": "ana", "status": status, "lastUpdated": null, "version": version});
        json!({"type": "presence", "users": [record]}).to_string()
    }

    fn passed(plant: Plant, frames: &[String]) -> Vec<(Duration, String)> {
        let mut between = Between::new(plant, 0);
        frames.iter().flat_map(|frame| between.pass(frame, Moment::ZERO, true)).collect()
    }

    #[test]
    fn unarmed_everything_passes() {
        let mut between = Between::new(Plant::Ghost, 0);
        for frame in [presence("online", 1), presence("offline", 2), "{}".to_owned()] {
            assert_eq!(between.pass(&frame, Moment::ZERO, false), [(Duration::ZERO, frame)]);
        }
    }

    #[test]
    fn one_record_of_a_hundred_is_lost() {
        let frames: Vec<String> = (1..=200).map(|n| presence("online", n)).collect();
        assert_eq!(passed(Plant::LostRecord, &frames).len(), 198);
    }

    #[test]
    fn who_left_comes_back_as_a_newer_change() {
        let told = passed(Plant::Ghost, &[presence("online", 1), presence("offline", 2)]);
        assert_eq!(told[2], (LATER, presence("online", 3)));
    }

    #[test]
    fn one_offline_more_is_newer_and_the_same() {
        let told = passed(Plant::ExtraOffline, &[presence("offline", 2)]);
        assert_eq!(told[1], (LATER, presence("offline", 3)));
    }

    #[test]
    fn what_came_before_comes_again() {
        let frames: Vec<String> = (1..=10).map(|n| presence("online", n)).collect();
        assert_eq!(passed(Plant::StaleReplay, &frames)[10], (LATER, presence("online", 9)));
    }

    #[test]
    fn what_comes_while_a_snapshot_is_under_way_is_lost() {
        let mut between = Between::new(Plant::LostUpdate, 0);
        let snapshot = presence("online", 1).replace("presence", "snapshot");
        assert_eq!(between.pass(&snapshot, Moment::ZERO, true), [(SNAPSHOT, snapshot.clone())]);
        assert_eq!(between.pass(&presence("idle", 2), SNAPSHOT / 2, true), []);
        assert_eq!(between.pass(&presence("idle", 3), SNAPSHOT, true).len(), 1);
    }

    #[test]
    fn statuses_are_told_as_others() {
        let told = passed(Plant::IdleAsOnline, &[presence("idle", 1)]);
        assert_eq!(told, [(Duration::ZERO, presence("online", 1))]);
        let frames: Vec<String> = (1..=10).map(|n| presence("online", n)).collect();
        assert_eq!(passed(Plant::NeedlessUnknown, &frames)[9].1, presence("unknown", 10));
    }
}
