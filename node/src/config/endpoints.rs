//! Which local addresses the media sockets bind, and which addresses peers are told.

use std::net::{IpAddr, SocketAddr};

use sfu::io::Endpoint;

use super::MEDIA_IPS_MAX;

/// Why there is no address for media.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// A host without any address.
    #[error("this host has no network address; --media-ip IP names one")]
    None,
    /// More addresses outside than inside.
    #[error(
        "--media-ip {0}: no address of this host is left behind it; each address outside needs one of its own"
    )]
    NothingBehind(IpAddr),
}

/// One socket for each address.
///
/// Without `media_ips` each address of the host is bound and told to peers; loopback too where
/// HTTP itself is on loopback (a browser there gathers no other candidate that reaches it) or where
/// there is no other. With `media_ips` exactly these are told: one that the host has is bound
/// itself; another is the outside of a 1:1 NAT, and the host's next free address of its family is
/// bound for it.
pub fn plan(
    media_ips: &[IpAddr],
    host: &[IpAddr],
    http_is_loopback: bool,
    port: u16,
) -> Result<Vec<Endpoint>, EndpointError> {
    let endpoint = |bind: IpAddr, advertise: IpAddr| Endpoint {
        bind: SocketAddr::new(bind, port),
        advertise: SocketAddr::new(advertise, port),
    };
    if media_ips.is_empty() {
        let lonely = host.iter().all(IpAddr::is_loopback);
        let wanted = |ip: &&IpAddr| !ip.is_loopback() || http_is_loopback || lonely;
        let mut chosen: Vec<_> = host.iter().filter(wanted).collect();
        // Loopback stands last; where the list is cut it must not be what is lost.
        if chosen.len() > MEDIA_IPS_MAX {
            let cut = chosen.len() - MEDIA_IPS_MAX;
            let public_end = chosen.iter().filter(|ip| !ip.is_loopback()).count();
            chosen.drain(public_end.saturating_sub(cut)..public_end);
        }
        let endpoints: Vec<_> = chosen.into_iter().map(|ip| endpoint(*ip, *ip)).collect();
        return if endpoints.is_empty() { Err(EndpointError::None) } else { Ok(endpoints) };
    }
    let mut free: Vec<_> =
        host.iter().filter(|ip| !ip.is_loopback() && !media_ips.contains(ip)).copied().collect();
    media_ips
        .iter()
        .map(|&outside| {
            if host.contains(&outside) || outside.is_loopback() {
                return Ok(endpoint(outside, outside));
            }
            let at = free
                .iter()
                .position(|ip| ip.is_ipv4() == outside.is_ipv4())
                .ok_or(EndpointError::NothingBehind(outside))?;
            Ok(endpoint(free.remove(at), outside))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ips(text: &str) -> Vec<IpAddr> {
        text.split_whitespace().map(|ip| ip.parse().expect("an address")).collect()
    }

    /// `expected`: `bind` or `bind>advertise`.
    #[track_caller]
    fn check(
        media_ips: &str,
        host: &str,
        http_is_loopback: bool,
        expected: Result<&str, EndpointError>,
    ) {
        let seen = plan(&ips(media_ips), &ips(host), http_is_loopback, 7443).map(|endpoints| {
            let words: Vec<_> = endpoints
                .iter()
                .map(|Endpoint { bind, advertise }| {
                    assert_eq!((bind.port(), advertise.port()), (7443, 7443));
                    match bind == advertise {
                        true => bind.ip().to_string(),
                        false => format!("{}>{}", bind.ip(), advertise.ip()),
                    }
                })
                .collect();
            words.join(" ")
        });
        assert_eq!(seen, expected.map(str::to_owned));
    }

    #[test]
    fn each_host_address_is_a_candidate_and_loopback_where_http_is() {
        let host = "10.0.0.2 192.0.2.1 2001:db8::1 127.0.0.1 ::1";
        check("", host, false, Ok("10.0.0.2 192.0.2.1 2001:db8::1"));
        check("", host, true, Ok(host));
        check("", "127.0.0.1", false, Ok("127.0.0.1"));
        check("", "", false, Err(EndpointError::None));
    }

    #[test]
    fn behind_a_nat_each_outside_address_has_a_socket_of_its_own() {
        let host = "10.0.0.2 10.0.0.3 fd00::2 127.0.0.1";
        check("203.0.113.1", host, true, Ok("10.0.0.2>203.0.113.1"));
        check("203.0.113.1 10.0.0.2", host, true, Ok("10.0.0.3>203.0.113.1 10.0.0.2"));
        check("2001:db8::9", host, false, Ok("fd00::2>2001:db8::9"));
        check("127.0.0.1", host, false, Ok("127.0.0.1"));
        let left = EndpointError::NothingBehind("203.0.113.3".parse().expect("an address"));
        check("203.0.113.1 203.0.113.2 203.0.113.3", host, false, Err(left));
    }

    #[test]
    fn a_host_with_very_many_addresses_keeps_loopback() {
        let mut host: Vec<IpAddr> = (1..=40).map(|n| IpAddr::from([10, 0, 0, n])).collect();
        host.push(IpAddr::from([127, 0, 0, 1]));
        let seen = plan(&[], &host, true, 1).expect("many");
        assert_eq!(seen.len(), MEDIA_IPS_MAX);
        assert_eq!(seen.last().map(|e| e.bind.ip()), Some(IpAddr::from([127, 0, 0, 1])));
        assert_eq!(seen[0].bind.ip(), IpAddr::from([10, 0, 0, 1]));
    }
}
