//! Line plots as SVG, for a page that must not load anything.

use std::fmt::Write as _;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 240.0;
/// Room for the numbers at the axes.
const LEFT: f64 = 64.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 30.0;
/// Colours that differ for those too who do not see red and green apart (Okabe and Ito).
const COLOURS: [&str; 6] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];
/// Wanted number of lines across.
const LINES: f64 = 5.0;

/// One line.
#[derive(Clone, Debug)]
pub(super) struct Series {
    pub(super) name: String,
    pub(super) points: Vec<(f64, f64)>,
}

/// A plot.
#[derive(Clone, Debug)]
pub(super) struct Plot {
    pub(super) title: &'static str,
    /// What the numbers at the left are.
    pub(super) unit: &'static str,
    /// Each step upwards is ten times the one below; what is not above zero is left out.
    pub(super) logarithmic: bool,
    /// Places on the x axis and what to write there.
    pub(super) across: Vec<(f64, String)>,
    pub(super) series: Vec<Series>,
}

impl Plot {
    /// The plot with its heading and legend. None: there is nothing to draw.
    pub(super) fn draw(&self) -> Option<String> {
        let shown = |point: &&(f64, f64)| !self.logarithmic || point.1 > 0.0;
        let points = || self.series.iter().flat_map(|series| series.points.iter().filter(shown));
        points().next()?;
        let range = |of: fn(&(f64, f64)) -> f64| {
            points().map(of).fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), value| {
                (least.min(value), most.max(value))
            })
        };
        let (x, y) = (range(|point| point.0), self.up(range(|point| point.1)));
        let frame = Frame { x, y, logarithmic: self.logarithmic };
        let mut svg = format!(
            "<figure><figcaption>{} <small>{}</small></figcaption>\n<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" \
             aria-label=\"{}\">\n",
            escape(self.title),
            escape(self.unit),
            escape(self.title)
        );
        self.grid(&mut svg, &frame);
        for (series, colour) in self.series.iter().zip(COLOURS.iter().cycle()) {
            let line: Vec<String> =
                series.points.iter().filter(shown).map(|point| frame.place(*point)).collect();
            // Writing to a string does not fail.
            let _ = writeln!(
                svg,
                "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.6\" points=\"{}\"><title>{}</title></polyline>",
                line.join(" "),
                escape(&series.name)
            );
        }
        svg.push_str("</svg>\n<p class=\"legend\">");
        for (series, colour) in self.series.iter().zip(COLOURS.iter().cycle()) {
            let _ = write!(svg, "<span style=\"color:{colour}\">■</span> {} ", escape(&series.name));
        }
        svg.push_str("</p></figure>\n");
        Some(svg)
    }

    /// The values from the lowest to the highest line of the grid.
    fn up(&self, (least, most): (f64, f64)) -> (f64, f64) {
        if self.logarithmic {
            let low = least.log10().floor();
            return (10_f64.powf(low), 10_f64.powf(most.log10().ceil().max(low + 1.0)));
        }
        let step = step(most.max(f64::MIN_POSITIVE));
        (0.0, (most / step).ceil().max(1.0) * step)
    }

    fn grid(&self, svg: &mut String, frame: &Frame) {
        let mut value = frame.y.0;
        while value <= frame.y.1 * 1.000_001 {
            let y = frame.y(value);
            let _ = writeln!(
                svg,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/><text x=\"{:.1}\" \
                 y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                WIDTH - RIGHT,
                LEFT - 6.0,
                y + 4.0,
                number(value)
            );
            value = if self.logarithmic { value * 10.0 } else { value + step(frame.y.1) };
        }
        for (x, text) in &self.across {
            let x = frame.x(*x);
            let _ = writeln!(
                svg,
                "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{:.1}\"/><text x=\"{x:.1}\" \
                 y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                HEIGHT - BOTTOM,
                HEIGHT - BOTTOM + 18.0,
                escape(text)
            );
        }
    }
}

struct Frame {
    x: (f64, f64),
    y: (f64, f64),
    logarithmic: bool,
}

impl Frame {
    fn x(&self, value: f64) -> f64 {
        let share = (value - self.x.0) / (self.x.1 - self.x.0).max(f64::MIN_POSITIVE);
        LEFT + share.clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, value: f64) -> f64 {
        let share = if self.logarithmic {
            (value / self.y.0).log10() / (self.y.1 / self.y.0).log10()
        } else {
            (value - self.y.0) / (self.y.1 - self.y.0)
        };
        HEIGHT - BOTTOM - share.clamp(0.0, 1.0) * (HEIGHT - TOP - BOTTOM)
    }

    fn place(&self, (x, y): (f64, f64)) -> String {
        format!("{:.1},{:.1}", self.x(x), self.y(y))
    }
}

/// The distance of lines: 1, 2 or 5 times a power of ten.
fn step(most: f64) -> f64 {
    let raw = most / LINES;
    let power = 10_f64.powf(raw.log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * power >= raw);
    factor.unwrap_or(10.0) * power
}

fn number(value: f64) -> String {
    if value >= 1e6 {
        format!("{}M", trim(value / 1e6))
    } else if value >= 1e4 {
        format!("{}k", trim(value / 1e3))
    } else {
        trim(value)
    }
}

fn trim(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// For text in HTML and its attributes.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(logarithmic: bool, points: &[(f64, f64)]) -> Plot {
        let series = vec![Series { name: "a <b>".to_owned(), points: points.to_vec() }];
        Plot { title: "t", unit: "ms", logarithmic, across: vec![(0.0, "0".to_owned())], series }
    }

    #[test]
    fn a_line_goes_through_its_points() {
        let svg = plot(false, &[(0.0, 0.0), (10.0, 100.0)]).draw().unwrap();
        assert!(svg.contains("points=\"64.0,210.0 708.0,12.0\""), "{svg}");
        assert!(svg.contains("a &lt;b&gt;"));
        let svg = plot(true, &[(0.0, 1.0), (5.0, 0.0), (10.0, 100.0)]).draw().unwrap();
        assert!(svg.contains("points=\"64.0,210.0 708.0,12.0\""), "{svg}");
        assert!(svg.matches("class=\"grid\"").count() == 4, "1, 10, 100, and one down: {svg}");
    }

    #[test]
    fn nothing_is_not_drawn_and_a_constant_is() {
        assert!(plot(true, &[(0.0, 0.0)]).draw().is_none());
        assert!(plot(false, &[]).draw().is_none());
        let svg = plot(false, &[(0.0, 0.0), (1.0, 0.0)]).draw().unwrap();
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        let svg = plot(true, &[(3.0, 7.0)]).draw().unwrap();
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!(
            [number(0.5), number(2_000.0), number(15_000.0), number(2.5e6)],
            ["0.5", "2000", "15k", "2.5M"]
        );
        assert!((step(90.0) - 20.0).abs() < 1e-9 && (step(0.9) - 0.2).abs() < 1e-9);
    }
}
