//! The demo stream: a committed loop, played in real time as a publisher in this process.
//!
//! Sequence numbers, timestamps and picture ids go on over the turns of the loop, so that a viewer
//! sees one endless stream. A keyframe each second is the answer to every keyframe request.

use std::{
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use sfu::ports::Codec;

use crate::{
    relay_control::Control,
    streams::{Refused, StreamName},
};

pub mod clip;
pub mod player;

use clip::{Clip, ClipError};
use player::Player;

/// Name of the stream.
pub const NAME: &str = "demo";
/// Its title.
pub const TITLE: &str = "Demo";
/// A player that is later than this (the host slept) goes on from now instead of catching up.
const LATE_MAX: Duration = Duration::from_millis(500);

/// Why the demo does not play.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The files in the binary are damaged.
    #[error("the demo's files: {0}")]
    Clip(#[from] ClipError),
    /// The name is taken, or there are too many streams.
    #[error("the demo stream was refused: {0:?}")]
    Refused(Refused),
    /// No thread.
    #[error("no thread for the demo: {0}")]
    Thread(#[from] std::io::Error),
}

/// The demo, which plays until this is dropped.
#[derive(Debug)]
pub struct Demo {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Demo {
    /// Makes the stream live and starts to play.
    pub fn start(control: Arc<Control>) -> Result<Self, DemoError> {
        let clip = Clip::embedded()?;
        let name: StreamName = NAME.parse().expect("a valid name, fixed here");
        let (stream, mut source) = control
            .open_local(&name, TITLE, &[Codec::Vp8, Codec::Opus])
            .map_err(DemoError::Refused)?;
        let (stop, stopped) = crossbeam_channel::bounded(0);
        let thread = thread::Builder::new().name("demo".to_owned()).spawn(move || {
            // Random starts, as RFC 3550 §5.1 asks.
            let player = Player::new(clip, &mut rand::rng());
            let mut refused = 0_u64;
            play(player, &stopped, &mut |packet| {
                let player::Packet { kind, marker, sequence, timestamp, payload } = packet;
                let taken = source.push(kind, marker, sequence, timestamp, payload);
                if !taken && !control.is_draining() {
                    refused += 1;
                    // Powers of two: the first says it, the rest do not flood the log.
                    if refused.is_power_of_two() {
                        tracing::warn!(refused, "the shard has no room for the demo's packets");
                    }
                }
            });
            drop(source);
            control.close_local(stream);
        })?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It can only have panicked, which is in the log.
            let _ = thread.join();
        }
    }
}

/// Sends each packet when it is due, until `stopped` hangs up.
fn play(mut player: Player, stopped: &Receiver<()>, send: &mut dyn FnMut(player::Packet<'_>)) {
    let mut begun = Instant::now();
    loop {
        let now = Instant::now();
        let due = begun + player.due();
        if let Some(late) = now.checked_duration_since(due) {
            if late > LATE_MAX {
                begun += late;
            }
            player.advance(send);
            continue;
        }
        match stopped.recv_timeout(due - now) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}
