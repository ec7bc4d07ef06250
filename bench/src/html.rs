//! A report as one page that needs nothing else: table, plots, machine, command.

use std::fmt::Write as _;

use crate::find_max::Search;
use crate::plot::{Band, Line, LineChart, escape};
use crate::report::Report;
use crate::series::{Phase, Sample};

pub(crate) const STYLE: &str = ":root{color-scheme:light dark}\
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

/// The page of one run; `wrong` are the sentences of its verdict, `search` the steps that led to it.
pub fn page(report: &Report, wrong: &[String], search: Option<&Search>) -> String {
    let mut page = String::new();
    let _infallible = write!(
        page,
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <title>sutantra-bench: {} viewers</title><style>{STYLE}</style></head><body>\
         <h1>{} × {} × {} → {} viewers</h1><p>{}</p>",
        report.viewers,
        report.rooms,
        report.publishers,
        escape(&report.trace),
        report.viewers - report.churned,
        escape(&report.machine),
    );
    match (wrong.is_empty(), report.generator_limit()) {
        (true, None) => page.push_str("<p class=\"o\">Within all thresholds.</p>"),
        (_, limit) => {
            for sentence in wrong {
                let _infallible = write!(page, "<p class=\"w\">{}.</p>", escape(sentence));
            }
            if let Some(limit) = limit {
                let limit = escape(&limit);
                let _infallible =
                    write!(page, "<p class=\"w\">The generator was the limit: {limit}.</p>");
            }
        }
    }
    page.push_str("<div class=\"k\">");
    for (name, value) in keys(report) {
        let _infallible = write!(page, "<div>{name}<b>{}</b></div>", escape(&value));
    }
    page.push_str("</div><h2>What happened</h2><div class=\"p\">");
    for svg in charts(report).iter().filter_map(LineChart::svg) {
        page.push_str(&svg);
    }
    page.push_str("</div><h2>The report</h2>");
    let _infallible = write!(page, "<pre>{}</pre>", escape(&report.to_string()));
    if let Some(search) = search {
        let steps = escape(&search.to_string());
        let _infallible = write!(page, "<h2>The search for the limit</h2><pre>{steps}</pre>");
    }
    let command = escape(&report.command);
    let _infallible = writeln!(page, "<h2>Again</h2><pre>{command}</pre></body></html>");
    page
}

fn keys(report: &Report) -> Vec<(&'static str, String)> {
    let mut keys = vec![
        ("packets/s forwarded", format!("{:.0}", report.forwarded as f64 / report.seconds)),
        ("lost", format!("{:.4} %", report.packets.loss_percent())),
        (
            "latency p50 / p99",
            format!("{:.2} / {:.2} ms", report.latency_ms.p50, report.latency_ms.p99),
        ),
        ("first media p99", format!("{:.0} ms", report.join_ms.p99)),
    ];
    if let Some(server) = &report.server {
        keys.push(("server CPU", format!("{:.2} µs a packet", server.us_per_packet)));
        keys.push(("server", format!("{:.2} cores", server.cores)));
        if let Some(kib) = server.rss_kib_per_viewer {
            keys.push(("memory", format!("{kib:.0} KiB a viewer")));
        }
    }
    keys.push(("generator", format!("{:.2} cores", report.generator.cores)));
    if let Some(pay) = &report.payments {
        keys.push(("vouchers", pay.vouchers.to_string()));
    }
    keys
}

/// All plots of a run.
pub fn charts(report: &Report) -> Vec<LineChart> {
    type Value = fn(&Sample) -> Option<f64>;
    let line = |name: &str, value: Value| Line {
        name: name.to_owned(),
        points: report.series.iter().map(|s| (s.at_s, value(s).unwrap_or(f64::NAN))).collect(),
    };
    let bands = bands(&report.series);
    let over_time = |title: &str, y: &str, lines: Vec<Line>| LineChart {
        title: title.to_owned(),
        x: "seconds".to_owned(),
        y: y.to_owned(),
        lines,
        bands: bands.clone(),
        ..LineChart::default()
    };
    let curve = |title: &str, points: &[(f64, f64)]| LineChart {
        title: title.to_owned(),
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
            name: title.to_owned(),
            points: points.iter().map(|(percent, ms)| (nines(*percent), *ms)).collect(),
        }],
        ..LineChart::default()
    };
    vec![
        over_time(
            "Throughput",
            "packets/s",
            vec![
                line("to viewers", |s| Some(s.forwarded_per_second)),
                line("from publishers", |s| Some(s.published_per_second)),
            ],
        ),
        over_time(
            "CPU per forwarded packet",
            "µs",
            vec![line("server", |s| {
                // Before all play, what a join costs would be spread over few packets.
                s.us_per_packet.filter(|_| s.phase > Phase::Joining)
            })],
        ),
        over_time(
            "Latency",
            "ms",
            vec![line("p50", |s| s.latency_p50_ms), line("p99", |s| s.latency_p99_ms)],
        ),
        curve("Latency by percentile, window", &report.latency_curve),
        over_time("Missing packets", "%", vec![line("missing", |s| Some(s.missing_percent))]),
        curve("First media after the POST, by percentile", &report.join_curve),
        over_time("Joins", "viewers/s", vec![line("joins", |s| Some(s.joins_per_second))]),
        over_time("Viewers that play", "viewers", vec![line("play", |s| Some(s.playing as f64))]),
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
fn bands(series: &[Sample]) -> Vec<Band> {
    let is_within = |sample: &Sample| sample.phase == Phase::Measuring;
    let Some(first) = series.iter().position(is_within) else { return Vec::new() };
    let to = series.iter().rfind(|sample| is_within(sample)).map_or(0.0, |last| last.at_s);
    // A sample stands for the time since the one before.
    let from = first.checked_sub(1).map_or(0.0, |before| series[before].at_s);
    vec![Band { from, to, name: "window".to_owned() }]
}

/// Percentiles on an axis on which each further nine takes the same room; the largest is the fifth.
pub(crate) fn nines(percent: f64) -> f64 {
    (-(1.0 - percent / 100.0).max(1e-5).log10()).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::example;

    fn sample(at_s: f64, phase: Phase) -> Sample {
        Sample {
            at_s,
            phase,
            published_per_second: 316.0,
            received_per_second: 632.0,
            forwarded_per_second: 632.0,
            us_per_packet: None,
            server_cores: Some(0.2),
            rss_mib: Some(20.0),
            latency_p50_ms: Some(0.4),
            latency_p99_ms: Some(1.4),
            missing_percent: 0.0,
            joins_per_second: 2.0,
            playing: 2,
            ended: 0,
            generator_cores: 0.1,
        }
    }

    /// R114
    #[test]
    fn the_page_holds_table_plots_and_command_and_asks_no_network() {
        let mut report = example();
        report.command = "sutantra-bench load --trace '<x>'".into();
        report.series = vec![
            sample(0.5, Phase::Joining),
            sample(1.0, Phase::Measuring),
            sample(1.5, Phase::Measuring),
        ];
        let page = page(&report, &["it is <slow>".to_owned()], None);
        // CPU per packet is not known here: its plot is left out.
        assert_eq!(page.matches("<svg").count(), 9);
        assert!(page.contains("--trace '&lt;x&gt;'") && page.contains("it is &lt;slow&gt;."));
        assert!(page.contains("viewport") && page.contains("prefers-color-scheme:dark"));
        assert!(page.contains("server CPU per packet") && page.contains(">window<"));
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
