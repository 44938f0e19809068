//! From how many gateways on it pays that each is sent only the changes of users watched there.

use anyhow::Result;
use serde_json::Value;

use super::figures;
use super::suite::One;

/// How many gateways are measured.
const GATEWAYS: [u16; 3] = [10, 50, 200];

/// The processor time of all servers for a change, at each number of gateways, with the changes sent by partition and by
/// user. `measure` runs the load with these arguments added.
pub(super) fn measure(mut measure: impl FnMut(&[String]) -> Result<Value>) -> Result<One> {
    let mut found = One::new();
    for gateways in GATEWAYS {
        for (how, from) in [("partition", 0), ("user", 1)] {
            let setting = format!("coordinator.interest_by_user_from={from}");
            let arguments = ["--gateways".to_owned(), gateways.to_string(), "--set".to_owned(), setting];
            let result = measure(&arguments)?;
            let name = |what: &str| format!("{gateways:3} gateways, by {how}: {what}");
            found.insert(name("processor time of all servers a change, ms"), figures::per_change(&result)?);
            found.insert(name("change to watcher p99, ms"), figures::p99(&result)?);
            found.insert(name("faults found by the referee"), figures::faults(&result));
        }
    }
    Ok(found)
}
