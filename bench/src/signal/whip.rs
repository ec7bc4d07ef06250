//! WHIP (RFC 9725) and WHEP (draft-ietf-wish-whep): one `POST` with an offer, one answer.

use crate::client::{JoinError, Role};
use crate::http::{Base, location_path};

/// Takes `offer` to the server; the answer's SDP, and the session's path where it gave one.
pub fn exchange(
    base: &Base,
    bearer: Option<&str>,
    role: Role,
    stream: &str,
    offer: &str,
) -> Result<(String, Option<String>), JoinError> {
    let endpoint = match role {
        Role::Publisher => "whip",
        Role::Viewer => "whep",
    };
    let path = format!("/{endpoint}/{stream}");
    let answer = base.request("POST", &path, bearer, offer)?;
    if answer.status != 201 {
        let reason = answer.body.lines().next().unwrap_or_default().to_owned();
        return Err(JoinError::Refused { path, status: answer.status, reason });
    }
    let location = answer.location.as_deref().map(|location| location_path(location).to_owned());
    Ok((answer.body, location))
}
