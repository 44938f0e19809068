//! The highest rate of changes that a deployment keeps up with.

use anyhow::Result;
use serde_json::Value;

use super::figures;
use super::suite::One;

/// What a change may take on its way, in the 99th of a hundred, ms.
const KEPT_UP_MS: f64 = 250.0;
/// Doublings at most, and then halvings of what is left between what it keeps up with and what it does not.
const DOUBLINGS: u32 = 8;
const HALVINGS: u32 = 1;
/// Fewer changes than this share of what was asked for: everybody changes as often as can be.
const ALL: f64 = 0.8;

/// Doubles the rate until it is too much, or people change as often as they do, which is once a second; then looks between.
/// Gives the figures at the highest rate that was kept up with.
///
/// # Errors
/// A load does not run, or already the first rate is too much.
pub(super) fn find(first: f64, mut measure: impl FnMut(f64) -> Result<Value>) -> Result<One> {
    let mut at = |rate: f64| -> Result<Option<One>> {
        let figures = figures::kept_up(&measure(rate)?, KEPT_UP_MS)?;
        let verdict = if figures.is_some() { "kept up with" } else { "too much" };
        println!("{rate:.0} changes a second: {verdict}");
        Ok(figures)
    };
    let mut best = at(first)?;
    anyhow::ensure!(best.is_some(), "already {first} changes a second are too much");
    let (mut low, mut high) = (first, None);
    for _ in 0..DOUBLINGS {
        match at(low * 2.0)? {
            Some(figures) => {
                (best, low) = (Some(figures), low * 2.0);
                if best.as_ref().is_some_and(|found| found[figures::RATE] < ALL * low) {
                    break;
                }
            }
            None => {
                high = Some(low * 2.0);
                break;
            }
        }
    }
    for _ in 0..HALVINGS {
        let Some(too_much) = high else { break };
        let middle = f64::midpoint(low, too_much);
        match at(middle)? {
            Some(figures) => (best, low) = (Some(figures), middle),
            None => high = Some(middle),
        }
    }
    Ok(best.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// What a load tells of a deployment that keeps up with so many changes a second.
    fn load(most: f64, rate: f64) -> Value {
        let millis = if rate <= most { 20.0 } else { 400.0 };
        let rate = rate.min(20_000.0);
        json!({
            "processes": [{ "class": "gateway", "rssKib": [1, 1], "cpuMillis": [0, 1_000] }],
            "seconds": [{ "second": 0, "phase": "measure" }, { "second": 1, "phase": "measure" }],
            "measured": {
                "counts": { "deliveries": 1_000, "changes": 2.0 * rate },
                "latency": { "p50": 1_000.0, "p99": millis * 1e3, "max": millis * 1e3 },
            },
            "faults": [],
        })
    }

    fn highest(most: f64) -> Result<(f64, usize)> {
        let mut runs = 0;
        let found = find(100.0, |rate| {
            runs += 1;
            Ok(load(most, rate))
        })?;
        Ok((found[figures::RATE], runs))
    }

    #[test]
    fn it_is_found_within_a_quarter_by_a_few_runs() {
        assert_eq!(highest(1_250.0).unwrap(), (1_200.0, 6));
        assert_eq!(highest(100.0).unwrap(), (100.0, 3));
        assert_eq!(highest(f64::INFINITY).unwrap(), (20_000.0, 9));
        assert!(highest(99.0).unwrap_err().to_string().contains("already 100"));
    }

    #[test]
    fn a_referee_who_is_not_content_is_too_much() {
        let found = find(100.0, |_| {
            let mut load = load(1e9, 1.0);
            load["faults"] = json!(["2 views are wrong at the end"]);
            Ok(load)
        });
        assert!(found.is_err());
    }
}
