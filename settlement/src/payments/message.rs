//! The JSON form of a payment: `{"amount":"1000","timestamp":1700000000000,"signature":"…"}`.

use chain_types::{AccountId, Balance, LaneKey, SignedVoucher, Voucher, VoucherError};
use serde::{Deserialize, Serialize};

/// Longest message that is read.
pub const MESSAGE_BYTES_MAX: usize = 512;

/// One payment (R29). The signature is that of the voucher which it stands for: of the lane that
/// payer and payee have agreed on, with `timestamp` as its nonce, all that was paid before and
/// `amount` as its total, and no receipt (no media, no bytes, no quality report).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PaymentMessage {
    /// What it adds to what was paid.
    pub amount: Balance,
    /// Unix ms; rises from message to message.
    pub timestamp: u64,
    /// Of the voucher, 128 hex digits.
    #[serde(with = "signature_hex")]
    pub signature: [u8; 64],
}

/// Why a message is no payment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// Longer than [`MESSAGE_BYTES_MAX`].
    #[error("a payment has at most {MESSAGE_BYTES_MAX} bytes, this one {0}")]
    Long(usize),
    /// Not the JSON of a message.
    #[error("the payment cannot be read: {0}")]
    Json(String),
    /// A message that came before, or out of order.
    #[error("the payment's timestamp {timestamp} is not above {known}")]
    Stale {
        /// Of the message.
        timestamp: u64,
        /// Of the newest known.
        known: u64,
    },
    /// The lane's total is no amount.
    #[error("the payment's amount is out of range")]
    Amount,
    /// Another key, chain, lane, or another sum before it.
    #[error(transparent)]
    Voucher(#[from] VoucherError),
}

/// What the payee of a lane knows before the next message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaymentsKnown {
    /// The lane.
    pub lane: LaneKey,
    /// Version of the stream's terms.
    pub terms_version: u32,
    /// Signs for the channel.
    pub voucher_key: AccountId,
    /// All that was paid.
    pub cumulative: Balance,
    /// Nonce of the newest voucher.
    pub nonce: u64,
}

impl PaymentMessage {
    /// The JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("plain fields have a JSON form")
    }

    /// Reads JSON.
    ///
    /// # Errors
    /// Too long, or another form.
    pub fn from_json(bytes: &[u8]) -> Result<Self, MessageError> {
        if bytes.len() > MESSAGE_BYTES_MAX {
            return Err(MessageError::Long(bytes.len()));
        }
        serde_json::from_slice(bytes).map_err(|error| MessageError::Json(error.to_string()))
    }

    /// The voucher that it stands for, signature verified; `known` goes on to it.
    ///
    /// # Errors
    /// See [`MessageError`]; `known` stays.
    pub fn accept(
        &self,
        known: &mut PaymentsKnown,
        chain_id: &str,
    ) -> Result<SignedVoucher, MessageError> {
        if self.timestamp <= known.nonce {
            return Err(MessageError::Stale { timestamp: self.timestamp, known: known.nonce });
        }
        let cumulative = known.cumulative.checked_add(self.amount).ok_or(MessageError::Amount)?;
        let LaneKey { channel, payee, stream, lane } = known.lane;
        let voucher = Voucher {
            channel,
            payee,
            stream,
            lane,
            terms_version: known.terms_version,
            nonce: self.timestamp,
            cumulative,
            media_ms: 0,
            bytes: 0,
            qos: [0; 32],
        };
        let signed = SignedVoucher { voucher, signature: self.signature };
        signed.verify(&known.voucher_key, chain_id)?;
        known.cumulative = cumulative;
        known.nonce = self.timestamp;
        Ok(signed)
    }
}

mod signature_hex {
    use std::borrow::Cow;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(
        signature: &[u8; 64],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let digit = |nibble: u8| char::from(b"0123456789abcdef"[usize::from(nibble)]);
        let digits = signature.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]);
        serializer.serialize_str(&digits.collect::<String>())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<[u8; 64], D::Error> {
        let text = <Cow<'de, str>>::deserialize(deserializer)?;
        let nibbles: Option<Vec<u32>> = text.chars().map(|digit| digit.to_digit(16)).collect();
        nibbles
            .filter(|nibbles| nibbles.len() == 128)
            .and_then(|nibbles| {
                let byte = |pair: &[u32]| u8::try_from(pair[0] << 4 | pair[1]).ok();
                nibbles.chunks_exact(2).map(byte).collect::<Option<Vec<u8>>>()
            })
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or_else(|| D::Error::custom("a signature has 128 hex digits"))
    }
}
