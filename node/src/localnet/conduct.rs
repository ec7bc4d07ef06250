//! The life of a network: comes up in order, is tended and shown, ends in order.

use std::{
    collections::VecDeque,
    io::{self, Write},
    net::SocketAddr,
    thread,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, anyhow, bail};
use crossbeam_channel::{Receiver, bounded, never, select};
use tokio::signal::unix::{SignalKind, signal};
use wallet::http::{Request, Url};

use super::{
    member::{Event, Life, Member},
    net::{Dir, Net},
    screen::{self, View, relay_url, short_hash},
    sight::{Agreement, Pace, Sight, Watch, agreement},
    terminal::{Line, Order, Terminal},
};
use crate::{banner, demo};

/// Between two looks at the nodes.
const TICK: Duration = Duration::from_millis(100);
/// Between two frames of the screen.
const FRAME: Duration = Duration::from_millis(250);
/// Between two lines about a network that goes well, where there is no screen.
const REPORT: Duration = Duration::from_secs(10);
/// The relay is started when the chain is here: its first header needs one before it.
const RELAY_HEIGHT_MIN: u64 = 2;
/// How long a node may take to end; then it is killed.
const END_MAX: Duration = Duration::from_secs(20);
/// Events that the screen keeps.
const EVENTS_MAX: usize = 6;
/// Between two questions whether the relay is ready.
const READY_POLL: Duration = Duration::from_millis(250);

/// A network that runs.
pub struct Conductor {
    dir: Dir,
    net: Net,
    nodes: Vec<Member>,
    relay: Option<Member>,
    watch: Watch,
    begun: Instant,
    pace: Pace,
    events: VecDeque<String>,
    terminal: Option<Terminal>,
    line: Line,
    /// Blocks are made.
    is_live: bool,
    /// Everything is up, and the person was told what to do next.
    is_ready: bool,
    ready_asked_at: Option<Instant>,
}

/// What a turn of the loop has brought.
enum Turn {
    GoOn,
    End,
}

impl Conductor {
    /// Nothing is started yet.
    ///
    /// # Errors
    /// The system gives no threads.
    pub fn new(
        dir: Dir,
        net: Net,
        nodes: Vec<Member>,
        relay: Option<Member>,
        about: &str,
        now: Instant,
    ) -> anyhow::Result<Self> {
        let watch = Watch::start(&net.nodes).context("no threads to watch the validators")?;
        let terminal = Terminal::open();
        let mut conductor = Self {
            dir,
            net,
            nodes,
            relay,
            watch,
            begun: now,
            pace: Pace::new(SystemTime::now()),
            events: VecDeque::new(),
            terminal,
            line: Line::default(),
            is_live: false,
            is_ready: false,
            ready_asked_at: None,
        };
        let (count, chain_id) = (conductor.nodes.len(), conductor.net.chain_id.clone());
        let dir = conductor.dir.path().display().to_string();
        conductor.tell(format!("{chain_id}: {count} validators, {about}, in {dir}"));
        Ok(conductor)
    }

    /// Until Ctrl-C, SIGTERM or `q`.
    ///
    /// # Errors
    /// The network does not come up, in a sentence. All its processes have ended.
    pub fn run(mut self) -> anyhow::Result<()> {
        let signals = signals()?;
        let keys = self.terminal.as_ref().and_then(Terminal::keys);
        let can_type = keys.is_some();
        let keys = keys.unwrap_or_else(never);
        for number in 0..self.nodes.len() {
            let event = self.nodes[number].start(Instant::now());
            self.note(number, &event);
        }
        let (mut shown_at, mut reported_at) = (None, Instant::now());
        let outcome = loop {
            select! {
                recv(signals) -> _ => break Ok(()),
                recv(keys) -> key => {
                    if let Turn::End = self.key(key.ok()) {
                        break Ok(());
                    }
                }
                default(TICK) => {}
            }
            let now = Instant::now();
            let sights = self.watch.sights();
            if let Err(error) = self.tend(&sights, now) {
                break Err(error);
            }
            let is_due =
                |at: Option<Instant>, pause| at.is_none_or(|at| now.duration_since(at) >= pause);
            if self.terminal.is_some() && is_due(shown_at, FRAME) {
                shown_at = Some(now);
                self.show(&sights, can_type);
            }
            if self.terminal.is_none() && self.is_ready && is_due(Some(reported_at), REPORT) {
                reported_at = now;
                self.report(&sights);
            }
        };
        self.end(&signals);
        outcome
    }

    fn key(&mut self, key: Option<u8>) -> Turn {
        match key.and_then(|key| self.line.key(key)) {
            Some(Order::Quit) => return Turn::End,
            Some(Order::Toggle(number)) if number < self.nodes.len() => {
                match self.nodes[number].life() {
                    Life::Up { .. } | Life::Restarting => {
                        self.nodes[number].hold();
                        self.tell(format!("node{number} was killed; k {number} starts it again"));
                    }
                    Life::Waiting | Life::Held | Life::Failed(_) | Life::Ended => {
                        let event = self.nodes[number].start(Instant::now());
                        self.note(number, &event);
                    }
                }
            }
            Some(Order::Toggle(number)) => self.tell(format!("there is no node{number}")),
            None => {}
        }
        Turn::GoOn
    }

    /// Looks after all nodes, and brings the network a step further.
    fn tend(&mut self, sights: &[Option<Sight>], now: Instant) -> anyhow::Result<()> {
        for number in 0..self.nodes.len() {
            if let Some(event) = self.nodes[number].tend(now) {
                self.note(number, &event);
                if let (Event::GivenUp(words), false) = (event, self.is_live) {
                    bail!(
                        "node{number} does not start: {words}; its log is {}",
                        self.nodes[number].log().display()
                    );
                }
            }
        }
        let newest = sights.iter().flatten().max_by_key(|sight| sight.height);
        let height = newest.map_or(0, |sight| sight.height);
        if let Some(newest) = newest.filter(|newest| newest.height > 0) {
            self.pace.note(newest.height, newest.time_ms);
        }
        if !self.is_live && self.pace.has_block() {
            self.is_live = true;
            self.tell(format!("blocks are made, after {}", seconds(self.begun.elapsed())));
        }
        let height = if self.is_live { height } else { 0 };
        self.tend_relay(height, now)?;
        if !self.is_ready && self.is_live && self.relay_is_ready(height, now) {
            self.is_ready = true;
            self.tell(format!("ready after {}", seconds(self.begun.elapsed())));
            if self.terminal.is_none() {
                self.next_steps().iter().for_each(|step| say(step));
            }
        }
        Ok(())
    }

    fn tend_relay(&mut self, height: u64, now: Instant) -> anyhow::Result<()> {
        let Some(relay) = &mut self.relay else { return Ok(()) };
        let event = match relay.life() {
            Life::Waiting if height >= RELAY_HEIGHT_MIN => Some(relay.start(now)),
            Life::Waiting => None,
            _ => relay.tend(now),
        };
        let log = relay.log();
        let Some(event) = event else { return Ok(()) };
        let url = relay_url(self.net.relay.http);
        self.tell(match &event {
            Event::Started { pid } => format!("relay started, pid {pid}, {url}"),
            other => told("relay", other),
        });
        match event {
            Event::GivenUp(words) if !self.is_ready => {
                Err(anyhow!("the relay does not start: {words}; its log is {}", log.display()))
            }
            _ => Ok(()),
        }
    }

    /// Whether the relay says that it is ready; where there is none, whether the chain is here.
    fn relay_is_ready(&mut self, height: u64, now: Instant) -> bool {
        match &self.relay {
            None => height >= RELAY_HEIGHT_MIN,
            Some(relay) => {
                let asked =
                    self.ready_asked_at.is_some_and(|at| now.duration_since(at) < READY_POLL);
                if asked || !matches!(relay.life(), Life::Up { .. }) {
                    return false;
                }
                self.ready_asked_at = Some(now);
                answers_ready(self.net.relay.http)
            }
        }
    }

    fn note(&mut self, number: usize, event: &Event) {
        let name = &self.nodes[number].name;
        self.tell(match event {
            Event::Started { pid } => {
                let rpc = self.net.nodes[number].rpc;
                format!("{name} started, pid {pid}, rpc http://127.0.0.1:{rpc}")
            }
            other => told(name, other),
        });
    }

    /// For the screen, or a line where there is none.
    fn tell(&mut self, text: String) {
        if self.terminal.is_none() {
            say(&text);
        }
        if self.events.len() == EVENTS_MAX {
            self.events.pop_front();
        }
        self.events.push_back(text);
    }

    /// What a person does with the network.
    fn next_steps(&self) -> Vec<String> {
        let rpc = self.net.nodes.first().map_or(0, |node| node.rpc);
        match self.relay {
            None => vec![format!("ask the chain: curl http://127.0.0.1:{rpc}/status")],
            Some(_) => {
                let url = relay_url(self.net.relay.http);
                vec![
                    format!("open {url}/watch/{}", demo::NAME),
                    format!(
                        "or pay from here: sutantra-node wallet create, faucet, open --deposit 1, watch {};",
                        demo::NAME
                    ),
                    format!("each with --url {url} --rpc {url}/rpc"),
                ]
            }
        }
    }

    fn show(&self, sights: &[Option<Sight>], can_type: bool) {
        let Some(terminal) = &self.terminal else { return };
        let next = match self.is_ready {
            true => self.next_steps(),
            false => vec!["wait a moment: it comes up".to_owned()],
        };
        let nodes = self.nodes.iter().zip(sights).zip(&self.net.nodes);
        let events: Vec<String> = self.events.iter().cloned().collect();
        let view = View {
            chain_id: &self.net.chain_id,
            dir: self.dir.path(),
            nodes: nodes
                .map(|((node, sight), ports)| (node.life(), sight.as_ref(), ports.rpc))
                .collect(),
            relay: self
                .relay
                .as_ref()
                .map(|relay| (relay.life(), self.is_ready, self.net.relay.http)),
            agreement: &agreement(sights),
            block_ms: self.pace.block_ms(),
            next: &next,
            events: &events,
            typed: can_type.then(|| self.line.text()),
        };
        let no_color = std::env::var("NO_COLOR").ok();
        terminal.show(&screen::render(&view, banner::wants_colour(true, no_color.as_deref())));
    }

    fn report(&self, sights: &[Option<Sight>]) {
        let height = sights.iter().flatten().map(|sight| sight.height).max().unwrap_or(0);
        let answering = sights.iter().flatten().count();
        let state = match agreement(sights) {
            Agreement::Equal { height, app_hash } => {
                format!("the same app hash {} at height {height}", short_hash(&app_hash))
            }
            Agreement::Different { height } => format!("THE APP HASHES DIFFER at height {height}"),
            Agreement::Unknown => "app hashes not compared".to_owned(),
        };
        say(&format!("height {height}, {answering} of {} validators, {state}", sights.len()));
    }

    /// First the relay, which hands its last vouchers to the chain; then the validators.
    fn end(&mut self, signals: &Receiver<()>) {
        self.terminal = None;
        say("stopping; Ctrl-C again kills");
        if let Some(relay) = &mut self.relay {
            end_all(std::slice::from_mut(relay), signals);
        }
        end_all(&mut self.nodes, signals);
        say(&format!(
            "stopped; it goes on with: sutantra-node localnet --dir {}",
            self.dir.path().display()
        ));
    }
}

fn end_all(members: &mut [Member], signals: &Receiver<()>) {
    members.iter_mut().for_each(Member::ask_to_end);
    let until = Instant::now() + END_MAX;
    // All are asked in each round, so that the ended are reaped.
    while members.iter_mut().map(Member::has_ended).filter(|ended| !ended).count() > 0 {
        let is_told_again = signals.recv_timeout(TICK / 4).is_ok();
        if is_told_again || Instant::now() >= until {
            for member in
                members.iter_mut().filter(|member| matches!(member.life(), Life::Up { .. }))
            {
                say(&format!("{} does not end and is killed", member.name));
                member.kill();
            }
        }
    }
}

fn told(name: &str, event: &Event) -> String {
    match event {
        Event::Started { pid } => format!("{name} started, pid {pid}"),
        Event::Died { how, pause } => {
            format!("{name} ended ({how}), it starts again in {} ms", pause.as_millis())
        }
        Event::GivenUp(words) => format!("{name} does not start any more: {words}"),
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

fn say(text: &str) {
    // A closed stdout is nobody to tell.
    let _ = writeln!(io::stdout(), "{text}");
}

fn answers_ready(at: SocketAddr) -> bool {
    let Ok(url) = format!("{}/readyz", relay_url(at)).parse::<Url>() else { return false };
    let answer = url.send(Request { method: "GET", headers: &[], body: &[] });
    answer.is_ok_and(|answer| answer.status == 200)
}

/// SIGINT, SIGTERM and SIGHUP, as they come.
fn signals() -> anyhow::Result<Receiver<()>> {
    let (told, signals) = bounded(4);
    let (set, is_set) = bounded::<io::Result<()>>(1);
    let listen = move || {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return drop(set.send(Err(error))),
        };
        runtime.block_on(async {
            let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
            let [mut interrupt, mut terminate, mut hangup] = match kinds.map(signal) {
                [Ok(interrupt), Ok(terminate), Ok(hangup)] => [interrupt, terminate, hangup],
                refused => {
                    let error = refused.into_iter().find_map(Result::err);
                    let error = error.unwrap_or_else(|| io::Error::other("no signals"));
                    return drop(set.send(Err(error)));
                }
            };
            let _ = set.send(Ok(()));
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                    _ = hangup.recv() => {}
                }
                let _ = told.try_send(()); // Full: it has been told already.
            }
        });
    };
    thread::Builder::new().name("signals".to_owned()).spawn(listen).context("no thread")?;
    is_set.recv().context("signals")?.context("signals")?;
    Ok(signals)
}
