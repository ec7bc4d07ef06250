//! Taking a token or a viewer back: signed by the issuer, so that no other login exists.

use axum::{
    Json,
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use chain_types::{LOCAL_CHAIN_ID, SignedRevocation};

use super::{Http, Problem, admit::sentence, body};
use crate::admission::RevokeError;

/// `POST /api/admin/revoke`, the revocation as base64url text: counts from now on and after a
/// restart; the sessions that rest on it end. The same one twice does no harm.
pub async fn revoke(
    State(http): State<Http>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let Some(grants) = http.access.grants.clone() else {
        let message = "This relay is open: nobody needs a token, so none can be taken back.";
        return Err(Problem::new(StatusCode::CONFLICT, "open", message));
    };
    let text = body::text(&headers, body, "text/plain").await?;
    let signed = SignedRevocation::from_text(text.trim()).map_err(|error| {
        Problem::new(StatusCode::BAD_REQUEST, "bad_revocation", sentence(&error.to_string()))
    })?;
    // Writes to disk before it answers.
    let result = tokio::task::spawn_blocking(move || {
        grants.revoke(&signed)?;
        let revocation = signed.verify(LOCAL_CHAIN_ID).map_err(RevokeError::Malformed)?;
        Ok::<usize, RevokeError>(http.control.revoke(revocation))
    });
    match result.await {
        Ok(Ok(sessions)) => {
            Ok(Json(serde_json::json!({ "sessions_closed": sessions })).into_response())
        }
        Ok(Err(error)) => {
            let status = StatusCode::from_u16(error.http_status())
                .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            Err(Problem::new(status, "not_revoked", sentence(&error.to_string())))
        }
        Err(_) => Err(Problem::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "The relay failed to revoke; try again.",
        )),
    }
}
