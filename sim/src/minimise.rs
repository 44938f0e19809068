//! Shrinks a failing run: as long as the same invariant still breaks, less goes wrong, to fewer, in less time.

use crate::plan::Plan;
use crate::world::{STORM_MS, World};

/// The smallest run found that breaks the invariant which the given run breaks first; nothing when it breaks none.
#[must_use]
pub fn minimise(plan: &Plan) -> Option<(Plan, &'static str)> {
    let invariant = World::planned(plan).run().violations.first()?.invariant;
    let mut least = plan.clone();
    // Each may make room for the others.
    loop {
        let before = least.clone();
        remove_faults(&mut least, invariant);
        remove_users(&mut least, invariant);
        shorten(&mut least, invariant);
        if least == before {
            return Some((least, invariant));
        }
    }
}

fn breaks(plan: &Plan, invariant: &str) -> bool {
    World::planned(plan).run().violations.iter().any(|violation| violation.invariant == invariant)
}

/// Takes the smaller plan if it fails as the greater does.
fn take(least: &mut Plan, smaller: Plan, invariant: &str) -> bool {
    let taken = breaks(&smaller, invariant);
    if taken {
        *least = smaller;
    }
    taken
}

/// First many at once, at last one at a time.
fn remove_faults(least: &mut Plan, invariant: &str) {
    let mut many = least.faults.len();
    while many > 0 {
        let mut from = 0;
        while from < least.faults.len() {
            let mut smaller = least.clone();
            smaller.faults.drain(from..(from + many).min(least.faults.len()));
            smaller.profile.faults = smaller.faults.len();
            if !take(least, smaller, invariant) {
                from += many;
            }
        }
        many /= 2;
    }
}

fn remove_users(least: &mut Plan, invariant: &str) {
    for fewer in 1..least.profile.users {
        let mut smaller = least.clone();
        smaller.profile.users = fewer;
        if take(least, smaller, invariant) {
            return;
        }
    }
}

/// Halves the storm; no fault may strike after it.
fn shorten(least: &mut Plan, invariant: &str) {
    loop {
        let mut smaller = least.clone();
        smaller.profile.storm_ms /= 2;
        let ends = STORM_MS + smaller.profile.storm_ms;
        let cuts_off = least.faults.last().is_some_and(|(at, _)| *at >= ends);
        if cuts_off || smaller.profile.storm_ms < 1_000 || !take(least, smaller, invariant) {
            return;
        }
    }
}
