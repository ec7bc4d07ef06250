//! A run from its manifest to its report.

use std::{
    fs,
    io::{IsTerminal as _, Write as _},
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;

use crate::{
    audit::{self, Audited},
    homes::Homes,
    load::{self, Counters},
    manifest::{At, Fault, Manifest, Run},
    node::{self, Disk, Node, Plan},
    patient::Patient,
    ports::Ports,
    proxy::Proxy,
    report::{LoadReport, Report},
    tools::Tools,
    watch,
    world::{World, lock},
};

/// From the start of the processes to the first block.
const FIRST_BLOCK_MAX: Duration = Duration::from_secs(120);
/// Between two lines about how it goes, where there is no terminal.
const LINE: Duration = Duration::from_secs(10);
const TICK: Duration = Duration::from_millis(200);
/// Longest list of heights in the progress line.
const LINE_CHARS_MAX: usize = 240;

/// What a run is asked for.
#[derive(Debug, Clone)]
pub struct Wish {
    /// The manifest's name, for the report.
    pub name: String,
    /// What is run.
    pub manifest: Manifest,
    /// With what.
    pub tools: Tools,
    /// Where homes and logs are kept; else they are removed when all went well.
    pub keep: Option<PathBuf>,
}

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

extern "C" fn interrupted(_: libc::c_int) {
    INTERRUPTED.store(true, Ordering::SeqCst);
}

/// Ends runs of this process in order at SIGINT and SIGTERM.
pub fn heed_signals() {
    for signal in [libc::SIGINT, libc::SIGTERM] {
        let handler: extern "C" fn(libc::c_int) = interrupted;
        // SAFETY: the handler stores into an atomic and does nothing else.
        unsafe { libc::signal(signal, handler as libc::sighandler_t) };
    }
}

/// Where a run has its files.
struct Dir {
    path: PathBuf,
    is_kept: bool,
}

impl Drop for Dir {
    fn drop(&mut self) {
        if !self.is_kept {
            // What stays of a temporary directory is in nobody's way.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// Runs a manifest.
///
/// # Errors
/// The network cannot be made at all. What goes wrong once it runs is in the report.
pub fn run(wish: Wish) -> anyhow::Result<Report> {
    let Wish { name, manifest, tools, keep } = wish;
    let begun = Instant::now();
    let (path, is_asked) = match keep {
        Some(path) => (std::path::absolute(path)?, true),
        None => {
            let unique = format!("sutantra-perturb-{}-{}", std::process::id(), manifest.chain.seed);
            (std::env::temp_dir().join(unique), false)
        }
    };
    fs::create_dir_all(&path).with_context(|| path.display().to_string())?;
    let mut dir = Dir { path, is_kept: is_asked };
    let homes = Homes::make(&dir.path, &manifest, &tools)?;
    let mut ports = Ports::take(&std::env::temp_dir().join("sutantra-perturb-ports"))?;
    let (nodes, proxy) = network(&manifest, &homes, &tools, &mut ports)?;
    let clients = nodes.iter().map(|node| watch::client(node.plan.rpc));
    let clients = clients.collect::<anyhow::Result<Vec<_>>>()?;
    let (seed, engine) = (manifest.chain.seed, tools.comet.version.to_string());
    let world = World::new(manifest, homes, clients);
    let counters = Counters::default();
    let (audited, seconds, start_seconds) = live(&world, nodes, &proxy, &counters, begun);
    let violations = lock(&world.violations).clone();
    let is_interrupted = INTERRUPTED.load(Ordering::SeqCst);
    dir.is_kept |= !violations.is_empty();
    let ledger = lock(&world.ledger);
    let (longest_gap_ms, longest_gap_height) = ledger.longest_gap_ms().unwrap_or_default();
    let report = Report {
        manifest: name,
        seed,
        engine,
        seconds,
        start_seconds,
        longest_gap_ms,
        longest_gap_height,
        block_ms: block_ms(&ledger),
        load: counted(&counters),
        incidents: lock(&world.incidents).clone(),
        audited,
        violations,
        kept: dir.is_kept.then(|| dir.path.clone()),
        is_interrupted,
    };
    Ok(report)
}

/// Mean time between blocks but for the first, which carries the genesis' time.
fn block_ms(ledger: &crate::ledger::Ledger) -> f64 {
    let mut times = ledger.blocks().skip(1).map(|block| (block.height, block.time_ms));
    let Some((first, begun)) = times.next() else { return 0.0 };
    match times.last() {
        Some((last, ended)) if last > first => (ended - begun) as f64 / (last - first) as f64,
        _ => 0.0,
    }
}

fn counted(counters: &Counters) -> LoadReport {
    let read = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    LoadReport {
        sent: read(&counters.sent),
        sent_again: read(&counters.sent_again),
        seen: read(&counters.seen),
        seen_refused: read(&counters.seen_refused),
        given_up: read(&counters.given_up),
        unanswered: read(&counters.unanswered),
    }
}

/// All nodes, not started yet, and the links between them.
fn network(
    manifest: &Manifest,
    homes: &Homes,
    tools: &Tools,
    ports: &mut Ports,
) -> anyhow::Result<(Vec<Node>, Proxy)> {
    let mut plans = Vec::new();
    for (spec, home) in manifest.nodes.iter().zip(&homes.nodes) {
        let mut flags = Vec::new();
        if manifest.chain.snapshot_interval > 0 {
            flags.extend([
                "--snapshot-interval".to_owned(),
                manifest.chain.snapshot_interval.to_string(),
            ]);
        }
        plans.push(Plan {
            name: spec.name.clone(),
            home: home.dir.clone(),
            run: spec.run,
            tools: tools.clone(),
            rpc: ports.free()?,
            p2p: ports.free()?,
            http: ports.free()?,
            peers: Vec::new(),
            timeout_commit: manifest.chain.timeout_commit.0,
            flags,
            env: Vec::new(),
        });
    }
    let doors: Vec<_> = plans.iter().map(|plan| plan.p2p).collect();
    let proxy = Proxy::start(&doors)?;
    let mut nodes = Vec::new();
    for (from, (mut plan, spec)) in plans.into_iter().zip(&manifest.nodes).enumerate() {
        let others = homes.nodes.iter().enumerate();
        plan.peers = others
            .filter_map(|(to, home)| Some(format!("{}@{}", home.node_id, proxy.at(from, to)?)))
            .collect();
        let is_filled = spec.perturb.iter().any(|one| matches!(one.fault, Fault::DiskFull { .. }));
        let disk = if is_filled { node::disk(&plan.home) } else { Disk::Own };
        nodes.push(Node::new(plan, disk)?);
    }
    Ok((nodes, proxy))
}

/// Everything that runs at once; gives what the audit found, the seconds of the run and those until
/// its first block.
fn live(
    world: &World,
    nodes: Vec<Node>,
    proxy: &Proxy,
    counters: &Counters,
    begun: Instant,
) -> (Audited, f64, f64) {
    let count = nodes.len();
    let stays_down: Vec<bool> = world
        .manifest
        .nodes
        .iter()
        .map(|spec| {
            let last = spec.perturb.last();
            last.is_some_and(|last| last.fault == Fault::Stop { span: None })
        })
        .collect();
    let about = world.manifest.nodes.iter().filter(|spec| spec.run == Run::Together).count();
    world.say(&format!(
        "{}: {count} nodes, {about} of them with an engine of their own; homes made in {:.1} s",
        world.homes.chain_id,
        begun.elapsed().as_secs_f64()
    ));
    thread::scope(|scope| {
        for (index, node) in nodes.into_iter().enumerate() {
            scope.spawn(move || Patient { world, index, node, proxy }.live());
            scope.spawn(move || watch::run(world, index));
        }
        let is_up = wait_for_first_block(world);
        let start_seconds = begun.elapsed().as_secs_f64();
        let mut seconds = 0.0;
        let mut audited = Audited::default();
        if is_up {
            let mut senders = Vec::new();
            if let Some(spec) = &world.manifest.load {
                for thread in 0..load::SENDERS.min(spec.accounts) {
                    senders.push(scope.spawn(move || load::run(world, spec, thread, counters)));
                }
            }
            let steps = scope.spawn(|| crate::stake::run(world));
            show_until_over(world, count, counters, || steps.is_finished());
            seconds = world.elapsed().as_secs_f64();
            world.ending.store(true, Ordering::SeqCst);
            let are_done =
                || senders.iter().all(|sender| sender.is_finished()) && steps.is_finished();
            while !are_done() {
                thread::sleep(TICK);
            }
            let interrupted = INTERRUPTED.load(Ordering::SeqCst);
            if !world.is_violated() && !interrupted {
                let live: Vec<usize> = (0..count).filter(|node| !stays_down[*node]).collect();
                world.say("the load has ended; every height of every node is read again");
                audited = audit::run(world, &live);
            }
        }
        world.ending.store(true, Ordering::SeqCst);
        world.closing.store(true, Ordering::SeqCst);
        (audited, seconds, start_seconds)
    })
}

fn wait_for_first_block(world: &World) -> bool {
    let until = Instant::now() + FIRST_BLOCK_MAX;
    while world.height() == 0 {
        if world.is_violated() || INTERRUPTED.load(Ordering::SeqCst) {
            return false;
        }
        if Instant::now() > until {
            world.violate(format!("no block within {} s", FIRST_BLOCK_MAX.as_secs()));
            return false;
        }
        thread::sleep(TICK);
    }
    true
}

/// Shows how it goes until the time is over and nothing is left to be done, or something is wrong.
fn show_until_over(
    world: &World,
    count: usize,
    counters: &Counters,
    steps_are_done: impl Fn() -> bool,
) {
    let duration = world.manifest.chain.duration.0;
    let is_terminal = std::io::stderr().is_terminal();
    let mut told = Instant::now();
    loop {
        let is_done = world.finished.load(Ordering::SeqCst) == count && steps_are_done();
        let is_over = world.elapsed() >= duration && is_done;
        if is_over || world.is_violated() || INTERRUPTED.load(Ordering::SeqCst) {
            return;
        }
        if is_terminal {
            let mut text: String =
                progress(world, duration, counters).chars().take(LINE_CHARS_MAX).collect();
            text.insert_str(0, "\r\x1b[K");
            // Nobody listens any more: the report is still written.
            let _ = std::io::stderr().write_all(text.as_bytes());
            let _ = std::io::stderr().flush();
        } else if told.elapsed() >= LINE {
            told = Instant::now();
            world.say(&progress(world, duration, counters));
        }
        thread::sleep(TICK);
    }
}

/// Such as `[####------] 24 of 60 s · v0 51 v1 51 v2 kill · 480 tx · next …`.
fn progress(world: &World, duration: Duration, counters: &Counters) -> String {
    const CELLS: usize = 20;
    let elapsed = world.elapsed();
    let part = (elapsed.as_secs_f64() / duration.as_secs_f64().max(1.0)).min(1.0);
    let full = (part * CELLS as f64) as usize;
    let bar: String = (0..CELLS).map(|cell| if cell < full { '#' } else { '-' }).collect();
    let nodes = world.names.iter().enumerate().map(|(node, name)| {
        let state = lock(&world.states[node]).clone();
        let height = world.sight(node).map_or("-".to_owned(), |sight| sight.height.to_string());
        match state.as_str() {
            "runs" => format!("{name} {height}"),
            state => format!("{name} {height} ({state})"),
        }
    });
    let nodes: Vec<String> = nodes.collect();
    let seen = counters.seen.load(Ordering::Relaxed);
    format!(
        "[{bar}] {:.0} of {:.0} s | {} | {seen} tx | app hash {}{}",
        elapsed.as_secs_f64(),
        duration.as_secs_f64(),
        nodes.join(", "),
        world.app_hash(world.height()),
        next(world),
    )
}

/// What is done to a node next, by the manifest; a height is as far away as the pause between blocks
/// makes it at least.
fn next(world: &World) -> String {
    let (elapsed, height) = (world.elapsed(), world.height());
    let left = |at: At| match at {
        At::After(span) => span.saturating_sub(elapsed),
        At::Height(at) => {
            let blocks = u32::try_from(at.saturating_sub(height)).unwrap_or(u32::MAX);
            world.manifest.chain.timeout_commit.0.saturating_mul(blocks)
        }
    };
    let all = world
        .manifest
        .nodes
        .iter()
        .flat_map(|node| node.perturb.iter().map(move |one| (left(one.at), &node.name, one)));
    let coming = all.filter(|(left, ..)| !left.is_zero()).min_by_key(|(left, ..)| *left);
    coming
        .map_or(String::new(), |(_, name, one)| format!(" | next {}: {name} {}", one.at, one.fault))
}
