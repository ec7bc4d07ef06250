//! A node's way through a run: its start, what is done to it, and that it comes back each time.

use std::{
    fs,
    path::PathBuf,
    sync::atomic::Ordering,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};

use crate::{
    damage::{copy_dir, cut, fill, limit_files, newest_file},
    manifest::{Fault, Perturbation},
    node::{APP_STATE, Disk, ENGINE_DATA, Node},
    proxy::{Mode, Proxy},
    world::{Incident, POLL, World, lock},
};

/// What must not be lost when older blocks are put back: it says what the validator has signed.
const SIGN_STATE: &str = "priv_validator_state.json";
/// An application that is refused says so when its engine has gone.
const ADVICE_MAX: Duration = Duration::from_secs(5);
/// Words of a remedy in a refusal.
const REMEDIES: [&str; 3] = ["aside", "remove", "reset"];
/// One that is to be missed stays away no longer than this beyond its time.
const AWAY_MAX: Duration = Duration::from_secs(120);
/// Nobody waits longer for anything of one node.
const PATIENCE: Duration = Duration::from_secs(15 * 60);

/// A node, where it stands, and what it goes through.
pub struct Patient<'a> {
    /// What all share.
    pub world: &'a World,
    /// Its place in the manifest.
    pub index: usize,
    /// Its processes.
    pub node: Node,
    /// Its links.
    pub proxy: &'a Proxy,
}

/// A node that came back after all, or how it refuses.
enum Return {
    Recovered,
    Refused(String),
}

impl Patient<'_> {
    /// From its start until the run closes. To be called on a thread that lives as long: its
    /// processes die with it.
    pub fn live(mut self) {
        // What another finding has cut short is none.
        if let Err(error) = self.go_through()
            && !self.world.is_violated()
        {
            let state = format!("{error:#}");
            self.world.set_state(self.index, "failed");
            let log = self.node.path("log");
            self.world.violate(format!(
                "{}: {state}; its logs are in {}",
                self.node.name(),
                log.display()
            ));
        }
        self.world.finished.fetch_add(1, Ordering::SeqCst);
        while !self.world.is_closing() {
            if !self.world.is_violated() {
                self.tend();
            }
            thread::sleep(POLL);
        }
        self.node.stop();
    }

    fn go_through(&mut self) -> anyhow::Result<()> {
        let world = self.world;
        let spec = &world.manifest.nodes[self.index];
        if let Some(start_at) = spec.start_at {
            while !world.is_due(start_at) {
                if world.is_ending() {
                    return Ok(());
                }
                thread::sleep(POLL);
            }
            self.join_late()?;
        } else {
            world.set_state(self.index, "starts");
            self.node.start()?;
            let within = world.manifest.chain.recover_within.0;
            let is_up = world.wait(within, || world.sight(self.index).is_some());
            ensure!(is_up, "its RPC does not answer within {} s", within.as_secs());
            world.set_state(self.index, "runs");
        }
        for perturbation in &spec.perturb {
            while !world.is_due(perturbation.at) {
                if world.is_ending() {
                    return Ok(());
                }
                self.tend();
                thread::sleep(POLL);
            }
            self.suffer(perturbation)?;
        }
        Ok(())
    }

    /// A process that ends by itself, where nothing is done to it, is a finding.
    fn tend(&mut self) {
        if let Some(words) = self.node.fallen() {
            self.world.violate(format!(
                "{}: {words}; its logs are in {}",
                self.node.name(),
                self.node.path("log").display()
            ));
        }
    }

    fn join_late(&mut self) -> anyhow::Result<()> {
        let world = self.world;
        let spec = &world.manifest.nodes[self.index];
        let way = match (&spec.key_of, spec.state_sync) {
            (Some(other), _) => format!("joins with the key of {other}"),
            (None, true) => "joins by state sync".to_owned(),
            (None, false) => "joins by block sync".to_owned(),
        };
        let mut incident = self.begin(&way);
        if spec.state_sync {
            let env = state_sync(world)?;
            self.node.plan.env.extend(env);
        }
        let since = Instant::now();
        self.node.start()?;
        self.recover(since, &mut incident)?;
        let earliest = world.sight(self.index).map_or(0, |sight| sight.earliest);
        incident.notes.push(format!("its first block is {earliest}"));
        if spec.state_sync {
            ensure!(earliest > 1, "it was to join by state sync and fetched all blocks instead");
        }
        if let Some(other) = &spec.key_of {
            self.await_punishment(other, &mut incident)?;
        }
        self.end(incident);
        Ok(())
    }

    /// Two nodes sign with one key until the chain knows.
    fn await_punishment(&mut self, other: &str, incident: &mut Incident) -> anyhow::Result<()> {
        let world = self.world;
        let victim = world.manifest.index(other).context("the manifest was checked")?;
        let since = Instant::now();
        for kind in ["validator_slashed", "validator_tombstoned"] {
            let within = 3 * world.manifest.chain.recover_within.0;
            let mut found = None;
            let seen = world.wait(within, || {
                found = world.happened(victim, kind, incident.height);
                found.is_some()
            });
            ensure!(
                seen,
                "two nodes sign with the key of {other}, and no {kind} is in the chain after {} s",
                within.as_secs()
            );
            let height = found.unwrap_or(0);
            incident.notes.push(format!(
                "{kind} at height {height}, {:.1} s after both signed",
                since.elapsed().as_secs_f64()
            ));
        }
        Ok(())
    }

    fn suffer(&mut self, perturbation: &Perturbation) -> anyhow::Result<()> {
        let fault = perturbation.fault;
        let mut incident = self.begin(&fault.to_string());
        self.world.disturbed.fetch_add(1, Ordering::SeqCst);
        let done = self.carry_out(fault, &perturbation.expect, &mut incident);
        self.world.disturbed.fetch_sub(1, Ordering::SeqCst);
        done.with_context(|| fault.to_string())?;
        if self.node.is_started() {
            self.recover(Instant::now(), &mut incident).with_context(|| fault.to_string())?;
        }
        for kind in &perturbation.expect {
            let (world, since) = (self.world, incident.height);
            let within = world.manifest.chain.recover_within.0;
            let seen = world.wait(within, || world.happened(self.index, kind, since).is_some());
            ensure!(
                seen,
                "{fault}: no {kind} of its validator is in the chain since height {since}"
            );
            let height = world.happened(self.index, kind, since).unwrap_or(0);
            incident.notes.push(format!("{kind} at height {height}"));
        }
        self.end(incident);
        Ok(())
    }

    fn begin(&self, what: &str) -> Incident {
        self.world.set_state(self.index, what);
        let height = self.world.height();
        self.world.say(&format!("{}: {what}, at height {height}", self.node.name()));
        Incident {
            node: self.node.name().to_owned(),
            what: what.to_owned(),
            height,
            at_seconds: self.world.elapsed().as_secs_f64(),
            recovered_seconds: None,
            notes: Vec::new(),
        }
    }

    fn end(&self, incident: Incident) {
        let recovered = incident
            .recovered_seconds
            .map_or(String::new(), |seconds| format!(" is back after {seconds:.1} s"));
        let notes = incident.notes.join("; ");
        self.world.say(&format!("{}: {}{recovered}; {notes}", incident.node, incident.what));
        let state = if self.node.is_started() { "runs" } else { "stopped" };
        self.world.set_state(self.index, state);
        lock(&self.world.incidents).push(incident);
    }

    /// Waits while others are disturbed too: without them there may be no block. The time counts
    /// from when nobody is.
    fn wait(&mut self, within: Duration, mut came: impl FnMut(&mut Self) -> bool) -> bool {
        let begun = Instant::now();
        let mut until = begun + within;
        loop {
            if came(self) {
                return true;
            }
            if self.world.disturbed.load(Ordering::SeqCst) > 0 {
                until = Instant::now() + within;
            }
            let is_over = self.world.is_ending() && self.world.is_violated();
            if Instant::now() > until || begun.elapsed() > PATIENCE || is_over {
                return false;
            }
            thread::sleep(POLL);
        }
    }

    /// Until it is where the others are, and the chain goes on.
    fn recover(&mut self, healed: Instant, incident: &mut Incident) -> anyhow::Result<()> {
        let target = self.world.height();
        let within = self.world.manifest.chain.recover_within.0;
        let mut fallen = None;
        let is_back = self.wait(within, |patient| {
            fallen = patient.node.fallen();
            fallen.is_some() || patient.world.is_at(patient.index, target, healed)
        });
        if let Some(words) = fallen {
            bail!("{words}");
        }
        let height = self.world.sight(self.index).map_or(0, |sight| sight.height);
        ensure!(
            is_back,
            "it is at height {height} {} s after it was healed, the others were at {target} then",
            healed.elapsed().as_secs()
        );
        incident.recovered_seconds = Some(healed.elapsed().as_secs_f64());
        let within = self.world.manifest.chain.blocks_within.0;
        let goes_on = self.wait(within, |patient| patient.world.height() >= target + 2);
        ensure!(
            goes_on,
            "the chain stands at height {} and makes no block within {} s after it was healed",
            self.world.height(),
            within.as_secs()
        );
        Ok(())
    }

    fn carry_out(
        &mut self,
        fault: Fault,
        expect: &[String],
        incident: &mut Incident,
    ) -> anyhow::Result<()> {
        let since = incident.height;
        let notes = &mut incident.notes;
        match fault {
            Fault::Kill { down } => {
                self.node.kill();
                thread::sleep(down);
                self.node.start()
            }
            Fault::KillApp { down } => {
                if !self.node.kill_app() {
                    notes.push("its engine hung without it and was killed".to_owned());
                }
                thread::sleep(down);
                self.node.start()
            }
            Fault::KillEngine { down } => {
                self.node.kill_engine()?;
                thread::sleep(down);
                self.node.start()
            }
            Fault::Pause { span } => {
                self.node.pause(true);
                thread::sleep(span);
                self.node.pause(false);
                Ok(())
            }
            Fault::Partition { span } => self.shut_off(Mode::Held, span),
            Fault::Disconnect { span } => self.shut_off(Mode::Cut, span),
            Fault::Restart => {
                self.end_in_order()?;
                self.node.start()
            }
            Fault::Stop { span } => {
                self.end_in_order()?;
                match span {
                    None => Ok(()),
                    Some(span) => {
                        thread::sleep(span);
                        // What its absence is to bring takes blocks, not seconds.
                        let (world, index) = (self.world, self.index);
                        world.wait(AWAY_MAX, || {
                            expect.iter().all(|kind| world.happened(index, kind, since).is_some())
                        });
                        self.node.start()
                    }
                }
            }
            Fault::DiskFull { span } => self.fill_disk(span, notes),
            Fault::TruncateWal { bytes } => {
                self.node.kill();
                let wal = self.node.path("data/cs.wal/wal");
                notes.push(cut(&wal, bytes)?);
                self.start_or_mend(notes).map(drop)
            }
            Fault::TruncateStore { bytes } => {
                self.node.kill();
                let newest = newest_file(&self.node.path(APP_STATE))?;
                notes.push(cut(&newest, bytes)?);
                self.start_or_mend(notes).map(drop)
            }
            Fault::AppBehind { blocks } => {
                let aside = self.go_on_from_copy(APP_STATE, blocks)?;
                let state = self.node.path(APP_STATE);
                fs::remove_dir_all(&state)?;
                copy_dir(&aside, &state)?;
                fs::remove_dir_all(&aside)?;
                self.start_or_mend(notes).map(drop)
            }
            Fault::AppAhead { blocks } => {
                let aside = self.go_on_from_copy(ENGINE_DATA, blocks)?;
                let data = self.node.path(ENGINE_DATA);
                fs::copy(data.join(SIGN_STATE), aside.join(SIGN_STATE))?;
                fs::remove_dir_all(&data)?;
                copy_dir(&aside, &data)?;
                fs::remove_dir_all(&aside)?;
                let refused = self.start_or_mend(notes)?;
                ensure!(
                    refused,
                    "its application was ahead of its engine, and it went on without a word"
                );
                Ok(())
            }
        }
    }

    fn shut_off(&mut self, mode: Mode, span: Duration) -> anyhow::Result<()> {
        self.proxy.set(self.index, mode);
        thread::sleep(span);
        self.proxy.set(self.index, Mode::Open);
        Ok(())
    }

    fn end_in_order(&mut self) -> anyhow::Result<()> {
        ensure!(self.node.stop(), "it does not end when it is asked, and was killed");
        Ok(())
    }

    /// Copies a directory of the stopped node, lets it go on so many blocks and stops it again; the
    /// copy.
    fn go_on_from_copy(&mut self, below: &str, blocks: u64) -> anyhow::Result<PathBuf> {
        self.end_in_order()?;
        let aside = self.node.path("older");
        let _ = fs::remove_dir_all(&aside); // There is none.
        copy_dir(&self.node.path(below), &aside)?;
        self.node.start()?;
        let (target, since) = (self.world.height() + blocks, Instant::now());
        let within = self.world.manifest.chain.recover_within.0;
        let world = self.world;
        let is_there = world.wait(within, || world.is_at(self.index, target, since));
        ensure!(is_there, "it does not go on from a restart within {} s", within.as_secs());
        self.end_in_order()?;
        Ok(aside)
    }

    /// Starts it. Where it refuses with a sentence, does what that says. Whether it refused.
    fn start_or_mend(&mut self, notes: &mut Vec<String>) -> anyhow::Result<bool> {
        match self.come_back()? {
            Return::Recovered => Ok(false),
            Return::Refused(sentence) => {
                ensure!(
                    REMEDIES.iter().any(|word| sentence.contains(word)),
                    "it refuses to start without saying what to do: {sentence}"
                );
                notes.push(format!("it refuses: {sentence}"));
                self.node.kill();
                let state = self.node.path(APP_STATE);
                let aside = state.with_extension("aside");
                let _ = fs::remove_dir_all(&aside); // There is none.
                fs::rename(&state, &aside).with_context(|| state.display().to_string())?;
                notes.push(format!("{APP_STATE} was moved aside, and the blocks are replayed"));
                self.node.start()?;
                Ok(true)
            }
        }
    }

    fn come_back(&mut self) -> anyhow::Result<Return> {
        if let Err(error) = self.node.start() {
            return Ok(Return::Refused(format!("{error:#}")));
        }
        let (target, since) = (self.world.height(), Instant::now());
        let within = self.world.manifest.chain.recover_within.0;
        let mut fallen = None;
        let (world, index, node) = (self.world, self.index, &mut self.node);
        let is_over = world.wait(within, || {
            let words = node.words();
            fallen = node.fallen().map(|sentence| (sentence, words));
            fallen.is_some() || world.is_at(index, target, since)
        });
        let Some((sentence, words)) = fallen else {
            ensure!(is_over, "it neither comes back nor says why within {} s", within.as_secs());
            return Ok(Return::Recovered);
        };
        // Who is left of the two may say it in better words.
        let mut all = words;
        let until = Instant::now() + ADVICE_MAX;
        loop {
            all.push_str(&self.node.words());
            let line = all.lines().rev().find(|line| {
                let is_said = ["WARN", "ERROR", "error:"].iter().any(|mark| line.contains(mark));
                is_said && REMEDIES.iter().any(|word| line.contains(word))
            });
            if let Some(line) = line {
                return Ok(Return::Refused(line.trim().chars().take(900).collect()));
            }
            if Instant::now() > until {
                return Ok(Return::Refused(sentence));
            }
            thread::sleep(POLL);
        }
    }

    fn fill_disk(&mut self, span: Duration, notes: &mut Vec<String>) -> anyhow::Result<()> {
        let ballast = match self.node.disk.clone() {
            Disk::Own => bail!("it has no disk that can be filled"),
            Disk::Mount(at) => {
                let file = at.join("ballast");
                let bytes = fill(&file)?;
                notes.push(format!("a small file system was filled with {bytes} bytes"));
                Some(file)
            }
            Disk::Limit => {
                let pid = self.node.app_pid().context("it runs")?;
                limit_files(pid)?;
                notes.push("no right to mount: its files may not grow (RLIMIT_FSIZE)".to_owned());
                None
            }
        };
        let until = Instant::now() + span;
        let mut said = None;
        while Instant::now() < until {
            let words = self.node.words();
            if said.is_none()
                && let Some(sentence) = self.node.fallen()
            {
                said = Some((sentence, words));
            }
            thread::sleep(POLL);
        }
        match said {
            Some((sentence, words)) => {
                // The application's words come first.
                let full = words.lines().find(|line| {
                    ["No space left", "disk is full", "File too large", "os error 28"]
                        .iter()
                        .any(|text| line.contains(text))
                });
                let sentence =
                    full.map_or(sentence, |line| line.trim().chars().take(300).collect());
                notes.push(format!("it says: {sentence}"));
            }
            None => notes.push(format!("it needed no room within {} s", span.as_secs())),
        }
        self.node.kill();
        if let Some(file) = ballast {
            fs::remove_file(&file).with_context(|| file.display().to_string())?;
        }
        self.node.start()
    }
}

/// What CometBFT has to be told to begin from a snapshot: two nodes and a header that is trusted.
fn state_sync(world: &World) -> anyhow::Result<Vec<(String, String)>> {
    let live = world.live();
    let [first, second, ..] = live.as_slice() else {
        bail!("state sync needs two nodes that answer, {} do", live.len())
    };
    let interval = world.manifest.chain.snapshot_interval;
    let height = world.height().saturating_sub(2 * interval).max(1);
    let trusted = world.clients[*first].commit(Some(height))?;
    let servers = [*first, *second].map(|node| world.clients[node].url().to_string());
    let variable = |name: &str, value: String| (format!("CMT_STATESYNC_{name}"), value);
    Ok(vec![
        variable("ENABLE", "true".to_owned()),
        variable("RPC_SERVERS", servers.join(",")),
        variable("TRUST_HEIGHT", height.to_string()),
        variable("TRUST_HASH", trusted.header.hash().to_string()),
        variable("TRUST_PERIOD", "168h0m0s".to_owned()),
        variable("DISCOVERY_TIME", "5s".to_owned()),
    ])
}
