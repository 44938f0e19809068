//! What frames and messages look like. Also what the instruction counts (`counts`) run.

#![allow(dead_code, reason = "each of those who include it uses its part")]

use herenow_protocol::frame::ServerFrame;
use herenow_protocol::id::ProcessId;
use herenow_protocol::message::{Delta, Entry, Shown};
use herenow_protocol::{Epoch, Partition, Placement, Presence, Status, UserId, Version, WallTime};

/// A heartbeat as the JavaScript SDK sends it.
pub(crate) const HEARTBEAT: &str = r#"{"type":"heartbeat","activity":"active"}"#;

const EPOCH: Epoch = Epoch { counter: 12, nonce: 0x5eed_5eed };
const SINCE: WallTime = WallTime::from_millis(1_700_000_000_123);

fn user(number: u32) -> UserId {
    UserId::new(&format!("user-{number:08}")).expect("a short name")
}

/// What a watcher is told of so many users.
pub(crate) fn presence(users: u32) -> ServerFrame {
    let presence = |number| Presence {
        user_id: user(number),
        status: Status::Online,
        last_updated: Some(SINCE),
        version: Version { epoch: EPOCH, n: 1_000 + u64::from(number) },
        text: None,
        emoji: None,
        reachable: false,
        devices: Vec::new(),
        invisible: false,
        as_of: None,
    };
    ServerFrame::Presence { users: (0..users).map(presence).collect() }
}

/// So many transitions of a partition, as its owner publishes them.
pub(crate) fn delta(users: u32) -> Delta {
    let placement = Placement::new(b"secret", 8);
    let entry = |number| Entry {
        key: placement.key(&user(number)),
        public: Shown {
            n: 1_001 + u64::from(number),
            status: Status::Idle,
            since: Some(SINCE),
            ..Shown::never_seen()
        },
        own: None,
    };
    Delta {
        from: ProcessId::new("coordinator-1").expect("a plain name"),
        partition: Partition(17),
        epoch: EPOCH,
        prev: 1_000,
        last: 1_000 + u64::from(users),
        entries: (0..users).map(entry).collect(),
    }
}
