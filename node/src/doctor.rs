//! What was found on this host, and what to do about it: facts in, lines of the screen out.

use std::net::{IpAddr, SocketAddr};

use sfu::io::{BufferBytes, LinkKind, SOCKET_BUFFER_BYTES};

use crate::{
    banner::Check,
    config::coordination::{CoordinatorConfig, Service},
    lan,
};

mod command;
mod host;
mod ports;
pub mod ready;
mod remote;
mod report;

pub use command::{DoctorArgs, run};

/// Which link carries the media, and why it is not the faster one.
pub fn link(chosen: LinkKind, asked_for: bool, refused: Option<&str>, shards: usize) -> Check {
    let name = "link";
    let shards = match shards {
        1 => "1 shard".to_owned(),
        n => format!("{n} shards"),
    };
    match (chosen, refused) {
        (LinkKind::IoUring, _) => {
            Check { name, good: true, found: format!("io_uring, {shards}"), remedy: vec![] }
        }
        (LinkKind::Epoll, None) => {
            let why = if asked_for { " (as asked)" } else { "" };
            Check { name, good: true, found: format!("epoll{why}, {shards}"), remedy: vec![] }
        }
        (LinkKind::Epoll, Some(reason)) => Check {
            name,
            good: false,
            found: format!("epoll, {shards}: {reason}"),
            remedy: vec![
                "works as well, a little slower under load; --link epoll silences this".to_owned(),
            ],
        },
    }
}

/// The chain, who makes its blocks, and where tools find its RPC.
pub fn chain(id: &str, engine: &str, rpc: Option<SocketAddr>) -> Check {
    let rpc = match rpc {
        Some(rpc) => format!("RPC at http://{rpc}"),
        None => "RPC under /rpc of the page (port 26657 is taken)".to_owned(),
    };
    let found = format!("{id}, {engine}, {rpc}");
    Check { name: "chain", good: true, found, remedy: vec![] }
}

/// Under which name peers find each other here, and who may join.
pub fn coordinator(node_id: &str, config: &CoordinatorConfig) -> Check {
    let found = match config.service {
        Service::Coordinator => format!("{node_id}, mode {}", config.mode.as_str()),
        Service::Nodes | Service::Off => format!("{node_id}, /nodes alone"),
    };
    Check { name: "coordinator", good: true, found, remedy: vec![] }
}

/// The UDP port, on each local address.
pub fn udp_port(bound: &[SocketAddr]) -> Check {
    let mut ports: Vec<_> = bound.iter().map(SocketAddr::port).collect();
    ports.dedup();
    let ports: Vec<_> = ports.iter().map(u16::to_string).collect();
    let sockets = match bound.len() {
        1 => "1 address".to_owned(),
        n => format!("{n} addresses"),
    };
    let found = format!("{} on {sockets}", ports.join(", "));
    Check { name: "UDP port", good: true, found, remedy: vec![] }
}

/// What the kernel granted of the socket buffers.
pub fn buffers(granted: BufferBytes) -> Check {
    let wanted = SOCKET_BUFFER_BYTES;
    let mut remedy = Vec::new();
    let mut cap = |granted, setting| {
        if granted < wanted {
            remedy.push(format!("sudo sysctl -w net.core.{setting}={wanted}"));
        }
    };
    cap(granted.receive, "rmem_max");
    cap(granted.send, "wmem_max");
    let found = format!(
        "receive {}, send {} of {}",
        size(granted.receive),
        size(granted.send),
        size(wanted)
    );
    Check { name: "buffers", good: remedy.is_empty(), found, remedy }
}

/// Addresses that browsers are told to send media to.
pub fn candidates(advertised: &[IpAddr]) -> Check {
    let list: Vec<_> = advertised.iter().map(ToString::to_string).collect();
    let reachable = advertised.iter().any(|ip| !ip.is_loopback());
    let remedy = match reachable {
        true => vec![],
        false => {
            vec!["only this machine can watch; --media-ip IP names another address".to_owned()]
        }
    };
    // A node for this machine alone is as it should be.
    Check { name: "candidates", good: true, found: list.join(", "), remedy }
}

/// Whether browsers on other machines may use their camera here.
pub fn secure_context(http: SocketAddr, https: bool) -> Check {
    let name = "HTTP";
    let (good, found, remedy) = match (https, http.ip().is_loopback()) {
        (true, _) => (true, format!("{http}, HTTPS"), vec![]),
        (false, true) => (true, format!("{http}, this machine only"), vec![]),
        (false, false) => (
            false,
            format!("{http}, not encrypted: browsers elsewhere refuse camera and microphone"),
            vec![
                "--lan, or --tls-cert FILE --tls-key FILE, or a proxy that speaks HTTPS".to_owned(),
            ],
        ),
    };
    Check { name, good, found, remedy }
}

/// With `--lan`: whether there is a local network whose machines can trust the certificate.
pub fn local_network(http: SocketAddr, host: &[IpAddr]) -> Check {
    let listens = |ip: &&IpAddr| ip.is_ipv4() || http.is_ipv6();
    let named = host.iter().filter(listens).any(|ip| !ip.is_loopback() && lan::is_local(*ip));
    let (found, remedy) = match named {
        true => (format!("{http}, HTTPS for the local network"), vec![]),
        false => (
            format!(
                "{http}, HTTPS that only this machine can trust: no address of a local network"
            ),
            vec!["connect this host to one, or use --tls-cert FILE --tls-key FILE".to_owned()],
        ),
    };
    Check { name: "HTTP", good: named, found, remedy }
}

/// Who may publish and watch.
pub fn access(open: bool, http: SocketAddr) -> Check {
    let name = "access";
    match (open, http.ip().is_loopback()) {
        (false, _) => Check { name, good: true, found: "by token".to_owned(), remedy: vec![] },
        (true, true) => Check {
            name,
            good: true,
            found: "open: everybody on this machine may publish and watch".to_owned(),
            remedy: vec![],
        },
        (true, false) => Check {
            name,
            good: false,
            found: "open: whoever reaches the HTTP address may publish and watch".to_owned(),
            remedy: vec!["drop --open to ask for tokens".to_owned()],
        },
    }
}

fn size(bytes: usize) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{} KiB", bytes / 1024),
        _ if bytes.is_multiple_of(1_048_576) => format!("{} MiB", bytes / 1_048_576),
        _ => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(seen: Check, good: bool, found: &str, remedy: &[&str]) {
        assert_eq!((seen.good, seen.found.as_str()), (good, found));
        assert_eq!(seen.remedy, remedy);
    }

    #[test]
    fn a_fallback_says_why() {
        check(link(LinkKind::IoUring, false, None, 3), true, "io_uring, 3 shards", &[]);
        check(link(LinkKind::Epoll, true, None, 1), true, "epoll (as asked), 1 shard", &[]);
        check(
            link(LinkKind::Epoll, false, Some("forbidden"), 2),
            false,
            "epoll, 2 shards: forbidden",
            &["works as well, a little slower under load; --link epoll silences this"],
        );
    }

    #[test]
    fn buffers_below_what_was_wanted_name_the_setting_that_caps_them() {
        let full = SOCKET_BUFFER_BYTES;
        check(
            buffers(BufferBytes { receive: full, send: full }),
            true,
            "receive 4 MiB, send 4 MiB of 4 MiB",
            &[],
        );
        check(
            buffers(BufferBytes { receive: 212_992, send: full }),
            false,
            "receive 208 KiB, send 4 MiB of 4 MiB",
            &["sudo sysctl -w net.core.rmem_max=4194304"],
        );
    }

    #[test]
    fn a_local_network_is_one_whose_machines_reach_the_listener() {
        let (v4, v6) = (([0, 0, 0, 0], 1).into(), ([0_u16; 8], 1).into());
        let ips = |texts: &[&str]| -> Vec<IpAddr> {
            texts.iter().map(|ip| ip.parse().expect("an address")).collect()
        };
        assert!(local_network(v4, &ips(&["203.0.113.1", "192.168.1.7"])).good);
        assert!(!local_network(v4, &ips(&["203.0.113.1", "127.0.0.1"])).good);
        assert!(!local_network(v4, &ips(&["fd00::7"])).good);
        assert!(local_network(v6, &ips(&["fd00::7"])).good);
    }

    #[test]
    fn plain_http_beyond_this_machine_is_a_finding() {
        let (here, all) = (([127, 0, 0, 1], 8080).into(), ([0, 0, 0, 0], 8080).into());
        assert!(secure_context(here, false).good);
        assert!(secure_context(all, true).good);
        assert!(!secure_context(all, false).good);
        assert!(access(true, here).good);
        assert!(access(false, all).good);
        assert!(!access(true, all).good);
    }
}
