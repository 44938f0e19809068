//! Flame graphs as SVG without scripts: a frame is as wide as what it weighs with all that it called, and stands upon its
//! caller. Drawn here since what others draw carries a script under a licence that asks for more than ours
//! (inferno, FlameGraph: CDDL).

use std::fmt::Write as _;

use super::stacks::Node;

const WIDTH: f64 = 1_200.0;
const ROW: f64 = 16.0;
/// Above the frames.
const HEAD: f64 = 28.0;
/// How wide a character is at the size of the text.
const CHARACTER: f64 = 6.1;
/// A frame narrower than this many characters has no text; what it is shows when pointed at.
const LEAST: usize = 3;
/// Longer names are cut where they are shown when pointed at.
const LONGEST: usize = 160;

/// Draws a tree. `say` tells a weight in its unit.
pub(super) fn draw(title: &str, root: &Node, say: impl Fn(f64) -> String) -> String {
    let rows = f64::from(u32::try_from(root.height()).unwrap_or(u32::MAX));
    let height = HEAD + rows * ROW + 4.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
         height=\"{height}\" font-family=\"monospace\" font-size=\"10\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"6\" y=\"18\" font-size=\"13\">{}</text>\n",
        escape(title)
    );
    let picture =
        Picture { total: root.weight.max(f64::MIN_POSITIVE), bottom: height - 4.0 - ROW, say: &say };
    picture.frame(&mut svg, root, 0.0, 0);
    svg.push_str("</svg>\n");
    svg
}

struct Picture<'a> {
    total: f64,
    /// Where the outermost frame stands.
    bottom: f64,
    say: &'a dyn Fn(f64) -> String,
}

impl Picture<'_> {
    fn frame(&self, svg: &mut String, node: &Node, x: f64, row: u32) {
        let width = node.weight / self.total * WIDTH;
        let y = self.bottom - f64::from(row) * ROW;
        let name: String = node.name.chars().take(LONGEST).collect();
        // Writing to a string does not fail.
        let _ = write!(
            svg,
            "<g><title>{}: {}, {:.1} %</title><rect x=\"{x:.1}\" y=\"{y}\" width=\"{width:.1}\" height=\"15\" \
             fill=\"{}\"/>",
            escape(&name),
            (self.say)(node.weight),
            100.0 * node.weight / self.total,
            colour(&node.name),
        );
        let shown = shorten(&node.name, width);
        if !shown.is_empty() {
            let _ = write!(svg, "<text x=\"{:.1}\" y=\"{}\">{}</text>", x + 2.0, y + 11.0, escape(&shown));
        }
        svg.push_str("</g>\n");
        let mut at = x;
        for below in node.below.values() {
            self.frame(svg, below, at, row + 1);
            at += below.weight / self.total * WIDTH;
        }
    }
}

/// The name if it fits, else without its paths and the types of types, else as much of that as fits: of the end, which tells
/// more.
fn shorten(name: &str, width: f64) -> String {
    let fits = |n: &usize| f64::from(u32::try_from(*n).unwrap_or(0)) * CHARACTER < width - 3.0;
    let fits = (1..=LONGEST).take_while(fits).count();
    if name.chars().count() <= fits {
        return name.to_owned();
    }
    let brief = brief(name);
    let length = brief.chars().count();
    if length <= fits {
        return brief;
    }
    if fits < LEAST {
        return String::new();
    }
    let end: String = brief.chars().skip(length - (fits - 1)).collect();
    format!("…{end}")
}

/// `<a::Task<S> as Future>::poll` is `Task::poll`, and `a::b::shard::turn` is `shard::turn`.
fn brief(name: &str) -> String {
    let (mut flat, mut depth) = (String::new(), 0_u32);
    let (outer, name) = match name.strip_prefix('<') {
        // The type is what it is called by, not what it is called as.
        Some(rest) => (1, rest),
        None => (0, name),
    };
    let mut hidden = false;
    for word in name.split_inclusive(['<', '>', ' ']) {
        let (text, end) = word.split_at(word.trim_end_matches(['<', '>', ' ']).len());
        hidden |= text == "as";
        if depth == 0 && !hidden {
            flat.push_str(text);
        }
        match end {
            "<" => depth += 1,
            ">" if depth == 0 && outer == 1 => hidden = false,
            ">" => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    let mut ends: Vec<&str> = flat.rsplit("::").filter(|part| !part.is_empty()).take(2).collect();
    ends.reverse();
    ends.join("::")
}

/// By whose code it is: the kernel's, ours, the allocator's, or another's.
fn colour(name: &str) -> &'static str {
    use super::place::Place;
    match Place::of(name) {
        Place::Kernel => "#f4b183",
        Place::Ours => "#8fc1e8",
        Place::Allocator => "#e8a5a5",
        Place::Library => "#f3dc8a",
        Place::System => "#d9d9d9",
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::super::stacks::Stacks;
    use super::*;

    #[test]
    fn a_frame_is_as_wide_as_it_weighs_and_stands_upon_its_caller() {
        let mut stacks = Stacks::default();
        stacks.add(vec!["serve".to_owned(), "read<Frame>".to_owned()], 30.0);
        stacks.add(vec!["serve".to_owned()], 10.0);
        let svg = draw("idle: a & b", &stacks.tree("all"), |weight| format!("{weight} samples"));
        assert!(svg.contains(">idle: a &amp; b</text>"), "{svg}");
        let line = |name: &str| svg.lines().find(|line| line.contains(name)).unwrap().to_owned();
        let read = line("<title>read&lt;Frame&gt;: 30 samples, 75.0 %</title>");
        assert!(read.contains("width=\"900.0\""), "{read}");
        assert!(line("<title>serve: 40").contains("y=\"44\"") && read.contains("y=\"28\""), "{svg}");
    }

    #[test]
    fn a_name_that_does_not_fit_loses_its_paths_and_then_its_beginning() {
        assert_eq!(brief("<a::b::Task<S> as Future>::poll"), "Task::poll");
        assert_eq!(brief("a::Vec<T, A>::push<Entry<Watched>>"), "Vec::push");
        assert_eq!(brief("__send"), "__send");
        assert_eq!(brief("a::serve::{{closure}}"), "serve::{{closure}}");
        assert_eq!(shorten("gateway::shard::turn", 1_000.0), "gateway::shard::turn");
        assert_eq!(shorten("gateway::shard::turn", 80.0), "shard::turn");
        assert_eq!(shorten("gateway::shard::turn", 50.0), "…::turn");
        assert_eq!(shorten("gateway::shard::turn", 10.0), "");
    }
}
