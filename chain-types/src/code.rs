//! Result codes of transactions, the same in CheckTx, in a block and for one entry of a redeem.

use serde::{Deserialize, Serialize};

/// ABCI codespace of all codes.
pub const CODESPACE: &str = "sutantra";

/// Why a transaction, or one entry of it, has no effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum ResultCode {
    /// Not the bytes of a transaction, or a value outside of its range.
    Decode = 1,
    /// A signature does not fit its key, the bytes and this chain.
    Signature = 2,
    /// Not the account's next nonce.
    Nonce = 3,
    /// The account, the channel or the new account holds too little.
    Funds = 4,
    /// The fee offered is below the table's.
    Fee = 5,
    /// What is named does not exist.
    NotFound = 6,
    /// It belongs to somebody else.
    NotOwner = 7,
    /// A voucher that was paid already.
    StaleVoucher = 8,
    /// The entries name several payees, or the one of another lane.
    WrongPayee = 9,
    /// The channel is closing, closed or not yet to be finalized.
    ChannelState = 10,
    /// The reserve does not fit, or only the other side may change it so.
    Reserve = 11,
    /// No such version of the stream's terms, or another one than the lane's.
    TermsUnknown = 12,
    /// These terms ceased to hold too long ago.
    TermsExpired = 13,
    /// Evidence that proves nothing.
    EvidenceInvalid = 14,
    /// Evidence that was given before.
    EvidenceDuplicate = 15,
    /// More bytes or entries than allowed.
    TooLarge = 16,
    /// The transaction's last height is past.
    Expired = 17,
    /// The stream's policy, or a rule of the chain, does not allow it.
    Policy = 18,
}

impl ResultCode {
    /// All of them by number.
    pub const ALL: [Self; 18] = [
        Self::Decode,
        Self::Signature,
        Self::Nonce,
        Self::Funds,
        Self::Fee,
        Self::NotFound,
        Self::NotOwner,
        Self::StaleVoucher,
        Self::WrongPayee,
        Self::ChannelState,
        Self::Reserve,
        Self::TermsUnknown,
        Self::TermsExpired,
        Self::EvidenceInvalid,
        Self::EvidenceDuplicate,
        Self::TooLarge,
        Self::Expired,
        Self::Policy,
    ];

    /// The number on the wire; 0 is success.
    pub const fn code(self) -> u32 {
        self as u32
    }

    /// The code of a number.
    pub fn from_code(code: u32) -> Option<Self> {
        let at = usize::try_from(code).ok()?.checked_sub(1)?;
        Self::ALL.get(at).copied()
    }

    /// What to do next, for people.
    pub const fn advice(self) -> &'static str {
        match self {
            Self::Decode => "the transaction cannot be read: check amounts and texts",
            Self::Signature => {
                "the signature is wrong: is this the right key, and the right chain?"
            }
            Self::Nonce => "another transaction of this account came first: send it again",
            Self::Funds => "there is not enough money: fund the account or send less",
            Self::Fee => "the fee is too small: ask the chain for its fee table",
            Self::NotFound => "there is no such thing on this chain: check the id",
            Self::NotOwner => {
                "it belongs to another account: sign with its owner's key, a redeem with its \
                 payee's or its relay's"
            }
            Self::StaleVoucher => "this voucher was paid already",
            Self::WrongPayee => "the vouchers are for another payee: redeem each payee's alone",
            Self::ChannelState => {
                "the channel is not in the state for this: see when its window ends"
            }
            Self::Reserve => "the reserve does not fit into what is free in the channel",
            Self::TermsUnknown => "the stream has no such price version: ask for its terms again",
            Self::TermsExpired => "this price ceased to hold too long ago",
            Self::EvidenceInvalid => "the evidence proves nothing",
            Self::EvidenceDuplicate => "this evidence was given before",
            Self::TooLarge => "the transaction is too large: divide it",
            Self::Expired => "the transaction came too late: sign it again",
            Self::Policy => "the stream's policy or a rule of the chain does not allow this",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_and_its_number_are_one() {
        for (at, code) in (1..).zip(ResultCode::ALL) {
            assert_eq!(code.code(), at);
            assert_eq!(ResultCode::from_code(at), Some(code));
        }
        assert_eq!(ResultCode::from_code(0), None);
        assert_eq!(ResultCode::from_code(19), None);
        assert_eq!(ResultCode::from_code(u32::MAX), None);
    }
}
