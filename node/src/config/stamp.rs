//! The stamp of a home, `VERSION`: which layout its files have, who wrote it, whose blocks it holds.

use std::{
    fmt,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    str::FromStr,
};

/// Layout that this program writes.
pub const LAYOUT: u32 = 1;
/// The stamp's file in the home.
pub const FILE_NAME: &str = "VERSION";
/// What this program signs a stamp with.
const WRITER: &str = env!("CARGO_PKG_VERSION");
/// Longest stamp that is read; ours has under 100 bytes.
const FILE_BYTES_MAX: usize = 4096;
/// One layout to the next; `MIGRATIONS[0]` leads from layout 1 to 2. Each may be repeated after a
/// crash at any step: the stamp is raised when it is done.
const MIGRATIONS: &[fn(&Path) -> io::Result<()>] = &[];

const _: () = assert!(MIGRATIONS.len() + 1 == LAYOUT as usize, "each older layout has a way here");

/// Who makes the blocks of a home. Its blocks lie in its own files, so that no other one can go on
/// with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// In the process: `chain/blocks`.
    Embedded,
    /// A CometBFT, spawned or external: `data/`.
    Cometbft,
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Embedded => "embedded",
            Self::Cometbft => "cometbft",
        })
    }
}

impl FromStr for Engine {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "embedded" => Ok(Self::Embedded),
            "cometbft" => Ok(Self::Cometbft),
            _ => Err(()),
        }
    }
}

/// Why a home cannot be used; each sentence says what to do next.
#[derive(Debug, thiserror::Error)]
pub enum StampError {
    /// The system refuses.
    #[error("{}: {error}; make it readable and writable for this user", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// Somebody wrote into it.
    #[error("{} is damaged ({reason}): write `layout = {LAYOUT}` into it if this home is from version {WRITER}, or restore it from a copy", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// From the future.
    #[error("{} has layout {layout}, written by version {version}; this is version {WRITER}, which knows layouts up to {LAYOUT}: use version {version} or newer, or another --home DIR", home.display())]
    Newer {
        /// The home.
        home: PathBuf,
        /// Its layout.
        layout: u32,
        /// Who wrote it.
        version: String,
    },
    /// A step to a newer layout failed; the home is as it was.
    #[error("{} could not be brought from layout {from} to {}: {error}; nothing was lost, mend that and start again", home.display(), from + 1)]
    Migration {
        /// The home.
        home: PathBuf,
        /// From which.
        from: u32,
        /// What the system says.
        error: io::Error,
    },
    /// Another engine's blocks.
    #[error("the blocks of {} were made by the {} and cannot be continued by the {}: start with --comet {}, or begin another home with --home DIR", home.display(), words(*has), words(*wanted), option(*has))]
    OtherEngine {
        /// The home.
        home: PathBuf,
        /// Whose blocks are there.
        has: Engine,
        /// Who was to go on.
        wanted: Engine,
    },
}

fn words(engine: Engine) -> &'static str {
    match engine {
        Engine::Embedded => "embedded engine",
        Engine::Cometbft => "CometBFT beside it",
    }
}

fn option(engine: Engine) -> &'static str {
    match engine {
        Engine::Embedded => "embedded",
        Engine::Cometbft => "spawn or external",
    }
}

/// What `VERSION` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    /// Of the files.
    pub layout: u32,
    /// Who wrote it last.
    pub version: String,
    /// Whose blocks are there; `None`: there are none.
    pub engine: Option<Engine>,
}

/// Reads a home's stamp, migrates an older layout, stamps a home that has none. To be called by the
/// process that has locked the home, before it touches anything else there.
///
/// # Errors
/// See [`StampError`]; the home is unchanged then.
pub fn open(home: &Path) -> Result<Stamp, StampError> {
    migrate(home, LAYOUT, MIGRATIONS)
}

fn migrate(
    home: &Path,
    newest: u32,
    migrations: &[fn(&Path) -> io::Result<()>],
) -> Result<Stamp, StampError> {
    let (mut stamp, is_there) = match read(home)? {
        Some(stamp) => (stamp, true),
        // Homes were not stamped before there was a second layout to tell them from.
        None => {
            let engine = home.join("chain/blocks").is_dir().then_some(Engine::Embedded);
            (Stamp { layout: 1, version: WRITER.to_owned(), engine }, false)
        }
    };
    if stamp.layout > newest {
        let Stamp { layout, version, .. } = stamp;
        return Err(StampError::Newer { home: home.to_owned(), layout, version });
    }
    let before = stamp.clone();
    for migration in migrations.iter().skip(stamp.layout as usize - 1) {
        let from = stamp.layout;
        migration(home).map_err(|error| StampError::Migration {
            home: home.to_owned(),
            from,
            error,
        })?;
        stamp.layout += 1;
        stamp.version = WRITER.to_owned();
        write(home, &stamp)?;
        tracing::info!(from, to = stamp.layout, "the home's layout was migrated");
    }
    stamp.version = WRITER.to_owned();
    if !is_there || stamp != before {
        write(home, &stamp)?;
    }
    Ok(stamp)
}

/// Says who makes the blocks of this home from now on.
///
/// # Errors
/// Another engine's blocks are there, or the stamp cannot be written.
pub fn claim_engine(home: &Path, wanted: Engine) -> Result<(), StampError> {
    let mut stamp = open(home)?;
    match stamp.engine {
        Some(has) if has == wanted => Ok(()),
        Some(has) => Err(StampError::OtherEngine { home: home.to_owned(), has, wanted }),
        None => {
            stamp.engine = Some(wanted);
            write(home, &stamp)
        }
    }
}

/// The stamp as it is; `None`: there is none.
///
/// # Errors
/// It cannot be read, or is no stamp.
pub fn read(home: &Path) -> Result<Option<Stamp>, StampError> {
    let path = home.join(FILE_NAME);
    let text = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(StampError::Io { path, error }),
    };
    let damaged =
        |reason: &str| StampError::Damaged { path: path.clone(), reason: reason.to_owned() };
    if text.len() > FILE_BYTES_MAX {
        return Err(damaged("it is too long"));
    }
    let text = String::from_utf8(text).map_err(|_| damaged("it is not text"))?;
    parse(&text).map(Some).map_err(|reason| damaged(&reason))
}

fn parse(text: &str) -> Result<Stamp, String> {
    let (mut layout, mut version, mut engine) = (None, None, None);
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (key, value) = line.split_once('=').ok_or_else(|| format!("no `=` in `{line}`"))?;
        match (key.trim(), value.trim()) {
            ("layout", value) => {
                let number = value.parse().ok().filter(|number| *number > 0);
                layout = Some(number.ok_or_else(|| format!("`{value}` is no layout"))?);
            }
            ("version", value) => version = Some(value.to_owned()),
            ("engine", value) => {
                engine = Some(value.parse().map_err(|()| format!("no engine is `{value}`"))?);
            }
            // A newer program's line: its layout number decides whether that matters.
            _ => {}
        }
    }
    let layout = layout.ok_or("it names no layout")?;
    Ok(Stamp { layout, version: version.unwrap_or_else(|| "unknown".to_owned()), engine })
}

/// The file is replaced whole: after a crash it is the old one or the new one.
fn write(home: &Path, stamp: &Stamp) -> Result<(), StampError> {
    let path = home.join(FILE_NAME);
    let Stamp { layout, version, engine } = stamp;
    let mut text = format!("layout = {layout}\nversion = {version}\n");
    if let Some(engine) = engine {
        text.push_str(&format!("engine = {engine}\n"));
    }
    let temp = home.join(format!("{FILE_NAME}.new"));
    let replace = || -> io::Result<()> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(&temp)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temp, &path)?;
        File::open(home)?.sync_all()
    };
    replace().map_err(|error| StampError::Io { path: path.clone(), error })
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn text(home: &TempDir) -> String {
        fs::read_to_string(home.path().join(FILE_NAME)).expect("stamped")
    }

    #[test]
    fn a_home_without_a_stamp_gets_one_and_keeps_it() {
        let home = TempDir::new().unwrap();
        let stamp = open(home.path()).expect("new");
        assert_eq!(stamp, Stamp { layout: 1, version: WRITER.to_owned(), engine: None });
        assert_eq!(text(&home), format!("layout = 1\nversion = {WRITER}\n"));
        assert_eq!(open(home.path()).expect("read"), stamp);
    }

    #[test]
    fn an_unstamped_home_with_blocks_is_the_embedded_engines() {
        let home = TempDir::new().unwrap();
        fs::create_dir_all(home.path().join("chain/blocks")).expect("ours");
        assert_eq!(open(home.path()).expect("read").engine, Some(Engine::Embedded));
        let refused = claim_engine(home.path(), Engine::Cometbft).expect_err("its blocks");
        assert_eq!(
            refused.to_string(),
            format!(
                "the blocks of {} were made by the embedded engine and cannot be continued by the \
                 CometBFT beside it: start with --comet embedded, or begin another home with --home DIR",
                home.path().display()
            )
        );
        claim_engine(home.path(), Engine::Embedded).expect("its own");
    }

    #[test]
    fn an_engine_that_made_blocks_is_the_only_one() {
        let home = TempDir::new().unwrap();
        claim_engine(home.path(), Engine::Cometbft).expect("nobody's yet");
        assert!(text(&home).ends_with("engine = cometbft\n"));
        claim_engine(home.path(), Engine::Cometbft).expect("its own");
        let refused = claim_engine(home.path(), Engine::Embedded).expect_err("others' blocks");
        assert!(refused.to_string().contains("--comet spawn or external"), "{refused}");
    }

    #[test]
    fn a_newer_layout_is_refused_and_untouched() {
        let home = TempDir::new().unwrap();
        let future = "layout = 7\nversion = 3.1.4\nshape = round\n";
        fs::write(home.path().join(FILE_NAME), future).expect("ours");
        let refused = open(home.path()).expect_err("from the future").to_string();
        assert!(refused.contains("layout 7, written by version 3.1.4"), "{refused}");
        assert!(refused.contains("use version 3.1.4 or newer"), "{refused}");
        assert_eq!(text(&home), future);
    }

    #[test]
    fn an_older_layout_is_migrated_step_by_step_and_never_half() {
        let home = TempDir::new().unwrap();
        open(home.path()).expect("new");
        let note = |home: &Path, name: &str| fs::write(home.join(name), "");
        fn fails(_: &Path) -> io::Result<()> {
            Err(io::Error::other("no room"))
        }
        let two: fn(&Path) -> io::Result<()> = |home| fs::write(home.join("two"), "");
        let refused = migrate(home.path(), 3, &[two, fails]).expect_err("the second step fails");
        assert!(refused.to_string().contains("from layout 2 to 3: no room"), "{refused}");
        assert!(text(&home).starts_with("layout = 2\n"), "the first step is done");
        note(home.path(), "kept").expect("ours");
        // What was done is not done again.
        let three: fn(&Path) -> io::Result<()> = |home| fs::write(home.join("three"), "");
        let stamp = migrate(home.path(), 3, &[fails, three]).expect("the rest");
        assert!(stamp.layout == 3 && home.path().join("three").exists());
    }

    #[test]
    fn what_is_no_stamp_is_refused() {
        #[track_caller]
        fn check(text: &[u8], reason: &str) {
            let home = TempDir::new().unwrap();
            fs::write(home.path().join(FILE_NAME), text).expect("ours");
            let refused = open(home.path()).expect_err("damaged").to_string();
            assert!(refused.contains(reason), "{refused}");
        }
        check(b"", "names no layout");
        check(b"layout = 0\n", "`0` is no layout");
        check(b"layout = 1\nengine = steam\n", "no engine is `steam`");
        check(b"once upon a time", "no `=`");
        check(&[0xff], "not text");
        check(&[b'#'; 5000], "too long");
    }
}
