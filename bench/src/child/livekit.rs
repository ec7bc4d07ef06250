//! A LiveKit for one machine: one UDP port for each core, no TCP, nobody is paused.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

/// Name of the key in the configuration.
pub const KEY: &str = "bench";
/// The key: of a server that ends with the run and is reached from this machine alone.
pub const SECRET: &str = "a-key-of-32-bytes-for-one-single-run";
/// Ports from which consecutive free ones are looked for.
const PORTS: std::ops::Range<u16> = 20_000..30_000;

/// `livekit.yaml`.
pub fn configuration(http: SocketAddr) -> String {
    let (ip, port) = (http.ip(), http.port());
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    let (first, last) = free_udp_ports(u16::try_from(cores).unwrap_or(u16::MAX).clamp(1, 64));
    let bits = if ip.is_ipv4() { 32 } else { 128 };
    // A port for each core is what LiveKit advises; a publication without packets is no error of a
    // trace without that track.
    format!(
        "port: {port}\n\
         bind_addresses: [\"{ip}\"]\n\
         keys:\n  {KEY}: {SECRET}\n\
         rtc:\n  \
           udp_port: {first}-{last}\n  \
           tcp_port: 0\n  \
           use_external_ip: false\n  \
           node_ip: \"{ip}\"\n  \
           enable_loopback_candidate: true\n  \
           ips:\n    includes: [\"{ip}/{bits}\"]\n  \
           congestion_control:\n    enabled: true\n    allow_pause: false\n  \
           reconnect_on_publication_error: false\n  \
           reconnect_on_subscription_error: false\n\
         room:\n  auto_create: true\n  empty_timeout: 3600\n  departure_timeout: 3600\n\
         logging:\n  level: warn\n"
    )
}

/// First and last of `count` consecutive UDP ports that are free at this moment; the first of all
/// where no such run is found, and the server says what it cannot bind.
fn free_udp_ports(count: u16) -> (u16, u16) {
    let is_free = |port: u16| {
        UdpSocket::bind(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port)).is_ok()
    };
    let first = PORTS
        .step_by(usize::from(count))
        .find(|first| (*first..first + count).all(is_free))
        .unwrap_or(PORTS.start);
    (first, first + count - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_that_are_taken_are_passed_over() {
        let (first, last) = free_udp_ports(2);
        assert_eq!(last, first + 1);
        let _taken = UdpSocket::bind(("0.0.0.0", last)).expect("it was free");
        let (next, _) = free_udp_ports(2);
        assert_ne!(next, first);
    }

    #[test]
    fn the_configuration_names_the_address_and_the_key() {
        let text = configuration(SocketAddr::from(([10, 0, 0, 1], 7880)));
        for line in
            ["port: 7880", "  node_ip: \"10.0.0.1\"", "    includes: [\"10.0.0.1/32\"]", "keys:"]
        {
            assert!(text.lines().any(|have| have == line), "{line}: {text}");
        }
    }
}
