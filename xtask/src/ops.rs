//! What operators get: units, compose file, rules and dashboards, each held against the real tool,
//! and every query against a node under load.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use yaml_rust2::{Yaml, YamlLoader};

use crate::{
    node::Node,
    process::{Guard, run},
    tally::Tally,
    workspace::Workspace,
};

/// The longest that one command may take.
const LIMIT: Duration = Duration::from_secs(120);
/// Until the network is ready, and until every query has its answer.
const PATIENCE: Duration = Duration::from_secs(90);

/// A part of the step and its name.
type Check = (&'static str, fn(&Workspace) -> Result<()>);

/// Every check, each counted.
pub fn test(workspace: &Workspace, tally: &mut Tally) -> Result<()> {
    workspace.build(tally)?;
    let checks: [Check; 4] = [
        ("units", units),
        ("compose", compose),
        ("rules", rules),
        ("queries over a node under load", queries),
    ];
    for (name, check) in checks {
        check(workspace).with_context(|| format!("ops: {name}"))?;
        tally.passed += 1;
        println!("ops: {name} ... ok");
    }
    Ok(())
}

/// A directory of this step, emptied.
fn directory(workspace: &Workspace, name: &str) -> Result<PathBuf> {
    let directory = workspace.target.join("ops").join(name);
    if directory.exists() {
        fs::remove_dir_all(&directory).context("what the last run left")?;
    }
    fs::create_dir_all(&directory)?;
    Ok(directory)
}

/// R111: `systemd-analyze verify` on the units, with our program where they expect theirs.
fn units(workspace: &Workspace) -> Result<()> {
    let copies = directory(workspace, "units")?;
    let program = workspace.binary("sutantra-node");
    let mut verify = Command::new("systemd-analyze");
    verify.args(["verify", "--man=no"]);
    for name in ["sutantra-relay.service", "sutantra-validator.service"] {
        let text = workspace.read(Path::new("ops/systemd").join(name))?;
        let installed = "/usr/local/bin/sutantra-node";
        ensure!(text.contains(installed), "{name} does not start {installed}");
        let copy = copies.join(name);
        fs::write(&copy, text.replace(installed, &program.to_string_lossy()))?;
        verify.arg(copy);
    }
    let output = verify.output().context("systemd-analyze; on Debian: apt-get install systemd")?;
    let said = String::from_utf8_lossy(&output.stderr);
    // Of other units that the machine happens to have it speaks too.
    let ours: Vec<&str> = said.lines().filter(|line| line.contains("sutantra")).collect();
    ensure!(output.status.success() && ours.is_empty(), "{said}");
    Ok(())
}

/// The compose file is YAML whose services name each other, their volumes and files that exist; it is
/// not run here. Where Docker has its plugin, that reads it too.
fn compose(workspace: &Workspace) -> Result<()> {
    let path = "ops/compose/compose.yaml";
    let documents = YamlLoader::load_from_str(&workspace.read(path)?)?;
    let [document] = documents.as_slice() else {
        bail!("{path} holds {} documents", documents.len())
    };
    let services = document["services"].as_hash().context("it has no services")?;
    let names: BTreeSet<&str> = services.keys().filter_map(Yaml::as_str).collect();
    for wanted in ["validator0", "validator3", "relay", "prometheus", "grafana"] {
        ensure!(names.contains(wanted), "{wanted} is missing");
    }
    for (name, service) in services {
        let name = name.as_str().context("a service has no name")?;
        // Of all nodes: `<<` is resolved by compose, not by the parser.
        let shared = &service["<<"];
        let of = |key: &str| match &service[key] {
            Yaml::BadValue => shared[key].clone(),
            value => value.clone(),
        };
        ensure!(of("image").as_str().is_some(), "{name} has no image");
        for volume in of("volumes").as_vec().into_iter().flatten() {
            let volume = volume.as_str().with_context(|| format!("a volume of {name}"))?;
            let source = volume.split(':').next().unwrap_or_default();
            let is_known = match source.starts_with('.') {
                true => workspace.root.join("ops/compose").join(source).exists(),
                false => !document["volumes"][source].is_badvalue(),
            };
            ensure!(is_known, "{name}: there is no {source}");
        }
        let needs = of("depends_on");
        let listed = needs.as_vec().into_iter().flatten().filter_map(Yaml::as_str);
        let keyed =
            needs.as_hash().into_iter().flat_map(|hash| hash.keys().filter_map(Yaml::as_str));
        for needed in listed.chain(keyed) {
            ensure!(names.contains(needed), "{name} depends on {needed}, which is no service");
        }
    }
    for file in ["ops/compose/Dockerfile", "ops/compose/validator.sh"] {
        ensure!(workspace.has(file), "{file} is missing");
    }
    let plugin = Command::new("docker").args(["compose", "version"]).output();
    if plugin.is_ok_and(|output| output.status.success()) {
        let mut config = workspace.command("docker");
        run(
            config.args(["compose", "--file", path, "config", "--quiet"]),
            LIMIT,
            &mut Tally::default(),
        )?;
    } else {
        println!("docker has no compose plugin here: the file is parsed alone");
    }
    Ok(())
}

/// `promtool` on configurations and rules, and their unit tests.
fn rules(workspace: &Workspace) -> Result<()> {
    let words: [&[&str]; 4] = [
        &["check", "config", "ops/prometheus/prometheus.yml"],
        &["check", "config", "--syntax-only", "ops/compose/prometheus.yml"],
        &["check", "rules", "ops/prometheus/recording.yml", "ops/prometheus/alerts.yml"],
        &["test", "rules", "ops/prometheus/tests/alerts_test.yml"],
    ];
    for words in words {
        run(workspace.command("promtool").args(words), LIMIT, &mut Tally::default())?;
    }
    // Each alert has a test where it fires and one where it does not.
    let tests = workspace.read("ops/prometheus/tests/alerts_test.yml")?;
    for alert in expressions(workspace)?.iter().filter_map(|query| query.alert.as_deref()) {
        for word in ["fires", "is quiet"] {
            let name = format!("name: \"{alert} {word}\"");
            ensure!(tests.contains(&name), "alerts_test.yml lacks `{alert} {word}`");
        }
    }
    Ok(())
}

/// A query of ours, and where it stands.
struct Query {
    place: String,
    expression: String,
    alert: Option<String>,
}

/// Every panel's queries and every rule's expression.
fn expressions(workspace: &Workspace) -> Result<Vec<Query>> {
    let mut queries = Vec::new();
    for name in ["media", "money", "chain"] {
        let path = format!("ops/grafana/dashboards/{name}.json");
        let dashboard: Value = serde_json::from_str(&workspace.read(&path)?)?;
        for panel in dashboard["panels"].as_array().context("no panels")? {
            let title = panel["title"].as_str().unwrap_or_default();
            for target in panel["targets"].as_array().into_iter().flatten() {
                let text = target["expr"].as_str().context("a target without expr")?;
                let expression = text
                    .replace("$__rate_interval", "1m")
                    .replace("$instance", ".*")
                    .replace("$comet", ".*");
                ensure!(
                    !expression.contains('$'),
                    "{path}, {title}: an unknown variable in {text}"
                );
                let place = format!("{name} dashboard, {title}");
                queries.push(Query { place, expression, alert: None });
            }
        }
    }
    for file in ["recording.yml", "alerts.yml"] {
        let text = workspace.read(Path::new("ops/prometheus").join(file))?;
        let documents = YamlLoader::load_from_str(&text)?;
        let groups = documents.first().and_then(|document| document["groups"].as_vec());
        for rule in
            groups.context("no groups")?.iter().flat_map(|group| group["rules"].as_vec()).flatten()
        {
            let text = |key: &str| rule[key].as_str().map(|text| text.trim().to_owned());
            let alert = text("alert");
            let place =
                alert.clone().or_else(|| text("record")).context("a rule without a name")?;
            let expression = text("expr").context("a rule without expr")?;
            queries.push(Query { place: format!("{file}, {place}"), expression, alert });
        }
    }
    ensure!(queries.len() > 100, "only {} queries were found", queries.len());
    Ok(queries)
}

/// The series that an expression reads: names of ours, CometBFT's and Prometheus' own, without labels.
fn series(expression: &str) -> BTreeSet<&str> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    // What stands in quotes or braces is a label's.
    let mut names = BTreeSet::new();
    let (mut rest, mut depth) = (expression, 0_u32);
    while let Some(c) = rest.chars().next() {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        let end = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
        let word = &rest[..end];
        let is_series =
            ["sutantra_", "cometbft_", "instance"].iter().any(|head| word.starts_with(head));
        if depth == 0 && (word == "up" || is_series && word != "instance") {
            names.insert(word);
        }
        rest = &rest[end.max(c.len_utf8())..];
    }
    names
}

/// R113: a validator with a real CometBFT, a relay that follows it, a node with a chain of its own that
/// is paid and under load, the real Prometheus: no query of ours is an error or empty.
fn queries(workspace: &Workspace) -> Result<()> {
    let place = directory(workspace, "queries")?;
    let queries = expressions(workspace)?;
    let world = World::start(workspace, &place)?;
    let prometheus = Prometheus::start(workspace, &place, &world)?;
    let begun = unix_seconds();
    world.load(workspace, &place)?;
    let asked = Instant::now();
    loop {
        let mut lacking = Vec::new();
        for query in &queries {
            if let Some(why) = prometheus.lacks(query, begun)? {
                lacking.push(format!("{}: {why}", query.place));
            }
        }
        if lacking.is_empty() {
            println!("{} queries have data", queries.len());
            return Ok(());
        }
        ensure!(
            asked.elapsed() < Duration::from_secs(20),
            "without data:\n  {}",
            lacking.join("\n  ")
        );
        thread::sleep(Duration::from_secs(1));
    }
}

/// A network of one validator and a relay, and a node by itself that has the load.
struct World {
    dev: Node,
    relay: SocketAddr,
    validator: SocketAddr,
    comet: SocketAddr,
    home: PathBuf,
    _process: Guard,
}

impl World {
    fn start(workspace: &Workspace, place: &Path) -> Result<World> {
        let relay = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let comet = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let base = free_base()?;
        let mut command = workspace.command(workspace.binary("sutantra-node"));
        command
            .args([
                "localnet",
                "--validators",
                "1",
                "--timeout-commit",
                "200ms",
                "--fresh",
                "--dir",
            ])
            .arg(place.join("net"))
            .args(["--base-port", &base.to_string(), "--http", &relay.to_string()])
            // CometBFT shows its metrics.
            .env("CMT_INSTRUMENTATION_PROMETHEUS", "true")
            .env("CMT_INSTRUMENTATION_PROMETHEUS_LISTEN_ADDR", comet.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(place.join("localnet.log"))?);
        let mut process = Guard(command.spawn().context("sutantra-node does not start")?);
        let output = process.0.stdout.take().expect("stdout is piped");
        let mut copy = File::create(place.join("localnet.out"))?;
        let (ready, is_ready) = std::sync::mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(std::result::Result::ok) {
                let _ = writeln!(copy, "{line}");
                if line.starts_with("ready after") {
                    let _ = ready.send(());
                }
            }
        });
        if is_ready.recv_timeout(PATIENCE).is_err() {
            let log = fs::read_to_string(place.join("localnet.out")).unwrap_or_default();
            bail!("the network is not ready; its log is in {}\n{log}", place.display());
        }
        let validator = SocketAddr::from(([127, 0, 0, 1], base + 2));
        let home = place.join("wallet");
        // The load comes without tokens.
        let flags = ["--rpc", "127.0.0.1:0", "--media-ip", "127.0.0.1", "--shards", "1", "--open"];
        let dev = Node::start(workspace, &place.join("dev"), &flags)?;
        Ok(World { dev, relay, validator, comet, home, _process: process })
    }

    /// A viewer that pays for the demo stream, and ten that watch another.
    fn load(&self, workspace: &Workspace, place: &Path) -> Result<()> {
        let url = &self.dev.url;
        let mut bench = workspace.command(workspace.binary("sutantra-bench"));
        bench.args(["load", "--base", url, "--viewers", "10", "--duration", "20s", "--drop", "1"]);
        let log = File::create(place.join("bench.log"))?;
        bench.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let mut bench = Guard(bench.spawn().context("sutantra-bench does not start")?);
        let wallet = |words: &[&str]| -> Result<()> {
            let mut command = workspace.command(workspace.binary("sutantra-node"));
            command.arg("wallet").args(words).arg("--home").arg(&self.home);
            command.args(["--url", url, "--rpc", &format!("{url}/rpc")]);
            let output = command.stdin(Stdio::null()).output().context("sutantra-node")?;
            let said = String::from_utf8_lossy(&output.stderr);
            ensure!(output.status.success(), "wallet {}: {said}", words.join(" "));
            Ok(())
        };
        wallet(&["create"])?;
        wallet(&["faucet"])?;
        wallet(&["open", "--deposit", "1"])?;
        wallet(&["watch", "demo", "--seconds", "12", "--json"])?;
        // The relay redeems what it was paid.
        wallet(&["close", "--wait"])?;
        let status = bench.0.wait()?;
        ensure!(status.success(), "the load failed: {}", place.join("bench.log").display());
        Ok(())
    }
}

/// The real one, scraping each second.
struct Prometheus {
    at: SocketAddr,
    _process: Guard,
}

impl Prometheus {
    fn start(workspace: &Workspace, place: &Path, world: &World) -> Result<Prometheus> {
        let at = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let rules = workspace.root.join("ops/prometheus");
        let rules = rules.display();
        let World { dev, relay, validator, comet, .. } = world;
        let dev = dev.url.trim_start_matches("http://");
        let config = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\n\
             rule_files: ['{rules}/recording.yml', '{rules}/alerts.yml']\n\
             scrape_configs:\n\
             - {{job_name: sutantra, static_configs: [{{targets: ['{dev}', '{relay}', '{validator}']}}]}}\n\
             - {{job_name: cometbft, static_configs: [{{targets: ['{comet}']}}]}}\n"
        );
        let file = place.join("prometheus.yml");
        fs::write(&file, config)?;
        let log = File::create(place.join("prometheus.log"))?;
        let mut command = Command::new("prometheus");
        command
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", place.join("tsdb").display()))
            .arg(format!("--web.listen-address={at}"))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let process =
            Guard(command.spawn().context("prometheus; on Debian: apt-get install prometheus")?);
        let started = Instant::now();
        while !get(at, "/-/ready").is_ok_and(|(status, _)| status == 200) {
            ensure!(
                started.elapsed() < PATIENCE,
                "prometheus: {}",
                place.join("prometheus.log").display()
            );
            thread::sleep(Duration::from_millis(100));
        }
        Ok(Prometheus { at, _process: process })
    }

    /// Why a query shows nothing. An alert is mostly quiet, so that of its expression each series must
    /// be there; its labels and its comparison are for `promtool test rules`.
    fn lacks(&self, query: &Query, begun: u64) -> Result<Option<String>> {
        let is_empty = |expression: &str| -> Result<bool> {
            let answer = self.range(expression, begun).with_context(|| query.place.clone())?;
            Ok(answer.as_array().is_none_or(Vec::is_empty))
        };
        let is_blank = is_empty(&query.expression)?;
        if query.alert.is_none() {
            return Ok(is_blank.then(|| query.expression.clone()));
        }
        let names = series(&query.expression);
        ensure!(!names.is_empty(), "{} reads no series", query.place);
        for name in names {
            // It has none before CometBFT's first peer, and its alert says so.
            if name != "cometbft_p2p_peers" && is_empty(name)? {
                return Ok(Some(name.to_owned()));
            }
        }
        Ok(None)
    }

    fn range(&self, expression: &str, begun: u64) -> Result<Value> {
        let end = unix_seconds();
        let query = percent_encoded(expression);
        let path = format!("/api/v1/query_range?query={query}&start={begun}&end={end}&step=1");
        let (_, body) = get(self.at, &path)?;
        let answer: Value = serde_json::from_slice(&body).context("Prometheus answers JSON")?;
        ensure!(answer["status"] == "success", "{expression}: {}", answer["error"]);
        Ok(answer["data"]["result"].clone())
    }
}

/// The first of ten free ports in a row.
fn free_base() -> Result<u16> {
    for _ in 0..100 {
        let first = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let is_free = |port| TcpListener::bind(("127.0.0.1", port)).is_ok();
        if first < 65_000 && (first..first + 10).all(is_free) {
            return Ok(first);
        }
    }
    bail!("no ten free ports in a row")
}

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

fn percent_encoded(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    text.bytes().map(encode).collect()
}

/// One request; HTTP/1.0, whose answers end with the connection.
fn get(at: SocketAddr, path: &str) -> Result<(u16, Vec<u8>)> {
    let mut stream = TcpStream::connect_timeout(&at, Duration::from_secs(2))?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {at}\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let head = answer.windows(4).position(|end| end == b"\r\n\r\n").context("no HTTP answer")?;
    let status = String::from_utf8_lossy(&answer[..head]);
    let status = status.split(' ').nth(1).and_then(|code| code.parse().ok());
    Ok((status.context("no status")?, answer.split_off(head + 4)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(expression: &str, expected: &[&str]) {
        assert_eq!(series(expression).into_iter().collect::<Vec<_>>(), expected, "{expression}");
    }

    #[test]
    fn the_series_of_an_expression_are_its_names_and_no_label_or_function() {
        check("up{job=\"sutantra\"} == 0", &["up"]);
        check(
            "sum by (instance) (rate(sutantra_a_total{x=\"sutantra_b\"}[5m])) / on (instance) cometbft_c > 5",
            &["cometbft_c", "sutantra_a_total"],
        );
        check("instance:sutantra_d:rate1m > 1", &["instance:sutantra_d:rate1m"]);
        check("time() - vector(1)", &[]);
    }

    /// R113
    #[test]
    fn dashboards_and_rules_are_read_whole() {
        let workspace = Workspace::find().expect("a checkout");
        let queries = expressions(&workspace).expect("ours");
        assert!(queries.iter().any(|query| query.place == "media dashboard, Viewers"));
        assert!(queries.iter().any(|query| query.alert.as_deref() == Some("NodeDown")));
    }
}
