//! What a measurement says, for people and for programs.

use std::fmt;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::latency::{Outcome, Plan};

/// Microseconds.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Spread {
    min: u64,
    p50: u64,
    p90: u64,
    p99: u64,
    max: u64,
}

impl Spread {
    fn of(histogram: &Histogram<u64>) -> Self {
        Self {
            min: histogram.min(),
            p50: histogram.value_at_quantile(0.5),
            p90: histogram.value_at_quantile(0.9),
            p99: histogram.value_at_quantile(0.99),
            max: histogram.max(),
        }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts =
            [("min", self.min), ("p50", self.p50), ("p90", self.p90), ("p99", self.p99), ("max", self.max)];
        for (name, micros) in parts {
            write!(f, "  {name} {}.{:03} ms", micros / 1_000, micros % 1_000)?;
        }
        Ok(())
    }
}

/// A measurement.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Report {
    measurement: &'static str,
    watched_gateway: String,
    watcher_gateway: String,
    users: u32,
    changes: u32,
    planned_per_second: f64,
    reached_per_second: f64,
    seen: u64,
    conflated: u64,
    missed: u64,
    latency_micros: Spread,
    lateness_micros: Spread,
}

impl Report {
    pub(crate) fn of(measurement: &'static str, plan: &Plan, outcome: &Outcome) -> Self {
        Self {
            measurement,
            watched_gateway: plan.watched_gateway.clone(),
            watcher_gateway: plan.watcher_gateway.clone(),
            users: plan.users,
            changes: plan.changes,
            planned_per_second: plan.rate,
            reached_per_second: f64::from(plan.changes) / outcome.took.as_secs_f64().max(f64::EPSILON),
            seen: outcome.latency.len(),
            conflated: outcome.conflated,
            missed: outcome.missed,
            latency_micros: Spread::of(&outcome.latency),
            lateness_micros: Spread::of(&outcome.lateness),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {} → {}", self.measurement, self.watched_gateway, self.watcher_gateway)?;
        write!(f, "{} changes of {} users, ", self.changes, self.users)?;
        writeln!(f, "{:.1}/s planned, {:.1}/s reached", self.planned_per_second, self.reached_per_second)?;
        writeln!(f, "{} seen, {} conflated, {} missed", self.seen, self.conflated, self.missed)?;
        writeln!(f, "change to watcher:{}", self.latency_micros)?;
        writeln!(f, "late to plan:     {}", self.lateness_micros)
    }
}
