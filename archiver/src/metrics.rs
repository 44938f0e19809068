//! Metrics of the history's way. No user id is ever a label.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use herenow_bus::Backlog;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

type Labels<const N: usize> = [(&'static str, &'static str); N];

/// What a coordinator counts; clones share their values.
#[derive(Clone, Debug, Default)]
pub struct OutboxMetrics {
    waiting: Gauge<u64, AtomicU64>,
    dropped: Counter,
    delivered: Counter,
    failures: Family<Labels<1>, Counter>,
}

impl OutboxMetrics {
    /// Makes the metrics and puts them into the registry under `herenow_history_`.
    pub fn register(registry: &mut Registry) -> Self {
        let made = Self::default();
        let to = registry.sub_registry_with_prefix("herenow_history");
        to.register("waiting", "Transitions that wait to be handed on", made.waiting.clone());
        to.register("dropped", "Transitions not kept because too many waited", made.dropped.clone());
        to.register("delivered", "Transitions and erasures handed on", made.delivered.clone());
        to.register("failures", "Attempts to hand on that failed, by reason", made.failures.clone());
        made
    }

    pub(crate) fn waiting(&self, said: usize) {
        self.waiting.set(said as u64);
    }

    pub(crate) fn dropped(&self) {
        self.dropped.inc();
    }

    pub(crate) fn delivered(&self, said: usize) {
        self.delivered.inc_by(said as u64);
    }

    pub(crate) fn failed(&self, reason: &'static str) {
        self.failures.get_or_create(&[("reason", reason)]).inc();
    }
}

/// What an archiver counts; clones share their values.
#[derive(Clone, Debug, Default)]
pub struct ArchiverMetrics {
    waiting: Gauge<u64, AtomicU64>,
    in_hand: Gauge<u64, AtomicU64>,
    lag: Gauge<f64, AtomicU64>,
    entries: Counter,
    erased: Counter,
    buried: Counter,
    failures: Family<Labels<2>, Counter>,
}

impl ArchiverMetrics {
    /// Makes the metrics and puts them into the registry under `herenow_archiver_`.
    pub fn register(registry: &mut Registry) -> Self {
        let made = Self::default();
        let to = registry.sub_registry_with_prefix("herenow_archiver");
        to.register("messages_waiting", "Messages that no archiver has taken", made.waiting.clone());
        to.register("messages_in_hand", "Messages that were taken and are not written", made.in_hand.clone());
        to.register_with_unit(
            "lag",
            "Age of the newest entry written, while others wait",
            Unit::Seconds,
            made.lag.clone(),
        );
        to.register("entries_written", "Entries written to every target", made.entries.clone());
        to.register("users_erased", "Users erased from every target", made.erased.clone());
        to.register("messages_buried", "Messages put aside that nobody could use", made.buried.clone());
        to.register(
            "failures",
            "Calls of targets and journal that failed, by which and reason",
            made.failures.clone(),
        );
        made
    }

    pub(crate) fn backlog(&self, backlog: Backlog) {
        self.waiting.set(backlog.waiting);
        self.in_hand.set(backlog.in_hand);
    }

    pub(crate) fn lag(&self, lag: Duration) {
        self.lag.set(lag.as_secs_f64());
    }

    pub(crate) fn wrote(&self, entries: usize) {
        self.entries.inc_by(entries as u64);
    }

    pub(crate) fn erased(&self) {
        self.erased.inc();
    }

    pub(crate) fn buried(&self) {
        self.buried.inc();
    }

    pub(crate) fn failed(&self, which: &'static str, reason: &'static str) {
        self.failures.get_or_create(&[("which", which), ("reason", reason)]).inc();
    }
}
