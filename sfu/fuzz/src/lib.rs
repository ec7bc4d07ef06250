//! The parsers under test, compiled from their own files so that nothing else of `sfu` is built.

#[path = "../../src/wire/mod.rs"]
pub mod wire;

/// The one name that the files below take from `sfu::ports`, whose own comes with all of str0m.
pub mod ports {
    /// SRTP protection profiles (RFC 5764 §4.1.2, RFC 7714 §14.2) under the names dimpl gives them.
    #[allow(non_camel_case_types)]
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum SrtpProfile {
        AES128_CM_SHA1_80,
        AEAD_AES_128_GCM,
        AEAD_AES_256_GCM,
    }
}

#[path = "../../src/session"]
pub mod session {
    pub mod replay;
    // The real enum is non-exhaustive, which asks for an arm that this one never reaches.
    #[allow(unreachable_patterns)]
    pub mod srtp;
}
