//! From a request to a WebSocket (RFC 6455 §4).

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts};
use axum::response::Response;
use data_encoding::BASE64;
use hyper::upgrade::OnUpgrade;
use sha1::{Digest, Sha1};

use super::deflate;
use super::socket::Socket;
use super::talk::Talk;
use crate::coordinator::Coordinator;
use crate::error::Refusal;
use crate::http::{Asked, refuse};
use crate::options::Cors;
use crate::wire::SUBPROTOCOL;

/// What a key is hashed with (§1.3).
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// What the handshake agrees on.
struct Agreed {
    accept: String,
    deflate: bool,
    subprotocol: bool,
}

/// `GET /webrtc/signal` with an upgrade. What is wrong with the handshake or its address is refused
/// over HTTP; what is wrong with its query is said over the WebSocket, which is then closed, since
/// a browser shows a script no HTTP answer.
pub async fn handle_websocket(
    State(coordinator): State<Coordinator>,
    mut request: Request,
) -> Response {
    let upgrade = request.extensions_mut().remove::<OnUpgrade>();
    let (parts, _) = request.into_parts();
    match open(&coordinator, &parts, upgrade) {
        Ok(response) => response,
        Err(refusal) => refuse(&coordinator, &parts.headers, &refusal),
    }
}

fn open(
    coordinator: &Coordinator,
    parts: &Parts,
    upgrade: Option<OnUpgrade>,
) -> Result<Response, Refusal> {
    let agreed = agree(&parts.headers)?;
    let upgrade = upgrade.ok_or_else(|| {
        Refusal::bad_request("this connection cannot become a WebSocket; use HTTP/1.1")
    })?;
    may_open(coordinator, &parts.headers)?;
    let asked = Asked::new(coordinator, parts)?;
    let link = coordinator.open_link(asked.address, agreed.deflate)?;
    let mut talk = Talk::new(coordinator.clone(), link, agreed.subprotocol);
    talk.begin(&asked);
    let reader_deflate = agreed.deflate;
    tokio::spawn(async move {
        // `talk` says goodbye when it is dropped, however this ends.
        if let Ok(io) = upgrade.await {
            Socket::new(io, talk, reader_deflate).await;
        }
    });
    Ok(switching(agreed))
}

/// A page of another origin reaches a WebSocket without asking first, so its origin is checked here.
/// Who is no page names none.
fn may_open(coordinator: &Coordinator, headers: &HeaderMap) -> Result<(), Refusal> {
    let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
    let options = coordinator.options();
    let may = match &options.cors {
        Cors::Any => true,
        Cors::Origins(origins) => origins.iter().any(|allowed| origin == allowed.as_str()),
        Cors::None => {
            // A proxy may have put another name into Host; then the public URL is the page's own.
            let hosts = [
                headers.get(header::HOST).and_then(|host| host.to_str().ok()),
                options.public_url.as_deref().and_then(host_of),
            ];
            let origin = origin.to_str().ok().and_then(host_of);
            origin.is_some_and(|origin| {
                hosts.into_iter().flatten().any(|host| host.eq_ignore_ascii_case(origin))
            })
        }
    };
    if may { Ok(()) } else { Err(Refusal::forbidden("pages of this origin may not connect here")) }
}

/// Host, and port where one is named, of a URL or an origin.
fn host_of(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    rest.split('/').next()
}

fn agree(headers: &HeaderMap) -> Result<Agreed, Refusal> {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let has =
        |name, wanted: &str| {
            headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).any(|value| {
                value.split(',').any(|token| token.trim().eq_ignore_ascii_case(wanted))
            })
        };
    let websocket = has(header::CONNECTION, "upgrade") && has(header::UPGRADE, "websocket");
    let key = text(header::SEC_WEBSOCKET_KEY)
        .filter(|key| BASE64.decode(key.as_bytes()).is_ok_and(|bytes| bytes.len() == 16));
    let (true, Some("13"), Some(key)) = (websocket, text(header::SEC_WEBSOCKET_VERSION), key)
    else {
        return Err(Refusal::bad_request("the upgrade is no WebSocket handshake of version 13"));
    };
    Ok(Agreed {
        accept: accept(key),
        deflate: headers
            .get_all(header::SEC_WEBSOCKET_EXTENSIONS)
            .iter()
            .any(|value| value.to_str().is_ok_and(deflate::is_offered)),
        subprotocol: has(header::SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL),
    })
}

fn accept(key: &str) -> String {
    BASE64.encode(&Sha1::new().chain_update(key).chain_update(GUID).finalize())
}

fn switching(agreed: Agreed) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    let accept = HeaderValue::try_from(agreed.accept).expect("base64 is a header's value");
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    if agreed.deflate {
        let value = HeaderValue::from_static(deflate::ACCEPTED);
        headers.insert(header::SEC_WEBSOCKET_EXTENSIONS, value);
    }
    if agreed.subprotocol {
        let value = HeaderValue::from_static(SUBPROTOCOL);
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, value);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_accept_key_is_the_rfcs() {
        assert_eq!(accept("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
