//! State as a peer may hand it over with a proof: keys and records, any bytes.
#![no_main]

use borsh::{BorshDeserialize, BorshSerialize};
use chain_types::{
    AccessRecord, Account, AccountId, Balance, Channel, LaneRecord, Params, RelayRecord, StateKey,
    StreamMetadata, Supply, lane,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Some(key) = StateKey::parse(bytes) {
        assert_eq!(key.to_bytes(), bytes);
    }
    let Some((kind, value)) = bytes.split_first() else { return };
    match kind % 9 {
        0 => drop(round_trip::<Account>(value)),
        1 => {
            let Some(stream) = round_trip::<StreamMetadata>(value) else { return };
            for terms in &stream.terms {
                let _ = (terms.rate(0), stream.split_of(terms.version));
                let prepay = lane::min_prepay(terms.rate_per_second, 10_000, Balance::of(1000));
                assert!(prepay <= Balance::MAX);
            }
            let _ = (stream.terms_at(5), stream.next_terms(5), stream.replaced_at(1));
        }
        2 => drop(round_trip::<AccessRecord>(value)),
        3 => {
            let Some(channel) = round_trip::<Channel>(value) else { return };
            // A channel of the chain never reserves more than it holds; one of a peer may.
            let payee = channel.reserves.first().map_or(AccountId::ZERO, |kept| kept.payee);
            assert!(channel.free(7) <= channel.deposits);
            let _ = (channel.available_to(&payee, 7), channel.is_open(7));
        }
        4 => drop(round_trip::<LaneRecord>(value)),
        5 => drop(round_trip::<RelayRecord>(value)),
        6 => {
            if let Some(params) = round_trip::<Params>(value) {
                let _ = (params.faults(), params.deposit_min(), params.new_account_min());
            }
        }
        7 => drop(round_trip::<Supply>(value)),
        _ => drop(round_trip::<Balance>(value)),
    }
});

fn round_trip<T: BorshDeserialize + BorshSerialize>(bytes: &[u8]) -> Option<T> {
    let value: T = borsh::from_slice(bytes).ok()?;
    assert_eq!(borsh::to_vec(&value).expect("memory takes every byte"), bytes);
    Some(value)
}
