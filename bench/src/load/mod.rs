//! A load run: publishers, then viewers at a steady rate, then a window in which all is counted.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use self::recruit::{Errand, News, Office, Recruiters};
use self::series::{Counts, Gauges, Sample};
use self::ticks::LongestTick;
use self::view::Crowd;
use crate::client::{JoinWith, Joiner, Role};
use crate::interrupt;
use crate::metrics::Metrics;
use crate::pay::{Bank, BankConfig, Purse};
use crate::payload::Kind;
use crate::publisher::{Published, Publisher};
use crate::report::{Report, Ticks};
use crate::screen::Screen;
use crate::series::{Phase, Sampler};
use crate::server::{self, CpuSample};
use crate::viewer::{Check, Viewer};
use crate::worker::{Command, Live, Outcome, Worker, WorkerConfig};

mod account;
mod config;
pub mod page;
mod recruit;
pub mod series;
mod ticks;
mod view;

pub use self::config::{ConfigError, LoadConfig, PayConfig};

/// Between the last join and the window.
const SETTLE: Duration = Duration::from_secs(1);
/// Between the window and the count: retransmissions of its last packets arrive.
const DRAIN: Duration = Duration::from_millis(1500);
/// How long publishers may take to connect, and viewers to play after the last join.
const PLAYING_MAX: Duration = Duration::from_secs(20);
/// The server creates a stream at its first packets: they arrive before viewers ask.
const FIRST_PACKETS: Duration = Duration::from_millis(300);
/// Between two turns of the main thread: while something is due to the millisecond, and else.
const TURN: Duration = Duration::from_millis(2);
const IDLE_TURN: Duration = Duration::from_millis(25);
/// How long workers may take to hear that the run is over.
const LEAVE_MAX: Duration = Duration::from_secs(5);
/// How long the chain may take to pay out what is on its way at the end.
const REDEEM_MAX: Duration = Duration::from_secs(10);
/// Viewers that were told to leave and still linger hold their pools: spare ones, in seconds of
/// churn.
const SPARE_SEATS_SECONDS: usize = 4;

/// Runs it; `Err` when nothing could be measured.
///
/// # Errors
/// A configuration that cannot be, a server that does not answer, no viewer that plays.
pub fn run(config: &LoadConfig) -> anyhow::Result<Report> {
    config.check()?;
    if let Some(pid) = config.pid {
        CpuSample::take(pid).with_context(|| format!("process {pid}, as --pid says"))?;
    }
    let bank = config.pay.as_ref().map(|pay| {
        if config.show == crate::screen::Show::Always {
            eprintln!(
                "opening a pool for each viewer, registering {} streams",
                config.all_publishers()
            );
        }
        let seconds = config.duration.as_secs()
            + config.all_viewers() as u64 / u64::from(config.ramp_per_second.max(1));
        let churn = config.churn_per_second as usize;
        let seats = config.all_viewers() + churn.saturating_mul(SPARE_SEATS_SECONDS);
        let streams = (0..config.all_publishers()).map(|number| config.stream_of(number));
        Bank::open(&BankConfig {
            base: pay.base.clone(),
            funds: pay.funds.clone(),
            streams: streams.collect(),
            seats,
            rate: pay.rate,
            seconds,
        })
    });
    let bank = bank.transpose()?.map(Arc::new);
    let joiner = Joiner::new(config.target.clone(), config.bearer.clone(), config.gro)?;
    let mut run = Run::start(config, joiner, bank.clone())?;
    let outcome = run.publish().and_then(|()| run.view()).and_then(|()| run.measure());
    run.screen.end();
    let ended = run.finish()?;
    let window = outcome?;
    let payments =
        bank.as_ref().map(|bank| account::payments(bank, &ended.outcomes)).transpose()?;
    bank.map_or(Ok(()), |bank| bank.close()).context("closing the viewers' pools")?;
    Ok(account::report(config, window, ended, payments))
}

/// A viewer that is there.
struct Member {
    number: usize,
    publisher: u16,
    worker: usize,
    session_path: Option<String>,
}

struct Run<'a> {
    config: &'a LoadConfig,
    joiner: Arc<Joiner>,
    bank: Option<Arc<Bank>>,
    live: Arc<Live>,
    published: Vec<Arc<Published>>,
    workers: Vec<Sender<Command>>,
    threads: Vec<JoinHandle<std::io::Result<Outcome>>>,
    recruiters: Recruiters,
    purses: Receiver<Purse>,
    departed: Receiver<String>,
    publishers: Vec<String>,
    members: VecDeque<Member>,
    /// Those that count no longer, and when they go.
    departing: VecDeque<(Instant, Member, [u64; 2])>,
    /// Viewers that were to join, and that were let in.
    asked: usize,
    admitted: u64,
    churned: usize,
    refused: Vec<String>,
    failed: Option<crate::client::JoinError>,
    rss_before: Option<u64>,
    joining: Joining,
    phase: Phase,
    gauges: Gauges,
    sampler: Sampler<Counts>,
    screen: Screen<Sample>,
}

/// What the joining cost the server.
#[derive(Debug, Clone, Copy, Default)]
struct Joining {
    cpu: Option<server::CpuUsed>,
    joins: u64,
    ticks: Option<Ticks>,
}

/// What the main thread saw at the edges of the window.
struct Window {
    seconds: f64,
    /// Counters `from..until` of audio and video, by publisher.
    audio: Vec<(u64, u64)>,
    video: Vec<(u64, u64)>,
    cpu: Option<server::CpuUsed>,
    rss: Option<u64>,
    metrics: Option<(Metrics, Metrics)>,
    own_cpu: server::CpuUsed,
    sink_dropped: u64,
    /// At its end the server took a request.
    server_answers: bool,
}

/// What is left of a run when its threads have ended.
struct Ended {
    outcomes: Vec<Outcome>,
    live: Arc<Live>,
    asked: usize,
    churned: usize,
    refused: Vec<String>,
    rss_before: Option<u64>,
    joining: Joining,
    samples: Vec<Sample>,
}

impl<'a> Run<'a> {
    fn start(
        config: &'a LoadConfig,
        joiner: Joiner,
        bank: Option<Arc<Bank>>,
    ) -> anyhow::Result<Self> {
        let count = config.threads.max(1);
        let idle_looks = (0..count).map(|_| AtomicU64::new(0)).collect();
        let live = Arc::new(Live { idle_looks, ..Live::default() });
        let (recent, latencies) = channel();
        let (purse_sender, purses) = channel();
        let (departed_sender, departed) = channel();
        let settings = WorkerConfig {
            awaited: config.awaited(),
            gro: config.gro,
            drop_share: config.drop_share,
            recent,
            purses: purse_sender,
            departed: departed_sender,
        };
        let (mut workers, mut threads) = (Vec::new(), Vec::new());
        for number in 0..count {
            let (sender, receiver) = channel();
            let worker = Worker::new(number, receiver, Arc::clone(&live), settings.clone())?;
            let thread = std::thread::Builder::new().name(format!("clients-{number}"));
            threads.push(thread.spawn(move || worker.run())?);
            workers.push(sender);
        }
        let joiner = Arc::new(joiner);
        let office = Office {
            joiner: Arc::clone(&joiner),
            sink: config.sink.clone(),
            bank: bank.clone(),
            workers: workers.clone(),
        };
        let published: Vec<Arc<Published>> =
            (0..config.all_publishers()).map(|_| Arc::default()).collect();
        let gauges = Gauges {
            live: Arc::clone(&live),
            published: published.clone(),
            sink: config.sink.clone(),
            recent: latencies,
        };
        let sampler = Sampler::start(config.pid, gauges.look().0);
        Ok(Self {
            config,
            joiner,
            bank,
            live,
            published,
            workers,
            threads,
            recruiters: Recruiters::start(&office)?,
            purses,
            departed,
            publishers: Vec::new(),
            members: VecDeque::new(),
            departing: VecDeque::new(),
            asked: 0,
            admitted: 0,
            churned: 0,
            refused: Vec::new(),
            failed: None,
            rss_before: None,
            joining: Joining::default(),
            phase: Phase::Publishing,
            gauges,
            sampler,
            screen: view::screen(config),
        })
    }

    fn publish(&mut self) -> anyhow::Result<()> {
        self.enter(Phase::Publishing, None);
        for number in 0..self.config.all_publishers() {
            let stream = self.config.stream_of(number);
            let bank = self.bank.clone();
            let mut exchange = |offer: &str| match &bank {
                Some(bank) => bank.publish(&stream, offer),
                None => Err(crate::client::JoinError::Paying("nobody pays".to_owned())),
            };
            let with = match self.bank.is_some() {
                true => JoinWith { exchange: Some(&mut exchange), ..JoinWith::default() },
                false => JoinWith::default(),
            };
            let joined = self.joiner.join_with(Role::Publisher, &stream, with);
            let joined = joined.with_context(|| format!("publishing {stream}"))?;
            self.publishers.extend(joined.session_path.clone());
            let (published, trace) = (&self.published[number], &self.config.trace);
            let code = u16::try_from(number).context("publishers beyond what a packet names")?;
            let publisher =
                Box::new(Publisher::new(code, Arc::clone(trace), Arc::clone(published)));
            let worker = number % self.workers.len();
            self.tell(worker, Command::Publish(Box::new(joined), publisher))?;
            self.pump();
        }
        let wanted = self.config.all_publishers() as u64;
        if !self.wait(PLAYING_MAX, |run| load(&run.live.publishing) >= wanted) {
            self.stop_if_asked()?;
            bail!("{} of {wanted} publishers connected", load(&self.live.publishing));
        }
        self.wait(FIRST_PACKETS, |_| false);
        self.rss_before = self.config.pid.and_then(|pid| server::rss_bytes(pid).ok());
        Ok(())
    }

    fn view(&mut self) -> anyhow::Result<()> {
        self.enter(Phase::Joining, None);
        let (early_cpu, early_metrics) = (self.cpu()?, self.metrics());
        let mut longest = LongestTick::default();
        let began = Instant::now();
        let gap = Duration::from_secs(1) / self.config.ramp_per_second.max(1);
        for number in 0..self.config.all_viewers() {
            let due = began + gap * u32::try_from(number).unwrap_or(u32::MAX);
            while Instant::now() < due {
                self.pump();
                std::thread::sleep(due.saturating_duration_since(Instant::now()).min(TURN));
            }
            self.stop_if_asked()?;
            longest.look(|| self.metrics());
            self.invite(self.config.watched_by(number), false);
            self.pump();
            if let Some(error) = self.failed.take() {
                return Err(error).context("viewing");
            }
        }
        // Those who never play are counted and named by the verdict; the others are measured.
        self.wait(PLAYING_MAX, Self::all_settled);
        self.stop_if_asked()?;
        if let Some(error) = self.failed.take() {
            return Err(error).context("viewing");
        }
        let (late_cpu, late_metrics) = (self.cpu()?, self.metrics());
        longest.take(late_metrics.as_ref());
        self.joining = Joining {
            cpu: early_cpu.zip(late_cpu).map(|(early, late)| late.since(&early)),
            joins: load(&self.live.connected),
            ticks: early_metrics
                .zip(late_metrics)
                .and_then(|(early, late)| longest.ticks(&early, &late)),
        };
        if self.config.all_viewers() > 0 && load(&self.live.playing) == 0 {
            let connected = load(&self.live.connected);
            let unheard = format!(
                "{connected} connected and no media came: is the stream live, does it begin with a \
                 keyframe, are the viewers let in?"
            );
            bail!("no viewer plays: {}", self.refused.first().unwrap_or(&unheard));
        }
        Ok(())
    }

    fn measure(&mut self) -> anyhow::Result<Window> {
        self.enter(Phase::Settling, Some(SETTLE));
        self.wait(SETTLE, |_| false);
        self.stop_if_asked()?;
        let early_metrics = self.metrics();
        self.tell_all(|| Command::Measure(true))?;
        // A server that ends from here on is told by the verdict, not by an error.
        let (cpu_began, sink_from) = (self.cpu()?, self.sink_dropped()?);
        self.enter(Phase::Measuring, Some(self.config.duration));
        let (began, own_pid) = (Instant::now(), std::process::id());
        let own_began = CpuSample::take(own_pid)?;
        let from = self.counters();
        while began.elapsed() < self.config.duration && !interrupt::asked() {
            self.churn(began.elapsed());
            self.pump();
            let left = self.config.duration.saturating_sub(began.elapsed());
            let turn = if self.config.churn_per_second > 0 { TURN } else { IDLE_TURN };
            std::thread::sleep(left.min(turn));
        }
        let (until, sink_until) = (self.counters(), self.sink_dropped()?);
        // A server that has ended in between is told by the verdict; what was seen counts.
        let cpu_ended = self.cpu().ok().flatten();
        let seconds = began.elapsed().as_secs_f64();
        let own_cpu = CpuSample::take(own_pid)?.since(&own_began);
        self.tell_all(|| Command::Measure(false))?;
        let late_metrics = self.metrics();
        let server_answers = self.config.target.base().request("GET", "/", None, "").is_ok();
        let rss = self.config.pid.and_then(|pid| server::rss_bytes(pid).ok());
        self.enter(Phase::Draining, Some(DRAIN));
        let drained = Instant::now() + DRAIN;
        while Instant::now() < drained {
            self.pump();
            std::thread::sleep(TURN);
        }
        if self.churned > 0 {
            self.wait(PLAYING_MAX, Self::all_settled);
        }
        self.catch_up();
        let pair = |kind: usize| -> Vec<(u64, u64)> {
            from.iter().zip(&until).map(|(from, until)| (from[kind], until[kind])).collect()
        };
        Ok(Window {
            seconds,
            audio: pair(0),
            video: pair(1),
            cpu: cpu_began.zip(cpu_ended).map(|(began, ended)| ended.since(&began)),
            rss,
            metrics: early_metrics.zip(late_metrics),
            own_cpu,
            sink_dropped: sink_until.saturating_sub(sink_from),
            server_answers,
        })
    }

    /// All that were to join have what they wait for, were refused, or have ended.
    fn all_settled(&self) -> bool {
        let settled = load(&self.live.ready) + load(&self.live.ended);
        self.admitted + self.refused.len() as u64 >= self.asked as u64 && settled >= self.admitted
    }

    /// Lets one more viewer join; in the window it counts from its own first packet.
    fn invite(&mut self, publisher: usize, late: bool) {
        let number = self.asked;
        self.asked += 1;
        let whole = number.is_multiple_of(self.config.sample_every.max(1));
        let check = if whole { Check::Whole } else { Check::Record };
        let code = u16::try_from(publisher).expect("the configuration bounds publishers");
        let mut viewer = Box::new(Viewer::new(code, check));
        (viewer.number, viewer.late) = (number, late);
        viewer.hears = self.config.hears(number);
        let stream = self.config.stream_of(publisher);
        let worker = number % self.workers.len();
        self.recruiters.send(Errand::Join { stream, viewer, worker });
    }

    /// Lets as many leave, and as many join, as are due by now.
    fn churn(&mut self, into_window: Duration) {
        let due = into_window.as_secs_f64() * f64::from(self.config.churn_per_second);
        while (self.churned as f64) + 1.0 <= due {
            let Some(member) = self.members.pop_front() else { return };
            self.churned += 1;
            let publisher = usize::from(member.publisher);
            let counters = self.counters_of(publisher);
            // It stays until what was sent before has come, retransmissions included.
            self.departing.push_back((Instant::now() + DRAIN, member, counters));
            self.invite(publisher, true);
        }
    }

    /// One turn of the main thread: what came of errands, who goes, what is to be seen.
    fn pump(&mut self) {
        for news in self.recruiters.news() {
            match news {
                News::Joined { number, publisher, worker, session_path } => {
                    self.admitted += 1;
                    self.members.push_back(Member { number, publisher, worker, session_path });
                }
                News::Refused(why) => self.refused.push(why),
                News::Failed(error) if self.phase == Phase::Joining => self.failed = Some(error),
                News::Failed(error) => self.refused.push(error.to_string()),
            }
        }
        if let Some(bank) = &self.bank {
            self.purses.try_iter().for_each(|purse| bank.give_back(purse));
        }
        while self.departing.front().is_some_and(|(at, ..)| *at <= Instant::now()) {
            if let Some((_, member, counters)) = self.departing.pop_front() {
                // A worker that has ended says why when it is joined.
                let Member { number, worker, session_path, .. } = member;
                let _gone = self.tell(worker, Command::Depart(number, counters, session_path));
            }
        }
        self.departed.try_iter().for_each(|path| self.recruiters.send(Errand::Leave(path)));
        if let Some(sample) = self.sampler.tick(self.phase, || self.gauges.look()) {
            self.screen.sample(&sample);
        }
        let viewers = self.config.all_viewers();
        let (asked, refused) = (self.asked, self.refused.len());
        self.screen.draw(&Crowd { live: &self.live, viewers, asked, refused });
    }

    fn enter(&mut self, phase: Phase, span: Option<Duration>) {
        self.phase = phase;
        self.screen.enter(phase, span);
    }

    /// Turns until `done` or for `span`; whether it was done.
    fn wait(&mut self, span: Duration, done: impl Fn(&Self) -> bool) -> bool {
        let until = Instant::now() + span;
        while Instant::now() < until && !interrupt::asked() {
            self.pump();
            if done(self) {
                return true;
            }
            std::thread::sleep(until.saturating_duration_since(Instant::now()).min(TURN));
        }
        done(self)
    }

    /// Waits until every worker has once found its sockets empty: what arrived is counted, also by
    /// a generator that got too little of the machine.
    fn catch_up(&mut self) {
        let looks = |live: &Live| -> Vec<u64> { live.idle_looks.iter().map(load).collect() };
        let before = looks(&self.live);
        self.wait(PLAYING_MAX, |run| {
            looks(&run.live).iter().zip(&before).all(|(now, before)| now > before)
        });
    }

    fn stop_if_asked(&self) -> anyhow::Result<()> {
        if interrupt::asked() {
            bail!("interrupted before the window began: nothing was measured");
        }
        Ok(())
    }

    fn finish(mut self) -> anyhow::Result<Ended> {
        // A worker that has already ended says why when it is joined. The others must know before
        // the first session is deleted, or its end would count as the server's doing.
        let _ended = self.tell_all(|| Command::Leave);
        let told = Instant::now();
        while load(&self.live.leaving) < self.workers.len() as u64 && told.elapsed() < LEAVE_MAX {
            std::thread::sleep(TURN);
        }
        let members =
            self.members.drain(..).chain(self.departing.drain(..).map(|(_, member, _)| member));
        let paths = members.filter_map(|member| member.session_path);
        let departed = self.departed.try_iter();
        for path in departed.chain(paths).chain(self.publishers.drain(..)) {
            self.recruiters.send(Errand::Leave(path));
        }
        self.recruiters.finish();
        let mut outcomes = Vec::new();
        for (commands, thread) in self.workers.iter().zip(self.threads) {
            // A worker that has already ended says why when it is joined.
            let _ended = commands.send(Command::Stop);
            let outcome = thread.join().map_err(|_| anyhow::anyhow!("a worker panicked"))?;
            outcomes.push(outcome.context("driving clients")?);
        }
        if let Some(bank) = &self.bank {
            self.purses.try_iter().for_each(|purse| bank.give_back(purse));
        }
        Ok(Ended {
            outcomes,
            live: self.live,
            asked: self.asked,
            churned: self.churned,
            refused: self.refused,
            rss_before: self.rss_before,
            joining: self.joining,
            samples: self.sampler.samples,
        })
    }

    fn tell(&self, worker: usize, command: Command) -> anyhow::Result<()> {
        self.workers[worker].send(command).ok().context("a worker has ended")
    }

    fn tell_all(&self, command: impl Fn() -> Command) -> anyhow::Result<()> {
        (0..self.workers.len()).try_for_each(|worker| self.tell(worker, command()))
    }

    fn counters(&self) -> Vec<[u64; 2]> {
        (0..self.published.len()).map(|publisher| self.counters_of(publisher)).collect()
    }

    fn counters_of(&self, publisher: usize) -> [u64; 2] {
        let published = &self.published[publisher];
        [published.next(Kind::Audio), published.next(Kind::Video)]
    }

    fn cpu(&self) -> anyhow::Result<Option<CpuSample>> {
        let Some(pid) = self.config.pid else { return Ok(None) };
        Ok(Some(CpuSample::take(pid).with_context(|| format!("process {pid}"))?))
    }

    fn sink_dropped(&self) -> anyhow::Result<u64> {
        let dropped = self.config.sink.as_ref().map(|sink| sink.dropped()).transpose();
        Ok(dropped.context("asking the sink")?.unwrap_or(0))
    }

    fn metrics(&self) -> Option<Metrics> {
        let answer = self.config.target.base().request("GET", "/metrics", None, "").ok()?;
        let metrics = Metrics::parse(&answer.body);
        (answer.status == 200 && !metrics.is_empty()).then_some(metrics)
    }
}

fn load(cell: &AtomicU64) -> u64 {
    cell.load(Ordering::Relaxed)
}
