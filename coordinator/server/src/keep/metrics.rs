//! Metrics of a coordinator's store, as the coordinator meets it. No user id is ever a label.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use herenow_store::{StoreError, Written};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

type Labels<const N: usize> = [(&'static str, &'static str); N];

/// Finest where the default interval is.
const AGES: [f64; 12] = [0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0, 1.1, 1.5, 2.5, 10.0, 60.0];

/// The metrics; clones share their values.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    records: Family<Labels<1>, Counter>,
    failures: Family<Labels<2>, Counter>,
    waiting: Gauge<u64, AtomicU64>,
    dropped: Counter,
    write: Histogram,
    age: Histogram,
    read: Counter,
}

impl Metrics {
    /// Makes the metrics and puts them into the registry under `herenow_store_`.
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let made = Self {
            records: Family::default(),
            failures: Family::default(),
            waiting: Gauge::default(),
            dropped: Counter::default(),
            write: Histogram::new(exponential_buckets(1e-3, 4.0, 9)),
            age: Histogram::new(AGES),
            read: Counter::default(),
        };
        let to = registry.sub_registry_with_prefix("herenow_store");
        to.register("records_written", "Records written, by outcome: stored, older", made.records.clone());
        to.register("failures", "Calls of the store that failed, by call and reason", made.failures.clone());
        to.register("waiting", "Users that wait to be written", made.waiting.clone());
        to.register("dropped", "Changes not kept because too many users waited", made.dropped.clone());
        to.register_with_unit("write", "Duration of a write of the store", Unit::Seconds, made.write.clone());
        to.register_with_unit(
            "age",
            "Age of the oldest change of a write when it was written",
            Unit::Seconds,
            made.age.clone(),
        );
        to.register("records_read", "Records read for newly claimed partitions", made.read.clone());
        made
    }

    pub(crate) fn written(&self, written: Written) {
        let count = |outcome, n: usize| self.records.get_or_create(&[("outcome", outcome)]).inc_by(n as u64);
        count("stored", written.stored);
        count("older", written.older);
    }

    pub(crate) fn failed(&self, call: &'static str, error: &StoreError) {
        self.failures.get_or_create(&[("call", call), ("reason", error.label())]).inc();
    }

    pub(crate) fn waiting(&self, users: usize) {
        self.waiting.set(users as u64);
    }

    pub(crate) fn dropped(&self) {
        self.dropped.inc();
    }

    pub(crate) fn took(&self, time: Duration) {
        self.write.observe(time.as_secs_f64());
    }

    pub(crate) fn age(&self, age: Duration) {
        self.age.observe(age.as_secs_f64());
    }

    pub(crate) fn read(&self, records: usize) {
        self.read.inc_by(records as u64);
    }
}
