//! Scans: the layers and the database merged, in key order.
//!
//! A cursor keeps no iterator open. Between two calls of `next` it remembers the last key, the number of the last
//! write that it may see, the range deletes of the open layer at that time, and the sealed layer. That is a
//! consistent view: the task's keys in the database change only when a layer of its own is committed, the cursor
//! ends with the guest's call, and no layer is sealed during a call; so the database below is at the sealed layer's
//! epoch or the one before, which read the same through that layer. Nothing of RocksDB is pinned by a guest.

use std::ops::Bound;
use std::sync::Arc;

use super::frozen::{Frozen, Index};
use super::gaps::Gaps;
use super::keys::Order;
use super::keys::StorePrefix;
use super::ranges::Cover;
use super::store::StoreHandle;
use super::table::{Lookup, Table};
use super::{StateError, value};
use crate::model::{Column, StoreIndex};

/// A cursor of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CursorId(pub(super) u32);

impl CursorId {
    /// As a number, which no later cursor of the task has.
    pub fn to_bits(self) -> u32 {
        self.0
    }

    /// The reverse of [`CursorId::to_bits`].
    pub fn from_bits(bits: u32) -> CursorId {
        CursorId(bits)
    }
}

/// How to scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScanOptions {
    /// Smallest or greatest key first.
    pub order: Order,
    /// Leave the values out.
    pub keys_only: bool,
}

/// Some entries of a scan.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Entries {
    /// The keys, in the scan's order.
    pub keys: Column,
    /// Their values; none in a scan of keys only.
    pub values: Column,
}

pub(super) struct Cursor {
    pub(super) store: StoreIndex,
    pub(super) start: Bound<Vec<u8>>,
    pub(super) end: Bound<Vec<u8>>,
    pub(super) options: ScanOptions,
    /// The number of the last write that the cursor sees.
    pub(super) number: u64,
    pub(super) cover: Cover,
    pub(super) sealed: Option<Arc<Frozen>>,
    /// Whether entries have been read from it.
    pub(super) begun: bool,
}

/// The layers that a cursor reads.
pub(super) struct Layers<'a> {
    pub(super) table: &'a Table,
    pub(super) handle: &'a StoreHandle,
}

impl Cursor {
    /// The next entries: at least one, if there is any. `gaps`: those of the store, and the number of the last write.
    pub(super) fn next(
        &mut self,
        layers: &Layers<'_>,
        entries_max: usize,
        bytes_max: usize,
        over: &mut dyn FnMut() -> bool,
        gaps: (&mut Gaps, u64),
    ) -> Result<Entries, StateError> {
        let mut found = Entries::default();
        if is_empty(&self.start, &self.end) {
            return Ok(found);
        }
        let last = self.collect(layers, entries_max.max(1), bytes_max, over, &mut found)?;
        self.find_gap(&found.keys, gaps);
        if let Some(last) = last {
            match self.options.order {
                Order::Up => self.start = Bound::Excluded(last),
                Order::Down => self.end = Bound::Excluded(last),
            }
        }
        Ok(found)
    }

    /// Remembers that a scan found nothing before its first entry, or nothing at all.
    fn find_gap(&mut self, found: &Column, gaps: (&mut Gaps, u64)) {
        let begun = std::mem::replace(&mut self.begun, true);
        let (gaps, number) = gaps;
        // A gap describes what the task reads now; the cursor may not see later writes.
        if begun || number != self.number {
            return;
        }
        let (Bound::Included(start), Bound::Excluded(_) | Bound::Unbounded) =
            (&self.start, &self.end)
        else {
            return;
        };
        let end = match &self.end {
            Bound::Excluded(end) => Some(&**end),
            _ => None,
        };
        let first = (!found.is_empty()).then(|| found.get(0)).flatten();
        match (first, self.options.order) {
            (None, _) => gaps.note(start, end, number),
            (Some(first), Order::Up) => gaps.note(start, Some(first), number),
            (Some(first), Order::Down) => gaps.note(&[first, &[0]].concat(), end, number),
        }
    }

    fn collect(
        &self,
        layers: &Layers<'_>,
        entries_max: usize,
        bytes_max: usize,
        over: &mut dyn FnMut() -> bool,
        found: &mut Entries,
    ) -> Result<Option<Vec<u8>>, StateError> {
        let order = self.options.order;
        let mut open = KeyWalk::new(layers.table.index(), &self.start, &self.end, order);
        let empty = Index::new();
        let sealed_index = self.sealed.as_ref().map_or(&empty, |sealed| sealed.index());
        let mut sealed = KeyWalk::new(sealed_index, &self.start, &self.end, order);
        let (lower, upper) = self.database_bounds(layers.handle.prefix());
        let mut stored = layers.handle.base().walk_in_steps(lower, upper, order);
        let mut last = None;
        for step in 1u32.. {
            if (step.is_multiple_of(1024) && over()) || !stored.arrive(over)? {
                // Some entries are a good answer. None is not, because that would mean the end.
                return if last.is_some() {
                    Ok(last)
                } else {
                    Err(StateError::TimeOver)
                };
            }
            let below = stored
                .entry()?
                .map(|(key, stored)| (&key[StorePrefix::LEN..], stored));
            let keys = [open.peek(), sealed.peek(), below.map(|(key, _)| key)];
            let next = keys.into_iter().flatten().reduce(|a, b| match order {
                Order::Up => a.min(b),
                Order::Down => a.max(b),
            });
            let Some(key) = next else { return Ok(last) };
            let value = match self.above(layers, key) {
                Lookup::Value(value) => Some(value),
                Lookup::Deleted => None,
                Lookup::Unknown => match below {
                    Some((stored_key, stored)) if stored_key == key => Some(value::decode(stored)?),
                    _ => None,
                },
            };
            if let Some(value) = value {
                let value = (!self.options.keys_only).then_some(value);
                let bytes = key.len() + value.map_or(0, <[u8]>::len);
                let so_far = found.keys.data_len() + found.values.data_len();
                if !found.keys.is_empty() && so_far + bytes > bytes_max {
                    return Ok(last);
                }
                found.keys.push(Some(key));
                if let Some(value) = value {
                    found.values.push(Some(value));
                }
                last = Some(key.to_vec());
                if found.keys.len() == entries_max {
                    return Ok(last);
                }
            }
            let at_stored = below.is_some_and(|(stored_key, _)| stored_key == key);
            let (at_open, at_sealed) = (open.peek() == Some(key), sealed.peek() == Some(key));
            if at_open {
                open.advance();
            }
            if at_sealed {
                sealed.advance();
            }
            if at_stored {
                stored.advance();
            }
        }
        Ok(last)
    }

    /// What the layers above the database know of a key.
    fn above<'a>(&'a self, layers: &Layers<'a>, key: &[u8]) -> Lookup<'a> {
        layers.table.get_at(key, self.number, &self.cover)
    }

    fn database_bounds(&self, prefix: StorePrefix) -> (Vec<u8>, Vec<u8>) {
        let after = |key: &[u8]| {
            let mut full = prefix.key(key);
            full.push(0);
            full
        };
        let lower = match &self.start {
            Bound::Unbounded => prefix.key(b""),
            Bound::Included(key) => prefix.key(key),
            Bound::Excluded(key) => after(key),
        };
        let upper = match &self.end {
            Bound::Unbounded => prefix.end(),
            Bound::Included(key) => after(key),
            Bound::Excluded(key) => prefix.key(key),
        };
        (lower, upper)
    }
}

/// Whether no key can lie between the bounds (which `BTreeSet::range` would panic on).
fn is_empty(start: &Bound<Vec<u8>>, end: &Bound<Vec<u8>>) -> bool {
    match (start, end) {
        (Bound::Included(start), Bound::Excluded(end)) => start >= end,
        (Bound::Excluded(start), Bound::Excluded(end)) => start >= end,
        _ => false,
    }
}

/// A walk over an index of keys.
struct KeyWalk<'a> {
    range: std::collections::btree_set::Range<'a, Box<[u8]>>,
    order: Order,
    current: Option<&'a [u8]>,
}

impl<'a> KeyWalk<'a> {
    fn new(
        index: &'a Index,
        start: &Bound<Vec<u8>>,
        end: &Bound<Vec<u8>>,
        order: Order,
    ) -> KeyWalk<'a> {
        let range = index.range::<[u8], _>((
            start.as_ref().map(Vec::as_slice),
            end.as_ref().map(Vec::as_slice),
        ));
        let mut walk = KeyWalk {
            range,
            order,
            current: None,
        };
        walk.advance();
        walk
    }

    fn peek(&self) -> Option<&'a [u8]> {
        self.current
    }

    fn advance(&mut self) {
        let next = match self.order {
            Order::Up => self.range.next(),
            Order::Down => self.range.next_back(),
        };
        self.current = next.map(|key| &**key);
    }
}
