//! The server process seen from outside: CPU time, memory, threads, by `/proc`.

use std::collections::BTreeMap;
use std::fs;
use std::io;

/// Prefix of the names of media threads.
const SHARD_PREFIX: &str = "shard-";

/// CPU time of every thread at one moment.
#[derive(Debug, Clone, Default)]
pub struct CpuSample {
    threads: BTreeMap<u32, ThreadTime>,
    /// User and system time of the whole process, in 10 ms ticks: coarse, splits the sum.
    user_ns: u64,
    system_ns: u64,
}

#[derive(Debug, Clone)]
struct ThreadTime {
    name: String,
    on_cpu_ns: u64,
    /// Ready to run, but others had the core.
    waited_ns: u64,
}

/// CPU time between two samples, ns.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CpuUsed {
    /// All threads.
    pub process_ns: u64,
    /// All threads: ready to run while others had the cores.
    pub waited_ns: u64,
    /// The one thread that ran, or wanted to, for the longest time.
    pub busiest_ns: u64,
    /// Threads whose name begins with `shard-`; 0 when there is none.
    pub shards_ns: u64,
    /// Of the whole process, in ticks of 10 ms.
    pub user_ns: u64,
    /// Of the whole process, in ticks of 10 ms.
    pub system_ns: u64,
}

impl CpuSample {
    /// Reads `/proc/PID/task/*/schedstat` and `/proc/PID/stat`.
    pub fn take(pid: u32) -> io::Result<Self> {
        let mut threads = BTreeMap::new();
        for entry in fs::read_dir(format!("/proc/{pid}/task"))? {
            let path = entry?.path();
            let tid = path.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok());
            // A thread may end between listing and reading; its time up to then is not ours.
            let (Some(tid), Ok(name), Ok(schedstat)) = (
                tid,
                fs::read_to_string(path.join("comm")),
                fs::read_to_string(path.join("schedstat")),
            ) else {
                continue;
            };
            let mut ns = schedstat.split_whitespace().map_while(|ns| ns.parse().ok());
            let (Some(on_cpu_ns), Some(waited_ns)) = (ns.next(), ns.next()) else {
                return Err(io::Error::other("malformed schedstat"));
            };
            let name = name.trim_end().to_owned();
            threads.insert(tid, ThreadTime { name, on_cpu_ns, waited_ns });
        }
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let (user_ns, system_ns) =
            parse_stat(&stat).ok_or_else(|| io::Error::other("malformed stat"))?;
        Ok(Self { threads, user_ns, system_ns })
    }

    /// What was used since `earlier`. Threads born in between count from their birth.
    pub fn since(&self, earlier: &Self) -> CpuUsed {
        let mut used = CpuUsed {
            user_ns: self.user_ns.saturating_sub(earlier.user_ns),
            system_ns: self.system_ns.saturating_sub(earlier.system_ns),
            ..CpuUsed::default()
        };
        for (tid, now) in &self.threads {
            let before = earlier.threads.get(tid);
            let since = |now: u64, before: Option<u64>| now.saturating_sub(before.unwrap_or(0));
            let ns = since(now.on_cpu_ns, before.map(|before| before.on_cpu_ns));
            used.process_ns += ns;
            let waited_ns = since(now.waited_ns, before.map(|before| before.waited_ns));
            used.waited_ns += waited_ns;
            used.busiest_ns = used.busiest_ns.max(ns + waited_ns);
            if now.name.starts_with(SHARD_PREFIX) {
                used.shards_ns += ns;
            }
        }
        used
    }
}

/// Resident set of a process, bytes.
pub fn rss_bytes(pid: u32) -> io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = kib.and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.map(|kib| kib * 1024).ok_or_else(|| io::Error::other("status without VmRSS"))
}

/// utime and stime, ns (`proc(5)`): fields 14 and 15, counted behind the parenthesized name.
fn parse_stat(stat: &str) -> Option<(u64, u64)> {
    const TICK_NS: u64 = 10_000_000; // USER_HZ is 100 on every Linux that we run on.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    Some((ticks()? * TICK_NS, ticks()? * TICK_NS))
}

/// Cores that this process may use.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get())
}

/// What the figures were measured on.
pub fn machine() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("unknown CPU", |(_, model)| model);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cores = cores();
    format!("{model}, {cores} cores, Linux {}", kernel.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_of_a_named_thread_is_found_in_it() {
        let pid = std::process::id();
        let before = CpuSample::take(pid).expect("our own process");
        let (done, wait) = std::sync::mpsc::channel::<()>();
        let started_at = before.clone();
        let (started, working) = std::sync::mpsc::channel();
        let thread = std::thread::Builder::new().name("shard-7".into()).spawn(move || {
            let used = || CpuSample::take(pid).expect("our own process").since(&started_at);
            while used().shards_ns < 50_000_000 {}
            started.send(()).expect("the test waits");
            let _closed = wait.recv();
        });
        working.recv().expect("the thread works");
        let used = CpuSample::take(pid).expect("our own process").since(&before);
        drop(done);
        thread.expect("a thread starts").join().expect("it ends");
        assert!(used.shards_ns >= 50_000_000, "{used:?}");
        assert!(used.process_ns >= used.shards_ns && used.busiest_ns >= used.shards_ns);
        assert!(rss_bytes(pid).expect("our own process") > 100_000);
    }

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let stat = "7 (a) b (c)) S 1 1 1 0 -1 4 5 6 7 8 12 34 0 0 20 0";
        assert_eq!(parse_stat(stat), Some((120_000_000, 340_000_000)));
        assert_eq!(parse_stat("7 (x) S 1"), None);
    }
}
