//! A bounded queue from one thread to another without locks (single producer, single consumer).
//!
//! Two indices that only grow: the producer owns `tail`, the consumer `head`; each reads the
//! other's with `Acquire` and publishes its own with `Release`, so that a value is written before
//! it can be seen and read before its place is used again. `sfu/tests/loom_ring.rs` checks every
//! interleaving.

use super::sync::{Arc, AtomicUsize, Ordering, UnsafeCell};

/// Keeps the two indices on cache lines of their own.
#[derive(Debug)]
#[repr(align(128))]
struct Padded(AtomicUsize);

#[derive(Debug)]
struct Shared<T> {
    head: Padded,
    tail: Padded,
    places: Box<[UnsafeCell<T>]>,
}

// SAFETY: a place is touched by the producer only while `tail - head` says it is free, by the
// consumer only while it is filled, and the Acquire/Release pairs order the two. `T: Copy` has no
// destructor that could run twice.
unsafe impl<T: Copy + Send> Send for Shared<T> {}
// SAFETY: as above; `Producer` and `Consumer` are not `Clone`, so each side is one thread.
unsafe impl<T: Copy + Send> Sync for Shared<T> {}

/// The writing end.
#[derive(Debug)]
pub struct Producer<T> {
    shared: Arc<Shared<T>>,
    tail: usize,
    /// The consumer's index as last seen; it can only have grown.
    head_seen: usize,
}

/// The reading end.
#[derive(Debug)]
pub struct Consumer<T> {
    shared: Arc<Shared<T>>,
    head: usize,
}

/// A ring of `capacity` values (rounded up to a power of two).
pub fn ring<T: Copy + Send + Default>(capacity: usize) -> (Producer<T>, Consumer<T>) {
    let places = (0..capacity.next_power_of_two()).map(|_| UnsafeCell::new(T::default())).collect();
    let index = || Padded(AtomicUsize::new(0));
    let shared = Arc::new(Shared { head: index(), tail: index(), places });
    let producer = Producer { shared: shared.clone(), tail: 0, head_seen: 0 };
    (producer, Consumer { shared, head: 0 })
}

impl<T: Copy + Send> Producer<T> {
    /// Appends `value`, or gives it back if the ring is full.
    pub fn push(&mut self, value: T) -> Result<(), T> {
        let capacity = self.shared.places.len();
        if self.tail.wrapping_sub(self.head_seen) == capacity {
            self.head_seen = self.shared.head.0.load(Ordering::Acquire);
            if self.tail.wrapping_sub(self.head_seen) == capacity {
                return Err(value);
            }
        }
        let place = &self.shared.places[self.tail & (capacity - 1)];
        // SAFETY: the check above says the consumer is done with this place, and its Release store
        // of `head` that we loaded with Acquire orders its read before this write.
        place.with_mut(|place| unsafe { place.write(value) });
        self.tail = self.tail.wrapping_add(1);
        self.shared.tail.0.store(self.tail, Ordering::Release);
        Ok(())
    }
}

impl<T: Copy + Send> Consumer<T> {
    /// The oldest value, if there is one.
    pub fn pop(&mut self) -> Option<T> {
        let tail = self.shared.tail.0.load(Ordering::Acquire);
        if self.head == tail {
            return None;
        }
        let place = &self.shared.places[self.head & (self.shared.places.len() - 1)];
        // SAFETY: `tail` was stored with Release after this place was written, and the producer
        // does not write it again before it sees our `head` beyond it.
        let value = place.with(|place| unsafe { place.read() });
        self.head = self.head.wrapping_add(1);
        self.shared.head.0.store(self.head, Ordering::Release);
        Some(value)
    }
}
