//! The contract's limits at their defaults, and the traps for breaking them.

use crate::backend::types::BytesColumn;
use crate::column::Column as _;
use crate::packed;

pub(super) const KEY_BYTES: usize = 8 << 10;
pub(super) const VALUE_BYTES: usize = 1 << 20;
pub(super) const CALL_BYTES: usize = 16 << 20;
/// Bytes charged per entry, message or header on top of its own.
pub(super) const ENTRY_BYTES: usize = 32;
pub(super) const HEADERS: usize = 64;
pub(super) const HEADER_BYTES: usize = 16 << 10;
pub(super) const CURSORS: usize = 16;
pub(super) const STORE_HANDLES: usize = 1000;
pub(super) const METRIC_NAMES: usize = 128;

/// What a host does to a guest that breaks the contract. Here it fails the test.
#[track_caller]
pub(super) fn trap(why: impl std::fmt::Display) -> ! {
    panic!("trap: {why}")
}

#[track_caller]
pub(super) fn at_most(limit: &str, max: usize, asked: usize) {
    if asked > max {
        trap(format_args!(
            "{limit} is limited to {max}, asked for {asked}"
        ));
    }
}

/// The bytes must be whole packed numbers.
#[track_caller]
pub(super) fn check_packed<const SIZE: usize>(what: &str, packed: &[u8]) {
    if !packed.len().is_multiple_of(SIZE) {
        trap(format_args!(
            "{what}: {} bytes are not packed numbers of {SIZE} bytes",
            packed.len()
        ));
    }
}

/// A column's rules.
#[track_caller]
pub(super) fn check_column(what: &str, column: &BytesColumn) {
    check_packed::<4>(what, &column.ends);
    check_packed::<4>(what, &column.absent);
    let ends_grow = packed::iter(&column.ends)
        .map(u32::from_le_bytes)
        .is_sorted();
    let last_end = packed::last(&column.ends).map_or(0, u32::from_le_bytes);
    let ends_meet = last_end as usize == column.data.len();
    let absent_grow = packed::iter(&column.absent)
        .map(u32::from_le_bytes)
        .is_sorted_by(|a, b| a < b);
    let absent_exist = packed::last(&column.absent)
        .map(u32::from_le_bytes)
        .is_none_or(|last| (last as usize) < column.count());
    if !(ends_grow && ends_meet && absent_grow && absent_exist) {
        trap(format_args!("malformed column of {what}"));
    }
}

#[track_caller]
pub(super) fn check_metric_name(name: &str) {
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    if !(name.len() <= 64
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(legal))
    {
        trap(format_args!("{name:?} is not a valid name of a figure"));
    }
}
