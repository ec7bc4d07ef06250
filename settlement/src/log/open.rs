//! Reading a log back: all of it, or up to where a crash tore it, or not at all.

use std::{collections::BTreeMap, io};

use chain_types::LaneKey;

use super::{
    LOG_FILE, UNSYNCED_BYTES_MAX,
    record::{LogRecord, RECORD_BYTES, decode_header},
};

/// Why a log cannot be used. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum LogOpenError {
    /// The lock.
    #[error(
        "another process writes this voucher log: stop it first, or give this one a directory of its own"
    )]
    Locked,
    /// The header names another chain.
    #[error(
        "{LOG_FILE} holds vouchers of chain `{found}`, this is chain `{expected}`: start with that \
         chain, or move the file away (its vouchers are redeemable there only)"
    )]
    OtherChain {
        /// In the file.
        found: String,
        /// Of this process.
        expected: String,
    },
    /// The file's first 256 bytes are no header.
    #[error(
        "{LOG_FILE} does not begin as a voucher log: restore it from a copy, or move it away and \
         lose what it holds"
    )]
    Header,
    /// Damage that no crash makes: it lies before what was not synced yet.
    #[error(
        "{LOG_FILE} is damaged at byte {at_bytes}, and {behind_bytes} bytes stand behind: check the \
         disk; restore the file from a copy, or cut it to {at_bytes} bytes (truncate -s {at_bytes}) \
         and lose what stands behind"
    )]
    Damaged {
        /// Where the damaged record begins.
        at_bytes: u64,
        /// Bytes from there to the end.
        behind_bytes: u64,
    },
    /// The chain's id does not fit into a header.
    #[error("the chain's id is too long for the header of a voucher log")]
    ChainId,
    /// The disk.
    #[error("the voucher log cannot be opened: {0}")]
    Io(#[from] io::Error),
}

/// What a file says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Contents {
    /// What is known of each lane.
    pub newest: BTreeMap<LaneKey, LogRecord>,
    /// Bytes up to the end of the last good record, header included.
    pub good_bytes: usize,
}

/// Reads a file's bytes.
pub(super) fn read(file: &[u8], chain_id: &str) -> Result<Contents, LogOpenError> {
    let found = decode_header(file).ok_or(LogOpenError::Header)?;
    if found != chain_id {
        let (found, expected) = (found.to_owned(), chain_id.to_owned());
        return Err(LogOpenError::OtherChain { found, expected });
    }
    let mut contents = Contents { good_bytes: RECORD_BYTES, ..Contents::default() };
    while let Ok(record) = LogRecord::decode(&file[contents.good_bytes..]) {
        merge(&mut contents.newest, record);
        contents.good_bytes += RECORD_BYTES;
    }
    let behind_bytes = file.len() - contents.good_bytes;
    // A crash leaves anything in what was not synced, and that is never more than this.
    if behind_bytes > UNSYNCED_BYTES_MAX {
        let (at_bytes, behind_bytes) = (contents.good_bytes as u64, behind_bytes as u64);
        return Err(LogOpenError::Damaged { at_bytes, behind_bytes });
    }
    Ok(contents)
}

/// Adds a record to what is known.
pub(super) fn merge(newest: &mut BTreeMap<LaneKey, LogRecord>, record: LogRecord) {
    newest.entry(record.lane()).and_modify(|known| *known = known.merged(record)).or_insert(record);
}

#[cfg(test)]
mod tests {
    use super::{
        super::record::{encode_header, tests::record},
        *,
    };

    const CHAIN: &str = "sutantra-test-1";

    fn file(records: impl IntoIterator<Item = LogRecord>) -> Vec<u8> {
        let mut bytes = encode_header(CHAIN).unwrap().to_vec();
        bytes.extend(records.into_iter().flat_map(|record| record.encode()));
        bytes
    }

    #[test]
    fn the_newest_of_each_lane_is_read() {
        let contents = read(&file([record(1, 5), record(2, 1), record(1, 6)]), CHAIN).unwrap();
        let newest: Vec<_> = contents.newest.into_values().collect();
        assert_eq!(newest, [record(1, 6), record(2, 1)]);
        assert_eq!(contents.good_bytes, 4 * 256);
    }

    #[test]
    fn a_file_cut_at_any_byte_reads_up_to_its_last_whole_record() {
        let whole = file((1..=4).map(|at| record(1, at)));
        for len_bytes in RECORD_BYTES..=whole.len() {
            let contents = read(&whole[..len_bytes], CHAIN).unwrap();
            let records = (len_bytes / 256 - 1) as u64;
            assert_eq!(contents.good_bytes, (len_bytes / 256) * 256);
            let newest = contents.newest.into_values().next();
            assert_eq!(newest, (records > 0).then(|| record(1, records)));
        }
        for len_bytes in 0..RECORD_BYTES {
            assert!(matches!(read(&whole[..len_bytes], CHAIN), Err(LogOpenError::Header)));
        }
    }

    #[test]
    fn damage_within_what_may_be_unsynced_is_a_crash_and_damage_before_it_is_refused() {
        let window = (UNSYNCED_BYTES_MAX / RECORD_BYTES) as u64;
        let whole = file((1..=window + 2).map(|at| record(1, at)));
        let damaged = |index: usize| {
            let mut bytes = whole.clone();
            bytes[RECORD_BYTES * (1 + index) + 8] ^= 1;
            read(&bytes, CHAIN)
        };
        let contents = damaged(2).unwrap();
        assert_eq!(contents.good_bytes, 3 * 256);
        let error = damaged(1).unwrap_err();
        assert!(matches!(error, LogOpenError::Damaged { at_bytes: 512, .. }), "{error:?}");
        assert!(error.to_string().contains("truncate -s 512"), "{error}");
    }

    #[test]
    fn the_log_of_another_chain_and_what_is_no_log_are_refused() {
        let error = read(&file([]), "sutantra-other").unwrap_err();
        assert!(matches!(error, LogOpenError::OtherChain { .. }));
        assert!(matches!(read(&[7; 4096], CHAIN), Err(LogOpenError::Header)));
    }
}
