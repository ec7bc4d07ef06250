//! Any bytes are a transaction or an error, and a transaction has one encoding.
#![no_main]

use chain_types::{Params, Payload, SignedVoucher, Transaction, split};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(transaction) = Transaction::decode(bytes) else { return };
    assert_eq!(transaction.encode(), bytes);
    assert_eq!(transaction.body.signed_len_bytes(), bytes.len());
    let fee = Params::default().fee_min(&transaction.body.payload, bytes.len());
    assert!(!fee.is_zero());
    let burned = split::burned(fee);
    assert!(burned <= fee && burned.units() * 2 >= fee.units());
    // Whether the signatures hold is not this target's question; that asking is safe is.
    let _ = transaction.verify("sutantra-fuzz");
    if let Payload::Redeem { entries, .. } = &transaction.body.payload {
        for entry in entries {
            if let Ok(voucher) = SignedVoucher::decode(entry) {
                assert_eq!(voucher.encode(), *entry);
            }
        }
    }
    let json = serde_json::to_string(&transaction.body).expect("every body has a JSON form");
    let read = serde_json::from_str(&json).expect("JSON of ours");
    assert_eq!(transaction.body, read);
});
