//! A failing run is shrunk to what makes it fail, and what is printed of it can be run again.

use herenow_sim::{Plan, Profile, World, minimise};

fn breaks(plan: &Plan, invariant: &str) -> bool {
    World::planned(plan).run().violations.iter().any(|violation| violation.invariant == invariant)
}

#[test]
fn a_planted_break_is_shrunk_to_faults_of_which_none_can_be_spared() {
    let plan = Plan::draw(3, Profile { syncs_lost: true, ..Profile::normal() });
    let (least, invariant) = minimise(&plan).expect("without syncs nothing is ever repaired");
    assert!(breaks(&least, invariant));
    assert!(least.faults.len() < plan.faults.len() / 2, "{least}");
    assert!(least.faults.iter().all(|fault| plan.faults.contains(fault)));
    for spared in 0..least.faults.len() {
        let mut fewer = least.clone();
        fewer.faults.remove(spared);
        assert!(!breaks(&fewer, invariant), "{spared} of these is not needed:\n{least}");
    }
}

#[test]
fn the_planted_break_breaks_nothing_unless_something_goes_wrong() {
    let mut plan = Plan::draw(3, Profile { syncs_lost: true, ..Profile::normal() });
    plan.faults.clear();
    assert!(minimise(&plan).is_none());
}

#[test]
fn a_plan_that_was_printed_is_the_same_run() {
    for seed in 0..50 {
        let plan = Plan::draw(seed, Profile::normal());
        assert_eq!(plan.to_string().parse::<Plan>().unwrap(), plan);
    }
    let plan = Plan::draw(7, Profile::normal());
    let again: Plan = plan.to_string().parse().unwrap();
    assert_eq!(World::planned(&again).run(), World::new(7, Profile::normal()).run());
}

#[test]
fn a_file_that_makes_no_sense_is_refused() {
    for text in
        ["seed x", "5000 crash c9 100", "5000 crash q0 1", "12 loss 1.5 10", "users 0", "9 sneeze g0 1"]
    {
        assert!(text.parse::<Plan>().is_err(), "{text}");
    }
}
