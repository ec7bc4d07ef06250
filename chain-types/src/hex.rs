//! Lower-case hexadecimal, the text form of identifiers and of bytes in JSON.

use std::fmt;

/// `bytes` as lower-case hex.
pub fn text(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// The bytes of a text of any even length; upper case is accepted.
pub fn bytes(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    let nibble = |digit: u8| char::from(digit).to_digit(16);
    let pairs = digits.chunks_exact(2);
    pairs.map(|pair| u8::try_from(nibble(pair[0])? << 4 | nibble(pair[1])?).ok()).collect()
}

/// Writes `bytes` as lower-case hex.
pub(crate) fn write(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    // A block's events are full of ids: in pieces, not digit by digit.
    bytes.chunks(32).try_for_each(|chunk| {
        let mut digits = [0; 64];
        for (pair, byte) in digits.chunks_exact_mut(2).zip(chunk) {
            pair.copy_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
        }
        f.write_str(std::str::from_utf8(&digits[..2 * chunk.len()]).expect("digits are ASCII"))
    })
}

/// Reads exactly `N` bytes. Upper case is accepted: people paste from many tools.
pub(crate) fn read<const N: usize>(text: &str) -> Result<[u8; N], HexError> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return Err(HexError::Length { len_chars: text.chars().count() });
    }
    let mut bytes = [0; N];
    for (at, pair) in digits.chunks_exact(2).enumerate() {
        let nibble = |which: usize| {
            char::from(pair[which]).to_digit(16).ok_or(HexError::Digit { position: 2 * at + which })
        };
        let value = nibble(0)? << 4 | nibble(1)?;
        bytes[at] = u8::try_from(value).expect("two nibbles are one byte");
    }
    Ok(bytes)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HexError {
    Length { len_chars: usize },
    Digit { position: usize },
}
