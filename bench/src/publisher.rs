//! Plays a trace in a loop into one client.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use str0m::{Event, RtcError};

use crate::client::{Client, OutgoingRtp};
use crate::payload::{self, Kind, Record, Vp8Frame};
use crate::socket::monotonic_ns;
use crate::trace::Trace;

/// A keyframe at least this often, in frames (3 s at 30 a second).
const KEYFRAME_INTERVAL_FRAMES: u64 = 90;

/// Packets handed to the transport so far; read by the thread that reports.
#[derive(Debug, Default)]
pub struct Published {
    audio: AtomicU64,
    video: AtomicU64,
}

impl Published {
    /// Next counter of a track.
    pub fn next(&self, kind: Kind) -> u64 {
        self.cell(kind).load(Ordering::Relaxed)
    }

    fn cell(&self, kind: Kind) -> &AtomicU64 {
        match kind {
            Kind::Audio => &self.audio,
            Kind::Video => &self.video,
        }
    }
}

/// Where in the trace a publisher is.
pub struct Publisher {
    number: u16,
    trace: Arc<Trace>,
    published: Arc<Published>,
    /// Set when the transport is up: the trace begins then.
    loop_began: Option<Instant>,
    loops: u64,
    next: usize,
    frames: u64,
    frames_since_key: u64,
    frame_is_key: bool,
    frame_begins: bool,
    key_wanted: bool,
    frame_timestamp: u32,
    scratch: Vec<u8>,
}

impl Publisher {
    /// Nothing leaves before [`Publisher::start`].
    pub fn new(number: u16, trace: Arc<Trace>, published: Arc<Published>) -> Self {
        Self {
            number,
            trace,
            published,
            loop_began: None,
            loops: 0,
            next: 0,
            frames: 0,
            frames_since_key: 0,
            frame_is_key: false,
            frame_begins: true,
            key_wanted: true,
            frame_timestamp: 0,
            scratch: Vec::new(),
        }
    }

    /// The transport is up.
    pub fn start(&mut self, now: Instant) {
        self.loop_began.get_or_insert(now);
    }

    /// The next frame will be a keyframe (PLI or FIR, RFC 4585 §6.3.1, RFC 5104 §3.5.1).
    pub fn request_keyframe(&mut self) {
        self.key_wanted = true;
    }

    /// When the next packet is due; `None` before the start.
    pub fn due(&self) -> Option<Instant> {
        Some(self.loop_began? + self.trace.packets[self.next].at)
    }

    /// Sends what is due.
    pub fn send_due(
        &mut self,
        client: &mut Client,
        now: Instant,
        mut on: impl FnMut(Event),
    ) -> Result<(), RtcError> {
        while let Some(due) = self.due().filter(|due| *due <= now) {
            let packet = self.trace.packets[self.next];
            let kind = packet.kind;
            let counter = self.published.next(kind);
            let timestamp = match kind {
                Kind::Audio => (counter as u32).wrapping_mul(960),
                Kind::Video => self.frame(due, packet.key),
            };
            let frame = (kind == Kind::Video).then_some(Vp8Frame {
                picture_id: (self.frames & 0x7fff) as u16,
                start: self.frame_begins,
                key: self.frame_is_key,
            });
            let record = Record { publisher: self.number, kind, counter, sent_ns: monotonic_ns() };
            payload::write(&mut self.scratch, record, frame, packet.payload_bytes);
            let rtp = OutgoingRtp {
                kind,
                packet: counter,
                timestamp,
                marker: packet.marker,
                payload: &self.scratch,
            };
            client.send_rtp(now, rtp, &mut on)?;
            // One writer, and readers that need no order beside other memory.
            self.published.cell(kind).store(counter + 1, Ordering::Relaxed);
            if kind == Kind::Video {
                self.frame_begins = packet.marker;
                self.frames += u64::from(packet.marker);
            }
            self.next += 1;
            if self.next == self.trace.packets.len() {
                self.next = 0;
                self.loops += 1;
                self.loop_began = self.loop_began.map(|began| began + self.trace.period);
            }
        }
        Ok(())
    }

    /// Timestamp of the frame that a packet due at `due` belongs to; decides at its first packet.
    fn frame(&mut self, due: Instant, key_in_trace: bool) -> u32 {
        if self.frame_begins {
            let stale = self.frames_since_key >= KEYFRAME_INTERVAL_FRAMES;
            self.frame_is_key = key_in_trace || self.key_wanted || stale;
            self.frames_since_key = if self.frame_is_key { 1 } else { self.frames_since_key + 1 };
            self.key_wanted = false;
            let into_loop = self.loop_began.map_or(0, |began| (due - began).as_micros() as u64);
            let period = self.trace.period.as_micros() as u64;
            // 90 kHz: nine ticks in 100 µs. The timestamp wraps, as RTP's does.
            self.frame_timestamp = ((self.loops * period + into_loop) * 9 / 100) as u32;
        }
        self.frame_timestamp
    }
}
