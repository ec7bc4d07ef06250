//! The home directory: what survives a restart, and the lock that gives it to one node at a time.

use std::{
    ffi::OsStr,
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read, Seek, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use chain_types::{SigningKey, hex};
use coordinator::identity::NodeKey;
use rand::RngCore;
use rustls::{
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};
use str0m::config::DtlsCert;

/// Longest key or certificate file that is read; ours have under 2 kB.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// Why a home cannot be used; each sentence says what to do next.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// The system refuses.
    #[error("cannot use {}: {error}; choose another directory with --home DIR", path.display())]
    Io {
        /// What was touched.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// Another node runs on this home.
    #[error("{} is in use by the node with pid {pid}: stop it, or give this one --home DIR", dir.display())]
    Locked {
        /// The home.
        dir: PathBuf,
        /// As the other node wrote it; `?` in the moment before it has.
        pid: String,
    },
    /// A secret that others can read is none.
    #[error("{} can be read by others (mode {mode:03o}): chmod 600 it{}", path.display(), or_new(path))]
    TooOpen {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Not what this program wrote.
    #[error("{} is damaged ({reason}): restore it from a copy{}", path.display(), or_new(path))]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The directory for want of a better one belongs to somebody else.
    #[error("{} is not a directory of this user alone; say where keys are kept with --home DIR", path.display())]
    NotOurs {
        /// The directory.
        path: PathBuf,
    },
}

/// What else there is to do about a secret than to keep the old one. An account's money is its key's.
fn or_new(path: &Path) -> &'static str {
    let is_key = path.extension().is_some_and(|extension| extension == "key");
    let holds_none = |name: &OsStr| ["issuer", "coordinator", "peer"].iter().any(|of| name == *of);
    let is_account = !path.file_stem().is_some_and(holds_none);
    if is_key && is_account {
        "; it is the key of an account on the chain, whose money nobody can move without it. A new key \
         is made if you remove it: another account, with nothing on it until somebody sends it some"
    } else {
        ", or remove it to get a new one"
    }
}

fn io_at(path: &Path) -> impl FnOnce(io::Error) -> HomeError + '_ {
    move |error| HomeError::Io { path: path.to_owned(), error }
}

/// A home that this process alone runs on, until it is dropped.
#[derive(Debug)]
pub struct Home {
    dir: PathBuf,
    lock: File,
}

impl Home {
    /// Creates the directory (mode 700) where it is missing, and locks it.
    pub fn open(dir: &Path) -> Result<Self, HomeError> {
        create_dir(dir)?;
        let path = dir.join("lock");
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(io_at(&path))?;
        // The kernel drops the lock with the process, however it ends: nothing to clean up.
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                let _ = (&mut lock).take(64).read_to_string(&mut text);
                let pid = text.lines().next().filter(|pid| !pid.is_empty()).unwrap_or("?");
                return Err(HomeError::Locked { dir: dir.to_owned(), pid: pid.to_owned() });
            }
            Err(TryLockError::Error(error)) => return Err(HomeError::Io { path, error }),
        }
        let mut home = Self { dir: dir.to_owned(), lock };
        home.write_lock(&format!("{}\n", std::process::id()))?;
        Ok(home)
    }

    /// As [`Home::open`]; where the default home cannot be written (a read-only container), a
    /// private directory below `temp_dir`, with a sentence for the log.
    pub fn open_default(dir: &Path, temp_dir: &Path) -> Result<(Self, Option<String>), HomeError> {
        let refused = match Self::open(dir) {
            Ok(home) => return Ok((home, None)),
            Err(HomeError::Io { error, .. })
                if matches!(
                    error.kind(),
                    io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
                ) =>
            {
                error
            }
            Err(other) => return Err(other),
        };
        // SAFETY: `getuid` takes nothing, cannot fail and touches no memory of ours.
        let uid = unsafe { libc::getuid() };
        let path = temp_dir.join(format!("sutantra-{uid}"));
        create_dir(&path)?;
        // The name can be guessed: another user may have made it first, or made it a link.
        let meta = fs::symlink_metadata(&path).map_err(io_at(&path))?;
        if !meta.is_dir() || meta.uid() != uid || meta.mode() & 0o077 != 0 {
            return Err(HomeError::NotOurs { path });
        }
        let warning = format!(
            "cannot write {} ({refused}): keys go to {} and may not survive a restart of this \
             machine; choose a directory with --home DIR",
            dir.display(),
            path.display()
        );
        Ok((Self::open(&path)?, Some(warning)))
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Tells other commands of this home where the node answers HTTP.
    pub fn announce(&mut self, url: &str) -> Result<(), HomeError> {
        self.write_lock(&format!("{}\n{url}\n", std::process::id()))
    }

    fn write_lock(&mut self, text: &str) -> Result<(), HomeError> {
        let write = |lock: &mut File| {
            lock.set_len(0)?;
            lock.rewind()?;
            lock.write_all(text.as_bytes())
        };
        write(&mut self.lock).map_err(io_at(&self.dir))
    }
}

/// Where the node that runs on `dir` answers HTTP, if one has said so.
pub fn announced_url(dir: &Path) -> Option<String> {
    let mut text = String::new();
    File::open(dir.join("lock")).ok()?.take(256).read_to_string(&mut text).ok()?;
    text.lines().nth(1).map(str::to_owned)
}

/// The key that signs this node's grants and revocations: `keys/issuer.key`.
pub fn issuer_key(dir: &Path) -> Result<SigningKey, HomeError> {
    signing_key(dir, "issuer")
}

/// The key that names this node among coordinators and peers: `keys/coordinator.key`.
pub fn coordinator_key(dir: &Path) -> Result<NodeKey, HomeError> {
    signing_key(dir, "coordinator").map(|key| NodeKey::from_seed(key.to_bytes()))
}

/// The key `keys/<name>.key`, 64 hex digits, made at first use. Two processes that make it at once
/// end with the same key.
pub fn signing_key(dir: &Path, name: &str) -> Result<SigningKey, HomeError> {
    let path = dir.join("keys").join(format!("{name}.key"));
    create_dir(dir)?;
    create_dir(&dir.join("keys"))?;
    let text = read_secret_or_create(&path, || {
        let mut seed = [0; 32];
        rand::rng().fill_bytes(&mut seed);
        Ok(hex::text(&seed) + "\n")
    })?;
    let digits = text.trim_end();
    let damaged =
        |reason: &str| HomeError::Damaged { path: path.clone(), reason: reason.to_owned() };
    let seed = hex::bytes(digits).and_then(|bytes| bytes.try_into().ok());
    let seed = seed.ok_or_else(|| damaged("expected 64 hex digits"))?;
    Ok(SigningKey::from_bytes(&seed))
}

/// A key that nobody knows after this run: what it signs is void then.
pub fn passing_key() -> SigningKey {
    let mut seed = [0; 32];
    rand::rng().fill_bytes(&mut seed);
    SigningKey::from_bytes(&seed)
}

/// The DTLS certificate: `dtls.pem`, made at first use and kept, so that the relay's fingerprint
/// is the same after a restart. Its dates mean nothing: peers compare the fingerprint of the
/// signalled SDP (RFC 8122 §5), never a chain.
pub fn dtls_certificate(dir: &Path) -> Result<DtlsCert, HomeError> {
    let path = dir.join("dtls.pem");
    let dtls = str0m::crypto::from_feature_flags().dtls_provider;
    create_dir(dir)?;
    let text = read_secret_or_create(&path, || {
        let cert = dtls.generate_certificate().ok_or("no certificate could be made")?;
        Ok(pem("CERTIFICATE", &cert.certificate) + &pem("PRIVATE KEY", &cert.private_key))
    })?;
    let damaged = |reason: String| HomeError::Damaged { path: path.clone(), reason };
    let certificate = CertificateDer::from_pem_slice(text.as_bytes())
        .map_err(|error| damaged(format!("no certificate: {error}")))?;
    let key = PrivateKeyDer::from_pem_slice(text.as_bytes())
        .map_err(|error| damaged(format!("no private key: {error}")))?;
    let cert =
        DtlsCert { certificate: certificate.to_vec(), private_key: key.secret_der().to_vec() };
    // Checked now, by name: DTLS would panic at the first viewer.
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    CertifiedKey::from_der(vec![certificate], key, &provider)
        .map_err(|error| damaged(error.to_string()))?;
    Ok(cert)
}

/// One PEM block (RFC 7468).
pub fn pem(label: &str, der: &[u8]) -> String {
    let mut text = format!("-----BEGIN {label}-----\n");
    let base64 = STANDARD.encode(der);
    for line in base64.as_bytes().chunks(64) {
        text.push_str(std::str::from_utf8(line).expect("base64 is ASCII"));
        text.push('\n');
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

/// Creates `dir` and what lies above it, mode 700.
pub fn create_dir(dir: &Path) -> Result<(), HomeError> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(io_at(dir))
}

/// The text of a file that only its owner may read; made first where it is missing.
pub fn read_secret_or_create(
    path: &Path,
    make: impl FnOnce() -> Result<String, &'static str>,
) -> Result<String, HomeError> {
    if !path.try_exists().map_err(io_at(path))? {
        let text = make().map_err(|reason| HomeError::Io {
            path: path.to_owned(),
            error: io::Error::other(reason),
        })?;
        write_secret_if_absent(path, &text)?;
    }
    let mut file = File::open(path).map_err(io_at(path))?;
    let mode = file.metadata().map_err(io_at(path))?.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(HomeError::TooOpen { path: path.to_owned(), mode });
    }
    let mut text = String::new();
    (&mut file).take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(|error| {
        match error.kind() {
            io::ErrorKind::InvalidData => {
                HomeError::Damaged { path: path.to_owned(), reason: "not text".to_owned() }
            }
            _ => HomeError::Io { path: path.to_owned(), error },
        }
    })?;
    Ok(text)
}

/// The file appears whole or not at all; one that is there already stays: who comes second reads
/// it.
fn write_secret_if_absent(path: &Path, text: &str) -> Result<(), HomeError> {
    let temp = write_temp(path, text)?;
    let linked = fs::hard_link(&temp, path);
    fs::remove_file(&temp).map_err(io_at(&temp))?;
    match linked {
        Ok(()) => sync_parent(path),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(HomeError::Io { path: path.to_owned(), error }),
    }
}

fn write_temp(path: &Path, text: &str) -> Result<PathBuf, HomeError> {
    let mut name = path.file_name().expect("a file in the home has a name").to_owned();
    name.push(format!(".new-{}-{:08x}", std::process::id(), rand::rng().next_u32()));
    let temp = path.with_file_name(name);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temp)
        .map_err(io_at(&temp))?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(io_at(&temp))?;
    Ok(temp)
}

fn sync_parent(path: &Path) -> Result<(), HomeError> {
    // The parent of a bare name is empty and means the current directory.
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(io_at(dir))
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::PermissionsExt, sync::Barrier, thread};

    use tempfile::TempDir;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("exists").mode() & 0o777
    }

    #[test]
    fn keys_and_certificate_survive_a_restart_and_are_private() {
        let home = TempDir::new().unwrap();
        let (key, cert) = (issuer_key(home.path()), dtls_certificate(home.path()));
        let (key, cert) = (key.expect("made"), cert.expect("made"));
        assert_eq!(issuer_key(home.path()).expect("read").to_bytes(), key.to_bytes());
        let again = dtls_certificate(home.path()).expect("read");
        assert_eq!(again.certificate, cert.certificate);
        assert_eq!(again.private_key, cert.private_key);
        assert_eq!(mode(&home.path().join("keys/issuer.key")), 0o600);
        assert_eq!(mode(&home.path().join("keys")), 0o700);
        assert_eq!(mode(&home.path().join("dtls.pem")), 0o600);

        let other = TempDir::new().unwrap();
        assert_ne!(issuer_key(other.path()).expect("made").to_bytes(), key.to_bytes());
    }

    #[test]
    fn many_processes_that_make_the_key_at_once_end_with_the_same_key() {
        let home = TempDir::new().unwrap();
        let start = Barrier::new(8);
        let keys: Vec<_> = thread::scope(|scope| {
            let make = || {
                start.wait();
                issuer_key(home.path()).expect("made or read").to_bytes()
            };
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(make)).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        });
        assert!(keys.iter().all(|key| *key == keys[0]));
        let left = fs::read_dir(home.path().join("keys")).expect("a directory").count();
        assert_eq!(left, 1, "no temporary file stays");
    }

    #[test]
    fn a_secret_that_is_open_or_damaged_is_refused_by_name() {
        let home = TempDir::new().unwrap();
        issuer_key(home.path()).expect("made");
        let path = home.path().join("keys/issuer.key");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("ours");
        assert!(matches!(issuer_key(home.path()), Err(HomeError::TooOpen { mode: 0o640, .. })));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("ours");
        for text in ["", "00", &"g".repeat(64), &"é".repeat(32)] {
            fs::write(&path, text).expect("ours");
            assert!(matches!(issuer_key(home.path()), Err(HomeError::Damaged { .. })), "{text}");
        }
        let text = issuer_key(home.path()).expect_err("damaged").to_string();
        assert!(text.contains("or remove it to get a new one"), "{text}");
        let id = coordinator_key(home.path()).expect("made").node_id();
        assert_eq!(coordinator_key(home.path()).expect("read").node_id(), id, "the same node");
        fs::write(home.path().join("keys/coordinator.key"), "00").expect("ours");
        let text = coordinator_key(home.path()).expect_err("damaged").to_string();
        assert!(text.contains("or remove it to get a new one"), "{text}");
        // Nobody is told to throw money away.
        let path = home.path().join("keys/operator.key");
        fs::write(&path, "00").expect("ours");
        for mode in [0o640, 0o600] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("ours");
            let text = signing_key(home.path(), "operator").expect_err("unusable").to_string();
            assert!(text.contains("whose money nobody can move without it"), "{text}");
            assert!(!text.contains("or remove it"), "{text}");
        }

        dtls_certificate(home.path()).expect("made");
        let path = home.path().join("dtls.pem");
        let good = fs::read_to_string(&path).expect("made");
        let key_at = good.find("-----BEGIN PRIVATE KEY").expect("a key");
        let wrong_key = good[..key_at].to_owned() + &pem("PRIVATE KEY", b"no key");
        let other = TempDir::new().unwrap();
        dtls_certificate(other.path()).expect("made");
        let other = fs::read_to_string(other.path().join("dtls.pem")).expect("made");
        let crossed =
            good[..key_at].to_owned() + &other[other.find("-----BEGIN PRIV").expect("a key")..];
        for text in ["", &good[..key_at], &good[key_at..], &wrong_key, &crossed] {
            fs::write(&path, text).expect("ours");
            assert!(matches!(dtls_certificate(home.path()), Err(HomeError::Damaged { .. })));
        }
    }

    #[test]
    fn two_nodes_do_not_share_a_home() {
        let dir = TempDir::new().unwrap();
        let mut first = Home::open(dir.path()).expect("free");
        first.announce("http://127.0.0.1:8080").expect("ours");
        let refused = Home::open(dir.path()).expect_err("taken");
        assert!(
            matches!(&refused, HomeError::Locked { pid, .. } if *pid == std::process::id().to_string())
        );
        assert_eq!(announced_url(dir.path()).as_deref(), Some("http://127.0.0.1:8080"));
        drop(first);
        Home::open(dir.path()).expect("free again");
        assert_eq!(announced_url(dir.path()), None);
    }

    #[test]
    fn a_default_home_that_cannot_be_written_gives_way_with_a_sentence() {
        let temp = TempDir::new().unwrap();
        // `/proc` refuses directories to everybody, root included, but with `NotFound`; so the
        // refusal is made by a file in the way where root runs the tests.
        let blocked = temp.path().join("read-only");
        fs::create_dir(&blocked).expect("ours");
        fs::set_permissions(&blocked, fs::Permissions::from_mode(0o500)).expect("ours");
        let home = blocked.join("sutantra");
        // SAFETY: `geteuid` takes nothing and cannot fail.
        if unsafe { libc::geteuid() } == 0 {
            let (opened, warning) = Home::open_default(&home, temp.path()).expect("root may");
            assert_eq!((opened.dir(), warning), (home.as_path(), None));
        } else {
            let (opened, warning) = Home::open_default(&home, temp.path()).expect("gives way");
            assert!(opened.dir().starts_with(temp.path()) && warning.is_some());
        }
        fs::write(temp.path().join("file"), "").expect("ours");
        let in_the_way = temp.path().join("file").join("sutantra");
        assert!(matches!(Home::open_default(&in_the_way, temp.path()), Err(HomeError::Io { .. })));
    }
}
