//! The cases of the bare loop side by side: interleaved repeats, medians and spread.

use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};
use sfu::io::LinkKind;

use crate::bare_loop::{self, Bursts, Case, Cipher, Cost, Delivery, Gso, Sockets};
use crate::drop_sink::{AttachMode, DropSink, Network};

/// Options of `limit`.
#[derive(Args)]
pub struct LimitArgs {
    /// Packets of a subscriber in one tick, one case each; 7.4 is a mix of 7 and 8.
    #[arg(long, value_delimiter = ',', default_value = "1,4,8,16")]
    burst: Vec<f64>,
    /// Links, one case each: io_uring, epoll.
    #[arg(long, value_delimiter = ',', default_value = "io_uring,epoll")]
    links: Vec<String>,
    /// Whether the packets of a tick share a message, one case each: on, off.
    #[arg(long, value_delimiter = ',', default_value = "on")]
    gso: Vec<GsoChoice>,
    /// Measure a connected socket per subscriber as well.
    #[arg(long)]
    connected: bool,
    /// Where packets go: to sockets on loopback, or into a drop sink (needs root).
    #[arg(long, default_value = "loopback")]
    sink: SinkChoice,
    /// Subscribers, one case each.
    #[arg(long, value_delimiter = ',', default_value = "100")]
    receivers: Vec<usize>,
    /// RTP payload of a packet, bytes.
    #[arg(long, default_value_t = 1150)]
    payload_bytes: usize,
    /// aes128-gcm, aes256-gcm or sha1-80.
    #[arg(long, default_value = "aes256-gcm")]
    cipher: Cipher,
    /// Packets forwarded in one repeat.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    packets: u64,
    /// Bursts a second, with sleep between them; as fast as they are taken if not given.
    #[arg(long)]
    pace: Option<u32>,
    /// Repeats of each case, interleaved.
    #[arg(long, default_value_t = 5)]
    repeats: usize,
    /// Do not read what arrives: the kernel drops it when the receivers' buffers are full, which
    /// costs the sender less than delivering it.
    #[arg(long)]
    no_drain: bool,
    /// Write the figures as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// A sink on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SinkChoice {
    /// Sockets on loopback.
    Loopback,
    /// A veth pair with an XDP program at its far end.
    Drop,
    /// The same pair, the program at the near end: as a card that cuts messages up itself.
    Card,
}

impl SinkChoice {
    /// The drop sink that this is, with its network; none over loopback.
    pub fn open(self) -> anyhow::Result<Option<(Network, DropSink)>> {
        let attach = match self {
            Self::Loopback => return Ok(None),
            Self::Drop => DropSink::attach,
            Self::Card => DropSink::attach_as_card,
        };
        let network = Network::enter()?;
        let sink = attach(&network)?;
        Ok(Some((network, sink)))
    }
}

/// GSO on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum GsoChoice {
    On,
    Off,
}

/// One case's figures.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Row {
    pub link: String,
    pub sink: String,
    pub sockets: String,
    pub gso: bool,
    pub receivers: usize,
    /// Packets of a subscriber in a tick, on average.
    pub burst: f64,
    /// CPU ns per forwarded packet, over the repeats.
    pub median_ns: f64,
    pub min_ns: f64,
    pub max_ns: f64,
    pub packets_per_message: f64,
    /// Smallest share that arrived, of a hundred; absent without draining.
    pub arrived_percent: Option<f64>,
}

/// Measures and prints. Called before any thread is started, for the drop sink's network.
pub fn run(args: &LimitArgs) -> anyhow::Result<()> {
    if args.no_drain && args.sink != SinkChoice::Loopback {
        bail!("--no-drain is about loopback's receivers; the drop sink has none");
    }
    let in_network = args.sink.open()?;
    let delivery = match &in_network {
        Some((network, sink)) => Delivery::Drop(network, sink),
        None if args.no_drain => Delivery::Undrained,
        None => Delivery::Loopback,
    };
    let cases = cases(args, delivery)?;
    let rows = measure(&cases, args.repeats.max(1))?;
    print(args, &rows);
    if let Some((network, sink)) = &in_network {
        println!();
        let mode = format!("{:?}", sink.mode()).to_lowercase();
        println!("The program runs {mode}; {} frames were lost before it.", network.lost()?);
    }
    if let Some(path) = &args.json {
        let json = serde_json::to_string_pretty(&rows)?;
        std::fs::write(path, json + "\n").with_context(|| path.display().to_string())?;
    }
    Ok(())
}

fn cases<'a>(args: &LimitArgs, delivery: Delivery<'a>) -> anyhow::Result<Vec<Case<'a>>> {
    let sockets: &[Sockets] =
        if args.connected { &[Sockets::Shared, Sockets::Connected] } else { &[Sockets::Shared] };
    let mut cases = Vec::new();
    for receivers in &args.receivers {
        for burst in &args.burst {
            let bursts = Bursts::of_mean(*burst)?;
            for gso in &args.gso {
                let gso = if *gso == GsoChoice::On { Gso::On } else { Gso::Off };
                for (link, sockets) in links(&args.links)?
                    .iter()
                    .flat_map(|link| sockets.iter().map(move |s| (link, s)))
                {
                    cases.push(Case {
                        link: *link,
                        bursts: bursts.clone(),
                        gso,
                        sockets: *sockets,
                        receivers: *receivers,
                        payload_bytes: args.payload_bytes,
                        cipher: args.cipher,
                        packets: args.packets,
                        pace: args.pace,
                        delivery,
                    });
                }
            }
        }
    }
    Ok(cases)
}

/// The links of these names that this kernel has; a sentence is printed of those it has not.
pub fn links(names: &[String]) -> anyhow::Result<Vec<LinkKind>> {
    let mut links = Vec::new();
    for name in names {
        let link = name.parse::<LinkKind>()?;
        match (link, sfu::io::available()) {
            (LinkKind::IoUring, Err(error)) => eprintln!("left out: {error}"),
            (LinkKind::IoUring | LinkKind::Epoll, _) => links.push(link),
        }
    }
    Ok(links)
}

/// Each case `repeats` times, one after the other and again.
pub fn measure(cases: &[Case<'_>], repeats: usize) -> anyhow::Result<Vec<Row>> {
    let mut costs: Vec<Vec<Cost>> = vec![Vec::new(); cases.len()];
    for repeat in 1..=repeats {
        for (case, costs) in cases.iter().zip(&mut costs) {
            let name = format!("{} k={:.1}", case.link, case.bursts.mean());
            eprintln!("repeat {repeat} of {repeats}: {name}");
            costs.push(bare_loop::measure(case).context(name)?);
        }
    }
    Ok(cases.iter().zip(&costs).map(|(case, costs)| row(case, costs)).collect())
}

fn row(case: &Case<'_>, costs: &[Cost]) -> Row {
    let mut ns: Vec<f64> = costs.iter().map(|cost| cost.ns_per_packet).collect();
    ns.sort_by(f64::total_cmp);
    let sink = match case.delivery {
        Delivery::Loopback => "loopback",
        Delivery::Undrained => "loopback, not drained",
        Delivery::Drop(_, sink) if sink.mode() == AttachMode::Egress => "card",
        Delivery::Drop(..) => "drop",
    };
    Row {
        link: case.link.to_string(),
        sink: sink.to_owned(),
        sockets: format!("{:?}", case.sockets).to_lowercase(),
        gso: case.gso == Gso::On,
        receivers: case.receivers,
        burst: case.bursts.mean(),
        median_ns: ns[ns.len() / 2],
        min_ns: ns[0],
        max_ns: ns[ns.len() - 1],
        packets_per_message: costs[0].packets_per_message,
        arrived_percent: costs.iter().filter_map(|cost| cost.arrived_percent).reduce(f64::min),
    }
}

fn print(args: &LimitArgs, rows: &[Row]) {
    println!(
        "Bare loop: payload {} B, {:?}, {} repeats of {} packets, {};",
        args.payload_bytes,
        args.cipher.0,
        args.repeats,
        args.packets,
        args.pace.map_or("back to back".to_owned(), |pace| format!("{pace} bursts a second"))
    );
    println!(
        "CPU ns of the loop's thread per forwarded packet, with what the kernel does in its calls: \
         loopback, delivery to the receivers; drop, segmentation, a copy and XDP; card, all but \
         segmentation and driver."
    );
    println!();
    println!(
        "| sink | link | sockets | GSO | receivers | packets a tick | packets a message | median ns | min–max | arrived % |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    for row in rows {
        let arrived = row.arrived_percent.map_or("-".to_owned(), |share| format!("{share:.2}"));
        println!(
            "| {} | {} | {} | {} | {} | {:.1} | {:.1} | {:.0} | {:.0}–{:.0} | {arrived} |",
            row.sink,
            row.link,
            row.sockets,
            if row.gso { "on" } else { "off" },
            row.receivers,
            row.burst,
            row.packets_per_message,
            row.median_ns,
            row.min_ns,
            row.max_ns
        );
    }
}
