//! Which ports a network has: the usual ones where they are free.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};

use super::net::{Net, NodePorts, RelayPorts};

/// Where the first validator of a network has its peers, by custom.
const BASE: u16 = 26656;
/// From a node to the next.
const STEP: u16 = 10;
/// Where the relay serves by custom, and how many ports after it are tried.
const HTTP: u16 = 8080;
const UDP: u16 = 7443;
const NEIGHBOURS_MAX: u16 = 200;

/// Why there is no port.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PortError {
    /// Somebody has it.
    #[error(
        "port {port} of {whose} is taken by another program: end that one, or move the network with --base-port PORT"
    )]
    Taken {
        /// The port.
        port: u16,
        /// Whose it is to be.
        whose: String,
    },
    /// The relay's.
    #[error(
        "{at} of the relay's HTTP is taken by another program: end that one, or choose another address with --http ADDR"
    )]
    Http {
        /// Where.
        at: SocketAddr,
    },
    /// The relay's media.
    #[error(
        "UDP port {port} of the relay's media is taken by another program: end that one, or begin another network with --fresh"
    )]
    Media {
        /// The port.
        port: u16,
    },
    /// The numbers end.
    #[error("no free ports are left above {from}: choose a lower --base-port")]
    Exhausted {
        /// From where on.
        from: u16,
    },
}

/// Somewhere to listen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// TCP.
    Tcp(SocketAddr),
    /// UDP on this port.
    Udp(u16),
}

/// Looks whether ports are free.
pub struct Ports<'a> {
    is_free: Box<dyn FnMut(Door) -> bool + 'a>,
}

fn here(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

impl<'a> Ports<'a> {
    /// Those of this machine.
    pub fn of_machine() -> Self {
        Self::of(|door| match door {
            Door::Tcp(at) => TcpListener::bind(at).is_ok(),
            Door::Udp(port) => UdpSocket::bind(here(port)).is_ok(),
        })
    }

    /// As `is_free` says.
    pub fn of(is_free: impl FnMut(Door) -> bool + 'a) -> Self {
        Self { is_free: Box::new(is_free) }
    }

    fn tcp(&mut self, port: u16) -> bool {
        (self.is_free)(Door::Tcp(here(port)))
    }

    /// Ports of `count` validators: from `base` on and no others, or from the customary ones on, past
    /// what is taken.
    ///
    /// # Errors
    /// One is taken, or the numbers end.
    pub fn nodes(&mut self, count: usize, base: Option<u16>) -> Result<Vec<NodePorts>, PortError> {
        let from = base.unwrap_or(BASE);
        let mut next = Some(from);
        let mut nodes = Vec::with_capacity(count);
        while nodes.len() < count {
            let p2p = next.filter(|p2p| *p2p <= u16::MAX - STEP);
            let p2p = p2p.ok_or(PortError::Exhausted { from })?;
            next = p2p.checked_add(STEP);
            let ports = NodePorts { p2p, rpc: p2p + 1, http: p2p + 2 };
            let taken =
                [ports.p2p, ports.rpc, ports.http].into_iter().find(|port| !self.tcp(*port));
            match (taken, base) {
                (None, _) => nodes.push(ports),
                (Some(_), None) => {}
                (Some(port), Some(_)) => {
                    return Err(PortError::Taken { port, whose: format!("node{}", nodes.len()) });
                }
            }
        }
        Ok(nodes)
    }

    /// The relay's, beside those of `nodes`.
    ///
    /// # Errors
    /// None is free.
    pub fn relay(
        &mut self,
        nodes: &[NodePorts],
        http: Option<SocketAddr>,
    ) -> Result<RelayPorts, PortError> {
        let last = nodes.last().map_or(BASE, |node| node.p2p);
        let is_ours =
            |port: u16| nodes.iter().any(|node| [node.p2p, node.rpc, node.http].contains(&port));
        let mut rpc = last.checked_add(STEP + 1);
        while let Some(port) = rpc.filter(|port| !self.tcp(*port)) {
            rpc = port.checked_add(STEP);
        }
        let rpc = rpc.ok_or(PortError::Exhausted { from: last })?;
        let http = match http {
            Some(http) => http,
            None => {
                let found =
                    (HTTP..HTTP + NEIGHBOURS_MAX).find(|port| !is_ours(*port) && self.tcp(*port));
                here(found.ok_or(PortError::Exhausted { from: HTTP })?)
            }
        };
        let udp = (UDP..UDP + NEIGHBOURS_MAX).find(|port| (self.is_free)(Door::Udp(*port)));
        let udp = udp.ok_or(PortError::Exhausted { from: UDP })?;
        Ok(RelayPorts { http, rpc, udp })
    }

    /// Whether all are free now; those of the relay only where it runs.
    ///
    /// # Errors
    /// Whose is taken.
    pub fn check(&mut self, net: &Net, no_relay: bool) -> Result<(), PortError> {
        for (number, node) in net.nodes.iter().enumerate() {
            for port in [node.p2p, node.rpc, node.http] {
                if !self.tcp(port) {
                    return Err(PortError::Taken { port, whose: format!("node{number}") });
                }
            }
        }
        if no_relay {
            return Ok(());
        }
        let RelayPorts { http, rpc, udp } = net.relay;
        if !self.tcp(rpc) {
            return Err(PortError::Taken { port: rpc, whose: "the relay".to_owned() });
        }
        if !(self.is_free)(Door::Tcp(http)) {
            return Err(PortError::Http { at: http });
        }
        if !(self.is_free)(Door::Udp(udp)) {
            return Err(PortError::Media { port: udp });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports(taken: &[u16]) -> Ports<'_> {
        Ports::of(|door| match door {
            Door::Tcp(at) => !taken.contains(&at.port()),
            Door::Udp(port) => !taken.contains(&port),
        })
    }

    #[track_caller]
    fn check(count: usize, base: Option<u16>, taken: &[u16], expected: Result<&[u16], PortError>) {
        let nodes = ports(taken).nodes(count, base);
        let first = nodes.map(|nodes| nodes.iter().map(|node| node.p2p).collect::<Vec<_>>());
        assert_eq!(first, expected.map(<[u16]>::to_vec));
    }

    #[test]
    fn the_usual_ports_are_taken_where_they_are_free_and_others_else() {
        check(4, None, &[], Ok(&[26656, 26666, 26676, 26686]));
        check(2, None, &[26657], Ok(&[26666, 26676]));
        check(3, None, &[26668], Ok(&[26656, 26676, 26686]));
        check(2, Some(30_000), &[26656], Ok(&[30_000, 30_010]));
        // Who names a port means it.
        let taken = PortError::Taken { port: 30_011, whose: "node1".to_owned() };
        check(2, Some(30_000), &[30_011], Err(taken));
        check(2, Some(65_530), &[], Err(PortError::Exhausted { from: 65_530 }));
        check(1, Some(65_525), &[], Ok(&[65_525]));
    }

    #[test]
    fn the_relay_takes_the_next_ports_and_none_of_a_validator() {
        let nodes = ports(&[]).nodes(1, Some(8_078)).expect("free");
        let relay = ports(&[7_443]).relay(&nodes, None).expect("free");
        assert_eq!(relay, RelayPorts { http: here(8_081), rpc: 8_089, udp: 7_444 });
        let wanted = "0.0.0.0:80".parse().expect("an address");
        assert_eq!(ports(&[]).relay(&nodes, Some(wanted)).expect("free").http, wanted);
    }
}
