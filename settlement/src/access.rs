//! Who may watch: the chain's record and the stream's policy first, a token where these are silent.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use chain_types::{
    AccountId, Frame, GateReason, Grants, LaneKey, Policy, SignedToken, StreamId, StreamMetadata,
    Terms, Token,
};
use sfu::ports::SessionKey;

use crate::{
    chain::{AccessToken, BlockchainState},
    decide::Output,
    ports::Refusal,
};

/// Access to streams by what the chain says at one height (R32).
#[derive(Debug)]
pub struct StreamAccessControl {
    /// All records at one height: replaced as a whole, so that no reader sees two heights.
    pub blockchain_state: Arc<BlockchainState>,
    /// Streams that somebody watches here, or has asked to.
    pub active_streams: HashMap<StreamId, StreamSession>,
}

/// A stream as it is watched on this relay.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StreamSession {
    /// Who watches, by session; zeros where nobody is named.
    pub viewers: BTreeMap<SessionKey, AccountId>,
    /// Of these, how many are connected.
    pub connected: u32,
    /// Lanes that pay for it, and with how many sessions each.
    pub lanes: BTreeMap<LaneKey, u32>,
    /// What is asked now.
    pub terms: Option<Terms>,
}

/// What one viewer brings besides its account.
#[derive(Debug, Clone, Copy, Default)]
pub struct Claim<'a> {
    /// A token whose signature was right when it was shown.
    pub token: Option<&'a Token>,
    /// It pays on a lane.
    pub has_lane: bool,
    /// The operator serves the stream's creator without payment.
    pub is_served_free: bool,
}

/// What a viewer may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rights {
    /// First instant at which they end, unix ms.
    pub valid_until_ms: Option<u64>,
    /// Highest layer, 255 = no cap.
    pub layer_cap: u8,
    /// Served time is to be paid.
    pub is_charged: bool,
}

impl StreamAccessControl {
    /// Nobody watches yet.
    pub fn new(blockchain_state: Arc<BlockchainState>) -> Self {
        Self { blockchain_state, active_streams: HashMap::new() }
    }

    /// Whether the chain itself lets a viewer in: its record counts, is current and is not over
    /// (R33). `now_ms`: this relay's clock, unix ms.
    pub fn authorize_viewer(&self, stream: &StreamId, viewer: &AccountId, now_ms: u64) -> bool {
        match self.blockchain_state.get_stream_access(stream, viewer) {
            Some(AccessToken { valid_until, payment_status, .. }) => {
                payment_status.is_current() && valid_until > now_ms
            }
            None => false,
        }
    }

    /// What a viewer may have now.
    ///
    /// # Errors
    /// Why it may not.
    pub fn rights(
        &self,
        stream: &StreamId,
        viewer: &AccountId,
        claim: Claim<'_>,
        now_ms: u64,
    ) -> Result<Rights, GateReason> {
        let metadata = self.blockchain_state.stream(stream).ok_or(GateReason::Stream)?;
        if metadata.ended.is_some() {
            return Err(GateReason::Stream);
        }
        let open = Rights { valid_until_ms: None, layer_cap: u8::MAX, is_charged: false };
        match metadata.policy {
            Policy::Free => Ok(open),
            Policy::Ticketed | Policy::AllowList => {
                self.by_record_or_token(metadata, viewer, claim.token, now_ms)
            }
            Policy::Paid => {
                let granted = self.by_record_or_token(metadata, viewer, claim.token, now_ms);
                match (granted, claim.token) {
                    (Ok(granted), _) if claim.is_served_free => Ok(granted),
                    // No status in a record or token makes a relay work for nothing.
                    _ if !claim.has_lane => Err(GateReason::Stream),
                    // Who came with a token keeps to it: its cap, its end, its epoch.
                    (_, Some(token)) => by_token(metadata, viewer, token, now_ms)
                        .map(|rights| Rights { is_charged: true, ..rights }),
                    (_, None) => Ok(Rights { is_charged: true, ..open }),
                }
            }
        }
    }

    /// The chain's record wins while it says anything; one that is over or of an earlier epoch
    /// says nothing.
    fn by_record_or_token(
        &self,
        stream: &StreamMetadata,
        viewer: &AccountId,
        token: Option<&Token>,
        now_ms: u64,
    ) -> Result<Rights, GateReason> {
        let record = self.blockchain_state.get_stream_access(&stream.id, viewer);
        match (record, token) {
            (Some(record), _) if record.valid_until > now_ms => {
                if !self.authorize_viewer(&stream.id, viewer, now_ms) {
                    return Err(GateReason::Revoked);
                }
                Ok(Rights {
                    valid_until_ms: Some(record.valid_until),
                    layer_cap: record.max_layer,
                    is_charged: false,
                })
            }
            (_, Some(token)) => by_token(stream, viewer, token, now_ms),
            (Some(_), None) => Err(GateReason::Expired),
            (None, None) => Err(GateReason::Revoked),
        }
    }

    /// Runs by itself when a transport is up (R34): lets the peer's account in, or ends the session.
    pub fn on_webrtc_connect(
        &mut self,
        peer: SessionKey,
        stream: &StreamId,
        claim: Claim<'_>,
        is_paid_up: bool,
        now_ms: u64,
        out: &mut Vec<Output>,
    ) -> bool {
        let rights = self
            .resolve_peer_to_account(peer)
            .ok_or(GateReason::Revoked)
            .and_then(|viewer| self.rights(stream, &viewer, claim, now_ms));
        match rights {
            Ok(rights) if is_paid_up || !rights.is_charged => true,
            Ok(_) | Err(_) => {
                self.reject_connection(peer, 4402, "Payment required", out);
                false
            }
        }
    }

    /// The account behind a session; `None`: no such session.
    pub fn resolve_peer_to_account(&self, peer: SessionKey) -> Option<AccountId> {
        // At most one stream has the session: the order of the map does not matter.
        self.active_streams.values().find_map(|stream| stream.viewers.get(&peer).copied())
    }

    /// Ends a session after a last frame that says why.
    pub fn reject_connection(
        &self,
        peer: SessionKey,
        code: u16,
        message: &str,
        out: &mut Vec<Output>,
    ) {
        let last_frame = Frame::Error { code, message: message.to_owned() }.encode();
        out.push(Output::Close { session: peer, last_frame });
    }

    /// A session begins; it is connected later.
    pub fn join(&mut self, stream: StreamId, peer: SessionKey, viewer: AccountId) {
        self.active_streams.entry(stream).or_default().viewers.insert(peer, viewer);
    }

    /// A session is connected; how many are now.
    pub fn connected(&mut self, stream: &StreamId) -> u32 {
        let Some(session) = self.active_streams.get_mut(stream) else { return 0 };
        session.connected = session.connected.saturating_add(1);
        session.connected
    }

    /// A session is over; how many are connected now, if it was.
    pub fn leave(
        &mut self,
        stream: &StreamId,
        peer: SessionKey,
        was_connected: bool,
    ) -> Option<u32> {
        let session = self.active_streams.get_mut(stream)?;
        session.viewers.remove(&peer)?;
        session.connected = session.connected.saturating_sub(u32::from(was_connected));
        let count = session.connected;
        if session.viewers.is_empty() && session.lanes.is_empty() {
            self.active_streams.remove(stream);
        }
        was_connected.then_some(count)
    }

    /// A session pays on a lane from now on.
    pub fn pays(&mut self, lane: LaneKey, terms: Option<Terms>) {
        let session = self.active_streams.entry(lane.stream).or_default();
        *session.lanes.entry(lane).or_default() += 1;
        session.terms = terms;
    }

    /// A session pays on it no longer.
    pub fn pays_no_more(&mut self, lane: &LaneKey) {
        let Some(session) = self.active_streams.get_mut(&lane.stream) else { return };
        if let Some(count) = session.lanes.get_mut(lane) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                session.lanes.remove(lane);
            }
        }
        if session.viewers.is_empty() && session.lanes.is_empty() {
            self.active_streams.remove(&lane.stream);
        }
    }

    /// Sessions of a stream.
    pub fn sessions(&self, stream: &StreamId) -> Vec<SessionKey> {
        let session = self.active_streams.get(stream);
        session.map_or_else(Vec::new, |session| session.viewers.keys().copied().collect())
    }
}

/// What a token allows, its signature taken for granted.
fn by_token(
    stream: &StreamMetadata,
    viewer: &AccountId,
    token: &Token,
    now_ms: u64,
) -> Result<Rights, GateReason> {
    let is_for = token.stream == stream.id
        && (token.viewer.is_zero() || token.viewer == *viewer)
        && token.grants.contains(Grants::SUBSCRIBE);
    let counts = stream.is_issuer(&token.issuer_key) && token.rev_epoch == stream.rev_epoch;
    if !is_for || !counts || !token.payment_status.is_current() || now_ms < token.not_before_ms {
        return Err(GateReason::Revoked);
    }
    if now_ms >= token.valid_until_ms {
        return Err(GateReason::Expired);
    }
    Ok(Rights {
        valid_until_ms: Some(token.valid_until_ms),
        layer_cap: token.max_layer,
        is_charged: false,
    })
}

/// A token that was just shown, checked whole: chain, signature, time, issuer, epoch, grant.
///
/// # Errors
/// [`Refusal::Token`], with what is wrong.
pub fn check_token<'a>(
    token: &'a SignedToken,
    stream: &StreamMetadata,
    grant: Grants,
    chain_id: &str,
    now_ms: u64,
) -> Result<&'a Token, Refusal> {
    use chain_types::TokenError;
    let token = token.verify(chain_id, now_ms).map_err(|error| {
        Refusal::Token(match error {
            TokenError::Expired { .. } => "it has expired",
            TokenError::NotYetValid { .. } => "it is not valid yet",
            TokenError::Base64
            | TokenError::Length { .. }
            | TokenError::GrantsUnknown { .. }
            | TokenError::GrantsEmpty
            | TokenError::PaymentStatusForbidden { .. }
            | TokenError::SpanEmpty
            | TokenError::IssuerKey
            | TokenError::Signature => "its signature is wrong for its issuer and this chain",
        })
    })?;
    if token.stream != stream.id {
        return Err(Refusal::Token("it is for another stream"));
    }
    if !stream.is_issuer(&token.issuer_key) {
        return Err(Refusal::Token("its issuer has no say on this stream"));
    }
    if token.rev_epoch != stream.rev_epoch {
        return Err(Refusal::Token("it was taken back: ask for a new one"));
    }
    if !token.grants.contains(grant) {
        return Err(Refusal::Token("it does not grant this"));
    }
    Ok(token)
}

#[cfg(test)]
#[path = "access_tests.rs"]
mod tests;
