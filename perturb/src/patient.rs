//! A node's way through a run: its start, what is done to it, and that it comes back each time.

use std::{
    sync::atomic::Ordering,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};

use crate::{
    manifest::Perturbation,
    node::Node,
    proxy::Proxy,
    world::{Incident, POLL, World, lock},
};

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

    /// Waits while others are disturbed too, without whom there may be no block, and while the node
    /// executes blocks, since it may have all of them to replay. The time counts from when it is over.
    fn wait(&mut self, within: Duration, mut came: impl FnMut(&mut Self) -> bool) -> bool {
        let begun = Instant::now();
        let mut until = begun + within;
        let mut executed = None;
        loop {
            if came(self) {
                return true;
            }
            let before = std::mem::replace(&mut executed, self.node.executed());
            if self.world.disturbed.load(Ordering::SeqCst) > 0 || executed > before {
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
