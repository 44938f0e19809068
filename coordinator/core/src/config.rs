//! What an operator may set about a coordinator's rules.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Times and limits of a coordinator. Every time can be set shorter for tests; [`Config::check`] keeps their
/// relations.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Time from losing a user's last session to the transition to offline. Default 10 s; zero: at once.
    #[serde(with = "herenow_protocol::duration")]
    pub grace_period: Duration,
    /// How long the grace may stretch when many sessions are lost at once. Default 60 s.
    #[serde(with = "herenow_protocol::duration")]
    pub grace_max: Duration,
    /// The rate at which lost sessions are expected back, a second; a wave of more stretches the grace so that all
    /// can. Default 5,000.
    pub grace_rate: u32,
    /// How long the sessions of a gateway that leaves in order count on, so that their devices can come back elsewhere,
    /// whatever the grace. Default 15 s: the gateways' `shutdown.window`, over which clients are spread, and a few
    /// seconds more; zero: only the grace is given.
    #[serde(with = "herenow_protocol::duration")]
    pub moving_window: Duration,
    /// How long a virtual session holds when the backend does not say. Default 5 min.
    #[serde(with = "herenow_protocol::duration")]
    pub virtual_session_ttl: Duration,
    /// How often gateways and other coordinators hear from this one. Default 100 ms.
    #[serde(with = "herenow_protocol::duration")]
    pub heartbeat_interval: Duration,
    /// A coordinator not heard for this long is dead; one that does not hear itself this long is isolated.
    /// Default 1 s; longer than `heartbeat_interval`.
    #[serde(with = "herenow_protocol::duration")]
    pub dead_after: Duration,
    /// How long after its start a coordinator waits before it may be given partitions, so that it knows who else
    /// is there. Default 1 s; zero where no other coordinator can be.
    #[serde(with = "herenow_protocol::duration")]
    pub ready_after: Duration,
    /// How long a coordinator must have listened before it knows every gateway; until then a claim does not settle.
    /// Default 5.5 s (`gateway_timeout` and one gateway beat); zero where every gateway is in this process.
    #[serde(with = "herenow_protocol::duration")]
    pub settle_after: Duration,
    /// A gateway silent for this long is stale; a coordinator that was cut off listens for this long before it says who
    /// is absent. Default 2 s.
    #[serde(with = "herenow_protocol::duration")]
    pub gateway_stale: Duration,
    /// The sessions of a gateway silent for this long lapse together. Default 5 s; longer than `gateway_stale`.
    #[serde(with = "herenow_protocol::duration")]
    pub gateway_timeout: Duration,
    /// How long at the most gateways are kept when more than half of them fell silent at once. Default 10 s.
    #[serde(with = "herenow_protocol::duration")]
    pub freeze: Duration,
    /// The rate at which those who did not come back are shown offline, a second, so that a lost gateway's users hold up
    /// nobody. Default 50,000: 20,000 within the second that is promised beyond the grace; zero: all at once.
    pub offline_rate: u32,
    /// How long transitions wait for others after some were just published. The first after a silence of this
    /// length does not wait. Default 10 ms; zero: none ever waits.
    #[serde(with = "herenow_protocol::duration")]
    pub publish_window: Duration,
    /// How long a difference between a beat and a stream is put down to messages under way. Default 50 ms.
    #[serde(with = "herenow_protocol::duration")]
    pub tail_patience: Duration,
    /// How long the arbiter's answer to a claim is waited for; then the claim stands without it. Default 300 ms.
    #[serde(with = "herenow_protocol::duration")]
    pub record_timeout: Duration,
    /// How long a requested sync is waited for before it is requested again, and up to a quarter as long more, drawn anew
    /// each time; looked at with each beat. Default 150 ms.
    #[serde(with = "herenow_protocol::duration")]
    pub resync_timeout: Duration,
    /// Most syncs asked of one gateway and not answered; further ones wait for their turn. Default 32.
    pub max_resyncs: usize,
    /// How long settling waits for what is kept of a partition. Zero: nothing is kept, and nothing is read. Not a key of
    /// its own: whoever has a store sets it.
    #[serde(skip)]
    pub restore_timeout: Duration,
    /// How long an owner waits before it gives a partition to a coordinator that joined. Default 6 s: longer than
    /// `settle_after`, since one that cannot settle yet cannot say who has left.
    #[serde(with = "herenow_protocol::duration")]
    pub hand_over_after: Duration,
    /// From how many gateways on each is sent only the changes of users that are watched there (level 2 of interest);
    /// with fewer, each is sent all changes of the partitions in which it has a watcher. It goes back below three
    /// quarters of this. Default 50: below, a user with a hundred watchers is watched at nearly every gateway. 1: always;
    /// 0: never.
    pub interest_by_user_from: u32,
    /// Most users with a watcher of which an owner knows at which gateways, in one partition; beyond, everything is sent
    /// to everybody. Default 200,000.
    pub max_watched_per_partition: usize,
    /// Most users known in one partition; the longest offline are forgotten first. Default 100,000.
    pub max_users_per_partition: usize,
    /// How many of the last claims of one partition are remembered, so that one that a gateway says again, because its
    /// answer was lost, does not undo what was claimed after it. Default 1,024; zero: none is.
    pub max_claims_remembered: usize,
    /// Most sessions of one user that count. Default 50.
    pub max_sessions_per_user: usize,
    /// Whether watchers are told the kinds of device in use. Default false: closing one of several devices then
    /// changes nothing.
    pub publish_devices: bool,
    /// Whether each change is also published on the user's own subject. Default false: many subjects cost the NATS
    /// server five times the CPU.
    pub publish_user_subjects: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            grace_period: Duration::from_secs(10),
            grace_max: Duration::from_secs(60),
            grace_rate: 5_000,
            moving_window: Duration::from_secs(15),
            virtual_session_ttl: Duration::from_secs(300),
            heartbeat_interval: Duration::from_millis(100),
            dead_after: Duration::from_secs(1),
            ready_after: Duration::from_secs(1),
            settle_after: Duration::from_millis(5_500),
            gateway_stale: Duration::from_secs(2),
            gateway_timeout: Duration::from_secs(5),
            freeze: Duration::from_secs(10),
            offline_rate: 50_000,
            publish_window: Duration::from_millis(10),
            tail_patience: Duration::from_millis(50),
            record_timeout: Duration::from_millis(300),
            resync_timeout: Duration::from_millis(150),
            max_resyncs: 32,
            restore_timeout: Duration::ZERO,
            hand_over_after: Duration::from_secs(6),
            interest_by_user_from: 50,
            max_watched_per_partition: 200_000,
            max_users_per_partition: 100_000,
            max_claims_remembered: 1_024,
            max_sessions_per_user: 50,
            publish_devices: false,
            publish_user_subjects: false,
        }
    }
}

impl Config {
    /// Whether there is a store.
    pub(crate) const fn keeps(&self) -> bool {
        !self.restore_timeout.is_zero()
    }

    /// Checks ranges and relations.
    ///
    /// # Errors
    /// The key at fault and what it must be.
    pub fn check(&self) -> Result<(), String> {
        let positive = [
            ("heartbeat_interval", self.heartbeat_interval),
            ("virtual_session_ttl", self.virtual_session_ttl),
            ("record_timeout", self.record_timeout),
            ("resync_timeout", self.resync_timeout),
        ];
        if let Some((key, _)) = positive.iter().find(|(_, value)| value.is_zero()) {
            return Err(format!("{key}: must be more than zero"));
        }
        if self.max_users_per_partition == 0 {
            return Err("max_users_per_partition: must be at least 1".to_owned());
        }
        if self.max_sessions_per_user == 0 {
            return Err("max_sessions_per_user: must be at least 1".to_owned());
        }
        if self.max_resyncs == 0 {
            return Err("max_resyncs: must be at least 1".to_owned());
        }
        if self.grace_rate == 0 {
            return Err("grace_rate: must be at least 1".to_owned());
        }
        let longer = |key, value: Duration, than, least: Duration| {
            if value > least { Ok(()) } else { Err(format!("{key}: must be longer than {than}")) }
        };
        longer("dead_after", self.dead_after, "heartbeat_interval", self.heartbeat_interval)?;
        longer("gateway_timeout", self.gateway_timeout, "gateway_stale", self.gateway_stale)?;
        if self.grace_max < self.grace_period {
            return Err("grace_max: must not be shorter than grace_period".to_owned());
        }
        Ok(())
    }
}
