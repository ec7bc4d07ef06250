//! What one idle session holds: the heap that the relay's side of a whole handshake leaves behind.
//!
//! Both sides run in this thread without sockets. Only what is allocated while the relay's code
//! runs counts, and only what it has not freed by the end.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use sfu::io::{Endpoint, Train};
use sfu::ports::gate::MonotonicClock;
use sfu::ports::{Event, Role, SessionKey, SlotId, StreamKey};
use sfu::session::offer;
use sfu::session::transport::NewSession;
use sfu::shard::bench::MemoryLink;
use sfu::shard::{Command, Core};
use str0m::change::SdpAnswer;
use str0m::media::{Direction, MediaKind};
use str0m::net::{Protocol, Receive};
use str0m::{Candidate, Input, Output, Rtc};

/// Counts the bytes that are alive, of those allocated while [`counted`] runs.
pub struct Counting;

thread_local! {
    static COUNTS: Cell<bool> = const { Cell::new(false) };
    static LIVE_BYTES: Cell<i64> = const { Cell::new(0) };
}

fn note(bytes: i64) {
    if COUNTS.with(Cell::get) {
        LIVE_BYTES.with(|live| live.set(live.get() + bytes));
    }
}

// SAFETY: every call goes to the system allocator unchanged; the counters are plain thread-locals
// without destructors.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size() as i64);
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        note(-(layout.size() as i64));
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        note(new_size as i64 - layout.size() as i64);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, new_size) }
    }
}

fn counted<T>(work: impl FnOnce() -> T) -> T {
    COUNTS.with(|counts| counts.set(true));
    let result = work();
    COUNTS.with(|counts| counts.set(false));
    result
}

struct Client {
    rtc: Rtc,
    address: SocketAddr,
    channel_open: bool,
}

/// Bytes of heap that `sessions` idle sessions hold, and of those the session struct itself.
pub fn run(sessions: u16, data_channel: bool) -> anyhow::Result<()> {
    ensure!(sessions > 0, "at least one session");
    let start = Instant::now();
    let here = SocketAddr::from((Ipv4Addr::LOCALHOST, 7000));
    let endpoints = vec![Endpoint { bind: here, advertise: here }];
    let clock = MonotonicClock::new(start, 1);
    let certificate = sfu::generate_certificate().context("the system has no randomness")?;
    let mut core = counted(|| Core::new(0, endpoints.clone(), vec![None], clock, start));
    let mut link = MemoryLink::new()?;
    link.keep = true;
    let before = LIVE_BYTES.with(Cell::get);
    let mut now = start;
    for number in 0..sessions {
        let mut client = Client::new(number, data_channel, now)?;
        let (offer, pending) = {
            let mut api = client.rtc.sdp_api();
            api.add_media(MediaKind::Audio, Direction::RecvOnly, None, None, None);
            api.add_media(MediaKind::Video, Direction::RecvOnly, None, None, None);
            if data_channel {
                api.add_channel("sutantra/pay/1".into());
            }
            let (offer, pending) = api.apply().context("an offer")?;
            (offer.to_sdp_string(), pending)
        };
        let answer = counted(|| -> anyhow::Result<String> {
            let role = Role::Subscriber;
            let prepared = offer::prepare(&offer, role, 0, &endpoints, &certificate, now)?;
            let new = NewSession {
                key: SessionKey(u64::from(number) + 1),
                stream: StreamKey(1),
                role,
                slot: Some(SlotId { shard: 0, index: u32::from(number), generation: 1 }),
                rtc: prepared.rtc,
                keys: prepared.keys,
                ufrag: prepared.ufrag,
                tracks: prepared.tracks,
                offered_at: now,
            };
            core.handle_command(Command::Create(Box::new(new), 0));
            Ok(prepared.answer)
        })?;
        let answer = SdpAnswer::from_sdp_string(&answer)?;
        client.rtc.sdp_api().accept_answer(pending, answer)?;
        now = connect(&mut core, &mut link, &mut client, data_channel, now)?;
    }
    let live = LIVE_BYTES.with(Cell::get) - before;
    let what = if data_channel { "with a data channel" } else { "without a data channel" };
    println!(
        "{sessions} idle sessions {what}: {} B of heap each, {} B of them the session itself",
        live / i64::from(sessions),
        size_of::<sfu::session::transport::Session>()
    );
    Ok(())
}

impl Client {
    fn new(number: u16, data_channel: bool, now: Instant) -> anyhow::Result<Client> {
        let mut rtc = Rtc::builder().set_rtp_mode(true).build(now);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 20_000 + number));
        rtc.add_local_candidate(Candidate::host(address, "udp")?);
        Ok(Client { rtc, address, channel_open: !data_channel })
    }

    /// Datagrams for the relay; events are noted.
    fn drain(&mut self) -> anyhow::Result<Vec<Vec<u8>>> {
        let mut out = Vec::new();
        loop {
            match self.rtc.poll_output()? {
                Output::Timeout(_) => return Ok(out),
                Output::Transmit(transmit) => out.push(transmit.contents.to_vec()),
                Output::Event(str0m::Event::ChannelOpen(..)) => self.channel_open = true,
                Output::Event(_) => {}
            }
        }
    }
}

/// Lets both sides talk, 5 ms at a time, until the session is up.
fn connect(
    core: &mut Core,
    link: &mut MemoryLink,
    client: &mut Client,
    data_channel: bool,
    mut now: Instant,
) -> anyhow::Result<Instant> {
    let relay = core.endpoint(0).context("one endpoint")?;
    let mut connected = false;
    for _ in 0..2000 {
        now += Duration::from_millis(5);
        client.rtc.handle_input(Input::Timeout(now))?;
        for datagram in client.drain()? {
            counted(|| {
                core.now = now;
                let from = client.address;
                let segment_bytes = datagram.len();
                core.handle_train(&Train { endpoint: 0, from, bytes: &datagram, segment_bytes });
            });
        }
        counted(|| {
            core.now = now;
            core.handle_timers();
        });
        // The link keeps what it sends for us, which a socket would not.
        core.post(link);
        for (to, datagram) in std::mem::take(&mut link.sent) {
            if to == client.address {
                let contents = datagram.as_slice().try_into()?;
                let (proto, source, destination) = (Protocol::Udp, relay, to);
                let receive = Receive { proto, source, destination, contents };
                client.rtc.handle_input(Input::Receive(now, receive))?;
            }
        }
        while let Some(event) = core.next_event() {
            connected |= matches!(event, Event::Connected { .. });
        }
        if connected && (client.channel_open || !data_channel) {
            return Ok(now);
        }
    }
    anyhow::bail!("the handshake did not finish")
}
