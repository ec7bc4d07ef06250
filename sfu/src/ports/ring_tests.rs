//! The ring with real threads; its file holds no tests, for the loom model includes it.

use super::ring::ring;

#[test]
fn a_full_ring_gives_the_value_back() {
    let (mut producer, mut consumer) = ring::<u32>(4);
    assert_eq!(consumer.pop(), None);
    for value in 0..4 {
        assert_eq!(producer.push(value), Ok(()));
    }
    assert_eq!(producer.push(4), Err(4));
    assert_eq!(consumer.pop(), Some(0));
    assert_eq!(producer.push(4), Ok(()));
    assert_eq!(std::iter::from_fn(|| consumer.pop()).collect::<Vec<_>>(), [1, 2, 3, 4]);
}

/// R108
#[test]
fn every_value_arrives_once_and_in_order_across_threads() {
    let (mut producer, mut consumer) = ring::<u64>(64);
    const COUNT: u64 = 200_000;
    let writer = std::thread::spawn(move || {
        for value in 0..COUNT {
            let mut value = value;
            while let Err(back) = producer.push(value) {
                value = back;
                std::thread::yield_now();
            }
        }
    });
    let mut next = 0;
    while next < COUNT {
        match consumer.pop() {
            Some(value) => {
                assert_eq!(value, next);
                next += 1;
            }
            None => std::thread::yield_now(),
        }
    }
    writer.join().expect("the writer does not panic");
    assert_eq!(consumer.pop(), None);
}
