//! Asking admission, and its answer in HTTP's words.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use axum::{
    extract::ConnectInfo,
    http::{Extensions, HeaderMap, StatusCode, header, request::Parts},
};
use chain_types::{LOCAL_CHAIN_ID, SignedToken, Token};

use super::{Http, Problem};
use crate::{
    admission::{AdmissionRequest, Admitted, Refused, Role},
    streams::{Lease, StreamName},
};

/// Lets a request in or says why not (RFC 6750 §3), and counts the verdict.
pub fn admit(
    http: &Http,
    parts: &Parts,
    stream: &StreamName,
    role: Role,
) -> Result<Lease, Problem> {
    match question(http, parts, stream, role) {
        Ok(lease) => {
            http.metrics.admission("admitted");
            Ok(lease)
        }
        Err(refused) => {
            http.metrics.admission(refused.reason());
            Err(problem(refused))
        }
    }
}

/// As [`admit`], asked again for the same request: not counted.
pub fn ask(http: &Http, parts: &Parts, stream: &StreamName, role: Role) -> Result<Lease, Problem> {
    question(http, parts, stream, role).map_err(problem)
}

fn question(http: &Http, parts: &Parts, stream: &StreamName, role: Role) -> Result<Lease, Refused> {
    let bearer = bearer(&parts.headers);
    let peer = peer(&parts.extensions);
    let now_ms = unix_ms(SystemTime::now());
    let request = AdmissionRequest { stream: stream.as_str(), role, bearer, peer, now_ms };
    let admitted = http.access.admission.admit(&request)?;
    Ok(lease(&admitted, bearer, now_ms, Instant::now()))
}

/// Unix time in milliseconds.
pub fn unix_ms(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The bearer text of a request.
pub fn bearer_of(parts: &Parts) -> Option<&str> {
    bearer(&parts.headers)
}

/// What stands after `Bearer` (RFC 6750 §2.1; the scheme's case does not matter).
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

pub fn peer(extensions: &Extensions) -> SocketAddr {
    let unknown = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    extensions.get::<ConnectInfo<SocketAddr>>().map_or(unknown, |ConnectInfo(peer)| *peer)
}

fn lease(admitted: &Admitted, bearer: Option<&str>, now_ms: u64, now: Instant) -> Lease {
    let Admitted { subject: _, token_id, valid_until_ms, max_layer } = *admitted;
    let left = Duration::from_millis(valid_until_ms.saturating_sub(now_ms));
    Lease {
        // Beyond what a clock can hold is never; `u64::MAX` is one of those.
        valid_until: if valid_until_ms == u64::MAX { None } else { now.checked_add(left) },
        layer_cap: max_layer,
        token: token_id.and(bearer).and_then(token),
        admission: None,
    }
}

/// The token that admission accepted, whole: a revocation may name its viewer and its time.
fn token(bearer: &str) -> Option<Token> {
    let signed = SignedToken::from_bearer(bearer).ok()?;
    signed.verify_at_any_time(LOCAL_CHAIN_ID).ok().copied()
}

fn problem(refused: Refused) -> Problem {
    let status = StatusCode::from_u16(refused.http_status()).unwrap_or(StatusCode::FORBIDDEN);
    let problem = Problem::new(status, refused.reason(), sentence(&refused.to_string()));
    problem.challenge(match refused.bearer_error() {
        None => "Bearer realm=\"sutantra\"",
        Some("insufficient_scope") => "Bearer realm=\"sutantra\", error=\"insufficient_scope\"",
        Some(_) => "Bearer realm=\"sutantra\", error=\"invalid_token\"",
    })
}

/// An error's text as a sentence: a capital and a full stop.
pub fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", letters.as_str().trim_end_matches('.'))
}
