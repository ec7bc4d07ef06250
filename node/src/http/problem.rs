//! An answer that is no success, as a value.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};

/// `{"error": code, "message": what to do next}` with its status and headers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    status: StatusCode,
    code: &'static str,
    message: String,
    retry_after_s: Option<u32>,
    challenge: Option<&'static str>,
}

impl Problem {
    /// `code` is for programs and never changes; `message` is for people and says what to do next.
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), retry_after_s: None, challenge: None }
    }

    /// When to try again (RFC 9110 §10.2.3).
    pub fn retry_after(self, seconds: u32) -> Self {
        Self { retry_after_s: Some(seconds), ..self }
    }

    /// How to be let in (RFC 6750 §3).
    pub fn challenge(self, value: &'static str) -> Self {
        Self { challenge: Some(value), ..self }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let Self { status, code, message, retry_after_s, challenge } = self;
        let body = Json(serde_json::json!({ "error": code, "message": message }));
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(challenge) = challenge {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        response
    }
}
