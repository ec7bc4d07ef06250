//! Reading a request's body: its type, its size and its time are bounded.

use std::time::Duration;

use axum::{
    body::{self, Body, Bytes},
    http::{HeaderMap, StatusCode, header},
};

use super::Problem;

/// Bytes of a body; a longer one is refused with 413. A browser's offer has 3 to 20 kB.
pub const BODY_BYTES_MAX: usize = 64 * 1024;
/// How long a body may take to arrive; then 408.
const BODY_TIME_MAX: Duration = Duration::from_secs(10);

/// The whole body as text, if it is of this media type.
pub async fn text(headers: &HeaderMap, body: Body, media_type: &str) -> Result<String, Problem> {
    let bytes = bytes(headers, body, media_type).await?;
    String::from_utf8(bytes.into()).map_err(|_| {
        Problem::new(StatusCode::BAD_REQUEST, "not_utf8", "Send the body as UTF-8 text.")
    })
}

/// The whole body, if it is of this media type.
pub async fn bytes(headers: &HeaderMap, body: Body, media_type: &str) -> Result<Bytes, Problem> {
    if !is_type(headers, media_type) {
        return Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "wrong_content_type",
            format!("Send the body as {media_type} and say so in Content-Type."),
        ));
    }
    match tokio::time::timeout(BODY_TIME_MAX, body::to_bytes(body, BODY_BYTES_MAX)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        // Either too long or broken off; nobody is there to tell of the second.
        Ok(Err(_)) => Err(Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too_large",
            format!("Send at most {BODY_BYTES_MAX} bytes."),
        )),
        Err(_) => Err(Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            "too_slow",
            "The body did not arrive in time; send it again.",
        )),
    }
}

/// Compares media types without parameters (RFC 9110 §8.3.1: case does not matter).
fn is_type(headers: &HeaderMap, media_type: &str) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .is_some_and(|given| given.trim().eq_ignore_ascii_case(media_type))
}
