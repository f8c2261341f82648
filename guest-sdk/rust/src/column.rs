//! Columns: many byte strings in a few flat lists, built and read in place.

use crate::backend::types::BytesColumn;
use crate::packed;

/// A buffer that grew beyond this is given back after the call instead of being kept for the next one.
pub(crate) const RETAIN_BYTES: usize = 1 << 20;

/// What the SDK does with the contract's `bytes-column`.
pub(crate) trait Column: Sized {
    /// A column without entries.
    fn empty() -> Self;

    /// The number of entries.
    fn count(&self) -> usize;

    /// The bytes of an entry; none for an absent one and for one beyond the end.
    fn bytes(&self, index: usize) -> &[u8];

    /// An entry, or `None` if it is absent.
    fn entry(&self, index: usize) -> Option<&[u8]>;

    /// Makes an entry of the bytes that were written to `data` since the last one.
    fn close(&mut self);

    /// Adds an entry.
    fn push(&mut self, bytes: &[u8]);

    /// Adds an absent entry.
    fn push_absent(&mut self);

    /// Adds the first entries of a column that has no absent ones. This one is empty.
    fn extend_from_start(&mut self, from: &Self, count: usize);

    /// Drops the bytes that were written to `data` since the last entry.
    fn discard(&mut self);

    /// Removes the last entry.
    fn pop(&mut self);

    /// Removes all entries and keeps the buffers, unless they grew large.
    fn reset(&mut self);
}

/// An index of the contract. Nothing within the contract's limits comes near its end; what does is refused by
/// the host as a malformed column.
pub(crate) fn index(of: usize) -> u32 {
    u32::try_from(of).unwrap_or(u32::MAX)
}

/// Appends a few bytes in steps of a size known when compiling. In Wasm a copy of unknown size is a call out of the
/// program, which costs more than most keys are worth.
#[inline]
pub(crate) fn append(out: &mut Vec<u8>, bytes: &[u8]) {
    if bytes.len() > 48 {
        out.extend_from_slice(bytes);
        return;
    }
    let (eights, rest) = bytes.as_chunks::<8>();
    let (fours, rest) = rest.as_chunks::<4>();
    for eight in eights {
        out.extend_from_slice(eight);
    }
    for four in fours {
        out.extend_from_slice(four);
    }
    for &byte in rest {
        out.push(byte);
    }
}

impl Column for BytesColumn {
    fn empty() -> Self {
        Self {
            ends: Vec::new(),
            data: Vec::new(),
            absent: Vec::new(),
        }
    }

    #[inline]
    fn count(&self) -> usize {
        packed::count::<4>(&self.ends)
    }

    #[inline]
    fn bytes(&self, index: usize) -> &[u8] {
        let start = match index.checked_sub(1) {
            Some(before) => packed::get(&self.ends, before).map_or(u32::MAX, u32::from_le_bytes),
            None => 0,
        };
        let end = packed::get(&self.ends, index).map_or(0, u32::from_le_bytes);
        self.data.get(start as usize..end as usize).unwrap_or(&[])
    }

    #[inline]
    fn entry(&self, index: usize) -> Option<&[u8]> {
        if index >= self.count() || self.is_absent(index) {
            None
        } else {
            Some(self.bytes(index))
        }
    }

    #[inline]
    fn close(&mut self) {
        let end = self::index(self.data.len());
        self.ends.extend_from_slice(&end.to_le_bytes());
    }

    #[inline]
    fn push(&mut self, bytes: &[u8]) {
        append(&mut self.data, bytes);
        self.close();
    }

    fn push_absent(&mut self) {
        let index = self::index(self.count());
        self.absent.extend_from_slice(&index.to_le_bytes());
        self.close();
    }

    fn extend_from_start(&mut self, from: &Self, count: usize) {
        let ends = from.ends.get(..count * size_of::<u32>());
        self.ends.extend_from_slice(ends.unwrap_or(&from.ends));
        let data = from.data.get(..self.end());
        self.data.extend_from_slice(data.unwrap_or(&from.data));
    }

    fn discard(&mut self) {
        self.data.truncate(self.end());
    }

    fn pop(&mut self) {
        packed::pop::<4>(&mut self.ends);
        self.discard();
        let last_absent = packed::last(&self.absent).map(u32::from_le_bytes);
        if last_absent.is_some_and(|last| last as usize == self.count()) {
            packed::pop::<4>(&mut self.absent);
        }
    }

    fn reset(&mut self) {
        if self.data.capacity() > RETAIN_BYTES {
            *self = Self::empty();
        }
        self.ends.clear();
        self.data.clear();
        self.absent.clear();
    }
}

impl BytesColumn {
    /// Hardly any column has absent entries, so the usual answer costs one comparison.
    #[inline]
    fn is_absent(&self, index: usize) -> bool {
        let (absent, _) = self.absent.as_chunks();
        !absent.is_empty()
            && absent
                .binary_search_by_key(&self::index(index), |&bytes| u32::from_le_bytes(bytes))
                .is_ok()
    }

    /// Where the last entry ends.
    #[inline]
    fn end(&self) -> usize {
        packed::last(&self.ends).map_or(0, u32::from_le_bytes) as usize
    }
}
