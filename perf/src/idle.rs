//! What one idle session holds: the heap that the relay's side of a whole handshake leaves behind,
//! beside what str0m alone leaves behind, and the resident memory.
//!
//! Both sides run in this thread without sockets. Only what is allocated while the relay's code
//! runs counts, and only what it has not freed by the end. Resident memory is the process's: the
//! clients come and go one after the other, and what the allocator keeps of them is in it.

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
use str0m::change::{SdpAnswer, SdpPendingOffer};
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

/// What idle sessions hold, a session.
struct Held {
    heap_bytes: i64,
    resident_bytes: i64,
}

/// Prints what `sessions` idle sessions hold, with a data channel and without.
///
/// # Errors
/// More sessions than a shard takes, a handshake that does not finish.
pub fn run(sessions: u16) -> anyhow::Result<()> {
    let most = sfu::limits::SESSIONS_PER_SHARD_MAX;
    ensure!((1..=most).contains(&sessions.into()), "1 to {most} sessions");
    println!("{sessions} idle sessions of a shard, bytes each:");
    println!();
    println!("| data channel | heap | of it str0m alone | of it the session struct | resident |");
    println!("|---|---|---|---|---|");
    for data_channel in [false, true] {
        let ours = relay(sessions, data_channel)?;
        // Fewer are enough: each holds the same, to the byte.
        let theirs = str0m_alone(sessions.min(STR0M_SESSIONS_MAX), data_channel)?;
        println!(
            "| {} | {} | {} | {} | {} |",
            if data_channel { "yes" } else { "no" },
            ours.heap_bytes,
            theirs.heap_bytes,
            size_of::<sfu::session::transport::Session>(),
            ours.resident_bytes
        );
    }
    Ok(())
}

/// Sessions of the measurement beside.
const STR0M_SESSIONS_MAX: u16 = 200;

/// The process's resident memory, after the allocator gave back what it can.
fn resident_bytes() -> anyhow::Result<i64> {
    #[cfg(target_env = "gnu")]
    // SAFETY: no memory of ours is involved.
    unsafe {
        libc::malloc_trim(0);
    }
    let text = std::fs::read_to_string("/proc/self/statm")?;
    let pages = text.split_whitespace().nth(1).context("statm has a second field")?;
    // SAFETY: an integer and no memory.
    let page_bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    Ok(pages.parse::<i64>()? * page_bytes)
}

/// Sessions of a shard's core.
fn relay(sessions: u16, data_channel: bool) -> anyhow::Result<Held> {
    let start = Instant::now();
    let here = SocketAddr::from((Ipv4Addr::LOCALHOST, 7000));
    let endpoints = vec![Endpoint { bind: here, advertise: here }];
    let clock = MonotonicClock::new(start, 1);
    let certificate = sfu::generate_certificate().context("the system has no randomness")?;
    let mut core = counted(|| Core::new(0, endpoints.clone(), vec![None], clock, start));
    let mut link = MemoryLink::new()?;
    link.keep = true;
    let (before, resident_before) = (LIVE_BYTES.with(Cell::get), resident_bytes()?);
    for number in 0..sessions {
        // Time starts anew for each, or those that are idle would be closed as silent.
        core.now = start;
        let mut client = Client::new(number, data_channel, start)?;
        let (offer, pending) = client.offer(data_channel)?;
        let answer = counted(|| -> anyhow::Result<String> {
            let role = Role::Subscriber;
            let prepared = offer::prepare(&offer, role, 0, &endpoints, &certificate, start)?;
            let new = NewSession {
                key: SessionKey(u64::from(number) + 1),
                stream: StreamKey(1),
                role,
                slot: Some(SlotId { shard: 0, index: u32::from(number), generation: 1 }),
                rtc: prepared.rtc,
                keys: prepared.keys,
                ufrag: prepared.ufrag,
                tracks: prepared.tracks,
                offered_at: start,
            };
            core.handle_command(Command::Create(Box::new(new), 0));
            Ok(prepared.answer)
        })?;
        let answer = SdpAnswer::from_sdp_string(&answer)?;
        client.rtc.sdp_api().accept_answer(pending, answer)?;
        connect(&mut core, &mut link, &mut client, data_channel, start)?;
        link.runs.clear();
    }
    let sessions = i64::from(sessions);
    Ok(Held {
        heap_bytes: (LIVE_BYTES.with(Cell::get) - before) / sessions,
        resident_bytes: (resident_bytes()? - resident_before) / sessions,
    })
}

/// The same sessions of str0m, configured as the relay configures it, with nothing around them.
fn str0m_alone(sessions: u16, data_channel: bool) -> anyhow::Result<Held> {
    let start = Instant::now();
    let here = SocketAddr::from((Ipv4Addr::LOCALHOST, 7000));
    let endpoints = vec![Endpoint { bind: here, advertise: here }];
    let certificate = sfu::generate_certificate().context("the system has no randomness")?;
    let mut held = Vec::with_capacity(sessions.into());
    let (before, resident_before) = (LIVE_BYTES.with(Cell::get), resident_bytes()?);
    for number in 0..sessions {
        let mut client = Client::new(number, data_channel, start)?;
        let (offer, pending) = client.offer(data_channel)?;
        let (mut rtc, answer) = counted(|| -> anyhow::Result<(Rtc, String)> {
            let role = Role::Subscriber;
            let prepared = offer::prepare(&offer, role, 0, &endpoints, &certificate, start)?;
            Ok((prepared.rtc, prepared.answer))
        })?;
        let answer = SdpAnswer::from_sdp_string(&answer)?;
        client.rtc.sdp_api().accept_answer(pending, answer)?;
        connect_alone(&mut rtc, here, &mut client, data_channel, start)?;
        held.push(rtc);
    }
    let sessions = i64::from(sessions);
    Ok(Held {
        heap_bytes: (LIVE_BYTES.with(Cell::get) - before) / sessions,
        resident_bytes: (resident_bytes()? - resident_before) / sessions,
    })
}

/// Lets both sides of str0m talk until the handshake is over.
fn connect_alone(
    rtc: &mut Rtc,
    here: SocketAddr,
    client: &mut Client,
    data_channel: bool,
    mut now: Instant,
) -> anyhow::Result<()> {
    let mut connected = false;
    for _ in 0..2000 {
        now += Duration::from_millis(5);
        client.rtc.handle_input(Input::Timeout(now))?;
        let datagrams = client.drain()?;
        let answers = counted(|| -> anyhow::Result<Vec<Vec<u8>>> {
            rtc.handle_input(Input::Timeout(now))?;
            let mut answers = Vec::new();
            for datagram in datagrams {
                let (source, contents) = (client.address, datagram.as_slice().try_into()?);
                let receive = Receive { proto: Protocol::Udp, source, destination: here, contents };
                rtc.handle_input(Input::Receive(now, receive))?;
                loop {
                    match rtc.poll_output()? {
                        Output::Timeout(_) => break,
                        Output::Transmit(transmit) => answers.push(transmit.contents.to_vec()),
                        Output::Event(str0m::Event::Connected) => connected = true,
                        Output::Event(_) => {}
                    }
                }
            }
            Ok(answers)
        })?;
        for answer in &answers {
            let (destination, contents) = (client.address, answer.as_slice().try_into()?);
            let receive = Receive { proto: Protocol::Udp, source: here, destination, contents };
            client.rtc.handle_input(Input::Receive(now, receive))?;
        }
        // The vector of answers was counted; it goes as it came.
        counted(|| drop(answers));
        if connected && client.channel_open {
            return Ok(());
        }
    }
    anyhow::bail!("the handshake did not finish{}", if data_channel { " (channel)" } else { "" })
}

impl Client {
    fn new(number: u16, data_channel: bool, now: Instant) -> anyhow::Result<Client> {
        let mut rtc = Rtc::builder().set_rtp_mode(true).build(now);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 20_000 + number));
        rtc.add_local_candidate(Candidate::host(address, "udp")?);
        Ok(Client { rtc, address, channel_open: !data_channel })
    }

    /// An offer to watch, as a player makes it.
    fn offer(&mut self, data_channel: bool) -> anyhow::Result<(String, SdpPendingOffer)> {
        let mut api = self.rtc.sdp_api();
        api.add_media(MediaKind::Audio, Direction::RecvOnly, None, None, None);
        api.add_media(MediaKind::Video, Direction::RecvOnly, None, None, None);
        if data_channel {
            api.add_channel("sutantra/pay/1".into());
        }
        let (offer, pending) = api.apply().context("an offer")?;
        Ok((offer.to_sdp_string(), pending))
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
) -> anyhow::Result<()> {
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
            // All that waits, as a loop with nothing else to do would take it.
            while core.shake_hands() {}
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
            return Ok(());
        }
    }
    anyhow::bail!("the handshake did not finish")
}
