//! What the host's clock and scheduler are asked for, once at the start of a shard.

use std::io;

/// `CLOCK_MONOTONIC` now, nanoseconds: the clock behind `std::time::Instant`, as another process
/// on this host reads it.
pub fn monotonic_nanos() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes to `time` only. The clock exists on every Linux.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Nice value of a shard: media before the process's own control, HTTP and blocks.
const SHARD_NICE: i32 = -10;

/// Lets the scheduler prefer the calling thread to others that are ready.
///
/// # Errors
/// `EACCES` without `CAP_SYS_NICE` or a limit that allows it (`RLIMIT_NICE`).
pub fn prefer_thread() -> io::Result<()> {
    // SAFETY: takes three integers; 0 is the calling thread.
    let result = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, SHARD_NICE) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Binds the calling thread to the `index`-th core, counted round when there are fewer.
///
/// # Errors
/// The kernel's, when the process may not use that core.
pub fn pin_to_core(index: usize) -> io::Result<()> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    // SAFETY: an all-zero `cpu_set_t` is an empty set; `CPU_SET` and the call stay within it.
    let result = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(index % cores, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
