//! Who has a port: tried by binding it, and looked up in `/proc` where it is taken.

use std::{
    fs, io,
    net::{SocketAddr, TcpListener, UdpSocket},
};

use super::report::Finding;

/// TCP or UDP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Transport {
    const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        }
    }

    fn tables(self) -> [&'static str; 2] {
        match self {
            Self::Tcp => ["/proc/net/tcp", "/proc/net/tcp6"],
            Self::Udp => ["/proc/net/udp", "/proc/net/udp6"],
        }
    }

    fn try_bind(self, at: SocketAddr) -> io::Result<()> {
        match self {
            Self::Tcp => TcpListener::bind(at).map(drop),
            Self::Udp => UdpSocket::bind(at).map(drop),
        }
    }
}

/// A port that a node needs.
#[derive(Debug, Clone, Copy)]
pub struct Port {
    /// For people: `HTTP`, `media`.
    pub purpose: &'static str,
    /// Its option, which chooses another.
    pub option: &'static str,
    /// Of which kind.
    pub transport: Transport,
    /// Where.
    pub at: SocketAddr,
    /// A node can do without it.
    pub is_optional: bool,
}

/// Whether it is free, or taken and by whom. `own` is the node of this home, if one runs.
pub fn check(port: &Port, own: Option<u32>) -> Finding {
    let Port { purpose, option, transport, at, is_optional } = *port;
    let name = format!("{purpose} port");
    let kind = transport.name();
    if at.port() == 0 {
        return Finding::ok(name, format!("{kind}, a free one is taken at start"));
    }
    let Err(error) = transport.try_bind(at) else {
        return Finding::ok(name, format!("{kind} {at} is free"));
    };
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            let holder = holder(transport, at.port());
            match holder {
                Some((pid, program)) if Some(pid) == own => Finding::ok(
                    name,
                    format!("{kind} {at} is this home's node's ({program}, pid {pid})"),
                ),
                // Its child: the CometBFT beside it.
                Some((pid, program)) if own.is_some() && parent(pid) == own => Finding::ok(
                    name,
                    format!("{kind} {at} is this home's CometBFT's ({program}, pid {pid})"),
                ),
                Some((pid, program)) => taken(
                    is_optional,
                    name,
                    format!("{kind} {at} is taken by {program}, pid {pid}"),
                    format!("stop it, or choose another with {option}"),
                ),
                None if own.is_some() => Finding::ok(
                    name,
                    format!("{kind} {at} is taken, by this home's node as it seems"),
                ),
                None => taken(
                    is_optional,
                    name,
                    format!("{kind} {at} is taken by a process that this user may not see"),
                    format!("sudo ss -lnp shows which; or choose another with {option}"),
                ),
            }
        }
        io::ErrorKind::PermissionDenied => Finding::bad(
            name,
            format!("{kind} {at} is not allowed for this user"),
            format!("choose a port above 1023 with {option}"),
        ),
        io::ErrorKind::AddrNotAvailable => Finding::bad(
            name,
            format!("this host has no address {}", at.ip()),
            format!("choose another with {option}"),
        ),
        _ => Finding::bad(name, format!("{kind} {at}: {error}"), format!("look at {option}")),
    }
}

fn taken(is_optional: bool, name: String, found: String, remedy: String) -> Finding {
    match is_optional {
        true => Finding::warning(name, found, remedy),
        false => Finding::bad(name, found, remedy),
    }
}

/// Process and program that have a local port, as far as this user may see.
fn holder(transport: Transport, port: u16) -> Option<(u32, String)> {
    let tables = transport.tables();
    let texts = tables.iter().filter_map(|table| fs::read_to_string(table).ok());
    let inodes: Vec<u64> =
        texts.flat_map(|text| inodes_of(&text, port, transport == Transport::Tcp)).collect();
    let links: Vec<String> = inodes.iter().map(|inode| format!("socket:[{inode}]")).collect();
    let pids = fs::read_dir("/proc").ok()?.flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    for pid in pids {
        let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else { continue };
        let has = descriptors.flatten().any(|descriptor| {
            let target = fs::read_link(descriptor.path()).unwrap_or_default();
            links.iter().any(|link| target.as_os_str() == link.as_str())
        });
        if has {
            let program = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            return Some((pid, program.trim().to_owned()));
        }
    }
    None
}

fn parent(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
}

/// Inodes of the sockets that are bound to `port` in a table of proc_net(5); of TCP those alone that
/// listen.
fn inodes_of(table: &str, port: u16, listening: bool) -> Vec<u64> {
    let row = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (_, local) = fields.get(1)?.rsplit_once(':')?;
        let is_port = u16::from_str_radix(local, 16).ok()? == port;
        let listens = !listening || *fields.get(3)? == "0A";
        (is_port && listens).then(|| fields.get(9)?.parse().ok())?
    };
    table.lines().skip(1).filter_map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::report::Level;

    fn port(transport: Transport, at: SocketAddr) -> Port {
        Port { purpose: "test", option: "--test", transport, at, is_optional: false }
    }

    #[test]
    fn a_free_port_is_free_and_a_taken_one_names_its_holder() {
        let us = std::process::id();
        let tcp = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let udp = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        let bound = [
            (Transport::Tcp, tcp.local_addr().expect("bound")),
            (Transport::Udp, udp.local_addr().expect("bound")),
        ];
        for (transport, at) in bound {
            let found = check(&port(transport, at), None);
            assert_eq!(found.level, Level::Bad);
            assert!(found.found.contains(&format!("pid {us}")), "{found:?}");
            assert!(found.remedy[0].contains("--test"), "{found:?}");
            // The same port in the hands of this home's node is as it should be.
            assert_eq!(check(&port(transport, at), Some(us)).level, Level::Ok);
            let optional = Port { is_optional: true, ..port(transport, at) };
            assert_eq!(check(&optional, None).level, Level::Warning);
        }
        drop((tcp, udp));
        for (transport, at) in bound {
            assert_eq!(check(&port(transport, at), None).level, Level::Ok, "{at}");
        }
        let nowhere = "192.0.2.1:9".parse().expect("an address");
        let found = check(&port(Transport::Udp, nowhere), None);
        assert!(found.level == Level::Bad && found.found.contains("no address 192.0.2.1"));
    }

    #[test]
    fn the_kernels_table_is_read_by_its_columns() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
             0: 0100007F:1D13 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 4711 1 0\n\
             1: 0100007F:1D13 0100007F:9999 01 00000000:00000000 00:00000000 00000000 0 0 4712 1 0\n\
             2: garbage\n";
        assert_eq!(inodes_of(table, 7443, true), [4711]);
        assert_eq!(inodes_of(table, 7443, false), [4711, 4712]);
        assert!(inodes_of(table, 7444, false).is_empty());
    }
}
