//! Admission: who may publish or watch, asked once per WHIP or WHEP request.
//!
//! A port with two bodies: [`Open`] lets everybody in, [`Grants`] asks for a token that this
//! node's issuer signed and has not taken back. Nothing here knows of HTTP; the status codes are
//! what the HTTP layer answers.

use std::net::SocketAddr;

use chain_types::TokenError;

mod grants;
mod log;

pub use grants::{Grants, RevokeError};
pub use log::LogError;

/// What somebody wants to do with a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Send media (WHIP).
    Publish,
    /// Receive media (WHEP).
    Subscribe,
}

impl Role {
    /// As in `grant --role`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Subscribe => "subscribe",
        }
    }
}

/// One request to be let in.
#[derive(Debug, Clone, Copy)]
pub struct AdmissionRequest<'a> {
    /// The stream's name, as in the URL.
    pub stream: &'a str,
    /// What for.
    pub role: Role,
    /// What stood after `Authorization: Bearer`.
    pub bearer: Option<&'a str>,
    /// Where the request comes from.
    #[expect(
        dead_code,
        reason = "for a body that judges by address; neither of the two here does"
    )]
    pub peer: SocketAddr,
    /// Unix milliseconds.
    pub now_ms: u64,
}

/// Let in, and within which bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Admitted {
    /// The viewer's account, zeros where nobody is named.
    pub subject: [u8; 32],
    /// The token that opened the door; a revocation of it closes the session.
    pub token_id: Option<[u8; 16]>,
    /// First instant at which the session must be gone, unix ms; `u64::MAX` = never.
    pub valid_until_ms: u64,
    /// Highest layer that may be sent; 255 = no cap.
    pub max_layer: u8,
}

/// Not let in; each sentence says what to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// No token at all.
    #[error(
        "this stream needs an access token: send `Authorization: Bearer <token>`; the operator makes one with `sutantra-node grant`"
    )]
    Missing,
    /// Not a token, or one whose signature is wrong.
    #[error("{0}: ask the operator for a new one, and copy it whole")]
    Malformed(TokenError),
    /// Signed by a key that has no say here.
    #[error("the token was signed by another node's issuer: ask the operator of this node for one")]
    UnknownIssuer,
    /// For another stream.
    #[error("the token is for another stream: ask the operator for one for this stream")]
    WrongStream,
    /// For another role.
    #[error("the token does not allow to {}: ask the operator for one with `--role {}`", .0.name(), .0.name())]
    WrongRole(Role),
    /// Before its time.
    #[error("the token is not valid yet: check this machine's clock, or wait")]
    NotYetValid,
    /// After its time.
    #[error("the token has expired: ask the operator for a new one")]
    Expired,
    /// Taken back.
    #[error("the token has been revoked: ask the operator whether you may have a new one")]
    Revoked,
}

impl Refused {
    /// 401: with another token the same request may succeed. 403: the issuer has said no.
    pub const fn http_status(self) -> u16 {
        match self {
            Self::Missing
            | Self::Malformed(_)
            | Self::UnknownIssuer
            | Self::NotYetValid
            | Self::Expired => 401,
            Self::WrongStream | Self::WrongRole(_) | Self::Revoked => 403,
        }
    }

    /// `error` of the `WWW-Authenticate` header (RFC 6750 §3.1); none where no token was sent.
    pub const fn bearer_error(self) -> Option<&'static str> {
        match self {
            Self::Missing => None,
            Self::Malformed(_)
            | Self::UnknownIssuer
            | Self::NotYetValid
            | Self::Expired
            | Self::Revoked => Some("invalid_token"),
            Self::WrongStream | Self::WrongRole(_) => Some("insufficient_scope"),
        }
    }

    /// Short and bounded, for a metric's label.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Malformed(_) => "malformed",
            Self::UnknownIssuer => "unknown_issuer",
            Self::WrongStream => "wrong_stream",
            Self::WrongRole(_) => "wrong_role",
            Self::NotYetValid => "not_yet_valid",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }
}

/// The port: asked before a session is made.
pub trait Admission: Send + Sync {
    /// Lets in or refuses. Takes microseconds and does no I/O.
    fn admit(&self, request: &AdmissionRequest<'_>) -> Result<Admitted, Refused>;
}

/// Whoever can reach the address may do everything: load tests, a machine of one's own.
#[derive(Debug, Clone, Copy, Default)]
pub struct Open;

impl Admission for Open {
    fn admit(&self, _: &AdmissionRequest<'_>) -> Result<Admitted, Refused> {
        Ok(Admitted { subject: [0; 32], token_id: None, valid_until_ms: u64::MAX, max_layer: 255 })
    }
}

#[cfg(test)]
mod tests;
