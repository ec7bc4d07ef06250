//! The log's thread: takes records from a bounded queue, tells how far they are safe.

use std::{
    path::Path,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use chain_types::ChannelId;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};

use super::{
    LOG_QUEUE_MAX, RETRY_INTERVAL, SYNC_INTERVAL,
    disk::{Directory, Disk},
    open::LogOpenError,
    record::LogRecord,
    store::{LogError, Opened, Store},
};

/// Notices that wait for the decision thread. What does not fit is told later, with what has come
/// to pass since: only the newest state of each kind matters.
const NOTICES_MAX: usize = 256;

/// How far the log is. Sequence numbers are those of [`LogWriter::append`]; each includes all before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogNotice {
    /// In the file: it survives this process. PayAck may be sent.
    Appended {
        /// Up to this one.
        sequence: u64,
    },
    /// On the disk: it survives the machine. It may be redeemed.
    Synced {
        /// Up to this one.
        sequence: u64,
    },
    /// Nothing goes to the disk. What was accepted is kept in memory; accept no more.
    LogFailed {
        /// For people.
        reason: String,
    },
    /// It works again; all that was kept in memory is on the disk.
    LogRecovered,
}

/// The queue to the log's thread is full: the record was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the voucher log is {LOG_QUEUE_MAX} records behind")]
pub struct LogFull;

/// The decision thread's end of the log. When it is dropped, the log's thread writes and syncs what
/// it has, and ends.
#[derive(Debug)]
pub struct LogWriter {
    commands: Option<Sender<Command>>,
    notices: Receiver<LogNotice>,
    next_sequence: u64,
    thread: Option<JoinHandle<()>>,
}

#[expect(clippy::large_enum_variant, reason = "nearly all are the large one")]
enum Command {
    Append { sequence: u64, record: LogRecord },
    Forget(ChannelId),
}

/// Opens the log in a directory, which this process then holds alone, and starts its thread.
///
/// # Errors
/// See [`LogOpenError`].
pub fn spawn(directory: &Path, chain_id: &str) -> Result<(LogWriter, Opened), LogOpenError> {
    let directory = Directory::open(directory).map_err(|error| match error.kind() {
        std::io::ErrorKind::WouldBlock => LogOpenError::Locked,
        _ => LogOpenError::Io(error),
    })?;
    let (writer, opened) = spawn_on(directory, chain_id)?;
    if opened.lost_records > 0 {
        tracing::error!(
            lost_records = opened.lost_records,
            kept_lanes = opened.newest.len(),
            copy = opened.copy,
            "the voucher log is damaged: what can be read of it is kept, and a copy of the file; \
             vouchers of up to so many lanes as there are lost records are gone: check the disk"
        );
    }
    if opened.dropped_bytes > 0 {
        tracing::warn!(
            dropped_bytes = opened.dropped_bytes,
            copy = opened.copy,
            "the end of the voucher log cannot be read and was cut off, as after a crash"
        );
    }
    Ok((writer, opened))
}

/// The same, on any disk; the caller warns of dropped bytes.
///
/// # Errors
/// See [`LogOpenError`].
pub fn spawn_on<D: Disk>(disk: D, chain_id: &str) -> Result<(LogWriter, Opened), LogOpenError>
where
    D::File: 'static,
{
    let (store, opened) = Store::open(disk, chain_id)?;
    let (commands, queue) = bounded(LOG_QUEUE_MAX);
    let (told, notices) = bounded(NOTICES_MAX);
    let failure = opened.failure.as_ref().map(ToString::to_string);
    let worker = Worker {
        store,
        state: State { failure, ..State::default() },
        told: State::default(),
        tell: told,
        retry_at: Instant::now() + RETRY_INTERVAL,
        sync_at: None,
    };
    let thread = thread::Builder::new()
        .name("voucher-log".to_owned())
        .spawn(move || worker.run(&queue))
        .map_err(LogOpenError::Io)?;
    let writer =
        LogWriter { commands: Some(commands), notices, next_sequence: 1, thread: Some(thread) };
    Ok((writer, opened))
}

impl LogWriter {
    /// Hands a record over, without waiting; its sequence number counts from 1.
    ///
    /// # Errors
    /// The queue is full.
    pub fn append(&mut self, record: LogRecord) -> Result<u64, LogFull> {
        let sequence = self.next_sequence;
        self.send(Command::Append { sequence, record })?;
        self.next_sequence += 1;
        Ok(sequence)
    }

    /// A channel was finalized on chain: its vouchers are worth nothing any more. Not urgent, so
    /// that nothing is lost if it does not arrive.
    pub fn forget(&mut self, channel: ChannelId) {
        let _ = self.send(Command::Forget(channel));
    }

    fn send(&self, command: Command) -> Result<(), LogFull> {
        let commands = self.commands.as_ref().expect("taken by drop only");
        match commands.try_send(command) {
            Ok(()) => Ok(()),
            // A thread that has ended takes nothing, for ever: the same answer holds.
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => Err(LogFull),
        }
    }

    /// What the log tells. Ends when the thread does.
    pub const fn notices(&self) -> &Receiver<LogNotice> {
        &self.notices
    }
}

impl Drop for LogWriter {
    fn drop(&mut self) {
        drop(self.commands.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the voucher log's thread has panicked");
        }
    }
}

/// How far it is, as it was last told or as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct State {
    appended: u64,
    synced: u64,
    /// Why nothing goes to the disk.
    failure: Option<String>,
}

struct Worker<D: Disk> {
    store: Store<D>,
    state: State,
    told: State,
    tell: Sender<LogNotice>,
    retry_at: Instant,
    /// When what was appended has to be synced.
    sync_at: Option<Instant>,
}

impl<D: Disk> Worker<D> {
    fn run(mut self, queue: &Receiver<Command>) {
        /// Until a notice that did not fit is told again, and a failure is looked at again.
        const SHORT: Duration = Duration::from_millis(50);
        /// Without anything to do.
        const IDLE: Duration = Duration::from_secs(5);
        /// Taken in memory, in one go, while the disk does not work.
        const BATCH_MAX: usize = 256;
        let mut taken = 0; // The newest sequence number that is in memory.
        loop {
            self.notify();
            let idle = if self.told == self.state { IDLE } else { SHORT };
            let wait = self.sync_at.map_or(idle, |at| at.saturating_duration_since(Instant::now()));
            let wait = if self.store.is_broken() { SHORT } else { wait };
            let first = match queue.recv_timeout(wait) {
                Ok(command) => Some(command),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => break,
            };
            // What else has come goes to the file with it, as far as may be unsynced.
            let room = self.store.room().min(BATCH_MAX);
            let mut batch = Vec::with_capacity(room);
            for command in first.into_iter().chain(queue.try_iter().take(room.saturating_sub(1))) {
                match command {
                    Command::Append { sequence, record } => {
                        taken = sequence;
                        batch.push(record);
                    }
                    Command::Forget(channel) => self.store.forget(&channel),
                }
            }
            self.write(&batch, taken);
            let now = Instant::now();
            if self.store.room() == 0 || self.sync_at.is_some_and(|at| at <= now) {
                self.sync();
            }
            let is_retry = self.store.is_broken() && self.retry_at <= now;
            if is_retry || self.store.wants_compaction() {
                self.rewrite(taken);
            }
        }
        self.sync();
        if self.store.is_broken() {
            self.rewrite(taken);
        }
        if let Some(reason) = &self.state.failure {
            tracing::error!(reason, "the voucher log ends with records that are in memory only");
        }
        self.notify();
    }

    fn write(&mut self, batch: &[LogRecord], taken: u64) {
        if batch.is_empty() {
            return;
        }
        match self.store.append(batch) {
            Ok(()) => {
                self.state.appended = taken;
                self.sync_at.get_or_insert_with(|| Instant::now() + SYNC_INTERVAL);
            }
            Err(error) => self.failed(&error),
        }
    }

    fn sync(&mut self) {
        self.sync_at = None;
        if !self.store.is_unsynced() {
            return;
        }
        match self.store.sync() {
            Ok(()) => self.state.synced = self.state.appended,
            Err(error) => self.failed(&error),
        }
    }

    /// After it, everything that was taken is in the file and synced.
    fn rewrite(&mut self, taken: u64) {
        match self.store.rewrite() {
            Ok(()) => {
                self.sync_at = None;
                self.state = State { appended: taken, synced: taken, failure: None };
            }
            // A file that could not be made smaller still serves.
            Err(error) if !self.store.is_broken() => {
                tracing::warn!(%error, "the voucher log stays longer than it need be");
            }
            Err(error) => self.failed(&error),
        }
    }

    fn failed(&mut self, error: &LogError) {
        self.sync_at = None;
        match error {
            // Said before; what has failed then is the reason.
            LogError::Broken => {}
            LogError::Write(_) | LogError::Sync(_) | LogError::Rewrite(_) => {
                self.retry_at = Instant::now() + RETRY_INTERVAL;
                self.state.failure = Some(error.to_string());
            }
        }
    }

    /// Tells what is new, as far as it fits.
    fn notify(&mut self) {
        let Self { state, told, tell, .. } = self;
        let tell = |notice| tell.try_send(notice).is_ok();
        match (&state.failure, &told.failure) {
            (Some(reason), None) if tell(LogNotice::LogFailed { reason: reason.clone() }) => {
                told.failure.clone_from(&state.failure);
            }
            // One failure is told once, though its retries may fail for other reasons.
            (Some(_), _) | (None, None) => {}
            (None, Some(_)) => {
                if tell(LogNotice::LogRecovered) {
                    told.failure = None;
                }
            }
        }
        if state.appended > told.appended && tell(LogNotice::Appended { sequence: state.appended })
        {
            told.appended = state.appended;
        }
        if state.synced > told.synced && tell(LogNotice::Synced { sequence: state.synced }) {
            told.synced = state.synced;
        }
    }
}
