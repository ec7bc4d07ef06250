//! Decisions from another process over a Unix socket: what makes settlement a plugin.
//!
//! Frames both ways: length u16 of what follows, type u8, body; integers big-endian.
//!
//! | Type | Direction | Body |
//! |---|---|---|
//! | 1 Hello | to the source | version u8 = 1 |
//! | 2 Joined | to the source | slot 10 B {shard u16, index u32, generation u32}, label (≤ 256 B) |
//! | 3 Left | to the source | slot 10 B |
//! | 16 Gate | from the source | shard u16, [`GateCmd`] 32 B (its sequence is ours to give) |
//!
//! One source at a time. It is told of every slot that is there when it connects. When it goes
//! away, the gates that it opened are closed: silence never leaves one open.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufReader, Read, Write};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};

use super::gate::{GateCmd, GateCmdError, GateOp, MonotonicClock};
use super::{Gate, SlotId};

/// Longest label; a longer one is cut.
pub const LABEL_BYTES_MAX: usize = 256;
/// Decisions waiting for the deciding thread; the socket waits, the source feels it.
const DECISIONS_MAX: usize = 4096;
/// A source that does not read for this long is given up.
const WRITE_MAX: Duration = Duration::from_millis(200);

const HELLO: u8 = 1;
const JOINED: u8 = 2;
const LEFT: u8 = 3;
const GATE: u8 = 16;

/// Why a source was cut off.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The connection ended or failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Not one of the table's.
    #[error("unknown frame type {0}")]
    Type(u8),
    /// A gate frame has another length.
    #[error("a gate frame's body has {want} bytes, got {0}", want = 2 + GateCmd::BYTES)]
    Length(usize),
    /// The command in the frame.
    #[error(transparent)]
    Command(#[from] GateCmdError),
}

#[derive(Debug, Default)]
struct State {
    present: BTreeMap<SlotId, Vec<u8>>,
    source: Option<UnixStream>,
}

/// The relay's end: tells a source who is there, hands on what it decides.
#[derive(Debug)]
pub struct ForeignDecisions {
    state: Arc<Mutex<State>>,
    decisions: Receiver<(SlotId, Gate)>,
}

impl ForeignDecisions {
    /// Listens at `path`; a socket that a dead process left there is replaced.
    ///
    /// # Errors
    /// The path cannot be bound, or a live process listens there.
    pub fn listen(path: &Path, clock: MonotonicClock) -> io::Result<ForeignDecisions> {
        if UnixStream::connect(path).is_ok() {
            let taken = format!("another process listens at {}", path.display());
            return Err(io::Error::new(io::ErrorKind::AddrInUse, taken));
        }
        match std::fs::symlink_metadata(path) {
            Ok(found) if found.file_type().is_socket() => std::fs::remove_file(path)?,
            Ok(_) => {
                let file = format!("{} is there and no socket; it is left alone", path.display());
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, file));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let listener = UnixListener::bind(path)?;
        let (sender, decisions) = crossbeam_channel::bounded(DECISIONS_MAX);
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        std::thread::Builder::new().name("decisions".into()).spawn(move || {
            for source in listener.incoming().flatten() {
                if let Err(error) = serve(source, &shared, &sender, clock) {
                    tracing::warn!(%error, "the decision source is gone; its gates are closed");
                }
            }
        })?;
        Ok(ForeignDecisions { state, decisions })
    }

    /// A subscriber is connected; `label` says who wants what, in control's words.
    pub fn joined(&self, slot: SlotId, label: &[u8]) {
        let label = &label[..label.len().min(LABEL_BYTES_MAX)];
        let mut state = lock(&self.state);
        state.present.insert(slot, label.to_vec());
        tell(&mut state, &frame(JOINED, &[&slot_bytes(slot), label]));
    }

    /// The session of this slot is over.
    pub fn left(&self, slot: SlotId) {
        let mut state = lock(&self.state);
        state.present.remove(&slot);
        tell(&mut state, &frame(LEFT, &[&slot_bytes(slot)]));
    }

    /// What was decided, to be given to the gates.
    pub fn decisions(&self) -> Receiver<(SlotId, Gate)> {
        self.decisions.clone()
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sends a frame; a source that cannot take it is cut off, and its reader notices.
fn tell(state: &mut State, frame: &[u8]) {
    if let Some(source) = &mut state.source
        && source.write_all(frame).is_err()
    {
        // Already gone is as good as shut down.
        let _ = source.shutdown(std::net::Shutdown::Both);
        state.source = None;
    }
}

/// Speaks with one source until it goes away or breaks the rules.
fn serve(
    source: UnixStream,
    state: &Mutex<State>,
    decisions: &Sender<(SlotId, Gate)>,
    clock: MonotonicClock,
) -> Result<(), FrameError> {
    source.set_write_timeout(Some(WRITE_MAX))?;
    {
        let mut state = lock(state);
        state.source = Some(source.try_clone()?);
        tell(&mut state, &frame(HELLO, &[&[1]]));
        let present: Vec<_> =
            state.present.iter().map(|(slot, label)| (*slot, label.clone())).collect();
        for (slot, label) in present {
            tell(&mut state, &frame(JOINED, &[&slot_bytes(slot), &label]));
        }
    }
    let (mut open, mut frames) = (BTreeSet::new(), BufReader::new(source));
    let ended = loop {
        match read_decision(&mut frames, clock) {
            Ok((slot, gate)) => {
                if gate.open {
                    open.insert(slot);
                } else {
                    open.remove(&slot);
                }
                // Without a deciding thread there is nobody to serve.
                if decisions.send((slot, gate)).is_err() {
                    break Ok(());
                }
            }
            Err(error) => break Err(error),
        }
    };
    lock(state).source = None;
    for slot in open {
        let _ = decisions.send((slot, Gate::CLOSED));
    }
    ended
}

fn read_decision(
    source: &mut impl Read,
    clock: MonotonicClock,
) -> Result<(SlotId, Gate), FrameError> {
    let mut head = [0; 3];
    source.read_exact(&mut head)?;
    let body_bytes = usize::from(u16::from_be_bytes([head[0], head[1]])).wrapping_sub(1);
    if head[2] != GATE {
        return Err(FrameError::Type(head[2]));
    }
    if body_bytes != 2 + GateCmd::BYTES {
        return Err(FrameError::Length(body_bytes));
    }
    let mut body = [0; 2 + GateCmd::BYTES];
    source.read_exact(&mut body)?;
    let shard = u16::from_be_bytes([body[0], body[1]]);
    let command = GateCmd::decode(&body[2..])?;
    let slot = SlotId { shard, index: command.slot, generation: command.generation };
    let valid_until = (command.valid_until != 0).then(|| clock.instant(command.valid_until));
    let gate = match command.op {
        GateOp::Close => Gate::CLOSED,
        GateOp::Open => Gate { open: true, layer_cap: command.layer_cap, valid_until },
    };
    Ok((slot, gate))
}

fn slot_bytes(slot: SlotId) -> [u8; 10] {
    let mut out = [0; 10];
    out[..2].copy_from_slice(&slot.shard.to_be_bytes());
    out[2..6].copy_from_slice(&slot.index.to_be_bytes());
    out[6..].copy_from_slice(&slot.generation.to_be_bytes());
    out
}

fn frame(kind: u8, parts: &[&[u8]]) -> Vec<u8> {
    let body_bytes: usize = parts.iter().map(|part| part.len()).sum();
    let mut out = Vec::with_capacity(3 + body_bytes);
    out.extend_from_slice(&(1 + body_bytes as u16).to_be_bytes());
    out.push(kind);
    parts.iter().for_each(|part| out.extend_from_slice(part));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    fn clock() -> MonotonicClock {
        MonotonicClock::new(Instant::now(), 1_000_000_000)
    }

    #[track_caller]
    fn check(bytes: &[u8], want: &str) {
        let got = match read_decision(&mut &bytes[..], clock()) {
            Ok((slot, gate)) => format!("{slot:?} open={}", gate.open),
            Err(error) => error.to_string(),
        };
        assert!(got.contains(want), "{got:?} lacks {want:?}");
    }

    #[test]
    fn a_frame_that_breaks_the_rules_is_refused_by_name() {
        let command = GateCmd { op: GateOp::Open, slot: 3, generation: 4, ..GateCmd::default() };
        let good = frame(GATE, &[&[0, 1], &command.encode()]);
        check(&good, "SlotId { shard: 1, index: 3, generation: 4 } open=true");
        check(&good[..20], "failed to fill whole buffer");
        check(&frame(9, &[&[0; 34]]), "unknown frame type 9");
        check(&frame(GATE, &[&[0; 33]]), "34 bytes, got 33");
        check(&[0, 0, GATE, 0], "34 bytes, got");
        check(&frame(GATE, &[&[0, 1], &[7; 32]]), "unknown operation 7");
    }
}
