//! Where the programs of a comparison are found, and how to get them when they are not.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// A program that a comparison starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// `livekit-server` 1.13.5.
    LiveKit,
    /// `janus` 1.1 or later.
    Janus,
    /// `sutantra-node`.
    Node,
    /// `sutantra-bench`, which carries the plain SFU.
    Bench,
}

/// The program is not here; the sentence says how to get it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Absent {
    /// Nowhere where it is looked for.
    #[error("{name} is not installed: {remedy}")]
    NotFound {
        /// Its name.
        name: &'static str,
        /// What to do.
        remedy: &'static str,
    },
    /// The file that was named is none.
    #[error("{0}: no such program")]
    NoFile(PathBuf),
}

/// Where to look.
#[derive(Debug, Clone, Default)]
pub struct Search {
    /// `PATH`.
    pub path: Option<OsString>,
    /// The user's home.
    pub home: Option<PathBuf>,
    /// The program that looks: others of the workspace lie beside it.
    pub beside: Option<PathBuf>,
}

impl Search {
    /// That of this process.
    pub fn of_process() -> Self {
        Self {
            path: std::env::var_os("PATH"),
            home: std::env::var_os("HOME").map(PathBuf::from),
            beside: std::env::current_exe().ok(),
        }
    }

    /// The program's file: `named` if that is given, else the first that is there.
    ///
    /// # Errors
    /// It is not there.
    pub fn find(&self, program: Program, named: Option<&Path>) -> Result<PathBuf, Absent> {
        if let Some(named) = named {
            let found = named.is_file().then(|| named.to_owned());
            return found.ok_or_else(|| Absent::NoFile(named.to_owned()));
        }
        let found = self.candidates(program).into_iter().find(|candidate| candidate.is_file());
        found.ok_or_else(|| program.absent())
    }

    fn candidates(&self, program: Program) -> Vec<PathBuf> {
        let in_path = |name: &str| -> Vec<PathBuf> {
            let folders = self.path.iter().flat_map(std::env::split_paths);
            folders.map(|folder| folder.join(name)).collect()
        };
        let beside = |name: &str| -> Vec<PathBuf> {
            // Tests lie a folder deeper than programs.
            let folders = self.beside.iter().flat_map(|file| file.ancestors().skip(1).take(2));
            folders.map(|folder| folder.join(name)).collect()
        };
        match program {
            Program::LiveKit => {
                let mut all = vec![PathBuf::from(".tools/livekit-server")];
                all.extend(in_path("livekit-server"));
                // `go install` names it after its package.
                let go = self.home.iter().map(|home| home.join("go/bin"));
                all.extend(go.flat_map(|go| [go.join("livekit-server"), go.join("server")]));
                all
            }
            Program::Janus => in_path("janus"),
            Program::Node => beside("sutantra-node"),
            Program::Bench => beside("sutantra-bench"),
        }
    }
}

impl Program {
    fn absent(self) -> Absent {
        let (name, remedy) = match self {
            Self::LiveKit => (
                "LiveKit",
                "`go install github.com/livekit/livekit-server/cmd/server@v1.13.5`, or name it by \
                 --livekit FILE or SUTANTRA_LIVEKIT_BIN",
            ),
            Self::Janus => ("Janus", "`apt-get install janus`, or name it by --janus FILE"),
            Self::Node => ("sutantra-node", "`cargo build --release -p node`, or --node FILE"),
            Self::Bench => ("sutantra-bench", "`cargo build --release -p bench`"),
        };
        Absent::NotFound { name, remedy }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_in_path_beside_and_by_name_or_the_remedy_is_told() {
        let folder = std::env::temp_dir().join(format!("bench-programs-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a temporary folder");
        for name in ["janus", "sutantra-node"] {
            std::fs::write(folder.join(name), "").expect("a temporary file");
        }
        let nowhere = Search::default();
        let search = Search {
            path: Some(folder.clone().into_os_string()),
            home: None,
            beside: Some(folder.join("deps/test")),
        };
        assert_eq!(search.find(Program::Janus, None), Ok(folder.join("janus")));
        assert_eq!(search.find(Program::Node, None), Ok(folder.join("sutantra-node")));
        let named = folder.join("janus");
        assert_eq!(nowhere.find(Program::LiveKit, Some(&named)), Ok(named.clone()));
        std::fs::remove_dir_all(&folder).expect("it is there");
        let refused = nowhere.find(Program::LiveKit, Some(&named)).err();
        assert_eq!(refused, Some(Absent::NoFile(named)));
        for (program, remedy) in [
            (Program::LiveKit, "go install github.com/livekit/livekit-server/cmd/server@v1.13.5"),
            (Program::Janus, "apt-get install janus"),
            (Program::Node, "cargo build --release -p node"),
            (Program::Bench, "cargo build --release -p bench"),
        ] {
            // LiveKit may lie in the folder of tools of whoever runs this.
            if let Err(absent) = nowhere.find(program, None) {
                assert!(absent.to_string().contains(remedy), "{absent}");
            }
        }
    }
}
