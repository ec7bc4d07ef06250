//! Damage to files and disks: ends that are cut off, room that is taken, states that are put back.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

/// Cuts the end of what was written into a file off; what was done. Files that are made long before
/// they are filled end in zeros, whose loss would be none.
///
/// # Errors
/// It cannot be read or cut.
pub fn cut(path: &Path, bytes: u64) -> anyhow::Result<String> {
    let file = fs::OpenOptions::new().read(true).write(true).open(path);
    let file = file.with_context(|| path.display().to_string())?;
    let written = written_bytes(&file)?;
    let rest = written.saturating_sub(bytes);
    file.set_len(rest)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    Ok(format!("{name} was cut from {written} written bytes to {rest}"))
}

/// Bytes of a file up to the last that is not zero.
fn written_bytes(file: &fs::File) -> io::Result<u64> {
    use std::os::unix::fs::FileExt as _;
    let mut buffer = vec![0; 64 * 1024];
    let mut end = file.metadata()?.len();
    while end > 0 {
        let length = end.min(buffer.len() as u64);
        let chunk = &mut buffer[..usize::try_from(length).expect("at most the buffer's length")];
        file.read_exact_at(chunk, end - length)?;
        if let Some(last) = chunk.iter().rposition(|byte| *byte != 0) {
            return Ok(end - length + last as u64 + 1);
        }
        end -= length;
    }
    Ok(0)
}

/// The file below a directory that was written last.
///
/// # Errors
/// There is none.
pub fn newest_file(dir: &Path) -> anyhow::Result<PathBuf> {
    let mut newest = None;
    let mut rest = vec![dir.to_owned()];
    while let Some(dir) = rest.pop() {
        for entry in fs::read_dir(&dir).with_context(|| dir.display().to_string())? {
            let entry = entry?;
            let meta = entry.metadata()?;
            if meta.is_dir() {
                rest.push(entry.path());
            } else if meta.len() > 0 {
                let this = (meta.modified()?, entry.path());
                newest = newest.max(Some(this));
            }
        }
    }
    let (_, path) = newest.with_context(|| format!("{} has no file", dir.display()))?;
    Ok(path)
}

/// Writes until there is no room; how many bytes.
///
/// # Errors
/// Another than that there is no room.
pub fn fill(path: &Path) -> anyhow::Result<u64> {
    use io::Write as _;
    let mut file = fs::File::create(path).with_context(|| path.display().to_string())?;
    let zeros = vec![0; 64 * 1024];
    let mut bytes = 0;
    loop {
        match file.write(&zeros) {
            Ok(0) => return Ok(bytes),
            Ok(length) => bytes += length as u64,
            Err(error) if error.kind() == io::ErrorKind::StorageFull => return Ok(bytes),
            Err(error) => return Err(error).context(path.display().to_string()),
        }
    }
}

/// Lets a process' files grow no more (`RLIMIT_FSIZE`).
///
/// # Errors
/// The system refuses.
pub fn limit_files(pid: u32) -> anyhow::Result<()> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: plain system calls on a child that is not waited for yet; both structures live
    // through them. The hard bound stays as it is, so that the soft one may be raised again.
    let failed = unsafe {
        let pid = pid.cast_signed();
        libc::prlimit(pid, libc::RLIMIT_FSIZE, std::ptr::null(), &raw mut limit) != 0 || {
            limit.rlim_cur = 4096;
            libc::prlimit(pid, libc::RLIMIT_FSIZE, &raw const limit, std::ptr::null_mut()) != 0
        }
    };
    if failed {
        return Err(io::Error::last_os_error()).context("RLIMIT_FSIZE of the application");
    }
    Ok(())
}

/// Copies a directory with all that is in it.
///
/// # Errors
/// A file cannot be read or written.
pub fn copy_dir(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(to).with_context(|| to.display().to_string())?;
    for entry in fs::read_dir(from).with_context(|| from.display().to_string())? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_dir(&entry.path(), &to)?;
        } else {
            fs::copy(entry.path(), &to).with_context(|| to.display().to_string())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_newest_file_loses_its_end_and_no_other() {
        let dir = std::env::temp_dir().join(format!("perturb-cut-{}", std::process::id()));
        fs::create_dir_all(dir.join("deep")).expect("ours");
        fs::write(dir.join("old"), "0123456789").expect("ours");
        // Made longer than it was filled.
        let long = [&b"0123456789"[..], &[0; 100_000]].concat();
        fs::write(dir.join("deep/new"), long).expect("ours");
        let late = std::time::SystemTime::now() + Duration::from_secs(60);
        let new = fs::File::options().write(true).open(dir.join("deep/new")).expect("ours");
        new.set_modified(late).expect("ours");
        let found = newest_file(&dir).expect("two");
        assert_eq!(found, dir.join("deep/new"));
        assert_eq!(cut(&found, 4).expect("ours"), "new was cut from 10 written bytes to 6");
        assert_eq!(fs::read_to_string(&found).expect("ours"), "012345");
        assert_eq!(fs::read_to_string(dir.join("old")).expect("ours"), "0123456789");
        let copy = dir.join("copy");
        copy_dir(&dir.join("deep"), &copy).expect("ours");
        assert_eq!(fs::read_to_string(copy.join("new")).expect("copied"), "012345");
        fs::remove_dir_all(&dir).expect("ours");
    }
}
