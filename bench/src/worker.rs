//! One thread that drives many clients: arrivals, timers, the publishers' packets, a short sleep.
//!
//! Arrival times are the kernel's, so the sleep between two looks costs no accuracy; it saves the
//! generator a wake-up per datagram.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError};
use std::time::{Duration, Instant};

use str0m::{Event, RtcError};

use crate::client::{Client, Joined, TIMER_MAX};
use crate::histogram::Histogram;
use crate::pay::{PayAccount, Purse, Seat};
use crate::payload::Kind;
use crate::publisher::Publisher;
use crate::socket::{self, Batch, Gro, Poller};
use crate::viewer::Viewer;

/// Longest sleep between two looks at the sockets.
const TICK: Duration = Duration::from_micros(500);

/// How often a worker hands over what it counted meanwhile.
const RECENT_EVERY: Duration = Duration::from_millis(250);

/// What the reporting thread tells a worker.
pub enum Command {
    /// Drive this client and play into it.
    Publish(Box<Joined>, Box<Publisher>),
    /// Drive this client, keep its account, and pay from this seat.
    View(Box<Joined>, Box<Viewer>, Option<Box<Seat>>),
    /// The viewer of this number says goodbye; its account stays, and the path of its session comes
    /// back as [`WorkerConfig::departed`].
    Depart(usize, [u64; 2], Option<String>),
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
    /// Viewers that said goodbye before the end.
    pub departed: AtomicU64,
    /// Packets decrypted by all viewers, each once.
    pub packets: AtomicU64,
    /// Packets that lie between the first and the newest of each viewer: what of these is not among
    /// `packets` is missing.
    pub spanned: AtomicU64,
    /// Clients whose transport failed or was closed by the server.
    pub ended: AtomicU64,
    /// Workers that know that sessions are being deleted.
    pub leaving: AtomicU64,
    /// Looks, by worker, that found nothing to receive: its sockets were empty.
    pub idle_looks: Vec<AtomicU64>,
}

/// What a worker brings home.
pub struct Outcome {
    /// The viewers' accounts.
    pub viewers: Vec<Viewer>,
    /// What those that paid did, by viewer's number.
    pub paid: Vec<PayAccount>,
    /// Arrival minus send time, within the measured window.
    pub latency: Histogram,
    /// Datagrams that the kernel dropped at our own sockets.
    pub dropped_datagrams: u64,
    /// What went wrong with single clients, first of each kind.
    pub errors: Vec<String>,
}

enum Role {
    Publisher(Box<Publisher>),
    Viewer(Box<Viewer>, Option<Box<Seat>>),
}

struct Slot {
    client: Client,
    role: Role,
    ended: bool,
}

/// What all workers of a run share.
#[derive(Clone)]
pub struct WorkerConfig {
    /// The track whose first packet makes a viewer count as playing.
    pub awaited: Kind,
    /// See [`Gro`].
    pub gro: Gro,
    /// Share of the media and feedback datagrams that viewers lose on purpose, 0 to 1.
    pub drop_share: f64,
    /// Latencies since the last time, a few times a second.
    pub recent: Sender<Histogram>,
    /// Purses of viewers that have left.
    pub purses: Sender<Purse>,
    /// Sessions that are driven no longer: only now may the server be told, or the end that it makes
    /// of them would count as its doing.
    pub departed: Sender<String>,
}

/// See the module.
pub struct Worker {
    number: usize,
    commands: Receiver<Command>,
    live: Arc<Live>,
    config: WorkerConfig,
    random: u64,
    slots: Vec<Option<Slot>>,
    /// Places of `slots` to be used again.
    free: Vec<usize>,
    /// Place of a viewer, by its number.
    places: BTreeMap<usize, usize>,
    done: Vec<Viewer>,
    paid: Vec<PayAccount>,
    dropped_datagrams: u64,
    poller: Poller,
    batch: Batch,
    latency: Histogram,
    recent: Histogram,
    recent_until: Instant,
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
            random: 0x9e37_79b9_7f4a_7c15 ^ number as u64,
            slots: Vec::new(),
            free: Vec::new(),
            places: BTreeMap::new(),
            done: Vec::new(),
            paid: Vec::new(),
            dropped_datagrams: 0,
            poller: Poller::new()?,
            batch: Batch::new(config.gro),
            config,
            latency: Histogram::default(),
            recent: Histogram::default(),
            recent_until: Instant::now() + RECENT_EVERY,
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
            if Instant::now() >= self.recent_until {
                self.hand_over();
            }
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
                Ok(Command::View(joined, viewer, seat)) => {
                    let number = viewer.number;
                    let place = self.add(joined.client, Role::Viewer(viewer, seat))?;
                    self.places.insert(number, place);
                }
                Ok(Command::Depart(number, left, session_path)) => {
                    self.depart(number, left);
                    // At the end of the run nobody takes it: all sessions are deleted then.
                    let _late = session_path.map(|path| self.config.departed.send(path));
                }
                Ok(Command::Measure(measuring)) => {
                    self.hand_over();
                    self.measuring = measuring;
                }
                Ok(Command::Leave) => {
                    self.leaving = true;
                    self.live.leaving.fetch_add(1, Ordering::Relaxed);
                }
                Ok(Command::Stop) | Err(TryRecvError::Disconnected) => return Ok(true),
                Err(TryRecvError::Empty) => return Ok(false),
            }
        }
    }

    fn add(&mut self, client: Client, role: Role) -> io::Result<usize> {
        let place = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        self.poller.add(&client.socket, place as u64)?;
        self.slots[place] = Some(Slot { client, role, ended: false });
        Ok(place)
    }

    fn depart(&mut self, number: usize, left: [u64; 2]) {
        let Some(place) = self.places.remove(&number) else { return };
        let Some(mut slot) = self.slots[place].take() else { return };
        self.free.push(place);
        if let Role::Viewer(viewer, _) = &mut slot.role {
            viewer.left = Some(left);
        }
        self.live.departed.fetch_add(1, Ordering::Relaxed);
        self.close(slot);
    }

    /// Says goodbye. The socket leaves the poller as it is closed.
    fn close(&mut self, mut slot: Slot) {
        slot.client.close();
        self.dropped_datagrams += socket::dropped_datagrams(&slot.client.socket);
        let Role::Viewer(viewer, seat) = slot.role else { return };
        self.done.push(*viewer);
        if let Some(seat) = seat {
            let (account, purse) = seat.leave();
            self.paid.push(account);
            // Nobody takes purses any more at the end of the run.
            let _kept = self.config.purses.send(purse);
        }
    }

    /// Latencies since the last time, to whoever draws them; into the window's where it is open.
    fn hand_over(&mut self) {
        self.recent_until = Instant::now() + RECENT_EVERY;
        let recent = std::mem::take(&mut self.recent);
        if self.measuring {
            self.latency.merge(&recent);
        }
        // Nobody draws any more at the end of the run.
        let _drawn = self.config.recent.send(recent);
    }

    fn receive(&mut self, index: usize, offset_ns: u64) -> io::Result<()> {
        let Self { slots, batch, live, recent, errors, config, leaving, random, .. } = self;
        // It has said goodbye since the poller looked.
        let Some(slot) = &mut slots[index] else { return Ok(()) };
        // A full batch means that more may wait; the next look takes it, after the others.
        batch.receive(&slot.client.socket)?;
        let (now, now_ns) = (Instant::now(), socket::monotonic_ns());
        for arrival in batch.arrivals() {
            let arrived_ns = match arrival.arrived_realtime_ns {
                0 => now_ns,
                stamped => stamped.saturating_sub(offset_ns).min(now_ns),
            };
            let arrived = now.checked_sub(Duration::from_nanos(now_ns - arrived_ns)).unwrap_or(now);
            let latency = Some(&mut *recent);
            let mut context =
                Context { arrived, arrived_ns, latency, live, awaited: config.awaited };
            for datagram in arrival.bytes.chunks(arrival.segment_bytes) {
                if slot.ended {
                    return Ok(());
                }
                if let Role::Viewer(viewer, _) = &mut slot.role
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
        for slot in slots.iter_mut().flatten().filter(|slot| !slot.ended) {
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
            let mut is_paying = false;
            if let Role::Viewer(_, Some(seat)) = role {
                is_paying = done.is_ok() && seat.deadline() <= now;
                if is_paying {
                    let send = |frame: &[u8]| client.send_message(frame).unwrap_or(false);
                    if let Some(why) = seat.turn(now, send) {
                        note_error(errors, why);
                    }
                }
                next = next.min(seat.deadline());
            }
            if is_paying {
                // Frames leave with the next outputs.
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

    fn finish(mut self) -> Outcome {
        self.hand_over();
        for slot in std::mem::take(&mut self.slots).into_iter().flatten() {
            self.close(slot);
        }
        Outcome {
            viewers: self.done,
            paid: self.paid,
            latency: self.latency,
            dropped_datagrams: self.dropped_datagrams,
            errors: self.errors,
        }
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
            (Role::Viewer(viewer, _), Event::Connected) => {
                viewer.connected_after.get_or_insert(after);
                self.live.connected.fetch_add(1, Ordering::Relaxed);
                if !viewer.hears {
                    self.live.ready.fetch_add(1, Ordering::Relaxed);
                }
            }
            (Role::Viewer(_, Some(seat)), Event::ChannelData(data)) => seat.note_frame(&data.data),
            (Role::Viewer(viewer, seat), Event::RtpPacket(packet)) => {
                let pt = packet.header.payload_type;
                let kind = match () {
                    () if pt == video_pt => Kind::Video,
                    () if pt == audio_pt => Kind::Audio,
                    () => return,
                };
                let waited = playing_after(viewer, self.awaited).is_none();
                let latency = self.latency.as_deref_mut();
                let arrived_ns = self.arrived_ns;
                let progress =
                    viewer.note_packet(&packet.payload, kind, arrived_ns, after, latency);
                if let Some(seat) = seat {
                    seat.note_packet(self.arrived, packet.payload.len());
                }
                if waited && playing_after(viewer, self.awaited).is_some() {
                    self.live.playing.fetch_add(1, Ordering::Relaxed);
                    if viewer.hears {
                        self.live.ready.fetch_add(1, Ordering::Relaxed);
                    }
                }
                self.live.packets.fetch_add(progress.fresh, Ordering::Relaxed);
                self.live.spanned.fetch_add(progress.spanned, Ordering::Relaxed);
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
    note_error(errors, reason);
}

fn note_error(errors: &mut Vec<String>, reason: String) {
    if errors.len() < ERRORS_MAX && !errors.contains(&reason) {
        errors.push(reason);
    }
}
