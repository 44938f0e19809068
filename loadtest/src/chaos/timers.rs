//! The timers of the cluster under test: the defaults, five times shorter.

use std::time::Duration;

/// How much shorter every timer is.
pub(super) const SHORTER: u32 = 5;

/// Time from losing the last session to offline.
pub(super) const GRACE: Duration = Duration::from_secs(2);
/// A silent client is lost after this.
pub(super) const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(6);
/// A silent gateway is lost after this.
pub(super) const GATEWAY_TIMEOUT: Duration = Duration::from_secs(1);
/// A silent coordinator is lost after this.
pub(super) const DEAD_AFTER: Duration = Duration::from_millis(200);
/// What no owner confirmed for this long is unknown.
pub(super) const FRESH_FOR: Duration = Duration::from_secs(4);
/// What a bound leaves to the machine. It is no timer of the service, so it does not shrink with them.
pub(super) const MACHINE: Duration = Duration::from_secs(1);

/// What a promise becomes with the shorter timers: all of it shrinks but the second that it leaves to the machine.
pub(super) fn scaled(promised: Duration) -> Duration {
    promised.saturating_sub(MACHINE) / SHORTER + MACHINE
}

/// The settings of every process.
pub(super) const SETTINGS: [(&str, &str); 27] = [
    ("HERENOW__CLUSTER__BUS", "nats"),
    ("HERENOW__NATS__PING_INTERVAL", "100ms"),
    ("HERENOW__NATS__CONNECTION_TIMEOUT", "160ms"),
    ("HERENOW__GATEWAY__SHARDS", "1"),
    ("HERENOW__GATEWAY__AUTH__ALGORITHM", "HS256"),
    ("HERENOW__GATEWAY__CORE__HEARTBEAT_INTERVAL", "4s"),
    ("HERENOW__GATEWAY__CORE__HEARTBEAT_TIMEOUT", "6s"),
    ("HERENOW__GATEWAY__CORE__FRESH_FOR", "4s"),
    ("HERENOW__GATEWAY__CORE__STALE_AFTER", "400ms"),
    ("HERENOW__GATEWAY__CORE__BEAT_INTERVAL", "100ms"),
    ("HERENOW__GATEWAY__CORE__TAIL_PATIENCE", "20ms"),
    ("HERENOW__GATEWAY__CORE__PULL_TIMEOUT", "80ms"),
    ("HERENOW__GATEWAY__CORE__REQUEST_TIMEOUT", "200ms"),
    ("HERENOW__GATEWAY__CORE__ENDED_KEPT", "12s"),
    ("HERENOW__COORDINATOR__GRACE_PERIOD", "2s"),
    ("HERENOW__COORDINATOR__GRACE_MAX", "12s"),
    ("HERENOW__COORDINATOR__HEARTBEAT_INTERVAL", "50ms"),
    ("HERENOW__COORDINATOR__DEAD_AFTER", "200ms"),
    ("HERENOW__COORDINATOR__READY_AFTER", "200ms"),
    ("HERENOW__COORDINATOR__SETTLE_AFTER", "1100ms"),
    ("HERENOW__COORDINATOR__GATEWAY_STALE", "400ms"),
    ("HERENOW__COORDINATOR__GATEWAY_TIMEOUT", "1s"),
    ("HERENOW__COORDINATOR__FREEZE", "2s"),
    ("HERENOW__COORDINATOR__TAIL_PATIENCE", "20ms"),
    ("HERENOW__COORDINATOR__RECORD_TIMEOUT", "60ms"),
    ("HERENOW__COORDINATOR__RESYNC_TIMEOUT", "80ms"),
    ("HERENOW__COORDINATOR__HAND_OVER_AFTER", "400ms"),
];
