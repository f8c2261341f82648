//! What a task reads and writes.

use std::ops::Bound;
use std::sync::Arc;

use super::gaps::Gaps;
use super::scan::{Cursor, CursorId, Entries, Layers, ScanOptions};
use super::sealed::{SealedState, SealedStore};
use super::store::StoreHandle;
use super::table::{Lookup, Mark, Table, Written};
use super::{Order, StateError};
use crate::model::{Column, StoreIndex, TaskId};

/// Why a counter could not be incremented.
#[derive(Debug, thiserror::Error)]
pub enum IncrementError {
    /// The stored value is not a counter.
    #[error("the value has {0} bytes, but a counter has 8")]
    Length(usize),
    /// The sum does not fit.
    #[error("the sum of {value} and {by} exceeds 64 bits")]
    Overflow {
        /// The counter.
        value: i64,
        /// What was to be added.
        by: i64,
    },
    /// The counter could not be read.
    #[error(transparent)]
    State(#[from] StateError),
}

struct Store {
    handle: Arc<StoreHandle>,
    table: Table,
    gaps: Gaps,
    batch_mark: Mark,
    message_mark: Mark,
}

impl Store {
    fn new(handle: Arc<StoreHandle>) -> Store {
        Store {
            table: handle.table(),
            handle,
            gaps: Gaps::default(),
            batch_mark: Mark::default(),
            message_mark: Mark::default(),
        }
    }
}

/// A store in a new order of a task's stores.
pub enum StoreFrom {
    /// The one that had this index.
    Kept(StoreIndex),
    /// Another one.
    New(Arc<StoreHandle>),
}

/// The stores of a task with the writes that are not yet committed.
pub struct TaskState {
    task: TaskId,
    stores: Vec<Store>,
    /// The number of the last write.
    number: u64,
    /// The number of the last write before the last mark.
    marked: u64,
    /// The cursors of the running call.
    cursors: Vec<Option<Cursor>>,
    /// How many of them are open.
    cursors_open: usize,
    /// The id of the first of them: ids are not used again, so that a handle from an earlier call finds nothing.
    first_cursor: u32,
    scratch: Vec<u8>,
}

impl TaskState {
    /// A task with its stores, in the order of their indexes.
    pub fn new(task: TaskId, stores: Vec<Arc<StoreHandle>>) -> TaskState {
        TaskState {
            task,
            stores: stores.into_iter().map(Store::new).collect(),
            number: 0,
            marked: 0,
            cursors: Vec::new(),
            cursors_open: 0,
            first_cursor: 0,
            scratch: Vec::new(),
        }
    }

    /// Gives its stores another order, and adds some. Not within a batch.
    ///
    /// # Panics
    /// A store that it has is left out.
    pub fn arrange(&mut self, order: Vec<StoreFrom>) {
        let mut before: Vec<_> = self.stores.drain(..).map(Some).collect();
        let store = |from| match from {
            StoreFrom::New(handle) => Store::new(handle),
            StoreFrom::Kept(index) => match before[index.index()].take() {
                Some(store) => store,
                None => panic!("store {index:?} is named twice"),
            },
        };
        self.stores = order.into_iter().map(store).collect();
        assert!(before.iter().all(Option::is_none), "a store is left out");
    }

    /// Calls `read` with the value of a key.
    ///
    /// # Errors
    /// The database could not be read; `read` was not called.
    pub fn get_with<R>(
        &mut self,
        store: StoreIndex,
        key: &[u8],
        read: impl FnOnce(Option<&[u8]>) -> R,
    ) -> Result<R, StateError> {
        let store = &mut self.stores[store.index()];
        match store.table.get(key) {
            Lookup::Value(value) => return Ok(read(Some(value))),
            Lookup::Deleted => return Ok(read(None)),
            Lookup::Unknown => {}
        }
        let (table, number) = (&mut store.table, self.number);
        let (handle, scratch) = (&store.handle, &mut self.scratch);
        let found = |value: Option<&[u8]>| {
            // Nothing is given up inside a batch: one that reads much does not keep all of it.
            if let Some(value) = value
                && handle.is_now()
                && !handle.cache().is_far_over()
            {
                table.note_read(key, value, number);
            }
            read(value)
        };
        handle.base().get_with(handle.prefix(), key, scratch, found)
    }

    /// Prepares for reads and writes of some keys, which are then faster. As few as fit into the processor's first cache: a few
    /// dozen.
    pub fn warm<'a>(&self, store: StoreIndex, keys: impl Iterator<Item = &'a [u8]>) {
        self.stores[store.index()].table.warm(keys);
    }

    /// The value of a key.
    ///
    /// # Errors
    /// The database could not be read.
    pub fn get(&mut self, store: StoreIndex, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        self.get_with(store, key, |value| value.map(<[u8]>::to_vec))
    }

    /// Appends the value of a key to a column.
    ///
    /// # Errors
    /// The database could not be read.
    pub fn get_into(
        &mut self,
        store: StoreIndex,
        key: &[u8],
        into: &mut Column,
    ) -> Result<(), StateError> {
        self.get_with(store, key, |value| into.push(value))
    }

    /// Sets a key, or deletes it (`None`).
    pub fn put(&mut self, store: StoreIndex, key: &[u8], value: Option<&[u8]>) {
        self.number += 1;
        let overwritable_from = match self.cursors.is_empty() {
            true => self.marked + 1,
            false => u64::MAX,
        };
        let store = &mut self.stores[store.index()];
        if value.is_some() {
            store.gaps.put(key);
        }
        store.table.put(key, value, self.number, overwritable_from);
    }

    /// Deletes a range of keys; `None` is open.
    pub fn delete_range(&mut self, store: StoreIndex, start: Option<&[u8]>, end: Option<&[u8]>) {
        if end.is_some_and(|end| end <= start.unwrap_or_default()) {
            return;
        }
        self.number += 1;
        self.stores[store.index()]
            .table
            .delete_range(start.unwrap_or_default(), end, self.number);
    }

    /// The value of a counter of 8 bytes, little-endian; an absent key counts as 0.
    ///
    /// # Errors
    /// The value is not a counter, or the database could not be read.
    pub fn counter(&mut self, store: StoreIndex, key: &[u8]) -> Result<i64, IncrementError> {
        self.get_with(store, key, |value| match value {
            None => Ok(0),
            Some(bytes) => match <[u8; 8]>::try_from(bytes) {
                Ok(bytes) => Ok(i64::from_le_bytes(bytes)),
                Err(_) => Err(IncrementError::Length(bytes.len())),
            },
        })?
    }

    /// Adds to a counter of 8 bytes, little-endian; an absent key counts as 0.
    ///
    /// # Errors
    /// The value is not a counter, the sum does not fit, or the database could not be read. Nothing was written.
    pub fn increment(
        &mut self,
        store: StoreIndex,
        key: &[u8],
        by: i64,
    ) -> Result<i64, IncrementError> {
        let value = self.counter(store, key)?;
        let sum = value
            .checked_add(by)
            .ok_or(IncrementError::Overflow { value, by })?;
        self.put(store, key, Some(&sum.to_le_bytes()));
        Ok(sum)
    }

    /// Opens a cursor on a range as it is now. It ends with [`TaskState::end_call`].
    pub fn scan(
        &mut self,
        store: StoreIndex,
        start: Option<&[u8]>,
        end: Option<&[u8]>,
        options: ScanOptions,
    ) -> CursorId {
        let index = store;
        let store = &mut self.stores[store.index()];
        let mut start = start.unwrap_or_default().to_vec();
        let mut end = end.map(<[u8]>::to_vec);
        match options.order {
            Order::Up => match store.gaps.first_from(&start) {
                Some(first) => start = first,
                None => end = Some(start.clone()),
            },
            Order::Down => end = store.gaps.last_before(end),
        }
        let cursor = Cursor {
            store: index,
            start: Bound::Included(start),
            end: end.map_or(Bound::Unbounded, Bound::Excluded),
            options,
            number: self.number,
            cover: store.table.cover().view(),
            sealed: store.table.sealed().cloned(),
            begun: false,
        };
        // Building the index here keeps it up to date for the writes that come while the cursor is open.
        store.table.begin_index();
        let id = self
            .first_cursor
            .wrapping_add(u32::try_from(self.cursors.len()).unwrap_or(u32::MAX));
        self.cursors.push(Some(cursor));
        self.cursors_open += 1;
        CursorId(id)
    }

    /// The next entries of a cursor, or `None` if the cursor has ended. The search stops when
    /// `over` returns true.
    ///
    /// # Errors
    /// The database could not be read, or nothing was found in time.
    pub fn scan_next(
        &mut self,
        cursor: CursorId,
        entries_max: usize,
        bytes_max: usize,
        over: &mut dyn FnMut() -> bool,
    ) -> Result<Option<Entries>, StateError> {
        let index = self.cursor_index(cursor);
        let Some(Some(cursor)) = self.cursors.get_mut(index) else {
            return Ok(None);
        };
        let store = &mut self.stores[cursor.store.index()];
        let layers = Layers {
            table: &store.table,
            handle: &store.handle,
        };
        let gaps = (&mut store.gaps, self.number);
        cursor
            .next(&layers, entries_max, bytes_max, over, gaps)
            .map(Some)
    }

    /// Ends a cursor.
    pub fn scan_close(&mut self, cursor: CursorId) {
        let index = self.cursor_index(cursor);
        if let Some(slot) = self.cursors.get_mut(index)
            && slot.take().is_some()
        {
            self.cursors_open -= 1;
        }
    }

    /// How many cursors are open.
    pub fn cursors_open(&self) -> usize {
        self.cursors_open
    }

    /// The guest's call has ended, and its cursors with it.
    pub fn end_call(&mut self) {
        let used = u32::try_from(self.cursors.len()).unwrap_or(u32::MAX);
        self.first_cursor = self.first_cursor.wrapping_add(used);
        self.cursors.clear();
        self.cursors_open = 0;
    }

    fn cursor_index(&self, cursor: CursorId) -> usize {
        cursor.0.wrapping_sub(self.first_cursor) as usize
    }

    /// What is written from now on can be undone by [`TaskState::undo_message`].
    pub fn mark_message(&mut self) {
        self.marked = self.number;
        for store in &mut self.stores {
            store.message_mark = store.table.mark();
        }
    }

    /// Undoes what was written since [`TaskState::mark_message`].
    pub fn undo_message(&mut self) {
        self.end_call();
        for store in &mut self.stores {
            store.table.undo_to(store.message_mark);
            store.gaps.undo_to(self.marked);
        }
        self.marked = self.number;
    }

    /// Undoes what was written since [`TaskState::keep_batch`].
    pub fn undo_batch(&mut self) {
        self.end_call();
        for store in &mut self.stores {
            store.table.undo_to(store.batch_mark);
            store.gaps.clear();
            store.message_mark = store.batch_mark;
        }
        self.marked = self.number;
    }

    /// Keeps what was written: it belongs to the epoch now.
    pub fn keep_batch(&mut self) {
        assert!(
            self.cursors.is_empty(),
            "a batch is kept while a cursor is open"
        );
        for store in &mut self.stores {
            store.table.keep();
            store.batch_mark = store.table.mark();
            store.message_mark = store.batch_mark;
        }
        self.marked = self.number;
    }

    /// What was written to a store since the last kept batch.
    pub fn written(&self, store: StoreIndex) -> Written {
        self.stores[store.index()].table.written()
    }

    /// Bytes of the open layers.
    pub fn open_bytes(&self) -> usize {
        self.stores
            .iter()
            .map(|store| store.table.open_bytes())
            .sum()
    }

    /// Whether an epoch is sealed and not yet released.
    pub fn is_sealed(&self) -> bool {
        self.stores
            .iter()
            .any(|store| store.table.sealed().is_some())
    }

    /// Freezes the open layers. The task reads through them and goes on; `None` if nothing was written. The work
    /// is constant per store, whatever the number of entries.
    ///
    /// # Panics
    /// Inside a batch, or while an earlier epoch is not released.
    pub fn seal(&mut self) -> Option<SealedState> {
        assert!(
            !self.is_sealed(),
            "a second epoch is sealed before the first is released"
        );
        let mut sealed = Vec::new();
        for store in &mut self.stores {
            let Some(frozen) = store.table.seal() else {
                continue;
            };
            store.batch_mark = Mark::default();
            store.message_mark = Mark::default();
            let handle = Arc::clone(&store.handle);
            sealed.push(SealedStore { handle, frozen });
        }
        (!sealed.is_empty()).then(|| SealedState::new(self.task, sealed))
    }

    /// Whether all tasks of the container together hold more committed values than they may.
    pub fn holds_too_much(&self) -> bool {
        let mut stores = self.stores.iter();
        stores
            .next()
            .is_some_and(|store| store.handle.cache().is_over())
    }

    /// Gives up some of the committed values that it holds, if all tasks together hold too many. Only between batches. Whether there was
    /// something to give up.
    pub fn trim(&mut self) -> bool {
        // As much as after a batch of so many writes.
        const WRITES: usize = 4_000;
        let mut stores = self.stores.iter_mut();
        stores.any(|store| store.table.tidy_up(WRITES))
    }

    /// Gives up the sealed epoch: it is committed.
    pub fn release(&mut self) {
        for store in &mut self.stores {
            store.table.release();
        }
    }
}
