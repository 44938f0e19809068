//! What an operator may set about a gateway's rules.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Times and limits of a gateway. Every time can be set shorter for tests; [`Config::check`] keeps their relations.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How often clients are told to send a heartbeat. Default 20 s.
    #[serde(with = "herenow_protocol::duration")]
    pub heartbeat_interval: Duration,
    /// A session that was silent this long is over. Default 30 s; longer than the interval.
    #[serde(with = "herenow_protocol::duration")]
    pub heartbeat_timeout: Duration,
    /// A session that never says what its person does becomes idle after this long without a frame other than a
    /// heartbeat. Default 5 min.
    #[serde(with = "herenow_protocol::duration")]
    pub idle_after: Duration,
    /// How long a value may be shown after its owner was last heard; then it is `unknown`. Clients that are cut off
    /// are told to do the same. Default 20 s; longer than `stale_after`.
    #[serde(with = "herenow_protocol::duration")]
    pub fresh_for: Duration,
    /// A partition whose owner was not heard for this long is served with `asOf`. Default 2 s.
    #[serde(with = "herenow_protocol::duration")]
    pub stale_after: Duration,
    /// How often coordinators hear from the gateway. Default 200 ms.
    #[serde(with = "herenow_protocol::duration")]
    pub beat_interval: Duration,
    /// How often the sessions of each partition are summed up in a beat, so that an owner finds a set that went wrong
    /// although no message was lost; a few partitions in each beat. Default 10 s; zero: all in every beat.
    #[serde(with = "herenow_protocol::duration")]
    pub digest_interval: Duration,
    /// How long session changes wait for others after a report was just sent. The first after a silence of this
    /// length does not wait. Default 5 ms; zero: none ever waits.
    #[serde(with = "herenow_protocol::duration")]
    pub report_window: Duration,
    /// How long changes for a watcher wait for others after one was just sent to it. The first after a silence of
    /// this length does not wait. Default 10 ms; zero: none ever waits.
    #[serde(with = "herenow_protocol::duration")]
    pub flush_window: Duration,
    /// How long it may become while a shard writes more than 20,000 frames of presence a second; not shorter than
    /// `flush_window`. Default 100 ms.
    #[serde(with = "herenow_protocol::duration")]
    pub flush_window_max: Duration,
    /// How long a difference between a beat and a stream is put down to messages under way. Default 50 ms.
    #[serde(with = "herenow_protocol::duration")]
    pub tail_patience: Duration,
    /// How long an answer of an owner is waited for before the question is asked again, and up to a quarter as long
    /// more, drawn anew each time. Default 150 ms.
    #[serde(with = "herenow_protocol::duration")]
    pub pull_timeout: Duration,
    /// How long a request waits for its answer before it is answered with what is known. Default 1 s.
    #[serde(with = "herenow_protocol::duration")]
    pub request_timeout: Duration,
    /// How long before its token runs out a session is warned. Default 60 s.
    #[serde(with = "herenow_protocol::duration")]
    pub token_warning: Duration,
    /// How long after its token ran out a session is closed. Default 5 s.
    #[serde(with = "herenow_protocol::duration")]
    pub token_leeway: Duration,
    /// How long sessions that ended are remembered for a new owner, which must go on with their grace. Default 60 s;
    /// not shorter than any grace or moving window the coordinators give.
    #[serde(with = "herenow_protocol::duration")]
    pub ended_kept: Duration,
    /// Most sessions that ended are remembered of one partition, the latest ones. Default 500.
    pub max_ended: usize,
    /// Most sessions of this gateway. Default 100,000.
    pub max_sessions: usize,
    /// Most sessions of one user at this gateway. Default 20.
    pub max_sessions_per_user: usize,
    /// Most users one session watches. Default 5,000.
    pub max_watches: usize,
    /// Most requests one session has open, up to 65,535. Default 16.
    pub max_requests_per_session: usize,
    /// Most requests from backends this gateway has open. Default 10,000.
    pub max_requests: usize,
    /// Most partitions that are repaired at once: their owners are asked for everybody watched there, and told who that is.
    /// The others wait. Default 32.
    pub max_repairs: usize,
    /// Most bytes of answers that wait for one session to read them. Default 256 KiB; presence never waits in it.
    pub max_outbox_bytes: usize,
    /// Most frames a second from one session, averaged over three seconds. Default 20.
    pub max_frames_per_second: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            heartbeat_interval: Duration::from_secs(20),
            heartbeat_timeout: Duration::from_secs(30),
            idle_after: Duration::from_secs(300),
            fresh_for: Duration::from_secs(20),
            stale_after: Duration::from_secs(2),
            beat_interval: Duration::from_millis(200),
            digest_interval: Duration::from_secs(10),
            report_window: Duration::from_millis(5),
            flush_window: Duration::from_millis(10),
            flush_window_max: Duration::from_millis(100),
            tail_patience: Duration::from_millis(50),
            pull_timeout: Duration::from_millis(150),
            request_timeout: Duration::from_secs(1),
            token_warning: Duration::from_secs(60),
            token_leeway: Duration::from_secs(5),
            ended_kept: Duration::from_secs(60),
            max_ended: 500,
            max_sessions: 100_000,
            max_sessions_per_user: 20,
            max_watches: 5_000,
            max_requests_per_session: 16,
            max_requests: 10_000,
            max_repairs: 32,
            max_outbox_bytes: 256 * 1024,
            max_frames_per_second: 20,
        }
    }
}

impl Config {
    /// Checks ranges and relations.
    ///
    /// # Errors
    /// The key at fault and what it must be.
    pub fn check(&self) -> Result<(), String> {
        let positive = [
            ("heartbeat_interval", self.heartbeat_interval),
            ("stale_after", self.stale_after),
            ("beat_interval", self.beat_interval),
            ("pull_timeout", self.pull_timeout),
            ("request_timeout", self.request_timeout),
            ("idle_after", self.idle_after),
        ];
        if let Some((key, _)) = positive.iter().find(|(_, value)| value.is_zero()) {
            return Err(format!("{key}: must be more than zero"));
        }
        let counts = [
            ("max_sessions", self.max_sessions),
            ("max_sessions_per_user", self.max_sessions_per_user),
            ("max_watches", self.max_watches),
            ("max_requests_per_session", self.max_requests_per_session),
            ("max_requests", self.max_requests),
            ("max_repairs", self.max_repairs),
            ("max_frames_per_second", self.max_frames_per_second as usize),
        ];
        if let Some((key, _)) = counts.iter().find(|(_, value)| *value == 0) {
            return Err(format!("{key}: must be at least 1"));
        }
        if self.max_requests_per_session > usize::from(u16::MAX) {
            return Err("max_requests_per_session: must be at most 65535".to_owned());
        }
        let longer = |key, value: Duration, than, least: Duration| {
            if value > least { Ok(()) } else { Err(format!("{key}: must be longer than {than}")) }
        };
        longer("heartbeat_timeout", self.heartbeat_timeout, "heartbeat_interval", self.heartbeat_interval)?;
        longer("fresh_for", self.fresh_for, "stale_after", self.stale_after)?;
        longer("stale_after", self.stale_after, "beat_interval", self.beat_interval)?;
        longer("request_timeout", self.request_timeout, "pull_timeout", self.pull_timeout)?;
        if self.flush_window_max < self.flush_window {
            return Err("flush_window_max: must not be shorter than flush_window".to_owned());
        }
        if self.max_outbox_bytes < 4_096 {
            return Err("max_outbox_bytes: must be at least 4096".to_owned());
        }
        Ok(())
    }
}
