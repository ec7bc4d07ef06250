//! A file that goes out, as fast as the channel takes it and no faster.

use std::{io, path::Path, time::Duration};

use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};
use tokio::{fs::File, io::AsyncReadExt as _, sync::mpsc, time::timeout};

use super::{FileId, PIECE_BYTES, Word, piece};
use crate::{connection::SendError, framing::Compression, task::Peer};

/// Until the receiver says yes or no, and until it has checked all.
const ANSWER_WITHIN: Duration = Duration::from_secs(120);

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes that the channel has taken.
    pub sent: u64,
    /// Bytes in all.
    pub size: u64,
}

/// Why a file did not arrive.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Read(#[from] io::Error),
    /// Not a file with a name.
    #[error("only a file with a name can be sent: pack a directory first")]
    NoFile,
    /// The channel.
    #[error("it cannot be sent: {0}")]
    Channel(#[from] SendError),
    /// The receiver says so.
    #[error("the receiver does not take it: {0}")]
    Refused(String),
    /// The receiver says nothing.
    #[error("the receiver does not answer")]
    Silent,
    /// It grew or shrank meanwhile.
    #[error("it changed while it was sent")]
    Changed,
}

/// Sends the file at `path`. What the receiver says about `id` comes in through `words`.
///
/// # Errors
/// [`FileError`].
pub async fn send(
    peer: &Peer,
    to: &str,
    path: &Path,
    id: FileId,
    words: &mut mpsc::Receiver<Word>,
    mut on_progress: impl FnMut(Progress),
) -> Result<(), FileError> {
    let result = transfer(peer, to, path, id, words, &mut on_progress).await;
    if let Err(error @ (FileError::Read(_) | FileError::Changed)) = &result {
        let failed = Word::Failed { id, reason: error.to_string() };
        // A channel that is closed has told the receiver already.
        let _told = peer.send(Some(to), failed.message(), Compression::Auto).await;
    }
    result
}

async fn transfer(
    peer: &Peer,
    to: &str,
    path: &Path,
    id: FileId,
    words: &mut mpsc::Receiver<Word>,
    on_progress: &mut impl FnMut(Progress),
) -> Result<(), FileError> {
    let mut file = File::open(path).await?;
    let metadata = file.metadata().await?;
    let name = path.file_name().and_then(|name| name.to_str());
    let Some(name) = name.filter(|_| metadata.is_file()) else { return Err(FileError::NoFile) };
    let size = metadata.len();
    let offer = Word::Offer { id, name: name.to_owned(), size };
    peer.send(Some(to), offer.message(), Compression::Auto).await?;
    answer(words).await?;

    let (mut sent, mut hash, mut buffer) = (0, Sha256::new(), vec![0; PIECE_BYTES]);
    loop {
        let mut filled = 0;
        while filled < PIECE_BYTES {
            match file.read(&mut buffer[filled..]).await? {
                0 => break,
                len_bytes => filled += len_bytes,
            }
        }
        if filled == 0 {
            break;
        }
        hash.update(&buffer[..filled]);
        peer.send(Some(to), piece(id, &buffer[..filled]), Compression::Never).await?;
        sent += u64::try_from(filled).expect("a piece is short");
        if sent > size {
            return Err(FileError::Changed);
        }
        on_progress(Progress { sent, size });
        if let Ok(word) = words.try_recv() {
            refusal(word)?;
        }
    }
    if sent != size {
        return Err(FileError::Changed);
    }
    let done = Word::Done { id, sha256: HEXLOWER.encode(&hash.finalize()) };
    peer.send(Some(to), done.message(), Compression::Auto).await?;
    answer(words).await
}

/// Waits for yes or no.
async fn answer(words: &mut mpsc::Receiver<Word>) -> Result<(), FileError> {
    match timeout(ANSWER_WITHIN, words.recv()).await {
        Ok(Some(word)) => refusal(word),
        // Whoever dispatches words drops the sender when the peer has gone.
        Ok(None) => Err(FileError::Channel(SendError::NotOpen)),
        Err(_) => Err(FileError::Silent),
    }
}

fn refusal(word: Word) -> Result<(), FileError> {
    match word {
        Word::Refuse { reason, .. } | Word::Failed { reason, .. } => {
            Err(FileError::Refused(reason))
        }
        Word::Offer { .. } | Word::Accept { .. } | Word::Done { .. } | Word::Received { .. } => {
            Ok(())
        }
    }
}
