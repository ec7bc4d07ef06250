//! What is seen of a run of rooms while it goes on.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use super::config::RoomsConfig;
use super::engine::Counts;
use super::series::{Phase, Sample};
use crate::screen::{Canvas, Due, SPARKS, bar, number, sparks};

/// Widest bar.
const BAR_COLUMNS: usize = 60;

/// Draws on standard error.
pub struct View {
    canvas: Canvas,
    title: String,
    peers: usize,
    phase: Phase,
    began: Instant,
    span: Option<Duration>,
    samples: VecDeque<Sample>,
}

impl View {
    /// For one run.
    pub fn new(config: &RoomsConfig) -> Self {
        let mut title = format!("{} rooms of {} peers", config.rooms, config.peers_per_room);
        let more = [
            (config.signals_per_second, "signals/s"),
            (config.idle as f64, "idle"),
            (f64::from(config.churn_per_second), "joins/s"),
        ];
        for (count, what) in more.into_iter().filter(|(count, _)| *count > 0.0) {
            let _infallible = write!(title, ", {count:.0} {what}");
        }
        let _infallible = write!(title, ", {:?}", config.duration);
        Self {
            canvas: Canvas::new(config.show),
            title,
            peers: config.talkers() + config.idle,
            phase: Phase::Idling,
            began: Instant::now(),
            span: None,
            samples: VecDeque::new(),
        }
    }

    /// A phase begins.
    pub fn enter(&mut self, phase: Phase, span: Option<Duration>) {
        (self.phase, self.began, self.span) = (phase, Instant::now(), span);
        self.canvas.enter(phase.name());
    }

    /// Something was measured.
    pub fn sample(&mut self, sample: &Sample) {
        if self.samples.len() >= SPARKS {
            self.samples.pop_front();
        }
        self.samples.push_back(*sample);
    }

    /// Draws when it is time to.
    pub fn draw(&mut self, counts: &Counts) {
        match self.canvas.due() {
            Due::Nothing => {}
            Due::Line => eprintln!("{}", self.line(counts)),
            Due::Picture(columns) => {
                let picture = self.picture(counts, columns);
                self.canvas.put(&picture);
            }
        }
    }

    /// Leaves the terminal as it was.
    pub fn end(&mut self) {
        self.canvas.end();
    }

    fn line(&self, counts: &Counts) -> String {
        let mut line = format!(
            "{}: {} connections, {} peers joined, {} refused, {} ended",
            self.phase.name(),
            counts.open,
            counts.joined,
            counts.refused,
            counts.ended
        );
        if let Some(sample) = self.samples.back() {
            let _infallible = write!(
                line,
                "; {:.0} signals/s sent, {:.0} arrived, p99 {}, server {}, generator {:.2} cores",
                sample.sent_per_second,
                sample.delivered_per_second,
                number(sample.latency_p99_ms, 2, " ms"),
                number(sample.server_cores, 2, " cores"),
                sample.generator_cores,
            );
        }
        line
    }

    fn picture(&self, counts: &Counts, columns: usize) -> String {
        let mut phases = String::new();
        for phase in Phase::ALL {
            let mark = if phase == self.phase { '●' } else { '○' };
            let _infallible = write!(phases, "{mark} {}  ", phase.name());
        }
        let share = match self.span {
            Some(span) => self.began.elapsed().as_secs_f64() / span.as_secs_f64().max(1e-9),
            None if self.phase == Phase::Draining => {
                counts.delivered as f64 / counts.sent.max(1) as f64
            }
            None => (counts.joined + counts.refused) as f64 / self.peers.max(1) as f64,
        };
        let mut lines = vec![
            self.title.clone(),
            phases.trim_end().to_owned(),
            bar(share, columns.min(BAR_COLUMNS)),
            format!(
                "peers      {} connections, {} joined, {} refused, {} ended",
                counts.open, counts.joined, counts.refused, counts.ended
            ),
            format!(
                "signals    {} sent, {} arrived, {} twice, {} out of order",
                counts.sent, counts.delivered, counts.doubled, counts.reordered
            ),
        ];
        type Value = fn(&Sample) -> Option<f64>;
        let rows: [(&str, Value, usize, &str); 9] = [
            ("sent", |s| Some(s.sent_per_second), 0, " signals/s"),
            ("arrived", |s| Some(s.delivered_per_second), 0, " signals/s"),
            ("joins", |s| Some(s.joins_per_second), 0, " peers/s"),
            ("presence", |s| Some(s.presence_per_second), 0, " messages/s"),
            ("latency", |s| s.latency_p99_ms, 2, " ms p99"),
            ("cost", |s| s.us_per_signal, 1, " µs a signal"),
            ("server", |s| s.server_cores, 2, " cores"),
            ("memory", |s| s.rss_mib, 1, " MiB"),
            ("generator", |s| Some(s.generator_cores), 2, " cores"),
        ];
        for (name, value, digits, unit) in rows {
            let values: Vec<Option<f64>> = self.samples.iter().map(value).collect();
            let Some(last) = values.last().copied() else { continue };
            if values.iter().any(Option::is_some) {
                let last = number(last, digits, unit);
                lines.push(format!("{name:<10} {last:<22} {}", sparks(&values)));
            }
        }
        let cut = |line: &String| line.chars().take(columns).collect::<String>() + "\n";
        lines.iter().map(cut).collect()
    }
}
