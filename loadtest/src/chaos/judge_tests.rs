//! The referee against traces with a planted fault each.

use std::time::Duration;

use serde_json::json;

use super::journal::Journal;
use super::judge::{Verdict, What, Window, judge};
use super::order::How;
use super::truth::{Claim, May, Moment, Truth};
use super::wire::Record;

const WINDOW: Window = Window {
    from: s(1),
    injected: s(6),
    healed: s(11),
    to: s(20),
    wrong: s(2),
    calm: s(1),
    late: s(1),
    unheard: s(0),
};

const fn s(seconds: u64) -> Moment {
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
    let mut journal = Journal::new(vec![("ana".to_owned(), 1)], 1, 0);
    journal.set_truth(0, Moment::ZERO, Truth::On);
    for (at, truth) in truth {
        journal.set_truth(0, s(*at), *truth);
    }
    journal.shown(0, Moment::ZERO, &record("online", 1, false), How::Presence);
    for (n, (at, status, stale)) in (2..).zip(told) {
        journal.shown(0, s(*at), &record(status, n, *stale), How::Presence);
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

#[test]
fn to_be_shown_active_while_idle_is_a_wrong_status() {
    let told = verdict(&[(5, Truth::Idle), (9, Truth::On)], &[(8, "idle", false), (9, "online", false)]);
    assert_eq!((told.wrong_status, told.false_online, told.false_offline), (s(3), s(0), s(0)));
    assert_eq!(told.unexplained, 0);
    assert_eq!(verdict(&[], &[(5, "idle", false), (6, "online", false)]).unexplained, 1);
}

#[test]
fn dnd_that_nobody_claimed_is_wrong_whatever_the_doubt() {
    let lost = [(5, Truth::Either { until: s(19) })];
    assert_eq!(verdict(&lost, &[(6, "dnd", false), (7, "online", false)]).wrong_status, s(1));
}

#[test]
fn a_claim_that_may_be_forgotten_is_excused_in_its_row_only() {
    let shown = |forgetful: bool| {
        let mut journal = Journal::new(vec![("ana".to_owned(), 1)], 1, 0);
        journal.set_truth(0, s(0), Truth::On);
        journal.person(0).claim(s(2), May::be(&[Claim::Dnd]));
        journal.shown(0, s(0), &record("online", 1, false), How::Presence);
        journal.shown(0, s(2), &record("dnd", 2, false), How::Presence);
        journal.shown(0, s(8), &record("online", 3, false), How::Presence);
        if forgetful {
            journal.may_forget_claims(s(6));
        }
        judge(&journal, WINDOW)
    };
    assert_eq!(shown(true).faults.len(), 0);
    let verdict = shown(false);
    assert_eq!((verdict.wrong_status, verdict.unexplained, verdict.wrong_at_end), (s(12), 1, 1));
}

#[test]
fn one_of_three_devices_keeps_its_user_online() {
    let mut journal = Journal::new(vec![("ana".to_owned(), 3)], 1, 0);
    for device in 0..3 {
        journal.person(0).set(device, s(0), Truth::On);
    }
    journal.shown(0, s(0), &record("online", 1, false), How::Presence);
    journal.person(0).set(2, s(5), Truth::Idle);
    journal.person(0).set(1, s(7), Truth::Off);
    assert_eq!(judge(&journal, WINDOW).faults.len(), 0);
    journal.shown(0, s(8), &record("idle", 2, false), How::Presence);
    journal.person(0).set(0, s(9), Truth::Off);
    let verdict = judge(&journal, WINDOW);
    assert_eq!((verdict.wrong_status, verdict.unexplained, verdict.wrong_at_end), (s(1), 1, 0));
}

#[test]
fn wrong_intervals_are_told_by_when_they_were() {
    let truth = [(2, Truth::Off), (4, Truth::On), (7, Truth::Off), (14, Truth::On)];
    let told = [(3, "offline", false), (4, "online", false), (9, "offline", false), (17, "online", false)];
    let verdict = verdict(&truth, &told);
    let told = verdict.phases.map(|phase| (phase.count, phase.over_bound, phase.max_ms));
    assert_eq!(told, [(1, 0, 1_000), (1, 0, 2_000), (1, 1, 3_000)]);
    assert_eq!(verdict.faults[0].what, What::FalseOffline);
}

#[test]
fn what_touches_the_fault_is_the_faults() {
    let phases = |off, seen| {
        verdict(&[(off, Truth::Off)], &[(seen, "offline", false)]).phases.map(|phase| phase.count)
    };
    assert_eq!(phases(4, 6), [1, 0, 0]);
    assert_eq!(phases(5, 7), [0, 1, 0]);
    assert_eq!(phases(12, 15), [0, 1, 0]);
    assert_eq!(phases(13, 15), [0, 0, 1]);
}

#[test]
fn the_ninety_ninth_of_a_hundred_is_told_beside_the_worst() {
    let mut journal = Journal::new(vec![("ana".to_owned(), 1)], 100, 0);
    journal.set_truth(0, s(0), Truth::On);
    journal.set_truth(0, s(2), Truth::Off);
    for watcher in 0..100 {
        let late = if watcher == 0 { s(3) } else { Duration::from_millis(10 * watcher as u64) };
        journal.shown(watcher, s(0), &record("online", 1, false), How::Presence);
        journal.shown(watcher, s(2) + late, &record("offline", 2, false), How::Presence);
    }
    let phase = judge(&journal, WINDOW).phases[0];
    assert_eq!((phase.count, phase.over_bound, phase.p99_ms, phase.max_ms), (100, 1, 990, 3_000));
}

/// The user is on but from 5 s to 9 s; a poller asks and is answered at once, or half a second later.
fn polled(answers: &[(u64, &str, bool)], took: Duration) -> Verdict {
    let mut journal = Journal::new(vec![("ana".to_owned(), 1)], 0, 1);
    for (at, truth) in [(0, Truth::On), (5, Truth::Off), (9, Truth::On)] {
        journal.set_truth(0, s(at), truth);
    }
    for (n, (at, status, stale)) in (1..).zip(answers) {
        journal.polled(0, s(*at), s(*at) + took, &record(status, n, *stale));
    }
    judge(&journal, WINDOW)
}

#[test]
fn an_answer_is_wrong_for_as_long_ago_as_it_was_right() {
    let right = [(4, "online", false), (6, "offline", false), (20, "online", false)];
    assert_eq!(polled(&right, s(0)).faults.len(), 0);
    let ghost = polled(&[(4, "online", false), (8, "online", false), (20, "online", false)], s(0));
    assert_eq!((ghost.false_online, ghost.unexplained), (s(3), 0));
    let never = polled(&[(4, "dnd", false), (20, "online", false)], s(0));
    assert_eq!((never.wrong_status, never.unexplained), (s(4), 1));
}

#[test]
fn what_was_right_between_question_and_answer_is_right() {
    let half = Duration::from_millis(500);
    let answers = [(4, "online", false), (5, "online", false), (8, "online", false), (19, "online", false)];
    let verdict = polled(&answers, half + half);
    assert_eq!((verdict.false_online, verdict.unexplained), (s(0), 0), "{:?}", verdict.faults);
    assert_eq!(polled(&answers, half).false_online, s(3));
}

#[test]
fn between_polls_nothing_is_known() {
    assert_eq!(polled(&[(4, "online", false), (19, "online", false)], s(0)).faults.len(), 0);
}

#[test]
fn a_poller_without_fresh_answers_is_blind_and_wrong_at_the_end() {
    let answers = [(4, "online", false), (6, "offline", true), (8, "unknown", false)];
    let verdict = polled(&answers, s(0));
    assert_eq!((verdict.unpolled, verdict.wrong_at_end), (s(4), 1));
    assert_eq!(verdict.false_offline, s(0));
}

#[test]
fn a_flicker_by_late_news_is_explained_where_the_bus_loses_messages() {
    let mut journal = Journal::new(vec![("ana".to_owned(), 2)], 1, 0);
    journal.person(0).set(0, s(0), Truth::On);
    journal.person(0).set(1, s(4), Truth::On);
    journal.person(0).set(0, s(5), Truth::Off);
    let told = [(0, "online"), (5, "offline"), (6, "online")];
    for (n, (at, status)) in (1..).zip(told) {
        journal.shown(0, s(at), &record(status, n, false), How::Presence);
    }
    let verdict = judge(&journal, Window { unheard: s(2), ..WINDOW });
    assert_eq!((verdict.unexplained, verdict.false_offline), (0, s(1)), "explained, and wrong all the same");
    assert_eq!(judge(&journal, WINDOW).unexplained, 1);
}
