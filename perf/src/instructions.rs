//! Instructions per packet: the workload under callgrind, its counts held against a baseline.
//!
//! Callgrind runs the program on a CPU of its own making, which has AES-NI and AVX2 and no VAES or
//! AVX-512. The cipher picks its code by what the CPU says it has, so a sealed packet counts more
//! instructions here than on a new machine. The counts are for comparing one commit with another,
//! never for guessing nanoseconds.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, bail, ensure};

use crate::InstructionArgs;
use crate::stages;
use crate::workload::{CASES, Case};

/// Where the committed baseline lies.
pub const BASELINE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/baselines/callgrind.json");
/// A count may grow by this much; compilers and layouts move it by less.
const GROWTH_MAX: f64 = 0.03;

/// What paused viewers may add to a packet's count: words of the gate's mask, once a tick.
const PAUSED_GROWTH_MAX: f64 = 0.001;

/// Instructions per unit, by case.
type Counts = BTreeMap<String, f64>;

/// Counts all cases, prints them beside the baseline, and checks or updates it.
pub fn run(args: &InstructionArgs) -> anyhow::Result<ExitCode> {
    let mut counts = Counts::new();
    for case in &CASES {
        eprintln!("counting {}", case.name);
        counts.insert(case.name.to_owned(), count(case).with_context(|| case.name)?);
    }
    let baseline = match read_baseline(&args.baseline) {
        Ok(baseline) => baseline,
        Err(error) if args.check => return Err(error),
        Err(_) => Counts::new(),
    };
    if args.update {
        let json = serde_json::to_string_pretty(&counts)?;
        std::fs::write(&args.baseline, json + "\n")
            .with_context(|| args.baseline.display().to_string())?;
    }
    println!("| case | per | instructions | baseline | change |");
    println!("|---|---|---|---|---|");
    for case in &CASES {
        let now = counts[case.name];
        let (before, change) = match baseline.get(case.name) {
            Some(before) => {
                (format!("{before:.1}"), format!("{:+.2} %", 100.0 * (now / before - 1.0)))
            }
            None => ("-".to_owned(), "-".to_owned()),
        };
        println!("| {} | {} | {now:.1} | {before} | {change} |", case.name, case.unit);
    }
    println!();
    stages::print(&counts, "instructions");
    let mut grown = if args.check { grown(&counts, &baseline) } else { Vec::new() };
    grown.extend(paused_cost(&counts));
    for sentence in &grown {
        println!("FAILED: {sentence}.");
    }
    Ok(if grown.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn read_baseline(path: &Path) -> anyhow::Result<Counts> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    serde_json::from_str(&text).with_context(|| path.display().to_string())
}

/// Sentences about every count that grew too much or that the baseline lacks.
fn grown(counts: &Counts, baseline: &Counts) -> Vec<String> {
    let judge = |(name, now): (&String, &f64)| match baseline.get(name) {
        None => Some(format!("{name} is not in the baseline; run with --update")),
        Some(before) if *now > before * (1.0 + GROWTH_MAX) => {
            Some(format!("{name} grew from {before:.1} to {now:.1} instructions, more than 3 %"))
        }
        Some(_) => None,
    };
    counts.iter().filter_map(judge).collect()
}

/// A sentence if viewers whose gate is closed cost anything per packet.
fn paused_cost(counts: &Counts) -> Option<String> {
    let alone = counts.get("forward_video_to_100")?;
    let beside = counts.get("forward_video_to_100_of_200")?;
    (*beside > alone * (1.0 + PAUSED_GROWTH_MAX)).then(|| {
        format!(
            "100 paused viewers beside 100 make a packet cost {beside:.1} instead of {alone:.1}"
        )
    })
}

/// Runs one case under callgrind: instructions per unit.
fn count(case: &Case) -> anyhow::Result<f64> {
    let program = std::env::current_exe()?;
    let out = std::env::temp_dir().join(format!("callgrind-{}-{}", std::process::id(), case.name));
    let run = Command::new("valgrind")
        .args(["--tool=callgrind", "--collect-atstart=no", "--toggle-collect=*counted_section*"])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(&program)
        .args(["callgrind-workload", case.name, &case.rounds.to_string()])
        .output()
        .context("valgrind does not start; install the package valgrind")?;
    let profile = std::fs::read_to_string(&out);
    // A profile that was not written cannot be removed; that it is missing is told below.
    let _absent = std::fs::remove_file(&out);
    if !run.status.success() {
        bail!("under valgrind: {}", String::from_utf8_lossy(&run.stderr));
    }
    let instructions = parse_total(&profile?).context("callgrind's profile names no total")?;
    ensure!(instructions > 0, "callgrind never saw the counted section");
    Ok(instructions as f64 / (case.rounds * case.units_per_round) as f64)
}

fn parse_total(profile: &str) -> Option<u64> {
    let total = profile.lines().find_map(|line| line.strip_prefix("totals:"))?;
    total.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(now: f64, before: Option<f64>, failures: usize) {
        let counts = Counts::from([("case".to_owned(), now)]);
        let baseline = before.map(|before| ("case".to_owned(), before)).into_iter().collect();
        assert_eq!(grown(&counts, &baseline).len(), failures, "{now} {before:?}");
    }

    #[test]
    fn growth_beyond_three_percent_or_a_case_without_baseline_fails() {
        check(103.0, Some(100.0), 0);
        check(103.1, Some(100.0), 1);
        check(50.0, Some(100.0), 0);
        check(50.0, None, 1);
    }

    #[test]
    fn a_paused_viewer_may_cost_no_instruction_per_packet() {
        let counts = |beside| {
            let both = [("forward_video_to_100", 4000.0), ("forward_video_to_100_of_200", beside)];
            both.map(|(name, count)| (name.to_owned(), count)).into()
        };
        assert_eq!(paused_cost(&counts(4000.0)), None);
        assert_eq!(paused_cost(&counts(4003.9)), None);
        assert!(paused_cost(&counts(4005.0)).is_some());
    }

    #[test]
    fn the_total_is_read_from_the_profile() {
        assert_eq!(parse_total("version: 1\nfn=(1)\n1 5\ntotals: 12345\n"), Some(12_345));
        assert_eq!(parse_total("summary: 1\n"), None);
    }

    #[test]
    fn the_committed_baseline_has_every_case_and_no_other() {
        let baseline = read_baseline(Path::new(BASELINE)).expect("committed");
        let mut names: Vec<&str> = CASES.iter().map(|case| case.name).collect();
        names.sort_unstable();
        assert_eq!(baseline.keys().collect::<Vec<_>>(), names);
        assert!(baseline.values().all(|count| *count > 1.0));
    }
}
