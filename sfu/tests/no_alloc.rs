//! The hot path does not allocate: after a warm-up every allocation of this thread is counted, and
//! one is too many.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use sfu::ports::SrtpProfile;
use sfu::shard::bench::ForwardBench;

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system allocator unchanged; the counter is a plain thread-local
// without a destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, new_size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Frames of nine packets, made beforehand: the publisher's side is not what is measured.
fn frames(bench: &mut ForwardBench, first: u64, count: u64) -> Vec<Vec<Vec<u8>>> {
    let frame = |number: u64, bench: &mut ForwardBench| {
        (0..9)
            .map(|at| {
                let mut payload = vec![7; if at < 4 { 1100 } else { 1099 }];
                payload[..2].copy_from_slice(&[if at == 0 { 0x10 } else { 0 }, 0x10]);
                bench.publisher_packet(number * 9 + at, number as u32 * 3000, at == 8, &payload)
            })
            .collect()
    };
    (first..first + count).map(|number| frame(number, bench)).collect()
}

#[test]
fn forwarding_allocates_nothing_once_the_cache_is_full() {
    for profile in [SrtpProfile::AEAD_AES_128_GCM, SrtpProfile::AEAD_AES_256_GCM] {
        let mut bench = ForwardBench::new(50, profile).expect("an eventfd");
        // The retransmission cache holds 1,024 packets: 200 frames fill it.
        let warm_up = frames(&mut bench, 0, 200);
        let measured = frames(&mut bench, 200, 100);
        let play = |bench: &mut ForwardBench, frames: &[Vec<Vec<u8>>]| {
            for frame in frames {
                frame.iter().for_each(|packet| bench.receive(packet));
                bench.fan_out();
            }
        };
        play(&mut bench, &warm_up);
        let forwarded = bench.core.counters.rtp_forwarded_packets;
        let before = ALLOCATIONS.with(Cell::get);
        play(&mut bench, &measured);
        let allocations = ALLOCATIONS.with(Cell::get) - before;
        assert_eq!(bench.core.counters.rtp_forwarded_packets - forwarded, 100 * 9 * 50);
        assert_eq!(allocations, 0, "{profile:?}");
    }
}

#[test]
fn the_counter_sees_an_allocation() {
    let before = ALLOCATIONS.with(Cell::get);
    drop(std::hint::black_box(Box::new(1_u64)));
    assert_eq!(ALLOCATIONS.with(Cell::get) - before, 1);
}
