//! The HTTP face of paying (x402 v2): what a 402 asks, what the retry carries, what a 201 confirms.

use base64::{Engine, engine::general_purpose::STANDARD};
use chain_types::{AccountId, Balance, SignedBind, SignedVoucher, Terms, hex};
use serde::Deserialize;
use serde_json::{Value, json};

/// Our scheme among those that an x402 body may offer.
pub const SCHEME: &str = "sutantra-stream";
/// Version of the shapes.
pub const X402_VERSION: u8 = 2;

/// Why an answer of a relay cannot be paid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OfferError {
    /// Not JSON of the x402 shape.
    #[error("the relay asks for payment in a form that cannot be read ({0}): tell its operator")]
    Malformed(String),
    /// Other schemes, or another chain.
    #[error("the relay takes no {SCHEME} payment on {0}: is --rpc the chain of this relay?")]
    OtherNetwork(String),
    /// It says why, and asks for nothing.
    #[error("the relay does not take this payment: {0}")]
    Refused(String),
}

/// How the relay says that the payer's lane stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct LaneDue {
    /// Number of the lane.
    pub lane: u32,
    /// Cumulative amount that is needed.
    pub due: Balance,
    /// Cumulative amount that is known.
    pub paid: Balance,
    /// Time served, ms.
    pub served_ms: u64,
}

/// What a relay asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// Its terms.
    pub terms: Terms,
    /// The payer's lane, where the request had a valid Bind.
    pub lane: Option<LaneDue>,
}

#[derive(Deserialize)]
struct Body {
    #[serde(default)]
    accepts: Vec<Value>,
    #[serde(default)]
    error: Option<String>,
    #[serde(default)]
    message: Option<String>,
}

#[derive(Deserialize)]
struct Extra {
    terms: Terms,
    #[serde(default)]
    lane: Option<LaneDue>,
}

fn network(chain_id: &str) -> String {
    format!("sutantra:{chain_id}")
}

impl Offer {
    /// Reads the body of a 402.
    ///
    /// # Errors
    /// See [`OfferError`].
    pub fn read(body: &[u8], chain_id: &str) -> Result<Self, OfferError> {
        let malformed = |error: serde_json::Error| OfferError::Malformed(error.to_string());
        let parsed: Body = serde_json::from_slice(body).map_err(malformed)?;
        if parsed.accepts.is_empty() {
            let said = parsed.message.or(parsed.error);
            return Err(OfferError::Refused(said.unwrap_or_default()));
        }
        let network = network(chain_id);
        let ours = parsed
            .accepts
            .into_iter()
            .find(|accept| accept["scheme"] == SCHEME && accept["network"] == network.as_str());
        let mut ours = ours.ok_or(OfferError::OtherNetwork(network))?;
        let extra: Extra = serde_json::from_value(ours["extra"].take()).map_err(malformed)?;
        Ok(Self { terms: extra.terms, lane: extra.lane })
    }
}

/// What the retry carries.
#[derive(Debug, Clone, Copy)]
pub struct Payment<'a> {
    /// Keys and certificates.
    pub bind: &'a SignedBind,
    /// First money.
    pub voucher: Option<&'a SignedVoucher>,
    /// An access token, as its bearer text.
    pub token: Option<&'a str>,
}

impl Payment<'_> {
    /// The value of `PAYMENT-SIGNATURE`.
    pub fn header(&self, chain_id: &str) -> String {
        let mut payload = json!({ "bind": hex::text(&self.bind.encode()) });
        if let Some(voucher) = self.voucher {
            payload["voucher"] = hex::text(&voucher.encode()).into();
        }
        if let Some(token) = self.token {
            payload["token"] = token.into();
        }
        let message = json!({
            "x402Version": X402_VERSION,
            "scheme": SCHEME,
            "network": network(chain_id),
            "payload": payload,
        });
        STANDARD.encode(message.to_string())
    }
}

/// What a 201 confirms in `PAYMENT-RESPONSE`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Paid {
    /// Whom the relay takes for the payer.
    #[serde(default)]
    pub payer: Option<AccountId>,
    #[serde(default)]
    bind_ack: Option<String>,
    /// How the lane stands.
    #[serde(default)]
    pub lane: Option<LaneDue>,
}

impl Paid {
    /// Reads the header's value.
    ///
    /// # Errors
    /// [`OfferError::Malformed`].
    pub fn read(header: &str) -> Result<Self, OfferError> {
        let malformed = |reason: String| OfferError::Malformed(reason);
        let json = STANDARD.decode(header).map_err(|error| malformed(error.to_string()))?;
        serde_json::from_slice(&json).map_err(|error| malformed(error.to_string()))
    }

    /// The relay's signature over the Bind.
    pub fn bind_ack(&self) -> Option<[u8; 64]> {
        let text = self.bind_ack.as_deref()?;
        let (first, second) = text.split_at_checked(64)?;
        // An account id has the same text form as each half: 64 hex digits.
        let (first, second): (AccountId, AccountId) = (first.parse().ok()?, second.parse().ok()?);
        let mut signature = [0; 64];
        signature[..32].copy_from_slice(&first.0);
        signature[32..].copy_from_slice(&second.0);
        Some(signature)
    }
}

#[cfg(test)]
mod tests {
    use chain_types::StreamId;

    use super::*;

    fn terms() -> Terms {
        Terms {
            stream: StreamId([3; 32]),
            payee: AccountId([2; 32]),
            relay_key: AccountId([8; 32]),
            relay_fp: "06".repeat(32),
            terms_version: 1,
            rate: 1_000_000,
            tier: 2,
            cadence_ms: 1000,
            grace_ms: 3000,
            pause_max_s: 60,
            min_prepay: Balance::of(2_000_000),
        }
    }

    fn body(network: &str, extra: &Value) -> Vec<u8> {
        let other = json!({ "scheme": "exact", "network": "eip155:1", "extra": {} });
        let ours = json!({ "scheme": SCHEME, "network": network, "extra": extra });
        let body =
            json!({ "x402Version": 2, "error": "Payment required", "accepts": [other, ours] });
        body.to_string().into_bytes()
    }

    #[test]
    fn the_terms_of_a_402_are_those_that_the_relay_hashed() {
        let terms = terms();
        let json: Value = serde_json::from_str(&terms.to_json()).expect("JSON");
        let offer = Offer::read(&body("sutantra:c", &json!({ "terms": json })), "c");
        let offer = offer.expect("ours is offered");
        // serde_json sorts the keys of a Value; the hash is of the terms' own order.
        assert_eq!((offer.terms.hash(), offer.lane), (terms.hash(), None));
        let lane = json!({ "lane": 7, "due": "5", "paid": "4", "served_ms": 9 });
        let offer = Offer::read(&body("sutantra:c", &json!({ "terms": json, "lane": lane })), "c");
        let (due, paid) = (Balance::of(5), Balance::of(4));
        let expected = LaneDue { lane: 7, due, paid, served_ms: 9 };
        assert_eq!(offer.map(|offer| offer.lane), Ok(Some(expected)));
    }

    #[test]
    fn what_cannot_be_paid_is_refused_by_name() {
        let json: Value = serde_json::from_str(&terms().to_json()).expect("JSON");
        let other = Offer::read(&body("sutantra:other", &json!({ "terms": json })), "c");
        assert!(matches!(other, Err(OfferError::OtherNetwork(_))));
        let empty = Offer::read(&body("sutantra:c", &json!({})), "c");
        assert!(matches!(empty, Err(OfferError::Malformed(_))));
        for bytes in [&b""[..], b"null", b"{\"accepts\":7}", b"\xff"] {
            assert!(matches!(Offer::read(bytes, "c"), Err(OfferError::Malformed(_))));
        }
        let refused = Offer::read(br#"{"error":"channel_refused","message":"Open one."}"#, "c");
        assert_eq!(refused, Err(OfferError::Refused("Open one.".to_owned())));
    }

    #[test]
    fn a_confirmation_gives_the_signature_or_none() {
        let header = |json: Value| STANDARD.encode(json.to_string());
        let signature = "ab".repeat(64);
        let paid = Paid::read(&header(json!({ "success": true, "bindAck": signature })));
        assert_eq!(paid.expect("read").bind_ack(), Some([0xab; 64]));
        for wrong in ["", "ab", &"g".repeat(128), &"é".repeat(64)] {
            let paid = Paid::read(&header(json!({ "bindAck": wrong }))).expect("read");
            assert_eq!(paid.bind_ack(), None, "{wrong}");
        }
        assert!(Paid::read("?").is_err());
        assert!(Paid::read(&header(json!([1]))).is_err());
    }
}
