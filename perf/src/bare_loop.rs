//! Receive, open, rewrite, seal, send: what a relay cannot do without, and nothing else.
//!
//! One thread does it and is measured by its own CPU clock. A second one plays the publisher and
//! the network behind the receivers: it sends a burst, waits for the relay's thread to have
//! forwarded it, empties the receivers, sends the next. Over loopback the delivery into the
//! receivers' sockets runs in the sender's system call, as always, and is part of the figure; into
//! the drop sink the kernel's segmentation, a copy and the XDP program are.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use sfu::io::{Endpoint, EpollLink, Link, LinkKind, Message, UringLink, bind_shards};
use sfu::ports::SrtpProfile;
use sfu::session::srtp::{OpenContext, SealContext, SrtpKeys, contexts};
use sfu::wire::rtp::{HeaderTemplate, RtpHeader};

use crate::connected::Connected;
use crate::drop_sink::{DropSink, GENERATOR, Hears, Network, RELAY};
use crate::sockets::{self, Receivers};
use crate::thread_clock::thread_cpu_ns;

/// Largest burst: segments of one message.
pub const BURST_MAX: usize = 64;
const SSRC: u32 = 0x1234_5678;
const PAYLOAD_TYPE: u8 = 96;
const TWCC_ID: u8 = 3;
/// A burst that has not been forwarded by then never will be.
const BURST_TIME_MAX: Duration = Duration::from_secs(5);
const PACKET_BYTES_MAX: usize = 2048;
/// As many ports as lie between this one and those that the kernel gives out by itself.
const DEAF_PORT_FIRST: u16 = 10_000;
const RECEIVERS_MAX: usize = 20_000;
/// Packets that were sent are dropped in the sender's system call or very soon after.
const SETTLE_TIME: Duration = Duration::from_millis(20);

/// What seals the packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cipher(pub SrtpProfile);

impl FromStr for Cipher {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> anyhow::Result<Self> {
        Ok(Self(match name {
            "aes128-gcm" => SrtpProfile::AEAD_AES_128_GCM,
            "aes256-gcm" => SrtpProfile::AEAD_AES_256_GCM,
            "sha1-80" => SrtpProfile::AES128_CM_SHA1_80,
            _ => bail!("no cipher is called {name:?}; there are aes128-gcm, aes256-gcm, sha1-80"),
        }))
    }
}

/// Packets of a subscriber that a tick finds waiting: a mix of bursts in fixed shares.
#[derive(Debug, Clone, PartialEq)]
pub struct Bursts(Vec<(usize, f64)>);

impl Bursts {
    /// Bursts of these many packets, each with how often it occurs (any scale).
    ///
    /// # Errors
    /// No burst that occurs, or one that is none of 1 to [`BURST_MAX`] packets.
    pub fn of_histogram(bursts: &[(usize, f64)]) -> anyhow::Result<Self> {
        let occur: Vec<_> = bursts.iter().copied().filter(|(_, often)| *often > 0.0).collect();
        ensure!(!occur.is_empty(), "at least one burst must occur");
        for (packets, often) in &occur {
            let good = (1..=BURST_MAX).contains(packets) && often.is_finite();
            ensure!(good, "a burst is 1 to {BURST_MAX} packets, not {packets}");
        }
        Ok(Self(occur))
    }

    /// Bursts of this many packets on average: of the whole numbers below and above it.
    ///
    /// # Errors
    /// As [`Bursts::of_histogram`].
    pub fn of_mean(packets: f64) -> anyhow::Result<Self> {
        ensure!(packets.is_finite() && packets >= 1.0, "a burst has one packet at least");
        let (below, share) = (packets.floor(), packets.fract());
        Self::of_histogram(&[(below as usize, 1.0 - share), (below as usize + 1, share)])
    }

    /// Packets of a burst, on average.
    pub fn mean(&self) -> f64 {
        let all: f64 = self.0.iter().map(|(_, often)| often).sum();
        self.0.iter().map(|(packets, often)| *packets as f64 * often).sum::<f64>() / all
    }

    /// Bursts of at least `packets` in all, each size spread evenly over the whole: the next is
    /// always the one that is most behind its share.
    fn schedule(&self, packets: u64) -> Vec<usize> {
        let all: f64 = self.0.iter().map(|(_, often)| often).sum();
        let mut given = vec![0.0; self.0.len()];
        let (mut bursts, mut sum) = (Vec::new(), 0);
        while sum < packets {
            let owed = |at: usize| self.0[at].1 / all * (bursts.len() + 1) as f64 - given[at];
            let most = (0..given.len()).max_by(|a, b| owed(*a).total_cmp(&owed(*b)));
            let most = most.expect("one occurs at least");
            given[most] += 1.0;
            bursts.push(self.0[most].0);
            sum += self.0[most].0 as u64;
        }
        bursts
    }
}

/// Whether a subscriber's packets share a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gso {
    /// A burst is one message of segments.
    On,
    /// A message for each packet.
    Off,
}

/// Where packets leave from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sockets {
    /// One socket for all, the address in each message.
    Shared,
    /// A connected socket each.
    Connected,
}

/// Where packets go.
#[derive(Debug, Clone, Copy)]
pub enum Delivery<'a> {
    /// To sockets on loopback, emptied between bursts.
    Loopback,
    /// The same without emptying them: they fill, and the kernel drops.
    Undrained,
    /// Into the drop sink, which counts them; the caller's thread has entered the network.
    Drop(&'a Network, &'a DropSink),
}

/// One measurement.
#[derive(Debug, Clone)]
pub struct Case<'a> {
    /// Which body of the link.
    pub link: LinkKind,
    /// Packets of a subscriber in one tick.
    pub bursts: Bursts,
    /// One message for them, or one each.
    pub gso: Gso,
    /// Where they leave from.
    pub sockets: Sockets,
    /// Subscribers.
    pub receivers: usize,
    /// RTP payload.
    pub payload_bytes: usize,
    /// SRTP profile of both sides.
    pub cipher: Cipher,
    /// Packets to forward, rounded up to whole bursts.
    pub packets: u64,
    /// Bursts a second; as fast as the loop takes them if none. A loop that sleeps between bursts
    /// pays for waking up and for caches that others have used.
    pub pace: Option<u32>,
    /// Where they go.
    pub delivery: Delivery<'a>,
}

/// What it cost.
#[derive(Debug, Clone, Copy)]
pub struct Cost {
    /// CPU ns of the relay's thread per forwarded packet.
    pub ns_per_packet: f64,
    /// Forwarded packets that arrived or were counted, of a hundred; `None` when nobody looked.
    pub arrived_percent: Option<f64>,
    /// Datagrams a message, by the link's counters.
    pub packets_per_message: f64,
}

/// Both ends of one association, keys made of `number`: (sealing side, opening side).
pub fn keys(cipher: Cipher, number: u32) -> anyhow::Result<(SealContext, OpenContext)> {
    let Cipher(profile) = cipher;
    let material: Vec<u8> = (0..profile.keying_material_len())
        .map(|at| (at as u32).wrapping_mul(167).wrapping_add(number.wrapping_mul(7919)) as u8)
        .collect();
    let half = |is_client| contexts(&SrtpKeys { profile, material: material.clone(), is_client });
    let ((seal, _), (_, open)) = (half(true)?, half(false)?);
    Ok((seal, open))
}

/// Measures one case.
///
/// # Errors
/// Nonsense in the case, a socket that cannot be had, a burst that is lost.
pub fn measure(case: &Case<'_>) -> anyhow::Result<Cost> {
    ensure!((1..=RECEIVERS_MAX).contains(&case.receivers), "1 to {RECEIVERS_MAX} must receive");
    ensure!((1..=1400).contains(&case.payload_bytes), "a payload is 1 to 1400 bytes");
    ensure!(case.pace != Some(0), "a pace is at least one burst a second");
    let receivers = match case.delivery {
        Delivery::Loopback | Delivery::Undrained => {
            Receivers::bind(Ipv4Addr::LOCALHOST, case.receivers)?
        }
        // One to look at what comes; the others' packets never get as far as a socket.
        Delivery::Drop(..) => Receivers::bind(GENERATOR, 1)?,
    };
    let mut addresses = receivers.addresses()?;
    let deaf = (DEAF_PORT_FIRST..).map(|port| SocketAddr::from((GENERATOR, port)));
    addresses.extend(deaf.take(case.receivers - addresses.len()));
    let schedule = case.bursts.schedule(case.packets.div_ceil(case.receivers as u64));
    let packets = case.receivers as u64 * schedule.iter().sum::<usize>() as u64;
    let forwarded = AtomicU64::new(0);
    let (own_address, relay_address) = mpsc::channel();
    std::thread::scope(|scope| {
        let work = || relay(case, own_address, &addresses, &schedule, &forwarded);
        let relay =
            std::thread::Builder::new().name("bare-loop".into()).spawn_scoped(scope, work)?;
        let fed = match relay_address.recv() {
            Ok(to) => feed(case, to, &receivers, &schedule, &forwarded, &relay),
            Err(_) => Ok(0), // The relay's own error is told where it is joined.
        };
        let (cpu_ns, packets_per_message) =
            relay.join().map_err(|_| anyhow::anyhow!("the relay's thread panicked"))??;
        let arrived = fed?;
        let counted = !matches!(case.delivery, Delivery::Undrained);
        Ok(Cost {
            ns_per_packet: cpu_ns as f64 / packets as f64,
            arrived_percent: counted.then(|| 100.0 * arrived as f64 / packets as f64),
            packets_per_message,
        })
    })
}

/// The measured thread: CPU ns and packets a message.
fn relay(
    case: &Case<'_>,
    own_address: mpsc::Sender<SocketAddr>,
    addresses: &[SocketAddr],
    schedule: &[usize],
    forwarded: &AtomicU64,
) -> anyhow::Result<(u64, f64)> {
    let bind = match case.delivery {
        Delivery::Loopback | Delivery::Undrained => Ipv4Addr::LOCALHOST,
        Delivery::Drop(network, _) => {
            network.relay().enter().context("the relay's namespace")?;
            RELAY
        }
    };
    let bind = SocketAddr::from((bind, 0));
    let (endpoints, mut shards) = bind_shards(&[Endpoint { bind, advertise: bind }], 1)?;
    let (local, shard) = (endpoints[0].bind, shards.pop().context("one shard was asked for")?);
    // A link is made on its own thread and stays there.
    let told = |link: &mut dyn FnMut() -> anyhow::Result<(u64, f64)>| {
        own_address.send(local).context("the publisher has gone")?;
        link()
    };
    let work = (case, addresses, schedule, forwarded);
    match (case.link, case.sockets) {
        (LinkKind::IoUring, Sockets::Shared) => {
            let mut link = UringLink::new(shard)?;
            told(&mut || forward(&mut link, work))
        }
        (LinkKind::Epoll, Sockets::Shared) => {
            let mut link = EpollLink::new(shard)?;
            told(&mut || forward(&mut link, work))
        }
        (LinkKind::IoUring, Sockets::Connected) => {
            let inner = UringLink::new(shard)?;
            let mut link = Connected::new(inner, case.link, local, addresses)?;
            told(&mut || forward(&mut link, work))
        }
        (LinkKind::Epoll, Sockets::Connected) => {
            let inner = EpollLink::new(shard)?;
            let mut link = Connected::new(inner, case.link, local, addresses)?;
            told(&mut || forward(&mut link, work))
        }
    }
}

struct Subscriber {
    to: SocketAddr,
    seal: SealContext,
    template: HeaderTemplate,
    ssrc: u32,
}

struct Opened {
    header: RtpHeader,
    payload_bytes: usize,
    plain: [u8; PACKET_BYTES_MAX],
}

fn forward<L: Link>(
    link: &mut L,
    (case, addresses, schedule, forwarded): (&Case<'_>, &[SocketAddr], &[usize], &AtomicU64),
) -> anyhow::Result<(u64, f64)> {
    let (_, open) = keys(case.cipher, 0)?;
    let subscribers = addresses.iter().enumerate().map(|(at, to)| {
        let number = at as u32 + 1;
        let ssrc = SSRC + number;
        let template = HeaderTemplate::new(ssrc, PAYLOAD_TYPE, Some(TWCC_ID), None);
        Ok(Subscriber { to: *to, seal: keys(case.cipher, number)?.0, template, ssrc })
    });
    let subscribers: Vec<Subscriber> = subscribers.collect::<anyhow::Result<_>>()?;
    let blank = RtpHeader::parse(&[0x80; 12])?;
    let mut opened: Vec<Opened> = (0..BURST_MAX)
        .map(|_| Opened { header: blank, payload_bytes: 0, plain: [0; PACKET_BYTES_MAX] })
        .collect();
    let (mut waiting, mut index, mut done, mut refused) = (0, 0_u64, 0, 0_u64);
    forwarded.store(1, Ordering::Release); // Ready for the first burst.
    let began_ns = thread_cpu_ns();
    while let Some(burst) = schedule.get(done) {
        let deadline = Some(Instant::now() + BURST_TIME_MAX);
        let before = waiting;
        link.receive(deadline, &mut |train| {
            for datagram in train.bytes.chunks(train.segment_bytes) {
                let Some(slot) = opened.get_mut(waiting) else { return };
                match open_one(&open, datagram, index, slot) {
                    Some(()) => (waiting, index) = (waiting + 1, index + 1),
                    None => refused += 1,
                }
            }
        })?;
        ensure!(refused == 0, "{refused} packets of the publisher did not open");
        ensure!(waiting > before, "nothing came for {BURST_TIME_MAX:?}");
        if waiting < *burst {
            continue;
        }
        let first_index = index - waiting as u64;
        for (number, subscriber) in subscribers.iter().enumerate() {
            // A link of connected sockets picks one by this; the others have one for all.
            let endpoint = if case.sockets == Sockets::Connected { number } else { 0 };
            match case.gso {
                Gso::On => send(link, endpoint, subscriber, &opened[..waiting], first_index),
                Gso::Off => opened[..waiting].iter().zip(first_index..).for_each(|(one, index)| {
                    send(link, endpoint, subscriber, std::slice::from_ref(one), index);
                }),
            }
        }
        link.flush();
        (waiting, done) = (0, done + 1);
        forwarded.store(done as u64 + 1, Ordering::Release);
    }
    let cpu_ns = thread_cpu_ns() - began_ns;
    let counters = link.counters();
    ensure!(counters.send_errors == 0, "{} messages were refused", counters.send_errors);
    Ok((cpu_ns, counters.sent_datagrams as f64 / counters.sent_messages.max(1) as f64))
}

fn open_one(open: &OpenContext, datagram: &[u8], index: u64, slot: &mut Opened) -> Option<()> {
    let header = RtpHeader::parse(datagram).ok()?;
    let index = extend(header.sequence, index);
    let plain = &mut slot.plain;
    slot.payload_bytes =
        open.open_rtp(datagram, header.header_bytes, header.ssrc, index, plain).ok()?;
    slot.header = header;
    Some(())
}

/// The index nearest to `expected` with these low 16 bits.
fn extend(sequence: u16, expected: u64) -> u64 {
    let ahead = sequence.wrapping_sub(expected as u16) as i16;
    expected.saturating_add_signed(i64::from(ahead))
}

#[inline]
fn send<L: Link>(
    link: &mut L,
    endpoint: usize,
    to: &Subscriber,
    packets: &[Opened],
    first_index: u64,
) {
    let room = link.begin();
    let (mut len_bytes, mut segment_bytes) = (0, 0);
    for (at, packet) in packets.iter().enumerate() {
        let index = first_index + at as u64;
        let out = &mut room[len_bytes..];
        let header = &packet.header;
        let header_bytes = to.template.write(
            out,
            header.marker,
            false,
            index as u16,
            header.timestamp,
            index as u16,
        );
        let payload = &packet.plain[..packet.payload_bytes];
        let bytes = to.seal.seal_rtp(out, header_bytes, payload, to.ssrc, index);
        segment_bytes = segment_bytes.max(bytes);
        len_bytes += bytes;
    }
    link.commit(Message { endpoint, to: to.to, len_bytes, segment_bytes });
}

type RelayThread<'a> = std::thread::ScopedJoinHandle<'a, anyhow::Result<(u64, f64)>>;

/// The publisher and the receivers' side; forwarded packets that arrived.
fn feed(
    case: &Case<'_>,
    relay_address: SocketAddr,
    receivers: &Receivers,
    schedule: &[usize],
    forwarded: &AtomicU64,
    relay: &RelayThread<'_>,
) -> anyhow::Result<u64> {
    let (seal, _) = keys(case.cipher, 0)?;
    let (_, first_open) = keys(case.cipher, 1)?;
    let publisher_address = match case.delivery {
        Delivery::Loopback | Delivery::Undrained => Ipv4Addr::LOCALHOST,
        Delivery::Drop(..) => GENERATOR,
    };
    let socket = UdpSocket::bind((publisher_address, 0))?;
    let template = HeaderTemplate::new(SSRC, PAYLOAD_TYPE, Some(TWCC_ID), None);
    let payload: Vec<u8> = (0..case.payload_bytes).map(|at| at as u8).collect();
    let mut train = vec![0; BURST_MAX * PACKET_BYTES_MAX];
    let dropped_before = hear_first(case, receivers, Hears::Yes)?;
    let (mut index, mut arrived) = (0_u64, 0);
    let mut due = Instant::now();
    for (number, burst) in schedule.iter().enumerate() {
        if !wait_forwarded(forwarded, number as u64, relay) {
            return Ok(arrived); // The relay's own error is told where it is joined.
        }
        if number == 1 {
            check(receivers, &first_open, &payload).context("the first forwarded packet")?;
            arrived += 1;
            hear_first(case, receivers, Hears::No)?;
        }
        if matches!(case.delivery, Delivery::Loopback) || number == 1 {
            arrived += receivers.drain()?;
        }
        if let Some(pace) = case.pace {
            due += Duration::from_secs(1) / pace;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
        }
        let (mut len_bytes, mut segment_bytes) = (0, 0);
        for at in 0..*burst {
            let out = &mut train[len_bytes..];
            let marker = at + 1 == *burst;
            let (low, timestamp) = (index as u16, number as u32);
            let header_bytes = template.write(out, marker, false, low, timestamp, low);
            segment_bytes = seal.seal_rtp(out, header_bytes, &payload, SSRC, index);
            len_bytes += segment_bytes;
            index += 1;
        }
        sockets::send_train(&socket, relay_address, &train[..len_bytes], segment_bytes)?;
    }
    let done = wait_forwarded(forwarded, schedule.len() as u64, relay);
    ensure!(done || relay.is_finished(), "the last burst was not forwarded");
    if matches!(case.delivery, Delivery::Drop(..)) {
        hear_first(case, receivers, Hears::No)?;
    }
    arrived += match case.delivery {
        Delivery::Undrained => 0,
        Delivery::Loopback => receivers.drain()?,
        Delivery::Drop(_, sink) => receivers.drain()? + settle(sink)? - dropped_before,
    };
    Ok(arrived)
}

/// Lets the drop sink pass the first receiver's packets, or no longer; packets dropped so far.
fn hear_first(case: &Case<'_>, receivers: &Receivers, hears: Hears) -> anyhow::Result<u64> {
    let Delivery::Drop(_, sink) = case.delivery else { return Ok(0) };
    sink.set_hears(receivers.addresses()?[0].port(), hears)?;
    Ok(sink.counts()?.packets)
}

/// Packets dropped when the number has stood still for a moment.
fn settle(sink: &DropSink) -> anyhow::Result<u64> {
    let mut last = sink.counts()?.packets;
    loop {
        std::thread::sleep(SETTLE_TIME);
        let now = sink.counts()?.packets;
        if now == last {
            return Ok(now);
        }
        last = now;
    }
}

/// Waits until the relay has forwarded `bursts`; no if it ended or takes too long.
fn wait_forwarded(forwarded: &AtomicU64, bursts: u64, relay: &RelayThread<'_>) -> bool {
    let until = Instant::now() + BURST_TIME_MAX;
    while forwarded.load(Ordering::Acquire) <= bursts {
        if relay.is_finished() || Instant::now() > until {
            return false;
        }
        std::thread::yield_now();
    }
    true
}

/// What the first receiver got is the publisher's payload under its own key.
fn check(receivers: &Receivers, open: &OpenContext, payload: &[u8]) -> anyhow::Result<()> {
    let datagram = receivers.take_one()?.with_context(|| io::ErrorKind::TimedOut.to_string())?;
    let header = RtpHeader::parse(&datagram)?;
    let mut plain = [0; PACKET_BYTES_MAX];
    let bytes = open.open_rtp(&datagram, header.header_bytes, header.ssrc, 0, &mut plain)?;
    ensure!(&plain[..bytes] == payload, "the payload differs");
    ensure!(header.ssrc == SSRC + 1, "the SSRC is not the subscriber's");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drop_sink::AttachMode;

    fn case(link: LinkKind, burst: f64) -> Case<'static> {
        Case {
            link,
            bursts: Bursts::of_mean(burst).expect("a burst"),
            gso: Gso::On,
            sockets: Sockets::Shared,
            receivers: 3,
            payload_bytes: 700,
            cipher: Cipher(SrtpProfile::AEAD_AES_256_GCM),
            packets: 90,
            pace: None,
            delivery: Delivery::Loopback,
        }
    }

    #[track_caller]
    fn check_case(case: &Case<'_>, packets_per_message: f64) {
        let cost = measure(case).expect("it runs over loopback");
        assert!(cost.ns_per_packet > 0.0);
        assert_eq!(cost.arrived_percent, Some(100.0));
        assert_eq!(cost.packets_per_message, packets_per_message);
    }

    #[track_caller]
    fn check_link(link: LinkKind) {
        check_case(&case(link, 1.0), 1.0);
        check_case(&case(link, 6.0), 6.0);
        check_case(&case(link, 2.5), 2.5);
        check_case(&Case { gso: Gso::Off, ..case(link, 6.0) }, 1.0);
        check_case(&Case { sockets: Sockets::Connected, ..case(link, 1.0) }, 1.0);
        check_case(&Case { sockets: Sockets::Connected, ..case(link, 6.0) }, 6.0);
        check_case(&Case { pace: Some(200), packets: 30, ..case(link, 1.0) }, 1.0);
    }

    #[test]
    fn the_loop_forwards_every_packet_on_the_epoll_link() {
        check_link(LinkKind::Epoll);
    }

    #[test]
    fn the_loop_forwards_every_packet_on_the_io_uring_link_where_there_is_one() {
        if sfu::io::available().is_ok() {
            check_link(LinkKind::IoUring);
        }
    }

    #[test]
    fn the_drop_sink_counts_every_packet_of_the_loop() {
        crate::drop_sink::check(AttachMode::Native, |network, sink| {
            let delivery = Delivery::Drop(network, sink);
            let drop = |burst| Case { delivery, receivers: 30, ..case(LinkKind::Epoll, burst) };
            check_case(&Case { packets: 900, ..drop(1.0) }, 1.0);
            check_case(&Case { packets: 900, ..drop(7.5) }, 7.5);
            check_case(&Case { sockets: Sockets::Connected, packets: 960, ..drop(8.0) }, 8.0);
        });
    }

    #[test]
    fn a_case_without_receivers_or_with_too_long_a_burst_is_refused() {
        for bad in [
            Case { receivers: 0, ..case(LinkKind::Epoll, 1.0) },
            Case { payload_bytes: 1401, ..case(LinkKind::Epoll, 1.0) },
            Case { pace: Some(0), ..case(LinkKind::Epoll, 1.0) },
        ] {
            assert!(measure(&bad).is_err(), "{bad:?}");
        }
        for mean in [0.0, 0.9, -1.0, f64::NAN, BURST_MAX as f64 + 0.5] {
            assert!(Bursts::of_mean(mean).is_err(), "{mean}");
        }
        assert!(Bursts::of_histogram(&[]).is_err());
        assert!(Bursts::of_histogram(&[(0, 1.0)]).is_err());
        assert!(Bursts::of_histogram(&[(4, f64::INFINITY)]).is_err());
        assert!("rot13".parse::<Cipher>().is_err());
    }

    #[test]
    fn bursts_come_in_their_shares_and_evenly() {
        let check = |bursts: Bursts, packets, want: &[usize]| {
            assert_eq!(bursts.schedule(packets), want);
        };
        check(Bursts::of_mean(4.0).expect("good"), 12, &[4, 4, 4]);
        check(Bursts::of_mean(7.5).expect("good"), 30, &[8, 7, 8, 7]);
        let mixed = Bursts::of_histogram(&[(1, 3.0), (5, 1.0)]).expect("good");
        assert_eq!(mixed.mean(), 2.0);
        let schedule = mixed.schedule(8000);
        assert_eq!(schedule.iter().filter(|burst| **burst == 5).count(), 1000);
        assert!(schedule.chunks(4).all(|four| four.iter().sum::<usize>() == 8));
    }

    #[test]
    fn the_index_follows_the_sequence_number_across_its_wrap() {
        assert_eq!(extend(0, 65_536), 65_536);
        assert_eq!(extend(65_535, 65_536), 65_535);
        assert_eq!(extend(2, 65_535), 65_538);
    }
}
