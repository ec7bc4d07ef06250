//! `doctor`: looks at host, home and chain, beside a running node or without one.

use std::{fs, io::Read, net::SocketAddr, path::Path, time::SystemTime};

use anyhow::bail;
use clap::Args;
use comet::process::Binary;
use wallet::http::{Request, Url};

use super::{
    host,
    ports::{self, Port, Transport},
    remote,
    report::{self, Finding},
};
use crate::config::{
    Config,
    chain::{Comet, Role},
    home, stamp,
};

/// Where CometBFT's RPC is by custom.
const RPC_PORT: u16 = 26657;

/// `doctor`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct DoctorArgs {
    /// RPC of a chain to look at, besides those of the configuration; repeatable
    #[arg(long, value_name = "URL")]
    endpoint: Vec<String>,
    /// For programs: {"ok": …, "findings": […]}
    #[arg(long)]
    json: bool,
}

/// Looks at everything, prints it. Fails when something must be mended.
///
/// # Errors
/// How much must be mended; the report says what.
pub fn run(args: &DoctorArgs, config: &Config) -> anyhow::Result<()> {
    let findings = examine(args, config);
    let report = match args.json {
        true => report::json(&findings),
        false => report::text(&findings),
    };
    // Whoever closed stdout still has the exit code.
    let _ = std::io::Write::write_all(&mut std::io::stdout(), report.as_bytes());
    if report::is_bad(&findings) {
        bail!("something must be mended: see the lines with !!");
    }
    Ok(())
}

fn examine(args: &DoctorArgs, config: &Config) -> Vec<Finding> {
    let own = running(&config.home);
    let is_relay = config.on_chain.role.relays();
    let mut findings = vec![of_home(&config.home, own.as_ref())];
    findings.extend(of_stamp(&config.home));
    findings.extend(own.as_ref().and_then(|node| node.url.as_deref()).map(of_node));
    let pid = own.as_ref().map(|node| node.pid);
    findings.extend(needed_ports(config).iter().map(|port| ports::check(port, pid)));
    findings.extend(host::all(config, is_relay));
    if config.chain && config.on_chain.role != Role::Relay {
        findings.extend(engine(config));
    }
    let mut endpoints = config.on_chain.chain_rpc.clone();
    endpoints.extend(args.endpoint.iter().cloned());
    if !endpoints.is_empty() {
        let answers: Vec<_> =
            endpoints.into_iter().map(|at| (at.clone(), remote::ask(&at))).collect();
        findings.extend(remote::judge(SystemTime::now(), &answers));
    }
    findings
}

/// A node that runs on a home.
struct Running {
    pid: u32,
    /// Where it answers HTTP, once it does.
    url: Option<String>,
}

/// The home's lock says who has it. A lock that nobody holds is from a run that is over.
fn running(home: &Path) -> Option<Running> {
    let mut lock = fs::File::open(home.join("lock")).ok()?;
    match lock.try_lock_shared() {
        // Given back when the file is closed, below.
        Ok(()) => return None,
        Err(fs::TryLockError::WouldBlock) => {}
        Err(fs::TryLockError::Error(_)) => return None,
    }
    let mut text = String::new();
    (&mut lock).take(256).read_to_string(&mut text).ok()?;
    let pid = text.lines().next()?.parse().ok()?;
    Some(Running { pid, url: home::announced_url(home) })
}

fn of_home(home: &Path, own: Option<&Running>) -> Finding {
    let at = home.display();
    match own {
        Some(node) => Finding::ok("home", format!("{at}; a node runs on it, pid {}", node.pid)),
        None if home.is_dir() => Finding::ok("home", format!("{at}; no node runs on it")),
        None => Finding::ok("home", format!("{at}; made at the first start")),
    }
}

fn of_stamp(home: &Path) -> Option<Finding> {
    match stamp::read(home) {
        Ok(None) => None,
        Ok(Some(stamp)) if stamp.layout > stamp::LAYOUT => Some(Finding::bad(
            "layout",
            format!("{}, written by version {}", stamp.layout, stamp.version),
            format!("use version {} or newer of this program", stamp.version),
        )),
        Ok(Some(stamp)) => {
            let engine = match stamp.engine {
                Some(engine) => format!(", blocks of the {engine} engine"),
                None => String::new(),
            };
            let found = format!("{}, written by version {}{engine}", stamp.layout, stamp.version);
            Some(Finding::ok("layout", found))
        }
        Err(error) => Some(Finding::bad("layout", error.to_string(), "see there")),
    }
}

/// What a running node says about itself.
fn of_node(url: &str) -> Finding {
    let name = "node";
    let ask = || -> Result<_, wallet::http::HttpError> {
        let at: Url = url.parse()?;
        at.join("/readyz").send(Request { method: "GET", headers: &[], body: &[] })
    };
    match ask() {
        Ok(answer) if answer.status == 200 => Finding::ok(name, format!("{url} is ready")),
        Ok(answer) => {
            let json: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
            let said = json["message"].as_str().map_or(answer.text().into_owned(), str::to_owned);
            Finding::bad(name, format!("{url} is not ready"), said)
        }
        Err(error) => Finding::bad(name, error.to_string(), "its log says what it does"),
    }
}

/// Each port that a start would bind.
fn needed_ports(config: &Config) -> Vec<Port> {
    let tcp = |purpose, option, at, is_optional| Port {
        purpose,
        option,
        transport: Transport::Tcp,
        at,
        is_optional,
    };
    let mut ports = vec![tcp("HTTP", "--http", config.http, false)];
    if config.on_chain.role.relays() {
        let any: SocketAddr = ([0, 0, 0, 0], config.udp_port).into();
        let transport = Transport::Udp;
        ports.push(Port {
            purpose: "media",
            option: "--udp-port",
            transport,
            at: any,
            is_optional: false,
        });
    }
    if config.chain && config.on_chain.role != Role::Relay {
        let usual = SocketAddr::from(([127, 0, 0, 1], RPC_PORT));
        if config.on_chain.comet != Comet::External {
            let (at, is_optional) = (config.rpc.unwrap_or(usual), config.rpc.is_none());
            let is_optional = is_optional && config.on_chain.comet == Comet::Embedded;
            ports.push(tcp("RPC", "--rpc", at, is_optional));
        }
        if config.on_chain.comet == Comet::Spawn {
            ports.push(tcp("p2p", "--p2p", config.on_chain.p2p, false));
        }
    }
    ports
}

fn engine(config: &Config) -> Option<Finding> {
    let name = "CometBFT";
    match (config.on_chain.comet, Binary::find(config.on_chain.comet_bin.as_deref())) {
        (Comet::Embedded, Err(_)) => None,
        (Comet::Embedded, Ok(binary)) => {
            let at = binary.path.display();
            Some(Finding::ok(
                name,
                format!("{} at {at}, not used by --comet embedded", binary.version),
            ))
        }
        (Comet::Spawn | Comet::External, Ok(binary)) => {
            Some(Finding::ok(name, format!("{} at {}", binary.version, binary.path.display())))
        }
        (Comet::Spawn, Err(error)) => {
            Some(Finding::bad(name, error.to_string(), "see there; or start with --comet embedded"))
        }
        (Comet::External, Err(_)) => {
            Some(Finding::ok(name, "not on this machine's path; yours is started by you"))
        }
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::{config::home::Home, doctor::report::Level};

    #[test]
    fn a_home_says_whether_a_node_runs_on_it_and_which() {
        let dir = TempDir::new().unwrap();
        assert!(running(dir.path()).is_none());
        let mut home = Home::open(dir.path()).expect("ours");
        let found = running(dir.path()).expect("locked by us");
        assert_eq!((found.pid, found.url), (std::process::id(), None));
        home.announce("http://127.0.0.1:1").expect("ours");
        let found = running(dir.path()).expect("locked by us");
        assert_eq!(found.url.as_deref(), Some("http://127.0.0.1:1"));
        assert_eq!(of_node("http://127.0.0.1:1").level, Level::Bad);
        drop(home);
        assert!(running(dir.path()).is_none(), "its lock is given back");
        assert!(Home::open(dir.path()).is_ok(), "a look leaves it free");
    }

    #[test]
    fn a_stamp_from_the_future_is_bad_and_none_is_no_finding() {
        let dir = TempDir::new().unwrap();
        assert_eq!(of_stamp(dir.path()), None);
        stamp::claim_engine(dir.path(), stamp::Engine::Cometbft).expect("ours");
        let found = of_stamp(dir.path()).expect("stamped");
        assert!(found.level == Level::Ok && found.found.contains("cometbft"), "{found:?}");
        fs::write(dir.path().join(stamp::FILE_NAME), "layout = 9\nversion = 7.0.0\n")
            .expect("ours");
        let found = of_stamp(dir.path()).expect("stamped");
        assert!(found.level == Level::Bad && found.remedy[0].contains("7.0.0"), "{found:?}");
    }
}
