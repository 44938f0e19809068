//! The timers of the cluster under test: the published defaults, or all of them some times shorter.

use std::time::Duration;

use anyhow::Context as _;
use herenow_bus::NatsConfig;
use serde::Serialize;

/// What a published bound leaves to the machine. It is no timer of the service, so it does not shrink with them.
pub(super) const MACHINE: Duration = Duration::from_secs(1);
/// The shortest that NATS may be asked for a sign of life, or be given to connect.
const NATS_LEAST: Duration = Duration::from_millis(100);
/// No timers of presence: windows in which messages are gathered, and times that tokens and backends choose.
const UNTOUCHED: [&str; 8] = [
    "report_window",
    "flush_window",
    "flush_window_max",
    "publish_window",
    "idle_after",
    "token_warning",
    "token_leeway",
    "virtual_session_ttl",
];

/// How long the cluster under test waits for what.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timers {
    /// How many times shorter than by default: 1 to 10.
    pub(super) shorter: u32,
    /// What bounds leave to this machine.
    pub(super) machine: Duration,
    /// Time from losing the last session to offline.
    pub(super) grace: Duration,
    /// A silent client is lost after this.
    pub(super) heartbeat_timeout: Duration,
    /// A silent gateway is lost after this.
    pub(super) gateway_timeout: Duration,
    /// A gateway beats this often.
    pub(super) beat: Duration,
    /// What no owner confirmed for this long is unknown.
    pub(super) fresh_for: Duration,
}

impl Timers {
    /// The defaults, this many times shorter, on a machine that bounds leave so much to.
    pub(super) fn new(shorter: u32, machine: Duration) -> Self {
        let coordinator = herenow_coordinator_core::Config::default();
        let gateway = herenow_gateway_core::Config::default();
        Self {
            shorter,
            machine,
            grace: coordinator.grace_period / shorter,
            heartbeat_timeout: gateway.heartbeat_timeout / shorter,
            gateway_timeout: coordinator.gateway_timeout / shorter,
            beat: gateway.beat_interval / shorter,
            fresh_for: gateway.fresh_for / shorter,
        }
    }

    /// What a promise becomes: all of it shrinks but the second that it leaves to the machine, instead of which this
    /// machine's stands.
    pub(super) fn scaled(self, promised: Duration) -> Duration {
        promised.saturating_sub(MACHINE) / self.shorter + self.machine
    }

    /// What a time of a fault becomes, so that it is to the timers what it would be to the defaults.
    pub(super) fn short(self, seconds: u64) -> Duration {
        Duration::from_secs(seconds) / self.shorter
    }

    /// The settings of every process, as environment variables.
    pub(super) fn settings(self) -> anyhow::Result<Vec<(String, String)>> {
        let nats = NatsConfig::default();
        let mut settings = vec![
            set("cluster.bus", "nats"),
            set("gateway.shards", "1"),
            set("gateway.auth.algorithm", "HS256"),
            set("nats.ping_interval", self.nats(nats.ping_interval)),
            set("nats.connection_timeout", self.nats(nats.connection_timeout)),
        ];
        settings.extend(self.section("gateway.core", &herenow_gateway_core::Config::default())?);
        settings.extend(self.section("coordinator", &herenow_coordinator_core::Config::default())?);
        Ok(settings)
    }

    fn nats(self, default: Duration) -> String {
        (default / self.shorter).max(NATS_LEAST).as_millis().to_string() + "ms"
    }

    /// Every timer of a section of the configuration.
    fn section(self, name: &str, defaults: &impl Serialize) -> anyhow::Result<Vec<(String, String)>> {
        let values = serde_json::to_value(defaults)?;
        let values = values.as_object().context("a section has keys")?;
        let timers = values.iter().filter(|(key, _)| !UNTOUCHED.contains(&key.as_str()));
        let durations =
            timers.filter_map(|(key, value)| Some((key, humantime::parse_duration(value.as_str()?).ok()?)));
        let shorter = |duration: Duration| humantime::format_duration(duration / self.shorter).to_string();
        Ok(durations.map(|(key, duration)| set(&format!("{name}.{key}"), shorter(duration))).collect())
    }
}

/// A setting as the environment variable that wins over every file.
pub(super) fn set(key: &str, value: impl Into<String>) -> (String, String) {
    (format!("HERENOW__{}", key.to_ascii_uppercase().replace('.', "__")), value.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_promise_shrinks_but_for_the_second_of_the_machine() {
        let five = Duration::from_secs(5);
        assert_eq!(Timers::new(1, MACHINE).scaled(five), five);
        assert_eq!(Timers::new(5, MACHINE).scaled(five), Duration::from_millis(1_800));
        assert_eq!(Timers::new(5, MACHINE * 3).scaled(five), Duration::from_millis(3_800));
        assert_eq!(Timers::new(10, MACHINE).scaled(MACHINE), MACHINE);
    }

    #[test]
    fn every_timer_of_presence_shrinks_and_no_window_does() {
        let settings = Timers::new(5, MACHINE).settings().unwrap();
        let value =
            |key: &str| settings.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str());
        assert_eq!(value("HERENOW__COORDINATOR__GRACE_PERIOD"), Some("2s"));
        assert_eq!(value("HERENOW__COORDINATOR__SETTLE_AFTER"), Some("1s 100ms"));
        assert_eq!(value("HERENOW__GATEWAY__CORE__FRESH_FOR"), Some("4s"));
        assert_eq!(value("HERENOW__GATEWAY__CORE__FLUSH_WINDOW"), None);
        assert_eq!(value("HERENOW__COORDINATOR__GRACE_RATE"), None);
        assert_eq!(value("HERENOW__NATS__PING_INTERVAL"), Some("100ms"));
    }
}
