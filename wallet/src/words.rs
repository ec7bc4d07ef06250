//! A 32-byte seed as 24 words: the BIP-39 English encoding of 256 bits and their checksum.
//!
//! The words carry the seed itself as their entropy, without passphrase or stretching, so that the
//! same words give the same account here and in a browser.

use bip39::{Error, Language, Mnemonic};

/// Words of a seed.
const COUNT: usize = 24;

/// Words that are no seed, and which of them to look at.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WordsError {
    /// Not in the list.
    #[error("word {position}, {word:?}, is not in the list: check its spelling")]
    Unknown {
        /// Counted from 1.
        position: usize,
        /// As given.
        word: String,
    },
    /// More or fewer.
    #[error("a wallet has {COUNT} words, these are {0}")]
    Count(usize),
    /// The checksum does not fit.
    #[error(
        "the words do not fit together: one is wrong, or two changed places; compare them with your note"
    )]
    Checksum,
}

/// The words, with a space between them.
pub fn words_of(seed: &[u8; 32]) -> String {
    let words = Mnemonic::from_entropy(seed).expect("256 bits are a size that BIP-39 knows");
    words.words().collect::<Vec<_>>().join(" ")
}

/// The seed of 24 words, in either case, with anything but letters between them.
///
/// # Errors
/// See [`WordsError`].
pub fn seed_of(text: &str) -> Result<[u8; 32], WordsError> {
    let text = text.to_lowercase();
    let words: Vec<&str> =
        text.split(|c: char| !c.is_alphabetic()).filter(|w| !w.is_empty()).collect();
    let unknown = |word: &&str| Language::English.find_word(word).is_none();
    if let Some(at) = words.iter().position(unknown) {
        return Err(WordsError::Unknown { position: at + 1, word: words[at].to_owned() });
    }
    if words.len() != COUNT {
        return Err(WordsError::Count(words.len()));
    }
    let mnemonic = match Mnemonic::parse_in_normalized(Language::English, &words.join(" ")) {
        Ok(mnemonic) => mnemonic,
        Err(Error::BadWordCount(count)) => return Err(WordsError::Count(count)),
        Err(_) => return Err(WordsError::Checksum),
    };
    let (entropy, len_bytes) = mnemonic.to_entropy_array();
    let seed = entropy[..len_bytes].try_into();
    Ok(seed.expect("24 words are 32 bytes and a checksum"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The published vectors of BIP-39 (its repository's `vectors.json`) for 256 bits.
    #[test]
    fn published_seeds_have_their_published_words() {
        #[track_caller]
        fn check(byte: u8, first: &str, last: &str) {
            let words = words_of(&[byte; 32]);
            assert_eq!(words, format!("{}{last}", format!("{first} ").repeat(23)));
            assert_eq!(seed_of(&words), Ok([byte; 32]));
        }
        check(0, "abandon", "art");
        check(0xff, "zoo", "vote");
        assert!(words_of(&[0x7f; 32]).starts_with("legal winner thank year wave sausage worth"));
    }

    #[test]
    fn words_that_are_no_seed_are_refused_by_name() {
        let good = words_of(&[7; 32]);
        let capitals = good.to_uppercase().replace(' ', ",\n 1. ");
        assert_eq!(seed_of(&capitals), Ok([7; 32]));
        assert_eq!(seed_of(""), Err(WordsError::Count(0)));
        let short = good.rsplit_once(' ').expect("24 words").0;
        assert_eq!(seed_of(short), Err(WordsError::Count(23)));
        let misspelt = good.replacen(good.split(' ').nth(1).expect("24 words"), "akt", 1);
        assert!(matches!(seed_of(&misspelt), Err(WordsError::Unknown { .. })));
        let other = format!("{short} {}", if good.ends_with("zoo") { "art" } else { "zoo" });
        assert_eq!(seed_of(&other), Err(WordsError::Checksum));
    }

    proptest! {
        #[test]
        fn every_seed_comes_back(seed: [u8; 32]) {
            prop_assert_eq!(seed_of(&words_of(&seed)), Ok(seed));
        }

        #[test]
        fn any_text_is_words_or_an_error(text in ".{0,300}") {
            let _ = seed_of(&text);
        }
    }
}
