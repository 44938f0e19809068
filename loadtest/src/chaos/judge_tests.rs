//! The referee against traces with a planted fault each.

use std::time::Duration;

use serde_json::json;

use super::journal::{Journal, Moment, Truth};
use super::judge::{Verdict, Window, judge};
use super::wire::Record;

const WINDOW: Window =
    Window { from: Duration::from_secs(1), to: Duration::from_secs(20), late: Duration::from_secs(1) };

fn s(seconds: u64) -> Moment {
    Duration::from_secs(seconds)
}

fn record(status: &str, n: u64, stale: bool) -> Record {
    let mut record = json!({"userId": "ana", "status": status, "lastUpdated": null});
    record["version"] = json!(format!("0000000000000001{n:012x}"));
    if stale {
        record["asOf"] = json!("2026-01-31T08:15:30.123Z");
    }
    Record::read(&record).unwrap()
}

/// One user, one watcher; the user is on from the start, and seen so.
fn verdict(truth: &[(u64, Truth)], told: &[(u64, &str, bool)]) -> Verdict {
    let mut journal = Journal::new(vec!["ana".to_owned()], 1);
    journal.set_truth(0, Moment::ZERO, Truth::On);
    for (at, truth) in truth {
        journal.set_truth(0, s(*at), *truth);
    }
    journal.shown(0, Moment::ZERO, &record("online", 1, false));
    for (n, (at, status, stale)) in (2..).zip(told) {
        journal.shown(0, s(*at), &record(status, n, *stale));
    }
    judge(&journal, WINDOW)
}

#[test]
fn a_quiet_view_is_clean() {
    let verdict = verdict(&[], &[]);
    assert!(verdict.faults.is_empty(), "{:?}", verdict.faults);
    assert_eq!(verdict.unknown, Duration::ZERO);
}

#[test]
fn a_flicker_is_wrong_and_unexplained() {
    let verdict = verdict(&[], &[(5, "offline", false), (7, "online", false)]);
    assert_eq!(verdict.false_offline, s(2));
    assert_eq!(verdict.unexplained, 1);
    assert_eq!(verdict.wrong_at_end, 0);
}

#[test]
fn a_ghost_is_wrong_to_the_end() {
    let verdict = verdict(&[(5, Truth::Off)], &[]);
    assert_eq!(verdict.false_online, s(15));
    assert_eq!(verdict.wrong_at_end, 1);
}

#[test]
fn what_is_long_past_explains_nothing() {
    let past = [(5, Truth::Off), (6, Truth::On)];
    assert_eq!(verdict(&past, &[(7, "offline", false), (8, "online", false)]).unexplained, 0);
    let late = verdict(&past, &[(9, "offline", false), (10, "online", false)]);
    assert_eq!(late.unexplained, 1);
}

#[test]
fn a_truth_explains_once() {
    let truth = [(5, Truth::Off), (6, Truth::On)];
    let told = [(5, "offline", false), (6, "online", false), (7, "offline", false), (8, "online", false)];
    assert_eq!(verdict(&truth, &told).unexplained, 1);
}

#[test]
fn either_excuses_until_it_runs_out() {
    let lost = [(5, Truth::Either { until: s(9) })];
    assert_eq!(verdict(&lost, &[(6, "offline", false)]).faults.len(), 0);
    let late = verdict(&lost, &[(12, "offline", false)]);
    assert_eq!(late.false_online, s(3));
}

#[test]
fn stale_and_unknown_are_not_wrong_but_counted() {
    let verdict =
        verdict(&[(5, Truth::Off)], &[(5, "online", true), (8, "unknown", false), (10, "offline", false)]);
    assert_eq!((verdict.stale, verdict.unknown), (s(3), s(2)));
    assert_eq!((verdict.false_online, verdict.unexplained), (Duration::ZERO, 0));
}

#[test]
fn a_flicker_with_as_of_is_still_unexplained() {
    assert_eq!(verdict(&[], &[(5, "offline", true), (7, "online", false)]).unexplained, 1);
}

#[test]
fn to_know_nothing_at_the_end_is_wrong() {
    assert_eq!(verdict(&[], &[(15, "unknown", false)]).wrong_at_end, 1);
}
