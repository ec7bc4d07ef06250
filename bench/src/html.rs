//! A report as one page that needs nothing else: table, plots, machine, command.

use std::fmt::Write as _;

use crate::plot::{Band, Line, LineChart, escape};
use crate::series::{Phase, Timed};

const STYLE: &str = ":root{color-scheme:light dark}\
body{font:16px/1.5 system-ui,sans-serif;margin:0 auto;max-width:60rem;padding:1rem;background:#fff;color:#1f2328}\
h1{font-size:1.4rem}h2{font-size:1.1rem;margin-top:2rem}\
.k{display:grid;grid-template-columns:repeat(auto-fit,minmax(9rem,1fr));gap:.6rem}\
.k div{border:1px solid #8884;border-radius:.5rem;padding:.5rem .7rem}.k b{display:block;font-size:1.25rem}\
.p{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,26rem),1fr));gap:1rem}\
svg{width:100%;height:auto}\
pre{overflow-x:auto;border:1px solid #8884;border-radius:.5rem;padding:.7rem;font-size:.8rem}\
.w{border-left:.3rem solid #cf222e;padding:.3rem .7rem;background:#cf222e18}\
.o{border-left:.3rem solid #1a7f37;padding:.3rem .7rem;background:#1a7f3718}\
@media(prefers-color-scheme:dark){body{background:#0d1117;color:#e6edf3}}";

/// What a page holds, as plain text.
pub(crate) struct Page<'a> {
    /// In the window's title.
    pub title: String,
    /// Above all.
    pub heading: String,
    /// Below the heading.
    pub machine: String,
    /// The sentences of the verdict.
    pub wrong: &'a [String],
    /// Why the figures are the generator's, where they are.
    pub limit: Option<String>,
    /// The figures to see at once, by name.
    pub keys: Vec<(&'static str, String)>,
    /// The plots; one without a point is left out.
    pub charts: Vec<LineChart>,
    /// What stands below them, each with its heading.
    pub texts: Vec<(&'static str, String)>,
}

impl Page<'_> {
    /// The document.
    pub fn html(&self) -> String {
        let mut page = String::new();
        let _infallible = write!(
            page,
            "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
             <title>sutantra-bench: {}</title><style>{STYLE}</style></head><body>\
             <h1>{}</h1><p>{}</p>",
            escape(&self.title),
            escape(&self.heading),
            escape(&self.machine),
        );
        let limit =
            self.limit.as_ref().map(|limit| format!("The generator was the limit: {limit}"));
        if self.wrong.is_empty() && limit.is_none() {
            page.push_str("<p class=\"o\">Within all thresholds.</p>");
        }
        for sentence in self.wrong.iter().chain(&limit) {
            let _infallible = write!(page, "<p class=\"w\">{}.</p>", escape(sentence));
        }
        page.push_str("<div class=\"k\">");
        for (name, value) in &self.keys {
            let _infallible = write!(page, "<div>{name}<b>{}</b></div>", escape(value));
        }
        page.push_str("</div><h2>What happened</h2><div class=\"p\">");
        for svg in self.charts.iter().filter_map(LineChart::svg) {
            page.push_str(&svg);
        }
        page.push_str("</div>");
        for (heading, text) in &self.texts {
            let _infallible = write!(page, "<h2>{heading}</h2><pre>{}</pre>", escape(text));
        }
        page.push_str("</body></html>\n");
        page
    }
}

/// A line over time: its name, how it is read.
pub(crate) type Read<S> = (&'static str, fn(&S) -> Option<f64>);

/// Plots values of a series over the run's time.
pub(crate) fn over_time<S: Timed>(
    series: &[S],
    title: &str,
    y: &str,
    lines: &[Read<S>],
) -> LineChart {
    let line = |(name, value): &Read<S>| Line {
        name: (*name).to_owned(),
        points: series.iter().map(|s| (s.at_s(), value(s).unwrap_or(f64::NAN))).collect(),
    };
    LineChart {
        title: title.to_owned(),
        x: "seconds".to_owned(),
        y: y.to_owned(),
        lines: lines.iter().map(line).collect(),
        bands: window(series),
        ..LineChart::default()
    }
}

/// Plots milliseconds by percentile, the tail as wide as the rest.
pub(crate) fn by_percentile(title: &str, name: &str, points: &[(f64, f64)]) -> LineChart {
    let tick = |percent: f64| {
        let text = if percent >= 100.0 { "max".to_owned() } else { percent.to_string() };
        (nines(percent), text)
    };
    LineChart {
        title: title.to_owned(),
        x: "percentile".to_owned(),
        y: "ms".to_owned(),
        x_ticks: [0.0, 50.0, 90.0, 99.0, 99.9, 99.99, 100.0].map(tick).to_vec(),
        lines: vec![Line {
            name: name.to_owned(),
            points: points.iter().map(|(percent, ms)| (nines(*percent), *ms)).collect(),
        }],
        ..LineChart::default()
    }
}

/// The counted window, shaded.
fn window<S: Timed>(series: &[S]) -> Vec<Band> {
    let is_within = |sample: &S| sample.phase() == Phase::Measuring;
    let Some(first) = series.iter().position(is_within) else { return Vec::new() };
    let to = series.iter().rfind(|sample| is_within(sample)).map_or(0.0, Timed::at_s);
    // A sample stands for the time since the one before.
    let from = first.checked_sub(1).map_or(0.0, |before| series[before].at_s());
    vec![Band { from, to, name: "window".to_owned() }]
}

/// Percentiles on an axis on which each further nine takes the same room; the largest is the fifth.
fn nines(percent: f64) -> f64 {
    (-(1.0 - percent / 100.0).max(1e-5).log10()).max(0.0)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A page reads well on any screen, names its window, and asks no network.
    #[track_caller]
    pub(crate) fn check(page: &str, charts: usize) {
        assert_eq!(page.matches("<svg").count(), charts);
        assert!(page.contains("viewport") && page.contains("prefers-color-scheme:dark"));
        assert!(page.contains(">window<"));
        let elsewhere = page.replace("http://www.w3.org/2000/svg", "");
        for outside in ["http://", "https://", "src=", "@import", "url("] {
            assert!(!elsewhere.contains(outside), "{outside}");
        }
    }

    #[test]
    fn every_further_nine_takes_the_same_room() {
        let at: Vec<f64> = [0.0, 90.0, 99.0, 99.9, 99.99, 100.0].into_iter().map(nines).collect();
        for (at, expected) in at.iter().zip([0.0, 1.0, 2.0, 3.0, 4.0, 5.0]) {
            assert!((at - expected).abs() < 1e-6, "{at} instead of {expected}");
        }
    }
}
