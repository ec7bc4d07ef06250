//! Charts as SVG text: lines over a continuous axis, bars with their spread; light and dark.

use std::fmt::Write as _;

/// Of every chart, in its own units; the text is readable at the width of a phone.
const WIDTH: f64 = 460.0;
const HEIGHT: f64 = 270.0;
const LEFT: f64 = 56.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 30.0;
const BOTTOM: f64 = 42.0;
/// Room for the names below the title, where there are several.
const LEGEND: f64 = 18.0;
/// Ticks that an axis aims at.
const TICKS: f64 = 5.0;
/// Colours; a further series takes the first again, dashed.
const COLOURS: usize = 6;

const STYLE: &str = "<style>\
text{font:12px system-ui,sans-serif;fill:#3d444d}.t{font-weight:600;font-size:13px}\
.g{stroke:#8884;stroke-width:1}.a{fill:none;stroke:#888;stroke-width:1}.b{fill:#8881}\
.l{fill:none;stroke-width:1.8;stroke-linejoin:round}.e{fill:none;stroke:#3d444d;stroke-width:1.4}\
.s0{stroke:#1f6feb}.s1{stroke:#d1570a}.s2{stroke:#1a7f37}.s3{stroke:#8250df}.s4{stroke:#bf3989}.s5{stroke:#7d6608}\
.f0{fill:#1f6feb}.f1{fill:#d1570a}.f2{fill:#1a7f37}.f3{fill:#8250df}.f4{fill:#bf3989}.f5{fill:#7d6608}\
.d{stroke-dasharray:5 4}\
@media(prefers-color-scheme:dark){text{fill:#c9d1d9}.e{stroke:#c9d1d9}\
.s0{stroke:#58a6ff}.s1{stroke:#f0883e}.s2{stroke:#56d364}.s3{stroke:#bc8cff}.s4{stroke:#ff7bbf}.s5{stroke:#e3c341}\
.f0{fill:#58a6ff}.f1{fill:#f0883e}.f2{fill:#56d364}.f3{fill:#bc8cff}.f4{fill:#ff7bbf}.f5{fill:#e3c341}}\
</style>";

/// One line of a chart.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// For the legend.
    pub name: String,
    /// x ascending; a point that is no number interrupts the line.
    pub points: Vec<(f64, f64)>,
}

/// A part of the x axis with a name, shaded.
#[derive(Debug, Clone, PartialEq)]
pub struct Band {
    /// Begin and end.
    pub from: f64,
    /// See `from`.
    pub to: f64,
    /// What it is.
    pub name: String,
}

/// Lines over a common axis; y begins at 0.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LineChart {
    /// What is shown.
    pub title: String,
    /// Name and unit of the x axis.
    pub x: String,
    /// Name and unit of the y axis.
    pub y: String,
    /// Places and texts of the x axis' ticks; empty: round numbers.
    pub x_ticks: Vec<(f64, String)>,
    /// The lines.
    pub lines: Vec<Line>,
    /// Shaded parts.
    pub bands: Vec<Band>,
}

/// A value with its spread.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bar {
    /// Such as a median.
    pub value: f64,
    /// Such as the smallest.
    pub low: f64,
    /// Such as the largest.
    pub high: f64,
}

/// Bars in groups; y begins at 0.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct BarChart {
    /// What is shown.
    pub title: String,
    /// Name and unit of the y axis.
    pub y: String,
    /// Names of the groups.
    pub groups: Vec<String>,
    /// Name, and a bar for each group; `None`: there is none.
    pub series: Vec<(String, Vec<Option<Bar>>)>,
}

impl LineChart {
    /// The chart; `None` when there is no point to draw.
    pub fn svg(&self) -> Option<String> {
        let points = || self.lines.iter().flat_map(|line| &line.points).filter(|p| is_point(p));
        let (x_low, x_high) = range(points().map(|point| point.0))?;
        let (_, y_high) = range(points().map(|point| point.1))?;
        let x_span = if x_high > x_low { x_high - x_low } else { 1.0 };
        let names: Vec<&str> = self.lines.iter().map(|line| line.name.as_str()).collect();
        let mut frame = Frame::new(&self.title, &self.y, y_high, &names);
        let at = |x: f64| LEFT + (x - x_low) / x_span * (WIDTH - LEFT - RIGHT);
        for Band { from, to, name } in &self.bands {
            let (from, to) = (at(from.max(x_low)), at(to.min(x_high)));
            if to > from {
                frame.band(from, to, name);
            }
        }
        let round: Vec<(f64, String)> =
            ticks(x_low, x_high).into_iter().map(|x| (x, text_of(x))).collect();
        let x_ticks = if self.x_ticks.is_empty() { &round } else { &self.x_ticks };
        for (x, text) in x_ticks.iter().filter(|(x, _)| (x_low..=x_high).contains(x)) {
            frame.x_tick(at(*x), text);
        }
        frame.x_name(&self.x);
        for (number, line) in self.lines.iter().enumerate() {
            let mut path = String::new();
            let mut pen = 'M';
            for (x, y) in &line.points {
                if !is_point(&(*x, *y)) {
                    pen = 'M';
                    continue;
                }
                let _infallible = write!(path, "{pen}{:.1} {:.1}", at(*x), frame.y(*y));
                pen = 'L';
            }
            let dashed = if number >= COLOURS { " d" } else { "" };
            let _infallible =
                write!(frame.svg, "<path class=\"l s{}{dashed}\" d=\"{path}\"/>", number % COLOURS);
        }
        Some(frame.end())
    }
}

impl BarChart {
    /// The chart; `None` when there is no bar to draw.
    pub fn svg(&self) -> Option<String> {
        let bars = || self.series.iter().flat_map(|(_, bars)| bars).flatten();
        let (_, y_high) = range(bars().map(|bar| bar.high.max(bar.value)))?;
        let names: Vec<&str> = self.series.iter().map(|(name, _)| name.as_str()).collect();
        let mut frame = Frame::new(&self.title, &self.y, y_high, &names);
        let group_width = (WIDTH - LEFT - RIGHT) / self.groups.len().max(1) as f64;
        let width = group_width * 0.8 / self.series.len().max(1) as f64;
        for (group, name) in self.groups.iter().enumerate() {
            let left = LEFT + group_width * (group as f64 + 0.1);
            frame.x_tick(left + group_width * 0.4, name);
            for (number, (_, bars)) in self.series.iter().enumerate() {
                let Some(Some(bar)) = bars.get(group) else { continue };
                let x = left + width * number as f64;
                let (top, bottom) = (frame.y(bar.value), frame.y(0.0));
                let (high, low) = (frame.y(bar.high), frame.y(bar.low));
                let middle = x + width / 2.0;
                let _infallible = write!(
                    frame.svg,
                    "<rect class=\"f{}\" x=\"{x:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{:.1}\">\
                     <title>{}</title></rect>",
                    number % COLOURS,
                    (width - 1.0).max(1.0),
                    (bottom - top).max(0.0),
                    text_of(bar.value),
                );
                if bar.high > bar.low {
                    let _infallible = write!(
                        frame.svg,
                        "<path class=\"e\" d=\"M{middle:.1} {low:.1}V{high:.1}M{:.1} {high:.1}h6M{:.1} {low:.1}h6\"/>",
                        middle - 3.0,
                        middle - 3.0,
                    );
                }
            }
        }
        Some(frame.end())
    }
}

/// Title, axes and grid.
struct Frame {
    svg: String,
    top: f64,
    y_high: f64,
}

impl Frame {
    fn new(title: &str, y_name: &str, y_high: f64, names: &[&str]) -> Self {
        let has_legend = names.len() > 1;
        let top = if has_legend { TOP + LEGEND } else { TOP };
        let mut steps = ticks(0.0, if y_high > 0.0 { y_high } else { 1.0 });
        // The highest tick stands above the highest value.
        let step = steps.get(1).copied().unwrap_or(1.0);
        let last = steps.last().copied().unwrap_or(0.0);
        if last < y_high || last == 0.0 {
            steps.push(last + step);
        }
        let y_top = steps.last().copied().unwrap_or(1.0);
        let mut frame = Self { svg: String::new(), top, y_high: y_top };
        let label = escape(title);
        let _infallible = write!(
            frame.svg,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" \
             aria-label=\"{label}\">{STYLE}<text class=\"t\" x=\"8\" y=\"16\">{label}</text>\
             <text x=\"{:.1}\" y=\"16\" text-anchor=\"end\">{}</text>",
            WIDTH - RIGHT,
            escape(y_name),
        );
        for y in steps {
            let at = frame.y(y);
            let _infallible = write!(
                frame.svg,
                "<path class=\"g\" d=\"M{LEFT} {at:.1}H{:.1}\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                WIDTH - RIGHT,
                LEFT - 6.0,
                at + 4.0,
                text_of(y),
            );
        }
        if has_legend {
            frame.legend(names);
        }
        frame
    }

    fn legend(&mut self, names: &[&str]) {
        let mut x = LEFT;
        for (number, name) in names.iter().enumerate() {
            let _infallible = write!(
                self.svg,
                "<rect class=\"f{}\" x=\"{x:.1}\" y=\"26\" width=\"10\" height=\"10\"/>\
                 <text x=\"{:.1}\" y=\"35\">{}</text>",
                number % COLOURS,
                x + 14.0,
                escape(name),
            );
            // About the width of a letter of the font.
            x += 28.0 + 6.6 * name.chars().count() as f64;
        }
    }

    fn y(&self, value: f64) -> f64 {
        HEIGHT - BOTTOM - (value / self.y_high) * (HEIGHT - BOTTOM - self.top)
    }

    fn band(&mut self, from: f64, to: f64, name: &str) {
        let height = HEIGHT - BOTTOM - self.top;
        let _infallible = write!(
            self.svg,
            "<rect class=\"b\" x=\"{from:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{height:.1}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" opacity=\".7\">{}</text>",
            self.top,
            to - from,
            from + 4.0,
            self.top + 12.0,
            escape(name),
        );
    }

    fn x_tick(&mut self, x: f64, text: &str) {
        let bottom = HEIGHT - BOTTOM;
        let _infallible = write!(
            self.svg,
            "<path class=\"a\" d=\"M{x:.1} {bottom:.1}v4\"/><text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            bottom + 17.0,
            escape(text),
        );
    }

    fn x_name(&mut self, name: &str) {
        let _infallible = write!(
            self.svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            LEFT + (WIDTH - LEFT - RIGHT) / 2.0,
            HEIGHT - 6.0,
            escape(name),
        );
    }

    fn end(mut self) -> String {
        let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
        let _infallible = write!(
            self.svg,
            "<path class=\"a\" d=\"M{LEFT} {:.1}V{bottom:.1}H{right:.1}\"/></svg>",
            self.top
        );
        self.svg
    }
}

/// Text for XML: attribute or content.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            other => out.push(other),
        }
    }
    out
}

fn is_point((x, y): &(f64, f64)) -> bool {
    x.is_finite() && y.is_finite()
}

fn range(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    let values = values.filter(|value| value.is_finite());
    values.fold(None, |range, value| match range {
        None => Some((value, value)),
        Some((low, high)) => Some((value.min(low), value.max(high))),
    })
}

/// Multiples of 1, 2 or 5 times a power of ten from `low` to `high`.
fn ticks(low: f64, high: f64) -> Vec<f64> {
    let span = high - low;
    if span <= 0.0 || !span.is_finite() {
        return vec![low];
    }
    let rough = span / TICKS;
    let power = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|factor| factor * power);
    let step = step.into_iter().find(|step| *step >= rough).unwrap_or(power * 10.0);
    let first = (low / step).ceil() as i64;
    let last = (high / step + 1e-9).floor() as i64;
    (first..=last).map(|number| number as f64 * step).collect()
}

/// A number with as many digits as it needs, large ones with a letter.
fn text_of(value: f64) -> String {
    let (value, letter) = match value.abs() {
        large if large >= 1e6 => (value / 1e6, "M"),
        large if large >= 1e4 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let text = match value.abs() {
        0.0 => "0".to_owned(),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    };
    let text = match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    };
    text + letter
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_within_the_range() {
        assert_eq!(ticks(0.0, 10.0), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
        assert_eq!(ticks(3.0, 47.0), [10.0, 20.0, 30.0, 40.0]);
        assert_eq!(ticks(0.0, 0.03).len(), 4);
        assert_eq!(ticks(5.0, 5.0), [5.0]);
        for (value, text) in
            [(0.0, "0"), (0.05, "0.05"), (2.0, "2"), (12_500.0, "12.5k"), (3e6, "3M")]
        {
            assert_eq!(text_of(value), text);
        }
    }

    fn chart(points: Vec<(f64, f64)>) -> LineChart {
        let line = Line { name: "a<b".into(), points };
        let other = Line { name: "c".into(), points: vec![(0.0, 1.0)] };
        LineChart { title: "T & U".into(), lines: vec![line, other], ..LineChart::default() }
    }

    /// Every element that is opened is closed, in order.
    #[track_caller]
    fn assert_well_formed(svg: &str) {
        let mut open = Vec::new();
        for tag in svg.split('<').skip(1) {
            let (tag, _) = tag.split_once('>').expect("a tag ends");
            let name = tag.split([' ', '/']).find(|part| !part.is_empty()).expect("a name");
            match (tag.starts_with('/'), tag.ends_with('/')) {
                (true, _) => assert_eq!(open.pop(), Some(name), "{svg}"),
                (false, true) => {}
                (false, false) => open.push(name),
            }
        }
        assert!(open.is_empty() && !svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }

    #[test]
    fn a_line_is_drawn_from_the_lowest_to_the_highest_and_interrupted_by_what_is_no_number() {
        let mut chart = chart(vec![(0.0, 0.0), (5.0, f64::NAN), (10.0, 4.0), (20.0, 2.0)]);
        chart.bands.push(Band { from: -5.0, to: 10.0, name: "window".into() });
        let svg = chart.svg().expect("there are points");
        assert_well_formed(&svg);
        assert!(svg.contains("a&lt;b") && svg.contains("T &amp; U") && svg.contains("window"));
        let path = svg.split("d=\"").find(|part| part.starts_with("M56.0 228.0M")).expect("a gap");
        assert!(path.contains("L448.0"), "the last point is at the right edge: {path}");
    }

    #[test]
    fn nothing_to_draw_is_no_chart() {
        let empty = LineChart {
            lines: vec![Line { name: "a".into(), points: vec![] }],
            ..Default::default()
        };
        assert_eq!(empty.svg(), None);
        assert_eq!(BarChart::default().svg(), None);
        let one = LineChart {
            lines: vec![Line { name: "a".into(), points: vec![(3.0, 0.0)] }],
            ..Default::default()
        };
        assert_well_formed(&one.svg().expect("one point"));
    }

    #[test]
    fn a_bar_is_as_high_as_its_value_and_its_whisker_spans_the_spread() {
        let bar = |value: f64| Some(Bar { value, low: value * 0.9, high: value * 1.2 });
        let chart = BarChart {
            title: "cost".into(),
            y: "µs".into(),
            groups: vec!["100".into(), "200".into()],
            series: vec![
                ("ours".into(), vec![bar(1.0), bar(2.0)]),
                ("theirs".into(), vec![bar(10.0), None]),
            ],
        };
        let svg = chart.svg().expect("there are bars");
        assert_well_formed(&svg);
        assert_eq!(svg.matches("<rect class=\"f").count(), 3 + 2, "bars, and the legend's");
        assert_eq!(svg.matches("class=\"e\"").count(), 3);
        let height = |part: &str| -> f64 {
            let at = svg.find(part).expect("the bar is there");
            let rest = svg[..at].rsplit("height=\"").next().expect("its height");
            rest.split('"').next().expect("it ends").parse().expect("a number")
        };
        assert!((height("<title>10</title>") / height("<title>1</title>") - 10.0).abs() < 0.1);
    }
}
