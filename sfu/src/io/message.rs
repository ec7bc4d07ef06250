//! Bytes of socket addresses and control messages, as `recvmsg` and `sendmsg` know them.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// The larger of `sockaddr_in` and `sockaddr_in6`.
pub(super) const SOCKET_ADDRESS_BYTES: usize = size_of::<libc::sockaddr_in6>();

/// One control message with an integer in it: `CMSG_SPACE(sizeof(int))`, the same for two bytes.
pub(super) const CONTROL_BYTES: usize = CONTROL_HEADER_BYTES + 8;
const CONTROL_HEADER_BYTES: usize = size_of::<libc::cmsghdr>();
const LENGTH_BYTES: usize = size_of::<usize>();

/// Writes a socket address and returns its length.
pub(super) fn encode_address(
    address: SocketAddr,
    out: &mut [u8; SOCKET_ADDRESS_BYTES],
) -> libc::socklen_t {
    out[2..4].copy_from_slice(&address.port().to_be_bytes());
    let (family, len) = match address {
        SocketAddr::V4(v4) => {
            out[4..8].copy_from_slice(&v4.ip().octets());
            out[8..16].fill(0);
            (libc::AF_INET, size_of::<libc::sockaddr_in>())
        }
        SocketAddr::V6(v6) => {
            out[4..8].copy_from_slice(&v6.flowinfo().to_be_bytes());
            out[8..24].copy_from_slice(&v6.ip().octets());
            out[24..28].copy_from_slice(&v6.scope_id().to_ne_bytes());
            (libc::AF_INET6, size_of::<libc::sockaddr_in6>())
        }
    };
    out[..2].copy_from_slice(&(family as libc::sa_family_t).to_ne_bytes());
    len as libc::socklen_t
}

/// Reads an IPv4 or IPv6 socket address; `None` for another family or too few bytes.
pub(super) fn decode_address(bytes: &[u8]) -> Option<SocketAddr> {
    let family = u16::from_ne_bytes(*bytes.first_chunk()?);
    let port = u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?);
    match i32::from(family) {
        libc::AF_INET => {
            let octets: [u8; 4] = *bytes.get(4..)?.first_chunk()?;
            Some(SocketAddrV4::new(Ipv4Addr::from(octets), port).into())
        }
        libc::AF_INET6 => {
            let flowinfo = u32::from_be_bytes(*bytes.get(4..)?.first_chunk()?);
            let octets: [u8; 16] = *bytes.get(8..)?.first_chunk()?;
            let scope_id = u32::from_ne_bytes(*bytes.get(24..)?.first_chunk()?);
            Some(SocketAddrV6::new(Ipv6Addr::from(octets), port, flowinfo, scope_id).into())
        }
        _ => None,
    }
}

/// Writes the control message that asks for segments of `segment_bytes` (udp(7), `UDP_SEGMENT`).
pub(super) fn encode_segment_control(segment_bytes: u16, out: &mut [u8; CONTROL_BYTES]) {
    let len = CONTROL_HEADER_BYTES + size_of::<u16>();
    out[..LENGTH_BYTES].copy_from_slice(&len.to_ne_bytes());
    out[LENGTH_BYTES..LENGTH_BYTES + 4].copy_from_slice(&libc::SOL_UDP.to_ne_bytes());
    out[LENGTH_BYTES + 4..CONTROL_HEADER_BYTES].copy_from_slice(&libc::UDP_SEGMENT.to_ne_bytes());
    out[CONTROL_HEADER_BYTES..].fill(0);
    out[CONTROL_HEADER_BYTES..CONTROL_HEADER_BYTES + 2]
        .copy_from_slice(&segment_bytes.to_ne_bytes());
}

/// The size of the datagrams that the kernel coalesced (udp(7), `UDP_GRO`); `None` for a single
/// one, which comes without a control message.
pub(super) fn decode_gro_control(control: &[u8]) -> Option<usize> {
    let level = i32::from_ne_bytes(*control.get(LENGTH_BYTES..)?.first_chunk()?);
    let kind = i32::from_ne_bytes(*control.get(LENGTH_BYTES + 4..)?.first_chunk()?);
    let value = i32::from_ne_bytes(*control.get(CONTROL_HEADER_BYTES..)?.first_chunk()?);
    // No other option that makes control messages is set on our sockets: the first is the one.
    if (level, kind) != (libc::SOL_UDP, libc::UDP_GRO) {
        return None;
    }
    usize::try_from(value).ok().filter(|bytes| *bytes > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_address(text: &str) {
        let address: SocketAddr = text.parse().expect("an address");
        let mut bytes = [0xAA; SOCKET_ADDRESS_BYTES];
        let len = encode_address(address, &mut bytes) as usize;
        assert_eq!(decode_address(&bytes[..len]), Some(address));
        assert_eq!(decode_address(&bytes[..len - 13]), None, "cut short");
    }

    #[test]
    fn an_address_survives_the_kernels_form() {
        check_address("[2001:db8::7]:7443");
        check_address("[fe80::1%3]:65535");
        // IPv4 ends in eight bytes of padding that nobody reads: 13 less cuts the address.
        check_address("192.0.2.7:7443");
        check_address("0.0.0.0:0");
    }

    #[test]
    fn another_family_is_no_address() {
        let mut bytes = [0; SOCKET_ADDRESS_BYTES];
        bytes[..2].copy_from_slice(&(libc::AF_UNIX as u16).to_ne_bytes());
        assert_eq!(decode_address(&bytes), None);
        assert_eq!(decode_address(&[]), None);
    }

    #[test]
    fn only_the_gro_message_gives_a_segment_size() {
        let mut control = [0; CONTROL_BYTES];
        encode_segment_control(1200, &mut control);
        assert_eq!(decode_gro_control(&control), None, "UDP_SEGMENT is the sender's");
        control[LENGTH_BYTES + 4..CONTROL_HEADER_BYTES]
            .copy_from_slice(&libc::UDP_GRO.to_ne_bytes());
        assert_eq!(decode_gro_control(&control), Some(1200));
        assert_eq!(decode_gro_control(&control[..CONTROL_HEADER_BYTES]), None, "cut short");
        assert_eq!(decode_gro_control(&[]), None, "a single datagram has none");
    }
}
