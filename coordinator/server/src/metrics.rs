//! Every metric of a coordinator. No user id is ever a label.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use herenow_bus::PublishError;
use herenow_coordinator_core::Stats;
use herenow_protocol::api::Cause;
use herenow_protocol::codec::CodecError;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

type Label = [(&'static str, &'static str); 1];
/// Invariants found broken, by labels: `role` and `invariant`. One metric of all roles of a process, which whoever
/// starts them registers.
pub type Violations = Family<Vec<(&'static str, String)>, Counter>;
type Size = Gauge<u64, AtomicU64>;
type Read = fn(&Stats) -> u64;

/// What the core has now: name, help, where it stands.
const SIZES: [(&str, &str, Read); 12] = [
    ("partitions", "Partitions owned now", |stats| stats.partitions),
    ("partitions_settled", "Owned partitions that may state that somebody is offline", |stats| stats.settled),
    ("partitions_unread", "Owned partitions whose store was not read to the end", |stats| stats.unread),
    ("users", "Users known now", |stats| stats.users),
    (
        "partitions_selective",
        "Owned partitions of which each gateway is sent only what is watched there",
        |stats| stats.selective,
    ),
    ("watched_users", "Users with a watcher, as gateways have told", |stats| stats.watched_users),
    ("offline_waiting", "Users who wait for their turn to be shown offline now", |stats| stats.fading),
    ("gateways", "Gateways heard of now", |stats| stats.gateways),
    ("gateways_stale", "Gateways that are silent now", |stats| stats.stale_gateways),
    ("coordinators", "Coordinators heard of now, this one included", |stats| stats.coordinators),
    ("isolated", "1 while this coordinator is cut off", |stats| u64::from(stats.isolated)),
    ("frozen", "1 while no gateway is taken for dead", |stats| u64::from(stats.frozen)),
];

/// What the core counted since it began: name, help, where it stands.
const COUNTS: [(&str, &str, Read); 13] = [
    ("claims", "Partitions claimed", |stats| stats.claims),
    ("claims_without_record", "Claims that stand without the arbiter", |stats| stats.claims_without_record),
    ("fenced", "Partitions let go to a higher epoch", |stats| stats.fenced),
    ("handed_over", "Partitions given to another coordinator", |stats| stats.handed_over),
    ("lapsed_gateways", "Gateways whose sessions lapsed together", |stats| stats.lapsed_gateways),
    ("left_gateways", "Gateways that left in order", |stats| stats.left_gateways),
    ("old_reports", "Reports dropped as applied before", |stats| stats.old_reports),
    ("gaps", "Reports before which something was missing", |stats| stats.gaps),
    ("stalls", "Times the process was found to have stood still", |stats| stats.stalls),
    ("resyncs", "Syncs asked for", |stats| stats.resyncs),
    ("syncs", "Syncs applied", |stats| stats.syncs),
    ("misdirected", "Messages for partitions of another owner", |stats| stats.misdirected),
    ("changes", "Changes published", |stats| stats.changes),
];

/// Invariants that a coordinator checks itself, by their ids; docs/ARCHITECTURE.md tells them.
const VIOLATIONS: [(&str, Read); 2] =
    [("I6", |stats| stats.sets_differed), ("I9", |stats| stats.values_differed)];

/// The metrics; clones share their values.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    sizes: [Size; SIZES.len()],
    counts: [Counter; COUNTS.len()],
    violations: Violations,
    transitions: Family<Label, Counter>,
    publish_failures: Family<Label, Counter>,
    oversized: Counter,
    decode_errors: Family<Label, Counter>,
    messages: Family<Label, Counter>,
    lossy: Counter,
    subscribe_failures: Counter,
    records: Family<Label, Counter>,
    turn: Histogram,
    batch: Histogram,
}

impl Metrics {
    /// Makes the metrics and puts them into the registry under `herenow_coordinator_`.
    pub(crate) fn register(registry: &mut Registry, violations: Violations) -> Self {
        let made = Self {
            sizes: Default::default(),
            counts: Default::default(),
            violations,
            transitions: Family::default(),
            publish_failures: Family::default(),
            oversized: Counter::default(),
            decode_errors: Family::default(),
            messages: Family::default(),
            lossy: Counter::default(),
            subscribe_failures: Counter::default(),
            records: Family::default(),
            turn: Histogram::new(exponential_buckets(10e-6, 4.0, 10)),
            batch: Histogram::new(exponential_buckets(1.0, 4.0, 7)),
        };
        made.enter(registry.sub_registry_with_prefix("herenow_coordinator"));
        made
    }

    fn enter(&self, to: &mut Registry) {
        for ((name, help, _), size) in SIZES.iter().zip(&self.sizes) {
            to.register(*name, *help, size.clone());
        }
        for ((name, help, _), count) in COUNTS.iter().zip(&self.counts) {
            to.register(*name, *help, count.clone());
        }
        to.register("transitions", "Transitions published, by cause", self.transitions.clone());
        to.register("publish_failures", "Messages the bus refused, by reason", self.publish_failures.clone());
        to.register("oversized_messages", "Messages over the limit, not sent", self.oversized.clone());
        to.register(
            "decode_errors",
            "Messages that could not be read, by reason",
            self.decode_errors.clone(),
        );
        to.register("messages", "Messages taken from the bus, by kind", self.messages.clone());
        to.register("bus_lossy", "Times the bus may have lost messages", self.lossy.clone());
        to.register("subscribe_failures", "Subscriptions that failed", self.subscribe_failures.clone());
        to.register("claims_recorded", "Claims put to the arbiter, by its answer", self.records.clone());
        to.register_with_unit("turn", "Duration of a turn of the loop", Unit::Seconds, self.turn.clone());
        to.register("turn_inputs", "Inputs handled in one turn of the loop", self.batch.clone());
    }

    pub(crate) fn stats(&self, stats: &Stats) {
        for ((_, _, read), size) in SIZES.iter().zip(&self.sizes) {
            size.set(read(stats));
        }
        for ((_, _, read), count) in COUNTS.iter().zip(&self.counts) {
            count.inner().store(read(stats), Ordering::Relaxed);
        }
        for (invariant, read) in VIOLATIONS {
            let labels = vec![("role", "coordinator".to_owned()), ("invariant", invariant.to_owned())];
            let count = self.violations.get_or_create(&labels);
            count.inner().store(read(stats), Ordering::Relaxed);
        }
    }

    pub(crate) fn turn(&self, inputs: usize, took: Duration) {
        self.turn.observe(took.as_secs_f64());
        self.batch.observe(f64::from(u32::try_from(inputs).unwrap_or(u32::MAX)));
    }

    pub(crate) fn transition(&self, cause: Cause) {
        self.transitions.get_or_create(&[("cause", cause_label(cause))]).inc();
    }

    pub(crate) fn publish_failed(&self, error: PublishError) {
        self.publish_failures.get_or_create(&[("reason", publish_label(error))]).inc();
    }

    pub(crate) fn oversized(&self) {
        self.oversized.inc();
    }

    pub(crate) fn decode_failed(&self, error: CodecError) {
        self.decode_errors.get_or_create(&[("reason", codec_label(error))]).inc();
    }

    pub(crate) fn message(&self, kind: &'static str) {
        self.messages.get_or_create(&[("kind", kind)]).inc();
    }

    pub(crate) fn lossy(&self) {
        self.lossy.inc();
    }

    pub(crate) fn subscribe_failed(&self) {
        self.subscribe_failures.inc();
    }

    pub(crate) fn recorded(&self, answer: &'static str) {
        self.records.get_or_create(&[("answer", answer)]).inc();
    }
}

const fn cause_label(cause: Cause) -> &'static str {
    match cause {
        Cause::Connected => "connected",
        Cause::Activity => "activity",
        Cause::Left => "left",
        Cause::GraceOver => "grace_over",
        Cause::Silent => "silent",
        Cause::Manual => "manual",
        Cause::Api => "api",
        Cause::Expired => "expired",
        Cause::Erased => "erased",
        Cause::Rebuilt => "rebuilt",
    }
}

const fn publish_label(error: PublishError) -> &'static str {
    match error {
        PublishError::Disconnected => "disconnected",
        PublishError::Full => "full",
        PublishError::TooBig => "too_big",
        PublishError::Subject => "subject",
    }
}

const fn codec_label(error: CodecError) -> &'static str {
    match error {
        CodecError::Empty => "empty",
        CodecError::TooBig(_) => "too_big",
        CodecError::Version(_) => "version",
        CodecError::Malformed => "malformed",
    }
}
