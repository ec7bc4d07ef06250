//! A refusal: what a peer did that cannot be, and what to do instead.

use std::borrow::Cow;

use serde_json::Value;

use crate::wire::Code;

/// Why a call was refused. The code is what a program acts on, the sentence what a person reads.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    pub code: Code,
    pub message: Cow<'static, str>,
    pub retry_after_ms: Option<u64>,
    /// With [`Code::PaymentRequired`]: the stream's terms.
    pub terms: Option<Box<Value>>,
}

impl Refusal {
    pub fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: message.into(), retry_after_ms: None, terms: None }
    }

    pub(crate) fn bad_request(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::BadRequest, message)
    }

    pub(crate) fn forbidden(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::Forbidden, message)
    }

    pub(crate) fn unauthenticated(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::Unauthenticated, message)
    }

    pub(crate) fn too_large(what: &str, bytes_max: usize) -> Self {
        Self::new(Code::TooLarge, format!("{what} may have at most {bytes_max} bytes"))
    }

    pub(crate) fn rate_limited(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::RateLimited, message)
    }

    pub(crate) fn unknown_room() -> Self {
        Self::new(Code::UnknownRoom, "there is no such room; join it first")
    }

    pub(crate) fn unknown_peer() -> Self {
        Self::new(Code::UnknownPeer, "there is no such peer in this room; ask /webrtc/peers")
    }

    pub(crate) fn draining() -> Self {
        Self::new(Code::Draining, "this coordinator is going away; connect again elsewhere")
    }

    pub(crate) fn after(mut self, retry_after_ms: u64) -> Self {
        self.retry_after_ms = Some(retry_after_ms);
        self
    }
}
