//! Receive, open, rewrite, seal, send: what a relay cannot do without, and nothing else.
//!
//! One thread does it and is measured by its own CPU clock. A second one plays the publisher and
//! the network behind the receivers: it sends a burst, waits for the relay's thread to have
//! forwarded it, empties the receivers, sends the next. Delivery into the receivers' sockets runs
//! in the sender's system call, as always over loopback, and is part of the figure.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use sfu::io::{Endpoint, EpollLink, Link, LinkKind, Message, ShardSockets, UringLink, bind_shards};
use sfu::ports::SrtpProfile;
use sfu::session::srtp::{OpenContext, SealContext, SrtpKeys, contexts};
use sfu::wire::rtp::{HeaderTemplate, RtpHeader};

use crate::sockets::{self, Receivers};

/// Largest burst: segments of one message.
pub const BURST_MAX: usize = 64;
const SSRC: u32 = 0x1234_5678;
const PAYLOAD_TYPE: u8 = 96;
const TWCC_ID: u8 = 3;
/// A burst that has not been forwarded by then never will be.
const BURST_TIME_MAX: Duration = Duration::from_secs(5);
const PACKET_BYTES_MAX: usize = 2048;

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

/// One measurement.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// Which body of the link.
    pub link: LinkKind,
    /// Packets of a subscriber in one message.
    pub burst: usize,
    /// Subscribers.
    pub receivers: usize,
    /// RTP payload.
    pub payload_bytes: usize,
    /// SRTP profile of both sides.
    pub cipher: Cipher,
    /// Packets to forward, rounded up to whole bursts.
    pub packets: u64,
    /// Empty the receivers after each burst.
    pub drain: bool,
}

/// What it cost.
#[derive(Debug, Clone, Copy)]
pub struct Cost {
    /// CPU ns of the relay's thread per forwarded packet.
    pub ns_per_packet: f64,
    /// Forwarded packets that arrived, of a hundred; `None` when nobody looked.
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
pub fn measure(case: &Case) -> anyhow::Result<Cost> {
    ensure!((1..=BURST_MAX).contains(&case.burst), "a burst is 1 to {BURST_MAX} packets");
    ensure!(case.receivers > 0, "somebody must receive");
    ensure!((1..=1400).contains(&case.payload_bytes), "a payload is 1 to 1400 bytes");
    let bind = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let (endpoints, mut shards) = bind_shards(&[Endpoint { bind, advertise: bind }], 1)?;
    let shard = shards.pop().context("one shard was asked for")?;
    let receivers = Receivers::bind(case.receivers)?;
    let addresses = receivers.addresses()?;
    let forwarded = Arc::new(AtomicU64::new(0));
    let bursts = case.packets.div_ceil((case.burst * case.receivers) as u64);
    let relay = {
        let (case, forwarded) = (*case, Arc::clone(&forwarded));
        std::thread::Builder::new()
            .name("bare-loop".into())
            .spawn(move || relay(&case, shard, &addresses, bursts, &forwarded))?
    };
    let fed = feed(case, endpoints[0].bind, &receivers, bursts, &forwarded, &relay);
    let (cpu_ns, packets_per_message) =
        relay.join().map_err(|_| anyhow::anyhow!("the relay's thread panicked"))??;
    let arrived = fed?;
    let packets = bursts * (case.burst * case.receivers) as u64;
    Ok(Cost {
        ns_per_packet: cpu_ns as f64 / packets as f64,
        arrived_percent: case.drain.then(|| 100.0 * arrived as f64 / packets as f64),
        packets_per_message,
    })
}

/// The measured thread: CPU ns and packets a message.
fn relay(
    case: &Case,
    shard: ShardSockets,
    addresses: &[SocketAddr],
    bursts: u64,
    forwarded: &AtomicU64,
) -> anyhow::Result<(u64, f64)> {
    // A link is made on its own thread and stays there.
    match case.link {
        LinkKind::IoUring => {
            forward(case, &mut UringLink::new(shard)?, addresses, bursts, forwarded)
        }
        LinkKind::Epoll => forward(case, &mut EpollLink::new(shard)?, addresses, bursts, forwarded),
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
    case: &Case,
    link: &mut L,
    addresses: &[SocketAddr],
    bursts: u64,
    forwarded: &AtomicU64,
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
    let began_ns = sockets::thread_cpu_ns();
    while done < bursts {
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
        if waiting < case.burst {
            continue;
        }
        for subscriber in &subscribers {
            send_burst(link, subscriber, &opened[..waiting], index - waiting as u64);
        }
        link.flush();
        (waiting, done) = (0, done + 1);
        forwarded.store(done + 1, Ordering::Release);
    }
    let cpu_ns = sockets::thread_cpu_ns() - began_ns;
    let counters = link.counters();
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
fn send_burst<L: Link>(link: &mut L, to: &Subscriber, packets: &[Opened], first_index: u64) {
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
    link.commit(Message { endpoint: 0, to: to.to, len_bytes, segment_bytes });
}

/// The publisher and the receivers' side; forwarded packets that arrived.
fn feed(
    case: &Case,
    relay_address: SocketAddr,
    receivers: &Receivers,
    bursts: u64,
    forwarded: &AtomicU64,
    relay: &std::thread::JoinHandle<anyhow::Result<(u64, f64)>>,
) -> anyhow::Result<u64> {
    let (seal, _) = keys(case.cipher, 0)?;
    let (_, first_open) = keys(case.cipher, 1)?;
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let template = HeaderTemplate::new(SSRC, PAYLOAD_TYPE, Some(TWCC_ID), None);
    let payload: Vec<u8> = (0..case.payload_bytes).map(|at| at as u8).collect();
    let mut train = vec![0; case.burst * PACKET_BYTES_MAX];
    let (mut index, mut arrived, mut checked) = (0_u64, 0, false);
    for burst in 0..bursts {
        let until = Instant::now() + BURST_TIME_MAX;
        while forwarded.load(Ordering::Acquire) <= burst {
            if relay.is_finished() || Instant::now() > until {
                return Ok(arrived); // The relay's own error is told where it is joined.
            }
            std::thread::yield_now();
        }
        if burst > 0 && !checked {
            check(receivers, &first_open, &payload).context("the first forwarded packet")?;
            (checked, arrived) = (true, arrived + 1);
        }
        if case.drain {
            arrived += receivers.drain()?;
        }
        let (mut len_bytes, mut segment_bytes) = (0, 0);
        for at in 0..case.burst {
            let out = &mut train[len_bytes..];
            let marker = at + 1 == case.burst;
            let header_bytes =
                template.write(out, marker, false, index as u16, burst as u32, index as u16);
            segment_bytes = seal.seal_rtp(out, header_bytes, &payload, SSRC, index);
            len_bytes += segment_bytes;
            index += 1;
        }
        sockets::send_train(&socket, relay_address, &train[..len_bytes], segment_bytes)?;
    }
    let until = Instant::now() + BURST_TIME_MAX;
    while forwarded.load(Ordering::Acquire) <= bursts && !relay.is_finished() {
        ensure!(Instant::now() < until, "the last burst was not forwarded");
        std::thread::yield_now();
    }
    let rest = if case.drain { receivers.drain()? } else { 0 };
    Ok(arrived + rest)
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

    #[track_caller]
    fn check_case(link: LinkKind, burst: usize) {
        let cipher = Cipher(SrtpProfile::AEAD_AES_256_GCM);
        let (receivers, payload_bytes, packets, drain) = (3, 700, 90, true);
        let case = Case { link, burst, receivers, payload_bytes, cipher, packets, drain };
        let cost = measure(&case).expect("it runs over loopback");
        assert!(cost.ns_per_packet > 0.0);
        assert_eq!(cost.arrived_percent, Some(100.0));
        assert_eq!(cost.packets_per_message, burst as f64);
    }

    #[test]
    fn the_loop_forwards_every_packet_on_the_epoll_link() {
        check_case(LinkKind::Epoll, 1);
        check_case(LinkKind::Epoll, 6);
    }

    #[test]
    fn the_loop_forwards_every_packet_on_the_io_uring_link_where_there_is_one() {
        if sfu::io::available().is_ok() {
            check_case(LinkKind::IoUring, 1);
            check_case(LinkKind::IoUring, 6);
        }
    }

    #[test]
    fn a_case_without_receivers_or_with_too_long_a_burst_is_refused() {
        let cipher = Cipher(SrtpProfile::AEAD_AES_128_GCM);
        let good = Case {
            link: LinkKind::Epoll,
            burst: 1,
            receivers: 1,
            payload_bytes: 100,
            cipher,
            packets: 1,
            drain: true,
        };
        for bad in [
            Case { burst: 0, ..good },
            Case { burst: BURST_MAX + 1, ..good },
            Case { receivers: 0, ..good },
            Case { payload_bytes: 1401, ..good },
        ] {
            assert!(measure(&bad).is_err(), "{bad:?}");
        }
        assert!("rot13".parse::<Cipher>().is_err());
    }

    #[test]
    fn the_index_follows_the_sequence_number_across_its_wrap() {
        assert_eq!(extend(0, 65_536), 65_536);
        assert_eq!(extend(65_535, 65_536), 65_535);
        assert_eq!(extend(2, 65_535), 65_538);
    }
}
