//! The writes of one epoch of a task, frozen: what the commit writes.
//!
//! [`SealedState::changes`] is the epoch as a value, as one iterator. The database's write is built from it, and so is
//! everything else that must carry the same changes.
//!
//! Invariant: a sealed state never changes, and may be read by several threads.

use std::sync::Arc;

use super::db::{Family, SteppedWalk, WriteSet};
use super::frozen::{Entry, Frozen, Listed};
use super::keys::{Order, StorePrefix};
use super::store::StoreHandle;
use super::undo::Undo;
use super::{StateError, runs, value};
use crate::model::{StoreId, TaskId};

/// Above this many keys a range delete invalidates all that is at hand of the store.
const LISTED_KEYS: usize = 10_000;
/// The most keys listed for one checkpoint.
pub const LISTED_KEYS_MAX: usize = 1 << 18;
/// A range that holds no more keys than this is deleted key by key: every reader pays for a range delete in RocksDB, even one
/// that deletes nothing.
const DELETED_ONE_BY_ONE: usize = 64;

/// One change of a sealed epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change<'a> {
    /// Every key that was committed before, from `start` to before `end` (`None`: to the end of the store), is deleted.
    DeleteRange {
        /// The first key.
        start: &'a [u8],
        /// The key after the last.
        end: Option<&'a [u8]>,
    },
    /// A key has this value.
    Put(&'a [u8], &'a [u8]),
    /// A key is deleted.
    Delete(&'a [u8]),
}

/// The writes of one epoch of a task, frozen.
pub struct SealedState {
    task: TaskId,
    stores: Vec<SealedStore>,
}

/// The writes to one store.
pub(super) struct SealedStore {
    pub(super) handle: Arc<StoreHandle>,
    pub(super) frozen: Arc<Frozen>,
}

/// What the range deletes of a task remove: for each store its ranges in order.
pub struct ResolvedRanges(Vec<Arc<Vec<Listed>>>);

impl SealedState {
    pub(super) fn new(task: TaskId, stores: Vec<SealedStore>) -> SealedState {
        SealedState { task, stores }
    }

    /// Whose writes they are.
    pub fn task(&self) -> TaskId {
        self.task
    }

    /// How many entries will be written, and how many bytes the layers take.
    pub fn size(&self) -> (usize, usize) {
        let size = |store: &SealedStore| (store.frozen.keys, store.frozen.bytes);
        let sizes = self.stores.iter().map(size);
        sizes.fold((0, 0), |sum, size| (sum.0 + size.0, sum.1 + size.1))
    }

    /// Every change, store by store, in the order in which it must be applied: in each store the range deletes first, in the
    /// order of their keys, then single keys in their order.
    pub fn changes(&self) -> impl Iterator<Item = (StoreId, Change<'_>)> {
        self.stores.iter().flat_map(|store| {
            let id = store.handle.id();
            store.changes().map(move |change| (id, change))
        })
    }

    /// Adds the changes to a checkpoint.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn write_into(
        &self,
        writes: &mut WriteSet<'_>,
        ranges: &ResolvedRanges,
    ) -> Result<(), StateError> {
        for (store, ranges) in self.stores.iter().zip(&ranges.0) {
            store.write_into(writes, ranges, None)?;
        }
        Ok(())
    }

    /// The same, and saves what is overwritten so that it can be taken back.
    ///
    /// # Errors
    /// The database cannot be read, or what was saved cannot be written.
    pub fn write_saving(
        &self,
        writes: &mut WriteSet<'_>,
        ranges: &ResolvedRanges,
        undo: &mut Undo<'_>,
    ) -> Result<(), StateError> {
        for (store, ranges) in self.stores.iter().zip(&ranges.0) {
            store.write_into(writes, ranges, Some(undo))?;
        }
        Ok(())
    }

    /// Lists the keys that range deletes will remove. Ask before the checkpoint is written, while the database still has them.
    /// `budget`: how many keys may still be listed for this checkpoint.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn resolve_ranges(&self, budget: &mut usize) -> Result<ResolvedRanges, StateError> {
        let resolve = |store: &SealedStore| store.resolve_ranges(budget).map(Arc::new);
        let resolved: Result<_, StateError> = self.stores.iter().map(resolve).collect();
        Ok(ResolvedRanges(resolved?))
    }

    /// Tells the task, which holds the committed values, what its range deletes have removed, once the checkpoint is durable.
    ///
    /// # Errors
    /// `memory` stores have outgrown the cache.
    pub fn note_durable(&self, ranges: &ResolvedRanges) -> Result<(), StateError> {
        for (store, removed) in self.stores.iter().zip(&ranges.0) {
            // Told twice, it is the same.
            let _ = store.frozen.removed.set(Arc::clone(removed));
            store.handle.check_memory()?;
        }
        Ok(())
    }
}

impl SealedStore {
    fn changes(&self) -> impl Iterator<Item = Change<'_>> {
        // In the order of keys: each insert into the memtable then goes next to the last one.
        self.changes_of(self.frozen.entries_sorted())
    }

    /// `entries`: the single keys.
    fn changes_of<'a>(&'a self, entries: Vec<Entry<'a>>) -> impl Iterator<Item = Change<'a>> {
        let ranges = self.frozen.ranges();
        let ranges = ranges.map(|(start, end)| Change::DeleteRange { start, end });
        ranges.chain(entries.into_iter().map(|(key, value)| match value {
            Some(value) => Change::Put(key, value),
            None => Change::Delete(key),
        }))
    }

    fn write_into(
        &self,
        writes: &mut WriteSet<'_>,
        ranges: &[Listed],
        undo: Option<&mut Undo<'_>>,
    ) -> Result<(), StateError> {
        let entries = self.frozen.entries_sorted();
        if let Some(undo) = undo {
            let prefix = self.handle.prefix();
            for (start, end) in self.frozen.ranges() {
                undo.save_range(prefix, start, end)?;
            }
            undo.save_keys(prefix, entries.iter().map(|(key, _)| *key))?;
        }
        let mut writer = Writer {
            store: &self.handle,
            writes,
            deletes: Vec::new(),
            key: Vec::new(),
            stored: Vec::new(),
        };
        let mut ranges = ranges.iter();
        for change in self.changes_of(entries) {
            match change {
                Change::DeleteRange { start, end } => {
                    let keys = ranges.next().and_then(Option::as_deref);
                    writer.delete_range(start, end, keys);
                }
                Change::Put(key, value) => writer.put(key, value)?,
                Change::Delete(key) => writer.deletes.push(key),
            }
        }
        writer.end_deletes()
    }

    fn resolve_ranges(&self, budget: &mut usize) -> Result<Vec<Listed>, StateError> {
        let mut found = Vec::new();
        if self.frozen.ranges().next().is_none() {
            return Ok(found);
        }
        let prefix = self.handle.prefix();
        // One walk over all of them, which are in order.
        let (lower, upper) = prefix.range(None, None);
        let db = self.handle.committed();
        let mut walk = db.walk_in_steps(Family::State, lower, upper, Order::Up);
        for (start, end) in self.frozen.ranges() {
            let (lower, upper) = prefix.range(Some(start), end);
            walk.seek(&lower);
            let keys = list(&mut walk, &upper, LISTED_KEYS.min(*budget))?;
            *budget -= keys.as_ref().map_or(0, Vec::len);
            found.push(keys);
        }
        Ok(found)
    }
}

/// Adds the changes of a store to a checkpoint.
struct Writer<'a, 'b> {
    store: &'a StoreHandle,
    writes: &'a mut WriteSet<'b>,
    /// Deletes that follow one another, not yet added.
    deletes: Vec<&'a [u8]>,
    key: Vec<u8>,
    stored: Vec<u8>,
}

impl Writer<'_, '_> {
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), StateError> {
        self.end_deletes()?;
        self.store.prefix().key_into(key, &mut self.key);
        value::encode_into(value, &mut self.stored);
        self.writes.put(Family::State, &self.key, &self.stored);
        Ok(())
    }

    fn delete(&mut self, key: &[u8]) {
        self.store.prefix().key_into(key, &mut self.key);
        self.writes.delete(Family::State, &self.key);
    }

    /// `keys`: the keys in the range, if they are known.
    fn delete_range(&mut self, start: &[u8], end: Option<&[u8]>, keys: Option<&[Box<[u8]>]>) {
        match keys {
            Some(keys) if keys.len() <= DELETED_ONE_BY_ONE => {
                keys.iter().for_each(|key| self.delete(key));
            }
            _ => {
                let (lower, upper) = self.store.prefix().range(Some(start), end);
                self.writes.delete_range(Family::State, &lower, &upper);
            }
        }
    }

    fn end_deletes(&mut self) -> Result<(), StateError> {
        let deletes = std::mem::take(&mut self.deletes);
        if deletes.len() < runs::RUN_MIN {
            deletes.iter().for_each(|key| self.delete(key));
            return Ok(());
        }
        let (db, prefix) = (self.store.committed(), self.store.prefix());
        runs::write(db, prefix, &deletes, self.writes)
    }
}

/// The keys from the position of a walk up to, not including, `upper`; `None` if there are more than `most`, or if the walk would
/// pass over many that were deleted earlier.
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
