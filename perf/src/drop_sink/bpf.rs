//! `bpf(2)`: maps, a program, its place on an interface; each a descriptor and gone with it.
//!
//! The structures are heads of the kernel's `union bpf_attr`, which takes any length.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use super::SinkError;
use super::asm::Instruction;

const MAP_CREATE: libc::c_int = 0;
const MAP_LOOKUP_ELEM: libc::c_int = 1;
const MAP_UPDATE_ELEM: libc::c_int = 2;
const PROG_LOAD: libc::c_int = 5;
const LINK_CREATE: libc::c_int = 28;
/// (`enum bpf_prog_type`, `enum bpf_attach_type`)
const XDP: (u32, u32) = (6, 37);
/// A classifier, at an interface's sending end (`BPF_TCX_EGRESS`, Linux 6.6).
const EGRESS: (u32, u32) = (3, 47);
const VERIFIER_LOG_BYTES: usize = 1 << 18;

/// Kinds of maps (`enum bpf_map_type`).
#[derive(Debug, Clone, Copy)]
pub enum MapKind {
    /// Values by index.
    Array = 2,
    /// The same, and one set of values per CPU.
    PerCpuArray = 6,
}

/// Where an interface's program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttachMode {
    /// In the driver.
    Native,
    /// In the stack, behind the driver.
    Generic,
    /// At the sending end, before the driver.
    Egress,
}

impl AttachMode {
    /// `XDP_FLAGS_DRV_MODE`, `XDP_FLAGS_SKB_MODE`.
    fn flags(self) -> u32 {
        match self {
            Self::Native => 1 << 2,
            Self::Generic => 1 << 1,
            Self::Egress => 0,
        }
    }

    fn types(self) -> (u32, u32) {
        match self {
            Self::Native | Self::Generic => XDP,
            Self::Egress => EGRESS,
        }
    }
}

#[repr(C)]
struct MapAttributes {
    kind: u32,
    key_bytes: u32,
    value_bytes: u32,
    entries: u32,
    flags: u32,
}

#[repr(C)]
struct ElementAttributes {
    map: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
struct ProgramAttributes {
    kind: u32,
    instructions_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_bytes: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    interface: u32,
    attach_type: u32,
}

#[repr(C)]
struct LinkAttributes {
    program: u32,
    interface: u32,
    attach_type: u32,
    flags: u32,
}

/// # Safety
/// Addresses in `attributes` must be good for what `command` does with them.
unsafe fn bpf<T>(command: libc::c_int, attributes: &mut T) -> io::Result<libc::c_long> {
    let attributes: *mut T = attributes;
    // SAFETY: the structure is valid and as long as said; the caller vouches for what it names.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn own(descriptor: libc::c_long) -> OwnedFd {
    let descriptor = libc::c_int::try_from(descriptor).expect("a descriptor is an int");
    // SAFETY: the kernel has just made it, for us alone.
    unsafe { OwnedFd::from_raw_fd(descriptor) }
}

fn address<T: ?Sized>(of: *const T) -> u64 {
    of.cast::<u8>() as u64
}

/// A map with keys of 32 bits.
#[derive(Debug)]
pub struct Map {
    descriptor: OwnedFd,
    /// Bytes that one look-up writes.
    read_bytes: usize,
}

impl Map {
    /// Makes a map of `entries` values.
    pub fn new(kind: MapKind, value_bytes: u32, entries: u32) -> Result<Self, SinkError> {
        let mut attributes =
            MapAttributes { kind: kind as u32, key_bytes: 4, value_bytes, entries, flags: 0 };
        // SAFETY: no addresses in it.
        let made = unsafe { bpf(MAP_CREATE, &mut attributes) };
        let descriptor = own(made.map_err(|source| SinkError::Bpf { what: "a map", source })?);
        let value_bytes = value_bytes as usize;
        let read_bytes = match kind {
            MapKind::Array => value_bytes,
            // One value per CPU that could be there, each on 8 bytes.
            MapKind::PerCpuArray => value_bytes.next_multiple_of(8) * possible_cpus()?,
        };
        Ok(Self { descriptor, read_bytes })
    }

    /// The descriptor's number, for the assembler.
    pub fn number(&self) -> i32 {
        self.descriptor.as_raw_fd()
    }

    /// The value of a key; of a per-CPU map all CPUs' values, one after the other.
    pub fn get(&self, key: u32) -> io::Result<Vec<u8>> {
        let mut value = vec![0_u8; self.read_bytes];
        let mut attributes = self.element(&key, value.as_mut_ptr());
        // SAFETY: key and value lie still; the kernel writes `read_bytes` bytes of value.
        unsafe { bpf(MAP_LOOKUP_ELEM, &mut attributes) }?;
        Ok(value)
    }

    /// Sets a byte of a map of single bytes.
    pub fn set(&self, key: u32, value: u8) -> io::Result<()> {
        assert_eq!(self.read_bytes, 1, "the kernel reads as many bytes as a value has");
        let mut attributes = self.element(&key, &raw const value);
        // SAFETY: key and value lie still; the kernel reads one byte of value.
        unsafe { bpf(MAP_UPDATE_ELEM, &mut attributes) }?;
        Ok(())
    }

    fn element(&self, key: *const u32, value: *const u8) -> ElementAttributes {
        ElementAttributes {
            map: self.descriptor.as_raw_fd() as u32,
            padding: 0,
            key: address(key),
            value: address(value),
            flags: 0,
        }
    }
}

/// CPUs that could ever be there: the kernel keeps a value of a per-CPU map for each.
fn possible_cpus() -> Result<usize, SinkError> {
    const PATH: &str = "/sys/devices/system/cpu/possible";
    let text =
        std::fs::read_to_string(PATH).map_err(|source| SinkError::Bpf { what: PATH, source })?;
    count_cpus(&text).ok_or_else(|| {
        let source = io::Error::new(io::ErrorKind::InvalidData, text.trim().to_owned());
        SinkError::Bpf { what: PATH, source }
    })
}

/// The kernel's list of CPUs, such as `0-3,6`: one more than the highest.
fn count_cpus(list: &str) -> Option<usize> {
    let last = list.trim().rsplit([',', '-']).next()?;
    last.parse::<usize>().ok()?.checked_add(1)
}

/// Has the program verified and loaded.
pub fn load(program: &[Instruction], mode: AttachMode) -> Result<OwnedFd, SinkError> {
    load_logged(program, mode, &mut []).map(own).or_else(|_| {
        // Once more, to be told why: the log costs time only where it is read.
        let mut log = vec![0_u8; VERIFIER_LOG_BYTES];
        load_logged(program, mode, &mut log).map(own).map_err(|source| {
            let end = log.iter().position(|byte| *byte == 0).unwrap_or(log.len());
            let log = String::from_utf8_lossy(&log[..end]).into_owned();
            if log.is_empty() {
                SinkError::Bpf { what: "the program", source }
            } else {
                SinkError::Verifier { source, log }
            }
        })
    })
}

fn load_logged(
    program: &[Instruction],
    mode: AttachMode,
    log: &mut [u8],
) -> io::Result<libc::c_long> {
    let license = CString::from(c"MIT OR Apache-2.0");
    let mut name = [0; 16];
    name[..9].copy_from_slice(b"drop_sink");
    let mut attributes = ProgramAttributes {
        kind: mode.types().0,
        instructions_count: u32::try_from(program.len()).map_err(io::Error::other)?,
        instructions: address(program.as_ptr()),
        license: address(license.as_ptr()),
        log_level: u32::from(!log.is_empty()),
        log_bytes: u32::try_from(log.len()).map_err(io::Error::other)?,
        log: if log.is_empty() { 0 } else { address(log.as_mut_ptr()) },
        kernel_version: 0,
        flags: 0,
        name,
        interface: 0,
        attach_type: mode.types().1,
    };
    // SAFETY: instructions, license and log lie still and are as long as said.
    unsafe { bpf(PROG_LOAD, &mut attributes) }
}

/// Puts a program on an interface of the thread's network namespace; it leaves with the descriptor.
pub fn attach(program: &OwnedFd, interface: u32, mode: AttachMode) -> io::Result<OwnedFd> {
    let mut attributes = LinkAttributes {
        program: program.as_raw_fd() as u32,
        interface,
        attach_type: mode.types().1,
        flags: mode.flags(),
    };
    // SAFETY: no addresses in it.
    unsafe { bpf(LINK_CREATE, &mut attributes) }.map(own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_list_of_cpus_ends_with_the_highest() {
        assert_eq!(count_cpus("0-1\n"), Some(2));
        assert_eq!(count_cpus("0\n"), Some(1));
        assert_eq!(count_cpus("0-3,8-15"), Some(16));
        assert_eq!(count_cpus("none"), None);
    }
}
