//! The screen at start: where to go, and what matters on this host.

use std::fmt::Write as _;

/// All that the screen shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Banner {
    /// Of the program.
    pub version: String,
    /// Address of the pages, without a slash at its end.
    pub base_url: String,
    /// Media is forwarded here.
    pub is_relay: bool,
    /// Where the demo plays, if it does.
    pub demo: Option<String>,
    /// In the order of weight.
    pub checks: Vec<Check>,
    /// How to trust the node's certificate, and its address as a QR code.
    pub lan: Option<Lan>,
    /// How to get a token, where one is needed.
    pub token_hint: Option<String>,
}

/// What `--lan` adds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lan {
    /// How to trust the authority.
    pub guide: String,
    /// Of the base address.
    pub qr_code: String,
}

/// One fact about this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What it is about.
    pub name: &'static str,
    /// As it should be, or not.
    pub good: bool,
    /// What was found.
    pub found: String,
    /// What to do about it, a line each.
    pub remedy: Vec<String>,
}

const GREEN: &str = "\x1b[32m";
const RED: &str = "\x1b[31m";
const BOLD: &str = "\x1b[1m";
const PLAIN: &str = "\x1b[0m";

/// Whether to use colours: only for people (a terminal), and not where `NO_COLOR` is set to
/// anything (no-color.org).
pub fn wants_colour(is_terminal: bool, no_color: Option<&str>) -> bool {
    is_terminal && no_color.is_none_or(str::is_empty)
}

/// The screen, newline at its end.
pub fn render(banner: &Banner, colour: bool) -> String {
    let paint = |code: &str, text: &str| match colour {
        true => format!("{code}{text}{PLAIN}"),
        false => text.to_owned(),
    };
    // No `..`: what is not shown does not compile.
    let Banner { version, base_url, is_relay, demo, checks, lan, token_hint } = banner;
    let mut out = String::new();
    let mut line = |text: &str| writeln!(out, "{text}").expect("writing to a string cannot fail");

    line("");
    line(&format!("  {}  {version}", paint(BOLD, "sutantra")));
    line("");
    line(&format!("  Page     {}", paint(BOLD, &format!("{base_url}/"))));
    if let Some(demo) = demo {
        line(&format!("  Demo     {demo}"));
    }
    if *is_relay {
        line(&format!("  WHIP     {base_url}/whip/<stream>"));
        line(&format!("  WHEP     {base_url}/whep/<stream>"));
    }
    line(&format!("  Metrics  {base_url}/metrics"));
    line("");
    let width = checks.iter().map(|check| check.name.len()).max().unwrap_or(0);
    for Check { name, good, found, remedy } in checks {
        let mark = if *good { paint(GREEN, "ok") } else { paint(RED, "!!") };
        line(&format!("  {mark} {name:width$}  {found}"));
        for step in remedy {
            line(&format!("     {:width$}  > {step}", ""));
        }
    }
    if let Some(Lan { guide, qr_code }) = lan {
        line("");
        guide.lines().for_each(|text| line(&format!("  {text}")));
        line("");
        qr_code.lines().for_each(|text| line(&format!("  {text}")));
    }
    if let Some(hint) = token_hint {
        line("");
        line(&format!("  {hint}"));
    }
    line("");
    line("  Ctrl-C ends it: viewers are told, then the sockets close.");
    line("");
    out
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    #[track_caller]
    fn check(banner: &Banner, colour: bool, expected: Expect) {
        // The bar keeps the margin in the snapshot, which would be stripped as indentation.
        let screen = render(banner, colour).replace('\x1b', "^");
        let lines = screen.lines().map(|line| format!("|{line}\n"));
        expected.assert_eq(&lines.collect::<String>());
    }

    fn banner() -> Banner {
        let check = |name, good, found: &str, remedy: &[&str]| Check {
            name,
            good,
            found: found.to_owned(),
            remedy: remedy.iter().map(ToString::to_string).collect(),
        };
        Banner {
            is_relay: true,
            version: "0.1.0".to_owned(),
            base_url: "http://127.0.0.1:8080".to_owned(),
            demo: Some("http://127.0.0.1:8080/watch/demo".to_owned()),
            checks: vec![
                check("link", true, "io_uring, 3 shards", &[]),
                check(
                    "buffers",
                    false,
                    "receive 208 KiB of 4 MiB",
                    &["sudo sysctl -w net.core.rmem_max=8388608"],
                ),
            ],
            lan: None,
            token_hint: None,
        }
    }

    #[test]
    fn the_screen_says_where_to_go_and_what_to_mend() {
        check(
            &banner(),
            false,
            expect![[r#"
                |
                |  sutantra  0.1.0
                |
                |  Page     http://127.0.0.1:8080/
                |  Demo     http://127.0.0.1:8080/watch/demo
                |  WHIP     http://127.0.0.1:8080/whip/<stream>
                |  WHEP     http://127.0.0.1:8080/whep/<stream>
                |  Metrics  http://127.0.0.1:8080/metrics
                |
                |  ok link     io_uring, 3 shards
                |  !! buffers  receive 208 KiB of 4 MiB
                |              > sudo sysctl -w net.core.rmem_max=8388608
                |
                |  Ctrl-C ends it: viewers are told, then the sockets close.
                |
            "#]],
        );
    }

    #[test]
    fn on_a_terminal_good_is_green_and_bad_is_red() {
        check(
            &banner(),
            true,
            expect![[r#"
                |
                |  ^[1msutantra^[0m  0.1.0
                |
                |  Page     ^[1mhttp://127.0.0.1:8080/^[0m
                |  Demo     http://127.0.0.1:8080/watch/demo
                |  WHIP     http://127.0.0.1:8080/whip/<stream>
                |  WHEP     http://127.0.0.1:8080/whep/<stream>
                |  Metrics  http://127.0.0.1:8080/metrics
                |
                |  ^[32mok^[0m link     io_uring, 3 shards
                |  ^[31m!!^[0m buffers  receive 208 KiB of 4 MiB
                |              > sudo sysctl -w net.core.rmem_max=8388608
                |
                |  Ctrl-C ends it: viewers are told, then the sockets close.
                |
            "#]],
        );
    }

    #[test]
    fn a_node_for_the_local_network_shows_how_to_be_trusted() {
        let lan = Banner {
            demo: None,
            base_url: "https://192.0.2.1:8443".to_owned(),
            lan: Some(Lan {
                guide: "guide 1\nguide 2\n".to_owned(), qr_code: "▀▄\n▄▀".to_owned()
            }),
            token_hint: Some("A token: sutantra-node grant".to_owned()),
            ..banner()
        };
        check(
            &lan,
            false,
            expect![[r#"
                |
                |  sutantra  0.1.0
                |
                |  Page     https://192.0.2.1:8443/
                |  WHIP     https://192.0.2.1:8443/whip/<stream>
                |  WHEP     https://192.0.2.1:8443/whep/<stream>
                |  Metrics  https://192.0.2.1:8443/metrics
                |
                |  ok link     io_uring, 3 shards
                |  !! buffers  receive 208 KiB of 4 MiB
                |              > sudo sysctl -w net.core.rmem_max=8388608
                |
                |  guide 1
                |  guide 2
                |
                |  ▀▄
                |  ▄▀
                |
                |  A token: sutantra-node grant
                |
                |  Ctrl-C ends it: viewers are told, then the sockets close.
                |
            "#]],
        );
    }

    #[test]
    fn colours_are_for_terminals_without_no_color() {
        assert!(wants_colour(true, None));
        assert!(wants_colour(true, Some("")));
        assert!(!wants_colour(true, Some("1")));
        assert!(!wants_colour(false, None));
    }
}
