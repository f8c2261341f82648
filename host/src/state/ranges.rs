//! Range deletes of one layer: which writes they cover.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

/// The end of an interval.
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

/// Bytes that an interval counts as uncommitted, in addition to its bounds: about its cost for the commit, which looks
/// for the keys in it.
const INTERVAL_BYTES: usize = 512;

/// The end of an interval, and its number.
type Interval = (End, u64);

/// Disjoint intervals, each with the number of the newest range delete that covers it. Numbers only grow, so a new
/// range simply replaces what it overlaps. What was replaced is remembered until it is kept, so that undoing costs as much as
/// the deletes that are undone.
///
/// A clone shares the intervals until one of the two changes.
#[derive(Debug, Clone, Default)]
pub(super) struct Cover {
    /// `None`: there has never been one. Each read of a store sees that without touching other memory.
    intervals: Option<Arc<BTreeMap<Box<[u8]>, Interval>>>,
    /// For each change since the last [`Cover::keep`]: where, and what was there before.
    undo: Vec<(Box<[u8]>, Option<Interval>)>,
    bytes: usize,
}

impl Cover {
    /// Whether no range was deleted: the fast path of every read.
    pub(super) fn is_empty(&self) -> bool {
        self.intervals
            .as_ref()
            .is_none_or(|intervals| intervals.is_empty())
    }

    /// The number of the newest range delete that covers a key; 0 if none does.
    pub(super) fn number_at(&self, key: &[u8]) -> u64 {
        let Some(intervals) = &self.intervals else {
            return 0;
        };
        let before = intervals
            .range::<[u8], _>((Bound::Unbounded, Bound::Included(key)))
            .next_back();
        match before {
            Some((_, (end, number))) if end.is_after(key) => *number,
            _ => 0,
        }
    }

    /// The number of the newest range delete.
    pub(super) fn newest(&self) -> u64 {
        let intervals = self
            .intervals
            .iter()
            .flat_map(|intervals| intervals.values());
        intervals.map(|(_, number)| *number).max().unwrap_or(0)
    }

    /// The intervals in order: start, end (`None`: open).
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        self.intervals
            .iter()
            .flat_map(|intervals| intervals.iter())
            .map(|(start, (end, _))| (&**start, end.as_key()))
    }

    /// The intervals that have changed since the last [`Cover::keep`].
    pub(super) fn changed(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        self.undo.iter().filter_map(|(start, _)| {
            let (start, (end, _)) = self.intervals.as_ref()?.get_key_value(start)?;
            Some((&**start, end.as_key()))
        })
    }

    /// Bytes held, the price of each interval included.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// A copy for reading, without the means to undo.
    pub(super) fn view(&self) -> Cover {
        Cover {
            intervals: self.intervals.clone(),
            undo: Vec::new(),
            bytes: 0,
        }
    }

    /// A point to return to when undoing.
    pub(super) fn mark(&self) -> usize {
        self.undo.len()
    }

    /// Undoes every range delete since `mark`.
    pub(super) fn undo_to(&mut self, mark: usize) {
        while self.undo.len() > mark {
            if let Some((start, before)) = self.undo.pop() {
                self.replace(start, before);
            }
        }
    }

    /// Nothing can be undone past this point.
    pub(super) fn keep(&mut self) {
        self.undo.clear();
    }

    /// Sets the interval that begins at a key, or removes it.
    fn set(&mut self, start: &[u8], to: Option<Interval>) {
        let before = self.replace(start.into(), to);
        self.undo.push((start.into(), before));
    }

    fn replace(&mut self, start: Box<[u8]>, to: Option<Interval>) -> Option<Interval> {
        let cost = |interval: &Interval| {
            INTERVAL_BYTES + start.len() + interval.0.as_key().map_or(0, <[u8]>::len)
        };
        let added = to.as_ref().map_or(0, cost);
        let intervals = Arc::make_mut(self.intervals.get_or_insert_default());
        let before = match to {
            Some(interval) => intervals.insert(start.clone(), interval),
            None => intervals.remove(&start),
        };
        self.bytes = self.bytes + added - before.as_ref().map_or(0, cost);
        before
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
        let intervals = self.intervals.iter();
        let covered: Vec<Box<[u8]>> = intervals
            .flat_map(|intervals| intervals.range::<[u8], _>((Bound::Included(start), upper)))
            .map(|(start, _)| start.clone())
            .collect();
        for start in covered {
            self.set(&start, None);
        }
        let end = end.map_or(End::Open, |end| End::Before(end.into()));
        self.set(start, Some((end, number)));
    }

    /// Makes `key` a boundary: the interval that contains it becomes two.
    fn split_at(&mut self, key: &[u8]) {
        let below = (Bound::Unbounded, Bound::Excluded(key));
        let before = self
            .intervals
            .as_ref()
            .and_then(|intervals| intervals.range::<[u8], _>(below).next_back());
        if let Some((start, (end, number))) = before
            && end.is_after(key)
        {
            let (start, end, number) = (start.clone(), end.clone(), *number);
            self.set(&start, Some((End::Before(key.into()), number)));
            self.set(key, Some((end, number)));
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

    #[test]
    fn undoing_brings_back_what_was_replaced() {
        let mut cover = Cover::default();
        cover.insert(b"b", Some(b"f"), 1);
        cover.keep();
        let (kept, bytes) = (shown(&cover), cover.bytes());
        let mark = cover.mark();
        cover.insert(b"c", Some(b"d"), 2);
        cover.insert(b"", None, 3);
        cover.insert(b"x", Some(b"x"), 4);
        assert_eq!(cover.number_at(b"c"), 3);
        cover.undo_to(mark);
        assert_eq!((shown(&cover), cover.bytes()), (kept, bytes));
        assert_eq!(cover.number_at(b"c"), 1);
        cover.undo_to(0);
        assert_eq!(cover.bytes(), bytes, "what is kept stays");
    }

    #[test]
    fn empty_ranges_cost_nothing() {
        let mut cover = Cover::default();
        for number in 1..1_000 {
            cover.insert(b"m", Some(b"m"), number);
            cover.insert(b"z", Some(b"a"), number);
        }
        assert_eq!((cover.bytes(), cover.mark()), (0, 0));
    }

    fn shown(cover: &Cover) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
        cover
            .iter()
            .map(|(start, end)| (start.to_vec(), end.map(<[u8]>::to_vec)))
            .collect()
    }
}
