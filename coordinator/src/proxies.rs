//! Whose a request is where proxies stand before the coordinator.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use axum::http::{HeaderMap, HeaderName, header};

use crate::options::OptionsError;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Addresses that begin alike: `10.0.0.0/8`, `2001:db8::/32`, or a single one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix_bits: u32,
}

impl Network {
    pub fn contains(&self, address: IpAddr) -> bool {
        let alike_bits = match (self.address, address.to_canonical()) {
            (IpAddr::V4(a), IpAddr::V4(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
            (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return false,
        };
        alike_bits >= self.prefix_bits
    }
}

/// Bits of the whole address.
fn bits_of(address: IpAddr) -> u32 {
    if address.is_ipv4() { 32 } else { 128 }
}

impl FromStr for Network {
    type Err = OptionsError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || OptionsError::Proxy(text.to_owned());
        let (address, prefix_bits) = match text.split_once('/') {
            None => (text, None),
            Some((address, bits)) => (address, Some(bits.parse().map_err(|_| bad())?)),
        };
        let address: IpAddr = address.parse().map_err(|_| bad())?;
        let prefix_bits = prefix_bits.unwrap_or(bits_of(address));
        if prefix_bits > bits_of(address) {
            return Err(bad());
        }
        Ok(Self { address, prefix_bits })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, prefix_bits } = *self;
        if prefix_bits == bits_of(address) {
            return write!(f, "{address}");
        }
        write!(f, "{address}/{prefix_bits}")
    }
}

/// Who asks: `peer`, who made the connection, or where that is one of the proxies, the last one
/// before them whom `Forwarded` (RFC 7239) or `X-Forwarded-For` names.
///
/// A proxy appends, so all that is left of the first stranger is what the stranger says. Most proxies
/// write one of the two headers and pass on the other, so where they disagree neither is believed.
pub(crate) fn client_of(proxies: &[Network], peer: IpAddr, headers: &HeaderMap) -> IpAddr {
    let is_proxy = |address: IpAddr| proxies.iter().any(|proxy| proxy.contains(address));
    if !is_proxy(peer) {
        return peer;
    }
    let named = |name: &HeaderName, read: fn(&str) -> Option<IpAddr>| {
        let values = headers.get_all(name).iter();
        let hops: Vec<&str> = values
            .flat_map(|value| pieces(value.to_str().unwrap_or("unreadable"), ','))
            .filter(|hop| !hop.is_empty())
            .collect();
        let mut stranger = hops.iter().rev().map(|hop| read(hop));
        let stranger = stranger.find(|hop| hop.is_none_or(|address| !is_proxy(address)));
        // An unknown or hidden hop is a stranger without an address.
        (!hops.is_empty()).then(|| stranger.flatten().unwrap_or(peer))
    };
    match (named(&header::FORWARDED, forwarded), named(&X_FORWARDED_FOR, address)) {
        (Some(one), Some(other)) if one != other => peer,
        (one, other) => one.or(other).unwrap_or(peer),
    }
}

/// `for` of one element of `Forwarded`.
fn forwarded(element: &str) -> Option<IpAddr> {
    let mut pairs = pieces(element, ';').into_iter().filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.find(|(key, _)| key.trim().eq_ignore_ascii_case("for"))?;
    address(value.trim().trim_matches('"'))
}

/// `192.0.2.1`, `2001:db8::1`, `[2001:db8::1]`, and with a port.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let with_port = || text.parse().map(|at: SocketAddr| at.ip());
    bare.parse().or_else(|_| with_port()).ok().map(|address: IpAddr| address.to_canonical())
}

/// What stands between separators that are not within quotes.
fn pieces(text: &str, separator: char) -> Vec<&str> {
    let mut is_quoted = false;
    let splits = |c| {
        is_quoted ^= c == '"';
        c == separator && !is_quoted
    };
    text.split(splits).map(str::trim).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_an_address_or_a_prefix_and_is_shown_as_it_was_written() {
        #[track_caller]
        fn check(network: &str, inside: &[&str], outside: &[&str]) {
            let read: Network = network.parse().unwrap();
            assert_eq!(read.to_string(), network);
            let contains = |text: &&str| read.contains(text.parse().unwrap());
            assert!(inside.iter().all(contains), "{network}");
            assert!(!outside.iter().any(contains), "{network}");
        }
        check("192.0.2.1", &["192.0.2.1", "::ffff:192.0.2.1"], &["192.0.2.2", "::1"]);
        check("10.0.0.0/8", &["10.0.0.0", "10.255.0.1"], &["11.0.0.0", "9.255.255.255"]);
        check("0.0.0.0/0", &["1.2.3.4", "255.0.0.1"], &["::"]);
        check("2001:db8::/33", &["2001:db8:7fff::1"], &["2001:db8:8000::1", "10.0.0.1"]);
        check("::1", &["::1"], &["::2", "127.0.0.1"]);
        for bad in ["", "host", "10.0.0.0/33", "::/129", "10.0.0.0/", "/8", "10.0.0.0/-1", "10/8"] {
            assert_eq!(bad.parse::<Network>(), Err(OptionsError::Proxy(bad.to_owned())));
        }
    }

    /// `headers`: `x` is `X-Forwarded-For`, `f` is `Forwarded`.
    #[track_caller]
    fn check(peer: &str, headers: &[(char, &str)], want: &str) {
        let proxies = ["192.0.2.0/24".parse().unwrap(), "2001:db8::1".parse().unwrap()];
        let name = |kind| if kind == 'x' { X_FORWARDED_FOR } else { header::FORWARDED };
        let headers: HeaderMap =
            headers.iter().map(|(kind, text)| (name(*kind), text.parse().unwrap())).collect();
        let client = client_of(&proxies, peer.parse().unwrap(), &headers);
        assert_eq!(client, want.parse::<IpAddr>().unwrap(), "{peer} {headers:?}");
    }

    /// R92
    #[test]
    fn the_last_stranger_before_the_proxies_is_the_client() {
        check("192.0.2.1", &[], "192.0.2.1");
        check("192.0.2.1", &[('x', "198.51.100.1")], "198.51.100.1");
        check("::ffff:192.0.2.1", &[('x', "198.51.100.1")], "198.51.100.1");
        check("192.0.2.1", &[('x', "203.0.113.9, 198.51.100.1,192.0.2.2 , ")], "198.51.100.1");
        check("192.0.2.1", &[('x', "203.0.113.9"), ('x', "198.51.100.1:8080")], "198.51.100.1");
        check("192.0.2.1", &[('x', "::ffff:198.51.100.1")], "198.51.100.1");
        check("2001:db8::1", &[('f', "for=198.51.100.1;proto=https")], "198.51.100.1");
        let long = r#"for=203.0.113.9, by=_a;For="[2001:db8::7]:4711", for=192.0.2.9"#;
        check("192.0.2.1", &[('f', long)], "2001:db8::7");
        let host = r#"for=198.51.100.1;host="a, for=203.0.113.9""#;
        check("192.0.2.1", &[('f', host)], "198.51.100.1");
        let both = [('x', "203.0.113.9, 198.51.100.1"), ('f', "for=198.51.100.1")];
        check("192.0.2.1", &both, "198.51.100.1");
    }

    /// R92
    #[test]
    fn what_anybody_could_have_written_is_not_believed() {
        // Of no proxy.
        check("198.51.100.7", &[('x', "203.0.113.9"), ('f', "for=203.0.113.9")], "198.51.100.7");
        // Left of a stranger without an address.
        for hidden in ["unknown", "_hidden", "junk", "for=203.0.113.9"] {
            let hops = format!("203.0.113.9, {hidden}, 192.0.2.2");
            check("192.0.2.1", &[('x', &hops)], "192.0.2.1");
        }
        check("192.0.2.1", &[('f', "for=203.0.113.9, for=unknown")], "192.0.2.1");
        check("192.0.2.1", &[('f', "for=203.0.113.9, proto=http")], "192.0.2.1");
        // In the header that the proxy passes on.
        check("192.0.2.1", &[('x', "198.51.100.1"), ('f', "for=203.0.113.9")], "192.0.2.1");
        check("192.0.2.1", &[('x', "203.0.113.9"), ('f', "for=unknown")], "192.0.2.1");
        // Nobody but proxies.
        check("192.0.2.1", &[('x', "192.0.2.3, 192.0.2.2")], "192.0.2.1");
    }
}
