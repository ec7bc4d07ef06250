//! `cargo xtask soak`: everything long, item by item, each with a result file of its own.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::browser;
use crate::node::Node;
use crate::process::run;
use crate::tally::Tally;
use crate::workspace::Workspace;

/// The longest that one item may take; beyond it the item hangs and is killed.
const ITEM_LIMIT: Duration = Duration::from_secs(30 * 60);

/// One long thing.
enum Item {
    /// One publisher of 2.4 Mb/s and some viewers on loopback; not one packet may be lost.
    Load { link: &'static str, shards: u32, viewers: u32 },
}

/// Runs every item, or one; goes on after a failure and fails at the end.
pub fn soak(workspace: &Workspace, resume: bool, only: Option<&str>) -> Result<()> {
    let mut items = items();
    if only == Some("list") {
        items.iter().for_each(|item| println!("{}", item.name()));
        return Ok(());
    }
    items.retain(|item| only.is_none_or(|name| name == item.name()));
    ensure!(!items.is_empty(), "no such item; `--only list` names them");
    browser::build(workspace, &mut Tally::default())?;
    std::fs::create_dir_all(workspace.target.join("soak"))?;
    let mut failed = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let name = item.name();
        let head = format!("[{}/{}] {name}", index + 1, items.len());
        if resume && has_passed(workspace, &name) {
            println!("{head} … passed before");
            continue;
        }
        println!("{head}");
        let started = Instant::now();
        let outcome = item.run(workspace);
        let seconds = started.elapsed().as_secs_f64();
        let verdict = if outcome.is_ok() { "passed" } else { "failed" };
        println!("{head} … {verdict} after {seconds:.0} s");
        write_result(workspace, &name, seconds, &outcome)?;
        if let Err(error) = outcome {
            println!("{error:#}");
            failed.push(name);
        }
    }
    println!("{}", load_table(workspace));
    ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
    Ok(())
}

fn items() -> Vec<Item> {
    let mut items = Vec::new();
    for shards in [1, 2] {
        for link in ["io_uring", "epoll"] {
            items.extend([10, 50, 100].map(|viewers| Item::Load { link, shards, viewers }));
        }
    }
    items
}

impl Item {
    /// Unique, and the name of its result file.
    fn name(&self) -> String {
        match self {
            Item::Load { link, shards, viewers } => {
                format!("load-{link}-{shards}-shards-{viewers}-viewers")
            }
        }
    }

    /// Runs it to its end; what it found goes into the result file.
    fn run(&self, workspace: &Workspace) -> Result<Value> {
        let directory = workspace.target.join("soak").join(self.name());
        match self {
            Item::Load { link, shards, viewers } => {
                run_load(workspace, &directory, link, *shards, *viewers)
            }
        }
    }
}

fn run_load(
    workspace: &Workspace,
    directory: &Path,
    link: &str,
    shards: u32,
    viewers: u32,
) -> Result<Value> {
    let shards = shards.to_string();
    let flags = ["--open", "--no-demo", "--link", link, "--shards", &shards];
    let node = Node::start(workspace, directory, &flags)?;
    let report = directory.join("report.json");
    let mut bench = workspace.command(workspace.binary("sutantra-bench"));
    bench
        .args(["load", "--base", &node.url, "--viewers", &viewers.to_string()])
        .args(["--duration", "20s", "--max-loss", "0", "--pid", &node.pid().to_string()])
        .arg("--json")
        .arg(&report);
    let outcome = run(&mut bench, ITEM_LIMIT, &mut Tally::default());
    outcome.with_context(|| format!("the node's log: {}", node.log.display()))?;
    Ok(serde_json::from_str(&std::fs::read_to_string(&report)?)?)
}

fn result_file(workspace: &Workspace, item: &str) -> PathBuf {
    workspace.target.join("soak").join(format!("{item}.json"))
}

fn read_result(workspace: &Workspace, item: &str) -> Option<Value> {
    serde_json::from_str(&std::fs::read_to_string(result_file(workspace, item)).ok()?).ok()
}

fn has_passed(workspace: &Workspace, item: &str) -> bool {
    read_result(workspace, item).is_some_and(|result| result["passed"] == true)
}

fn write_result(
    workspace: &Workspace,
    item: &str,
    seconds: f64,
    outcome: &Result<Value>,
) -> Result<()> {
    let finished = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let mut result = json!({
        "item": item,
        "passed": outcome.is_ok(),
        "seconds": seconds,
        "finished_unix_seconds": finished,
    });
    match outcome {
        Ok(report) => result["report"] = report.clone(),
        Err(error) => result["error"] = Value::String(format!("{error:#}")),
    }
    let text = serde_json::to_string_pretty(&result)?;
    std::fs::write(result_file(workspace, item), text + "\n").context("target/soak")
}

/// The load matrix as the README shows it, from the result files that are there.
fn load_table(workspace: &Workspace) -> String {
    let mut table = "| Run | lost | CPU µs a packet: process, shards | packets a message | \
                     payload bytes copied a packet | KiB a viewer | added ms p50, p99 |\n\
                     |---|---|---|---|---|---|---|\n"
        .to_owned();
    for item in items() {
        let Item::Load { .. } = item;
        let name = item.name();
        let Some(result) = read_result(workspace, &name) else { continue };
        let at = |path: &str| match result["report"].pointer(path) {
            Some(Value::Number(number)) => {
                let number = number.as_f64().unwrap_or_default();
                if number.fract() == 0.0 { format!("{number}") } else { format!("{number:.2}") }
            }
            _ => "?".to_owned(),
        };
        table += &format!(
            "| {} | {} of {} | {}, {} | {} | {} | {} | {}, {} |\n",
            name.trim_start_matches("load-"),
            at("/packets/lost"),
            at("/packets/expected"),
            at("/server/us_per_packet"),
            at("/server/shard_us_per_packet"),
            at("/sending/packets_per_message"),
            at("/sending/copied_bytes_per_packet"),
            at("/server/rss_kib_per_viewer"),
            at("/latency_ms/p50"),
            at("/latency_ms/p99"),
        );
    }
    table
}
