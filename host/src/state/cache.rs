//! The clean cache: committed values, by key.
//!
//! A `rocksdb` store shares one bounded cache with every other store of the container. A `memory` store has its own
//! map, filled at start and never evicted: a key that it does not hold does not exist. Both hold what is committed
//! and nothing else. Only the commit writes new values; a task adds what it had to read from the database. The two
//! cannot race: a key of an epoch that is being committed is found in the sealed overlay, which the task gives up
//! only after the commit has brought the cache up to date.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use quick_cache::sync::Cache;
use quick_cache::{Equivalent, Weighter};

use super::keys::StorePrefix;

/// What an entry costs besides its key and value: two allocations, the slot, the count of references.
const ENTRY_OVERHEAD: u64 = 96;

#[derive(Debug, Clone, PartialEq, Eq)]
struct CacheKey {
    prefix: StorePrefix,
    generation: u64,
    key: Box<[u8]>,
}

struct CacheKeyRef<'a> {
    prefix: StorePrefix,
    generation: u64,
    key: &'a [u8],
}

impl Hash for CacheKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        CacheKeyRef {
            prefix: self.prefix,
            generation: self.generation,
            key: &self.key,
        }
        .hash(state);
    }
}

impl Hash for CacheKeyRef<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.prefix.hash(state);
        self.generation.hash(state);
        self.key.hash(state);
    }
}

impl Equivalent<CacheKey> for CacheKeyRef<'_> {
    fn equivalent(&self, key: &CacheKey) -> bool {
        self.prefix == key.prefix && self.generation == key.generation && *self.key == *key.key
    }
}

#[derive(Clone)]
struct ByBytes;

impl Weighter<CacheKey, Arc<[u8]>> for ByBytes {
    fn weight(&self, key: &CacheKey, value: &Arc<[u8]>) -> u64 {
        (key.key.len() + value.len()) as u64 + ENTRY_OVERHEAD
    }
}

/// The container's cache.
pub struct CleanCache {
    shared: Cache<CacheKey, Arc<[u8]>, ByBytes, foldhash::fast::RandomState>,
    budget: u64,
    /// Part of the budget that `shared` leaves to others.
    reserved: u64,
    pinned_bytes: AtomicU64,
    /// The next generation of a store. None is used twice, so a store that is opened again finds no earlier entries.
    generations: AtomicU64,
    /// What `shared` may hold: a multiple of `grain`.
    granted: Mutex<u64>,
    grain: u64,
}

impl CleanCache {
    /// A cache of at most `bytes`, including what `memory` stores pin.
    pub fn new(bytes: u64) -> CleanCache {
        Self::with_reserve(bytes, 0)
    }

    /// A cache that leaves `reserved` of its bytes to others, as far as `memory` stores do not need them.
    pub fn with_reserve(bytes: u64, reserved: u64) -> CleanCache {
        let entries = usize::try_from(bytes / 256).unwrap_or(usize::MAX).max(16);
        let shared = Cache::with(
            entries,
            0,
            ByBytes,
            foldhash::fast::RandomState::default(),
            quick_cache::sync::DefaultLifecycle::default(),
        );
        // `quick_cache` keeps 97 % of a shard for hot entries, by scaling and rounding down at every change of its
        // capacity: after enough changes nothing would be left. From 0, and over whole hundreds, it is exact.
        let exact = 100 * shared.num_shards() as u64;
        let cache = CleanCache {
            shared,
            budget: bytes,
            reserved,
            pinned_bytes: AtomicU64::new(0),
            generations: AtomicU64::new(0),
            granted: Mutex::new(0),
            grain: (bytes / 64 / exact).max(1) * exact,
        };
        cache.grant();
        cache
    }

    /// Bytes that are held, and how many may be.
    pub fn usage(&self) -> (u64, u64) {
        (
            self.shared.weight() + self.pinned_bytes.load(Ordering::Relaxed),
            self.budget,
        )
    }

    /// Whether `memory` stores alone exceed the budget.
    pub fn pinned_over_budget(&self) -> Option<(u64, u64)> {
        let pinned = self.pinned_bytes.load(Ordering::Relaxed);
        (pinned > self.budget).then_some((pinned, self.budget))
    }

    fn new_generation(&self) -> u64 {
        self.generations.fetch_add(1, Ordering::Relaxed)
    }

    fn pin(&self, added: u64, removed: u64) {
        self.pinned_bytes
            .fetch_add(added.wrapping_sub(removed), Ordering::Relaxed);
        self.grant();
    }

    /// Grants `shared` what is not pinned. It takes the lock of every shard, so small changes are left for later; but
    /// the budget is kept.
    fn grant(&self) {
        let mut granted = self.granted.lock();
        let pinned = self.pinned_bytes.load(Ordering::Relaxed);
        let free = self.budget.saturating_sub(pinned + self.reserved);
        if *granted > free || *granted + 2 * self.grain <= free {
            *granted = free / self.grain * self.grain;
            self.shared.set_capacity(*granted);
        }
    }
}

/// The values of a store, by key.
type Entries = HashMap<Box<[u8]>, Arc<[u8]>, foldhash::fast::RandomState>;

/// A store's part of the cache.
pub(super) enum StoreCache {
    /// In the container's cache. Entries of another generation are not found, and leave in time.
    Shared {
        cache: Arc<CleanCache>,
        generation: AtomicU64,
    },
    /// All of it.
    Pinned {
        cache: Arc<CleanCache>,
        entries: Mutex<Entries>,
    },
}

/// What the cache knows of a key.
pub(super) enum Cached {
    /// The committed value.
    Value(Arc<[u8]>),
    /// There is no value.
    Absent,
    /// Ask the database.
    Unknown,
}

impl StoreCache {
    pub(super) fn shared(cache: Arc<CleanCache>) -> StoreCache {
        StoreCache::Shared {
            generation: AtomicU64::new(cache.new_generation()),
            cache,
        }
    }

    pub(super) fn pinned(cache: Arc<CleanCache>) -> StoreCache {
        StoreCache::Pinned {
            cache,
            entries: Mutex::default(),
        }
    }

    pub(super) fn get(&self, prefix: StorePrefix, key: &[u8]) -> Cached {
        match self {
            StoreCache::Shared { cache, generation } => cache
                .shared
                .get(&CacheKeyRef {
                    prefix,
                    generation: generation.load(Ordering::Acquire),
                    key,
                })
                .map_or(Cached::Unknown, Cached::Value),
            StoreCache::Pinned { entries, .. } => entries
                .lock()
                .get(key)
                .map_or(Cached::Absent, |value| Cached::Value(Arc::clone(value))),
        }
    }

    /// Notes a committed value.
    pub(super) fn insert(&self, prefix: StorePrefix, key: &[u8], value: &[u8]) {
        match self {
            StoreCache::Shared { cache, generation } => cache.shared.insert(
                CacheKey {
                    prefix,
                    generation: generation.load(Ordering::Acquire),
                    key: key.into(),
                },
                value.into(),
            ),
            StoreCache::Pinned { cache, entries } => {
                let weigh = |value: usize| (key.len() + value) as u64 + ENTRY_OVERHEAD;
                let before = entries.lock().insert(key.into(), value.into());
                cache.pin(
                    weigh(value.len()),
                    before.map_or(0, |before| weigh(before.len())),
                );
            }
        }
    }

    /// Notes that all keys of some ranges are gone: from start, inclusive, to end, exclusive (`None`: open), disjoint and in
    /// order.
    pub(super) fn remove_ranges(&self, ranges: &[(&[u8], Option<&[u8]>)]) {
        if ranges.is_empty() {
            return;
        }
        match self {
            StoreCache::Shared { cache, generation } => {
                generation.store(cache.new_generation(), Ordering::Release);
            }
            StoreCache::Pinned { cache, entries } => {
                let mut removed = 0;
                entries.lock().retain(|key, value| {
                    let begun = ranges.partition_point(|(start, _)| *start <= &**key);
                    let inside = begun > 0 && ranges[begun - 1].1.is_none_or(|end| &**key < end);
                    if inside {
                        removed += (key.len() + value.len()) as u64 + ENTRY_OVERHEAD;
                    }
                    !inside
                });
                cache.pin(0, removed);
            }
        }
    }

    /// Notes that a key is gone.
    pub(super) fn remove(&self, prefix: StorePrefix, key: &[u8]) {
        match self {
            StoreCache::Shared { cache, generation } => {
                let generation = generation.load(Ordering::Acquire);
                cache.shared.remove(&CacheKeyRef {
                    prefix,
                    generation,
                    key,
                });
            }
            StoreCache::Pinned { cache, entries } => {
                if let Some(before) = entries.lock().remove(key) {
                    cache.pin(0, (key.len() + before.len()) as u64 + ENTRY_OVERHEAD);
                }
            }
        }
    }
}

impl Drop for StoreCache {
    fn drop(&mut self) {
        if let StoreCache::Pinned { cache, entries } = self {
            let entries = entries.get_mut().iter();
            let weights =
                entries.map(|(key, value)| (key.len() + value.len()) as u64 + ENTRY_OVERHEAD);
            cache.pin(0, weights.sum());
        }
    }
}
