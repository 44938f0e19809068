//! A result as one page that needs nothing else.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::result::{Outcome, Second, Spread, millis};
use super::svg::{Plot, Series, escape};
use super::tally::Phase;

const STYLE: &str = "
:root { color-scheme: light dark; --line: #8884; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 48rem; margin: 2rem auto; padding: 0 1rem; }
h1 { margin-bottom: 0; } figure { margin: 1.5rem 0; } figcaption { font-weight: 600; }
svg { width: 100%; height: auto; } svg text { font-size: 11px; fill: currentColor; }
.grid { stroke: var(--line); stroke-width: 1; } .legend { margin: 0; font-size: 13px; }
table { border-collapse: collapse; } td, th { padding: .15rem .7rem .15rem 0; text-align: right; }
td:first-child, th:first-child { text-align: left; } tr { border-bottom: 1px solid var(--line); }
.clean { border-left: 6px solid #009e73; padding-left: .7rem; }
.fault { border-left: 6px solid #d55e00; padding-left: .7rem; }
pre { overflow-x: auto; background: #8881; padding: .7rem; }
";

/// The page.
pub(super) fn page(outcome: &Outcome) -> String {
    let name = escape(&outcome.scenario.name);
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width\"><title>{name} — Herenow load test</title><style>{STYLE}</style></head><body>\n\
         <h1>{name}</h1>\n<p>{} people, {} workers, seed {}, against {}.<br>Herenow load test {}; {} cores ({}), {} GiB; \
         began {} seconds after 1970.</p>\n",
        outcome.scenario.people.sessions,
        outcome.workers,
        outcome.scenario.seed,
        escape(&outcome.target),
        escape(&outcome.version),
        outcome.cores,
        escape(&outcome.processor),
        outcome.memory_kib / 1_048_576,
        outcome.began,
    );
    verdict(&mut page, outcome);
    times(&mut page, outcome);
    counts(&mut page, outcome);
    for plot in plots(outcome) {
        page.push_str(&plot.draw().unwrap_or_default());
    }
    let scenario = toml::to_string(&outcome.scenario).unwrap_or_default();
    // Writing to a string does not fail.
    let _ =
        writeln!(page, "<details><summary>The scenario</summary><pre>{}</pre></details>", escape(&scenario));
    page.push_str("</body></html>\n");
    page
}

fn verdict(page: &mut String, outcome: &Outcome) {
    if outcome.faults.is_empty() {
        page.push_str(
            "<p class=\"clean\">The referee is content: every view was right, or became so in time.</p>\n",
        );
        return;
    }
    page.push_str("<ul class=\"fault\">");
    for fault in &outcome.faults {
        let _ = write!(page, "<li>{}</li>", escape(fault));
    }
    page.push_str("</ul>\n");
    if !outcome.end.samples.is_empty() {
        let samples = escape(&outcome.end.samples.join("\n"));
        let _ = writeln!(page, "<details><summary>Examples</summary><pre>{samples}</pre></details>");
    }
}

fn times(page: &mut String, outcome: &Outcome) {
    let measured = &outcome.measured;
    page.push_str(
        "<h2>Times</h2>\n<table><tr><th></th><th>count</th><th>p50</th><th>p99</th><th>p99.9</th><th>max</th></tr>\n",
    );
    let rows: [(&str, &Spread); 7] = [
        ("from a change to its watcher", &measured.latency),
        ("shown online, and is not", &measured.false_online),
        ("shown offline, and is there", &measured.false_offline),
        ("shown with another status", &measured.other_status),
        ("late to the schedule", &measured.lateness),
        ("to connect, while measured", &measured.connect),
        ("to connect, before", &outcome.before.connect),
    ];
    for (name, spread) in rows {
        let times = [spread.p50, spread.p99, spread.p999, spread.max].map(millis);
        let _ = writeln!(
            page,
            "<tr><td>{name}</td><td>{}</td><td>{}</td></tr>",
            spread.count,
            times.join("</td><td>")
        );
    }
    page.push_str("</table>\n");
}

fn counts(page: &mut String, outcome: &Outcome) {
    let counts = &outcome.measured.counts;
    page.push_str("<h2>Counts</h2>\n<table>\n");
    let rows = [
        ("changes", counts.changes.to_string()),
        ("records delivered", counts.deliveries.to_string()),
        (
            "due to a watcher; seen; conflated",
            format!("{}; {}; {}", counts.due, counts.seen, counts.conflated),
        ),
        ("transitions that nothing explains", counts.unexplained.to_string()),
        ("wrong for longer than the bound", counts.all_over_bound().to_string()),
        ("views at the end; wrong; blind", {
            format!("{}; {}; {}", outcome.end.views, outcome.end.wrong, outcome.end.blind)
        }),
        (
            "stale records; records of unknown",
            format!("{}; {}", counts.stale_records, counts.unknown_records),
        ),
        ("blind, in seconds of views", (counts.blind_micros / 1_000_000).to_string()),
        ("sessions ended against their will", format!("{} {:?}", counts.all_forced(), counts.forced)),
        ("slow watchers cut", counts.forced_slow.to_string()),
        ("attempts that failed", counts.failed.to_string()),
        ("errors", format!("{:?}", counts.errors)),
    ];
    for (name, value) in rows {
        let _ = writeln!(page, "<tr><td>{name}</td><td>{}</td></tr>", escape(&value));
    }
    for (class, (peak, cores)) in outcome.classes() {
        let _ = writeln!(
            page,
            "<tr><td>{class}: peak memory, mean cores</td><td>{} MiB, {cores:.2}</td></tr>",
            peak / 1_024
        );
    }
    page.push_str("</table>\n");
}

fn plots(outcome: &Outcome) -> Vec<Plot> {
    let seconds = &outcome.seconds;
    let across = across(seconds);
    let over_time =
        |title, unit, logarithmic, series| Plot { title, unit, logarithmic, across: across.clone(), series };
    let line = |name: &str, of: fn(&Second) -> f64| Series {
        name: name.to_owned(),
        points: seconds.iter().map(|second| (float(second.second), of(second))).collect(),
    };
    let mut plots = vec![
        over_time(
            "From a change to its watcher",
            "ms, of each second",
            true,
            vec![
                line("p50", |second| float(second.latency.p50) / 1e3),
                line("p99", |second| float(second.latency.p99) / 1e3),
                line("max", |second| float(second.latency.max) / 1e3),
            ],
        ),
        curve(outcome),
        over_time("Sessions", "open", false, vec![line("sessions", |second| float(second.sessions))]),
        over_time(
            "Changes and deliveries",
            "a second",
            false,
            vec![
                line("deliveries", |second| float(second.deliveries)),
                line("changes", |second| float(second.changes)),
            ],
        ),
        over_time(
            "Views that are not right",
            "at the end of each second",
            false,
            vec![
                line("wrong", |second| float(second.wrong_now)),
                line("know nothing", |second| float(second.blind_now)),
            ],
        ),
        over_time(
            "Connecting",
            "a second",
            false,
            vec![
                line("opened", |second| float(second.opened)),
                line("failed", |second| float(second.failed)),
                line("ended against their will", |second| float(second.forced)),
            ],
        ),
    ];
    let memory = by_class(outcome, |seen| seen.rss_kib.iter().map(|kib| float(*kib) / 1_024.0).collect());
    plots.push(over_time("Memory", "MiB resident, of all processes of a kind", false, memory));
    plots.push(over_time(
        "Processor",
        "cores, of all processes of a kind",
        false,
        by_class(outcome, |seen| seen.cores()),
    ));
    plots
}

/// Where each phase begins, and every so many seconds.
fn across(seconds: &[Second]) -> Vec<(f64, String)> {
    let mut marks = Vec::new();
    let mut last: Option<Phase> = None;
    for second in seconds {
        if last != Some(second.phase) {
            let at = second.second.saturating_sub(1);
            marks.push((float(at), format!("{at} s {}", second.phase.word())));
            last = Some(second.phase);
        }
    }
    // What is measured after a very short phase would be written over it.
    marks.dedup_by(|next, before| next.0 - before.0 < 4.0);
    marks
}

fn curve(outcome: &Outcome) -> Plot {
    // Each nine more of the quantile is a step to the right.
    let nines = |quantile: f64| -(1.0 - quantile).max(1e-6).log10();
    let points = outcome.measured.curve.iter().filter(|(quantile, _)| *quantile < 1.0);
    let points = points.map(|(quantile, micros)| (nines(*quantile), float(*micros) / 1e3)).collect();
    let names = ["0 %", "90 %", "99 %", "99.9 %", "99.99 %", "99.999 %"];
    let most =
        outcome.measured.curve.iter().map(|(quantile, _)| *quantile).filter(|quantile| *quantile < 1.0);
    let most = most.fold(0.0, f64::max);
    let across = names.iter().zip(0_u32..).map(|(name, nine)| (f64::from(nine), (*name).to_owned()));
    Plot {
        title: "From a change to its watcher, by share of deliveries",
        unit: "ms",
        logarithmic: true,
        across: across.filter(|(nine, _)| *nine <= nines(most)).collect(),
        series: vec![Series { name: "latency".to_owned(), points }],
    }
}

fn by_class(outcome: &Outcome, of: impl Fn(&super::processes::Seen) -> Vec<f64>) -> Vec<Series> {
    let mut classes: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for seen in &outcome.processes {
        let values = of(seen);
        let sums = classes.entry(&seen.class).or_default();
        sums.resize(sums.len().max(values.len()), 0.0);
        sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
    }
    let seconds = |index: usize| outcome.seconds.get(index).map_or(0.0, |second| float(second.second));
    let series = |(class, sums): (&str, Vec<f64>)| {
        let length = sums.len().min(outcome.seconds.len());
        let points = sums.into_iter().take(length).enumerate().map(|(index, sum)| (seconds(index), sum));
        Series { name: class.to_owned(), points: points.collect() }
    };
    classes.into_iter().map(series).collect()
}

/// For a plot, where a bit more or less is not seen.
#[expect(clippy::cast_precision_loss, reason = "not to be seen in a plot")]
const fn float(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::processes::Seen;
    use super::super::result::{FORMAT, Measured};
    use super::super::scenario::Scenario;
    use super::super::tally::{Counts, End, Spreads};
    use super::*;

    pub(in super::super) fn outcome(latency: u64) -> Outcome {
        let mut spreads = Spreads::default();
        (0..1_000).for_each(|number| spreads.latency.record(latency + number));
        let second =
            |second, phase| Second { second, phase, sessions: 10, deliveries: 5, ..Second::default() };
        Outcome {
            format: FORMAT,
            scenario: Scenario::parse("name = \"<i>\"\n[people]\nsessions = 10\n").unwrap(),
            workers: 1,
            began: 1,
            version: "0".to_owned(),
            cores: 2,
            memory_kib: 4_194_304,
            processor: "p".to_owned(),
            target: "t".to_owned(),
            before: Measured::default(),
            measured: Measured::of(Counts { unexplained: 1, ..Counts::default() }, &spreads),
            end: End { samples: vec!["a < b".to_owned()], ..End::default() },
            faults: vec!["1 transition".to_owned()],
            seconds: vec![second(1, Phase::Ramp), second(2, Phase::Ramp), second(3, Phase::Measure)],
            processes: vec![Seen {
                name: "gateway-1".to_owned(),
                class: "gateway".to_owned(),
                rss_kib: vec![2_048; 4],
                cpu_millis: vec![0, 500, 1_500, 1_500],
            }],
        }
    }

    #[test]
    fn a_page_needs_nothing_else_and_shows_what_was_found() {
        let page = page(&outcome(900));
        assert!(!page.contains("http://") && !page.contains("https://") && !page.contains("src="), "{page}");
        assert!(page.contains("1 transition") && page.contains("a &lt; b") && !page.contains("<i>"));
        assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
        assert_eq!(page.matches("<svg").count(), 7, "the plots that have values: {page}");
        assert!(!page.contains("NaN"), "{page}");
    }

    #[test]
    fn the_page_survives_its_own_json() {
        let json = serde_json::to_string(&outcome(900)).unwrap();
        let read: Outcome = serde_json::from_str(&json).unwrap();
        assert_eq!(page(&read), page(&outcome(900)));
    }
}
