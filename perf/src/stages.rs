//! Where a forwarded packet's cost goes: stages that add up to the whole.

use std::collections::BTreeMap;

use crate::workload::{self, CASES};

/// Times a case is timed, in turns with the others.
const REPEATS: usize = 9;
/// A repeat runs the case's rounds so often.
const ROUNDS_FACTOR: u64 = 10;

/// Cost of a unit, by case: instructions, or ns.
pub type Costs = BTreeMap<String, f64>;

/// Times every case, prints medians with min–max, and the stages.
///
/// # Errors
/// A case does not do its work.
pub fn run() -> anyhow::Result<()> {
    let mut costs = Costs::new();
    println!("| case | per | median ns | min–max |");
    println!("|---|---|---|---|");
    let mut times = vec![Vec::with_capacity(REPEATS); CASES.len()];
    for _ in 0..REPEATS {
        for (case, times) in CASES.iter().zip(&mut times) {
            let rounds = case.rounds * ROUNDS_FACTOR;
            let time = workload::run(case.name, rounds)?;
            times.push(time.as_nanos() as f64 / (rounds * case.units_per_round) as f64);
        }
    }
    for (case, mut times) in CASES.iter().zip(times) {
        times.sort_by(f64::total_cmp);
        let (median, min, max) = (times[REPEATS / 2], times[0], times[REPEATS - 1]);
        println!("| {} | {} | {median:.1} | {min:.1}–{max:.1} |", case.name, case.unit);
        // The stages are differences: the least of each is the least disturbed.
        costs.insert(case.name.to_owned(), min);
    }
    println!();
    println!("Of the least times:");
    println!();
    print(&costs, "ns");
    Ok(())
}

/// The stages of a video packet in a frame of nine to 100 subscribers, and what a subscriber and
/// tick cost without packets.
pub fn print(costs: &Costs, unit: &str) {
    let Some(stages) = stages(costs) else { return };
    println!("| stage of a forwarded packet, frame of 9 to 100 subscribers | {unit} | share |");
    println!("|---|---|---|");
    let whole: f64 = stages.iter().map(|(_, cost)| cost).sum();
    for (name, cost) in &stages {
        println!("| {name} | {cost:.1} | {:.1} % |", 100.0 * cost / whole);
    }
    println!("| the whole | {whole:.1} | 100 % |");
    if let Some((fixed, packet)) = fit(costs) {
        println!();
        println!(
            "A subscriber costs {fixed:.1} {unit} a tick and {packet:.1} {unit} a packet \
             (through ticks of 1 and of 9 packets)."
        );
    }
}

/// (per subscriber and tick, per packet): the line through ticks of one and nine packets.
fn fit(costs: &Costs) -> Option<(f64, f64)> {
    let (one, nine) = (costs.get("fan_out_frame_of_1")?, costs.get("fan_out_frame_of_9")?);
    let packet = (nine - one) / 8.0;
    Some((one - packet, packet))
}

fn stages(costs: &Costs) -> Option<Vec<(&'static str, f64)>> {
    let get = |name: &str| costs.get(name).copied();
    let whole = get("forward_video_to_100")?;
    let receive = get("receive_video")? / 100.0;
    let plan = get("plan_frame")? / 100.0;
    let (header, seal) = (get("rtp_header_write")?, get("srtp_seal_1150")?);
    let fixed = fit(costs)?.0 / 9.0;
    // What has no case of its own: numbering, metering, counting, queueing of the message.
    let rest = whole - receive - plan - header - seal - fixed;
    Some(vec![
        ("receive: parse, open, cache (a 100th)", receive),
        ("plan of the messages (a 100th)", plan),
        ("subscriber's fixed cost of a tick (a 9th)", fixed),
        ("header", header),
        ("seal", seal),
        ("numbers, meter, rest", rest),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stages_add_up_to_the_whole() {
        let costs = [
            ("forward_video_to_100", 4500.0),
            ("receive_video", 6000.0),
            ("plan_frame", 30.0),
            ("rtp_header_write", 40.0),
            ("srtp_seal_1150", 4200.0),
            ("fan_out_frame_of_1", 4600.0),
            ("fan_out_frame_of_9", 40_600.0),
        ];
        let mut costs: Costs = costs.map(|(name, cost)| (name.to_owned(), cost)).into();
        let stages = super::stages(&costs).expect("all are there");
        assert!((stages.iter().map(|(_, cost)| cost).sum::<f64>() - 4500.0).abs() < 1e-6);
        assert_eq!(fit(&costs), Some((100.0, 4500.0)));
        costs.remove("plan_frame");
        assert_eq!(super::stages(&costs), None);
    }
}
