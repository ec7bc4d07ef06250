//! What is seen while a run goes on: a few lines that are drawn anew on a terminal, else plain lines.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use crate::series::Phase;

/// Between two pictures, and between two plain lines.
const DRAW_EVERY: Duration = Duration::from_millis(250);
const LINE_EVERY: Duration = Duration::from_secs(5);
/// Samples of a sparkline.
const SPARKS: usize = 40;
/// Widest picture; a narrower terminal gets a narrower one.
const COLUMNS_MAX: usize = 100;
const COLUMNS_MIN: usize = 40;
/// Widest bar.
const BAR_COLUMNS: usize = 60;
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// What is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Show {
    /// A picture on a terminal, nothing elsewhere.
    OnTerminal,
    /// A picture on a terminal, plain lines elsewhere.
    Always,
}

enum Face {
    Picture { lines_drawn: usize },
    Lines { next: Instant },
    Nothing,
}

/// Standard error as a place for a picture that is drawn anew, or for a line now and then.
struct Canvas {
    face: Face,
    drawn: Option<Instant>,
}

/// What it is time for.
enum Due {
    /// Nothing.
    Nothing,
    /// A plain line.
    Line,
    /// A picture of so many columns.
    Picture(usize),
}

impl Canvas {
    fn new(show: Show) -> Self {
        let face = match (std::io::stderr().is_terminal(), show) {
            (true, _) => Face::Picture { lines_drawn: 0 },
            (false, Show::Always) => Face::Lines { next: Instant::now() },
            (false, Show::OnTerminal) => Face::Nothing,
        };
        Self { face, drawn: None }
    }

    /// A phase begins.
    fn enter(&mut self, phase: &str) {
        self.drawn = None;
        if let Face::Lines { next } = &mut self.face {
            *next = Instant::now() + LINE_EVERY;
            eprintln!("{phase}");
        }
    }

    fn due(&mut self) -> Due {
        let now = Instant::now();
        match &mut self.face {
            Face::Lines { next } if now >= *next => {
                *next = now + LINE_EVERY;
                Due::Line
            }
            Face::Picture { .. } if self.drawn.is_none_or(|at| now >= at + DRAW_EVERY) => {
                self.drawn = Some(now);
                Due::Picture(terminal_columns())
            }
            Face::Nothing | Face::Lines { .. } | Face::Picture { .. } => Due::Nothing,
        }
    }

    fn put(&mut self, picture: &str) {
        let Face::Picture { lines_drawn } = &mut self.face else { return };
        let mut out = String::new();
        if *lines_drawn > 0 {
            // Cursor up, to the first column, clear what is below (ECMA-48).
            let _infallible = write!(out, "\x1b[{lines_drawn}A");
        }
        out.push_str("\r\x1b[J");
        out.push_str(picture);
        *lines_drawn = picture.matches('\n').count();
        let mut stderr = std::io::stderr().lock();
        // A terminal that is gone shows nothing, and the run goes on.
        let _unseen = stderr.write_all(out.as_bytes()).and_then(|()| stderr.flush());
    }

    /// Leaves the terminal as it was.
    fn end(&mut self) {
        self.put("");
        self.face = Face::Nothing;
    }
}

/// A row with a sparkline: its name, how it is read, its digits, its unit.
pub(crate) type Row<S> = (&'static str, fn(&S) -> Option<f64>, usize, &'static str);

/// What a run shows of itself, as it is now.
pub(crate) trait Scene {
    /// What is measured while it goes on.
    type Sample: Copy + 'static;
    /// Of the samples, each with its sparkline.
    const ROWS: &'static [Row<Self::Sample>];

    /// All in a plain line, with the last that was measured.
    fn line(&self, last: Option<&Self::Sample>) -> String;

    /// How much of a phase is done; `None` where its time tells.
    fn share(&self, phase: Phase) -> Option<f64>;

    /// Who is there, and what else is counted, a line each.
    fn counts(&self) -> Vec<String>;
}

/// Draws on standard error: the report has standard output to itself.
pub(crate) struct Screen<S> {
    canvas: Canvas,
    title: String,
    phases: [Phase; 5],
    phase: Phase,
    phase_began: Instant,
    span: Option<Duration>,
    samples: VecDeque<S>,
}

impl<S: Copy + 'static> Screen<S> {
    /// For one run, that goes through these phases.
    pub(crate) fn new(show: Show, title: String, phases: [Phase; 5]) -> Self {
        Self {
            canvas: Canvas::new(show),
            title,
            phases,
            phase: phases[0],
            phase_began: Instant::now(),
            span: None,
            samples: VecDeque::new(),
        }
    }

    /// A phase begins.
    pub(crate) fn enter(&mut self, phase: Phase, span: Option<Duration>) {
        (self.phase, self.phase_began, self.span) = (phase, Instant::now(), span);
        self.canvas.enter(phase.name());
    }

    /// Something was measured.
    pub(crate) fn sample(&mut self, sample: &S) {
        if self.samples.len() >= SPARKS {
            self.samples.pop_front();
        }
        self.samples.push_back(*sample);
    }

    /// Draws when it is time to.
    pub(crate) fn draw(&mut self, scene: &impl Scene<Sample = S>) {
        match self.canvas.due() {
            Due::Nothing => {}
            Due::Line => {
                eprintln!("{}: {}", self.phase.name(), scene.line(self.samples.back()));
            }
            Due::Picture(columns) => {
                let picture = self.picture(scene, columns);
                self.canvas.put(&picture);
            }
        }
    }

    /// Leaves the terminal as it was.
    pub(crate) fn end(&mut self) {
        self.canvas.end();
    }

    fn picture<C: Scene<Sample = S>>(&self, scene: &C, columns: usize) -> String {
        let by_time = |span: Duration| {
            self.phase_began.elapsed().as_secs_f64() / span.as_secs_f64().max(1e-9)
        };
        let share = scene.share(self.phase).or(self.span.map(by_time)).unwrap_or(0.0);
        let mut lines =
            vec![self.title.clone(), self.phases(), bar(share, columns.min(BAR_COLUMNS))];
        lines.extend(scene.counts());
        for (name, value, digits, unit) in C::ROWS {
            let values: Vec<Option<f64>> = self.samples.iter().map(value).collect();
            let Some(last) = values.last().copied() else { continue };
            if values.iter().any(Option::is_some) {
                let last = number(last, *digits, unit);
                lines.push(format!("{name:<10} {last:<22} {}", sparks(&values)));
            }
        }
        let cut = |line: &String| line.chars().take(columns).collect::<String>() + "\n";
        lines.iter().map(cut).collect()
    }

    fn phases(&self) -> String {
        let mut line = String::new();
        for phase in self.phases {
            let (mark, name) = (if phase == self.phase { '●' } else { '○' }, phase.name());
            let _infallible = write!(line, "{mark} {name}  ");
        }
        line.trim_end().to_owned()
    }
}

/// A value for people; a dash where there is none.
pub(crate) fn number(value: Option<f64>, digits: usize, unit: &str) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{value:.digits$}{unit}"))
}

fn bar(share: f64, columns: usize) -> String {
    let room = columns.saturating_sub(7).max(1);
    let full = ((share.clamp(0.0, 1.0) * room as f64) as usize).min(room);
    format!(
        "{}{} {:3.0} %",
        "█".repeat(full),
        "░".repeat(room - full),
        share.clamp(0.0, 1.0) * 100.0
    )
}

/// One character a value, from nothing to the largest of all.
fn sparks(values: &[Option<f64>]) -> String {
    let largest = values.iter().flatten().copied().fold(0.0, f64::max);
    let spark = |value: &Option<f64>| match value {
        Some(value) if largest > 0.0 => {
            let step = (value.max(0.0) / largest * (BARS.len() - 1) as f64).round() as usize;
            BARS[step.min(BARS.len() - 1)]
        }
        Some(_) => BARS[0],
        None => ' ',
    };
    values.iter().map(spark).collect()
}

fn terminal_columns() -> usize {
    // SAFETY: all zeroes is a valid `winsize`.
    let mut size: libc::winsize = unsafe { std::mem::zeroed() };
    // SAFETY: `size` is a valid, writable winsize, which is what TIOCGWINSZ fills.
    let done = unsafe { libc::ioctl(libc::STDERR_FILENO, libc::TIOCGWINSZ, &raw mut size) };
    let columns = if done == 0 && size.ws_col > 0 { usize::from(size.ws_col) } else { 80 };
    // The last column stays free: a full line would wrap and be counted once.
    columns.saturating_sub(1).clamp(COLUMNS_MIN, COLUMNS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sparks_rise_with_their_values_and_a_hole_stays_one() {
        let values = [Some(0.0), Some(5.0), None, Some(10.0)];
        assert_eq!(sparks(&values), "▁▅ █");
        assert_eq!(sparks(&[Some(0.0)]), "▁");
        assert_eq!(sparks(&[]), "");
    }

    #[test]
    fn a_bar_is_as_full_as_its_share_and_never_longer_than_its_room() {
        assert_eq!(bar(0.5, 17), "█████░░░░░  50 %");
        assert_eq!(bar(2.0, 11), "████ 100 %");
        assert_eq!(bar(-1.0, 11), "░░░░   0 %");
    }
}
