//! The live screen of a network: one frame from what is known now.

use std::{fmt::Write as _, net::SocketAddr, path::Path};

use super::{
    member::Life,
    sight::{Agreement, Sight},
};

const BOLD: &str = "\x1b[1m";
const DIM: &str = "\x1b[2m";
const GREEN: &str = "\x1b[32m";
const RED: &str = "\x1b[31m";
const PLAIN: &str = "\x1b[0m";

/// All that a frame shows.
#[derive(Debug, Clone)]
pub struct View<'a> {
    /// Name of the chain.
    pub chain_id: &'a str,
    /// Of the network.
    pub dir: &'a Path,
    /// Of each validator: life, what it says, port of its RPC.
    pub nodes: Vec<(&'a Life, Option<&'a Sight>, u16)>,
    /// The relay's life, whether it is ready, where it serves; `None`: there is none.
    pub relay: Option<(&'a Life, bool, SocketAddr)>,
    /// Whether the states are the same.
    pub agreement: &'a Agreement,
    /// From block to block, ms.
    pub block_ms: Option<u64>,
    /// What to do next.
    pub next: &'a [String],
    /// What happened last, newest at the end.
    pub events: &'a [String],
    /// What was typed so far; `None`: nobody can type.
    pub typed: Option<&'a str>,
}

/// Address of a relay for a browser on this machine.
pub fn relay_url(at: SocketAddr) -> String {
    match at.ip().is_unspecified() {
        true => format!("http://127.0.0.1:{}", at.port()),
        false => format!("http://{at}"),
    }
}

/// First hex digits of a hash.
pub fn short_hash(hash: &[u8]) -> String {
    hash.iter().take(4).fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02X}").expect("writing to a string cannot fail");
        text
    })
}

/// The frame, newline at its end.
pub fn render(view: &View<'_>, colour: bool) -> String {
    let paint = |code: &str, text: &str| match colour {
        true => format!("{code}{text}{PLAIN}"),
        false => text.to_owned(),
    };
    // No `..`: what is not shown does not compile.
    let View { chain_id, dir, nodes, relay, agreement, block_ms, next, events, typed } = view;
    let mut out = String::new();
    let mut line = |text: &str| writeln!(out, "{text}").expect("writing to a string cannot fail");

    let height = nodes.iter().filter_map(|(_, sight, _)| sight.as_ref()).map(|sight| sight.height);
    let height = height.max().unwrap_or(0);
    let answering = nodes.iter().filter(|(_, sight, _)| sight.is_some()).count();
    let pace = match block_ms {
        Some(ms) => format!("a block each {}.{:02} s", ms / 1000, ms % 1000 / 10),
        None => "no pace yet".to_owned(),
    };
    line(&format!(
        "  {}  {chain_id}   height {}   {pace}   {answering} of {} validators",
        paint(BOLD, "sutantra localnet"),
        paint(BOLD, &height.to_string()),
        nodes.len()
    ));
    line(&match agreement {
        Agreement::Equal { height, app_hash } => {
            let hash = short_hash(app_hash);
            paint(GREEN, &format!("  the same state: app hash {hash} at height {height}"))
        }
        Agreement::Different { height } => paint(
            RED,
            &format!("  THE STATES DIFFER at height {height}: keep the directory, it is evidence"),
        ),
        Agreement::Unknown => paint(DIM, "  states not compared yet"),
    });
    line("");
    line(&paint(DIM, "  node    state        height  app hash  peers  waiting     pid  RPC"));
    for (number, (life, sight, rpc)) in nodes.iter().enumerate() {
        let state = match (life, sight) {
            (Life::Up { .. }, Some(sight)) if sight.is_catching_up => "catching up",
            (Life::Up { .. }, Some(_)) => "running",
            (Life::Up { .. }, None) => "starting",
            (other, _) => word(other),
        };
        let pid = match life {
            Life::Up { pid } => pid.to_string(),
            _ => "-".to_owned(),
        };
        let (height, hash, peers, waiting) = match sight {
            Some(sight) => (
                sight.height.to_string(),
                sight.app_hash.as_ref().map_or("-".to_owned(), |(_, hash)| short_hash(hash)),
                sight.peers.to_string(),
                sight.waiting.to_string(),
            ),
            None => ("-".to_owned(), "-".to_owned(), "-".to_owned(), "-".to_owned()),
        };
        let colour = if state == "running" { GREEN } else { RED };
        let state = paint(colour, &format!("{state:11}"));
        line(&format!(
            "  node{number}   {state}  {height:>6}  {hash:8}  {peers:>5}  {waiting:>7}  {pid:>6}  http://127.0.0.1:{rpc}"
        ));
        if let Life::Failed(words) = life {
            line(&paint(RED, &format!("          {words}")));
        }
    }
    if let Some((life, is_ready, at)) = relay {
        let state = match (life, is_ready) {
            (Life::Up { .. }, true) => paint(GREEN, "ready      "),
            (Life::Up { .. }, false) => paint(RED, "starting   "),
            (other, _) => paint(RED, &format!("{:11}", word(other))),
        };
        line(&format!("  relay   {state}  {}/", relay_url(*at)));
        if let Life::Failed(words) = life {
            line(&paint(RED, &format!("          {words}")));
        }
    }
    line("");
    line(&format!(
        "  Files   {}: node0 … relay, the log of each in {}",
        dir.display(),
        super::member::LOG
    ));
    for (index, text) in next.iter().enumerate() {
        line(&format!("  {}   {text}", if index == 0 { "Next " } else { "     " }));
    }
    if !events.is_empty() {
        line("");
        events.iter().for_each(|event| line(&paint(DIM, &format!("  {event}"))));
    }
    line("");
    match typed {
        Some(typed) => line(&format!("  q stop   k N kill node N, or start it again   > {typed}")),
        None => line("  Ctrl-C stops the network."),
    }
    out
}

fn word(life: &Life) -> &'static str {
    match life {
        Life::Waiting => "waiting",
        Life::Up { .. } => "up",
        Life::Restarting => "restarting",
        Life::Held => "killed",
        Life::Failed(_) => "failed",
        Life::Ended => "ended",
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    #[track_caller]
    fn check(view: &View<'_>, expected: Expect) {
        // The bar keeps the margin in the snapshot, which would be stripped as indentation.
        let screen = render(view, false);
        let lines = screen.lines().map(|line| format!("|{line}\n"));
        expected.assert_eq(&lines.collect::<String>());
        assert!(render(view, true).contains(GREEN));
    }

    #[test]
    fn a_frame_says_how_each_node_is_and_what_to_do() {
        let sight = Sight {
            height: 1_234,
            time_ms: 0,
            is_catching_up: false,
            peers: 3,
            waiting: 12,
            app_hash: Some((1_233, vec![0xab, 0xcd, 0xef, 1, 2])),
        };
        let behind = Sight { is_catching_up: true, height: 7, app_hash: None, ..sight.clone() };
        let (up, held) = (Life::Up { pid: 4_711 }, Life::Held);
        let failed = Life::Failed("the port is taken".to_owned());
        let agreement = Agreement::Equal { height: 1_233, app_hash: vec![0xab, 0xcd, 0xef, 1, 2] };
        let view = View {
            chain_id: "sutantra-local-00c0ffee",
            dir: Path::new("/srv/net"),
            nodes: vec![
                (&up, Some(&sight), 26_657),
                (&up, Some(&behind), 26_667),
                (&held, None, 26_677),
                (&failed, None, 26_687),
            ],
            relay: Some((&up, true, "0.0.0.0:8080".parse().expect("an address"))),
            agreement: &agreement,
            block_ms: Some(263),
            next: &["open http://127.0.0.1:8080/".to_owned()],
            events: &["node2 was killed".to_owned()],
            typed: Some("k"),
        };
        check(
            &view,
            expect![[r#"
            |  sutantra localnet  sutantra-local-00c0ffee   height 1234   a block each 0.26 s   2 of 4 validators
            |  the same state: app hash ABCDEF01 at height 1233
            |
            |  node    state        height  app hash  peers  waiting     pid  RPC
            |  node0   running        1234  ABCDEF01      3       12    4711  http://127.0.0.1:26657
            |  node1   catching up       7  -             3       12    4711  http://127.0.0.1:26667
            |  node2   killed            -  -             -        -       -  http://127.0.0.1:26677
            |  node3   failed            -  -             -        -       -  http://127.0.0.1:26687
            |          the port is taken
            |  relay   ready        http://127.0.0.1:8080/
            |
            |  Files   /srv/net: node0 … relay, the log of each in log/node.log
            |  Next    open http://127.0.0.1:8080/
            |
            |  node2 was killed
            |
            |  q stop   k N kill node N, or start it again   > k
        "#]],
        );
    }
}
