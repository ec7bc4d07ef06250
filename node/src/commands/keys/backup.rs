//! The backup file: the secrets of a home as text, under a passphrase.
//!
//! One header line, then base64 of a ChaCha20-Poly1305 box around JSON {path: text}. Its key is
//! Argon2id (RFC 9106) of the passphrase with the header's salt and costs; the header is
//! authenticated with it. A salt is drawn for each file, so that no key ever seals twice and the
//! nonce can be zeros.

use std::collections::BTreeMap;

use argon2::{Algorithm, Argon2, Params, Version};
use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use base64::{Engine, engine::general_purpose::STANDARD};
use chain_types::hex;

/// First word of the header; the number rises with the form.
const MAGIC: &str = "sutantra-backup-1";
/// RFC 9106 §4, the second recommended option: 64 MiB, three passes, four lanes.
const COSTS: Costs = Costs { memory_kib: 64 * 1024, passes: 3, lanes: 4 };
/// What a header may ask for: beyond it a forged file would hold the machine, not the keys.
const COSTS_MAX: Costs = Costs { memory_kib: 1024 * 1024, passes: 16, lanes: 16 };
/// Characters of a line, as PEM has it.
const LINE_CHARS: usize = 64;

/// A file's path below the home, and its text.
type Files = BTreeMap<String, String>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Costs {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
}

/// Why a file is no backup that can be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BackupError {
    /// Another file.
    #[error("this is no backup of `sutantra-node keys backup`: {0}")]
    NoBackup(&'static str),
    /// A later program wrote it.
    #[error("this backup was written by a later version of this program: open it with that one")]
    Later,
    /// Key and box do not fit.
    #[error("the passphrase is wrong, or the file was changed; nothing was restored")]
    Passphrase,
}

/// A backup whose header is understood.
#[derive(Debug)]
pub struct Sealed {
    header: String,
    costs: Costs,
    salt: [u8; 16],
    sealed: Vec<u8>,
}

/// Seals `files`; `salt` is drawn at random for each file.
pub fn seal(files: &Files, passphrase: &str, salt: [u8; 16]) -> String {
    seal_with(files, passphrase, salt, COSTS)
}

fn seal_with(files: &Files, passphrase: &str, salt: [u8; 16], costs: Costs) -> String {
    let Costs { memory_kib, passes, lanes } = costs;
    let salt_text = hex::text(&salt);
    let header = format!("{MAGIC} argon2id m={memory_kib} t={passes} p={lanes} salt={salt_text}");
    let mut bytes = serde_json::to_vec(files).expect("texts by text have a JSON form");
    key(passphrase, &salt, costs)
        .seal_in_place_append_tag(nonce(), Aad::from(header.as_bytes()), &mut bytes)
        .expect("keys are far below the 256 GiB that one box holds");
    let text = STANDARD.encode(bytes);
    let lines = text.as_bytes().chunks(LINE_CHARS);
    lines.fold(header, |text, line| text + "\n" + &String::from_utf8_lossy(line)) + "\n"
}

fn key(passphrase: &str, salt: &[u8], costs: Costs) -> LessSafeKey {
    let Costs { memory_kib, passes, lanes } = costs;
    let params = Params::new(memory_kib, passes, lanes, Some(32));
    let params = params.expect("the costs are in Argon2's range: ours, or checked when read");
    let mut key = [0; 32];
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(passphrase.as_bytes(), salt, &mut key)
        .expect("salt and key have lengths that Argon2 takes");
    LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, &key).expect("a key has 32 bytes"))
}

fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

impl Sealed {
    /// Reads the header and undoes the text form.
    ///
    /// # Errors
    /// [`BackupError::NoBackup`], [`BackupError::Later`].
    pub fn read(text: &str) -> Result<Self, BackupError> {
        let wrong = BackupError::NoBackup;
        let (header, body) = text.split_once('\n').ok_or(wrong("it has no second line"))?;
        let header = header.trim_end();
        let words: Vec<&str> = header.split(' ').collect();
        match words.first() {
            Some(&MAGIC) => {}
            Some(magic) if magic.starts_with("sutantra-backup-") => return Err(BackupError::Later),
            Some(_) | None => return Err(wrong("it begins with other words")),
        }
        let [_, "argon2id", memory, passes, lanes, salt] = words[..] else {
            return Err(wrong("its header has other words"));
        };
        let number = |word: &str, key: &str, max: u32| {
            let number = word.strip_prefix(key)?.parse::<u32>().ok()?;
            (1..=max).contains(&number).then_some(number)
        };
        let costs = Costs {
            memory_kib: number(memory, "m=", COSTS_MAX.memory_kib).ok_or(wrong("its m= is off"))?,
            passes: number(passes, "t=", COSTS_MAX.passes).ok_or(wrong("its t= is off"))?,
            lanes: number(lanes, "p=", COSTS_MAX.lanes).ok_or(wrong("its p= is off"))?,
        };
        if costs.memory_kib < 8 * costs.lanes {
            return Err(wrong("its m= is off"));
        }
        let salt = salt.strip_prefix("salt=").and_then(hex::bytes);
        let salt = salt.and_then(|bytes| bytes.try_into().ok()).ok_or(wrong("its salt is off"))?;
        let body: String = body.split_whitespace().collect();
        let sealed = STANDARD.decode(body).map_err(|_| wrong("its lines are no base64"))?;
        Ok(Self { header: header.to_owned(), costs, salt, sealed })
    }

    /// The files in it.
    ///
    /// # Errors
    /// [`BackupError::Passphrase`]; a box that opens and holds something else is none of ours.
    pub fn open(mut self, passphrase: &str) -> Result<Files, BackupError> {
        let key = key(passphrase, &self.salt, self.costs);
        let aad = Aad::from(self.header.as_bytes());
        let bytes = key
            .open_in_place(nonce(), aad, &mut self.sealed)
            .map_err(|_| BackupError::Passphrase)?;
        serde_json::from_slice(bytes).map_err(|_| BackupError::NoBackup("it holds no keys"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cheap, so that many boxes can be opened.
    const CHEAP: Costs = Costs { memory_kib: 32, passes: 1, lanes: 1 };
    const PASSPHRASE: &str = "correct horse battery";

    fn files() -> Files {
        let file = |path: &str, text: &str| (path.to_owned(), text.to_owned());
        Files::from([file("keys/operator.key", &"07".repeat(32)), file("wallet/account.key", "é")])
    }

    fn open(text: &str, passphrase: &str) -> Result<Files, BackupError> {
        Sealed::read(text)?.open(passphrase)
    }

    #[test]
    fn what_is_sealed_opens_with_its_passphrase_alone() {
        let text = seal(&files(), PASSPHRASE, [9; 16]);
        assert!(text.starts_with("sutantra-backup-1 argon2id m=65536 t=3 p=4 salt=0909"), "{text}");
        assert!(text.lines().all(|line| line.len() <= 100));
        assert_eq!(open(&text, PASSPHRASE), Ok(files()));
        assert_eq!(open(&text.replace('\n', "\r\n"), PASSPHRASE), Ok(files()), "sent by mail");
        assert_eq!(open(&text, "correct horse batterz"), Err(BackupError::Passphrase));
        let cheap = |passphrase, salt| seal_with(&files(), passphrase, salt, CHEAP);
        assert_ne!(cheap(PASSPHRASE, [1; 16]), cheap(PASSPHRASE, [2; 16]));
        assert!(!text.contains("0707"), "no secret is in the clear");
    }

    #[test]
    fn no_changed_character_is_overlooked() {
        let text = seal_with(&files(), PASSPHRASE, [9; 16], CHEAP);
        for (at, _) in text.char_indices().filter(|(_, c)| !c.is_whitespace()) {
            let mut bytes = text.clone().into_bytes();
            bytes[at] = if bytes[at] == b'1' { b'2' } else { b'1' };
            let changed = String::from_utf8(bytes).expect("ASCII");
            assert!(open(&changed, PASSPHRASE).is_err(), "character {at} of {text}");
        }
    }

    #[test]
    fn another_file_is_refused_by_what_is_wrong_with_it() {
        let good = seal_with(&files(), PASSPHRASE, [9; 16], CHEAP);
        #[track_caller]
        fn check(text: &str, expected: &str) {
            let refused = Sealed::read(text).expect_err("no backup").to_string();
            assert!(refused.contains(expected), "{text:?}: {refused}");
        }
        check("", "no second line");
        check("-----BEGIN PGP MESSAGE-----\n", "other words");
        check(&good.replace("backup-1", "backup-2"), "later version");
        check(&good.replace("argon2id", "scrypt"), "header has other words");
        check(&good.replace("m=32", "m=0"), "m= is off");
        check(&good.replace("m=32", "m=7"), "m= is off");
        check(&good.replace("m=32", "m=1048577"), "m= is off");
        check(&good.replace("t=1", "t=17"), "t= is off");
        check(&good.replace("p=1", "p=x"), "p= is off");
        check(&good.replace("salt=09", "salt="), "salt is off");
        check(&(good.clone() + "!"), "no base64");
        let (without_last_line, _) = good.trim_end().rsplit_once('\n').expect("several lines");
        assert_eq!(open(without_last_line, PASSPHRASE), Err(BackupError::Passphrase));
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_a_backup_or_an_error(text in ".{0,300}") {
            let _ = Sealed::read(&text);
        }
    }
}
