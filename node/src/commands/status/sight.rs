//! What is seen of a node, and what of that is wrong.

use std::fmt::Write as _;

use chain_types::Balance;
use comet::rpc::Client;
use serde_json::{Value, json};
use wallet::http::{Request, Url};

use super::{metrics, number};

/// The newest block of a chain that goes on is younger.
const BLOCK_AGE_MAX_S: u64 = 30;

/// A node from outside; what is `None` was not told.
#[derive(Debug, Default)]
pub struct Sight {
    url: Option<String>,
    version: Option<String>,
    /// What the node is.
    pub role: Option<String>,
    started_ms: Option<u64>,
    engine: Option<String>,
    chain_id: Option<String>,
    height: Option<u64>,
    block_time_ms: Option<u64>,
    halted: Option<String>,
    /// The node says that it has no chain.
    is_chainless: bool,
    rpc: Option<RpcSight>,
    streams: Option<u64>,
    viewers: Option<u64>,
    sessions: Option<u64>,
    money: Option<MoneySight>,
    /// A sentence for each fault.
    pub wrong: Vec<String>,
}

#[derive(Debug)]
struct RpcSight {
    url: String,
    cometbft: String,
    moniker: String,
    node_id: String,
    is_catching_up: bool,
    voting_power: u64,
    peers: Option<usize>,
}

#[derive(Debug)]
struct MoneySight {
    accepted: Balance,
    redeemed: Balance,
}

impl Sight {
    /// What the node says on its HTTP address.
    pub fn ask_node(&mut self, url: &str) {
        self.url = Some(url.to_owned());
        let at: Url = match url.trim_end_matches('/').parse() {
            Ok(at) => at,
            Err(error) => {
                let why = match url.starts_with("https://") {
                    true => format!("{url} is not asked: HTTPS is not spoken here, say --rpc"),
                    false => format!("--url: {error}"),
                };
                return self.wrong.push(why);
            }
        };
        let get =
            |path: &str| at.join(path).send(Request { method: "GET", headers: &[], body: &[] });
        match get("/api/status") {
            Ok(answer) => {
                let json: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
                self.version = json["version"].as_str().map(str::to_owned);
                self.role = json["role"].as_str().map(str::to_owned);
                self.started_ms = number(&json["started_ms"]);
            }
            Err(error) => return self.wrong.push(error.to_string()),
        }
        if self.version.is_none() {
            return self.wrong.push(format!("{url} is no node of this kind: it tells no version"));
        }
        if let Ok(answer) = get("/api/chain") {
            let json: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
            self.is_chainless = answer.status == 404;
            self.chain_id = json["chain_id"].as_str().map(str::to_owned);
            self.engine = json["engine"].as_str().map(str::to_owned);
            self.height = number(&json["height"]);
            self.block_time_ms = number(&json["block_time_ms"]);
            self.halted = json["halted"].as_str().map(str::to_owned);
        }
        if let Ok(answer) = get("/metrics") {
            self.read_metrics(&answer.text());
        }
        match get("/readyz") {
            Ok(answer) if answer.status == 200 => {}
            Ok(answer) => {
                let json: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
                let said =
                    json["message"].as_str().map_or(answer.text().into_owned(), str::to_owned);
                self.wrong.push(said.trim().to_owned());
            }
            Err(error) => self.wrong.push(error.to_string()),
        }
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "counts and units below 2^53, as Prometheus has them"
    )]
    fn read_metrics(&mut self, text: &str) {
        let count = |family| metrics::value(text, family, &[]).map(|value| value.max(0.0) as u64);
        self.streams = count("sutantra_streams");
        self.viewers = count("sutantra_viewers");
        self.sessions = count("sutantra_sessions");
        let accepted = count("sutantra_accepted_value_total");
        let redeemed = count("sutantra_redeem_value_total");
        self.money = accepted.zip(redeemed).map(|(accepted, redeemed)| MoneySight {
            accepted: Balance::of(accepted),
            redeemed: Balance::of(redeemed),
        });
    }

    /// Whether there is a chain to be asked about.
    pub fn has_chain(&self) -> bool {
        !self.is_chainless
    }

    /// What the RPC says.
    pub fn ask_rpc(&mut self, client: &Client) {
        let status = match client.status() {
            Ok(status) => status,
            Err(error) => return self.wrong.push(error.to_string()),
        };
        let seconds = status.latest_time.unix_timestamp();
        let ms = u64::try_from(seconds).unwrap_or_default().saturating_mul(1000);
        // Who answers later knows the newer block.
        if self.height.is_none_or(|height| status.latest_height >= height) {
            self.height = Some(status.latest_height);
            self.block_time_ms = Some(ms);
        }
        match &self.chain_id {
            Some(known) if *known != status.chain_id => self.wrong.push(format!(
                "the node is of the chain {known}, and {} of {}: name the RPC of one chain",
                client.name(),
                status.chain_id
            )),
            Some(_) => {}
            None => self.chain_id = Some(status.chain_id),
        }
        self.rpc = Some(RpcSight {
            url: client.name().to_owned(),
            cometbft: status.version,
            moniker: status.moniker,
            node_id: status.node_id,
            is_catching_up: status.is_catching_up,
            voting_power: status.voting_power,
            peers: client.net_info().ok().map(|info| info.peers.len()),
        });
    }

    /// Adds the faults that follow from what was seen.
    pub fn judge(&mut self, now_ms: u64) {
        if let Some(halted) = &self.halted {
            self.note(format!("the chain has stopped: {halted}"));
        }
        if let Some(rpc) = self.rpc.as_ref().filter(|rpc| rpc.is_catching_up) {
            return self.note(format!("{} fetches old blocks still: wait for it", rpc.url));
        }
        if let Some(age) = self.block_age_s(now_ms).filter(|age| *age > BLOCK_AGE_MAX_S) {
            self.note(format!(
                "the newest block is {age} s old: are more than two thirds of the validators \
                 running, and is this machine's clock right?"
            ));
        }
    }

    /// Adds a fault, unless the node has said it itself.
    fn note(&mut self, fault: String) {
        if !self.wrong.iter().any(|known| known.contains(&fault)) {
            self.wrong.push(fault);
        }
    }

    fn block_age_s(&self, now_ms: u64) -> Option<u64> {
        // Before the first block its time is none.
        let time = self.block_time_ms.filter(|time| *time > 0)?;
        Some(now_ms.saturating_sub(time) / 1000)
    }

    /// For programs.
    pub fn to_json(&self, now_ms: u64) -> Value {
        let rpc = self.rpc.as_ref().map(|rpc| {
            json!({
                "url": rpc.url,
                "cometbft": rpc.cometbft,
                "moniker": rpc.moniker,
                "node_id": rpc.node_id,
                "catching_up": rpc.is_catching_up,
                "voting_power": rpc.voting_power,
                "peers": rpc.peers,
            })
        });
        let money = self.money.as_ref();
        json!({
            "url": self.url,
            "version": self.version,
            "role": self.role,
            "uptime_s": self.started_ms.map(|ms| now_ms.saturating_sub(ms) / 1000),
            "chain": {
                "id": self.chain_id,
                "engine": self.engine,
                "height": self.height,
                "block_age_s": self.block_age_s(now_ms),
            },
            "rpc": rpc,
            "streams": self.streams,
            "viewers": self.viewers,
            "sessions": self.sessions,
            "money": money.map(|money| {
                json!({ "accepted": money.accepted, "redeemed": money.redeemed })
            }),
            "ok": self.wrong.is_empty(),
            "wrong": self.wrong,
        })
    }

    /// For people.
    pub fn screen(&self, now_ms: u64) -> String {
        let mut rows: Vec<(&str, String)> = Vec::new();
        if let Some(version) = &self.version {
            let role = self.role.as_deref().unwrap_or("relay");
            let at = self.url.as_deref().unwrap_or_default();
            let up = self.started_ms.map(|ms| duration(now_ms.saturating_sub(ms) / 1000));
            let up = up.map_or(String::new(), |up| format!(", up {up}"));
            rows.push(("node", format!("{role} {version} at {at}{up}")));
        }
        if let Some(id) = &self.chain_id {
            let height = self.height.map_or(String::new(), |height| format!(", height {height}"));
            let age = self.block_age_s(now_ms);
            let age = age.map_or(String::new(), |age| format!(", newest block {age} s old"));
            rows.push(("chain", format!("{id}{height}{age}")));
        }
        if let Some(engine) = &self.engine {
            rows.push(("engine", engine.clone()));
        }
        if let Some(rpc) = &self.rpc {
            let peers = match rpc.peers {
                Some(1) => ", 1 peer".to_owned(),
                Some(peers) => format!(", {peers} peers"),
                None => String::new(),
            };
            let catching = if rpc.is_catching_up { ", catching up" } else { "" };
            let power = match rpc.voting_power {
                0 => String::new(),
                power => format!(", voting power {power}"),
            };
            let RpcSight { url, cometbft, .. } = rpc;
            rows.push(("rpc", format!("{url}, CometBFT {cometbft}{peers}{power}{catching}")));
        }
        if let (Some(streams), Some(viewers)) = (self.streams, self.viewers) {
            let sessions = self.sessions.unwrap_or_default();
            rows.push((
                "media",
                format!("{streams} streams, {viewers} viewers, {sessions} sessions"),
            ));
        }
        if let Some(MoneySight { accepted, redeemed }) = &self.money {
            let (accepted, redeemed) = (accepted.in_sut(), redeemed.in_sut());
            rows.push((
                "money",
                format!("{accepted} SUT accepted, {redeemed} SUT redeemed since its start"),
            ));
        }
        let mut text = String::new();
        for (name, value) in rows {
            writeln!(text, "{name:<8} {value}").expect("a String takes any text");
        }
        for (at, fault) in self.wrong.iter().enumerate() {
            let name = if at == 0 { "wrong" } else { "" };
            writeln!(text, "{name:<8} {fault}").expect("a String takes any text");
        }
        if self.wrong.is_empty() {
            text.push_str("wrong    nothing\n");
        }
        text
    }
}

fn duration(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7_199 => format!("{} min", seconds / 60),
        7_200..=172_799 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000_000;

    fn sight(age_s: u64) -> Sight {
        Sight {
            url: Some("http://127.0.0.1:8080".to_owned()),
            version: Some("0.1.0".to_owned()),
            role: Some("validator-relay".to_owned()),
            started_ms: Some(NOW - 65_000),
            engine: Some("embedded".to_owned()),
            chain_id: Some("sutantra-1".to_owned()),
            height: Some(7),
            block_time_ms: Some(NOW - age_s * 1000),
            rpc: Some(RpcSight {
                url: "http://127.0.0.1:26657".to_owned(),
                cometbft: "0.38.26".to_owned(),
                moniker: "alice".to_owned(),
                node_id: "ab".repeat(20),
                is_catching_up: false,
                voting_power: 10,
                peers: Some(3),
            }),
            streams: Some(1),
            viewers: Some(2),
            sessions: Some(3),
            money: Some(MoneySight {
                accepted: Balance::of(1_500_000_000),
                redeemed: Balance::of(1_000_000_000),
            }),
            ..Sight::default()
        }
    }

    #[test]
    fn a_node_that_is_well_is_one_screen_and_one_object() {
        let mut sight = sight(2);
        sight.judge(NOW);
        assert_eq!(
            sight.screen(NOW),
            "node     validator-relay 0.1.0 at http://127.0.0.1:8080, up 65 s\n\
             chain    sutantra-1, height 7, newest block 2 s old\n\
             engine   embedded\n\
             rpc      http://127.0.0.1:26657, CometBFT 0.38.26, 3 peers, voting power 10\n\
             media    1 streams, 2 viewers, 3 sessions\n\
             money    1.5 SUT accepted, 1 SUT redeemed since its start\n\
             wrong    nothing\n"
        );
        let json = sight.to_json(NOW);
        assert_eq!((&json["ok"], &json["rpc"]["peers"]), (&json!(true), &json!(3)));
        assert_eq!(json["chain"]["block_age_s"], json!(2));
        assert_eq!(json["money"]["accepted"], json!("1500000000"));
    }

    #[test]
    fn what_is_wrong_is_told_once_with_what_to_do() {
        #[track_caller]
        fn check(mut sight: Sight, expected: &[&str]) {
            sight.judge(NOW);
            assert_eq!(sight.wrong.len(), expected.len(), "{:?}", sight.wrong);
            for (fault, part) in sight.wrong.iter().zip(expected) {
                assert!(fault.contains(part), "{fault}");
            }
        }
        check(sight(30), &[]);
        check(sight(31), &["clock right"]);
        let halted = Some("disk full".to_owned());
        check(Sight { halted, ..sight(2) }, &["has stopped: disk full"]);
        let mut catching = sight(5_000);
        catching.rpc.as_mut().expect("above").is_catching_up = true;
        check(catching, &["fetches old blocks"]);
        // A block from the future is the light client's to judge, not an age.
        let mut ahead = sight(0);
        ahead.block_time_ms = Some(NOW + 5_000);
        check(ahead, &[]);
        let nobody = Sight { wrong: vec!["no node runs".to_owned()], ..Sight::default() };
        check(nobody, &["no node runs"]);
    }
}
