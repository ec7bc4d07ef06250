//! What work costs on a machine that does other things too: CPU time, not the clock on the wall.

use std::time::{Duration, Instant};

/// CPU time that this thread has used.
pub fn of_thread() -> Duration {
    read(libc::CLOCK_THREAD_CPUTIME_ID)
}

fn read(clock: libc::clockid_t) -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a timespec of ours, which the call fills.
    let outcome = unsafe { libc::clock_gettime(clock, &raw mut time) };
    assert_eq!(outcome, 0, "every Linux has these clocks");
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// CPU time of this thread, and the time that passed.
pub fn measured<T>(work: impl FnOnce() -> T) -> (T, Cost) {
    let (cpu, begin) = (of_thread(), Instant::now());
    let done = work();
    (done, Cost { cpu: of_thread() - cpu, wall: begin.elapsed() })
}

/// What something cost.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cost {
    /// Of the thread that did it.
    pub cpu: Duration,
    /// Until it was done, with all that the machine did besides.
    pub wall: Duration,
}

impl Cost {
    /// CPU microseconds of each of `count`.
    pub fn us_each(&self, count: usize) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / count.max(1) as f64
    }

    /// CPU milliseconds.
    pub fn ms(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e3
    }
}
