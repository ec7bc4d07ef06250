//! Files that come in: into one directory, under a name of their own, whole or not at all.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};

use super::{
    FILE_BYTES_MAX, FileId, INCOMING_MAX, INCOMING_OF_ONE_MAX, NAME_BYTES_MAX, Word, read_piece,
};
use crate::framing::Message;

/// Names that are tried where the file's own is taken.
const NAMES_TRIED_MAX: u32 = 1000;

struct Incoming {
    name: String,
    size: u64,
    received: u64,
    hash: Sha256,
    file: File,
    part: PathBuf,
}

/// What has become of a message.
#[derive(Debug, PartialEq, Eq)]
pub enum Received {
    /// A file begins.
    Begun {
        /// As the sender calls it.
        name: String,
        /// Bytes.
        size: u64,
    },
    /// More of it is here.
    Piece {
        /// As the sender calls it.
        name: String,
        /// Bytes that are here.
        received: u64,
        /// Bytes in all.
        size: u64,
    },
    /// All of it is here, and is what the sender sent.
    Whole {
        /// Where it lies.
        path: PathBuf,
        /// Bytes.
        size: u64,
    },
    /// It was refused, or has ended before its end; nothing is left of it.
    Failed {
        /// As the sender calls it.
        name: String,
        /// Why.
        reason: String,
    },
}

/// All files that come in.
pub struct Inbox {
    directory: Option<PathBuf>,
    files: BTreeMap<(String, FileId), Incoming>,
}

impl Inbox {
    /// Puts files into `directory`; without one it refuses all.
    pub fn new(directory: Option<PathBuf>) -> Self {
        Self { directory, files: BTreeMap::new() }
    }

    /// Takes a control message of `from`: what to answer, and what the user should know.
    pub fn handle(&mut self, from: &str, message: &Message) -> (Option<Word>, Option<Received>) {
        if let Some((id, bytes)) = read_piece(message) {
            return self.take_piece(from, id, bytes);
        }
        match Word::read(message) {
            Some(Word::Offer { id, name, size }) => self.take_offer(from, id, name, size),
            Some(Word::Done { id, sha256 }) => self.finish(from, id, &sha256),
            Some(Word::Failed { id, reason }) => (None, self.drop_file(from, id, reason)),
            // The other half of the conversation.
            Some(Word::Accept { .. } | Word::Refuse { .. } | Word::Received { .. }) | None => {
                (None, None)
            }
        }
    }

    /// Gives up what a peer that has gone has begun.
    pub fn forget(&mut self, from: &str) -> Vec<Received> {
        let ids: Vec<_> =
            self.files.keys().filter(|(peer, _)| peer == from).map(|(_, id)| *id).collect();
        let reason = "the sender has gone";
        ids.into_iter().filter_map(|id| self.drop_file(from, id, reason.to_owned())).collect()
    }

    fn take_offer(
        &mut self,
        from: &str,
        id: FileId,
        name: String,
        size: u64,
    ) -> (Option<Word>, Option<Received>) {
        match self.begin(from, id, &name, size) {
            Ok(()) => (Some(Word::Accept { id }), Some(Received::Begun { name, size })),
            Err(reason) => {
                let word = Word::Refuse { id, reason: reason.clone() };
                (Some(word), Some(Received::Failed { name, reason }))
            }
        }
    }

    fn begin(&mut self, from: &str, id: FileId, name: &str, size: u64) -> Result<(), String> {
        let directory = self.directory.as_ref().ok_or("this peer takes no files")?;
        check_name(name)?;
        if size > FILE_BYTES_MAX {
            return Err(format!("{size} bytes, at most {FILE_BYTES_MAX} are taken"));
        }
        let of_one = self.files.keys().filter(|(peer, _)| peer == from).count();
        if self.files.len() >= INCOMING_MAX || of_one >= INCOMING_OF_ONE_MAX {
            return Err("too many files at once: offer it again later".to_owned());
        }
        if self.files.contains_key(&(from.to_owned(), id)) {
            return Err("this id is in use".to_owned());
        }
        // The dot hides it from who lists the directory; the id makes it no other's.
        let part = directory.join(format!(".{id}.part"));
        let cannot = |error: io::Error| format!("it cannot be kept: {error}");
        let file = OpenOptions::new().write(true).create_new(true).open(&part).map_err(cannot)?;
        let name = name.to_owned();
        let incoming = Incoming { name, size, received: 0, hash: Sha256::new(), file, part };
        self.files.insert((from.to_owned(), id), incoming);
        Ok(())
    }

    fn take_piece(
        &mut self,
        from: &str,
        id: FileId,
        bytes: &[u8],
    ) -> (Option<Word>, Option<Received>) {
        // Of a transfer that has failed, pieces are still on their way.
        let Some(incoming) = self.files.get_mut(&(from.to_owned(), id)) else {
            return (None, None);
        };
        let len_bytes = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if incoming.received.saturating_add(len_bytes) > incoming.size {
            let reason = format!("more than the {} bytes that were offered", incoming.size);
            return self.fail(from, id, reason);
        }
        if let Err(error) = incoming.file.write_all(bytes) {
            return self.fail(from, id, format!("it cannot be kept: {error}"));
        }
        incoming.hash.update(bytes);
        incoming.received += len_bytes;
        let Incoming { name, received, size, .. } = incoming;
        let (name, received, size) = (name.clone(), *received, *size);
        (None, Some(Received::Piece { name, received, size }))
    }

    fn finish(&mut self, from: &str, id: FileId, sha256: &str) -> (Option<Word>, Option<Received>) {
        let Some(incoming) = self.files.get(&(from.to_owned(), id)) else { return (None, None) };
        let Incoming { name, size, received, hash, file, part } = incoming;
        if received != size {
            let reason = format!("{received} of {size} bytes have come");
            return self.fail(from, id, reason);
        }
        if HEXLOWER.encode(&hash.clone().finalize()) != sha256.to_ascii_lowercase() {
            return self.fail(from, id, "the bytes are not what the sender's hash says".to_owned());
        }
        let directory = part.parent().unwrap_or(Path::new("."));
        let placed = file.sync_all().and_then(|()| place(part, directory, name));
        match placed {
            Ok(path) => {
                let size = *size;
                // The part goes with its entry.
                self.remove(from, id);
                (Some(Word::Received { id }), Some(Received::Whole { path, size }))
            }
            Err(error) => self.fail(from, id, format!("it cannot be kept: {error}")),
        }
    }

    fn fail(&mut self, from: &str, id: FileId, reason: String) -> (Option<Word>, Option<Received>) {
        let word = Word::Failed { id, reason: reason.clone() };
        (Some(word), self.drop_file(from, id, reason))
    }

    fn drop_file(&mut self, from: &str, id: FileId, reason: String) -> Option<Received> {
        let name = self.remove(from, id)?;
        Some(Received::Failed { name, reason })
    }

    fn remove(&mut self, from: &str, id: FileId) -> Option<String> {
        let incoming = self.files.remove(&(from.to_owned(), id))?;
        // One that is gone already need not be removed.
        drop(fs::remove_file(&incoming.part));
        Some(incoming.name)
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        for incoming in self.files.values() {
            drop(fs::remove_file(&incoming.part));
        }
    }
}

/// A name is one component of a path, visible and short; anything else is refused, never mended.
fn check_name(name: &str) -> Result<(), String> {
    let is_plain = |c: char| !c.is_control() && !matches!(c, '/' | '\\');
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        return Err(format!("a name has 1 to {NAME_BYTES_MAX} bytes"));
    }
    if name.starts_with('.') || !name.chars().all(is_plain) {
        return Err("a name may not begin with a dot nor hold a path or control characters".into());
    }
    Ok(())
}

/// Gives the part its name, or `name (1).ext` and so on where that is taken; never overwrites,
/// because a second link to a name that exists fails.
fn place(part: &Path, directory: &Path, name: &str) -> io::Result<PathBuf> {
    let (stem, extension) = match name.rsplit_once('.') {
        Some((stem, extension)) => (stem, format!(".{extension}")),
        None => (name, String::new()),
    };
    for n in 0..NAMES_TRIED_MAX {
        let own = if n == 0 { name.to_owned() } else { format!("{stem} ({n}){extension}") };
        let path = directory.join(own);
        match fs::hard_link(part, &path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::new(io::ErrorKind::AlreadyExists, "too many files of that name"))
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::files::piece;

    fn names(directory: &TempDir) -> Vec<String> {
        let entries = fs::read_dir(directory.path()).unwrap();
        let name = |entry: io::Result<fs::DirEntry>| {
            entry.unwrap().file_name().to_string_lossy().into_owned()
        };
        let mut names: Vec<_> = entries.map(name).collect();
        names.sort();
        names
    }

    const ID: [u8; 16] = [5; 16];

    fn offer(name: &str, size: u64) -> Message {
        Word::Offer { id: FileId::new(ID), name: name.to_owned(), size }.message()
    }

    fn done(bytes: &[u8]) -> Message {
        let sha256 = HEXLOWER.encode(&Sha256::digest(bytes));
        Word::Done { id: FileId::new(ID), sha256 }.message()
    }

    fn send(inbox: &mut Inbox, name: &str, bytes: &[u8]) -> Option<Received> {
        let (answer, _) = inbox.handle("a", &offer(name, bytes.len() as u64));
        assert_eq!(answer, Some(Word::Accept { id: FileId::new(ID) }));
        for part in bytes.chunks(3) {
            let (answer, _) = inbox.handle("a", &piece(FileId::new(ID), part));
            assert_eq!(answer, None);
        }
        inbox.handle("a", &done(bytes)).1
    }

    #[test]
    fn a_file_that_is_there_is_never_overwritten() {
        let directory = TempDir::new().unwrap();
        let mut inbox = Inbox::new(Some(directory.path().to_owned()));
        for (bytes, name) in
            [(&b"first"[..], "a.txt"), (b"second", "a (1).txt"), (b"", "a (2).txt")]
        {
            let path = directory.path().join(name);
            let size = bytes.len() as u64;
            let whole = send(&mut inbox, "a.txt", bytes);
            assert_eq!(whole, Some(Received::Whole { path: path.clone(), size }));
            assert_eq!(fs::read(path).unwrap(), bytes);
        }
        assert_eq!(names(&directory), ["a (1).txt", "a (2).txt", "a.txt"], "no part is left");
    }

    #[test]
    fn a_name_that_is_a_path_is_refused() {
        let directory = TempDir::new().unwrap();
        let mut inbox = Inbox::new(Some(directory.path().to_owned()));
        let long = "x".repeat(201);
        for name in ["", ".", "..", "../a", "/etc/passwd", "a/b", "a\\b", ".hidden", "a\n", &long] {
            let (answer, received) = inbox.handle("a", &offer(name, 1));
            assert!(matches!(answer, Some(Word::Refuse { .. })), "{name:?}: {answer:?}");
            assert!(matches!(received, Some(Received::Failed { .. })));
        }
        assert!(names(&directory).is_empty());
    }

    #[test]
    fn what_is_not_what_was_offered_leaves_nothing_behind() {
        let directory = TempDir::new().unwrap();
        let mut inbox = Inbox::new(Some(directory.path().to_owned()));
        let fails = |inbox: &mut Inbox, pieces: &[&[u8]], end: &Message| {
            inbox.handle("a", &offer("a", 4));
            let mut failed = None;
            for bytes in pieces {
                failed = inbox.handle("a", &piece(FileId::new(ID), bytes)).0.or(failed);
            }
            failed = inbox.handle("a", end).0.or(failed);
            assert!(matches!(failed, Some(Word::Failed { .. })), "{failed:?}");
        };
        fails(&mut inbox, &[b"abc"], &done(b"abc"));
        fails(&mut inbox, &[b"abcd", b"e"], &done(b"abcde"));
        fails(&mut inbox, &[b"abcd"], &done(b"abce"));
        inbox.handle("a", &offer("a", 4));
        assert_eq!(inbox.forget("b"), []);
        assert_eq!(inbox.forget("a").len(), 1);
        inbox.handle("a", &offer("a", 4));
        drop(inbox);
        assert!(names(&directory).is_empty(), "{:?}", names(&directory));
    }

    #[test]
    fn one_peer_cannot_touch_the_file_of_another_and_without_a_directory_nothing_is_taken() {
        let directory = TempDir::new().unwrap();
        let mut inbox = Inbox::new(Some(directory.path().to_owned()));
        inbox.handle("a", &offer("a", 4));
        assert_eq!(inbox.handle("b", &piece(FileId::new(ID), b"evil")), (None, None));
        assert_eq!(inbox.handle("b", &done(b"evil")), (None, None));
        let (answer, _) = Inbox::new(None).handle("a", &offer("a", 4));
        assert!(matches!(answer, Some(Word::Refuse { .. })));
    }

    #[test]
    fn one_peer_cannot_take_the_places_of_all() {
        let directory = TempDir::new().unwrap();
        let mut inbox = Inbox::new(Some(directory.path().to_owned()));
        let mut offer_of = |from: &str, n: u8| {
            let id = FileId::new([n; 16]);
            let word = Word::Offer { id, name: "a".to_owned(), size: 4 };
            matches!(inbox.handle(from, &word.message()).0, Some(Word::Accept { .. }))
        };
        let taken: Vec<_> = (0..6).map(|n| offer_of("a", n)).collect();
        assert_eq!(taken, [true, true, true, true, false, false]);
        assert!(offer_of("b", 10), "a place is left for another");
        // All places together are bounded too.
        let taken = (11..40).filter(|n| offer_of(&format!("peer {n}"), *n)).count();
        assert_eq!(taken, INCOMING_MAX - 5);
        inbox.forget("a");
        let word = Word::Offer { id: FileId::new([9; 16]), name: "a".to_owned(), size: 4 };
        assert!(matches!(inbox.handle("a", &word.message()).0, Some(Word::Accept { .. })));
    }
}
