//! The transaction: who does what to the chain's state, signed, with nonce, last height and fee.
//!
//! On the wire: body (borsh) ‖ signature 64 [‖ the fee payer's signature 64]. Both sign
//! `sutantra/tran/v1` ‖ chain tag ‖ body.

use std::collections::BTreeMap;

use borsh::{BorshDeserialize, BorshSerialize};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    balance::Balance,
    id::{AccountId, ChannelId, StreamId},
    params::Params,
    preimage::{Domain, Preimage},
    records::{Policy, decimal},
    staking::{Commission, Evidence, Upgrade},
    voucher::VOUCHER_SIGNED_BYTES,
};

/// What a transaction does. The number of a kind is its borsh tag; none is ever given again.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[borsh(use_discriminant = true)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[repr(u8)]
pub enum Payload {
    /// Moves money; makes the account if there is none.
    Transfer {
        /// Who gets it.
        to: AccountId,
        /// How much.
        amount: Balance,
    } = 0,
    /// Makes the stream [`StreamId::of`] signer and nonce.
    RegisterStream {
        /// For people.
        title: String,
        /// Who may watch.
        policy: Policy,
        /// The first price and split, in force at once.
        price: Price,
        /// The first split.
        split: SplitShares,
        /// Relay that it is published to.
        origin_relay: Option<AccountId>,
        /// Keys that may sign tokens besides the creator's.
        issuers: Vec<AccountId>,
        /// As in SDP.
        codecs: Vec<String>,
        /// What later versions add.
        ext: BTreeMap<String, Vec<u8>>,
    } = 1,
    /// Changes what is given; the creator's.
    UpdateStream {
        /// Which.
        stream: StreamId,
        /// New title.
        title: Option<String>,
        /// New policy, in force at once.
        policy: Option<Policy>,
        /// New origin; `Some(None)`, in JSON `null`, takes it away.
        #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
        origin_relay: Option<Option<AccountId>>,
        /// New list.
        codecs: Option<Vec<String>>,
        /// New extensions, all of them.
        ext: Option<BTreeMap<String, Vec<u8>>>,
    } = 2,
    /// Ends it for good: the creator at any time, anybody after a day without media.
    EndStream {
        /// Which.
        stream: StreamId,
    } = 3,
    /// A new version of the terms; the creator's.
    SetPrice {
        /// Which.
        stream: StreamId,
        /// The price.
        price: Price,
        /// First height; 0 = as soon as allowed (now + notice).
        from_height: u64,
    } = 4,
    /// A new split, with a new version of the terms; the creator's.
    SetSplit {
        /// Which.
        stream: StreamId,
        /// The split.
        split: SplitShares,
        /// First height; 0 = as soon as allowed (now + notice).
        from_height: u64,
    } = 5,
    /// The keys that may sign tokens besides the creator's, all of them.
    SetIssuers {
        /// Which.
        stream: StreamId,
        /// The keys.
        issuers: Vec<AccountId>,
    } = 6,
    /// The signer's account becomes a relay.
    RegisterRelay {
        /// How it is reached, and under which key it signs.
        relay: RelayFacts,
        /// What it puts in; may be zero until bonds are demanded.
        bond: Balance,
    } = 7,
    /// New facts of the signer's relay.
    UpdateRelay {
        /// All of them.
        relay: RelayFacts,
    } = 8,
    /// The signer's relay leaves: its bond comes back when this is sent again after the unbonding
    /// time.
    UnbondRelay = 9,
    /// Opens the channel [`ChannelId::of`] signer and nonce.
    OpenChannel {
        /// What it holds.
        deposit: Balance,
        /// Signs its vouchers.
        voucher_key: AccountId,
        /// From then on anybody may request its close.
        expires_height: u64,
        /// Parts kept for payees, at most [`crate::params::RESERVES_MAX`].
        reserves: Vec<ReserveRequest>,
    } = 10,
    /// Adds to a channel; anybody may.
    TopUp {
        /// Which.
        channel: ChannelId,
        /// How much.
        amount: Balance,
        /// As [`Payload::Reserve`], after the money is in; the payer's only.
        reserves: Vec<ReserveRequest>,
    } = 11,
    /// Sets what is left of one payee's reserve: the payer may raise and prolong it, the payee
    /// lower it.
    Reserve {
        /// Which channel.
        channel: ChannelId,
        /// For whom, how much is left from now on, until when.
        reserve: ReserveRequest,
    } = 12,
    /// Pays out vouchers. The payee may, or the key that its relay record names; for anybody else
    /// each entry is refused with [`crate::ResultCode::NotOwner`].
    Redeem {
        /// Encoded [`crate::SignedVoucher`]s of one payee, applied one by one.
        #[serde(with = "voucher_hex")]
        entries: Vec<[u8; VOUCHER_SIGNED_BYTES]>,
        /// Root over the watch receipts behind them, or zeros.
        #[serde(with = "hash_hex")]
        watch_root: [u8; 32],
        /// Root over the quality reports behind them, or zeros.
        #[serde(with = "hash_hex")]
        qos_root: [u8; 32],
    } = 13,
    /// Begins to close: the payer at any time, anybody once it has expired.
    RequestClose {
        /// Which.
        channel: ChannelId,
    } = 14,
    /// Gives what is left to the payer, after the window; anybody may.
    Finalize {
        /// Which.
        channel: ChannelId,
    } = 15,
    /// Buys a ticket for the signer.
    BuyAccess {
        /// Which stream.
        stream: StreamId,
        /// The price that was seen.
        terms_version: u32,
        /// And its amount at most.
        max_price: Balance,
    } = 16,
    /// Puts a viewer on the list; the creator's.
    GrantAccess {
        /// Which stream.
        stream: StreamId,
        /// Whom.
        viewer: AccountId,
        /// First instant at which it counts no longer, unix ms.
        valid_until: u64,
        /// Code of a [`crate::PaymentStatus`] that a token may carry.
        payment_status: u8,
        /// Highest layer, 255 = no cap.
        max_layer: u8,
    } = 17,
    /// Takes a viewer off the list; the creator's.
    RevokeAccess {
        /// Which stream.
        stream: StreamId,
        /// Whom.
        viewer: AccountId,
    } = 18,
    /// Makes every token and access record given so far void; the creator's.
    BumpRevocation {
        /// Which stream.
        stream: StreamId,
    } = 19,
    /// The signer becomes the operator of a validator.
    CreateValidator {
        /// Its ed25519 key in the engine.
        consensus_key: AccountId,
        /// That key's signature over [`crate::staking::possession_preimage`] of the signer.
        #[serde(with = "signature_hex")]
        possession: [u8; 64],
        /// Its name.
        moniker: String,
        /// Where it tells more.
        website: String,
        /// What it will keep of rewards.
        commission: Commission,
        /// What its operator stakes.
        self_delegation: Balance,
    } = 20,
    /// Changes what is given of the signer's validator.
    EditValidator {
        /// New name.
        moniker: Option<String>,
        /// New web address.
        website: Option<String>,
        /// New commission, basis points; a step a day.
        commission_bps: Option<u16>,
    } = 21,
    /// Stakes with a validator; pays out the rewards so far.
    Delegate {
        /// Its operator.
        validator: AccountId,
        /// How much.
        amount: Balance,
    } = 22,
    /// Takes stake back: it can be slashed until the unbonding time is over, then
    /// [`Payload::WithdrawRewards`] brings it. Pays out the rewards so far.
    Undelegate {
        /// The operator.
        validator: AccountId,
        /// How much.
        amount: Balance,
    } = 23,
    /// Moves stake to another validator at once; it can be slashed for the first one until the
    /// unbonding time is over.
    Redelegate {
        /// The operator that it leaves.
        from: AccountId,
        /// The operator that it goes to.
        to: AccountId,
        /// How much.
        amount: Balance,
    } = 24,
    /// Pays out what the signer has with a validator: rewards, the commission if it is its
    /// operator, and stake whose unbonding time is over.
    WithdrawRewards {
        /// The operator.
        validator: AccountId,
    } = 25,
    /// The signer's validator, jailed for blocks that it missed, votes again.
    Unjail = 26,
    /// Proves a fault; a part of the cut goes to the signer.
    SubmitEvidence {
        /// The signed bytes.
        evidence: Evidence,
    } = 27,
    /// An operator's proposal of other parameters.
    Propose {
        /// For people.
        title: String,
        /// For people.
        text: String,
        /// All of them.
        params: Box<Params>,
    } = 28,
    /// An operator's word on a proposal; the last one counts.
    Vote {
        /// Its number.
        #[serde(with = "decimal")]
        proposal: u64,
        /// For or against.
        approve: bool,
    } = 29,
    /// An operator's proposal of a new version of the program.
    ScheduleUpgrade {
        /// Which, when, and where to get it.
        upgrade: Upgrade,
    } = 30,
}

/// A price, as a creator sets it.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Price {
    /// Units per second at full quality.
    #[serde(with = "decimal")]
    pub rate_per_second: u64,
    /// Share of the rate for each tier, lowest first, basis points, at most 10⁴.
    pub tier_bps: [u16; 3],
    /// Of a ticket.
    pub ticket_price: Balance,
    /// How long a ticket is good for, ms.
    pub ticket_ms: u64,
}

/// How payments divide, as a creator sets it.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
pub struct SplitShares {
    /// The creator's share of what the fee leaves, basis points.
    pub creator_bps: u16,
    /// The origin relay's; the sum is at most 10⁴.
    pub origin_bps: u16,
}

/// What a relay says about itself.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct RelayFacts {
    /// Signs BindAck and receipts; may redeem what the relay is owed, and spend nothing of it.
    pub relay_key: AccountId,
    /// Base URL of its HTTP face.
    pub endpoint: String,
    /// ISO country code and geohash.
    pub region: String,
    /// Price of transport between relays, units per GB.
    pub wholesale_per_gb: Balance,
    /// It serves no stream whose split leaves it less, basis points.
    pub min_share_bps: u16,
}

/// A part of a channel to be kept for one payee.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
pub struct ReserveRequest {
    /// For whom.
    pub payee: AccountId,
    /// What is left of it from now on.
    pub amount: Balance,
    /// First height at which it is free again.
    pub until_height: u64,
}

impl Payload {
    /// The kind's name, as in JSON, for metrics, events and explorers.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Transfer { .. } => "transfer",
            Self::RegisterStream { .. } => "register_stream",
            Self::UpdateStream { .. } => "update_stream",
            Self::EndStream { .. } => "end_stream",
            Self::SetPrice { .. } => "set_price",
            Self::SetSplit { .. } => "set_split",
            Self::SetIssuers { .. } => "set_issuers",
            Self::RegisterRelay { .. } => "register_relay",
            Self::UpdateRelay { .. } => "update_relay",
            Self::OpenChannel { .. } => "open_channel",
            Self::TopUp { .. } => "top_up",
            Self::Reserve { .. } => "reserve",
            Self::Redeem { .. } => "redeem",
            Self::RequestClose { .. } => "request_close",
            Self::Finalize { .. } => "finalize",
            Self::BuyAccess { .. } => "buy_access",
            Self::GrantAccess { .. } => "grant_access",
            Self::RevokeAccess { .. } => "revoke_access",
            Self::BumpRevocation { .. } => "bump_revocation",
            Self::UnbondRelay => "unbond_relay",
            Self::CreateValidator { .. } => "create_validator",
            Self::EditValidator { .. } => "edit_validator",
            Self::Delegate { .. } => "delegate",
            Self::Undelegate { .. } => "undelegate",
            Self::Redelegate { .. } => "redelegate",
            Self::WithdrawRewards { .. } => "withdraw_rewards",
            Self::Unjail => "unjail",
            Self::SubmitEvidence { .. } => "submit_evidence",
            Self::Propose { .. } => "propose",
            Self::Vote { .. } => "vote",
            Self::ScheduleUpgrade { .. } => "schedule_upgrade",
        }
    }
}

/// Everything that is signed.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct TransactionBody {
    /// Who acts, and pays the fee unless `fee_payer` does.
    pub signer: AccountId,
    /// Who pays the fee instead.
    pub fee_payer: Option<AccountId>,
    /// The signer's [`crate::Account::nonce`].
    pub nonce: u64,
    /// Last height at which it may be in a block; 0 = no limit.
    pub valid_until_height: u64,
    /// Offered, and charged whole; at least [`crate::Params::fee_min`].
    pub fee: Balance,
    /// What it does.
    pub payload: Payload,
}

/// Why bytes are no transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TransactionError {
    /// The body is not borsh of a known kind with amounts in range.
    #[error("the transaction's body cannot be read")]
    Body,
    /// Behind the body must stand one signature, or two where a fee payer is named.
    #[error("behind the transaction's body stand {len_bytes} bytes, expected {need_bytes}")]
    Signatures {
        /// Bytes found.
        len_bytes: usize,
        /// Bytes of the signatures.
        need_bytes: usize,
    },
    /// A signature does not fit.
    #[error("a signature of the transaction is wrong for its key and chain")]
    Signature,
}

/// A body and its signatures, which may be wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    /// What is signed.
    pub body: TransactionBody,
    /// By `body.signer`.
    pub signature: [u8; 64],
    /// By `body.fee_payer`, where there is one.
    pub fee_payer_signature: Option<[u8; 64]>,
}

/// SHA-256 of a transaction's bytes: its name in blocks and in the RPC.
pub fn transaction_hash(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

impl TransactionBody {
    /// The borsh bytes.
    pub fn encode(&self) -> Vec<u8> {
        borsh::to_vec(self).expect("memory takes every byte")
    }

    /// Bytes on the wire, signatures included.
    pub fn signed_len_bytes(&self) -> usize {
        let signatures = if self.fee_payer.is_some() { 128 } else { 64 };
        self.encode().len() + signatures
    }

    /// What is signed.
    pub fn preimage(&self, chain_id: &str) -> Preimage {
        Preimage::new(Domain::TRANSACTION, chain_id).bytes(&self.encode())
    }

    /// Signed by the signer alone; a body that names a fee payer needs
    /// [`TransactionBody::sign_with_fee_payer`].
    pub fn sign(self, key: &SigningKey, chain_id: &str) -> Transaction {
        let signature = key.sign(self.preimage(chain_id).as_slice()).to_bytes();
        Transaction { body: self, signature, fee_payer_signature: None }
    }

    /// Signed by the signer and by who pays the fee.
    pub fn sign_with_fee_payer(
        self,
        key: &SigningKey,
        fee_payer: &SigningKey,
        chain_id: &str,
    ) -> Transaction {
        let preimage = self.preimage(chain_id);
        let sign = |key: &SigningKey| key.sign(preimage.as_slice()).to_bytes();
        Transaction { signature: sign(key), fee_payer_signature: Some(sign(fee_payer)), body: self }
    }
}

impl Transaction {
    /// The bytes that are sent.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = self.body.encode();
        bytes.extend_from_slice(&self.signature);
        bytes.extend_from_slice(self.fee_payer_signature.as_ref().map_or(&[][..], |bytes| bytes));
        bytes
    }

    /// Reads the bytes; checks the form, not the signatures.
    ///
    /// # Errors
    /// Bytes that are no body, or another number of signatures than the body asks for.
    pub fn decode(bytes: &[u8]) -> Result<Self, TransactionError> {
        let mut rest = bytes;
        let body = <TransactionBody as BorshDeserialize>::deserialize(&mut rest)
            .map_err(|_| TransactionError::Body)?;
        let need_bytes = if body.fee_payer.is_some() { 128 } else { 64 };
        let wrong = TransactionError::Signatures { len_bytes: rest.len(), need_bytes };
        if rest.len() != need_bytes {
            return Err(wrong);
        }
        let signature = rest[..64].try_into().map_err(|_| wrong)?;
        let second = rest.get(64..128).and_then(|bytes| bytes.try_into().ok());
        let transaction = Self { body, signature, fee_payer_signature: second };
        // Borsh has one encoding of each value but for the order of maps, which it checks.
        Ok(transaction)
    }

    /// Who pays the fee.
    pub fn fee_payer(&self) -> AccountId {
        self.body.fee_payer.unwrap_or(self.body.signer)
    }

    /// Keys, signatures and the bytes under them: what has to be verified.
    pub fn signed_parts(&self) -> impl Iterator<Item = (AccountId, [u8; 64])> {
        let second = self.body.fee_payer.zip(self.fee_payer_signature);
        std::iter::once((self.body.signer, self.signature)).chain(second)
    }

    /// Verifies strictly, as wallets do; the chain itself goes by ZIP-215, which accepts these too.
    ///
    /// # Errors
    /// A signature that does not fit.
    pub fn verify(&self, chain_id: &str) -> Result<(), TransactionError> {
        let preimage = self.body.preimage(chain_id);
        self.signed_parts().try_for_each(|(key, signature)| {
            VerifyingKey::from_bytes(&key.0)
                .and_then(|key| {
                    key.verify_strict(preimage.as_slice(), &Signature::from_bytes(&signature))
                })
                .map_err(|_| TransactionError::Signature)
        })
    }
}

/// A field that is there, `null` included.
fn present<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<AccountId>>, D::Error> {
    <Option<AccountId> as Deserialize>::deserialize(deserializer).map(Some)
}

mod hash_hex {
    use serde::{Deserializer, Serializer};

    use super::{Deserialize, unhex};
    use crate::hex;

    pub fn serialize<S: Serializer>(hash: &[u8; 32], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::text(hash))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u8; 32], D::Error> {
        unhex(&<String as Deserialize>::deserialize(deserializer)?)
    }
}

mod signature_hex {
    use serde::{Deserializer, Serializer};

    use super::{Deserialize, unhex};
    use crate::hex;

    pub fn serialize<S: Serializer>(bytes: &[u8; 64], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::text(bytes))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u8; 64], D::Error> {
        unhex(&<String as Deserialize>::deserialize(deserializer)?)
    }
}

mod voucher_hex {
    use serde::{Deserializer, Serializer, ser::SerializeSeq};

    use super::{Deserialize, VOUCHER_SIGNED_BYTES, unhex};
    use crate::hex;

    pub fn serialize<S: Serializer>(
        entries: &[[u8; VOUCHER_SIGNED_BYTES]],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(entries.len()))?;
        for entry in entries {
            list.serialize_element(&hex::text(entry))?;
        }
        list.end()
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<[u8; VOUCHER_SIGNED_BYTES]>, D::Error> {
        <Vec<String> as Deserialize>::deserialize(deserializer)?
            .iter()
            .map(|text| unhex(text))
            .collect()
    }
}

fn unhex<const N: usize, E: serde::de::Error>(text: &str) -> Result<[u8; N], E> {
    crate::hex::read(text).map_err(|_| E::custom(format!("expected {} hex digits", 2 * N)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn transfer(key: &SigningKey, fee_payer: Option<AccountId>) -> TransactionBody {
        TransactionBody {
            signer: AccountId::from(key),
            fee_payer,
            nonce: 3,
            valid_until_height: 100,
            fee: Balance::of(20_000),
            payload: Payload::Transfer { to: AccountId([9; 32]), amount: Balance::of(5) },
        }
    }

    #[test]
    fn a_transaction_holds_on_its_chain_only() {
        let key = SigningKey::from_bytes(&[7; 32]);
        let signed = transfer(&key, None).sign(&key, "a");
        let read = Transaction::decode(&signed.encode());
        assert_eq!(read.as_ref(), Ok(&signed));
        assert_eq!(signed.verify("a"), Ok(()));
        assert_eq!(signed.verify("b"), Err(TransactionError::Signature));
        assert_eq!(signed.encode().len(), signed.body.signed_len_bytes());
    }

    #[test]
    fn a_named_fee_payer_must_sign_too() {
        let (key, payer) = (SigningKey::from_bytes(&[7; 32]), SigningKey::from_bytes(&[8; 32]));
        let body = transfer(&key, Some(AccountId::from(&payer)));
        let signed = body.clone().sign_with_fee_payer(&key, &payer, "a");
        assert_eq!(Transaction::decode(&signed.encode()).as_ref(), Ok(&signed));
        assert_eq!(signed.verify("a"), Ok(()));
        let alone = body.clone().sign(&key, "a");
        assert_eq!(
            Transaction::decode(&alone.encode()),
            Err(TransactionError::Signatures { len_bytes: 64, need_bytes: 128 })
        );
        let forged = body.sign_with_fee_payer(&key, &key, "a");
        assert_eq!(forged.verify("a"), Err(TransactionError::Signature));
    }

    #[test]
    fn an_unknown_kind_an_amount_out_of_range_and_a_rest_are_refused() {
        let key = SigningKey::from_bytes(&[7; 32]);
        let bytes = transfer(&key, None).sign(&key, "a").encode();
        // signer 32, no fee payer 1, nonce 8, height 8, fee 16: the kind stands at 65.
        assert_eq!(bytes[65], 0);
        #[track_caller]
        fn check(bytes: Vec<u8>, expected: TransactionError) {
            assert_eq!(Transaction::decode(&bytes), Err(expected));
        }
        let with = |at: usize, value: u8| {
            let mut bytes = bytes.clone();
            bytes[at] = value;
            bytes
        };
        check(with(65, 31), TransactionError::Body);
        check(with(65, 200), TransactionError::Body);
        check(with(65 - 4, 1), TransactionError::Body); // Fee of 2^96.
        let rest = |len_bytes| TransactionError::Signatures { len_bytes, need_bytes: 64 };
        check([&bytes[..], &[0]].concat(), rest(65));
        check(bytes[..bytes.len() - 1].to_vec(), rest(63));
        check(Vec::new(), TransactionError::Body);
    }

    #[test]
    fn a_map_out_of_order_is_no_second_encoding() {
        let key = SigningKey::from_bytes(&[7; 32]);
        let ext = BTreeMap::from([("a".to_owned(), vec![1]), ("b".to_owned(), vec![2])]);
        let (stream, title, policy) = (StreamId([3; 32]), None, None);
        let payload = Payload::UpdateStream {
            stream,
            title,
            policy,
            origin_relay: None,
            codecs: None,
            ext: Some(ext),
        };
        let body = TransactionBody { payload, ..transfer(&key, None) };
        let mut bytes = body.sign(&key, "a").encode();
        assert!(Transaction::decode(&bytes).is_ok());
        // Found by fuzzing: the signature covers what is encoded again, so it would still fit.
        let names: Vec<usize> = (1..bytes.len())
            .filter(|at| bytes[at - 1..*at + 1] == [0, b'a'] || bytes[at - 1..*at + 1] == [0, b'b'])
            .collect();
        let [a, b] = names[..] else { panic!("two names of one letter: {names:?}") };
        bytes.swap(a, b);
        assert_eq!(Transaction::decode(&bytes), Err(TransactionError::Body));
    }

    proptest! {
        #[test]
        fn any_bytes_give_a_transaction_that_encodes_to_them_or_an_error(
            bytes in prop::collection::vec(any::<u8>(), 0..400),
        ) {
            if let Ok(transaction) = Transaction::decode(&bytes) {
                prop_assert_eq!(transaction.encode(), bytes);
            }
        }
    }
}
