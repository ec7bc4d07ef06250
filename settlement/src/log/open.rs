//! Reading a log back: every record that is whole, wherever it stands, and what is not.

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
    /// The file is damaged, and would be written anew without what cannot be read of it.
    #[error(
        "{LOG_FILE} is damaged, and no copy of it can be kept beside it ({0}): make room and start \
         again"
    )]
    Copy(#[source] io::Error),
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
    /// Bytes behind the last whole record: a crash leaves anything in what was not synced.
    pub tail_bytes: usize,
    /// Records that cannot be read, and are no torn tail: whole ones stand behind, or there are more
    /// of them than may be unsynced. No more lanes than that are concerned.
    pub lost_records: usize,
    /// Something that is not there any more may have been worth money: the file is to be kept.
    pub is_damaged: bool,
}

/// Reads a file's bytes.
pub(super) fn read(file: &[u8], chain_id: &str) -> Result<Contents, LogOpenError> {
    let found = decode_header(file).ok_or(LogOpenError::Header)?;
    if found != chain_id {
        let (found, expected) = (found.to_owned(), chain_id.to_owned());
        return Err(LogOpenError::OtherChain { found, expected });
    }
    let (chunks, torn) = file[RECORD_BYTES..].as_chunks::<RECORD_BYTES>();
    let mut contents = Contents::default();
    // Bad ones since the last whole one: the tail, unless a whole one follows.
    let mut bad = 0;
    let mut is_tail_written = false;
    for chunk in chunks {
        if let Ok(record) = LogRecord::decode(chunk) {
            merge(&mut contents.newest, record);
            contents.lost_records += std::mem::take(&mut bad);
            is_tail_written = false;
        } else {
            bad += 1;
            is_tail_written |= chunk.iter().any(|byte| *byte != 0);
        }
    }
    contents.tail_bytes = bad * RECORD_BYTES + torn.len();
    if contents.tail_bytes > UNSYNCED_BYTES_MAX {
        contents.lost_records += bad;
    }
    // A hole is what a crash leaves; bytes that are none of ours may have been a record.
    contents.is_damaged = contents.lost_records > 0 || is_tail_written;
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
        assert_eq!(
            (contents.tail_bytes, contents.lost_records, contents.is_damaged),
            (0, 0, false)
        );
    }

    #[test]
    fn a_file_cut_at_any_byte_reads_up_to_its_last_whole_record() {
        let whole = file((1..=4).map(|at| record(1, at)));
        for len_bytes in RECORD_BYTES..=whole.len() {
            let contents = read(&whole[..len_bytes], CHAIN).unwrap();
            let records = (len_bytes / 256 - 1) as u64;
            assert_eq!((contents.tail_bytes, contents.is_damaged), (len_bytes % 256, false));
            let newest = contents.newest.into_values().next();
            assert_eq!(newest, (records > 0).then(|| record(1, records)));
        }
        for len_bytes in 0..RECORD_BYTES {
            assert!(matches!(read(&whole[..len_bytes], CHAIN), Err(LogOpenError::Header)));
        }
    }

    #[test]
    fn a_bad_record_costs_itself_alone_wherever_it_stands() {
        let window = UNSYNCED_BYTES_MAX / RECORD_BYTES;
        #[track_caller]
        fn check(of: usize, bad: &[usize], lost: usize, tail: usize) {
            let mut bytes = file((0..of as u32).map(|lane| record(lane, 1)));
            for index in bad {
                bytes[RECORD_BYTES * (1 + index) + 8] ^= 1;
            }
            let contents = read(&bytes, CHAIN).unwrap();
            let expected: Vec<_> = (0..of).filter(|index| !bad.contains(index)).collect();
            let found: Vec<_> = contents.newest.keys().map(|key| key.lane as usize).collect();
            assert_eq!(found, expected);
            assert_eq!((contents.lost_records, contents.tail_bytes), (lost, tail * RECORD_BYTES));
            assert_eq!(contents.is_damaged, !bad.is_empty());
        }
        check(2, &[], 0, 0);
        check(2, &[0], 1, 0);
        check(2, &[1], 0, 1);
        check(600, &[0], 1, 0);
        check(600, &[3, 4, 599], 2, 1);
        let behind: Vec<usize> = (1..=window).collect();
        check(window + 1, &behind, 0, window);
        let behind: Vec<usize> = (1..window + 2).collect();
        check(window + 2, &behind, window + 1, window + 1);
    }

    #[test]
    fn a_hole_at_the_end_is_a_tear_and_no_damage() {
        let mut bytes = file([record(1, 5)]);
        bytes.extend([0; 600]);
        let contents = read(&bytes, CHAIN).unwrap();
        assert_eq!((contents.tail_bytes, contents.lost_records), (600, 0));
        assert!(!contents.is_damaged);
    }

    #[test]
    fn the_log_of_another_chain_and_what_is_no_log_are_refused() {
        let error = read(&file([]), "sutantra-other").unwrap_err();
        assert!(matches!(error, LogOpenError::OtherChain { .. }));
        assert!(matches!(read(&[7; 4096], CHAIN), Err(LogOpenError::Header)));
    }
}
