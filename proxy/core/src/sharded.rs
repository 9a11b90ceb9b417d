//! A map behind several locks, so that tasks at work on different keys seldom wait for each other.
//!
//! A lock is held for as long as its guard is, and nobody may wait for anything else meanwhile.

use std::{
    collections::HashMap,
    hash::{BuildHasher, Hash, RandomState},
    sync::{Mutex, MutexGuard, PoisonError},
};

const SHARDS: usize = 32;

/// The map; each key has its place behind one of the locks.
pub(crate) struct Sharded<K, V> {
    shards: [Mutex<HashMap<K, V>>; SHARDS],
    hasher: RandomState,
}

impl<K: Hash, V> Sharded<K, V> {
    pub(crate) fn new() -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::new(HashMap::new())),
            hasher: RandomState::new(),
        }
    }

    /// Returns the part of the map that has `key`, or would have it.
    pub(crate) fn of(&self, key: &K) -> MutexGuard<'_, HashMap<K, V>> {
        lock(&self.shards[self.hasher.hash_one(key) as usize % SHARDS])
    }

    /// Returns all parts, one locked after the other.
    pub(crate) fn all(&self) -> impl Iterator<Item = MutexGuard<'_, HashMap<K, V>>> {
        self.shards.iter().map(lock)
    }
}

/// Locks what a panic cannot leave half changed: a value that is behind a poisoned lock is whole.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
