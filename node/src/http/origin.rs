//! Whether a request comes from the node's own pages on this machine.
//!
//! A web page of a stranger can make the browser send requests to 127.0.0.1 (cross-site request),
//! and can point its own name at 127.0.0.1 (DNS rebinding): the first shows in `Origin` and
//! `Sec-Fetch-Site`, the second in `Host`.

use std::net::IpAddr;

use axum::http::{HeaderMap, Uri, header};

/// Why a request is not taken as our own page's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Foreign {
    /// No usable host name.
    #[error("the request does not say which host it means")]
    NoHost,
    /// A name that is not a loopback's.
    #[error("this is answered under localhost, 127.0.0.1 or [::1] only")]
    OtherHost,
    /// Sent by another page.
    #[error("this is answered to the relay's own pages only")]
    OtherOrigin,
}

/// Which names the node is asked for under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Names {
    /// Any: the node is open to the network.
    Any,
    /// A loopback's only.
    Loopback,
}

/// Refuses what a stranger's page could have sent.
pub fn check(uri: &Uri, headers: &HeaderMap, names: Names) -> Result<(), Foreign> {
    // HTTP/2 has the authority in the URI, HTTP/1.1 in `Host`.
    let authority = match uri.authority() {
        Some(authority) => authority.as_str(),
        None => text(headers, header::HOST.as_str()).ok_or(Foreign::NoHost)?,
    };
    if names == Names::Loopback && !is_loopback(authority) {
        return Err(Foreign::OtherHost);
    }
    if headers.contains_key("sec-fetch-site")
        && !matches!(text(headers, "sec-fetch-site"), Some("same-origin" | "none"))
    {
        return Err(Foreign::OtherOrigin);
    }
    if headers.contains_key(header::ORIGIN) {
        let origin = text(headers, header::ORIGIN.as_str()).unwrap_or_default();
        let host = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        if !host.is_some_and(|host| host.eq_ignore_ascii_case(authority)) {
            return Err(Foreign::OtherOrigin);
        }
    }
    Ok(())
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    // Two values are nobody's honest request.
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

fn is_loopback(authority: &str) -> bool {
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or("", |(host, _)| host),
        None => authority.split_once(':').map_or(authority, |(host, _)| host),
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_request(headers: &[(&str, &str)], names: Names, expected: Result<(), Foreign>) {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name = axum::http::HeaderName::from_bytes(name.as_bytes()).expect("a header name");
            map.append(name, value.parse().expect("a header value"));
        }
        assert_eq!(check(&Uri::from_static("/api/grant"), &map, names), expected, "{headers:?}");
    }

    #[test]
    fn only_our_own_pages_and_local_programs_are_answered() {
        use Names::{Any, Loopback};
        for host in ["localhost:8080", "LOCALHOST", "127.0.0.1:8080", "[::1]:8080", "127.8.9.1"] {
            check_request(&[("host", host)], Loopback, Ok(()));
        }
        let own = [("host", "127.0.0.1:8080"), ("origin", "http://127.0.0.1:8080")];
        check_request(&own, Loopback, Ok(()));
        check_request(&[("host", "a:1"), ("sec-fetch-site", "same-origin")], Any, Ok(()));
    }

    #[test]
    fn a_rebound_name_and_a_foreign_page_are_refused() {
        use Foreign::{NoHost, OtherHost, OtherOrigin};
        use Names::{Any, Loopback};
        check_request(&[], Loopback, Err(NoHost));
        for host in ["evil.example:8080", "127.0.0.1.evil.example", "", "[::1", "localhost.evil"] {
            check_request(&[("host", host)], Loopback, Err(OtherHost));
        }
        check_request(&[("host", "localhost"), ("host", "localhost")], Loopback, Err(NoHost));
        for site in ["cross-site", "same-site", ""] {
            let headers = [("host", "localhost"), ("sec-fetch-site", site)];
            check_request(&headers, Any, Err(OtherOrigin));
        }
        for origin in ["http://evil.example", "null", "http://localhost:81", "localhost"] {
            let headers = [("host", "localhost"), ("origin", origin)];
            check_request(&headers, Any, Err(OtherOrigin));
        }
    }
}
