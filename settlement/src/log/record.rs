//! Header and records, 256 bytes each, as they stand in the file.
//!
//! ```text
//! record: 0 voucher 176 | 176 signature 64 | 240 served_ms u64 | 248 zeros 4 | 252 CRC-32C
//! header: 0 `sutantra/mlog/v1` 16 | 16 chain id: length u8, UTF-8 ≤ 234, zeros | 251 zero | 252 CRC-32C
//! ```
//! Integers are big-endian; the checksum covers the 252 bytes before it.

use chain_types::{LaneKey, SignedVoucher, VOUCHER_SIGNED_BYTES};

use super::crc32c::crc32c;

/// Bytes of a record, and of the header.
pub const RECORD_BYTES: usize = 256;
const CHECKED_BYTES: usize = RECORD_BYTES - 4;
const MAGIC: &[u8; 16] = b"sutantra/mlog/v1";
const CHAIN_ID_BYTES_MAX: usize = 234;

const _: () = assert!(VOUCHER_SIGNED_BYTES + 8 + 4 == CHECKED_BYTES);
const _: () = assert!(17 + CHAIN_ID_BYTES_MAX < CHECKED_BYTES);

/// A lane's newest voucher, and how long the lane was served when it was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogRecord {
    /// What the payer signed.
    pub voucher: SignedVoucher,
    /// Time served on the lane so far, ms.
    pub served_ms: u64,
}

/// Why bytes are no record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Fewer than [`RECORD_BYTES`] are left.
    #[error("the record is cut off")]
    Torn,
    /// Checksum, padding or amount.
    #[error("the record is damaged")]
    Damaged,
}

impl LogRecord {
    /// The lane that it counts on.
    pub fn lane(&self) -> LaneKey {
        self.voucher.voucher.lane_key()
    }

    /// What is known of a lane once `newer` came behind `self`: no amount and no time ever falls.
    #[must_use]
    pub fn merged(self, newer: Self) -> Self {
        let is_more =
            |record: &Self| (record.voucher.voucher.cumulative, record.voucher.voucher.nonce);
        let voucher = if is_more(&newer) >= is_more(&self) { newer.voucher } else { self.voucher };
        Self { voucher, served_ms: self.served_ms.max(newer.served_ms) }
    }

    /// The bytes in the file.
    pub fn encode(&self) -> [u8; RECORD_BYTES] {
        let mut bytes = [0; RECORD_BYTES];
        bytes[..VOUCHER_SIGNED_BYTES].copy_from_slice(&self.voucher.encode());
        bytes[VOUCHER_SIGNED_BYTES..][..8].copy_from_slice(&self.served_ms.to_be_bytes());
        sealed(bytes)
    }

    /// Reads the first [`RECORD_BYTES`] of what is left of a file.
    ///
    /// # Errors
    /// See [`RecordError`].
    pub fn decode(rest: &[u8]) -> Result<Self, RecordError> {
        let bytes: &[u8; RECORD_BYTES] = rest.first_chunk().ok_or(RecordError::Torn)?;
        let (voucher, tail) = checked(bytes)
            .ok_or(RecordError::Damaged)?
            .split_first_chunk::<VOUCHER_SIGNED_BYTES>()
            .expect("a record is longer than a voucher");
        let voucher = SignedVoucher::decode(voucher).map_err(|_| RecordError::Damaged)?;
        let (served_ms, padding) = tail.split_first_chunk().expect("a record has room for it");
        if padding != [0; 4] {
            return Err(RecordError::Damaged);
        }
        Ok(Self { voucher, served_ms: u64::from_be_bytes(*served_ms) })
    }
}

/// The header of a log for `chain_id`; `None`: the id is too long for it.
pub(super) fn encode_header(chain_id: &str) -> Option<[u8; RECORD_BYTES]> {
    if chain_id.len() > CHAIN_ID_BYTES_MAX {
        return None;
    }
    let mut bytes = [0; RECORD_BYTES];
    bytes[..16].copy_from_slice(MAGIC);
    bytes[16] = u8::try_from(chain_id.len()).expect("bounded above");
    bytes[17..17 + chain_id.len()].copy_from_slice(chain_id.as_bytes());
    Some(sealed(bytes))
}

/// The chain id in a header; `None`: it is none.
pub(super) fn decode_header(file: &[u8]) -> Option<&str> {
    let bytes: &[u8; RECORD_BYTES] = file.first_chunk()?;
    let rest = checked(bytes)?.strip_prefix(MAGIC)?;
    let (&len_bytes, rest) = rest.split_first()?;
    std::str::from_utf8(rest.get(..usize::from(len_bytes))?).ok()
}

fn sealed(mut bytes: [u8; RECORD_BYTES]) -> [u8; RECORD_BYTES] {
    let crc = crc32c(&bytes[..CHECKED_BYTES]);
    bytes[CHECKED_BYTES..].copy_from_slice(&crc.to_be_bytes());
    bytes
}

fn checked(bytes: &[u8; RECORD_BYTES]) -> Option<&[u8]> {
    let (checked, crc) = bytes.split_at(CHECKED_BYTES);
    (crc32c(checked).to_be_bytes() == *crc).then_some(checked)
}

#[cfg(test)]
pub(super) mod tests {
    use chain_types::{AccountId, Balance, ChannelId, StreamId, Voucher};
    use proptest::prelude::*;

    use super::*;

    /// A record of lane number `lane`; the log verifies no signatures.
    pub(in super::super) fn record(lane: u32, cumulative: u64) -> LogRecord {
        let voucher = Voucher {
            channel: ChannelId([1; 32]),
            payee: AccountId([2; 32]),
            stream: StreamId([3; 32]),
            lane,
            terms_version: 1,
            nonce: cumulative,
            cumulative: Balance::of(cumulative),
            media_ms: cumulative,
            bytes: 0,
            qos: [0; 32],
        };
        LogRecord {
            voucher: SignedVoucher { voucher, signature: [9; 64] },
            served_ms: cumulative * 10,
        }
    }

    #[test]
    fn a_record_reads_as_it_was_written_and_any_flipped_bit_is_seen() {
        let bytes = record(7, 42).encode();
        assert_eq!(LogRecord::decode(&bytes), Ok(record(7, 42)));
        for at in 0..RECORD_BYTES * 8 {
            let mut damaged = bytes;
            damaged[at / 8] ^= 1 << (at % 8);
            assert_eq!(LogRecord::decode(&damaged), Err(RecordError::Damaged), "bit {at}");
        }
        assert_eq!(LogRecord::decode(&bytes[..255]), Err(RecordError::Torn));
        assert_eq!(LogRecord::decode(&[]), Err(RecordError::Torn));
        assert_eq!(LogRecord::decode(&[0; 256]), Err(RecordError::Damaged), "a hole");
        assert_eq!(LogRecord::decode(&[0xff; 256]), Err(RecordError::Damaged));
    }

    #[test]
    fn a_header_names_its_chain() {
        #[track_caller]
        fn check(chain_id: &str) {
            let header = encode_header(chain_id).unwrap();
            assert_eq!(decode_header(&header), Some(chain_id));
            assert_eq!(decode_header(&header[..255]), None);
            let mut damaged = header;
            damaged[20] ^= 1;
            assert_eq!(decode_header(&damaged), None);
        }
        check("");
        check("sutantra-dev-00112233");
        check(&"x".repeat(CHAIN_ID_BYTES_MAX));
        assert_eq!(encode_header(&"x".repeat(CHAIN_ID_BYTES_MAX + 1)), None);
        assert_eq!(decode_header(&record(1, 1).encode()), None);
    }

    #[test]
    fn nothing_that_is_known_of_a_lane_ever_falls() {
        let (low, high) = (record(1, 5), record(1, 6));
        assert_eq!(low.merged(high), high);
        assert_eq!(high.merged(low), high);
        let longer = LogRecord { served_ms: 1000, ..low };
        assert_eq!(high.merged(longer), LogRecord { served_ms: 1000, ..high });
        assert_eq!(low.merged(longer), longer);
    }

    proptest! {
        #[test]
        fn any_bytes_give_a_record_or_an_error(
            bytes in prop::collection::vec(any::<u8>(), 0..600),
        ) {
            prop_assert!(LogRecord::decode(&bytes).is_err());
            prop_assert_eq!(decode_header(&bytes), None);
        }
    }
}
