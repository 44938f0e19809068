//! The normal run: a thousand stormy worlds, and a few calm ones in which nothing may ever look wrong.

use std::sync::atomic::{AtomicU64, Ordering};

use herenow_sim::{Profile, World};

fn run(seed: u64, profile: Profile) {
    let report = World::new(seed, profile).run();
    assert!(
        report.violations.is_empty(),
        "seed {seed} broke: {:#?}\nrun it again with: cargo xtask sim --seed {seed} -- --trace trace.txt",
        report.violations
    );
}

#[test]
fn a_thousand_stormy_worlds_keep_every_invariant() {
    let next = AtomicU64::new(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= 1_000 {
                        return;
                    }
                    run(seed, Profile::normal());
                }
            });
        }
    });
}

#[test]
fn what_is_kept_outlives_coordinators() {
    for seed in 0..200 {
        run(seed, Profile::keeping());
    }
    for seed in 0..20 {
        run(seed, Profile { faults: 0, ..Profile::keeping() });
    }
}

#[test]
fn twenty_calm_worlds_keep_every_invariant() {
    for seed in 0..20 {
        run(seed, Profile::calm());
    }
}

#[test]
fn a_seed_is_a_whole_run() {
    let once = World::new(7, Profile::normal()).run();
    let again = World::new(7, Profile::normal()).run();
    assert_eq!(once, again);
    assert!(once.transitions > 50 && once.faults > 5, "{once:?}");
}
