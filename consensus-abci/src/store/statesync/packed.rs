//! A snapshot in one file, for carrying it by hand.

use std::{
    fs::File,
    io::{self, BufReader, BufWriter, Read, Write},
    path::Path,
};

use super::{
    archive::{Archive, SnapshotError},
    format::{CHUNK_BYTES_MAX, CHUNKS_MAX, Metadata},
    incoming::{ChunkRefused, Incoming},
};

/// The file's first bytes.
const MAGIC: &[u8; 16] = b"sutantra-snap-1\n";
/// Metadata of the most chunks, bytes.
const METADATA_BYTES_MAX: usize = 64 + 32 * CHUNKS_MAX;

/// Writes a snapshot of the archive into a new file: metadata and chunks, each behind its length.
///
/// # Errors
/// There is none of this height, the file is there already, or the system refuses.
pub fn pack(archive: &Archive, height: u64, to: &Path) -> Result<Metadata, SnapshotError> {
    let metadata = archive.metadata(height)?;
    let failed = |source| SnapshotError::File { path: to.to_owned(), source };
    let mut file = BufWriter::new(File::create_new(to).map_err(failed)?);
    let mut write = |bytes: &[u8]| {
        file.write_all(&(bytes.len() as u64).to_be_bytes())?;
        file.write_all(bytes)
    };
    write(MAGIC).map_err(failed)?;
    write(&metadata.encode()).map_err(failed)?;
    for index in 0..metadata.chunks.len() {
        write(&archive.chunk(height, index)?).map_err(failed)?;
    }
    let file = file.into_inner().map_err(|error| failed(error.into_error()))?;
    file.sync_all().map_err(failed)?;
    Ok(metadata)
}

/// Reads such a file into an archive. Its chunks are checked against the app hash that it names
/// itself: whether that is the chain's, the caller must know.
///
/// # Errors
/// The file is none, or damaged, or the system refuses.
pub fn unpack(archive: &Archive, from: &Path) -> Result<Incoming, SnapshotError> {
    let failed = |source| SnapshotError::File { path: from.to_owned(), source };
    let damaged = |what: String| SnapshotError::Damaged { path: from.to_owned(), what };
    let mut file = BufReader::new(File::open(from).map_err(failed)?);
    let mut read = |bytes_max: usize| -> Result<Vec<u8>, SnapshotError> {
        let mut len = [0; 8];
        let mut bytes = Vec::new();
        let result = file.read_exact(&mut len).and_then(|()| {
            let len_bytes = usize::try_from(u64::from_be_bytes(len)).unwrap_or(usize::MAX);
            if len_bytes > bytes_max {
                return Err(io::ErrorKind::InvalidData.into());
            }
            bytes.resize(len_bytes, 0);
            file.read_exact(&mut bytes)
        });
        match result {
            Ok(()) => Ok(bytes),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(damaged("it ends too early".to_owned()))
            }
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                Err(damaged("it is no snapshot, or of another version".to_owned()))
            }
            Err(error) => Err(failed(error)),
        }
    };
    let not_ours = || damaged("it is no snapshot, or of another version".to_owned());
    if read(MAGIC.len())? != MAGIC {
        return Err(not_ours());
    }
    let metadata = Metadata::decode(&read(METADATA_BYTES_MAX)?).ok_or_else(not_ours)?;
    let chunks = metadata.chunks.len();
    let mut incoming = Incoming::begin(archive, metadata)?;
    for index in 0..chunks {
        incoming.add(index, &read(CHUNK_BYTES_MAX)?).map_err(|refused| match refused {
            ChunkRefused::Files(error) => error,
            other => damaged(other.to_string()),
        })?;
    }
    Ok(incoming)
}
