//! What is read from results: figures by name, with one value of each run.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::suite::One;

/// Every figure of a step.
#[derive(Debug, Default)]
pub(super) struct Figures(BTreeMap<String, Vec<f64>>);

impl Figures {
    pub(super) fn add(&mut self, run: One) {
        run.into_iter().for_each(|(name, value)| self.0.entry(name).or_default().push(value));
    }

    pub(super) fn extend(&mut self, more: BTreeMap<String, Vec<f64>>) {
        self.0.extend(more);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Name, median, lowest, highest.
    pub(super) fn lines(&self) -> impl Iterator<Item = (&str, f64, f64, f64)> {
        self.0.iter().map(|(name, values)| {
            let mut values = values.clone();
            values.sort_by(f64::total_cmp);
            let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
            (name.as_str(), at(values.len() / 2), at(0), at(values.len().saturating_sub(1)))
        })
    }

    pub(super) fn json(&self) -> Value {
        json!(self.0)
    }
}

fn number(result: &Value, pointer: &str) -> Result<f64> {
    result.pointer(pointer).and_then(Value::as_f64).with_context(|| format!("no {pointer} in the result"))
}

fn one<const N: usize>(figures: [(&str, f64); N]) -> One {
    figures.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Of `herenow-loadtest latency`.
pub(super) fn latency(result: &Value) -> Result<One> {
    let at = |name: &str| Ok::<f64, anyhow::Error>(number(result, &format!("/latencyMicros/{name}"))? / 1e3);
    Ok(one([
        ("p50, ms", at("p50")?),
        ("p90, ms", at("p90")?),
        ("p99, ms", at("p99")?),
        ("max, ms", at("max")?),
        ("changes missed", number(result, "/missed")?),
    ]))
}

/// Of all processes of a class: KiB in memory, and milliseconds of processor time, for each second.
fn class(result: &Value, name: &str) -> Result<(Vec<f64>, Vec<f64>)> {
    let (mut memory, mut time) = (Vec::new(), Vec::new());
    for process in result["processes"].as_array().context("no processes in the result")? {
        if process["class"] != *name {
            continue;
        }
        for (sum, key) in [(&mut memory, "rssKib"), (&mut time, "cpuMillis")] {
            let values = process[key].as_array().with_context(|| format!("no {key} of a process"))?;
            sum.resize(values.len().max(sum.len()), 0.0);
            sum.iter_mut().zip(values).for_each(|(sum, value)| *sum += value.as_f64().unwrap_or(0.0));
        }
    }
    Ok((memory, time))
}

/// The seconds of a phase, as places in what [`class`] gives.
fn phase(result: &Value, name: &str) -> Result<Vec<usize>> {
    let seconds = result["seconds"].as_array().context("no seconds in the result")?;
    let of = seconds.iter().filter(|second| second["phase"] == *name);
    let places: Vec<usize> =
        of.filter_map(|second| usize::try_from(second["second"].as_u64()?).ok()).collect();
    anyhow::ensure!(!places.is_empty(), "no second of {name} in the result");
    Ok(places)
}

fn at(values: &[f64], place: usize) -> f64 {
    values.get(place).or(values.last()).copied().unwrap_or(0.0)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    at(&values, values.len() / 2)
}

/// What the referee does not let pass; 0 is clean.
pub(super) fn faults(result: &Value) -> f64 {
    f64::from(u32::try_from(result["faults"].as_array().map_or(1, Vec::len)).unwrap_or(u32::MAX))
}

/// What an idle session costs its gateway.
pub(super) fn memory(result: &Value) -> Result<One> {
    let sessions = number(result, "/scenario/people/sessions")?;
    let (memory, time) = class(result, "gateway")?;
    let places = phase(result, "measure")?;
    let (first, last) = (places[0], places[places.len() - 1]);
    let open = result["seconds"]
        .as_array()
        .and_then(|seconds| seconds.get(last.checked_sub(1)?)?["sessions"].as_f64());
    // What a session costs of which half were not there says nothing.
    anyhow::ensure!(
        open.is_some_and(|open| open >= 0.99 * sessions),
        "{} of {sessions} sessions were open at the end",
        open.unwrap_or_default()
    );
    let while_measured = median(places.iter().map(|place| at(&memory, *place)).collect());
    let heartbeats = number(result, "/measured/counts/sent")?.max(1.0);
    Ok(one([
        ("resident memory a session, B", (while_measured - at(&memory, 0)) * 1_024.0 / sessions),
        (
            "its growth while it was measured, B",
            (at(&memory, last) - at(&memory, first)) * 1_024.0 / sessions,
        ),
        (
            "processor time of the gateway a heartbeat, µs",
            (at(&time, last) - at(&time, first)) * 1e3 / heartbeats,
        ),
        ("views without a value at the end", number(result, "/end/blind")?),
        ("faults found by the referee", faults(result)),
    ]))
}

/// How soon everybody is back, and what it took.
pub(super) fn storm(result: &Value) -> Result<One> {
    let seconds = result["seconds"].as_array().context("no seconds in the result")?;
    let sessions = number(result, "/scenario/people/sessions")?;
    let (memory, _) = class(result, "gateway")?;
    let places = phase(result, "measure")?;
    let measured = |second: &&Value| second["phase"] == "measure" || second["phase"] == "patience";
    let there = |second: &Value| second["sessions"].as_f64().unwrap_or(0.0) >= 0.99 * sessions;
    let right = |second: &Value| second["wrongNow"] == 0 && second["blindNow"] == 0;
    let mut rest = seconds.iter().filter(measured).skip_while(|second| there(second));
    let began = rest.next().and_then(|second| second["second"].as_f64()).context("nobody was cut")?;
    let back =
        rest.find(|second| there(second) && right(second)).and_then(|second| second["second"].as_f64());
    let steady = at(&memory, places[0]);
    let peak = memory.iter().skip(places[0]).copied().fold(0.0, f64::max);
    Ok(one([
        (
            "from the cut until 99 % are back and every view is right, s",
            back.map_or(f64::NAN, |at| at + 1.0 - began),
        ),
        ("transitions seen that were none", number(result, "/measured/counts/unexplained")?),
        ("highest memory of the gateways by what they had before", peak / steady.max(1.0)),
        ("faults found by the referee", faults(result)),
    ]))
}

/// How soon changes arrive, and what a delivery costs.
pub(super) fn deliveries(result: &Value) -> Result<One> {
    let (_, time) = class(result, "gateway")?;
    let places = phase(result, "measure")?;
    let spent = at(&time, places[places.len() - 1]) - at(&time, places[0]);
    let told = number(result, "/measured/counts/deliveries")?;
    let percentile =
        |name: &str| Ok::<f64, anyhow::Error>(number(result, &format!("/measured/latency/{name}"))? / 1e3);
    Ok(one([
        ("change to watcher p50, ms", percentile("p50")?),
        ("change to watcher p99, ms", percentile("p99")?),
        ("change to watcher max, ms", percentile("max")?),
        ("deliveries", told),
        ("processor time of the gateways for a million deliveries, s", spent * 1e3 / told.max(1.0)),
        ("faults found by the referee", faults(result)),
    ]))
}

/// From a change to its watchers, in 99 of 100, ms.
pub(super) fn p99(result: &Value) -> Result<f64> {
    Ok(number(result, "/measured/latency/p99")? / 1e3)
}

/// The processor time that the processes of a class took while it was measured, ms.
fn spent(result: &Value, name: &str) -> Result<f64> {
    let (_, time) = class(result, name)?;
    let places = phase(result, "measure")?;
    Ok(at(&time, places[places.len() - 1]) - at(&time, places[0]))
}

fn servers(result: &Value) -> Result<f64> {
    ["gateway", "coordinator", "nats"].into_iter().map(|name| spent(result, name)).sum()
}

/// The processor time of all servers for a change, ms.
pub(super) fn per_change(result: &Value) -> Result<f64> {
    Ok(servers(result)? / number(result, "/measured/counts/changes")?.max(1.0))
}

/// The figure of [`kept_up`] that tells how many changes there were.
pub(super) const RATE: &str = "highest rate that was kept up with, changes a second";

/// What a rate cost that was kept up with; none: changes were late, or the referee was not content.
pub(super) fn kept_up(result: &Value, most_ms: f64) -> Result<Option<One>> {
    let p99 = p99(result)?;
    if p99 > most_ms || faults(result) > 0.0 {
        return Ok(None);
    }
    let told = number(result, "/measured/counts/deliveries")?;
    let seconds = phase(result, "measure")?.len() as f64;
    Ok(Some(one([
        (RATE, number(result, "/measured/counts/changes")? / seconds),
        ("at it: change to watcher p99, ms", p99),
        ("at it: deliveries a second", told / seconds),
        (
            "at it: processor time of all servers for a million deliveries, s",
            servers(result)? * 1e3 / told.max(1.0),
        ),
    ])))
}

/// How soon changes arrive, and what each class of processes takes of the machine.
pub(super) fn transitions(result: &Value) -> Result<One> {
    let seconds = phase(result, "measure")?.len() as f64;
    let counts = |name: &str| number(result, &format!("/measured/counts/{name}"));
    let latency =
        |name: &str| Ok::<f64, anyhow::Error>(number(result, &format!("/measured/latency/{name}"))? / 1e3);
    let cores = |name: &str| Ok::<f64, anyhow::Error>(spent(result, name)? / 1e3 / seconds);
    Ok(one([
        ("changes a second", counts("changes")? / seconds),
        ("deliveries a second", counts("deliveries")? / seconds),
        ("changes told by a later one, a second", counts("conflated")? / seconds),
        ("change to watcher p50, ms", latency("p50")?),
        ("change to watcher p99, ms", latency("p99")?),
        ("cores of the gateways", cores("gateway")?),
        ("cores of the coordinators", cores("coordinator")?),
        ("cores of the NATS server", cores("nats")?),
        ("cores of the load itself", cores("load")?),
        ("faults found by the referee", faults(result)),
    ]))
}

/// How soon those are told who read, and what the gateways need for those who do not.
pub(super) fn slow(result: &Value) -> Result<One> {
    let (memory, _) = class(result, "gateway")?;
    let places = phase(result, "measure")?;
    let before = at(&memory, places[0]);
    let most = places.iter().map(|place| at(&memory, *place)).fold(0.0, f64::max);
    Ok(one([
        ("change to watcher p99, ms", p99(result)?),
        ("highest memory of the gateways by what they had before", most / before.max(1.0)),
        ("faults found by the referee", faults(result)),
    ]))
}

/// Of criterion: the median of each path and the ends of its confidence interval, in nanoseconds.
pub(super) fn criterion(folder: &Path) -> Result<BTreeMap<String, Vec<f64>>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in folder.read_dir().with_context(|| format!("reading {}", folder.display()))? {
            let path = entry?.path();
            if !path.is_dir() {
                continue;
            }
            if !path.ends_with("new") {
                folders.push(path);
                continue;
            }
            let read = |name: &str| -> Result<Value> {
                Ok(serde_json::from_str(&std::fs::read_to_string(path.join(name))?)?)
            };
            let (name, times) = (read("benchmark.json")?, read("estimates.json")?);
            let name = name["full_id"].as_str().context("a path without a name")?.to_owned();
            let values = [
                "/median/confidence_interval/lower_bound",
                "/median/point_estimate",
                "/median/confidence_interval/upper_bound",
            ];
            let values: Result<Vec<f64>> = values.iter().map(|pointer| number(&times, pointer)).collect();
            found.insert(format!("{name}, ns"), values?);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result() -> Value {
        let second = |second: u64, phase: &str, sessions: u64, wrong: u64| json!({"second": second, "phase": phase, "sessions": sessions, "wrongNow": wrong, "blindNow": 0});
        json!({
            "scenario": {"people": {"sessions": 1_024}},
            "seconds": [
                second(1, "ramp", 1_024, 0), second(2, "measure", 1_024, 0), second(3, "measure", 10, 0),
                second(4, "measure", 1_020, 5), second(5, "measure", 1_020, 0), second(6, "patience", 1_024, 0)
            ],
            "processes": [
                {"class": "gateway", "rssKib": [100, 900, 1_000, 3_000, 1_100, 1_100], "cpuMillis": [0, 5, 10, 20, 30, 40]},
                {"class": "gateway", "rssKib": [100, 100, 100, 100, 100, 100], "cpuMillis": [0, 0, 0, 0, 0, 0]},
                {"class": "load", "rssKib": [9_999], "cpuMillis": [9_999]}
            ],
            "measured": {
                "counts": {"sent": 100, "deliveries": 2_000, "unexplained": 0},
                "latency": {"p50": 1_500, "p99": 9_000, "max": 20_000}
            },
            "end": {"blind": 0},
            "faults": []
        })
    }

    #[test]
    fn memory_is_of_the_gateways_and_of_what_was_added_since_the_start() {
        let figures = memory(&result()).unwrap();
        // Between 200 and 1,200 KiB; the median of 1,100, 3,100, 1,200 and 1,200.
        assert!((figures["resident memory a session, B"] - 1_000.0).abs() < 1e-9, "{figures:?}");
        assert!((figures["its growth while it was measured, B"] - 100.0).abs() < 1e-9, "{figures:?}");
        assert!(
            (figures["processor time of the gateway a heartbeat, µs"] - 300.0).abs() < 1e-9,
            "{figures:?}"
        );
    }

    #[test]
    fn sessions_that_were_not_there_cost_nothing_that_could_be_told() {
        let mut few = result();
        few["scenario"]["people"]["sessions"] = json!(2_000);
        assert!(memory(&few).unwrap_err().to_string().contains("1020 of 2000"));
    }

    #[test]
    fn a_storm_is_over_when_all_are_back_and_every_view_is_right() {
        let figures = storm(&result()).unwrap();
        let back = figures["from the cut until 99 % are back and every view is right, s"];
        assert!((back - 3.0).abs() < 1e-9, "{figures:?}");
        let times = figures["highest memory of the gateways by what they had before"];
        assert!((times - 3_100.0 / 1_100.0).abs() < 1e-9, "{figures:?}");
        let mut never = result();
        never["seconds"] = json!([never["seconds"][1], never["seconds"][2]]);
        assert!(
            storm(&never).unwrap()["from the cut until 99 % are back and every view is right, s"].is_nan()
        );
    }

    #[test]
    fn a_result_that_lacks_something_names_it() {
        let why = deliveries(&json!({"processes": [], "seconds": [{"second": 1, "phase": "measure"}]}));
        assert!(why.unwrap_err().to_string().contains("deliveries"));
        let figures = deliveries(&result()).unwrap();
        assert!((figures["processor time of the gateways for a million deliveries, s"] - 15.0).abs() < 1e-9);
    }

    #[test]
    fn medians_stand_between_the_lowest_and_the_highest() {
        let mut figures = Figures::default();
        for value in [3.0, 1.0, 2.0] {
            figures.add(one([("x", value)]));
        }
        assert_eq!(figures.lines().collect::<Vec<_>>(), [("x", 2.0, 1.0, 3.0)]);
    }
}
