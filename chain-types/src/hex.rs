//! Lower-case hexadecimal, the text form of identifiers and of bytes in JSON.

use std::fmt;

/// `bytes` as lower-case hex.
pub fn text(bytes: &[u8]) -> String {
    struct Text<'a>(&'a [u8]);
    impl fmt::Display for Text<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write(self.0, f)
        }
    }
    Text(bytes).to_string()
}

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
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
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
