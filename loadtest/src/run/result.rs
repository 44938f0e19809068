//! What a load showed: the JSON that is written, read again by `report` and `compare`.

use std::collections::BTreeMap;
use std::fmt;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::processes::Seen;
use super::scenario::Scenario;
use super::tally::{Counts, End, Phase, Spreads, Tick, Times};

/// Of a histogram, in microseconds.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Spread {
    pub(crate) count: u64,
    pub(crate) min: u64,
    pub(crate) p50: u64,
    pub(crate) p90: u64,
    pub(crate) p99: u64,
    pub(crate) p999: u64,
    pub(crate) max: u64,
}

impl Spread {
    pub(crate) fn of(times: &Times) -> Self {
        let histogram = times.histogram();
        if histogram.is_empty() {
            return Self::default();
        }
        let at = |quantile| histogram.value_at_quantile(quantile);
        Self {
            count: histogram.len(),
            min: histogram.min(),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: histogram.max(),
        }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.count == 0 {
            return f.write_str("none");
        }
        write!(f, "{} × ", self.count)?;
        for (name, micros) in [("p50", self.p50), ("p99", self.p99), ("p99.9", self.p999), ("max", self.max)]
        {
            write!(f, " {name} {}", millis(micros))?;
        }
        Ok(())
    }
}

/// As milliseconds, for people.
pub(crate) fn millis(micros: u64) -> String {
    format!("{}.{:03} ms", micros / 1_000, micros % 1_000)
}

/// A second of the load.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Second {
    pub(crate) second: u64,
    pub(crate) phase: Phase,
    pub(crate) sessions: u64,
    pub(crate) wrong_now: u64,
    pub(crate) blind_now: u64,
    pub(crate) opened: u64,
    pub(crate) failed: u64,
    pub(crate) forced: u64,
    pub(crate) changes: u64,
    pub(crate) deliveries: u64,
    pub(crate) latency: Spread,
    pub(crate) lateness: Spread,
}

impl Second {
    pub(crate) fn of(tick: &Tick) -> Self {
        Self {
            second: tick.second,
            phase: tick.phase,
            sessions: tick.sessions,
            wrong_now: tick.wrong_now,
            blind_now: tick.blind_now,
            opened: tick.counts.opened,
            failed: tick.counts.failed,
            forced: tick.counts.all_forced(),
            changes: tick.counts.changes,
            deliveries: tick.counts.deliveries,
            latency: Spread::of(&tick.spreads.latency),
            lateness: Spread::of(&tick.spreads.lateness),
        }
    }
}

/// What counts: from the beginning of the measurement to the end.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Measured {
    pub(crate) counts: Counts,
    pub(crate) latency: Spread,
    pub(crate) lateness: Spread,
    pub(crate) connect: Spread,
    /// Shown online and was not; shown offline and was there; shown with another status.
    pub(crate) false_online: Spread,
    pub(crate) false_offline: Spread,
    pub(crate) other_status: Spread,
    /// Pairs of quantile and microseconds.
    pub(crate) curve: Vec<(f64, u64)>,
}

impl Measured {
    pub(crate) fn of(counts: Counts, spreads: &Spreads) -> Self {
        let [online, offline, other] = &spreads.wrong;
        Self {
            counts,
            latency: Spread::of(&spreads.latency),
            lateness: Spread::of(&spreads.lateness),
            connect: Spread::of(&spreads.connect),
            false_online: Spread::of(online),
            false_offline: Spread::of(offline),
            other_status: Spread::of(other),
            curve: curve(spreads.latency.histogram()),
        }
    }
}

/// From the median on, halving what remains five times for each half.
fn curve(histogram: &Histogram<u64>) -> Vec<(f64, u64)> {
    if histogram.is_empty() {
        return Vec::new();
    }
    histogram.iter_quantiles(5).map(|step| (step.quantile_iterated_to(), step.value_iterated_to())).collect()
}

/// A load and what it showed.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Outcome {
    /// Of this form; another number is not read.
    pub(crate) format: u32,
    pub(crate) scenario: Scenario,
    pub(crate) workers: u32,
    /// Seconds since 1970 at which it began.
    pub(crate) began: u64,
    pub(crate) version: String,
    pub(crate) cores: usize,
    pub(crate) memory_kib: u64,
    pub(crate) processor: String,
    /// The gateways, or that they were started for it.
    pub(crate) target: String,
    /// Until what counts; and what counts.
    pub(crate) before: Measured,
    pub(crate) measured: Measured,
    pub(crate) end: End,
    pub(crate) faults: Vec<String>,
    pub(crate) seconds: Vec<Second>,
    pub(crate) processes: Vec<Seen>,
}

pub(crate) const FORMAT: u32 = 1;

/// Everything that the referee does not let pass, in words; none: it is clean.
pub(crate) fn faults(scenario: &Scenario, measured: &Measured, end: &End) -> Vec<String> {
    let counts = &measured.counts;
    let mut faults = Vec::new();
    let mut fault = |is: bool, text: String| {
        if is {
            faults.push(text);
        }
    };
    fault(counts.unexplained > 0, format!("{} transitions that nothing explains", counts.unexplained));
    let over = counts.all_over_bound();
    let [online, offline, other] = counts.over_bound;
    fault(
        over > scenario.allow.over_bound,
        format!(
            "{over} views wrong for longer than {:?} ({online} falsely online, {offline} falsely offline, {other} with \
             another status)",
            scenario.promise.bound
        ),
    );
    let forced = counts.all_forced();
    fault(forced > scenario.allow.forced, format!("{forced} sessions ended against their will"));
    fault(end.wrong > 0, format!("{} of {} views wrong at the end", end.wrong, end.views));
    fault(end.blind > 0, format!("{} of {} views know nothing at the end", end.blind, end.views));
    fault(counts.broken > 0, format!("{} frames break the protocol", counts.broken));
    faults
}

impl Outcome {
    /// Class of process → highest sum of memory in KiB, and mean cores while it was measured.
    pub(crate) fn classes(&self) -> BTreeMap<String, (u64, f64)> {
        let measured = |second: &&Second| second.phase == Phase::Measure;
        let first = self.seconds.iter().find(measured).map_or(0, |second| second.second);
        let last = self.seconds.iter().rfind(measured).map_or(0, |second| second.second);
        let mut classes: BTreeMap<String, (Vec<u64>, f64)> = BTreeMap::new();
        for seen in &self.processes {
            let class = classes.entry(seen.class.clone()).or_default();
            class.0.resize(class.0.len().max(seen.rss_kib.len()), 0);
            class.0.iter_mut().zip(&seen.rss_kib).for_each(|(sum, rss)| *sum += rss);
            let place = |second: u64| usize::try_from(second).unwrap_or(usize::MAX);
            let cores = seen.cores();
            let cores = cores.get(place(first)..place(last).min(cores.len())).unwrap_or_default();
            if !cores.is_empty() {
                class.1 +=
                    cores.iter().sum::<f64>() / f64::from(u32::try_from(cores.len()).unwrap_or(u32::MAX));
            }
        }
        let peak = |(sums, cores): (Vec<u64>, f64)| (sums.into_iter().max().unwrap_or(0), cores);
        classes.into_iter().map(|(class, of)| (class, peak(of))).collect()
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (measured, counts) = (&self.measured, &self.measured.counts);
        writeln!(
            f,
            "{}: {} people, {} workers",
            self.scenario.name, self.scenario.people.sessions, self.workers
        )?;
        writeln!(f, "change to watcher  {}", measured.latency)?;
        writeln!(f, "falsely online     {}", measured.false_online)?;
        writeln!(f, "falsely offline    {}", measured.false_offline)?;
        writeln!(f, "other status       {}", measured.other_status)?;
        writeln!(f, "late to schedule   {}", measured.lateness)?;
        writeln!(f, "connect            {} (before: {})", measured.connect, self.before.connect)?;
        writeln!(
            f,
            "changes {}, deliveries {}; due {}, seen {}, conflated {}",
            counts.changes, counts.deliveries, counts.due, counts.seen, counts.conflated
        )?;
        writeln!(
            f,
            "sessions opened {} (before: {}), attempts failed {} (before: {}), moved {}, forced {:?}, slow ones cut {}",
            counts.opened,
            self.before.counts.opened,
            counts.failed,
            self.before.counts.failed,
            counts.moved,
            counts.forced,
            counts.forced_slow
        )?;
        if !counts.errors.is_empty() || !self.before.counts.errors.is_empty() {
            writeln!(f, "errors {:?} (before: {:?})", counts.errors, self.before.counts.errors)?;
        }
        writeln!(
            f,
            "views {}; stale records {}, unknown {}; blind {} s of views, {} s of sessions; unexplained {}",
            self.end.views,
            counts.stale_records,
            counts.unknown_records,
            counts.blind_micros / 1_000_000,
            counts.blind_sessions_micros / 1_000_000,
            counts.unexplained
        )?;
        for (class, (peak, cores)) in self.classes() {
            writeln!(f, "{class:<12} peak {} MiB, {cores:.2} cores", peak / 1_024)?;
        }
        for sample in self.end.samples.iter().take(5) {
            writeln!(f, "  {sample}")?;
        }
        match self.faults.as_slice() {
            [] => writeln!(f, "referee: clean"),
            faults => writeln!(f, "referee: {}", faults.join("; ")),
        }
    }
}
