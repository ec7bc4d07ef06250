//! The report of a run of rooms as a page.

use super::report::RoomsReport;
use super::series::Sample;
use crate::html::{Page, Read, by_percentile, over_time};
use crate::plot::LineChart;
use crate::series::Phase;

/// The page; `wrong` are the sentences of its verdict.
pub fn page(report: &RoomsReport, wrong: &[String]) -> String {
    let title = format!("{} rooms of {} peers", report.rooms, report.peers_per_room);
    let page = Page {
        heading: title.clone(),
        title,
        machine: format!("{}; {}", report.server_name, report.machine),
        wrong,
        limit: report.generator_limit(),
        keys: keys(report),
        charts: charts(report),
        texts: vec![("The report", report.to_string()), ("Again", report.command.clone())],
    };
    page.html()
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
    let plot = |title, y, lines: &[Read<Sample>]| over_time(&report.series, title, y, lines);
    vec![
        plot(
            "Signals",
            "signals/s",
            &[("arrived", |s| Some(s.delivered_per_second)), ("sent", |s| Some(s.sent_per_second))],
        ),
        plot(
            "Latency over WebSockets",
            "ms",
            &[("p50", |s| s.latency_p50_ms), ("p99", |s| s.latency_p99_ms)],
        ),
        by_percentile("Latency by percentile, window", "latency", &report.latency_curve),
        plot(
            "Server's CPU for a signal",
            "µs",
            &[("server", |s| s.us_per_signal.filter(|_| s.phase > Phase::Joining))],
        ),
        plot("Joins", "peers/s", &[("joins", |s| Some(s.joins_per_second))]),
        plot("Presence", "messages/s", &[("presence", |s| Some(s.presence_per_second))]),
        plot("Connections", "open", &[("open", |s| Some(s.open as f64))]),
        plot(
            "Cores",
            "cores",
            &[("server", |s| s.server_cores), ("generator", |s| Some(s.generator_cores))],
        ),
        plot("Server's memory", "MiB", &[("resident", |s| s.rss_mib)]),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::html::tests::check;
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
        check(&page, 8);
        assert!(page.contains("--room '&lt;x&gt;'") && page.contains("it is &lt;slow&gt;."));
    }
}
