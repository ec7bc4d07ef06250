//! How a client and a server exchange their session descriptions.

use crate::http::{Base, HttpError};

/// A server and the signalling that it speaks.
#[derive(Debug, Clone)]
pub enum Target {
    /// WHIP (RFC 9725) and WHEP (draft-ietf-wish-whep) at `/whip/STREAM` and `/whep/STREAM`.
    Whip(Base),
}

impl Target {
    /// A WHIP and WHEP server at `http://host:port`.
    ///
    /// # Errors
    /// Any other form of address.
    pub fn whip(url: &str) -> Result<Self, HttpError> {
        Base::parse(url).map(Self::Whip)
    }

    /// Where HTTP is served: `/metrics` is asked for there.
    pub fn base(&self) -> &Base {
        match self {
            Self::Whip(base) => base,
        }
    }
}
