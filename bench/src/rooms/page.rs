//! The report of a run of rooms as one page that needs nothing else.

use std::fmt::Write as _;

use super::report::RoomsReport;
use super::series::{Phase, Sample};
use crate::html::{STYLE, nines};
use crate::plot::{Band, Line, LineChart, escape};

/// The page; `wrong` are the sentences of its verdict.
pub fn page(report: &RoomsReport, wrong: &[String]) -> String {
    let mut page = String::new();
    let title = format!("{} rooms of {} peers", report.rooms, report.peers_per_room);
    let _infallible = write!(
        page,
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <title>sutantra-bench: {title}</title><style>{STYLE}</style></head><body>\
         <h1>{title}</h1><p>{}; {}</p>",
        escape(&report.server_name),
        escape(&report.machine),
    );
    let limit = report.generator_limit();
    let limit = limit.map(|limit| format!("The generator was the limit: {limit}"));
    if wrong.is_empty() && limit.is_none() {
        page.push_str("<p class=\"o\">Within all thresholds.</p>");
    }
    for sentence in wrong.iter().chain(&limit) {
        let _infallible = write!(page, "<p class=\"w\">{}.</p>", escape(sentence));
    }
    page.push_str("<div class=\"k\">");
    for (name, value) in keys(report) {
        let _infallible = write!(page, "<div>{name}<b>{}</b></div>", escape(&value));
    }
    page.push_str("</div><h2>What happened</h2><div class=\"p\">");
    for svg in charts(report).iter().filter_map(LineChart::svg) {
        page.push_str(&svg);
    }
    let _infallible = writeln!(
        page,
        "</div><h2>The report</h2><pre>{}</pre><h2>Again</h2><pre>{}</pre></body></html>",
        escape(&report.to_string()),
        escape(&report.command)
    );
    page
}

fn keys(report: &RoomsReport) -> Vec<(&'static str, String)> {
    let mut keys = vec![
        ("signals/s", format!("{:.0}", report.delivered_per_second)),
        ("lost", report.signals.lost.to_string()),
        (
            "latency p50 / p99",
            format!("{:.2} / {:.2} ms", report.latency_ms.p50, report.latency_ms.p99),
        ),
        ("join p99", format!("{:.1} ms", report.join_ms.p99)),
    ];
    if let Some(server) = &report.server {
        if let Some(us) = server.us_per_signal {
            keys.push(("server CPU", format!("{us:.1} µs a signal")));
        }
        keys.push(("server", format!("{:.2} cores", server.cores)));
        if let Some(bytes) = server.rss_bytes_per_idle {
            keys.push(("memory", format!("{:.1} kB an idle peer", bytes / 1e3)));
        }
    }
    keys.push(("generator", format!("{:.2} cores", report.generator.cores)));
    keys
}

fn charts(report: &RoomsReport) -> Vec<LineChart> {
    type Value = fn(&Sample) -> Option<f64>;
    let line = |name: &str, value: Value| Line {
        name: name.to_owned(),
        points: report.series.iter().map(|s| (s.at_s, value(s).unwrap_or(f64::NAN))).collect(),
    };
    let over_time = |title: &str, y: &str, lines: Vec<Line>| LineChart {
        title: title.to_owned(),
        x: "seconds".to_owned(),
        y: y.to_owned(),
        lines,
        bands: window(&report.series),
        ..LineChart::default()
    };
    let percentiles = LineChart {
        title: "Latency by percentile, window".to_owned(),
        x: "percentile".to_owned(),
        y: "ms".to_owned(),
        x_ticks: [0.0, 50.0, 90.0, 99.0, 99.9, 99.99, 100.0]
            .iter()
            .map(|percent| {
                let text = if *percent >= 100.0 { "max".to_owned() } else { percent.to_string() };
                (nines(*percent), text)
            })
            .collect(),
        lines: vec![Line {
            name: "latency".to_owned(),
            points: report.latency_curve.iter().map(|(at, ms)| (nines(*at), *ms)).collect(),
        }],
        ..LineChart::default()
    };
    vec![
        over_time(
            "Signals",
            "signals/s",
            vec![
                line("arrived", |s| Some(s.delivered_per_second)),
                line("sent", |s| Some(s.sent_per_second)),
            ],
        ),
        over_time(
            "Latency over WebSockets",
            "ms",
            vec![line("p50", |s| s.latency_p50_ms), line("p99", |s| s.latency_p99_ms)],
        ),
        percentiles,
        over_time(
            "Server's CPU for a signal",
            "µs",
            vec![line("server", |s| s.us_per_signal.filter(|_| s.phase > Phase::Joining))],
        ),
        over_time("Joins", "peers/s", vec![line("joins", |s| Some(s.joins_per_second))]),
        over_time(
            "Presence",
            "messages/s",
            vec![line("presence", |s| Some(s.presence_per_second))],
        ),
        over_time("Connections", "open", vec![line("open", |s| Some(s.open as f64))]),
        over_time(
            "Cores",
            "cores",
            vec![
                line("server", |s| s.server_cores),
                line("generator", |s| Some(s.generator_cores)),
            ],
        ),
        over_time("Server's memory", "MiB", vec![line("resident", |s| s.rss_mib)]),
    ]
}

/// The counted window, shaded.
fn window(series: &[Sample]) -> Vec<Band> {
    let is_within = |sample: &Sample| sample.phase == Phase::Measuring;
    let Some(first) = series.iter().position(is_within) else { return Vec::new() };
    let to = series.iter().rfind(|sample| is_within(sample)).map_or(0.0, |last| last.at_s);
    // A sample stands for the time since the one before.
    let from = first.checked_sub(1).map_or(0.0, |before| series[before].at_s);
    vec![Band { from, to, name: "window".to_owned() }]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rooms::report::tests::example;

    #[test]
    fn the_page_holds_table_plots_and_command_and_asks_no_network() {
        let sample = |at_s: f64, phase: Phase| Sample {
            at_s,
            phase,
            sent_per_second: 100.0,
            delivered_per_second: 100.0,
            joins_per_second: 0.0,
            presence_per_second: 0.0,
            open: 20,
            latency_p50_ms: Some(0.3),
            latency_p99_ms: Some(1.0),
            us_per_signal: None,
            server_cores: Some(0.1),
            rss_mib: Some(20.0),
            generator_cores: 0.1,
        };
        let mut report = example();
        report.command = "sutantra-bench signal --room '<x>'".into();
        report.series = vec![sample(0.5, Phase::Joining), sample(1.0, Phase::Measuring)];
        let page = page(&report, &["it is <slow>".to_owned()]);
        // CPU for a signal is not known here: its plot is left out.
        assert_eq!(page.matches("<svg").count(), 8);
        assert!(page.contains("--room '&lt;x&gt;'") && page.contains("it is &lt;slow&gt;."));
        assert!(page.contains("viewport") && page.contains(">window<"));
        let elsewhere = page.replace("http://www.w3.org/2000/svg", "");
        for outside in ["http://", "https://", "src=", "@import", "url("] {
            assert!(!elsewhere.contains(outside), "{outside}");
        }
    }
}
