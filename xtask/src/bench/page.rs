//! Sections of docs/BENCHMARKS.md: each between two marks, so that what others wrote around them stays.

use std::fmt::Write as _;

use serde_json::Value;

use super::figures::Figures;

/// A section as people read it: what was measured, by which command.
pub(super) fn section(what: &str, command: &str, place: &Value, runs: u16, figures: &Figures) -> String {
    let word = |name: &str| place[name].as_str().map_or_else(|| place[name].to_string(), str::to_owned);
    let (times, head) = if runs == 1 {
        ("once".to_owned(), "| figure | value |\n|---|---|\n")
    } else {
        (format!("{runs} times"), "| figure | median | from | to |\n|---|---|---|---|\n")
    };
    let mut text = format!(
        "## {what}\n\n`{command}`, {times}, on {} by commit {} ({} cores of {}, {} MiB, Linux {}, load average {} \
         before it).\n\n{head}",
        word("date"),
        word("commit"),
        word("cores"),
        word("processor"),
        word("memoryMiB"),
        word("system"),
        word("load"),
    );
    for (name, median, lowest, highest) in figures.lines() {
        // Writing to a string does not fail.
        let _ = if runs == 1 {
            writeln!(text, "| {name} | {} |", plain(median))
        } else {
            writeln!(text, "| {name} | {} | {} | {} |", plain(median), plain(lowest), plain(highest))
        };
    }
    text
}

/// A number as people write it: three digits that mean something, and no fewer than it has before the point.
fn plain(value: f64) -> String {
    let size = value.abs();
    if value.is_nan() {
        "never".to_owned()
    } else if size >= 1_000.0 {
        thousands(&format!("{value:.0}"))
    } else if size >= 100.0 || value.fract() == 0.0 {
        format!("{value:.0}")
    } else if size >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

fn thousands(digits: &str) -> String {
    let (sign, digits) = digits.strip_prefix('-').map_or(("", digits), |rest| ("-", rest));
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    format!("{sign}{text}")
}

/// The page with this section in place of the one of that name, or at its end.
pub(super) fn replace(page: &str, name: &str, section: &str) -> String {
    let (begin, end) = (format!("<!-- bench {name} -->\n"), format!("<!-- end of bench {name} -->\n"));
    let new = format!("{begin}{section}{end}");
    let old = page.find(&begin).zip(page.find(&end)).filter(|(from, to)| from < to);
    match old {
        Some((from, to)) => format!("{}{new}{}", &page[..from], &page[to + end.len()..]),
        None => format!("{}\n\n{new}", page.trim_end()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_takes_the_place_of_its_own_and_leaves_the_others() {
        let first = replace("# Page\n\nwords\n", "a", "## A\n");
        let both = replace(&first, "b", "## B\n");
        let again = replace(&both, "a", "## A again\n");
        assert_eq!(
            again,
            "# Page\n\nwords\n\n<!-- bench a -->\n## A again\n<!-- end of bench a -->\n\n\
             <!-- bench b -->\n## B\n<!-- end of bench b -->\n"
        );
        assert_eq!(replace(&again, "a", "## A again\n"), again);
    }

    #[test]
    fn what_was_measured_once_has_one_value() {
        let mut figures = Figures::default();
        figures.add([("a".to_owned(), 2.0)].into());
        let once = section("What", "do it", &Value::Null, 1, &figures);
        assert!(once.starts_with("## What\n\n`do it`, once, ") && once.ends_with("| a | 2 |\n"), "{once}");
        figures.add([("a".to_owned(), 3.0)].into());
        let twice = section("What", "do it", &Value::Null, 2, &figures);
        assert!(twice.ends_with("| a | 3 | 2 | 3 |\n"), "{twice}");
    }

    #[test]
    fn numbers_are_plain() {
        for (value, text) in [
            (0.0, "0"),
            (1.234, "1.23"),
            (12.34, "12.3"),
            (123.4, "123"),
            (-1_234.5, "-1,234"),
            (1e6, "1,000,000"),
            (7.0, "7"),
            (f64::NAN, "never"),
        ] {
            assert_eq!(plain(value), text);
        }
    }
}
