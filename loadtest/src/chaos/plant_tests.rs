//! The judge and its report against a service without mistakes, and against the same with one planted mistake each.

use std::time::Duration;

use serde_json::{Value, json};

use super::faults::{Bite, Fault};
use super::journal::{Forced, Journal};
use super::judge::{Window, judge};
use super::order::How;
use super::plant::{Between, Plant};
use super::report::Judged;
use super::timers::{MACHINE, Timers};
use super::truth::{Moment, Truth};
use super::wire::Heard;

const USERS: usize = 20;
const WATCHERS: usize = 4;
/// What every user does, and when again.
const SCRIPT: [(&str, Truth); 3] = [("online", Truth::On), ("idle", Truth::Idle), ("offline", Truth::Off)];
const STEP: Duration = Duration::from_millis(2_500);
const END: Duration = Duration::from_secs(24);
/// When a watcher comes back to another gateway.
const MOVED: Duration = Duration::from_secs(8);

const fn s(seconds: u64) -> Moment {
    Duration::from_secs(seconds)
}

/// A change of a user, as the service tells it.
struct Change {
    at: Moment,
    user: usize,
    truth: Truth,
    record: Value,
}

fn changes() -> Vec<Change> {
    let mut changes = Vec::new();
    for user in 0..USERS {
        let first = Duration::from_millis(20 + 100 * user as u64);
        let times = (0..).map(|step| first + STEP * step).take_while(|at| *at + STEP < END);
        for (at, (status, truth)) in times.zip(SCRIPT.into_iter().cycle()) {
            let since = format!("2026-01-31T08:15:{:02}.{:03}Z", at.as_secs(), at.subsec_millis());
            let record = json!({"userId": format!("u{user}"), "status": status, "lastUpdated": since});
            changes.push(Change { at, user, truth, record });
        }
    }
    changes.sort_by_key(|change| change.at);
    for (n, change) in (1_u64..).zip(&mut changes) {
        change.record["version"] = json!(format!("0000000000000001{n:012x}"));
    }
    changes
}

fn frame(kind: &str, users: &[&Value]) -> String {
    json!({"type": kind, "users": users, "complete": true}).to_string()
}

/// All that one watcher is told, by when; the last of them moves meanwhile.
fn told(changes: &[Change], plant: Option<Plant>, number: usize) -> Vec<(Moment, String)> {
    let mut between = plant.map(|plant| Between::new(plant, number));
    let mut pass = |at: Moment, text: String| match &mut between {
        Some(between) => {
            between.pass(&text, at, true).into_iter().map(|(after, text)| (at + after, text)).collect()
        }
        None => vec![(at, text)],
    };
    let mut told = Vec::new();
    let mut moved = number + 1 < WATCHERS;
    for (index, change) in changes.iter().enumerate() {
        if !moved && change.at > MOVED {
            moved = true;
            let latest = |user| changes[..index].iter().rfind(|change| change.user == user);
            let known: Vec<&Value> = (0..USERS).filter_map(latest).map(|change| &change.record).collect();
            told.extend(pass(MOVED, frame("snapshot", &known)));
        }
        told.extend(pass(change.at, frame("presence", &[&change.record])));
    }
    told.sort_by_key(|(at, _)| *at);
    told
}

fn misses(plant: Option<Plant>) -> Vec<String> {
    misses_with(plant, Vec::new())
}

/// What the row of such a run misses.
fn misses_with(plant: Option<Plant>, forced: Vec<Forced>) -> Vec<String> {
    let changes = changes();
    let mut journal = Journal::new((0..USERS).map(|user| (format!("u{user}"), 1)).collect(), WATCHERS, 0);
    changes.iter().for_each(|change| journal.set_truth(change.user, change.at, change.truth));
    for number in 0..WATCHERS {
        for (at, text) in told(&changes, plant, number) {
            match Heard::read(&text).unwrap() {
                Heard::Snapshot(users) => {
                    users.iter().for_each(|record| journal.shown(number, at, record, How::Snapshot));
                }
                Heard::Presence(users) => {
                    users.iter().for_each(|record| journal.shown(number, at, record, How::Presence));
                }
                Heard::Welcome(_) | Heard::Ack(_) | Heard::Other => panic!("{text}"),
            }
        }
    }
    journal.forced = forced;
    let (from, injected, healed) = (s(3), s(6), s(10));
    let bounds = Fault::None.bounds(Timers::new(5, MACHINE));
    let window = Window {
        from,
        injected,
        healed,
        to: END,
        wrong: bounds.wrong,
        calm: MACHINE,
        late: bounds.late,
        unheard: bounds.unheard,
    };
    let verdict = judge(&journal, window);
    let bite = Bite {
        injected,
        healed,
        proof: String::new(),
        excused: Vec::new(),
        misses: Vec::new(),
        longer: Duration::ZERO,
    };
    let recovery = Some(Duration::ZERO);
    let lost = Vec::new();
    Judged { fault: Fault::None, bounds, bite, journal: &journal, verdict, recovery, from, lost }.row().misses
}

#[test]
fn a_service_without_mistakes_passes() {
    assert_eq!(misses(None), [""; 0]);
}

#[test]
fn every_planted_mistake_is_found() {
    for (plant, word) in [
        (Plant::LostRecord, "over the bound"),
        (Plant::StaleReplay, "versions that went back"),
        (Plant::Ghost, "false-online over the bound"),
        (Plant::ExtraOffline, "changes that change nothing"),
        (Plant::LostUpdate, "over the bound"),
        (Plant::IdleAsOnline, "a wrong status over the bound"),
        (Plant::NeedlessUnknown, "blind for too long"),
    ] {
        let misses = misses(Some(plant));
        assert!(misses.iter().any(|miss| miss.contains(word)), "{plant:?}: {misses:?}");
    }
}

#[test]
fn who_is_cut_off_without_need_or_too_often_is_counted() {
    let cut = |at, excused| Forced { at, who: "ana".to_owned(), gateway: 0, why: String::new(), excused };
    assert_eq!(misses_with(None, vec![cut(s(1), false)]), [""; 0], "before anything is judged");
    assert_eq!(misses_with(None, vec![cut(s(5), false)]), ["connections cut without need"]);
    assert_eq!(misses_with(None, vec![cut(s(5), true)]), ["a client cut off too often"]);
}
