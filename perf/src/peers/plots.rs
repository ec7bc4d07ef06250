//! The tables as pictures: cost, bare loop and peers side by side, with the spread of the rounds.

use std::path::Path;

use anyhow::Context;
use bench::plot::{Bar, BarChart};

use super::case::{Sink, Subject};
use super::contender::Part;
use super::results::{CaseResults, Figures, Row, Spread};

const BARE_LOOP: &str = "bare loop";

/// Writes what can be drawn: `peers.svg`, `drop-sink.svg`, `options.svg`, `memory.svg`.
///
/// # Errors
/// The folder cannot be written.
pub fn write(folder: &Path, cases: &[CaseResults]) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let of = |sink| {
        let costs = move |case: &&CaseResults| case.subject() == Subject::Cost && case.sink == sink;
        cases.iter().filter(costs).collect::<Vec<_>>()
    };
    let (loopback, drop) = (of(Sink::Loopback), of(Sink::Drop));
    let with_options = |case: &&&CaseResults| {
        case.rows.iter().any(|row| matches!(row.part, Part::Variant | Part::TwoShards))
    };
    let tried: Vec<&CaseResults> =
        loopback.iter().chain(&drop).filter(|case| with_options(case)).copied().collect();
    let is_peer = |part: Part| !matches!(part, Part::Variant | Part::TwoShards);
    let memory: Vec<&CaseResults> =
        loopback.iter().copied().filter(|c| c.publishers == 1).collect();
    for (name, chart) in [
        ("peers", chart("CPU per forwarded packet, loopback", "CPU µs", &loopback, cost, is_peer)),
        ("drop-sink", chart("CPU per forwarded packet, drop sink", "CPU µs", &drop, cost, is_peer)),
        ("options", chart("The relay's options", "CPU µs", &tried, cost, Part::is_relay)),
        ("memory", chart("Resident memory of a viewer", "kB", &memory, kilobytes, is_peer)),
    ] {
        // Without a figure there is no picture.
        if let Some(svg) = chart.svg() {
            let file = folder.join(name).with_extension("svg");
            std::fs::write(&file, svg).with_context(|| file.display().to_string())?;
        }
    }
    Ok(())
}

/// A figure and, beside that of the relay, the bare loop's.
type Measure = (fn(&Figures) -> Option<f64>, Option<fn(&Figures) -> Option<f64>>);

fn cost() -> Measure {
    (|figures| figures.us, Some(|figures| figures.limit_us))
}

fn kilobytes() -> Measure {
    (|figures| figures.viewer_kb, None)
}

/// A group of bars for each case, a colour for each server that `shows` lets through.
fn chart(
    title: &str,
    unit: &str,
    cases: &[&CaseResults],
    measure: fn() -> Measure,
    shows: fn(Part) -> bool,
) -> BarChart {
    let (figure, bare) = measure();
    let mut names: Vec<&str> = Vec::new();
    for row in cases.iter().flat_map(|case| &case.rows).filter(|row| shows(row.part)) {
        if !names.contains(&&*row.contender) {
            names.push(&row.contender);
        }
    }
    let bars = |pick: &dyn Fn(&Row) -> bool, figure: fn(&Figures) -> Option<f64>| {
        let of = |case: &&CaseResults| bar(case.rows.iter().find(|row| pick(row))?, figure);
        cases.iter().map(of).collect::<Vec<_>>()
    };
    let mut series: Vec<(String, Vec<Option<Bar>>)> = Vec::new();
    if let Some(bare) = bare {
        series.push((BARE_LOOP.to_owned(), bars(&|row| row.part == Part::Relay, bare)));
    }
    for name in names {
        series.push((name.to_owned(), bars(&|row| row.contender == name, figure)));
    }
    series.retain(|(_, bars)| bars.iter().any(Option::is_some));
    let groups = cases.iter().map(|case| case.title.clone()).collect();
    BarChart { title: title.to_owned(), y: unit.to_owned(), groups, series }
}

fn bar(row: &Row, figure: fn(&Figures) -> Option<f64>) -> Option<Bar> {
    let Spread { median, min, max } = Spread::of(row.figures.iter().filter_map(figure))?;
    Some(Bar { value: median, low: min, high: max })
}

#[cfg(test)]
mod tests {
    use super::super::case;
    use super::super::contender::{Contender, Source};
    use super::*;

    #[test]
    fn what_was_measured_is_drawn_and_what_was_not_is_left_out() {
        let folder = std::env::temp_dir().join(format!("sutantra-plots-{}", std::process::id()));
        let relay = Contender {
            name: "relay".to_owned(),
            part: Part::Relay,
            source: Source::Started {
                kind: bench::child::Kind::Reference,
                program: folder.clone(),
            },
        };
        let all = case::all();
        let video = all.iter().find(|case| case.name == "video-200").expect("it is in the table");
        let mut results = CaseResults::new(video, &[relay]);
        write(&folder, std::slice::from_ref(&results)).expect("a folder for temporary files");
        let drawn = |name: &str| std::fs::read_to_string(folder.join(name)).ok();
        assert_eq!(drawn("peers.svg"), None, "nothing was measured");
        let figures = Figures { us: Some(2.5), limit_us: Some(1.7), ..Figures::default() };
        results.rows[0].figures.push(figures);
        write(&folder, &[results]).expect("a folder for temporary files");
        let picture = drawn("peers.svg").expect("it was drawn");
        assert!(picture.contains("bare loop") && picture.contains("relay"), "{picture}");
        assert_eq!((drawn("memory.svg"), drawn("drop-sink.svg")), (None, None));
        std::fs::remove_dir_all(&folder).expect("it is there");
    }
}
