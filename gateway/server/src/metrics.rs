//! Every metric of a gateway server: name, unit, help. No label ever holds a user, a device or a token.

use std::sync::Arc;

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

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct Shard {
    shard: u16,
}

/// How a connection that might become a session ended up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Handshake {
    /// Upgraded with a good token.
    Accepted,
    /// Upgraded; the token is to come in the first frame.
    Deferred,
    /// Refused over HTTP.
    Refused,
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
            Self::Shed => "shed",
            Self::Tls => "tls_failed",
        }
    }
}

/// The metrics of all shards of one server.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    sessions: Family<Shard, Gauge>,
    watched_users: Family<Shard, Gauge>,
    sockets: Family<Shard, Gauge>,
    closes: Family<Code, Counter>,
    frame_errors: Family<Code, Counter>,
    request_errors: Family<Code, Counter>,
    handshakes: Family<Outcome, Counter>,
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
    pub(crate) fn register(registry: &mut Registry) -> Arc<Self> {
        let metrics = Arc::new(Self::default());
        let registry = registry.sub_registry_with_prefix("herenow_gateway");
        metrics.register_sizes(registry);
        metrics.register_clients(registry);
        metrics.register_bus(registry);
        metrics
    }

    fn register_sizes(&self, registry: &mut Registry) {
        registry.register("sessions", "Authenticated sessions now", self.sessions.clone());
        registry.register(
            "watched_users",
            "Users watched by at least one session now",
            self.watched_users.clone(),
        );
        registry.register("sockets", "WebSocket connections now", self.sockets.clone());
    }

    fn register_clients(&self, registry: &mut Registry) {
        registry.register("closes", "WebSocket connections ended, by reason", self.closes.clone());
        registry.register("frame_errors", "Error frames sent, by code", self.frame_errors.clone());
        registry.register("request_errors", "Requests refused, by code", self.request_errors.clone());
        registry.register("handshakes", "WebSocket handshakes, by result", self.handshakes.clone());
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
        let shard = Shard { shard };
        self.sockets.get_or_create(&shard).set(whole(sockets as u64));
        self.sessions.get_or_create(&shard).set(whole(stats.sessions));
        self.watched_users.get_or_create(&shard).set(whole(stats.watched_users));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_registered_has_its_name_and_help() {
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
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
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }
}
