//! A store of a task, below its open layer: prefix, cache, database; and a sealed epoch on its way there.

use std::sync::Arc;

use super::cache::{Cached, CleanCache, StoreCache};
use super::db::{Db, Family, SteppedWalk, WriteSet};
use super::keys::{Order, StorePrefix};
use super::overlay::{Entry, Overlay};
use super::{StateError, runs, value};
use crate::model::{StoreId, TaskId};

/// How the committed entries of a store are kept at hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreKind {
    /// In the container's bounded cache.
    RocksDb,
    /// All in memory.
    Memory,
}

/// The committed part of a store of a task. Shared by the task, which reads it, and the commit, which writes it.
pub struct StoreHandle {
    prefix: StorePrefix,
    cache: StoreCache,
    db: Arc<Db>,
}

impl StoreHandle {
    /// The store `store` of `task`. A `memory` store is read from the database here.
    ///
    /// # Errors
    /// The database cannot be read, or the store does not fit into memory.
    pub fn open(
        db: Arc<Db>,
        cache: Arc<CleanCache>,
        task: TaskId,
        store: StoreId,
        kind: StoreKind,
    ) -> Result<StoreHandle, StateError> {
        let prefix = StorePrefix::new(task, store);
        let cache = match kind {
            StoreKind::RocksDb => StoreCache::shared(cache),
            StoreKind::Memory => fill(&db, cache, prefix)?,
        };
        Ok(StoreHandle { prefix, cache, db })
    }

    pub(super) fn prefix(&self) -> StorePrefix {
        self.prefix
    }

    pub(super) fn db(&self) -> &Db {
        &self.db
    }

    /// Hands the committed value of a key to `read`.
    pub(super) fn get_with<R>(
        &self,
        key: &[u8],
        scratch: &mut Vec<u8>,
        read: impl FnOnce(Option<&[u8]>) -> R,
    ) -> Result<R, StateError> {
        match self.cache.get(self.prefix, key) {
            Cached::Value(value) => Ok(read(Some(&value))),
            Cached::Absent => Ok(read(None)),
            Cached::Unknown => {
                self.prefix.key_into(key, scratch);
                self.db
                    .get_with(Family::State, scratch, |stored| match stored {
                        None => Ok(read(None)),
                        Some(stored) => {
                            let value = value::decode(stored)?;
                            self.cache.insert(self.prefix, key, value);
                            Ok(read(Some(value)))
                        }
                    })?
            }
        }
    }
}

fn fill(db: &Db, cache: Arc<CleanCache>, prefix: StorePrefix) -> Result<StoreCache, StateError> {
    let store = StoreCache::pinned(Arc::clone(&cache));
    let (lower, upper) = prefix.range(None, None);
    let mut walk = db.walk(Family::State, lower, upper, Order::Up);
    while let Some((key, stored)) = walk.entry()? {
        store.insert(prefix, &key[StorePrefix::LEN..], value::decode(stored)?);
        if let Some((pinned, budget)) = cache.pinned_over_budget() {
            return Err(StateError::MemoryStoresTooLarge { pinned, budget });
        }
        walk.advance();
    }
    Ok(store)
}

/// The writes of one epoch of a task, frozen.
pub struct SealedState {
    task: TaskId,
    stores: Vec<(Arc<StoreHandle>, Arc<Overlay>)>,
}

impl SealedState {
    pub(super) fn new(task: TaskId, stores: Vec<(Arc<StoreHandle>, Arc<Overlay>)>) -> SealedState {
        SealedState { task, stores }
    }

    /// Whose writes they are.
    pub fn task(&self) -> TaskId {
        self.task
    }

    /// How many entries will be written, and how many bytes the layers take.
    pub fn size(&self) -> (usize, usize) {
        self.stores
            .iter()
            .fold((0, 0), |(entries, bytes), (_, overlay)| {
                (entries + overlay.len(), bytes + overlay.bytes())
            })
    }

    /// Adds the writes to a checkpoint, all of them before it is written: in each store the range deletes first, then what
    /// survives them.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn write_into(
        &self,
        writes: &mut WriteSet<'_>,
        ranges: &ResolvedRanges,
    ) -> Result<(), StateError> {
        let (mut key, mut stored) = (Vec::new(), Vec::new());
        for ((store, overlay), resolved) in self.stores.iter().zip(&ranges.0) {
            for ((start, end), keys) in overlay.ranges().zip(resolved) {
                match keys {
                    Some(keys) if keys.len() <= DELETED_ONE_BY_ONE => {
                        for user_key in keys {
                            store.prefix.key_into(user_key, &mut key);
                            writes.delete(Family::State, &key);
                        }
                    }
                    _ => {
                        let (lower, upper) = store.prefix.range(Some(start), end);
                        writes.delete_range(Family::State, &lower, &upper);
                    }
                }
            }
            // In order: each insert into the memtable then goes where the last one has just been.
            let entries = overlay.entries_sorted();
            let same = |(_, a): &Entry<'_>, (_, b): &Entry<'_>| a.is_none() == b.is_none();
            for stretch in entries.chunk_by(same) {
                if stretch.len() >= runs::RUN_MIN && stretch[0].1.is_none() {
                    let keys: Vec<_> = stretch.iter().map(|(key, _)| *key).collect();
                    runs::write(&store.db, store.prefix, &keys, writes)?;
                    continue;
                }
                for (user_key, entry) in stretch {
                    store.prefix.key_into(user_key, &mut key);
                    match entry {
                        Some(entry) => {
                            value::encode_into(entry, &mut stored);
                            writes.put(Family::State, &key, &stored);
                        }
                        None => writes.delete(Family::State, &key),
                    }
                }
            }
        }
        Ok(())
    }

    /// Looks for the keys that range deletes will remove, to be asked before the checkpoint is written, while the database still
    /// has them. `budget`: how many keys may still be listed in this checkpoint.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn resolve_ranges(&self, budget: &mut usize) -> Result<ResolvedRanges, StateError> {
        let resolve = |(store, overlay): &(Arc<StoreHandle>, Arc<Overlay>)| {
            let mut found = Vec::new();
            if overlay.ranges().next().is_none() {
                return Ok(found);
            }
            // One walk over all of them, which are in order.
            let (lower, upper) = store.prefix.range(None, None);
            let mut walk = store
                .db
                .walk_in_steps(Family::State, lower, upper, Order::Up);
            for (start, end) in overlay.ranges() {
                let (lower, upper) = store.prefix.range(Some(start), end);
                walk.seek(&lower);
                found.push(list(&mut walk, &upper, LISTED_KEYS.min(*budget))?);
                *budget -= found.last().and_then(Option::as_ref).map_or(0, Vec::len);
            }
            Ok(found)
        };
        let resolved: Result<_, StateError> = self.stores.iter().map(resolve).collect();
        Ok(ResolvedRanges(resolved?))
    }

    /// Brings the cache up to date once the checkpoint is durable.
    ///
    /// # Errors
    /// `memory` stores have outgrown the cache.
    pub fn publish(&self, ranges: &ResolvedRanges) -> Result<(), StateError> {
        for ((store, overlay), resolved) in self.stores.iter().zip(&ranges.0) {
            let mut unlisted = Vec::new();
            for (range, keys) in overlay.ranges().zip(resolved) {
                match keys {
                    Some(keys) => keys
                        .iter()
                        .for_each(|key| store.cache.remove(store.prefix, key)),
                    None => unlisted.push(range),
                }
            }
            store.cache.remove_ranges(&unlisted);
        }
        for (store, overlay) in &self.stores {
            for (key, entry) in overlay.entries() {
                match entry {
                    Some(entry) => store.cache.insert(store.prefix, key, entry),
                    None => store.cache.remove(store.prefix, key),
                }
            }
            if let StoreCache::Pinned { cache, .. } = &store.cache
                && let Some((pinned, budget)) = cache.pinned_over_budget()
            {
                return Err(StateError::MemoryStoresTooLarge { pinned, budget });
            }
        }
        Ok(())
    }
}

/// The keys from where a walk stands up to before `upper`, if they are not more than `most`, and not many are passed over that
/// were deleted before.
fn list(walk: &mut SteppedWalk<'_>, upper: &[u8], most: usize) -> Result<Listed, StateError> {
    let mut keys = Vec::new();
    loop {
        if !walk.arrive(&mut || true)? {
            return Ok(None);
        }
        match walk.entry()? {
            Some((key, _)) if key < upper => {
                if keys.len() == most {
                    return Ok(None);
                }
                keys.push(key[StorePrefix::LEN..].into());
            }
            _ => return Ok(Some(keys)),
        }
        walk.advance();
    }
}

/// The keys of a range; `None` where they are too many to list.
type Listed = Option<Vec<Box<[u8]>>>;

/// What the range deletes of a task remove: for each store its ranges in order.
pub struct ResolvedRanges(Vec<Vec<Listed>>);

/// A range delete of more keys than this makes the store's whole part of the cache stale instead.
const LISTED_KEYS: usize = 10_000;
/// So many keys at most are listed in one checkpoint.
pub const LISTED_KEYS_MAX: usize = 1 << 18;
/// A range of so few keys is deleted key by key: a range delete in RocksDB is paid for by every reader, one of no keys too.
const DELETED_ONE_BY_ONE: usize = 64;
