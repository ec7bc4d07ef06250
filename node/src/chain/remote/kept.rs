//! Trusted headers over a restart: `light/trusted.json` of the home.

use std::{fs, io, path::Path};

use light::PlainBlock;

const DIR: &str = "light";
const FILE: &str = "light/trusted.json";

/// What was kept; none where the file is missing or cannot be read, which costs no more than trust
/// from the beginning.
pub(super) fn load(home: &Path) -> Vec<PlainBlock> {
    let path = home.join(FILE);
    match fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
            tracing::warn!("{} cannot be read and is not used: {error}", path.display());
            Vec::new()
        }),
        Err(error) => {
            if error.kind() != io::ErrorKind::NotFound {
                tracing::warn!("{} cannot be read and is not used: {error}", path.display());
            }
            Vec::new()
        }
    }
}

/// Replaces what is kept.
///
/// # Errors
/// The disk's.
pub(super) fn save(home: &Path, blocks: &[PlainBlock]) -> io::Result<()> {
    fs::create_dir_all(home.join(DIR))?;
    let (path, temp) = (home.join(FILE), home.join(format!("{FILE}.new")));
    fs::write(&temp, serde_json::to_vec(blocks).map_err(io::Error::other)?)?;
    fs::rename(temp, path)
}
