//! Which requirements the tests cite: `/// R34` in Rust, `// R34` in JavaScript.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::workspace::Workspace;

/// Number of a requirement, 34 for R34.
pub type Number = u16;

/// The files that cite each requirement.
pub fn collect(workspace: &Workspace) -> Result<BTreeMap<Number, BTreeSet<PathBuf>>> {
    let mut citations: BTreeMap<Number, BTreeSet<PathBuf>> = BTreeMap::new();
    for file in workspace.files()? {
        let Some(language) = Language::of(&file) else { continue };
        for number in cited(&workspace.read(&file)?, language) {
            citations.entry(number).or_default().insert(file.clone());
        }
    }
    Ok(citations)
}

/// How the tests of a file are told from its other code.
#[derive(Debug, Clone, Copy)]
enum Language {
    /// From the first `#[cfg(test)]` on; without one the whole file, if it holds a test.
    RustModule,
    /// The whole file is tests.
    TestFile,
}

impl Language {
    fn of(file: &Path) -> Option<Language> {
        let extension = file.extension()?.to_str()?;
        let within = |name: &str| file.iter().any(|part| part == name);
        let name = file.file_name()?.to_str()?;
        match extension {
            "rs" if within("tests") || within("loom") || within("fuzz") => Some(Language::TestFile),
            "rs" => Some(Language::RustModule),
            "js" | "mjs" | "ts" if within("e2e") || within("test") || name.contains(".test.") => {
                Some(Language::TestFile)
            }
            _ => None,
        }
    }
}

fn cited(text: &str, language: Language) -> BTreeSet<Number> {
    let is = |attribute: &'static str| move |line: &str| line.trim_start().starts_with(attribute);
    let skipped = match language {
        Language::TestFile => 0,
        Language::RustModule => match text.lines().position(is("#[cfg(test)]")) {
            Some(line) => line,
            None if text.lines().any(is("#[test]")) => 0,
            None => return BTreeSet::new(),
        },
    };
    let comments =
        text.lines().skip(skipped).filter_map(|line| line.trim_start().strip_prefix("//"));
    comments.flat_map(numbers).collect()
}

/// The words `R<number>` of a line.
pub fn numbers(text: &str) -> impl Iterator<Item = Number> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric());
    words.filter_map(|word| word.strip_prefix('R')?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(language: Language, text: &str, expected: &[Number]) {
        assert_eq!(cited(text, language).into_iter().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn comments_of_tests_cite() {
        check(Language::TestFile, "// R34\n    /// R7 and R106: both.\n", &[7, 34, 106]);
        check(Language::RustModule, "/// R1\n#[cfg(test)]\nmod tests {\n /// R2\n", &[2]);
        check(Language::RustModule, "/// R3\n#[test]\nfn in_a_file_of_tests() {}\n", &[3]);
    }

    #[test]
    fn code_and_look_alikes_cite_nothing() {
        check(Language::TestFile, "let a = R34;\n// RFC 3550, R, RR1, R1a, R-5\n", &[]);
        check(Language::RustModule, "/// R1\nfn untested() {}\n", &[]);
    }

    #[test]
    fn only_files_with_tests_are_read() {
        let is_read = |name: &str| Language::of(Path::new(name)).is_some();
        for name in ["sfu/src/lib.rs", "sfu/tests/no_alloc.rs", "web/e2e/watch.mjs"] {
            assert!(is_read(name), "{name}");
        }
        for name in ["web/pages/watch.js", "docs/requirements.md", ".ci/run"] {
            assert!(!is_read(name), "{name}");
        }
    }
}
