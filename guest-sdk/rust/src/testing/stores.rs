//! Stores in memory: entries with expiry, and the log that takes writes back.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::limits::{KEY_BYTES, VALUE_BYTES};
use super::limits::{at_most, trap};
use crate::backend::state::Range;

/// A value and the store time from which on it reads as absent.
#[derive(Clone)]
struct Entry {
    value: Vec<u8>,
    expires_ms: Option<i64>,
}

impl Entry {
    fn lives(&self, now_ms: i64) -> bool {
        self.expires_ms.is_none_or(|expires_ms| now_ms < expires_ms)
    }
}

#[derive(Default)]
pub(super) struct Stores {
    entries: BTreeMap<String, BTreeMap<Vec<u8>, Entry>>,
    /// What each write replaced.
    undo: Vec<(String, Vec<u8>, Option<Entry>)>,
}

/// Entries as a scan yields them.
pub(super) type Found = Vec<(Vec<u8>, Vec<u8>)>;

impl Stores {
    pub(super) fn declare(&mut self, name: &str) {
        self.entries.entry(name.to_owned()).or_default();
    }

    pub(super) fn is_declared(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    pub(super) fn get(&self, store: &str, key: &[u8], now_ms: i64) -> Option<&[u8]> {
        let entry = self.entries.get(store)?.get(key)?;
        entry.lives(now_ms).then_some(entry.value.as_slice())
    }

    /// Sets or, by `None`, removes a key.
    pub(super) fn write(
        &mut self,
        store: &str,
        key: &[u8],
        value: Option<&[u8]>,
        expires_ms: Option<i64>,
    ) {
        at_most("key-bytes", KEY_BYTES, key.len());
        at_most("value-bytes", VALUE_BYTES, value.map_or(0, <[u8]>::len));
        let entry = value.map(|value| Entry {
            value: value.to_vec(),
            expires_ms,
        });
        let replaced = self.swap(store, key, entry);
        self.undo.push((store.to_owned(), key.to_vec(), replaced));
    }

    pub(super) fn increment(&mut self, store: &str, key: &[u8], by: i64, now_ms: i64) -> i64 {
        let old = self
            .entries
            .get(store)
            .and_then(|entries| entries.get(key))
            .filter(|entry| entry.lives(now_ms));
        let expires_ms = old.and_then(|entry| entry.expires_ms);
        let value = old.map_or(0, |entry| match entry.value.as_slice().try_into() {
            Ok(bytes) => i64::from_le_bytes(bytes),
            Err(_) => trap(format_args!(
                "increment: a counter has 8 bytes, the value has {}",
                entry.value.len()
            )),
        });
        let Some(sum) = value.checked_add(by) else {
            trap(format_args!("increment: {value} + {by} overflows"))
        };
        self.write(store, key, Some(&sum.to_le_bytes()), expires_ms);
        sum
    }

    pub(super) fn scan(&self, store: &str, range: &Range, reverse: bool, now_ms: i64) -> Found {
        let start = range
            .start
            .as_deref()
            .map_or(Bound::Unbounded, Bound::Included);
        let end = range
            .end
            .as_deref()
            .map_or(Bound::Unbounded, Bound::Excluded);
        // `BTreeMap::range` panics on such bounds; the contract has them empty.
        if let (Some(start), Some(end)) = (&range.start, &range.end)
            && start >= end
        {
            return Vec::new();
        }
        let entries = self
            .entries
            .get(store)
            .into_iter()
            .flat_map(|entries| entries.range::<[u8], _>((start, end)));
        let mut found: Found = entries
            .filter(|(_, entry)| entry.lives(now_ms))
            .map(|(key, entry)| (key.clone(), entry.value.clone()))
            .collect();
        if reverse {
            found.reverse();
        }
        found
    }

    pub(super) fn mark(&self) -> usize {
        self.undo.len()
    }

    pub(super) fn undo(&mut self, mark: usize) {
        for (store, key, replaced) in self.undo.split_off(mark).into_iter().rev() {
            self.swap(&store, &key, replaced);
        }
    }

    /// Makes everything stay.
    pub(super) fn commit(&mut self) {
        self.undo.clear();
    }

    fn swap(&mut self, store: &str, key: &[u8], entry: Option<Entry>) -> Option<Entry> {
        let entries = self.entries.entry(store.to_owned()).or_default();
        match entry {
            Some(entry) => entries.insert(key.to_vec(), entry),
            None => entries.remove(key),
        }
    }
}
