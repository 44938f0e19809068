//! Every metric of a gateway server: name, unit, help. No label ever holds a user, a device or a token.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use herenow_gateway_core::Stats;
use herenow_protocol::code::{CloseCode, ErrorCode};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct Code {
    code: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct Outcome {
    result: &'static str,
}

/// Invariants found broken, by labels: `role`, `invariant`, and the `shard` of a gateway. One metric of all roles of a
/// process, which whoever starts them registers.
pub type Violations = Family<Vec<(&'static str, String)>, Counter>;

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct Shard {
    shard: u16,
}

type Size = (&'static str, &'static str, fn(&Stats) -> u64);

/// Sizes of the core.
const SIZES: [Size; 8] = [
    ("sessions", "Authenticated sessions now", |s| s.sessions),
    ("watched_users", "Users watched by at least one session now", |s| s.watched_users),
    ("watches", "Watches now: pairs of session and watched user", |s| s.watches),
    ("open_requests", "Requests that wait for an owner now", |s| s.requests),
    ("repairs", "Partitions asked for in full now", |s| s.repairs),
    ("repairs_waiting", "Partitions that wait to be asked for in full", |s| s.repairs_waiting),
    ("answers_milliseconds", "How long owners took to answer of late", |s| s.answers_ms),
    ("stale_partitions", "Watched partitions whose owner was not heard of late", |s| s.stale_partitions),
];

/// Counts of the core.
const COUNTS: [Size; 15] = [
    ("heartbeats", "Heartbeats taken", |s| s.heartbeats),
    ("core_frames", "Frames taken by the rules, heartbeats included", |s| s.frames),
    ("core_frame_errors", "Frames the rules answered with an error", |s| s.frame_errors),
    ("silent_sessions", "Sessions silent for the heartbeat timeout", |s| s.silent_sessions),
    ("reports", "Reports of session changes sent", |s| s.reports),
    ("syncs", "Pages of full reports sent", |s| s.syncs),
    ("pulls", "Questions to owners sent", |s| s.pulls),
    ("deltas", "Deltas taken from owners", |s| s.deltas),
    ("gaps", "Deltas before which something was missing", |s| s.gaps),
    ("fenced", "Messages of an epoch that was over", |s| s.fenced),
    ("deliveries", "Changes told to watchers", |s| s.deliveries),
    ("presence_frames", "Frames that told them", |s| s.presence_frames),
    ("request_timeouts", "Requests answered without every value", |s| s.request_timeouts),
    ("reinterests", "Interest stated again because messages of it were lost", |s| s.reinterests),
    ("stalls", "Times the process was found to have stood still", |s| s.stalls),
];

/// A named number of the core.
type Violation = (&'static str, fn(&Stats) -> u64);

/// Invariants that a gateway checks itself, by their ids; docs/ARCHITECTURE.md tells them.
const VIOLATIONS: [Violation; 2] = [("I1", |s| s.versions_doubled), ("I2", |s| s.owners_doubled)];

/// How a connection that might become a session ended up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Handshake {
    /// Upgraded with a good token.
    Accepted,
    /// Upgraded; the token is to come in the first frame.
    Deferred,
    /// Refused over HTTP.
    Refused,
    /// Told when to come back: more at once than are admitted.
    Delayed,
    /// Hung up on: too many at once.
    Shed,
    /// TLS failed or took too long.
    Tls,
}

impl Handshake {
    const fn word(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Deferred => "deferred",
            Self::Refused => "refused",
            Self::Delayed => "delayed",
            Self::Shed => "shed",
            Self::Tls => "tls_failed",
        }
    }
}

/// How a request over HTTP was none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Broken {
    /// It is not HTTP as the standard has it, or its head is over a limit.
    Malformed,
    /// It never ended.
    Half,
}

/// What became of a user that no owner answered for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Degraded {
    /// Told as it is kept.
    Store,
    /// Nothing is kept of it that may be told.
    Nothing,
    /// The store failed, or was too slow.
    Failed,
    /// Too many asked the store.
    Busy,
    /// There is no store.
    NoStore,
}

impl Degraded {
    const fn word(self) -> &'static str {
        match self {
            Self::Store => "store",
            Self::Nothing => "nothing",
            Self::Failed => "failed",
            Self::Busy => "busy",
            Self::NoStore => "no_store",
        }
    }
}

/// The metrics of all shards of one server.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    sockets: Family<Shard, Gauge>,
    core_sizes: [Family<Shard, Gauge>; SIZES.len()],
    core_counts: [Family<Shard, Counter>; COUNTS.len()],
    violations: Violations,
    closes: Family<Code, Counter>,
    frame_errors: Family<Code, Counter>,
    request_errors: Family<Code, Counter>,
    handshakes: Family<Outcome, Counter>,
    broken_requests: Family<Outcome, Counter>,
    degraded: Family<Outcome, Counter>,
    pub(crate) frames_in: Counter,
    pub(crate) frames_out: Counter,
    pub(crate) bytes_in: Counter,
    pub(crate) bytes_out: Counter,
    pub(crate) requests: Counter,
    pub(crate) backend_requests: Counter,
    pub(crate) accept_errors: Counter,
    pub(crate) publish_failures: Counter,
    pub(crate) subscribe_failures: Counter,
    pub(crate) decode_errors: Counter,
    pub(crate) messages_in: Counter,
}

impl Metrics {
    /// Makes the metrics and registers them as `herenow_gateway_…`.
    pub(crate) fn register(registry: &mut Registry, violations: Violations) -> Arc<Self> {
        let metrics = Arc::new(Self { violations, ..Self::default() });
        let registry = registry.sub_registry_with_prefix("herenow_gateway");
        metrics.register_sizes(registry);
        metrics.register_clients(registry);
        metrics.register_bus(registry);
        metrics
    }

    fn register_sizes(&self, registry: &mut Registry) {
        registry.register("sockets", "WebSocket connections now", self.sockets.clone());
        for ((name, help, _), metric) in SIZES.iter().zip(&self.core_sizes) {
            registry.register(*name, *help, metric.clone());
        }
        for ((name, help, _), metric) in COUNTS.iter().zip(&self.core_counts) {
            registry.register(*name, *help, metric.clone());
        }
    }

    fn register_clients(&self, registry: &mut Registry) {
        registry.register("closes", "WebSocket connections ended, by reason", self.closes.clone());
        registry.register("frame_errors", "Error frames sent, by code", self.frame_errors.clone());
        registry.register("request_errors", "Requests refused, by code", self.request_errors.clone());
        registry.register("handshakes", "WebSocket handshakes, by result", self.handshakes.clone());
        let help = "Connections ended by what was no whole request, by what was wrong";
        registry.register("broken_requests", help, self.broken_requests.clone());
        let help = "Users asked for over HTTP whose owner did not answer, by what they were answered from";
        registry.register("degraded_reads", help, self.degraded.clone());
        registry.register("frames_in", "Text frames from clients", self.frames_in.clone());
        registry.register("frames_out", "Text frames to clients", self.frames_out.clone());
        let bytes = |registry: &mut Registry, name: &str, help: &str, metric: &Counter| {
            registry.register_with_unit(name, help, Unit::Bytes, metric.clone());
        };
        bytes(registry, "socket_in", "Read from WebSocket connections", &self.bytes_in);
        bytes(registry, "socket_out", "Written to WebSocket connections", &self.bytes_out);
        registry.register(
            "requests",
            "Requests over HTTP that are no WebSocket handshake",
            self.requests.clone(),
        );
        registry.register(
            "accept_errors",
            "Connections the system would not hand over",
            self.accept_errors.clone(),
        );
    }

    fn register_bus(&self, registry: &mut Registry) {
        let mut add =
            |name: &str, help: &str, metric: &Counter| registry.register(name, help, metric.clone());
        add("backend_requests", "Requests of backends over the bus", &self.backend_requests);
        add("publish_failures", "Messages the bus did not take", &self.publish_failures);
        add("subscribe_failures", "Subscriptions that could not be made", &self.subscribe_failures);
        add("decode_errors", "Messages that could not be read", &self.decode_errors);
        add("messages_in", "Messages from coordinators", &self.messages_in);
    }

    pub(crate) fn closed(&self, code: CloseCode) {
        self.closed_by(code.reason());
    }

    /// Counts a connection that ended in the middle of a request.
    pub(crate) fn broken_request(&self, how: Broken) {
        let result = match how {
            Broken::Malformed => "malformed",
            Broken::Half => "half",
        };
        self.broken_requests.get_or_create(&Outcome { result }).inc();
    }

    /// Counts users that no owner answered for.
    pub(crate) fn degraded(&self, result: Degraded, users: usize) {
        if users > 0 {
            self.degraded.get_or_create(&Outcome { result: result.word() }).inc_by(users as u64);
        }
    }

    /// For ends that have no close code of ours: `lost`, `client`.
    pub(crate) fn closed_by(&self, code: &'static str) {
        self.closes.get_or_create(&Code { code }).inc();
    }

    pub(crate) fn frame_error(&self, code: ErrorCode) {
        self.frame_errors.get_or_create(&Code { code: code.word() }).inc();
    }

    pub(crate) fn request_error(&self, code: ErrorCode) {
        self.request_errors.get_or_create(&Code { code: code.word() }).inc();
    }

    pub(crate) fn handshake(&self, result: Handshake) {
        self.handshakes.get_or_create(&Outcome { result: result.word() }).inc();
    }

    /// Sizes of one shard, taken once a second.
    pub(crate) fn sizes(&self, shard: u16, sockets: usize, stats: &Stats) {
        let whole = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        for (invariant, read) in VIOLATIONS {
            let labels = vec![
                ("role", "gateway".to_owned()),
                ("invariant", invariant.to_owned()),
                ("shard", shard.to_string()),
            ];
            let count = self.violations.get_or_create(&labels);
            count.inner().store(read(stats), Ordering::Relaxed);
        }
        let shard = Shard { shard };
        self.sockets.get_or_create(&shard).set(whole(sockets as u64));
        for ((_, _, read), metric) in SIZES.iter().zip(&self.core_sizes) {
            metric.get_or_create(&shard).set(whole(read(stats)));
        }
        for ((_, _, read), metric) in COUNTS.iter().zip(&self.core_counts) {
            metric.get_or_create(&shard).inner().store(read(stats), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_registered_has_its_name_and_help() {
        let mut registry = Registry::default();
        let violations = Violations::default();
        let metrics = Metrics::register(&mut registry, violations.clone());
        metrics.closed(CloseCode::TooBig);
        metrics.handshake(Handshake::Shed);
        metrics.sizes(1, 2, &Stats::default());
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            "herenow_gateway_closes_total{code=\"frame_too_big\"} 1",
            "herenow_gateway_handshakes_total{result=\"shed\"} 1",
            "herenow_gateway_sockets{shard=\"1\"} 2",
            "herenow_gateway_socket_in_bytes_total 0",
            "herenow_gateway_stalls_total{shard=\"1\"} 0",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
        let labels = ["role:gateway", "invariant:I1", "shard:1"].map(|label| label.split_once(':').unwrap());
        let labels: Vec<_> = labels.map(|(name, value)| (name, value.to_owned())).into();
        assert!(violations.get(&labels).is_some());
    }
}
