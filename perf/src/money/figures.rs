//! Samples and what the kernel says of threads: percentiles, CPU time, run-queue delay, memory.

use std::{fs, io, path::Path, time::Duration};

/// What was measured of one thing, ns.
#[derive(Debug, Default)]
pub struct Samples(Vec<u64>);

impl Samples {
    pub fn add(&mut self, span: Duration) {
        self.add_ns(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX));
    }

    pub fn add_ns(&mut self, ns: u64) {
        self.0.push(ns);
    }

    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Nearest rank: the least sample that `percent` of all do not exceed; 0 of none.
    pub fn percentile_ns(&self, percent: usize) -> u64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let rank = (sorted.len() * percent.min(100)).div_ceil(100).max(1);
        sorted.get(rank - 1).copied().unwrap_or(0)
    }

    pub fn mean_ns(&self) -> f64 {
        self.0.iter().sum::<u64>() as f64 / self.count().max(1) as f64
    }
}

/// One line of the table.
pub struct Row {
    pub what: &'static str,
    /// The clock that the samples were taken with.
    pub clock: &'static str,
    pub samples: Samples,
    /// What the threads that did it waited for a core meanwhile, in all; `None`: the kernel keeps no
    /// such count.
    pub queued_ns: Option<u64>,
}

impl Row {
    pub const HEAD: &'static str = "| what | clock | n | p50 µs | p99 µs | mean µs | run-queue delay, µs each |\n|---|---|---:|---:|---:|---:|---:|";

    pub fn print(&self) -> String {
        let Self { what, clock, samples, queued_ns } = self;
        let us = |ns: u64| ns as f64 / 1000.0;
        let count = samples.count();
        let queued = queued_ns.map_or("-".to_owned(), |ns| {
            let each = us(ns) / count.max(1) as f64;
            format!("{each:.1}")
        });
        let (p50, p99) = (us(samples.percentile_ns(50)), us(samples.percentile_ns(99)));
        let mean = samples.mean_ns() / 1000.0;
        format!("| {what} | {clock} | {count} | {p50:.1} | {p99:.1} | {mean:.1} | {queued} |")
    }
}

/// What the calling thread has waited for a core since it began, ns.
pub fn own_queued_ns() -> Option<u64> {
    queued_ns(&fs::read_to_string("/proc/thread-self/schedstat").ok()?)
}

/// The same of all threads of this process with one of these names, together.
pub fn threads_queued_ns(names: &[&str]) -> Option<u64> {
    let mut sum = 0;
    for task in fs::read_dir("/proc/self/task").ok()? {
        let task = task.ok()?.path();
        let read = |file: &str| fs::read_to_string(Path::new(&task).join(file));
        // A thread that has just ended has no files any more.
        let Ok(name) = read("comm") else { continue };
        if names.contains(&name.trim_end()) {
            sum += queued_ns(&read("schedstat").ok()?)?;
        }
    }
    Some(sum)
}

/// Second field of `schedstat` (Documentation/scheduler/sched-stats.rst).
fn queued_ns(schedstat: &str) -> Option<u64> {
    schedstat.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// Memory of this process that is in RAM, bytes.
pub fn resident_bytes() -> io::Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    resident_in(&status).ok_or_else(|| io::Error::other("the kernel gives no VmRSS"))
}

/// `VmRSS` of proc_pid_status(5), which counts in KiB and calls them kB.
fn resident_in(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_the_least_sample_that_so_many_do_not_exceed() {
        #[track_caller]
        fn check(samples: &[u64], percent: usize, expected: u64) {
            assert_eq!(Samples(samples.to_vec()).percentile_ns(percent), expected);
        }
        check(&[], 50, 0);
        check(&[7], 50, 7);
        check(&[7], 99, 7);
        check(&[4, 1, 3, 2], 50, 2);
        check(&[4, 1, 3, 2], 75, 3);
        check(&[4, 1, 3, 2], 76, 4);
        check(&[4, 1, 3, 2], 0, 1);
        check(&[4, 1, 3, 2], 200, 4);
        let hundred: Vec<u64> = (1..=100).rev().collect();
        check(&hundred, 99, 99);
        check(&hundred, 50, 50);
    }

    #[test]
    fn a_line_has_microseconds_and_the_delay_of_one_sample() {
        let mut samples = Samples::default();
        samples.add(Duration::from_micros(10));
        samples.add_ns(30_000);
        let row = Row { what: "it", clock: "CPU", samples, queued_ns: Some(5_000) };
        assert_eq!(row.print(), "| it | CPU | 2 | 10.0 | 30.0 | 20.0 | 2.5 |");
        let row = Row { queued_ns: None, ..row };
        assert_eq!(row.print(), "| it | CPU | 2 | 10.0 | 30.0 | 20.0 | - |");
        let none = Row { samples: Samples::default(), queued_ns: Some(0), ..row };
        assert_eq!(none.print(), "| it | CPU | 0 | 0.0 | 0.0 | 0.0 | 0.0 |");
    }

    #[test]
    fn the_delay_is_the_second_field_of_schedstat() {
        assert_eq!(queued_ns("1203884 45012 7\n"), Some(45_012));
        assert_eq!(queued_ns("0 0 0\n"), Some(0));
        assert_eq!(queued_ns("1203884\n"), None);
        assert_eq!(queued_ns("1 x 2\n"), None);
        assert_eq!(queued_ns(""), None);
    }

    #[test]
    fn the_resident_memory_is_read_from_the_status_in_kib() {
        let status = "Name:\tperf\nVmHWM:\t   9000 kB\nVmRSS:\t   1234 kB\nThreads:\t1\n";
        assert_eq!(resident_in(status), Some(1234 * 1024));
        assert_eq!(resident_in("VmRSS:\t12 MB\n"), None);
        assert_eq!(resident_in("Name:\tperf\n"), None);
        assert!(resident_bytes().expect("this is Linux") > 0);
    }
}
