//! How many dead letters are open, and how many of them retention has deleted: counted beside the writes, for those who ask.
//!
//! A letter is open as long as it has no mark. So what is counted are marks: once, some at a time, by a walk over those of former runs, and
//! from then on by the writes. While the walk goes on, a write counts what lies before the place that it has come to.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::checkpoint::LetterKey;
use crate::model::{Offset, PartitionId, StreamId};
use crate::records::{self, LetterRecord};
use crate::state::{Db, StateError};

/// Marks that a step of the walk counts at most: some ten milliseconds.
const STEP: usize = 20_000;

/// Of one stream with dead letters.
#[derive(Debug, Default)]
struct Counts {
    /// Letters with a mark that are still there.
    marked: AtomicU64,
    /// Open letters that retention has deleted.
    expired: AtomicU64,
}

/// What is known of the letters, for all threads.
#[derive(Debug, Default)]
pub struct LetterCounts {
    streams: BTreeMap<StreamId, Counts>,
    /// The walk has come to its end.
    are_known: AtomicBool,
}

impl LetterCounts {
    /// How many letters of a stream are marked, once that is known, and how many that were open are deleted since the start.
    pub fn of(&self, stream: StreamId) -> Option<(Option<u64>, u64)> {
        let counts = self.streams.get(&stream)?;
        let known = self.are_known.load(Ordering::Acquire);
        let marked = known.then(|| counts.marked.load(Ordering::Relaxed));
        Some((marked, counts.expired.load(Ordering::Relaxed)))
    }
}

/// The counting side. Owned by the committer.
pub(super) struct LetterCounter {
    pub(super) counts: Arc<LetterCounts>,
    /// Everything before it is counted; `None`: everything.
    walked_to: Option<LetterKey>,
    /// Something could not be read, so that the counts are wrong from then on.
    is_wrong: bool,
}

impl LetterCounter {
    pub(super) fn new(streams: impl Iterator<Item = StreamId>) -> LetterCounter {
        let streams: BTreeMap<_, _> = streams.map(|id| (id, Counts::default())).collect();
        let first = streams
            .keys()
            .next()
            .map(|first| (*first, PartitionId(0), 0));
        LetterCounter {
            counts: Arc::new(LetterCounts {
                are_known: AtomicBool::new(first.is_none()),
                streams,
            }),
            walked_to: first,
            is_wrong: false,
        }
    }

    /// Counts some marks of former runs. `oldest`: the first offset that a partition still has.
    pub(super) fn walk(
        &mut self,
        db: &Db,
        oldest: impl Fn(StreamId, PartitionId) -> Offset,
    ) -> Result<(), StateError> {
        let (Some(from), Some((last, _))) = (self.walked_to, self.counts.streams.last_key_value())
        else {
            return Ok(());
        };
        let end = (StreamId(last.0 + 1), PartitionId(0), 0);
        let mut to = None;
        let mut left = STEP;
        records::while_each::<LetterRecord>(db, &from, &end, |key, _| {
            if left == 0 {
                to = Some(key);
                return false;
            }
            left -= 1;
            let (stream, partition, offset) = key;
            if let Some(counts) = self.counts.streams.get(&stream)
                && offset >= oldest(stream, partition)
            {
                counts.marked.fetch_add(1, Ordering::Relaxed);
            }
            true
        })?;
        self.walked_to = to;
        if to.is_none() && !self.is_wrong {
            self.counts.are_known.store(true, Ordering::Release);
        }
        Ok(())
    }

    /// Letters that had no mark have one.
    pub(super) fn mark<'a>(&self, letters: impl Iterator<Item = &'a LetterKey>) {
        for letter in letters.filter(|letter| self.has_walked(letter)) {
            if let Some(counts) = self.counts.streams.get(&letter.0) {
                counts.marked.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Retention has deleted the letters of a partition between these offsets. Gives how many of them were open.
    pub(super) fn expire(
        &self,
        db: &Db,
        (stream, partition): (StreamId, PartitionId),
        (from, to): (Offset, Offset),
    ) -> Result<u64, StateError> {
        let Some(counts) = self.counts.streams.get(&stream).filter(|_| from < to) else {
            return Ok(0);
        };
        let (first, end) = ((stream, partition, from), (stream, partition, to));
        let (mut marked, mut counted) = (0, 0);
        records::while_each::<LetterRecord>(db, &first, &end, |key, _| {
            marked += 1;
            counted += u64::from(self.has_walked(&key));
            true
        })?;
        counts.marked.fetch_sub(counted, Ordering::Relaxed);
        let open = to - from - marked;
        counts.expired.fetch_add(open, Ordering::Relaxed);
        Ok(open)
    }

    /// How many are open is not known any more.
    pub(super) fn give_up(&mut self) {
        self.is_wrong = true;
        self.counts.are_known.store(false, Ordering::Release);
    }

    fn has_walked(&self, letter: &LetterKey) -> bool {
        self.walked_to.is_none_or(|to| *letter < to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::logs::{Retention, testing};
    use crate::connectors::testing::Folder;

    #[test]
    fn counts_that_are_wrong_are_not_known_again_when_the_walk_ends() {
        let folder = Folder::new();
        let (db, _committer, id) = testing::one_log(&folder, 1, Retention::default());
        let counter = || LetterCounter::new([id].into_iter());
        let (mut good, mut wrong) = (counter(), counter());
        wrong.give_up();
        for counter in [&mut good, &mut wrong] {
            counter.walk(&db, |_, _| 0).expect("it can be read");
        }
        assert_eq!(good.counts.of(id), Some((Some(0), 0)));
        assert_eq!(wrong.counts.of(id), Some((None, 0)));
    }
}
