//! Receive buffers that the kernel picks from (io_uring provided-buffer ring).

use std::io;
use std::os::fd::RawFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::Submitter;
use io_uring::types::BufRingEntry;

/// Buffers of a ring. As many messages wait for the shard outside the sockets' own buffers; when
/// they are out, the rest waits in those, counted and not lost.
pub(super) const BUFFERS: u16 = 128;

/// Bytes of a buffer: the longest train that UDP's 16-bit length allows, behind one page for what
/// the kernel says about it. Only the pages that a message touches cost memory.
pub(super) const BUFFER_BYTES: usize = (1 << 16) + PAGE_BYTES;

const PAGE_BYTES: usize = 4096;

/// The entries' room, in whole pages so that the buffers behind it start on one.
const ENTRIES_BYTES: usize =
    (BUFFERS as usize * size_of::<BufRingEntry>()).next_multiple_of(PAGE_BYTES);

const MAPPING_BYTES: usize = ENTRIES_BYTES + BUFFERS as usize * BUFFER_BYTES;

/// The ring shares its memory with the kernel; entries first, buffers behind them.
pub(super) struct BufferRing {
    base: NonNull<u8>,
    /// Where the next buffer is given back to; wraps.
    tail: u16,
}

impl BufferRing {
    const MASK: u16 = BUFFERS - 1;

    /// Maps the memory and fills the ring with all buffers.
    pub(super) fn new() -> io::Result<BufferRing> {
        const { assert!(BUFFERS.is_power_of_two()) };
        let no_file: RawFd = -1;
        // SAFETY: a fresh anonymous mapping at an address of the kernel's choice.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                MAPPING_BYTES,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                no_file,
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).expect("a mapping is not at the null page");
        let mut ring = BufferRing { base, tail: 0 };
        (0..BUFFERS).for_each(|id| ring.give_back(id));
        ring.publish();
        Ok(ring)
    }

    /// Lets the kernel of `submitter`'s ring take buffers for requests of `group`.
    ///
    /// # Safety
    /// The ring must be gone, or all its requests cancelled, before `self` is dropped.
    pub(super) unsafe fn register(&self, submitter: &Submitter<'_>, group: u16) -> io::Result<()> {
        let address = self.base.as_ptr().expose_provenance() as u64;
        // SAFETY: the mapping starts with `BUFFERS` entries on a page's boundary; the caller keeps
        // it until the kernel is done.
        unsafe { submitter.register_buf_ring_with_flags(address, BUFFERS, group, 0) }
    }

    /// The first `len` bytes of a buffer that the kernel filled and that was not given back.
    pub(super) fn filled(&self, id: u16, len: usize) -> &[u8] {
        assert!(id < BUFFERS && len <= BUFFER_BYTES, "the kernel stays within its buffers");
        // SAFETY: lies within the mapping by the line above, is initialised (zeroed by `mmap`),
        // and the kernel writes to a buffer only while it is in the ring.
        unsafe { std::slice::from_raw_parts(self.buffer(id).as_ptr(), len) }
    }

    /// Puts a buffer back into the ring; the kernel sees it after [`BufferRing::publish`].
    pub(super) fn give_back(&mut self, id: u16) {
        assert!(id < BUFFERS, "a buffer of this ring");
        let index = usize::from(self.tail & BufferRing::MASK);
        // SAFETY: entry `index` lies within the mapping, aligned, and is the kernel's only after
        // the tail passed it. The fields are set one by one, because the first entry's fourth one
        // is the tail itself.
        let entry = unsafe { self.base.cast::<BufRingEntry>().add(index).as_mut() };
        entry.set_addr(self.buffer(id).as_ptr().expose_provenance() as u64);
        entry.set_len(BUFFER_BYTES as u32);
        entry.set_bid(id);
        self.tail = self.tail.wrapping_add(1);
    }

    /// Shows the kernel what was given back.
    pub(super) fn publish(&mut self) {
        // SAFETY: the first entry is there, and its fourth field holds the tail, which the kernel
        // reads (acquire) and we alone write.
        unsafe {
            let tail = BufRingEntry::tail(self.base.cast().as_ptr()).cast_mut();
            AtomicU16::from_ptr(tail).store(self.tail, Ordering::Release);
        }
    }

    fn buffer(&self, id: u16) -> NonNull<u8> {
        // SAFETY: `id < BUFFERS` in both callers, so the result lies within the mapping.
        unsafe { self.base.add(ENTRIES_BYTES + usize::from(id) * BUFFER_BYTES) }
    }
}

impl Drop for BufferRing {
    fn drop(&mut self) {
        // SAFETY: mapped in `new` with this length; by `register`'s contract the kernel is done.
        unsafe { libc::munmap(self.base.as_ptr().cast(), MAPPING_BYTES) };
    }
}
