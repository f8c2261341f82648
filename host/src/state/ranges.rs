//! Range deletes of one layer: which writes they cover.

use std::collections::BTreeMap;
use std::ops::Bound;

/// Where an interval ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    /// Before this key.
    Before(Box<[u8]>),
    /// Nowhere.
    Open,
}

impl End {
    fn is_after(&self, key: &[u8]) -> bool {
        match self {
            End::Before(end) => key < &**end,
            End::Open => true,
        }
    }

    /// The end as an option: `None` is open.
    pub(super) fn as_key(&self) -> Option<&[u8]> {
        match self {
            End::Before(key) => Some(key),
            End::Open => None,
        }
    }
}

/// Disjoint intervals, each with the number of the newest range delete that covers it. Numbers only grow, so a new
/// range simply replaces what it overlaps.
#[derive(Debug, Clone, Default)]
pub(super) struct Cover {
    intervals: BTreeMap<Box<[u8]>, (End, u64)>,
}

impl Cover {
    /// Whether no range was deleted: the fast path of every read.
    pub(super) fn is_empty(&self) -> bool {
        self.intervals.is_empty()
    }

    /// The number of the newest range delete that covers a key; 0 where none does.
    pub(super) fn number_at(&self, key: &[u8]) -> u64 {
        if self.intervals.is_empty() {
            return 0;
        }
        let before = self
            .intervals
            .range::<[u8], _>((Bound::Unbounded, Bound::Included(key)))
            .next_back();
        match before {
            Some((_, (end, number))) if end.is_after(key) => *number,
            _ => 0,
        }
    }

    /// The intervals in order: start, end (`None`: open).
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        self.intervals
            .iter()
            .map(|(start, (end, _))| (&**start, end.as_key()))
    }

    /// Adds a range delete, whose number is greater than all before. An empty range adds nothing.
    pub(super) fn insert(&mut self, start: &[u8], end: Option<&[u8]>, number: u64) {
        if end.is_some_and(|end| end <= start) {
            return;
        }
        self.split_at(start);
        if let Some(end) = end {
            self.split_at(end);
        }
        let upper = end.map_or(Bound::Unbounded, Bound::Excluded);
        let covered: Vec<Box<[u8]>> = self
            .intervals
            .range::<[u8], _>((Bound::Included(start), upper))
            .map(|(start, _)| start.clone())
            .collect();
        for start in covered {
            self.intervals.remove(&start);
        }
        let end = end.map_or(End::Open, |end| End::Before(end.into()));
        self.intervals.insert(start.into(), (end, number));
    }

    /// Makes `key` a boundary: the interval that contains it becomes two.
    fn split_at(&mut self, key: &[u8]) {
        let Some((start, (end, number))) = self
            .intervals
            .range_mut::<[u8], _>((Bound::Unbounded, Bound::Excluded(key)))
            .next_back()
        else {
            return;
        };
        assert!(&**start < key);
        if end.is_after(key) {
            let number = *number;
            let rest = std::mem::replace(end, End::Before(key.into()));
            self.intervals.insert(key.into(), (rest, number));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newer_ranges_replace_what_they_overlap() {
        let mut cover = Cover::default();
        cover.insert(b"b", Some(b"f"), 1);
        cover.insert(b"d", Some(b"h"), 2);
        cover.insert(b"x", None, 3);
        cover.insert(b"e", Some(b"e"), 4);
        let numbers: Vec<_> = [b"a", b"b", b"c", b"d", b"f", b"h", b"x", b"z"]
            .iter()
            .map(|key| cover.number_at(*key))
            .collect();
        assert_eq!(numbers, [0, 1, 1, 2, 2, 0, 3, 3]);
        cover.insert(b"", None, 5);
        assert_eq!(cover.iter().count(), 1);
        assert_eq!(cover.number_at(b""), 5);
    }

    #[test]
    fn a_range_inside_another_leaves_both_sides() {
        let mut cover = Cover::default();
        cover.insert(b"a", Some(b"z"), 1);
        cover.insert(b"m", Some(b"n"), 2);
        assert_eq!(cover.number_at(b"l"), 1);
        assert_eq!(cover.number_at(b"m"), 2);
        assert_eq!(cover.number_at(b"n"), 1);
        assert_eq!(cover.number_at(b"z"), 0);
    }
}
