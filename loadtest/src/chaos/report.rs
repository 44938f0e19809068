//! What a run says, for people and for programs.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::faults::{Bite, Bounds, Fault};
use super::journal::{Journal, OutOfOrder, View};
use super::judge::{self, Phase, Verdict};
use super::order::Disorder;
use super::plant::Plant;
use super::truth::{Answers, Moment, Steps};
use super::wire::Status;

/// The worst faults that are told with their traces.
const TOLD: usize = 5;
/// How much of a trace is told around its fault.
const AROUND: Duration = Duration::from_secs(4);

/// One fault, judged. Times in milliseconds.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Row {
    pub(super) fault: Fault,
    pub(super) passed: bool,
    pub(super) misses: Vec<String>,
    pub(super) proof: String,
    pub(super) bound_ms: u64,
    pub(super) false_online_ms: u64,
    pub(super) false_offline_ms: u64,
    /// There, but shown as something else: online instead of idle.
    pub(super) wrong_status_ms: u64,
    /// Wrong intervals before the fault, from it until its bound after healing, and after that.
    pub(super) before: Phase,
    pub(super) during: Phase,
    pub(super) after: Phase,
    /// Claims may be forgotten in this row, since nobody keeps those of a lost coordinator.
    pub(super) forgets_claims: bool,
    pub(super) unexplained: usize,
    pub(super) unknown_allowed_ms: u64,
    pub(super) unknown_ms: u64,
    pub(super) stale_allowed_ms: u64,
    pub(super) stale_ms: u64,
    /// The most time in which a poller got nothing fresh about a user.
    pub(super) unpolled_ms: u64,
    pub(super) unpolled_allowed_ms: u64,
    /// From healing until every view was right.
    pub(super) recovery_ms: Option<u64>,
    pub(super) recovery_allowed_ms: u64,
    pub(super) forced: usize,
    pub(super) forced_excused: usize,
    pub(super) wrong_at_end: usize,
    /// Changes of the truth that the watchers had to be told.
    pub(super) changes: usize,
    /// From the fault until the last watcher saw the last of those who were lost for good as offline.
    pub(super) offline_after_ms: Option<u64>,
    /// How often the client that was cut off most was, with a gateway that the fault took away.
    pub(super) cut_most: usize,
    /// Records of a lower version than before, of one version with other content, and changes without a change.
    pub(super) went_back: usize,
    pub(super) told_differently: usize,
    pub(super) hollow: usize,
    /// Records in answers that were older than what was held: allowed, and dropped by clients.
    pub(super) dropped_lower_versions: u64,
    /// The worst faults with what was true and what was shown around them.
    pub(super) traces: Vec<String>,
}

impl Row {
    const fn phases(&self) -> [Phase; 3] {
        [self.before, self.during, self.after]
    }
}

/// A whole run.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    pub(super) seed: u64,
    pub(super) users: usize,
    pub(super) watchers: usize,
    pub(super) nats_servers: usize,
    pub(super) timers_shorter: u32,
    /// Settings that are not those of the test.
    pub(super) set: Vec<String>,
    /// A mistake that the judge must find.
    pub(super) planted: Option<Plant>,
    pub(super) rows: Vec<Row>,
    /// Scenarios that prove nothing, and why.
    pub(super) invalid: Vec<String>,
    /// Scenarios that this machine cannot play, and why.
    pub(super) skipped: Vec<String>,
}

/// All that a row is made of.
pub(super) struct Judged<'a> {
    pub(super) fault: Fault,
    pub(super) bounds: Bounds,
    pub(super) bite: Bite,
    pub(super) journal: &'a Journal,
    pub(super) verdict: Verdict,
    pub(super) recovery: Option<Duration>,
    /// From when on forced disconnects count.
    pub(super) from: Moment,
    pub(super) lost: Vec<usize>,
}

impl Judged<'_> {
    pub(super) fn row(self) -> Row {
        let forced: Vec<_> = self.journal.forced.iter().filter(|forced| forced.at >= self.from).collect();
        let excused = forced.iter().filter(|forced| forced.excused).count();
        let misses = self.misses(forced.len() - excused);
        let mut traces = Vec::new();
        traces.extend(self.verdict.faults.iter().take(TOLD).map(|fault| trace(self.journal, fault)));
        if !misses.is_empty() {
            let others = self.verdict.faults.iter().filter(|fault| fault.took.is_zero());
            traces.extend(others.take(TOLD).map(|fault| trace(self.journal, fault)));
            let cut = forced.iter().filter(|forced| !forced.excused).take(TOLD);
            traces.extend(cut.map(|cut| {
                format!("{:.3?} {} cut off by gateway-{}: {}", cut.at, cut.who, cut.gateway + 1, cut.why)
            }));
            traces.extend(self.journal.disorder.iter().filter(|told| told.at >= self.from).take(TOLD).map(
                |told| {
                    let (name, who) = (self.journal.name(told.user), watcher(self.journal, told.who));
                    format!("{:.3?} {}: {name} at {who}", told.at, told.what.words())
                },
            ));
            traces.extend(self.journal.odd.iter().take(TOLD).cloned());
            traces.dedup();
        }
        let verdict = &self.verdict;
        Row {
            fault: self.fault,
            passed: misses.is_empty(),
            misses,
            bound_ms: millis(self.bounds.wrong),
            false_online_ms: millis(verdict.false_online),
            false_offline_ms: millis(verdict.false_offline),
            wrong_status_ms: millis(verdict.wrong_status),
            before: verdict.phases[0],
            during: verdict.phases[1],
            after: verdict.phases[2],
            forgets_claims: self.bounds.forgets_claims,
            unexplained: verdict.unexplained,
            unknown_allowed_ms: millis(self.bounds.unknown),
            unknown_ms: millis(verdict.unknown),
            stale_allowed_ms: millis(self.bounds.stale),
            stale_ms: millis(verdict.stale),
            unpolled_ms: millis(verdict.unpolled),
            unpolled_allowed_ms: millis(self.bounds.unpolled),
            recovery_ms: self.recovery.map(millis),
            recovery_allowed_ms: millis(self.bounds.recovery),
            forced: forced.len() - excused,
            forced_excused: excused,
            wrong_at_end: verdict.wrong_at_end,
            changes: verdict.changes,
            offline_after_ms: self.offline_after().map(millis),
            cut_most: self.cut_most(),
            went_back: self.told(Disorder::Back),
            told_differently: self.told(Disorder::Differs),
            hollow: self.told(Disorder::Hollow),
            dropped_lower_versions: self.journal.dropped,
            proof: self.bite.proof,
            traces,
        }
    }

    fn misses(&self, forced: usize) -> Vec<String> {
        let verdict = &self.verdict;
        let bound = self.bounds.wrong;
        let checks = [
            (verdict.false_online > bound, "false-online over the bound"),
            (verdict.false_offline > bound, "false-offline over the bound"),
            (verdict.wrong_status > bound, "a wrong status over the bound"),
            (verdict.phases[0].over_bound > 0, "wrong for too long before the fault"),
            (verdict.phases[2].over_bound > 0, "wrong for too long after the fault"),
            (verdict.unexplained > 0, "unexplained transitions"),
            (verdict.unknown > self.bounds.unknown, "blind for too long"),
            (
                self.recovery.is_none_or(|recovery| recovery > self.bounds.recovery),
                "right too late after healing",
            ),
            (verdict.stale > self.bounds.stale, "asOf for too long"),
            (verdict.unpolled > self.bounds.unpolled, "REST without fresh answers for too long"),
            (forced > 0, "connections cut without need"),
            (self.cut_most() > self.bounds.cuts, "a client cut off too often"),
            (self.told(Disorder::Back) > 0, "versions that went back"),
            (self.told(Disorder::Differs) > 0, "one version told as different things"),
            (self.bounds.quiet && self.told(Disorder::Hollow) > 0, "changes that change nothing"),
            (verdict.wrong_at_end > 0, "views wrong at the end"),
            (verdict.changes == 0, "nothing changed, so nothing was judged"),
            (!self.journal.odd.is_empty(), "frames that break the protocol"),
        ];
        let missed = checks.into_iter().filter(|(missed, _)| *missed).map(|(_, what)| what.to_owned());
        missed.chain(self.bite.misses.iter().cloned()).collect()
    }

    fn told(&self, what: Disorder) -> usize {
        let counts = |disorder: &&OutOfOrder| disorder.what == what && disorder.at >= self.from;
        self.journal.disorder.iter().filter(counts).count()
    }

    /// How often the client that was cut off most was, with a gateway that the fault took away.
    fn cut_most(&self) -> usize {
        let mut cuts = HashMap::new();
        for cut in self.journal.forced.iter().filter(|forced| forced.excused && forced.at >= self.from) {
            *cuts.entry(cut.who.as_str()).or_insert(0) += 1;
        }
        cuts.into_values().max().unwrap_or_default()
    }

    fn offline_after(&self) -> Option<Duration> {
        let injected = self.bite.injected;
        let off = |(at, view): &&(Moment, View)| {
            *at > injected && matches!(view, View::Known { status: Status::Offline, .. })
        };
        let watchers = 0..self.journal.watchers();
        let pairs = watchers.flat_map(|watcher| self.lost.iter().map(move |user| (watcher, *user)));
        let seen = pairs.filter_map(|(watcher, user)| self.journal.view(watcher, user).iter().find(off));
        seen.map(|(at, _)| *at - injected).max()
    }
}

fn watcher(journal: &Journal, who: usize) -> String {
    who.checked_sub(journal.watchers())
        .map_or_else(|| format!("watcher {who}"), |poller| format!("poller {poller}"))
}

fn trace(journal: &Journal, fault: &judge::Fault) -> String {
    let near = |at: Moment| at + AROUND >= fault.at && at <= fault.at + fault.took + AROUND;
    let truth = journal.truth(fault.user);
    // With the step that was in force when the excerpt begins.
    let first = truth.iter().rposition(|(at, _)| *at + AROUND < fault.at).unwrap_or(0);
    let truth: Vec<String> = truth
        .iter()
        .skip(first)
        .filter(|(at, _)| *at <= fault.at + fault.took + AROUND)
        .map(truth_step)
        .collect();
    let poller = fault.watcher.checked_sub(journal.watchers());
    let view: Steps<View> = match poller {
        None => journal.view(fault.watcher, fault.user).to_vec(),
        Some(poller) => {
            journal.polls(poller, fault.user).iter().map(|poll| (poll.received, poll.view)).collect()
        }
    };
    let view: Vec<String> = view.iter().filter(|(at, _)| near(*at)).map(view_step).collect();
    let watcher = watcher(journal, fault.watcher);
    let name = journal.name(fault.user);
    let head = format!("{:.3?} {} for {:.3?}: {name} at {watcher}", fault.at, fault.what.words(), fault.took);
    format!("{head}\n      truth {}\n      view  {}", truth.join(", "), view.join(", "))
}

fn truth_step((at, answers): &(Moment, Answers)) -> String {
    let words: Vec<&str> = answers.values().map(Status::word).collect();
    format!("{at:.3?} {}", words.join(" or "))
}

fn view_step((at, view): &(Moment, View)) -> String {
    match view {
        View::Unknown => format!("{at:.3?} unknown"),
        View::Known { status, stale } => {
            format!("{at:.3?} {}{}", status.word(), if *stale { " (asOf)" } else { "" })
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Report {
    pub(super) fn passed(&self) -> bool {
        self.invalid.is_empty() && self.rows.iter().all(|row| row.passed)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (users, watchers, servers) = (self.users, self.watchers, self.nats_servers);
        write!(f, "seed {}, {users} users, {watchers} watchers, 3 coordinators, 3 gateways, ", self.seed)?;
        writeln!(f, "{servers} NATS servers, timers {} times shorter; milliseconds", self.timers_shorter)?;
        writeln!(
            f,
            "{:<20} {:<4} {:>6} {:>6} {:>6} {:>6} {:>6} {:>5} {:>6} {:>5} {:>11} {:>6} {:>6} {:>8} {:>7} {:>5} {:>7} {:>7}",
            "fault",
            "",
            "bound",
            "f-on",
            "f-off",
            "status",
            "p99",
            "over",
            "unexpl",
            "order",
            "unknown/of",
            "stale",
            "rest",
            "recovery",
            "cut/exc",
            "wrong",
            "changes",
            "offline"
        )?;
        for row in &self.rows {
            let or_none = |number: Option<u64>| number.map_or_else(|| "-".to_owned(), |n| n.to_string());
            writeln!(
                f,
                "{:<20} {:<4} {:>6} {:>6} {:>6} {:>6} {:>6} {:>5} {:>6} {:>5} {:>11} {:>6} {:>6} {:>8} {:>7} {:>5} {:>7} {:>7}",
                row.fault.name(),
                if row.passed { "ok" } else { "MISS" },
                row.bound_ms,
                row.false_online_ms,
                row.false_offline_ms,
                row.wrong_status_ms,
                row.during.p99_ms,
                row.phases().map(|phase| phase.over_bound).iter().sum::<usize>(),
                row.unexplained,
                row.went_back + row.told_differently,
                format!("{}/{}", row.unknown_ms, row.unknown_allowed_ms),
                row.stale_ms,
                row.unpolled_ms,
                or_none(row.recovery_ms),
                format!("{}/{}", row.forced, row.forced_excused),
                row.wrong_at_end,
                row.changes,
                or_none(row.offline_after_ms),
            )?;
        }
        for row in &self.rows {
            let claims = if row.forgets_claims { "; claims may be forgotten" } else { "" };
            writeln!(f, "{}: {}{claims}", row.fault.name(), row.proof)?;
        }
        for row in self.rows.iter().filter(|row| !row.passed) {
            let (name, seed) = (row.fault.name(), self.seed);
            writeln!(f, "{name} missed with seed {seed}: {}", row.misses.join(", "))?;
            for trace in &row.traces {
                writeln!(f, "    {trace}")?;
            }
        }
        self.skipped.iter().try_for_each(|why| writeln!(f, "skipped: {why}"))?;
        self.invalid.iter().try_for_each(|why| writeln!(f, "invalid: {why}"))
    }
}
