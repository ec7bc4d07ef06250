//! Tokens that this node's issuer signed, less those it has taken back.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
    sync::{Mutex, PoisonError, RwLock},
};

use chain_types::{
    AccountId, Grants as GrantSet, LOCAL_CHAIN_ID, Revocation, RevocationError, Revoked,
    SignedRevocation, SignedToken, StreamId, Token, TokenError, TokenId,
};

use super::{
    Admission, AdmissionRequest, Admitted, Refused, Role,
    log::{Log, LogError},
};

/// Why a revocation was not taken.
#[derive(Debug, thiserror::Error)]
pub enum RevokeError {
    /// Not a revocation, or its signature is wrong.
    #[error(transparent)]
    Malformed(RevocationError),
    /// Signed by a key that has no say here.
    #[error("the revocation was signed by another node's issuer")]
    UnknownIssuer,
    /// It could not be made to survive a restart, so it does not count.
    #[error(transparent)]
    Log(LogError),
}

impl RevokeError {
    /// What the HTTP layer answers.
    pub const fn http_status(&self) -> u16 {
        match self {
            Self::Malformed(_) => 400,
            Self::UnknownIssuer => 403,
            Self::Log(LogError::Full) => 507,
            Self::Log(_) => 500,
        }
    }
}

/// Admission by signed tokens with the chain id `local`.
#[derive(Debug)]
pub struct Grants {
    issuers: Vec<AccountId>,
    revoked: RwLock<RevokedSet>,
    log: Mutex<Log>,
}

/// Indexed for one look per request; the issuer is part of each key, since an issuer takes back
/// only its own.
#[derive(Debug, Default)]
struct RevokedSet {
    tokens: HashSet<(AccountId, TokenId)>,
    /// To the newest `issued_ms`.
    viewers: HashMap<(AccountId, StreamId, AccountId), u64>,
}

impl RevokedSet {
    fn insert(&mut self, revocation: &Revocation) {
        let Revocation { issuer_key, what, issued_ms } = *revocation;
        match what {
            Revoked::Token(token_id) => {
                self.tokens.insert((issuer_key, token_id));
            }
            Revoked::Viewer { stream, viewer } => {
                let newest = self.viewers.entry((issuer_key, stream, viewer)).or_default();
                *newest = issued_ms.max(*newest);
            }
        }
    }

    fn contains(&self, revocation: &Revocation) -> bool {
        let Revocation { issuer_key, what, issued_ms } = *revocation;
        match what {
            Revoked::Token(token_id) => self.tokens.contains(&(issuer_key, token_id)),
            Revoked::Viewer { stream, viewer } => self
                .viewers
                .get(&(issuer_key, stream, viewer))
                .is_some_and(|newest| issued_ms <= *newest),
        }
    }

    fn covers(&self, token: &Token) -> bool {
        self.tokens.contains(&(token.issuer_key, token.token_id))
            || self
                .viewers
                .get(&(token.issuer_key, token.stream, token.viewer))
                .is_some_and(|newest| token.not_before_ms <= *newest)
    }
}

impl Grants {
    /// Trusts these issuers; revocations live in `<home>/revocations`. A record of an issuer that
    /// is trusted no longer is kept and means nothing, as do the tokens it is about.
    pub fn open(home: &Path, issuers: Vec<AccountId>) -> Result<Self, LogError> {
        let (log, revocations) = Log::open(&home.join("revocations"))?;
        let mut revoked = RevokedSet::default();
        revocations.iter().for_each(|revocation| revoked.insert(revocation));
        Ok(Self { issuers, revoked: RwLock::new(revoked), log: Mutex::new(log) })
    }

    /// Takes a token or a viewer back, for this run and all later ones. The caller closes the
    /// sessions that what is returned names. The same revocation twice is taken once.
    pub fn revoke(&self, signed: &SignedRevocation) -> Result<Revoked, RevokeError> {
        let revocation = signed.verify(LOCAL_CHAIN_ID).map_err(RevokeError::Malformed)?;
        if !self.issuers.contains(&revocation.issuer_key) {
            return Err(RevokeError::UnknownIssuer);
        }
        // The log's lock is held to the end, so that a copy sent twice is not written twice. The
        // disk comes first: what is answered with success holds after a restart too.
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        let known =
            self.revoked.read().unwrap_or_else(PoisonError::into_inner).contains(revocation);
        if !known {
            log.append(signed).map_err(RevokeError::Log)?;
            self.revoked.write().unwrap_or_else(PoisonError::into_inner).insert(revocation);
        }
        Ok(revocation.what)
    }
}

impl Admission for Grants {
    fn admit(&self, request: &AdmissionRequest<'_>) -> Result<Admitted, Refused> {
        let bearer = request.bearer.ok_or(Refused::Missing)?;
        let signed = SignedToken::from_bearer(bearer).map_err(Refused::Malformed)?;
        let token = signed.verify(LOCAL_CHAIN_ID, request.now_ms).map_err(|error| match error {
            TokenError::NotYetValid { .. } => Refused::NotYetValid,
            TokenError::Expired { .. } => Refused::Expired,
            other => Refused::Malformed(other),
        })?;
        // Anybody can sign a token with a key of their own.
        if !self.issuers.contains(&token.issuer_key) {
            return Err(Refused::UnknownIssuer);
        }
        if token.stream != StreamId::local(request.stream) {
            return Err(Refused::WrongStream);
        }
        let needed = match request.role {
            Role::Publish => GrantSet::PUBLISH,
            Role::Subscribe => GrantSet::SUBSCRIBE,
        };
        if !token.grants.contains(needed) {
            return Err(Refused::WrongRole(request.role));
        }
        if self.revoked.read().unwrap_or_else(PoisonError::into_inner).covers(token) {
            return Err(Refused::Revoked);
        }
        Ok(Admitted {
            subject: token.viewer.0,
            token_id: Some(token.token_id.0),
            valid_until_ms: token.valid_until_ms,
            max_layer: token.max_layer,
        })
    }
}
