//! What `/metrics` shows of the machine: room on the disk, memory, clock, limits of the process.

use std::{fs, io, mem::MaybeUninit, os::unix::ffi::OsStrExt, path::Path};

use prometheus::proto::{MetricFamily, MetricType};
use sfu::io::{BufferBytes, SOCKET_BUFFER_BYTES};

use super::family;

/// Room of the file system that a directory lies on, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disk {
    /// What a user without privileges may still write.
    pub free_bytes: u64,
    /// All of it.
    pub size_bytes: u64,
}

impl Disk {
    /// Asks statvfs(3).
    ///
    /// # Errors
    /// There is no such path, or the system refuses.
    pub fn of(path: &Path) -> io::Result<Self> {
        let path = std::ffi::CString::new(path.as_os_str().as_bytes())?;
        let mut answer = MaybeUninit::<libc::statvfs>::zeroed();
        // SAFETY: `path` ends with a zero byte and lives during the call; `answer` has room for what
        // the call writes.
        let result = unsafe { libc::statvfs(path.as_ptr(), answer.as_mut_ptr()) };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call has succeeded, and every bit pattern of integers is a value.
        let answer = unsafe { answer.assume_init() };
        let bytes = |blocks: u64| blocks.saturating_mul(answer.f_frsize);
        Ok(Self { free_bytes: bytes(answer.f_bavail), size_bytes: bytes(answer.f_blocks) })
    }
}

/// What the kernel thinks of its own clock (adjtimex(2), read only).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KernelClock {
    /// Somebody, such as chrony or systemd-timesyncd, keeps it right.
    pub is_synchronised: bool,
    /// How wrong it may be at most, by that somebody's estimate, µs.
    pub error_max_us: u64,
}

impl KernelClock {
    /// Asks the kernel; `None` where that is not allowed.
    pub fn read() -> Option<Self> {
        let mut answer = MaybeUninit::<libc::timex>::zeroed();
        // SAFETY: `modes` is zero, so that the call only writes, into room that is large enough.
        let state = unsafe { libc::adjtimex(answer.as_mut_ptr()) };
        if state < 0 {
            return None;
        }
        // SAFETY: zeroed above and then written; every bit pattern of integers is a value.
        let answer = unsafe { answer.assume_init() };
        let is_synchronised = state != libc::TIME_ERROR && answer.status & libc::STA_UNSYNC == 0;
        Some(Self { is_synchronised, error_max_us: u64::try_from(answer.maxerror).unwrap_or(0) })
    }
}

/// Memory of the machine, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// What programs may still take without swapping.
    pub available_bytes: u64,
    /// All of it.
    pub total_bytes: u64,
}

impl Memory {
    /// Of proc_meminfo(5).
    pub fn read() -> Option<Self> {
        Self::parse(&fs::read_to_string("/proc/meminfo").ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        let bytes = |name| {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
            kilobytes.checked_mul(1024)
        };
        Some(Self { available_bytes: bytes("MemAvailable:")?, total_bytes: bytes("MemTotal:")? })
    }
}

/// How many files the process may have open: the soft limit of `/proc/self/limits`.
pub fn open_files_max() -> Option<u64> {
    parse_open_files(&fs::read_to_string("/proc/self/limits").ok()?)
}

fn parse_open_files(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    match line.split_whitespace().next()? {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

/// All of it as families; what the machine does not tell is left out.
#[expect(clippy::cast_precision_loss, reason = "Prometheus' values are f64")]
pub fn families(home: Option<&Path>, buffers: Option<&BufferBytes>) -> Vec<MetricFamily> {
    let single = |name, help, value| family(name, help, MetricType::GAUGE, "", &[("", value)]);
    let mut families = Vec::new();
    if let Some(Disk { free_bytes, size_bytes }) = home.and_then(|home| Disk::of(home).ok()) {
        families.push(single(
            "sutantra_home_free_bytes",
            "Room left on the file system of the home",
            free_bytes as f64,
        ));
        families.push(single(
            "sutantra_home_size_bytes",
            "Size of the file system of the home",
            size_bytes as f64,
        ));
    }
    if let Some(Memory { available_bytes, total_bytes }) = Memory::read() {
        families.push(single(
            "sutantra_host_memory_available_bytes",
            "Memory of the machine that programs may still take",
            available_bytes as f64,
        ));
        families.push(single(
            "sutantra_host_memory_bytes",
            "Memory of the machine",
            total_bytes as f64,
        ));
    }
    if let Some(most) = open_files_max() {
        families.push(single(
            "sutantra_process_max_fds",
            "File descriptors that the process may have open",
            most as f64,
        ));
    }
    if let Some(KernelClock { is_synchronised, error_max_us }) = KernelClock::read() {
        families.push(single(
            "sutantra_clock_synchronised",
            "1 while the kernel says that somebody keeps its clock right",
            f64::from(u8::from(is_synchronised)),
        ));
        families.push(single(
            "sutantra_clock_error_seconds",
            "How wrong the clock may be at most, as the kernel estimates it",
            error_max_us as f64 / 1e6,
        ));
    }
    if let Some(&BufferBytes { receive, send }) = buffers {
        families.push(family(
            "sutantra_socket_buffer_bytes",
            "What the kernel granted of the media sockets' buffers",
            MetricType::GAUGE,
            "direction",
            &[("receive", receive as f64), ("send", send as f64)],
        ));
        families.push(single(
            "sutantra_socket_buffer_wanted_bytes",
            "What was asked for of each of these buffers",
            SOCKET_BUFFER_BYTES as f64,
        ));
    }
    families
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_has_room_and_a_missing_path_is_an_error() {
        let disk = Disk::of(Path::new("/")).expect("a root");
        assert!(disk.size_bytes > 0 && disk.free_bytes <= disk.size_bytes, "{disk:?}");
        assert!(Disk::of(Path::new("/no/such/path")).is_err());
        assert!(Disk::of(Path::new("/a\0b")).is_err());
    }

    #[test]
    fn memory_and_limits_are_read_as_the_kernel_writes_them() {
        let text = "MemTotal:       8000 kB\nMemFree:        1 kB\nMemAvailable:   10 kB\n";
        let memory = Memory { available_bytes: 10_240, total_bytes: 8_192_000 };
        assert_eq!(Memory::parse(text), Some(memory));
        assert_eq!(Memory::parse("MemTotal: 8000 kB\n"), None);
        let line = |word| format!("Limit  Soft Limit\nMax open files  {word}  4096  files\n");
        assert_eq!(parse_open_files(&line("1024")), Some(1024));
        assert_eq!(parse_open_files(&line("unlimited")), Some(u64::MAX));
        assert_eq!(parse_open_files("Max open files\n"), None);
        assert!(open_files_max().is_some_and(|most| most > 0), "Linux");
    }
}
