//! What `doctor` found: one line each with its remedies, or JSON.

use std::fmt::Write as _;

use serde_json::json;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// As it should be.
    Ok,
    /// Works, and could be better.
    Warning,
    /// Does not work.
    Bad,
}

impl Level {
    const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Bad => "bad",
        }
    }

    const fn mark(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => " !",
            Self::Bad => "!!",
        }
    }
}

/// One fact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What it is about, for people and as a key.
    pub name: String,
    /// How bad.
    pub level: Level,
    /// What was found.
    pub found: String,
    /// What to do about it; nothing where all is well.
    pub remedy: Vec<String>,
}

impl Finding {
    /// As it should be.
    pub fn ok(name: impl Into<String>, found: impl Into<String>) -> Self {
        Self { name: name.into(), level: Level::Ok, found: found.into(), remedy: vec![] }
    }

    /// Could be better.
    pub fn warning(
        name: impl Into<String>,
        found: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        let remedy = vec![remedy.into()];
        Self { name: name.into(), level: Level::Warning, found: found.into(), remedy }
    }

    /// Does not work.
    pub fn bad(
        name: impl Into<String>,
        found: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { level: Level::Bad, ..Self::warning(name, found, remedy) }
    }
}

/// For people, newline at its end.
pub fn text(findings: &[Finding]) -> String {
    let width = findings.iter().map(|finding| finding.name.chars().count()).max().unwrap_or(0);
    let mut out = String::new();
    for Finding { name, level, found, remedy } in findings {
        writeln!(out, "{} {name:width$}  {found}", level.mark()).expect("a string takes all");
        for line in remedy {
            writeln!(out, "   {:width$}    → {line}", "").expect("a string takes all");
        }
    }
    let count = |level| findings.iter().filter(|finding| finding.level == level).count();
    let (bad, warnings) = (count(Level::Bad), count(Level::Warning));
    let closing = match (bad, warnings) {
        (0, 0) => "All is well.".to_owned(),
        (0, some) => format!("Nothing is broken; {some} could be better (!)."),
        (some, _) => format!("{some} must be mended (!!)."),
    };
    writeln!(out, "\n{closing}").expect("a string takes all");
    out
}

/// For programs: `{"ok": bool, "findings": [{name, level, found, remedy}]}`.
pub fn json(findings: &[Finding]) -> String {
    let list: Vec<_> = findings
        .iter()
        .map(|Finding { name, level, found, remedy }| {
            json!({ "name": name, "level": level.name(), "found": found, "remedy": remedy })
        })
        .collect();
    format!("{}\n", json!({ "ok": !is_bad(findings), "findings": list }))
}

/// Whether something must be mended.
pub fn is_bad(findings: &[Finding]) -> bool {
    findings.iter().any(|finding| finding.level == Level::Bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_shows_each_finding_with_its_remedy_and_ends_with_a_verdict() {
        let good = Finding::ok("disk", "9 GiB left");
        let warned = Finding::warning("clock", "nobody keeps it", "install chrony");
        let bad = Finding::bad("UDP 7443", "taken", "choose another with --udp-port");
        assert_eq!(text(std::slice::from_ref(&good)), "ok disk  9 GiB left\n\nAll is well.\n");
        assert_eq!(
            text(&[good.clone(), warned.clone(), bad.clone()]),
            "ok disk      9 GiB left\n \
              ! clock     nobody keeps it\n               → install chrony\n\
             !! UDP 7443  taken\n               → choose another with --udp-port\n\n\
             1 must be mended (!!).\n"
        );
        let said = text(std::slice::from_ref(&warned));
        assert!(said.ends_with("Nothing is broken; 1 could be better (!).\n"), "{said}");
        let value: serde_json::Value = serde_json::from_str(&json(&[warned, bad])).expect("JSON");
        assert_eq!(value["ok"], false);
        assert_eq!(value["findings"][1]["level"], "bad");
        assert_eq!(value["findings"][0]["remedy"][0], "install chrony");
    }
}
