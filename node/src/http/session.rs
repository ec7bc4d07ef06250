//! A session by its URL: ended, or told of candidates (RFC 9725 §4.2, §4.3).

use axum::{
    body::Body,
    extract::{Path, State, rejection::PathRejection},
    http::{HeaderMap, StatusCode, header},
};

use super::{Http, Problem, body, sdpfrag};
use crate::streams::ResourceId;

/// Media type of RFC 8840 §9.
pub const SDPFRAG: &str = "application/trickle-ice-sdpfrag";

/// The entity tag of a session's ICE session (RFC 9725 §4.3.1): strong, and the same for the
/// session's life, since there is no ICE restart.
pub fn etag(resource: ResourceId) -> String {
    let name = resource.to_string();
    format!("\"ice-{}\"", &name[..8])
}

/// `DELETE`: the session ends.
pub async fn delete(
    State(http): State<Http>,
    resource: Result<Path<String>, PathRejection>,
) -> Result<StatusCode, Problem> {
    let resource = parse(resource)?;
    if http.control.end(resource) { Ok(StatusCode::OK) } else { Err(no_session()) }
}

/// `PATCH`: trickled candidates are checked and then ignored, because an ICE-lite agent (RFC 8445
/// §2.5) sends no checks of its own: it learns the peer's address from the peer's first check.
pub async fn patch(
    State(http): State<Http>,
    resource: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, Problem> {
    let resource = parse(resource)?;
    let peer_ufrag = http.control.peer_ufrag(resource).ok_or_else(no_session)?;
    let text = body::text(&headers, body, SDPFRAG).await?;
    let matches = headers.get(header::IF_MATCH).ok_or_else(|| {
        Problem::new(
            StatusCode::PRECONDITION_REQUIRED,
            "if_match_required",
            "Send If-Match with the ETag that the session was created with.",
        )
    })?;
    if matches == "*" {
        return Err(no_restart());
    }
    if matches.to_str().ok() != Some(etag(resource).as_str()) {
        return Err(Problem::new(
            StatusCode::PRECONDITION_FAILED,
            "other_ice_session",
            "The ETag is not this session's; send the one of its creation in If-Match.",
        ));
    }
    let fragment = sdpfrag::parse(&text).map_err(|error| {
        let message = format!("The fragment cannot be read: {error}.");
        Problem::new(StatusCode::BAD_REQUEST, "bad_fragment", message)
    })?;
    if fragment.ufrag.is_some_and(|ufrag| ufrag != peer_ufrag) {
        return Err(no_restart());
    }
    Ok(StatusCode::NO_CONTENT)
}

fn parse(resource: Result<Path<String>, PathRejection>) -> Result<ResourceId, Problem> {
    resource.ok().and_then(|Path(text)| text.parse().ok()).ok_or_else(no_session)
}

fn no_session() -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        "no_session",
        "This session is over, or never was; post a new offer.",
    )
}

fn no_restart() -> Problem {
    Problem::new(
        StatusCode::UNPROCESSABLE_ENTITY,
        "no_ice_restart",
        "This relay does not restart ICE; delete the session and post a new offer.",
    )
}
