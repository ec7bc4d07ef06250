//! Viewers that pay or are on a list: their keys, Binds and vouchers, all from a number.

use chain_types::{
    AccountId, Balance, BalanceError, Bind, ChannelId, SignedBind, SignedVoucher, SigningKey,
    Terms, TokenId, Voucher,
};
use settlement::Admit;

/// Chain of all that is measured here.
pub const CHAIN: &str = "sutantra-perf-1";
/// How far a viewer may be behind, ms.
pub const GRACE_MS: u32 = 3000;
/// Price of a second, units.
pub const RATE: u64 = 1_000_000;
/// What each channel holds, units.
pub const DEPOSIT: u64 = 1_000_000_000_000;
/// What of it is kept for the relay.
pub const RESERVE: u64 = 900_000_000_000;
/// SHA-256 of a DTLS certificate, as far as money cares.
pub const RELAY_FINGERPRINT: [u8; 32] = [0x66; 32];
/// So many seconds of unreserved money are borne: more than is paid here, so that each voucher
/// moves the gate's deadline.
pub const EXPOSURE_SECONDS: u32 = 100_000;

/// The key of somebody.
pub fn key(who: u64) -> SigningKey {
    let mut seed = [0x5a; 32];
    seed[..8].copy_from_slice(&who.to_be_bytes());
    SigningKey::from_bytes(&seed)
}

/// Account of a key.
pub fn account(who: u64) -> AccountId {
    AccountId::from(&key(who))
}

/// The relay: is paid, answers, redeems.
pub const RELAY: u64 = u64::MAX;
/// Who owns the streams.
pub const CREATOR: u64 = u64::MAX - 1;

/// Somebody with one key, which also signs vouchers.
pub struct Viewer {
    pub key: SigningKey,
    pub account: AccountId,
    /// Opened by the account's first transaction.
    pub channel: ChannelId,
}

impl Viewer {
    pub fn new(who: u64) -> Self {
        let key = key(who);
        let account = AccountId::from(&key);
        Self { key, account, channel: ChannelId::of(&account, 0) }
    }

    /// A request to watch; a channel of zeros asks for a right without payment.
    fn bind(&self, terms: &Terms, channel: ChannelId) -> SignedBind {
        let bind = Bind {
            token_id: TokenId::ZERO,
            stream: terms.stream,
            viewer: self.account,
            holder_key: self.account,
            relay_key: terms.relay_key,
            client_fingerprint: self.account.0,
            relay_fingerprint: RELAY_FINGERPRINT,
            channel,
            terms_hash: terms.hash(),
        };
        bind.sign(&self.key, None, CHAIN)
    }

    /// To watch by an entry on the list.
    pub fn listed(&self, terms: &Terms) -> Admit {
        Admit {
            stream: terms.stream,
            bind: Some(self.bind(terms, ChannelId::ZERO)),
            voucher: None,
            token: None,
            client_fingerprint: self.account.0,
        }
    }

    /// To watch by paying what is asked in advance.
    pub fn paying(&self, terms: &Terms) -> Result<Admit, BalanceError> {
        let voucher = Some(self.pay(terms, terms.min_prepay.units())?);
        let bind = Some(self.bind(terms, self.channel));
        Ok(Admit { bind, voucher, ..self.listed(terms) })
    }

    /// A voucher that raises the lane to `cumulative` units.
    pub fn pay(&self, terms: &Terms, cumulative: u128) -> Result<SignedVoucher, BalanceError> {
        let voucher = Voucher {
            channel: self.channel,
            payee: terms.payee,
            stream: terms.stream,
            lane: terms.lane(),
            terms_version: terms.terms_version,
            nonce: u64::try_from(cumulative).unwrap_or(u64::MAX),
            cumulative: Balance::new(cumulative)?,
            media_ms: 0,
            bytes: 0,
            qos: [0; 32],
        };
        Ok(voucher.sign(&self.key, CHAIN))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_has_a_key_of_their_own() {
        assert_ne!(account(0), account(1));
        assert_ne!(account(RELAY), account(CREATOR));
        assert_eq!(Viewer::new(3).account, account(3));
        assert_ne!(Viewer::new(3).channel, Viewer::new(4).channel);
    }
}
