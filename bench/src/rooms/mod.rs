//! Peers in rooms in number, against the coordinator or another signalling server: offers of a real
//! size from peer to peer, idle connections, peers that come and go, and what all that costs.

pub mod config;
pub mod dialect;
mod engine;
mod epoll;
mod frame;
pub mod host;
mod identity;
mod link;
mod offer;
pub mod page;
mod peer;
mod poll;
pub mod report;
pub mod series;
mod track;
mod view;

use std::time::{Duration, Instant};

use anyhow::Context as _;

pub use config::{Identity, RoomsConfig, Server};
pub use report::{RoomsReport, Thresholds};

use crate::interrupt;
use crate::screen::Screen;
use crate::series::{Phase, Sampler};
use crate::server::{self, CpuSample, CpuUsed};
use engine::{COMING_MAX, Counts, Engine};
use peer::Role;
use series::Sample;
use view::Crowd;

/// How long peers may take to join, beside what the ramp takes.
const JOIN_MAX: Duration = Duration::from_secs(30);
/// How long offers flow before the window.
const SETTLE_MAX: Duration = Duration::from_secs(1);
/// How long what was sent may be on its way after the window, without any of it arriving.
const DRAIN_MAX: Duration = Duration::from_secs(3);
/// How long a server with idle connections is left alone before its memory is looked at.
const REST: Duration = Duration::from_millis(500);
/// Between two looks at what is due.
const TURN: Duration = Duration::from_millis(1);
/// Offers that are sent between two looks at what has come.
const BURST: u64 = 64;

/// What the server's process was at one moment.
#[derive(Debug, Clone)]
struct Look {
    at: Instant,
    counts: Counts,
    server: Option<CpuSample>,
    own: CpuSample,
    rss: Option<u64>,
}

/// What the window was.
struct Window {
    early: Look,
    late: Look,
    /// Longest that an offer left later than it was due.
    behind: Duration,
}

/// Memory before and after idle peers had come, bytes, and how many were there.
struct IdleCost {
    before: Option<u64>,
    after: Option<u64>,
    peers: usize,
}

struct Run<'a> {
    config: &'a RoomsConfig,
    engine: Engine<'a>,
    sampler: Sampler<Counts>,
    screen: Screen<Sample>,
    phase: Phase,
}

/// Runs it.
///
/// # Errors
/// The run cannot be, or its server is not there at all.
pub fn run(config: &RoomsConfig) -> anyhow::Result<RoomsReport> {
    config.check()?;
    let signer = match config.identity {
        Identity::Open => None,
        Identity::Signed => Some(identity::Signer::new(network_id(config)?)),
    };
    if let Some(pid) = config.pid {
        CpuSample::take(pid).with_context(|| format!("--pid {pid}: no such process"))?;
    }
    let mut run = Run {
        config,
        engine: Engine::new(config, signer)?,
        sampler: Sampler::start(config.pid, Counts::default()),
        screen: view::screen(config),
        phase: Phase::Idling,
    };
    let idle = run.idle()?;
    run.enter(Phase::Joining, None);
    run.ramp(config.idle..config.idle + config.talkers())?;
    let window = run.measure()?;
    run.drain()?;
    run.screen.end();
    let server_answers = answers(config);
    Ok(report::report(config, &run.engine, &window, &idle, run.sampler.samples, server_answers))
}

/// Thousands of peers have a socket each: as many as this process may have.
pub fn raise_descriptors() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid, writable rlimit.
    let known = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } == 0;
    if known {
        limit.rlim_cur = limit.rlim_max;
        // SAFETY: `limit` is a valid rlimit. Where it is refused the old one stays, and a socket
        // too many is an error of its peer.
        let _refused = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
    }
}

fn network_id(config: &RoomsConfig) -> anyhow::Result<String> {
    let path = "/webrtc/info?v=1";
    let answer = config.base.request("GET", path, None, "")?;
    let info: serde_json::Value = serde_json::from_str(&answer.body)
        .with_context(|| format!("{path} answers {} and no JSON", answer.status))?;
    let id = info["networkId"].as_str();
    id.map(str::to_owned).with_context(|| format!("{path} names no networkId"))
}

fn answers(config: &RoomsConfig) -> bool {
    let path = if config.is_ours() { "/webrtc/health" } else { "/" };
    config.base.request("GET", path, None, "").is_ok()
}

impl Run<'_> {
    fn enter(&mut self, phase: Phase, span: Option<Duration>) {
        self.phase = phase;
        self.screen.enter(phase, span);
    }

    /// One turn of everything.
    fn turn(&mut self, span: Duration) -> anyhow::Result<()> {
        self.engine.turn(span)?;
        let engine = &mut self.engine;
        let look = || (engine.counts.clone(), std::mem::take(&mut engine.recent));
        if let Some(sample) = self.sampler.tick(self.phase, look) {
            self.screen.sample(&sample);
        }
        let peers = self.config.talkers() + self.config.idle;
        self.screen.draw(&Crowd { counts: &self.engine.counts, peers });
        Ok(())
    }

    fn look(&self) -> anyhow::Result<Look> {
        Ok(Look {
            at: Instant::now(),
            counts: self.engine.counts.clone(),
            server: self.config.pid.map(CpuSample::take).transpose()?,
            own: CpuSample::take(std::process::id())?,
            rss: self.rss(),
        })
    }

    fn rss(&self) -> Option<u64> {
        self.config.pid.and_then(|pid| server::rss_bytes(pid).ok())
    }

    fn idle(&mut self) -> anyhow::Result<IdleCost> {
        let before = self.rss();
        if self.config.idle > 0 {
            self.enter(Phase::Idling, None);
            self.ramp(0..self.config.idle)?;
            let until = Instant::now() + REST;
            while Instant::now() < until && !interrupt::asked() {
                self.turn(TURN)?;
            }
        }
        let peers = self.engine.ready_of(|role| role == Role::Idle);
        Ok(IdleCost { before, after: self.rss(), peers })
    }

    /// Has these peers come, so many a second, and waits until each is there or refused.
    fn ramp(&mut self, peers: std::ops::Range<usize>) -> anyhow::Result<()> {
        let each = f64::from(self.config.ramp_per_second.max(1)).recip();
        let began = Instant::now();
        let limit = Duration::from_secs_f64(peers.len() as f64 * each) + JOIN_MAX;
        let mut next = peers.start;
        while (next < peers.end || self.engine.coming > 0)
            && began.elapsed() < limit
            && !interrupt::asked()
        {
            while next < peers.end
                && self.engine.coming < COMING_MAX
                && (next - peers.start) as f64 * each <= began.elapsed().as_secs_f64()
            {
                self.engine.bring(next as u32);
                next += 1;
            }
            self.turn(TURN)?;
        }
        Ok(())
    }

    /// Lets offers flow, and counts in the window.
    fn measure(&mut self) -> anyhow::Result<Window> {
        let settle = SETTLE_MAX.min(self.config.duration / 4);
        self.enter(Phase::Settling, Some(settle));
        let mut pace = Pace::new(self.config.signals_per_second, self.config.talkers());
        self.flow(settle, &mut pace, &mut Pace::new(0.0, 0))?;
        self.enter(Phase::Measuring, Some(self.config.duration));
        self.engine.measured_from_ns = self.engine.now_ns();
        let early = self.look()?;
        pace.behind = Duration::ZERO;
        let mut churn = Pace::new(f64::from(self.config.churn_per_second), usize::MAX);
        self.flow(self.config.duration, &mut pace, &mut churn)?;
        let late = self.look()?;
        Ok(Window { early, late, behind: pace.behind })
    }

    fn flow(&mut self, span: Duration, pace: &mut Pace, churn: &mut Pace) -> anyhow::Result<()> {
        let until = Instant::now() + span;
        loop {
            let now = Instant::now();
            if now >= until || interrupt::asked() {
                return Ok(());
            }
            for _ in 0..pace.due(now).min(BURST) {
                self.engine.send(pace.turn() as u32);
            }
            for _ in 0..churn.due(now).min(BURST) {
                churn.turn();
                if self.engine.coming < COMING_MAX {
                    self.engine.bring_passer();
                }
            }
            // What is late is sent at once, between two looks at what has come.
            self.turn(if pace.due(now) > 0 { Duration::ZERO } else { TURN })?;
        }
    }

    /// Waits for what is on its way, and for passers to be gone.
    fn drain(&mut self) -> anyhow::Result<()> {
        self.enter(Phase::Draining, None);
        let progress = |engine: &Engine<'_>| {
            (engine.counts.delivered, engine.ready_of(|role| role == Role::Passer))
        };
        let (mut seen, mut at) = (progress(&self.engine), Instant::now());
        while at.elapsed() < DRAIN_MAX && !interrupt::asked() {
            if seen.0 >= self.engine.counts.sent && seen.1 == 0 && self.engine.coming == 0 {
                break;
            }
            self.turn(TURN)?;
            let now = progress(&self.engine);
            if now != seen {
                (seen, at) = (now, Instant::now());
            }
        }
        self.engine.ending = true;
        Ok(())
    }
}

/// Has something done so many times a second, by turns.
struct Pace {
    per_second: f64,
    among: usize,
    began: Instant,
    done: u64,
    behind: Duration,
}

impl Pace {
    fn new(per_second: f64, among: usize) -> Self {
        let per_second = if among == 0 { 0.0 } else { per_second };
        Self { per_second, among, began: Instant::now(), done: 0, behind: Duration::ZERO }
    }

    /// How many are due.
    fn due(&mut self, now: Instant) -> u64 {
        let asked = now.duration_since(self.began).as_secs_f64() * self.per_second;
        let due = (asked as u64).saturating_sub(self.done);
        if due > 0 {
            let behind = (asked - self.done as f64 - 1.0).max(0.0) / self.per_second;
            self.behind = self.behind.max(Duration::from_secs_f64(behind));
        }
        due
    }

    /// Whose turn it is.
    fn turn(&mut self) -> u64 {
        self.done += 1;
        (self.done - 1) % self.among.max(1) as u64
    }
}

impl Window {
    fn seconds(&self) -> f64 {
        self.late.at.duration_since(self.early.at).as_secs_f64()
    }

    fn server(&self) -> Option<CpuUsed> {
        Some(self.late.server.as_ref()?.since(self.early.server.as_ref()?))
    }

    fn own(&self) -> CpuUsed {
        self.late.own.since(&self.early.own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pace_is_kept_and_being_behind_is_seen() {
        let mut pace = Pace::new(100.0, 3);
        let at = |ms: u64| Duration::from_millis(ms);
        let began = pace.began;
        assert_eq!(pace.due(began), 0);
        assert_eq!(pace.due(began + at(1000)), 100);
        let turns: Vec<u64> = (0..4).map(|_| pace.turn()).collect();
        assert_eq!(turns, [0, 1, 2, 0]);
        assert_eq!(pace.due(began + at(1000)), 96);
        assert_eq!(pace.behind, Duration::from_millis(990), "the first was due at 10 ms");
        assert_eq!(Pace::new(100.0, 0).due(began + at(5000)), 0, "nobody is there to send");
    }
}
