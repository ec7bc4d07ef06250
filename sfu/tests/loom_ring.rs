//! Every interleaving of the gate ring's producer and consumer, under the C11 memory model.

#![allow(dead_code, reason = "the model uses less of the file than the crate")]

mod sync {
    pub(crate) use loom::cell::UnsafeCell;
    pub(crate) use loom::sync::Arc;
    pub(crate) use loom::sync::atomic::{AtomicUsize, Ordering};
}

#[path = "../src/ports/ring.rs"]
mod ring;

/// R108
#[test]
fn no_interleaving_loses_doubles_or_reorders_a_command() {
    loom::model(|| {
        let (mut producer, mut consumer) = ring::ring::<u32>(2);
        let writer = loom::thread::spawn(move || {
            let mut refused = 0;
            for value in 1..=3 {
                refused += u32::from(producer.push(value).is_err());
            }
            refused
        });
        let mut got = Vec::new();
        for _ in 0..3 {
            got.extend(consumer.pop());
        }
        let refused = writer.join().expect("the writer does not panic");
        got.extend(std::iter::from_fn(|| consumer.pop()));
        // What was taken arrives, once and in order; what was refused does not.
        assert!(got.windows(2).all(|pair| pair[0] < pair[1]), "{got:?}");
        assert_eq!(got.len() as u32 + refused, 3);
    });
}
