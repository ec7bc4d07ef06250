//! WHIP and WHEP: an offer comes, an answer goes, a session has a URL.

use axum::{
    extract::{
        Path, Query, Request, State,
        rejection::{PathRejection, QueryRejection},
    },
    http::{HeaderName, HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use sfu::OfferError;

use super::{Http, Problem, admit, body, pay, session};
use crate::{
    admission::Role,
    relay_control::{BeginError, Begun},
    streams::{Refused, StreamName},
};

/// Media type of RFC 8866 §8.1.
pub const SDP: &str = "application/sdp";
/// Characters of a title; the rest is cut.
const TITLE_CHARS_MAX: usize = 80;
/// When to ask again for a stream that is not live.
const NOT_LIVE_RETRY_S: u32 = 2;
/// When to come back to a relay that is full or stopping.
const BUSY_RETRY_S: u32 = 5;

/// What a publisher may say besides its offer.
#[derive(Debug, serde::Deserialize)]
pub struct PublishQuery {
    title: Option<String>,
}

/// `POST /whip/{stream}` (RFC 9725 §4.2).
pub async fn whip(
    State(http): State<Http>,
    stream: Result<Path<String>, PathRejection>,
    query: Result<Query<PublishQuery>, QueryRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let name = stream_name(stream)?;
    let (parts, body) = request.into_parts();
    let paid = pay::entered(&http, &name).await?;
    let lease = match &paid {
        Some((paying, stream, _)) => pay::may_publish(paying, *stream, &parts).await?,
        None => admit::admit(&http, &parts, &name, Role::Publish)?,
    };
    let offer = body::text(&parts.headers, body, SDP).await?;
    let title = match &paid {
        Some((paying, stream, _)) => pay::title(paying, *stream),
        None => query.ok().and_then(|Query(query)| clean_title(&query.title?)),
    };
    let is_local = paid.is_none();
    let name = paid.map_or(name, |(_, _, name)| name);
    let work = move |http: &Http, name: &StreamName| {
        http.control.publish(name, title.as_deref(), &offer, lease)
    };
    let begun = begin(&http, &name, work).await?;
    if is_local {
        still_admitted(&http, &parts, &name, Role::Publish, &begun)?;
    }
    Ok(created(begun))
}

/// `POST /whep/{stream}` (draft-ietf-wish-whep, offer by the player).
pub async fn whep(
    State(http): State<Http>,
    stream: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let name = stream_name(stream)?;
    let (parts, body) = request.into_parts();
    if let Some((paying, stream, name)) = pay::entered(&http, &name).await? {
        return pay::whep(http, paying, stream, name, parts, body).await;
    }
    let lease = admit::admit(&http, &parts, &name, Role::Subscribe)?;
    let offer = body::text(&parts.headers, body, SDP).await?;
    let work = move |http: &Http, name: &StreamName| http.control.subscribe(name, &offer, lease);
    let begun = begin(&http, &name, work).await?;
    still_admitted(&http, &parts, &name, Role::Subscribe, &begun)?;
    Ok(created(begun))
}

/// The stream of a path.
pub fn stream_name(path: Result<Path<String>, PathRejection>) -> Result<StreamName, Problem> {
    path.ok().and_then(|Path(text)| text.parse().ok()).ok_or_else(|| {
        let message = crate::streams::StreamNameError.to_string();
        Problem::new(StatusCode::BAD_REQUEST, "bad_stream_name", format!("{message}."))
    })
}

/// One line that people can read, `None` if nothing is left.
fn clean_title(title: &str) -> Option<String> {
    let shown = title.chars().filter(|c| !c.is_control()).take(TITLE_CHARS_MAX).collect::<String>();
    let shown = shown.trim();
    (!shown.is_empty()).then(|| shown.to_owned())
}

pub async fn begin(
    http: &Http,
    name: &StreamName,
    work: impl FnOnce(&Http, &StreamName) -> Result<Begun, BeginError> + Send + 'static,
) -> Result<Begun, Problem> {
    // Runs to its end even if the client hangs up: a claimed name must be given back.
    let task = tokio::task::spawn_blocking({
        let (http, name) = (http.clone(), name.clone());
        move || work(&http, &name)
    });
    match task.await {
        Ok(result) => result.map_err(|error| refusal(name, error)),
        // A panic there is a bug of ours; it is in the log, and the client may try again.
        Err(_) => Err(busy("internal", "The relay failed to answer; try again.")),
    }
}

/// A revocation between the first question and the session's entry found no session to end.
fn still_admitted(
    http: &Http,
    parts: &Parts,
    name: &StreamName,
    role: Role,
    begun: &Begun,
) -> Result<(), Problem> {
    admit::ask(http, parts, name, role).map(drop).inspect_err(|_| {
        http.control.end(begun.resource);
    })
}

/// 201 with the answer and the session's URL.
pub fn created(begun: Begun) -> Response {
    let Begun { resource, answer, .. } = begun;
    let owned = |text: String| HeaderValue::from_str(&text).expect("hexadecimal digits and ASCII");
    let headers: [(HeaderName, HeaderValue); 5] = [
        (header::CONTENT_TYPE, HeaderValue::from_static(SDP)),
        (header::LOCATION, owned(format!("/session/{resource}"))),
        (header::ETAG, owned(session::etag(resource))),
        (HeaderName::from_static("accept-patch"), HeaderValue::from_static(session::SDPFRAG)),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (StatusCode::CREATED, headers, answer).into_response()
}

fn refusal(name: &StreamName, error: BeginError) -> Problem {
    let unusable = |code, message: &str| {
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, code, message.to_owned())
    };
    match error {
        BeginError::Refused(Refused::Taken) => Problem::new(
            StatusCode::CONFLICT,
            "stream_taken",
            format!("Somebody publishes {name} already: choose another name, or end it first."),
        ),
        BeginError::Refused(Refused::NotLive) => Problem::new(
            StatusCode::NOT_FOUND,
            "not_live",
            format!("Nobody publishes {name} now; ask again in a moment."),
        )
        .retry_after(NOT_LIVE_RETRY_S),
        BeginError::Refused(Refused::Full) | BeginError::Offer(OfferError::Full) => {
            busy("full", "This relay is full; come back later or use another.")
        }
        BeginError::Offer(OfferError::Draining) => {
            busy("draining", "This relay is stopping; come back later or use another.")
        }
        BeginError::Offer(OfferError::Sdp(reason)) => Problem::new(
            StatusCode::BAD_REQUEST,
            "bad_offer",
            format!("The body is no usable SDP offer: {reason}."),
        ),
        BeginError::Offer(OfferError::Fingerprint(reason)) => Problem::new(
            StatusCode::BAD_REQUEST,
            "bad_fingerprint",
            format!("The offer cannot be held to one certificate: {reason}."),
        ),
        BeginError::Offer(OfferError::NoMedia) => {
            unusable("no_media", "The offer has no audio and no video; add a track.")
        }
        BeginError::Offer(OfferError::TooManySections(_)) => unusable(
            "too_many_sections",
            "Offer one video and one audio track; publish more streams for more.",
        ),
        BeginError::Offer(OfferError::TooManySsrcs) => unusable(
            "too_many_ssrcs",
            "The offer names more SSRCs than one publisher may send on; send each track once.",
        ),
        BeginError::Offer(OfferError::WrongDirection) => unusable(
            "wrong_direction",
            "Offer sendonly media to publish (WHIP) and recvonly media to watch (WHEP).",
        ),
        BeginError::Offer(OfferError::NoCommonCodec) => Problem::new(
            StatusCode::NOT_ACCEPTABLE,
            "no_common_codec",
            "Offer VP8, VP9, H.264 or AV1 for video and Opus for audio.",
        ),
    }
}

pub fn busy(code: &'static str, message: &str) -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, code, message.to_owned())
        .retry_after(BUSY_RETRY_S)
}

#[cfg(test)]
mod tests {
    use super::clean_title;

    #[test]
    fn a_title_is_one_readable_line() {
        assert_eq!(clean_title(" My\r\n cam \u{1b}[1m "), Some("My cam [1m".to_owned()));
        assert_eq!(clean_title("\n \t"), None);
        assert_eq!(clean_title(&"ü".repeat(100)).map(|title| title.chars().count()), Some(80));
    }
}
