//! `grant` and `revoke`: tokens and revocations signed with the home's issuer key.

use std::{
    io::{self, Read, Write},
    net::{TcpStream, ToSocketAddrs},
    path::Path,
    time::Duration,
};

use chain_types::{
    AccountId, Grants as GrantSet, IdParseError, LOCAL_CHAIN_ID, PaymentStatus, Revocation,
    Revoked, SignedRevocation, SignedToken, StreamId, Token, TokenError, TokenId,
};

use crate::{
    admission::{Grants, LogError, RevokeError, Role},
    cli::RevokeTarget,
    config::home::{self, Home, HomeError},
    streams::{StreamName, StreamNameError},
};

/// Longest life of a token: what is lent longer should be looked at again.
pub const TTL_MAX: Duration = Duration::from_secs(30 * 86_400);
/// A node that does not answer within this time is told to be unreachable.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// Longest answer that is read.
const ANSWER_BYTES_MAX: u64 = 16 * 1024;

/// Why there is no token or no revocation.
#[derive(Debug, thiserror::Error)]
pub enum GrantError {
    /// The home's key.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// Not a name that a stream can have.
    #[error("--stream: {0}")]
    Stream(#[from] StreamNameError),
    /// Not a time.
    #[error("--ttl {0}: write a number and s, m, h or d, such as 90s or 10m; at most 30d")]
    Ttl(String),
    /// Not an account.
    #[error("--viewer: {0}")]
    Viewer(#[from] IdParseError),
    /// Not a token, so nothing can be taken back by it.
    #[error("--token: {0}")]
    Token(#[from] TokenError),
    /// Another node's token.
    #[error("the token was signed by another issuer ({0}): revoke it on the node that granted it")]
    ForeignToken(AccountId),
    /// The log of the home, with no node running.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The log did not take it, with no node running.
    #[error(transparent)]
    Revoke(#[from] RevokeError),
    /// Not an address this command can speak to.
    #[error(
        "{url}: {reason}; print the revocation with --print and send it yourself:\n  \
             curl --data-binary @- {url}/api/admin/revoke"
    )]
    Url {
        /// As given or announced.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The node said no.
    #[error("{url} refused the revocation with status {status}: {body}")]
    Refused {
        /// Of the node.
        url: String,
        /// HTTP status.
        status: u16,
        /// What it said.
        body: String,
    },
}

/// Reads `90s`, `10m`, `2h`, `30d`.
pub fn parse_ttl(text: &str) -> Result<Duration, GrantError> {
    let refused = || GrantError::Ttl(text.to_owned());
    let unit = text.chars().next_back().ok_or_else(refused)?;
    let seconds_per = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(refused()),
    };
    let digits = &text[..text.len() - 1];
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(refused());
    }
    let count: u64 = digits.parse().map_err(|_| refused())?;
    let ttl = Duration::from_secs(count.checked_mul(seconds_per).ok_or_else(refused)?);
    if ttl.is_zero() || ttl > TTL_MAX { Err(refused()) } else { Ok(ttl) }
}

/// A token for `stream`, valid from now on.
pub fn grant(
    home: &Path,
    stream: &str,
    role: Role,
    ttl: &str,
    viewer: Option<&str>,
    now_ms: u64,
) -> Result<SignedToken, GrantError> {
    let stream: StreamName = stream.parse()?;
    let ttl = parse_ttl(ttl)?;
    let viewer = viewer.map_or(Ok(AccountId::ZERO), str::parse)?;
    let key = home::issuer_key(home)?;
    let token = Token {
        token_id: TokenId(rand::random()),
        stream: StreamId::local(stream.as_str()),
        viewer,
        holder_key: AccountId::ZERO,
        issuer_key: AccountId::from(&key),
        grants: match role {
            Role::Publish => GrantSet::PUBLISH,
            Role::Subscribe => GrantSet::SUBSCRIBE,
        },
        max_layer: u8::MAX,
        payment_status: PaymentStatus::Free,
        rev_epoch: 0,
        not_before_ms: now_ms,
        valid_until_ms: now_ms.saturating_add(ttl.as_millis() as u64),
    };
    Ok(token.sign(&key, LOCAL_CHAIN_ID)?)
}

/// The signed word that takes `target` back.
pub fn revocation(
    home: &Path,
    target: &RevokeTarget,
    now_ms: u64,
) -> Result<SignedRevocation, GrantError> {
    let key = home::issuer_key(home)?;
    let issuer_key = AccountId::from(&key);
    let what = match target {
        RevokeTarget::Token(bearer) => {
            let signed = SignedToken::from_bearer(bearer.trim())?;
            let token = signed.verify_at_any_time(LOCAL_CHAIN_ID)?;
            if token.issuer_key != issuer_key {
                return Err(GrantError::ForeignToken(token.issuer_key));
            }
            Revoked::Token(token.token_id)
        }
        RevokeTarget::Viewer { stream, viewer } => {
            let stream: StreamName = stream.parse()?;
            let viewer = viewer.as_deref().map_or(Ok(AccountId::ZERO), str::parse)?;
            Revoked::Viewer { stream: StreamId::local(stream.as_str()), viewer }
        }
    };
    let revocation = Revocation { issuer_key, what, issued_ms: now_ms };
    Ok(revocation.sign(&key, LOCAL_CHAIN_ID).expect("signed with the key it names"))
}

/// Brings a revocation into force: by the node at `url`, else by the one that runs on the home,
/// else by the home's log, which the next node reads. Says in a sentence which it was.
pub fn deliver(
    home: &Path,
    signed: &SignedRevocation,
    url: Option<&str>,
) -> Result<String, GrantError> {
    if let Some(url) = url {
        return post(url, signed);
    }
    let held = match Home::open(home) {
        Ok(held) => held,
        Err(HomeError::Locked { .. }) => {
            let url = home::announced_url(home).ok_or_else(|| GrantError::Url {
                url: "http://127.0.0.1:8080".to_owned(),
                reason: "a node runs on this home and has not said yet where it answers".to_owned(),
            })?;
            return post(&url, signed);
        }
        Err(other) => return Err(other.into()),
    };
    let issuer = AccountId::from(&home::issuer_key(home)?);
    Grants::open(held.dir(), vec![issuer])?.revoke(signed)?;
    Ok("revoked; no node runs on this home, the next one will know".to_owned())
}

/// One HTTP/1.1 request (RFC 9112) over plain TCP, which a node takes on its HTTPS port too: the
/// revocation is signed and no secret.
fn post(url: &str, signed: &SignedRevocation) -> Result<String, GrantError> {
    let base = url.trim_end_matches('/');
    let bad = |reason: String| GrantError::Url { url: base.to_owned(), reason };
    let authority = match base.strip_prefix("http://") {
        Some(authority) if !authority.contains('/') => authority,
        Some(_) => return Err(bad("give scheme, host and port alone".to_owned())),
        None => return Err(bad("only http:// can be spoken here".to_owned())),
    };
    let with_port = if authority.rsplit(']').next().is_some_and(|rest| rest.contains(':')) {
        authority.to_owned()
    } else {
        format!("{authority}:80")
    };
    let body = signed.to_text();
    let request = format!(
        "POST /api/admin/revoke HTTP/1.1\r\nHost: {authority}\r\nContent-Type: text/plain\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    let answer =
        exchange(&with_port, request.as_bytes()).map_err(|error| bad(error.to_string()))?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3))
        .and_then(|code| code.parse::<u16>().ok())
        .ok_or_else(|| bad("what answers there is no HTTP server".to_owned()))?;
    let (url, body) = (base.to_owned(), body.trim().to_owned());
    match status {
        200..=299 => Ok(format!("revoked at {url}: {body}")),
        _ => Err(GrantError::Refused { url, status, body }),
    }
}

fn exchange(authority: &str, request: &[u8]) -> io::Result<Vec<u8>> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "no such host");
    for address in authority.to_socket_addrs()? {
        let mut stream = match TcpStream::connect_timeout(&address, ANSWER_MAX) {
            Ok(stream) => stream,
            Err(error) => {
                last = error;
                continue;
            }
        };
        stream.set_read_timeout(Some(ANSWER_MAX))?;
        stream.set_write_timeout(Some(ANSWER_MAX))?;
        stream.write_all(request)?;
        let mut answer = Vec::new();
        stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
        return Ok(answer);
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, thread};

    use tempfile::TempDir;

    use super::*;
    use crate::admission::{Admission, AdmissionRequest, Refused};

    #[test]
    fn a_time_is_a_number_and_a_unit() {
        #[track_caller]
        fn check(text: &str, seconds: Option<u64>) {
            assert_eq!(parse_ttl(text).ok().map(|ttl| ttl.as_secs()), seconds);
        }
        check("90s", Some(90));
        check("10m", Some(600));
        check("2h", Some(7_200));
        check("30d", Some(2_592_000));
        for text in [
            "31d",
            "0m",
            "",
            "m",
            "10",
            "10 m",
            "+1m",
            "-1m",
            "1.5h",
            "10x",
            "10é",
            "99999999999999999999d",
            "9999999999999999999d",
        ] {
            check(text, None);
        }
    }

    /// R121
    #[test]
    fn a_granted_token_opens_until_it_is_revoked_with_no_node_running() {
        let home = TempDir::new().unwrap();
        let token =
            grant(home.path(), "demo", Role::Subscribe, "10m", None, 1_000).expect("granted");
        let ask = || {
            let issuer = AccountId::from(&home::issuer_key(home.path()).expect("made"));
            Grants::open(home.path(), vec![issuer]).expect("ours").admit(&AdmissionRequest {
                stream: "demo",
                role: Role::Subscribe,
                bearer: Some(&token.to_bearer()),
                peer: ([127, 0, 0, 1], 9).into(),
                now_ms: 2_000,
            })
        };
        assert_eq!(ask().map(|admitted| admitted.valid_until_ms), Ok(601_000));
        let target = RevokeTarget::Token(token.to_bearer());
        let signed = revocation(home.path(), &target, 3_000).expect("ours");
        deliver(home.path(), &signed, None).expect("nobody holds the home");
        assert_eq!(ask(), Err(Refused::Revoked));
    }

    #[test]
    fn only_tokens_of_the_home_are_taken_back() {
        let (home, other) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let foreign = grant(other.path(), "demo", Role::Publish, "10m", None, 1).expect("granted");
        let target = RevokeTarget::Token(foreign.to_bearer());
        let refused = revocation(home.path(), &target, 2);
        assert!(matches!(refused, Err(GrantError::ForeignToken(_))));
        let target = RevokeTarget::Token("?".to_owned());
        assert!(matches!(revocation(home.path(), &target, 2), Err(GrantError::Token(_))));
        let bad = grant(home.path(), "No Name", Role::Publish, "10m", None, 1);
        assert!(matches!(bad, Err(GrantError::Stream(_))));
        let bad = grant(home.path(), "demo", Role::Publish, "10m", Some("ab"), 1);
        assert!(matches!(bad, Err(GrantError::Viewer(_))));
    }

    #[test]
    fn the_node_that_runs_on_the_home_is_told() {
        let dir = TempDir::new().unwrap();
        let mut held = Home::open(dir.path()).expect("free");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let target = RevokeTarget::Viewer { stream: "demo".to_owned(), viewer: None };
        let signed = revocation(dir.path(), &target, 2).expect("ours");
        let silent = deliver(dir.path(), &signed, None);
        assert!(matches!(silent, Err(GrantError::Url { .. })), "nothing is announced yet");

        held.announce(&url).expect("ours");
        let answers = ["200 OK", "403 Forbidden"];
        let node = thread::spawn(move || {
            answers.map(|status| {
                let (mut stream, _) = listener.accept().expect("called");
                let mut request = vec![0; 4096];
                let mut len = 0;
                while !request[..len].ends_with(signed.to_text().as_bytes()) {
                    let read = stream.read(&mut request[len..]).expect("a request");
                    assert_ne!(read, 0, "the request carries the revocation");
                    len += read;
                }
                write!(stream, "HTTP/1.1 {status}\r\nConnection: close\r\n\r\nwords")
                    .expect("read");
                String::from_utf8_lossy(&request[..len]).into_owned()
            })
        });
        let said = deliver(dir.path(), &signed, None).expect("the node agrees");
        assert_eq!(said, format!("revoked at {url}: words"));
        let refused = deliver(dir.path(), &signed, Some(&url));
        assert!(matches!(refused, Err(GrantError::Refused { status: 403, .. })));
        let [request, _] = node.join().expect("no panic");
        assert!(request.starts_with("POST /api/admin/revoke HTTP/1.1\r\nHost: 127.0.0.1:"));
        let https = deliver(dir.path(), &signed, Some("https://127.0.0.1:1"));
        assert!(matches!(https, Err(GrantError::Url { .. })));
    }
}
