//! SIGHUP: the configuration is read again, what may change while sessions run is taken over, the
//! rest is named. A configuration with a mistake changes nothing.

use std::fmt;

use crate::config::{
    Config, ConfigError, Resolved,
    keys::{self, Key},
    money::MoneyLimits,
};

/// What a running node takes over.
pub trait Knobs: Send {
    /// Which lines the log has, and in which form.
    ///
    /// # Errors
    /// Why not; so for those below.
    fn log(&mut self, config: &Config) -> anyhow::Result<()>;
    /// What is asked of viewers, and borne for them.
    fn limits(&mut self, limits: &MoneyLimits) -> anyhow::Result<()>;
    /// What the chain says about this relay.
    fn facts(&mut self, config: &Config) -> anyhow::Result<()>;
    /// Sessions at one time; those that are there stay.
    fn sessions_max(&mut self, sessions: usize) -> anyhow::Result<()>;
}

/// What came of reading it again.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reloaded {
    /// Keys with a new value that holds from now on.
    pub taken: Vec<&'static str>,
    /// Keys with a new value that a restart would take.
    pub waiting: Vec<&'static str>,
}

impl fmt::Display for Reloaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.taken.as_slice() {
            [] => f.write_str("nothing changed that holds at once")?,
            taken => write!(f, "taken over: {}", taken.join(", "))?,
        }
        match self.waiting.as_slice() {
            [] => Ok(()),
            waiting => write!(f, "; a restart is needed for: {}", waiting.join(", ")),
        }
    }
}

/// Why the old values stay.
#[derive(Debug)]
pub enum ReloadError {
    /// The configuration is wrong: all that is, with its place.
    Config(Vec<ConfigError>),
    /// A part of the node did not take its values.
    Part(anyhow::Error),
}

impl fmt::Display for ReloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(errors) => {
                let sentences: Vec<_> = errors.iter().map(ToString::to_string).collect();
                f.write_str(&sentences.join("; "))
            }
            Self::Part(error) => write!(f, "{error:#}"),
        }
    }
}

/// Reads flags, environment and file again.
pub type Source = Box<dyn Fn() -> Result<Resolved, Vec<ConfigError>> + Send>;

/// Holds the values in force.
pub struct Reloader {
    source: Source,
    held: Resolved,
    knobs: Box<dyn Knobs>,
}

/// Which knob a key turns; the others wait for a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Log,
    Limits,
    /// Limits that the chain shows too.
    Facts,
    Sessions,
}

fn part(key: &Key) -> Option<Part> {
    match key {
        key if [&keys::LOG, &keys::LOG_FORMAT].contains(&key) => Some(Part::Log),
        key if [&keys::WHOLESALE_PER_GB, &keys::MIN_SHARE_BPS].contains(&key) => Some(Part::Facts),
        key if key == &keys::SESSIONS_MAX => Some(Part::Sessions),
        key if [&keys::CADENCE_MS, &keys::GRACE_MS, &keys::EXPOSURE_SECONDS, &keys::SERVE_FREE]
            .contains(&key) =>
        {
            Some(Part::Limits)
        }
        _ => None,
    }
}

impl Reloader {
    /// `held` is in force; `source` is asked at each SIGHUP.
    pub fn new(source: Source, held: Resolved, knobs: Box<dyn Knobs>) -> Self {
        Self { source, held, knobs }
    }

    /// Reads again and takes over.
    ///
    /// # Errors
    /// The configuration is wrong, and nothing changed; or a part refused its values.
    pub fn reload(&mut self) -> Result<Reloaded, ReloadError> {
        let new = (self.source)().map_err(ReloadError::Config)?;
        let (mut reloaded, mut parts) = (Reloaded::default(), Vec::new());
        for ((key, value, _), (_, old, _)) in new.rows.iter().zip(&self.held.rows) {
            if value == old {
                continue;
            }
            match part(key) {
                Some(part) => {
                    reloaded.taken.push(key.name);
                    parts.push(part);
                }
                None => reloaded.waiting.push(key.name),
            }
        }
        let turns = |wanted: &[Part]| parts.iter().any(|part| wanted.contains(part));
        if turns(&[Part::Log]) {
            self.knobs.log(&new.config).map_err(ReloadError::Part)?;
        }
        if turns(&[Part::Limits, Part::Facts]) {
            self.knobs.limits(&new.config.money).map_err(ReloadError::Part)?;
        }
        if turns(&[Part::Sessions]) {
            self.knobs.sessions_max(new.config.sessions_max).map_err(ReloadError::Part)?;
        }
        if turns(&[Part::Facts]) {
            self.knobs.facts(&new.config).map_err(ReloadError::Part)?;
        }
        // What waits is named again next time: it is still not in force.
        for (row, held) in new.rows.into_iter().zip(&mut self.held.rows) {
            if part(row.0).is_some() {
                *held = row;
            }
        }
        Ok(reloaded)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::config::{self, Flags, Surroundings};

    type Turned = Arc<Mutex<Vec<String>>>;

    struct Recorder(Turned);

    impl Recorder {
        fn note(&self, text: String) -> anyhow::Result<()> {
            self.0.lock().expect("ours").push(text);
            Ok(())
        }
    }

    impl Knobs for Recorder {
        fn log(&mut self, config: &Config) -> anyhow::Result<()> {
            self.note(format!("log {} {:?}", config.log, config.log_format))
        }
        fn limits(&mut self, limits: &MoneyLimits) -> anyhow::Result<()> {
            self.note(format!("limits {} {}", limits.cadence_ms, limits.grace_ms))
        }
        fn facts(&mut self, config: &Config) -> anyhow::Result<()> {
            self.note(format!("facts {}", config.money.min_share_bps))
        }
        fn sessions_max(&mut self, sessions: usize) -> anyhow::Result<()> {
            anyhow::ensure!(sessions != 13, "not thirteen");
            self.note(format!("sessions {sessions}"))
        }
    }

    fn read(file: &str) -> Result<Resolved, Vec<ConfigError>> {
        let flags = Flags::from([("home", vec!["/srv".to_owned()])]);
        let around = Surroundings {
            env: &|_| None,
            read_file: &|_| Ok(Some(file.to_owned())),
            cores: 2,
            development: false,
        };
        config::resolve(&flags, None, &around)
    }

    /// A node that runs with `begin`, and its file, which may be changed.
    fn running(begin: &str) -> (Reloader, Arc<Mutex<String>>, Turned) {
        let file = Arc::new(Mutex::new(begin.to_owned()));
        let turned = Turned::default();
        let source = {
            let file = file.clone();
            Box::new(move || read(&file.lock().expect("ours")))
        };
        let held = read(begin).expect("a right one");
        (Reloader::new(source, held, Box::new(Recorder(turned.clone()))), file, turned)
    }

    /// What a change from one file to the next says and turns.
    #[track_caller]
    fn check(begin: &str, next: &str, said: &str, expected: &[&str]) {
        let (mut reloader, file, turned) = running(begin);
        *file.lock().expect("ours") = next.to_owned();
        let text = match reloader.reload() {
            Ok(reloaded) => reloaded.to_string(),
            Err(error) => format!("error: {error}"),
        };
        assert_eq!(text, said);
        assert_eq!(*turned.lock().expect("ours"), expected);
    }

    /// R112
    #[test]
    fn prices_limits_and_the_log_are_taken_over_and_the_rest_is_named() {
        check("", "", "nothing changed that holds at once", &[]);
        check(
            "grace-ms = 3000\n",
            "grace-ms = 4000\ncadence-ms = 500\n",
            "taken over: cadence-ms, grace-ms",
            &["limits 500 4000"],
        );
        check(
            "",
            "min-share-bps = 500\nlog-format = \"json\"\nlog = \"debug\"\nsessions-max = 7\n",
            "taken over: min-share-bps, sessions-max, log, log-format",
            &["log debug Json", "limits 1000 3000", "sessions 7", "facts 500"],
        );
        check(
            "udp-port = 1\n",
            "udp-port = 2\ngrace-ms = 4000\n",
            "taken over: grace-ms; a restart is needed for: udp-port",
            &["limits 1000 4000"],
        );
    }

    #[test]
    fn a_configuration_with_a_mistake_changes_nothing_and_the_next_right_one_does() {
        check(
            "",
            "grace-ms = 4000\ngrace = 1\n",
            "error: /srv/sutantra.toml:2: unknown key `grace`; did you mean `grace-ms`?",
            &[],
        );
        let (mut reloader, file, turned) = running("");
        for (text, taken) in
            [("grace-ms = 1\n", None), ("grace-ms = 900\n", Some(1)), ("", Some(1))]
        {
            *file.lock().expect("ours") = text.to_owned();
            assert_eq!(
                reloader.reload().ok().map(|reloaded| reloaded.taken.len()),
                taken,
                "{text}"
            );
        }
        assert_eq!(*turned.lock().expect("ours"), ["limits 1000 900", "limits 1000 3000"]);
    }

    #[test]
    fn what_a_part_refused_is_tried_again_and_what_waits_is_named_again() {
        let (mut reloader, file, _) = running("");
        *file.lock().expect("ours") = "sessions-max = 13\nudp-port = 9\n".to_owned();
        assert!(matches!(reloader.reload(), Err(ReloadError::Part(_))));
        assert!(matches!(reloader.reload(), Err(ReloadError::Part(_))));
        *file.lock().expect("ours") = "sessions-max = 14\nudp-port = 9\n".to_owned();
        let again = reloader.reload().expect("right");
        assert_eq!((again.taken.len(), again.waiting.len()), (1, 1));
        let again = reloader.reload().expect("right");
        assert_eq!((again.taken.len(), again.waiting), (0, vec!["udp-port"]));
    }
}
