//! A map in pieces, each behind its own lock, so that two cores seldom meet.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Pieces; a power of two.
const SHARDS: usize = 16;

/// The map. The keys' hash is seeded, so that no peer can choose ids that meet.
pub(crate) struct Shards<K, V> {
    shards: Box<[Mutex<HashMap<K, V>>]>,
    seed: RandomState,
}

impl<K: Hash + Eq, V> Shards<K, V> {
    pub(crate) fn new() -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::new(HashMap::new())).collect();
        Self { shards, seed: RandomState::new() }
    }

    /// The piece in which `key` is or would be, locked.
    pub(crate) fn of<Q>(&self, key: &Q) -> MutexGuard<'_, HashMap<K, V>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        lock(&self.shards[self.seed.hash_one(key) as usize % SHARDS])
    }

    /// The pieces, one after the other, each locked while it is looked at.
    pub(crate) fn each(&self) -> impl Iterator<Item = MutexGuard<'_, HashMap<K, V>>> {
        self.shards.iter().map(lock)
    }

    /// How many pieces there are, for who walks them without holding any.
    pub(crate) fn pieces(&self) -> usize {
        self.shards.len()
    }

    pub(crate) fn piece(&self, index: usize) -> MutexGuard<'_, HashMap<K, V>> {
        lock(&self.shards[index])
    }

    /// Entries in all; a moment's sum.
    pub(crate) fn len(&self) -> usize {
        self.each().map(|shard| shard.len()).sum()
    }

    /// Forgets the entries that `keep` refuses, and gives memory back after a crowd has gone.
    pub(crate) fn retain(&self, mut keep: impl FnMut(&K, &mut V) -> bool) {
        for mut shard in self.each() {
            shard.retain(|key, value| keep(key, value));
            shrink(&mut shard);
        }
    }

    /// Gives memory back after a crowd has gone.
    pub(crate) fn shrink(&self) {
        self.each().for_each(|mut shard| shrink(&mut shard));
    }
}

fn shrink<K: Hash + Eq, V>(shard: &mut HashMap<K, V>) {
    if shard.capacity() > 64 && shard.capacity() > 4 * shard.len() {
        shard.shrink_to_fit();
    }
}

/// Locks; a panic elsewhere while it was held is that thread's affair, because every critical
/// section of this crate leaves whole values.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
