//! Where the CometBFT program is, and whether it is one that this node works with.

use std::{
    env,
    ffi::OsString,
    fmt, fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

/// The command that installs a CometBFT that fits.
pub const GO_INSTALL: &str = "go install github.com/cometbft/cometbft/cmd/cometbft@v0.38.26";
/// The version that [`GO_INSTALL`] installs.
pub const VERSION_INSTALLED: Version = Version { major: 0, minor: 38, patch: 26 };

/// File name of the program.
const PROGRAM: &str = "cometbft";
/// How long `cometbft version` may take; it needs 30 ms, or a second from a cold disk.
const VERSION_TIME_MAX: Duration = Duration::from_secs(10);
/// Between two looks at a program that has not answered yet.
const POLL: Duration = Duration::from_millis(5);

/// A release of CometBFT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// 0 in all releases that this node works with.
    pub major: u16,
    /// The line of releases: its blocks and its ABCI.
    pub minor: u16,
    /// Corrections.
    pub patch: u16,
}

impl Version {
    /// Reads what `cometbft version` prints: `0.38.26`, `v0.38.26`, `0.38.26+1a2b3c`.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let mut parts = text.strip_prefix('v').unwrap_or(text).splitn(3, '.');
        let mut number = || {
            let part = parts.next()?;
            let digits = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
            part[..digits].parse().ok()
        };
        Some(Version { major: number()?, minor: number()?, patch: number()? })
    }

    /// Whether its ABCI (2.0.0) and its blocks (protocol 11) are the ones of this node.
    pub fn is_supported(self) -> bool {
        self.major == 0 && matches!(self.minor, 38 | 39)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// A CometBFT program that this node works with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binary {
    /// Where it is.
    pub path: PathBuf,
    /// What it says that it is.
    pub version: Version,
}

/// Why there is no CometBFT to start. Each sentence says how to get one.
#[derive(Debug, thiserror::Error)]
pub enum BinaryError {
    /// A program that somebody named is not there.
    #[error("{said_by} names {}, which is no program: {}", path.display(), how())]
    Missing {
        /// The flag or variable.
        said_by: &'static str,
        /// What it names.
        path: PathBuf,
    },
    /// A program is there, and does not fit.
    #[error("{found}; this node works with CometBFT 0.38.x and 0.39.x: {}", how())]
    Unsuitable {
        /// What was found, where.
        found: String,
    },
    /// Nothing is anywhere.
    #[error("CometBFT is not installed: {}", how())]
    NotFound,
}

/// How to get the right program.
fn how() -> String {
    format!(
        "`cargo xtask tools` installs {VERSION_INSTALLED} in a checkout, `{GO_INSTALL}` anywhere \
         (it needs Go); or say where it is with --comet-bin FILE"
    )
}

/// What the search for the program depends on besides files.
pub struct Places<'a> {
    /// A variable of the environment.
    pub env: &'a dyn Fn(&str) -> Option<OsString>,
    /// `.tools/` is looked for here and above.
    pub current_dir: Option<PathBuf>,
    /// The program may lie beside this one.
    pub executable: Option<PathBuf>,
}

impl Places<'_> {
    /// In order; the first that fits is taken.
    fn candidates(&self) -> Vec<PathBuf> {
        let env = |name| (self.env)(name).filter(|value| !value.is_empty());
        let mut found = Vec::new();
        if let Some(dir) = &self.current_dir {
            found.extend(dir.ancestors().map(|dir| dir.join(".tools").join(PROGRAM)));
        }
        found.extend(self.executable.as_ref().map(|program| program.with_file_name(PROGRAM)));
        if let Some(path) = env("PATH") {
            found.extend(env::split_paths(&path).map(|dir| dir.join(PROGRAM)));
        }
        found.extend(env("GOBIN").map(|dir| PathBuf::from(dir).join(PROGRAM)));
        if let Some(path) = env("GOPATH") {
            found.extend(env::split_paths(&path).map(|dir| dir.join("bin").join(PROGRAM)));
        }
        found.extend(env("HOME").map(|dir| PathBuf::from(dir).join("go/bin").join(PROGRAM)));
        found
    }
}

impl Binary {
    /// Finds the program: `given`, else `$SUTANTRA_COMET_BIN`, else the first that fits of
    /// `.tools/cometbft` here and above, beside this program, on `$PATH`, in `$GOBIN`,
    /// `$GOPATH/bin` and `~/go/bin`.
    ///
    /// # Errors
    /// What was found instead, and how to get the right one.
    pub fn find(given: Option<&Path>) -> Result<Self, BinaryError> {
        Self::find_in(
            given,
            &Places {
                env: &|name| env::var_os(name),
                current_dir: env::current_dir().ok(),
                executable: env::current_exe().ok(),
            },
        )
    }

    /// As [`Binary::find`], with other surroundings than this process's.
    ///
    /// # Errors
    /// As there.
    pub fn find_in(given: Option<&Path>, places: &Places<'_>) -> Result<Self, BinaryError> {
        const VARIABLE: &str = "SUTANTRA_COMET_BIN";
        let named = match given {
            Some(path) => Some(("--comet-bin", path.to_owned())),
            None => (places.env)(VARIABLE)
                .filter(|value| !value.is_empty())
                .map(|value| (VARIABLE, PathBuf::from(value))),
        };
        // Who names a program means that one: another is never taken in its place.
        if let Some((said_by, path)) = named {
            // A bare name is a file here; run as it is, it would be looked for on the PATH.
            let path = std::path::absolute(&path).unwrap_or(path);
            if !is_program(&path) {
                return Err(BinaryError::Missing { said_by, path });
            }
            return Self::ask(&path).map_err(|found| BinaryError::Unsuitable { found });
        }
        let mut unsuitable = None;
        for path in places.candidates().into_iter().filter(|path| is_program(path)) {
            match Self::ask(&path) {
                Ok(binary) => return Ok(binary),
                Err(found) => unsuitable = unsuitable.or(Some(found)),
            }
        }
        Err(match unsuitable {
            Some(found) => BinaryError::Unsuitable { found },
            None => BinaryError::NotFound,
        })
    }

    /// Asks a program what it is.
    ///
    /// # Errors
    /// What it is instead of a CometBFT that fits: the first half of a sentence.
    fn ask(path: &Path) -> Result<Self, String> {
        let shown = path.display();
        let output = version_of(path).map_err(|error| format!("{shown} does not run: {error}"))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let Some(version) = Version::parse(&text).filter(|_| output.status.success()) else {
            let words: String = text.trim().chars().take(80).collect();
            return Err(format!("{shown} says {words:?} when it is asked for its version"));
        };
        match version.is_supported() {
            true => Ok(Self { path: path.to_owned(), version }),
            false => Err(format!("{shown} is CometBFT {version}")),
        }
    }
}

fn is_program(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// `PATH version`, bounded in time: whatever lies there may be anything.
fn version_of(path: &Path) -> io::Result<Output> {
    let mut child = Command::new(path)
        .arg("version")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let until = Instant::now() + VERSION_TIME_MAX;
    // What it prints is a line: it fits into the pipe, and nobody has to read meanwhile.
    while child.try_wait()?.is_none() {
        if Instant::now() >= until {
            child.kill()?;
            child.wait()?;
            return Err(io::Error::new(io::ErrorKind::TimedOut, "no answer to `version`"));
        }
        thread::sleep(POLL);
    }
    child.wait_with_output()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_read_as_cometbft_prints_it() {
        let of = |major, minor, patch| Some(Version { major, minor, patch });
        for (text, expected) in [
            ("0.38.26\n", of(0, 38, 26)),
            ("v0.39.4", of(0, 39, 4)),
            ("0.38.26+1a2b3c4", of(0, 38, 26)),
            ("1.0.1-rc1", of(1, 0, 1)),
            ("0.38", None),
            ("cometbft 0.38.1", None),
            ("0.38.x", None),
            ("0.99999.1", None),
            ("", None),
        ] {
            assert_eq!(Version::parse(text), expected, "{text:?}");
        }
    }

    #[test]
    fn two_lines_of_releases_fit() {
        let fits = |text| Version::parse(text).expect("a version").is_supported();
        assert!(fits("0.38.0") && fits("0.38.26") && fits("0.39.4"));
        assert!(!fits("0.37.15") && !fits("0.40.0") && !fits("1.0.1") && !fits("1.38.0"));
        assert!(VERSION_INSTALLED.is_supported());
        assert!(GO_INSTALL.ends_with(&format!("@v{VERSION_INSTALLED}")));
    }

    #[test]
    fn the_checkout_comes_before_the_path_and_the_path_before_go() {
        let env = |name: &str| {
            Some(OsString::from(match name {
                "PATH" => "/bin:/usr/bin",
                "GOBIN" => "/gobin",
                "GOPATH" => "/gopath",
                "HOME" => "/home/ann",
                _ => return None,
            }))
        };
        let places = Places {
            env: &env,
            current_dir: Some("/src/sutantra".into()),
            executable: Some("/opt/sutantra-node".into()),
        };
        let shown: Vec<String> =
            places.candidates().iter().map(|path| path.display().to_string()).collect();
        assert_eq!(
            shown,
            [
                "/src/sutantra/.tools/cometbft",
                "/src/.tools/cometbft",
                "/.tools/cometbft",
                "/opt/cometbft",
                "/bin/cometbft",
                "/usr/bin/cometbft",
                "/gobin/cometbft",
                "/gopath/bin/cometbft",
                "/home/ann/go/bin/cometbft",
            ]
        );
    }
}
