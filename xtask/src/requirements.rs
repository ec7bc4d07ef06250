//! The table of requirements, held against the tests that cite it and the files that it names.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail, ensure};

use crate::citations::{self, Number};
use crate::workspace::Workspace;

/// The table's last number; the table holds each from 1 on exactly once.
pub const NUMBER_MAX: Number = 122;
const TABLE: &str = "docs/requirements.md";

/// One row of docs/requirements.md.
#[derive(Debug, PartialEq, Eq)]
pub struct Requirement {
    /// 34 for R34.
    pub number: Number,
    /// What is required.
    pub text: String,
    /// The crates that hold it.
    pub home: String,
    /// What shows that it works.
    pub acceptance: String,
    /// Whether this milestone builds it, at least in part.
    pub now: bool,
}

/// Prints which requirements tests cite and which none does; checks the tables.
pub fn report(workspace: &Workspace) -> Result<()> {
    let table = read(workspace)?;
    let citations = citations::collect(workspace)?;
    if let Some(unknown) = citations.keys().find(|number| **number > NUMBER_MAX || **number == 0) {
        let files: Vec<_> = citations[unknown].iter().map(|file| file.display()).collect();
        bail!("R{unknown} is not in {TABLE}; cited by {files:?}");
    }
    for (title, now) in [("this milestone", true), ("later milestones", false)] {
        let rows: Vec<_> = table.iter().filter(|row| row.now == now).collect();
        let (cited, uncited): (Vec<&Requirement>, Vec<&Requirement>) =
            rows.iter().partition(|row| citations.contains_key(&row.number));
        println!("{title}: {} of {} requirements are cited by a test", cited.len(), rows.len());
        if now {
            for row in cited {
                let files: Vec<_> =
                    citations[&row.number].iter().map(|file| file.display().to_string()).collect();
                println!("  R{:<4}{}", row.number, files.join(", "));
            }
            for row in uncited {
                println!("  R{:<4}no test: {} [{}]", row.number, row.text, row.home);
            }
        } else {
            println!("  no test: {}", list(uncited.iter().map(|row| row.number)));
        }
    }
    let modules = check_modules(&workspace.read("ARCHITECTURE.md")?, |path| workspace.has(path))?;
    println!("module table: {} files exist, {} are not built yet", modules.0, modules.1);
    Ok(())
}

/// `R1 R2 …` of the requirements that tests cite.
pub fn cited(workspace: &Workspace) -> Result<String> {
    Ok(list(citations::collect(workspace)?.into_keys()))
}

fn list(numbers: impl Iterator<Item = Number>) -> String {
    numbers.map(|number| format!("R{number}")).collect::<Vec<_>>().join(" ")
}

/// The table, in order.
pub fn read(workspace: &Workspace) -> Result<Vec<Requirement>> {
    parse(&workspace.read(TABLE)?).context(TABLE)
}

/// Rows `| R1 | text | home | acceptance |`, and the line `**This milestone:** R1 R6 …`.
fn parse(text: &str) -> Result<Vec<Requirement>> {
    let now: BTreeSet<Number> = text
        .lines()
        .filter(|line| line.starts_with("**This milestone"))
        .flat_map(citations::numbers)
        .collect();
    ensure!(!now.is_empty(), "no line `**This milestone…` names the current requirements");
    let mut rows = BTreeMap::new();
    for line in text.lines().filter(|line| line.starts_with("| R")) {
        let cells: Vec<&str> = cells(line);
        let [id, text, home, acceptance] = cells[..] else {
            bail!("{} cells instead of 4: {line}", cells.len())
        };
        let Some(number) = id.strip_prefix('R').and_then(|number| number.parse().ok()) else {
            continue; // The heading row.
        };
        ensure!(!text.is_empty() && !home.is_empty() && !acceptance.is_empty(), "empty: {line}");
        let row = Requirement {
            number,
            text: text.to_owned(),
            home: home.to_owned(),
            acceptance: acceptance.to_owned(),
            now: now.contains(&number),
        };
        ensure!(rows.insert(number, row).is_none(), "R{number} stands twice");
    }
    for number in 1..=NUMBER_MAX {
        ensure!(rows.contains_key(&number), "R{number} is missing");
    }
    ensure!(rows.len() == usize::from(NUMBER_MAX), "rows beyond R{NUMBER_MAX}");
    Ok(rows.into_values().collect())
}

/// The cells of a row of a Markdown table; `\|` is no border.
fn cells(line: &str) -> Vec<&str> {
    let line = line.trim().trim_start_matches('|');
    let line = line.strip_suffix('|').unwrap_or(line);
    let mut cells = Vec::new();
    let mut start = 0;
    for (at, _) in line.match_indices('|') {
        if !line[..at].ends_with('\\') {
            cells.push(line[start..at].trim());
            start = at + 1;
        }
    }
    cells.push(line[start..].trim());
    cells
}

/// R122: each row of the module table names files that exist, or says `not built yet`. Answers how
/// many files exist and how many rows wait.
pub fn check_modules(architecture: &str, exists: impl Fn(&str) -> bool) -> Result<(usize, usize)> {
    let section = architecture
        .split("\n## ")
        .find(|section| section.starts_with("Module names"))
        .context("ARCHITECTURE.md has no section `## Module names`")?;
    let (mut files, mut waiting) = (0, 0);
    for line in section.lines().filter(|line| line.starts_with("| `")) {
        let cells = cells(line);
        let [name, place] = cells[..] else { bail!("{} cells instead of 2: {line}", cells.len()) };
        if place.contains("not built yet") {
            waiting += 1;
            continue;
        }
        let named: Vec<&str> = place.split('`').skip(1).step_by(2).collect();
        ensure!(!named.is_empty(), "{name}: names no file and does not say `not built yet`");
        for path in named {
            ensure!(exists(path), "{name}: {path} does not exist");
            files += 1;
        }
    }
    ensure!(files > 0, "the section `## Module names` of ARCHITECTURE.md has no table");
    Ok((files, waiting))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(rows: impl Iterator<Item = Number>) -> String {
        let mut text = "**This milestone:** R1 R6.\n| R | a | b | c |\n".to_owned();
        rows.for_each(|number| text += &format!("| R{number} | text | sfu | a test |\n"));
        text
    }

    #[test]
    fn a_whole_table_is_read_in_order() {
        let rows = parse(&table((1..=NUMBER_MAX).rev())).unwrap();
        assert_eq!(rows.len(), usize::from(NUMBER_MAX));
        assert_eq!((rows[5].number, rows[5].now, rows[6].now), (6, true, false));
    }

    #[test]
    fn gaps_doubles_and_torn_rows_are_refused() {
        let refused = |text: String| parse(&text).unwrap_err().to_string();
        assert_eq!(refused(table((1..=NUMBER_MAX).filter(|n| *n != 7))), "R7 is missing");
        assert_eq!(refused(table((1..=NUMBER_MAX).chain([7]))), "R7 stands twice");
        assert!(refused(table(1..=NUMBER_MAX + 1)).contains("beyond"));
        assert!(refused(table(1..=NUMBER_MAX) + "| R1 | text |\n").contains("2 cells"));
    }

    #[test]
    fn a_module_row_names_a_file_or_says_that_it_waits() {
        let check = |rows: &str| {
            let text = format!("# A\n\n## Module names\n\n{rows}\n\n## Next\n| `x` | `gone` |\n");
            check_modules(&text, |path| path == "a.rs").map_err(|error| error.to_string())
        };
        assert_eq!(check("| `a` | `a.rs` |\n| `b` | not built yet |"), Ok((1, 1)));
        assert!(check("| `b` | `b.rs` |").unwrap_err().contains("b.rs does not exist"));
        assert!(check("| `b` | soon |").unwrap_err().contains("names no file"));
        assert!(check("").unwrap_err().contains("no table"));
    }
}
