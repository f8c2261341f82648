//! Packed numbers: end to end and little-endian in a list of bytes, read where they lie. The caller's `from_le_bytes` says of
//! which type they are, and with that how many bytes each has.

/// How many numbers of `SIZE` bytes there are.
#[inline]
pub(crate) const fn count<const SIZE: usize>(packed: &[u8]) -> usize {
    packed.len() / SIZE
}

/// The bytes of a number by its index.
#[inline]
pub(crate) fn get<const SIZE: usize>(packed: &[u8], index: usize) -> Option<[u8; SIZE]> {
    packed.as_chunks().0.get(index).copied()
}

/// The bytes of the last number.
#[inline]
pub(crate) fn last<const SIZE: usize>(packed: &[u8]) -> Option<[u8; SIZE]> {
    packed.as_chunks().0.last().copied()
}

/// The bytes of each number.
#[inline]
pub(crate) fn iter<const SIZE: usize>(packed: &[u8]) -> impl Iterator<Item = [u8; SIZE]> {
    packed.as_chunks().0.iter().copied()
}

/// Removes the last number.
#[inline]
pub(crate) fn pop<const SIZE: usize>(packed: &mut Vec<u8>) {
    packed.truncate(packed.len().saturating_sub(SIZE));
}
