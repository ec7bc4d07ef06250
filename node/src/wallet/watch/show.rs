//! What the person sees: one line that lives, or one JSON object a line.

use std::{
    io::{self, IsTerminal, Write},
    time::{Duration, Instant},
};

use chain_types::Balance;
use serde_json::{Value, json};

/// Between two lines of JSON.
const JSON_EVERY: Duration = Duration::from_millis(250);
/// Between two states of the living line.
const LINE_EVERY: Duration = Duration::from_millis(500);
/// Between two lines where nobody rewrites them.
const LOG_EVERY: Duration = Duration::from_secs(5);

/// How it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Json,
    Line,
    Log,
}

/// The session at one instant.
#[derive(Debug, Clone, Copy)]
pub struct Sight {
    pub state: &'static str,
    /// Signed in this session.
    pub paid: Balance,
    /// Units per second.
    pub rate: u64,
    pub packets: u64,
    pub frames: u64,
    pub bytes: u64,
    pub served_ms: u64,
}

/// Writes to stdout.
pub struct Show {
    form: Form,
    began: Instant,
    next: Instant,
    last: (Instant, u64),
}

impl Show {
    pub fn new(json: bool, began: Instant) -> Self {
        let form = match (json, io::stdout().is_terminal()) {
            (true, _) => Form::Json,
            (false, true) => Form::Line,
            (false, false) => Form::Log,
        };
        Self { form, began, next: began, last: (began, 0) }
    }

    /// When [`Show::tick`] has something to say.
    pub fn due(&self) -> Instant {
        self.next
    }

    pub fn tick(&mut self, now: Instant, sight: &Sight) {
        if now < self.next {
            return;
        }
        self.next = now
            + match self.form {
                Form::Json => JSON_EVERY,
                Form::Line => LINE_EVERY,
                Form::Log => LOG_EVERY,
            };
        let (since, before) = std::mem::replace(&mut self.last, (now, sight.bytes));
        let ms = u64::try_from((now - since).as_millis()).unwrap_or(u64::MAX);
        let kbps = (sight.bytes - before) * 8 / ms.max(1);
        let Sight { state, paid, rate, packets, frames, bytes, served_ms } = *sight;
        match self.form {
            Form::Json => self.event(
                now,
                "tick",
                json!({
                    "state": state,
                    "paid": paid,
                    "rate": rate.to_string(),
                    "kbps": kbps,
                    "packets": packets,
                    "frames": frames,
                    "bytes": bytes,
                    "served_ms": served_ms,
                }),
            ),
            Form::Line | Form::Log => {
                let rate = Balance::of(rate);
                let line = format!(
                    "{state}: {} SUT paid, {} SUT/s, {kbps} kbit/s, {packets} packets, {frames} frames",
                    paid.in_sut(),
                    rate.in_sut(),
                );
                let (begin, end) =
                    if self.form == Form::Line { ("\r\x1b[K", "") } else { ("", "\n") };
                print!("{begin}{line}{end}");
                let _seen = io::stdout().flush();
            }
        }
    }

    /// Something happened. `facts` is an object.
    pub fn event(&self, now: Instant, name: &str, facts: Value) {
        match self.form {
            Form::Json => {
                let mut line = json!({
                    "event": name,
                    "t_ms": u64::try_from((now - self.began).as_millis()).unwrap_or(u64::MAX),
                });
                if let (Value::Object(line), Value::Object(facts)) = (&mut line, facts) {
                    line.extend(facts);
                }
                println!("{line}");
            }
            Form::Line | Form::Log => {
                let said = facts["message"].as_str().unwrap_or_default();
                let begin = if self.form == Form::Line { "\r\x1b[K" } else { "" };
                println!("{begin}{name}{}{said}", if said.is_empty() { "" } else { ": " });
            }
        }
        let _seen = io::stdout().flush();
    }
}
