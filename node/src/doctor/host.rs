//! This machine: addresses, clock, buffers, io_uring, limits, room.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use sfu::io::{Endpoint, bind_shards};

use super::report::{Finding, Level};
use crate::{
    banner::Check,
    config::{Config, endpoints},
    metrics::{Disk, KernelClock, open_files_max},
};

/// Less room than this is soon none, bytes.
const FREE_BYTES_WANTED: u64 = 2 * 1024 * 1024 * 1024;
/// Descriptors that a relay should have.
const OPEN_FILES_WANTED: u64 = 16_384;

/// Everything about the host that needs no network. `is_relay`: media is forwarded here.
pub fn all(config: &Config, is_relay: bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    if is_relay {
        let host = sfu::io::host_addresses();
        findings.push(candidates(config, &host));
        findings.push(io_uring());
        findings.extend(buffers());
    }
    findings.push(clock(KernelClock::read()));
    findings.push(open_files(open_files_max()));
    // The home may not be there yet: then the nearest directory above it is asked.
    let at = config.home.ancestors().find(|path| path.exists());
    findings.push(disk(at.and_then(|at| Disk::of(at).ok())));
    findings
}

fn candidates(config: &Config, host: &[IpAddr]) -> Finding {
    let name = "candidates";
    let loopback = config.http.ip().is_loopback();
    match endpoints::plan(&config.media_ips, host, loopback, config.udp_port) {
        Err(error) => Finding::bad(name, error.to_string(), "look at --media-ip"),
        Ok(plan) => judge_candidates(&plan, loopback),
    }
}

fn judge_candidates(plan: &[Endpoint], http_is_loopback: bool) -> Finding {
    let name = "candidates";
    let told: Vec<IpAddr> = plan.iter().map(|endpoint| endpoint.advertise.ip()).collect();
    let port = plan.first().map_or(0, |endpoint| endpoint.advertise.port());
    let list: Vec<_> = told.iter().map(ToString::to_string).collect();
    let list = list.join(", ");
    if told.iter().any(|ip| is_public(*ip)) {
        return Finding::ok(
            name,
            format!("{list}; public, so UDP {port} must be open to everybody"),
        );
    }
    let found = format!("{list}; none is public");
    if http_is_loopback {
        return Finding::ok(name, format!("{found}, and HTTP serves this machine only"));
    }
    Finding::warning(
        name,
        found,
        format!(
            "viewers outside this network need: UDP {port} forwarded to this host by the NAT, and --media-ip with the NAT's public address"
        ),
    )
}

/// Whether the Internet routes it (IANA's registries of special addresses).
fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            let shared = a == 100 && (64..128).contains(&b);
            let benchmark = a == 198 && (b == 18 || b == 19);
            !(ip.is_private()
                || ip.is_loopback()
                || ip.is_link_local()
                || ip.is_documentation()
                || ip.is_unspecified()
                || ip.is_broadcast()
                || shared
                || benchmark
                || a == 0
                || a >= 224)
        }
        // What is delegated so far, less documentation.
        IpAddr::V6(ip) => {
            let [a, b, ..] = ip.segments();
            a & 0xe000 == 0x2000 && !(a == 0x2001 && b == 0x0db8)
        }
    }
}

fn io_uring() -> Finding {
    match sfu::io::available() {
        Ok(()) => Finding::ok("io_uring", "available"),
        Err(reason) => Finding::warning(
            "io_uring",
            format!("not available ({reason}): epoll is used"),
            "works as well, a little slower under load; sysctl kernel.io_uring_disabled=0 or a newer kernel may help",
        ),
    }
}

/// What the kernel grants to a media socket, by asking for one.
fn buffers() -> Option<Finding> {
    let at = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let (_, sockets) = bind_shards(&[Endpoint { bind: at, advertise: at }], 1).ok()?;
    let granted = sockets.first()?.buffer_bytes();
    Some(from_check(super::buffers(granted), Level::Warning))
}

/// A line of the start-up screen as a finding; what is not good is as bad as `level`.
pub fn from_check(check: Check, level: Level) -> Finding {
    let Check { name, good, found, remedy } = check;
    Finding { name: name.to_owned(), level: if good { Level::Ok } else { level }, found, remedy }
}

fn clock(kernel: Option<KernelClock>) -> Finding {
    let name = "clock";
    let remedy = "sudo timedatectl set-ntp true, or install chrony: a clock that is off by 5 s takes the node out of service";
    match kernel {
        None => Finding::warning(name, "the kernel does not tell whether it is kept right", remedy),
        Some(KernelClock { is_synchronised: true, error_max_us }) => Finding::ok(
            name,
            format!("kept right, wrong by {} ms at most", error_max_us.div_ceil(1000)),
        ),
        Some(KernelClock { is_synchronised: false, .. }) => {
            Finding::warning(name, "nobody keeps it right, says the kernel", remedy)
        }
    }
}

fn open_files(most: Option<u64>) -> Finding {
    let name = "open files";
    match most {
        Some(most) if most >= OPEN_FILES_WANTED => Finding::ok(name, format!("{most} allowed")),
        Some(most) => Finding::warning(
            name,
            format!("{most} allowed"),
            format!(
                "ulimit -n {OPEN_FILES_WANTED}, or LimitNOFILE in the unit: each session and client takes one"
            ),
        ),
        None => Finding::warning(name, "the limit is not known", "mount /proc"),
    }
}

fn disk(disk: Option<Disk>) -> Finding {
    let name = "disk";
    let Some(Disk { free_bytes, size_bytes }) = disk else {
        return Finding::bad(name, "the home cannot be reached", "choose another with --home DIR");
    };
    let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
    let found = format!("{:.1} of {:.1} GiB left for the home", gib(free_bytes), gib(size_bytes));
    let remedy = "free some, or move the home with --home DIR: without room no block and no voucher is written";
    match free_bytes {
        free if free < super::ready::FREE_BYTES_MIN => Finding::bad(name, found, remedy),
        free if free < FREE_BYTES_WANTED => Finding::warning(name, found, remedy),
        _ => Finding::ok(name, found),
    }
}

const _: () = assert!(FREE_BYTES_WANTED > super::ready::FREE_BYTES_MIN);

#[cfg(test)]
mod tests {
    use sfu::io::{BufferBytes, SOCKET_BUFFER_BYTES};

    use super::*;

    #[track_caller]
    fn check(finding: &Finding, level: Level, words: &str) {
        assert!(finding.level == level && finding.found.contains(words), "{finding:?}");
        assert_eq!(finding.remedy.is_empty(), level == Level::Ok, "{finding:?}");
    }

    #[test]
    fn addresses_that_the_internet_routes_are_told_from_those_behind_a_nat() {
        let public = ["8.8.8.8", "100.63.0.1", "2a00::1", "172.32.0.1"];
        let inside = [
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "127.0.0.1",
            "169.254.1.1",
            "100.64.0.1",
            "198.18.0.1",
            "203.0.113.1",
            "0.0.0.0",
            "224.0.0.1",
            "::1",
            "fe80::1",
            "fd00::1",
            "2001:db8::1",
        ];
        for (texts, expected) in [(&public[..], true), (&inside[..], false)] {
            for text in texts {
                assert_eq!(is_public(text.parse().expect("an address")), expected, "{text}");
            }
        }
        let at = |ip: &str| SocketAddr::new(ip.parse().expect("an address"), 7443);
        let plan = |ip: &str| vec![Endpoint { bind: at("10.0.0.1"), advertise: at(ip) }];
        check(&judge_candidates(&plan("8.8.8.8"), false), Level::Ok, "UDP 7443 must be open");
        check(&judge_candidates(&plan("10.0.0.1"), true), Level::Ok, "this machine only");
        let behind = judge_candidates(&plan("10.0.0.1"), false);
        check(&behind, Level::Warning, "none is public");
        assert!(behind.remedy[0].contains("--media-ip"), "{behind:?}");
    }

    #[test]
    fn clock_limits_and_room_have_remedies_where_they_are_short() {
        let kernel = |is_synchronised| Some(KernelClock { is_synchronised, error_max_us: 1_500 });
        check(&clock(kernel(true)), Level::Ok, "2 ms at most");
        check(&clock(kernel(false)), Level::Warning, "nobody");
        check(&clock(None), Level::Warning, "does not tell");
        check(&open_files(Some(65_536)), Level::Ok, "65536");
        check(&open_files(Some(1024)), Level::Warning, "1024");
        check(&open_files(None), Level::Warning, "not known");
        let room = |free_bytes| Some(Disk { free_bytes, size_bytes: 1 << 40 });
        check(&disk(room(1 << 36)), Level::Ok, "64.0 of 1024.0 GiB");
        check(&disk(room(1 << 30)), Level::Warning, "1.0 of");
        check(&disk(room(1 << 20)), Level::Bad, "0.0 of");
        check(&disk(None), Level::Bad, "cannot be reached");
        let small = BufferBytes { receive: 1, send: SOCKET_BUFFER_BYTES };
        check(&from_check(super::super::buffers(small), Level::Warning), Level::Warning, "1 B");
    }
}
