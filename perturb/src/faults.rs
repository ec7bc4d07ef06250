//! What each fault does to a node, until it is started again.

use std::{
    fs,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};

use crate::{
    damage::{copy_dir, cut, fill, limit_files, newest_file},
    manifest::Fault,
    node::{APP_STATE, Disk, ENGINE_DATA},
    patient::Patient,
    proxy::Mode,
    world::{Incident, POLL},
};

/// What must not be lost when older blocks are put back: it says what the validator has signed.
const SIGN_STATE: &str = "priv_validator_state.json";
/// An application that is refused says so when its engine has gone.
const ADVICE_MAX: Duration = Duration::from_secs(5);
/// Words of a remedy in a refusal.
const REMEDIES: [&str; 3] = ["aside", "remove", "reset"];
/// One that is to be missed stays away no longer than this beyond its time.
const AWAY_MAX: Duration = Duration::from_secs(120);

/// A node that came back after all, or how it refuses.
enum Return {
    Recovered,
    Refused(String),
}

impl Patient<'_> {
    /// Does it; the node runs again on return, unless it is to stay away.
    pub(crate) fn carry_out(
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
