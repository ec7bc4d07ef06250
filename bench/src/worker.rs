//! One thread that drives many clients: arrivals, timers, the publishers' packets, a short sleep.
//!
//! Arrival times are the kernel's, so the sleep between two looks costs no accuracy; it saves the
//! generator a wake-up per datagram.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

use str0m::{Event, RtcError};

use crate::client::{Client, Joined, TIMER_MAX};
use crate::histogram::Histogram;
use crate::payload::Kind;
use crate::publisher::Publisher;
use crate::socket::{self, Batch, Gro, Poller};
use crate::viewer::Viewer;

/// Longest sleep between two looks at the sockets.
const TICK: Duration = Duration::from_micros(500);

/// What the reporting thread tells a worker.
pub enum Command {
    /// Drive this client and play into it.
    Publish(Box<Joined>, Box<Publisher>),
    /// Drive this client and keep its account.
    View(Box<Joined>, Box<Viewer>),
    /// Begin to count latency, or end.
    Measure(bool),
    /// Sessions are being deleted: their end is no failure from now on.
    Leave,
    /// Say goodbye to all and return the accounts.
    Stop,
}

/// Live figures of all workers, for the progress line; each is a plain counter.
#[derive(Debug, Default)]
pub struct Live {
    /// Publishers with connected transport.
    pub publishing: AtomicU64,
    /// Viewers with connected transport.
    pub connected: AtomicU64,
    /// Viewers that decrypted a packet of the track they wait for.
    pub playing: AtomicU64,
    /// Viewers that have what they wait for: media, or connected transport where a sink stands
    /// between them and the media.
    pub ready: AtomicU64,
    /// Packets decrypted by all viewers.
    pub packets: AtomicU64,
    /// Clients whose transport failed or was closed by the server.
    pub ended: AtomicU64,
    /// Looks, by worker, that found nothing to receive: its sockets were empty.
    pub idle_looks: Vec<AtomicU64>,
}

/// What a worker brings home.
pub struct Outcome {
    /// The viewers' accounts.
    pub viewers: Vec<Viewer>,
    /// Arrival minus send time, within the measured window.
    pub latency: Histogram,
    /// Datagrams that the kernel dropped at our own sockets.
    pub dropped_datagrams: u64,
    /// What went wrong with single clients, first of each kind.
    pub errors: Vec<String>,
}

enum Role {
    Publisher(Box<Publisher>),
    Viewer(Box<Viewer>),
}

struct Slot {
    client: Client,
    role: Role,
    ended: bool,
}

/// What all workers of a run share.
#[derive(Debug, Clone, Copy)]
pub struct WorkerConfig {
    /// The track whose first packet makes a viewer count as playing.
    pub awaited: Kind,
    /// See [`Gro`].
    pub gro: Gro,
    /// Share of the media and feedback datagrams that viewers lose on purpose, 0 to 1.
    pub drop_share: f64,
}

/// See the module.
pub struct Worker {
    number: usize,
    commands: Receiver<Command>,
    live: Arc<Live>,
    config: WorkerConfig,
    random: u64,
    slots: Vec<Slot>,
    poller: Poller,
    batch: Batch,
    latency: Histogram,
    measuring: bool,
    leaving: bool,
    errors: Vec<String>,
}

/// Different errors kept for the report.
const ERRORS_MAX: usize = 8;

impl Worker {
    /// A worker without clients.
    pub fn new(
        number: usize,
        commands: Receiver<Command>,
        live: Arc<Live>,
        config: WorkerConfig,
    ) -> io::Result<Self> {
        Ok(Self {
            number,
            commands,
            live,
            config,
            random: 0x9e37_79b9_7f4a_7c15 ^ number as u64,
            slots: Vec::new(),
            poller: Poller::new()?,
            batch: Batch::new(config.gro),
            latency: Histogram::default(),
            measuring: false,
            leaving: false,
            errors: Vec::new(),
        })
    }

    /// Drives clients until [`Command::Stop`].
    pub fn run(mut self) -> io::Result<Outcome> {
        let mut ready = Vec::new();
        loop {
            let stop = self.take_commands()?;
            if stop {
                return Ok(self.finish());
            }
            self.poller.ready(&mut ready)?;
            let offset_ns = socket::realtime_offset_ns();
            for token in &ready {
                self.receive(*token as usize, offset_ns)?;
            }
            let due = self.timers();
            if ready.is_empty() {
                self.live.idle_looks[self.number].fetch_add(1, Ordering::Relaxed);
                let until = due.saturating_duration_since(Instant::now());
                std::thread::sleep(until.min(TICK));
            }
        }
    }

    fn take_commands(&mut self) -> io::Result<bool> {
        loop {
            match self.commands.try_recv() {
                Ok(Command::Publish(joined, publisher)) => {
                    self.add(joined.client, Role::Publisher(publisher))?;
                }
                Ok(Command::View(joined, viewer)) => {
                    self.add(joined.client, Role::Viewer(viewer))?;
                }
                Ok(Command::Measure(measuring)) => self.measuring = measuring,
                Ok(Command::Leave) => self.leaving = true,
                Ok(Command::Stop) | Err(TryRecvError::Disconnected) => return Ok(true),
                Err(TryRecvError::Empty) => return Ok(false),
            }
        }
    }

    fn add(&mut self, client: Client, role: Role) -> io::Result<()> {
        self.poller.add(&client.socket, self.slots.len() as u64)?;
        self.slots.push(Slot { client, role, ended: false });
        Ok(())
    }

    fn receive(&mut self, index: usize, offset_ns: u64) -> io::Result<()> {
        let Self {
            slots, batch, live, latency, measuring, errors, config, leaving, random, ..
        } = self;
        let slot = &mut slots[index];
        // A full batch means that more may wait; the next look takes it, after the others.
        batch.receive(&slot.client.socket)?;
        let (now, now_ns) = (Instant::now(), socket::monotonic_ns());
        for arrival in batch.arrivals() {
            let arrived_ns = match arrival.arrived_realtime_ns {
                0 => now_ns,
                stamped => stamped.saturating_sub(offset_ns).min(now_ns),
            };
            let arrived = now.checked_sub(Duration::from_nanos(now_ns - arrived_ns)).unwrap_or(now);
            let latency = measuring.then_some(&mut *latency);
            let mut context =
                Context { arrived, arrived_ns, latency, live, awaited: config.awaited };
            for datagram in arrival.bytes.chunks(arrival.segment_bytes) {
                if slot.ended {
                    return Ok(());
                }
                if let Role::Viewer(viewer) = &mut slot.role
                    && datagram.first().is_some_and(|first| (128..=191).contains(first))
                {
                    if config.drop_share > 0.0 && draw(random) < config.drop_share {
                        viewer.dropped_on_purpose += 1;
                        continue;
                    }
                    note_wire(viewer, &slot.client, datagram);
                }
                let Slot { client, role, .. } = slot;
                let (pts, started) = ((client.video_pt, client.audio_pt), client.started);
                let done = client.handle_datagram(arrived, &arrival, datagram, |event| {
                    context.handle(role, pts, started, event);
                });
                if end_if(slot, &done) && !*leaving {
                    note_end(done, live, errors);
                }
            }
        }
        Ok(())
    }

    /// Sends what publishers owe and fires timers; when the next is due.
    fn timers(&mut self) -> Instant {
        let Self { slots, live, errors, config, leaving, .. } = self;
        let mut next = Instant::now() + TIMER_MAX;
        for slot in slots.iter_mut().filter(|slot| !slot.ended) {
            let now = Instant::now();
            let Slot { client, role, .. } = slot;
            let (pts, started) = ((client.video_pt, client.audio_pt), client.started);
            let (arrived_ns, latency) = (0, None);
            let mut context =
                Context { arrived: now, arrived_ns, latency, live, awaited: config.awaited };
            let mut done = Ok(());
            if let Role::Publisher(publisher) = role
                && publisher.due().is_some_and(|due| due <= now)
            {
                let mut key_wanted = false;
                done = publisher.send_due(client, now, |event| {
                    key_wanted |= matches!(event, Event::KeyframeRequest(_));
                });
                if key_wanted {
                    publisher.request_keyframe();
                }
            }
            if done.is_ok() && client.deadline() <= now {
                done = client.handle_timeout(now, |event| {
                    context.handle(role, pts, started, event);
                });
            }
            if let Role::Publisher(publisher) = role
                && let Some(due) = publisher.due()
            {
                next = next.min(due);
            }
            next = next.min(client.deadline());
            if end_if(slot, &done) && !*leaving {
                note_end(done, live, errors);
            }
        }
        next
    }

    fn finish(self) -> Outcome {
        let (mut viewers, mut dropped_datagrams) = (Vec::new(), 0);
        for mut slot in self.slots {
            slot.client.close();
            dropped_datagrams += socket::dropped_datagrams(&slot.client.socket);
            if let Role::Viewer(viewer) = slot.role {
                viewers.push(*viewer);
            }
        }
        Outcome { viewers, latency: self.latency, dropped_datagrams, errors: self.errors }
    }
}

/// What an event of a client needs to become an entry of an account.
struct Context<'a> {
    arrived: Instant,
    arrived_ns: u64,
    latency: Option<&'a mut Histogram>,
    live: &'a Live,
    awaited: Kind,
}

impl Context<'_> {
    fn handle(
        &mut self,
        role: &mut Role,
        (video_pt, audio_pt): (str0m::media::Pt, str0m::media::Pt),
        started: Instant,
        event: Event,
    ) {
        let after = self.arrived.saturating_duration_since(started);
        match (role, event) {
            (Role::Publisher(publisher), Event::Connected) => {
                publisher.start(self.arrived);
                self.live.publishing.fetch_add(1, Ordering::Relaxed);
            }
            (Role::Publisher(publisher), Event::KeyframeRequest(_)) => {
                publisher.request_keyframe();
            }
            (Role::Viewer(viewer), Event::Connected) => {
                viewer.connected_after.get_or_insert(after);
                self.live.connected.fetch_add(1, Ordering::Relaxed);
                if !viewer.hears {
                    self.live.ready.fetch_add(1, Ordering::Relaxed);
                }
            }
            (Role::Viewer(viewer), Event::RtpPacket(packet)) => {
                let pt = packet.header.payload_type;
                let kind = match () {
                    () if pt == video_pt => Kind::Video,
                    () if pt == audio_pt => Kind::Audio,
                    () => return,
                };
                let waited = playing_after(viewer, self.awaited).is_none();
                let latency = self.latency.as_deref_mut();
                viewer.note_packet(&packet.payload, kind, self.arrived_ns, after, latency);
                if waited && playing_after(viewer, self.awaited).is_some() {
                    self.live.playing.fetch_add(1, Ordering::Relaxed);
                    if viewer.hears {
                        self.live.ready.fetch_add(1, Ordering::Relaxed);
                    }
                }
                self.live.packets.fetch_add(1, Ordering::Relaxed);
            }
            // Everything else concerns neither account nor publisher.
            _ => {}
        }
    }
}

/// How long a viewer waited for the track that makes it count as playing.
pub fn playing_after(viewer: &Viewer, awaited: Kind) -> Option<Duration> {
    match awaited {
        Kind::Audio => viewer.audio_after,
        Kind::Video => viewer.video_after,
    }
}

/// The next number of a xorshift generator (Marsaglia), 0 to 1: losses repeat from run to run.
fn draw(state: &mut u64) -> f64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    (*state >> 11) as f64 / (1_u64 << 53) as f64
}

fn note_wire(viewer: &mut Viewer, client: &Client, datagram: &[u8]) {
    // RTP by its first byte (RFC 7983 §7), RTCP by its payload type (RFC 5761 §4).
    let [128..=191, pt, seq_high, seq_low, _, _, _, _, s0, s1, s2, s3, ..] = *datagram else {
        return;
    };
    if (192..=223).contains(&pt) {
        return;
    }
    viewer.rtx += u64::from(client.is_rtx(pt & 0x7f));
    viewer.note_wire(u32::from_be_bytes([s0, s1, s2, s3]), u16::from_be_bytes([seq_high, seq_low]));
}

/// Marks a client whose transport has ended; true when it has.
fn end_if(slot: &mut Slot, done: &Result<(), RtcError>) -> bool {
    slot.ended = done.is_err() || !slot.client.is_alive();
    slot.ended
}

fn note_end(done: Result<(), RtcError>, live: &Live, errors: &mut Vec<String>) {
    let reason =
        done.err().map_or_else(|| "closed by the server".to_owned(), |error| error.to_string());
    live.ended.fetch_add(1, Ordering::Relaxed);
    if errors.len() < ERRORS_MAX && !errors.contains(&reason) {
        errors.push(reason);
    }
}
