//! One bus: each subscriber has a bounded queue of its own, and whoever is slow loses the oldest.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use crossbeam_channel::{RecvTimeoutError, Sender, TrySendError, bounded};

/// Events that wait for one subscriber; beyond it the oldest is dropped and counted.
pub const EVENT_QUEUE_MAX: usize = 1024;

/// Carries each published value to every subscriber, in one order for all of them.
///
/// Cheap to clone; the bus ends when the last clone is dropped.
#[derive(Debug)]
pub struct Bus<T> {
    shared: Arc<Shared<T>>,
}

#[derive(Debug)]
struct Shared<T> {
    /// Held for as long as it takes to push one value to each queue: publishers wait for each
    /// other, never for a subscriber.
    outlets: Mutex<Vec<Outlet<T>>>,
    dropped: AtomicU64,
}

#[derive(Debug)]
struct Outlet<T> {
    queue: Arc<Mutex<Queue<T>>>,
    wake: Sender<()>,
}

#[derive(Debug)]
struct Queue<T> {
    values: VecDeque<T>,
    max: usize,
    lost: u64,
}

/// A subscriber's end of a [`Bus`].
#[derive(Debug)]
pub struct Receiver<T> {
    queue: Arc<Mutex<Queue<T>>>,
    ready: crossbeam_channel::Receiver<()>,
}

/// What a subscriber gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received<T> {
    /// The next value.
    Value(T),
    /// So many values were lost between the last one and the next: read the state again.
    Lagged(u64),
}

/// The bus has ended and everything was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the event bus has ended")]
pub struct Disconnected;

impl<T> Clone for Bus<T> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<T> Default for Bus<T> {
    fn default() -> Self {
        let shared = Shared { outlets: Mutex::new(Vec::new()), dropped: AtomicU64::new(0) };
        Self { shared: Arc::new(shared) }
    }
}

impl<T: Clone> Bus<T> {
    /// A bus that nobody listens to yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Everything that is published from now on, through a queue of [`EVENT_QUEUE_MAX`].
    pub fn subscribe(&self) -> Receiver<T> {
        self.subscribe_with(EVENT_QUEUE_MAX)
    }

    /// The same, through a queue of `max` values, at least one.
    pub fn subscribe_with(&self, max: usize) -> Receiver<T> {
        let queue = Queue { values: VecDeque::new(), max: max.max(1), lost: 0 };
        let queue = Arc::new(Mutex::new(queue));
        let (wake, ready) = bounded(1);
        let outlet = Outlet { queue: Arc::clone(&queue), wake };
        locked(&self.shared.outlets).push(outlet);
        Receiver { queue, ready }
    }

    /// Gives a copy to every subscriber. Never waits for one (R25).
    pub fn publish(&self, value: T) {
        let mut lost = 0;
        locked(&self.shared.outlets).retain(|outlet| {
            lost += u64::from(locked(&outlet.queue).push(value.clone()));
            // A full wake-up channel means that the subscriber was woken already.
            !matches!(outlet.wake.try_send(()), Err(TrySendError::Disconnected(())))
        });
        self.shared.dropped.fetch_add(lost, Ordering::Relaxed);
    }

    /// Values that slow subscribers have lost so far, all of them together.
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }

    /// Subscribers that had not gone when something was last published.
    pub fn subscribers(&self) -> usize {
        locked(&self.shared.outlets).len()
    }
}

impl<T> Queue<T> {
    /// Whether the oldest value had to go.
    fn push(&mut self, value: T) -> bool {
        let is_full = self.values.len() == self.max;
        if is_full {
            self.values.pop_front();
            self.lost += 1;
        }
        self.values.push_back(value);
        is_full
    }
}

impl<T> Receiver<T> {
    /// What is there now; `None`: nothing.
    pub fn try_recv(&self) -> Option<Received<T>> {
        let mut queue = locked(&self.queue);
        // Losses stand before everything that is still in the queue: the oldest go first.
        match std::mem::take(&mut queue.lost) {
            0 => queue.values.pop_front().map(Received::Value),
            lost => Some(Received::Lagged(lost)),
        }
    }

    /// Waits for the next.
    ///
    /// # Errors
    /// The bus has ended, and everything was received.
    pub fn recv(&self) -> Result<Received<T>, Disconnected> {
        loop {
            if let Some(received) = self.try_recv() {
                return Ok(received);
            }
            if self.ready.recv().is_err() {
                return self.try_recv().ok_or(Disconnected);
            }
        }
    }

    /// Waits for the next until `timeout` has passed; `None`: nothing came.
    ///
    /// # Errors
    /// The bus has ended, and everything was received.
    pub fn recv_timeout(&self, timeout: Duration) -> Result<Option<Received<T>>, Disconnected> {
        let until = Instant::now() + timeout;
        loop {
            if let Some(received) = self.try_recv() {
                return Ok(Some(received));
            }
            match self.ready.recv_deadline(until) {
                Ok(()) => {}
                Err(RecvTimeoutError::Timeout) => return Ok(self.try_recv()),
                Err(RecvTimeoutError::Disconnected) => {
                    return self.try_recv().map(Some).ok_or(Disconnected);
                }
            }
        }
    }

    /// Readable when something may have come: for a `select` over several channels. Take with
    /// [`Receiver::try_recv`] until nothing is left.
    pub fn ready(&self) -> &crossbeam_channel::Receiver<()> {
        &self.ready
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // A push or pop that panicked has left a queue that is as good as before it.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::thread;

    use proptest::prelude::*;

    use super::*;

    fn drain(receiver: &Receiver<u64>) -> Vec<Received<u64>> {
        std::iter::from_fn(|| receiver.try_recv()).collect()
    }

    #[test]
    fn every_subscriber_gets_every_event_in_order() {
        let bus = Bus::new();
        let (one, two) = (bus.subscribe(), bus.subscribe());
        (0..3).for_each(|value| bus.publish(value));
        let all: Vec<_> = (0..3).map(Received::Value).collect();
        assert_eq!(drain(&one), all);
        assert_eq!(drain(&two), all);
        assert_eq!(drain(&one), []);
    }

    /// R25
    #[test]
    fn a_slow_subscriber_blocks_no_producer_loses_the_oldest_and_is_told() {
        let bus = Bus::new();
        let (slow, quick) = (bus.subscribe_with(4), bus.subscribe_with(100));
        (0..100).for_each(|value| bus.publish(value)); // Nobody reads: this would hang.
        let mut expected = vec![Received::Lagged(96)];
        expected.extend((96..100).map(Received::Value));
        assert_eq!(drain(&slow), expected);
        assert_eq!(drain(&quick).len(), 100);
        assert_eq!(bus.dropped(), 96);
        bus.publish(100);
        assert_eq!(drain(&slow), [Received::Value(100)], "the lag is told once");
    }

    #[test]
    fn a_subscriber_that_is_gone_costs_nothing() {
        let bus = Bus::new();
        drop(bus.subscribe());
        let stays = bus.subscribe();
        bus.publish(1);
        assert_eq!(bus.subscribers(), 1);
        assert_eq!(drain(&stays), [Received::Value(1)]);
    }

    #[test]
    fn who_waits_is_woken_and_what_was_published_before_the_end_is_received() {
        let bus = Bus::new();
        let receiver = bus.subscribe();
        let waiting = thread::spawn(move || {
            let mut got = Vec::new();
            while let Ok(received) = receiver.recv() {
                got.push(received);
            }
            got
        });
        (0..50).for_each(|value| bus.publish(value));
        drop(bus);
        assert_eq!(waiting.join().unwrap(), (0..50).map(Received::Value).collect::<Vec<_>>());
    }

    #[test]
    fn a_wait_with_an_end_ends() {
        let bus = Bus::<u64>::new();
        let receiver = bus.subscribe();
        assert_eq!(receiver.recv_timeout(Duration::from_millis(1)), Ok(None));
        bus.publish(1);
        drop(bus);
        let long = Duration::from_secs(60);
        assert_eq!(receiver.recv_timeout(long), Ok(Some(Received::Value(1))));
        assert_eq!(receiver.recv_timeout(long), Err(Disconnected));
    }

    /// R25
    #[test]
    fn with_many_producers_nothing_is_lost_untold() {
        let bus = Bus::new();
        let receiver = bus.subscribe_with(64);
        let producers: Vec<_> = (0..4)
            .map(|_| {
                let bus = bus.clone();
                thread::spawn(move || (0..5000).for_each(|value| bus.publish(value)))
            })
            .collect();
        drop(bus);
        let (mut got, mut lost) = (0, 0);
        while let Ok(received) = receiver.recv() {
            match received {
                Received::Value(_) => got += 1,
                Received::Lagged(count) => lost += count,
            }
        }
        producers.into_iter().for_each(|producer| producer.join().unwrap());
        assert_eq!(got + lost, 20_000);
    }

    proptest! {
        /// R25: against a model that keeps everything.
        #[test]
        fn what_is_received_and_what_is_told_as_lost_is_what_was_published(
            max in 1usize..8,
            steps in prop::collection::vec(any::<bool>(), 0..200),
        ) {
            let bus = Bus::new();
            let receiver = bus.subscribe_with(max);
            let (mut published, mut expected) = (0u64, 0u64);
            let mut take = |receiver: &Receiver<u64>| -> Result<bool, TestCaseError> {
                match receiver.try_recv() {
                    None => return Ok(false),
                    Some(Received::Lagged(lost)) => expected += lost,
                    Some(Received::Value(value)) => {
                        prop_assert_eq!(value, expected);
                        expected += 1;
                    }
                }
                Ok(true)
            };
            for is_publish in steps {
                if is_publish {
                    bus.publish(published);
                    published += 1;
                } else {
                    take(&receiver)?;
                }
            }
            while take(&receiver)? {}
            prop_assert_eq!(expected, published);
        }
    }
}
