//! Retention: which chunks of the embedded log a write deletes.

use super::append::{Appended, LogAppender, Partition};
use super::stored::{Place, Stored};
use crate::model::{Offset, PartitionId, StreamId, TimestampMs};
use crate::records::LogRecord;
use crate::state::{Family, Order, StateError, WriteSet, keys};

/// No more chunks than this are deleted one by one. Every reader of the log pays for a range delete in RocksDB.
const DELETED_ONE_BY_ONE: usize = 64;

/// No write deletes more chunks than this of a partition: the rest goes with the next ones.
const DELETED_AT_ONCE: usize = 1 << 14;

/// What a partition may keep.
struct Bounds {
    bytes: Option<u64>,
    /// What was appended before this goes.
    oldest: TimestampMs,
    /// No chunk goes that ends behind this offset.
    unread: Offset,
}

/// The oldest chunks of a partition, which go.
struct Gone {
    /// The offsets of the first of them, one more than are deleted one by one.
    first: Vec<Offset>,
    /// How many they are.
    chunks: usize,
    /// Where those are that are in segments.
    places: Vec<Place>,
    /// What is left.
    left: LogRecord,
}

impl Bounds {
    fn are_exceeded(&self, bytes: u64, oldest: TimestampMs) -> bool {
        self.bytes.is_some_and(|most| bytes > most) || oldest < self.oldest
    }
}

impl LogAppender {
    /// Deletes the chunks that retention does not keep. `unread_from` gives the first offset the job has not read, for partitions it
    /// reads.
    pub(in crate::checkpoint) fn retain(
        &self,
        writes: &mut WriteSet<'_>,
        appended: &mut Appended,
        unread_from: &dyn Fn(StreamId, PartitionId) -> Option<Offset>,
        now: TimestampMs,
    ) -> Result<(), StateError> {
        for (at, partition) in &self.partitions {
            let retention = partition.retention;
            if retention.bytes.is_none() && retention.age.is_none() {
                continue;
            }
            let bounds = Bounds {
                bytes: retention.bytes,
                oldest: retention.age.map_or(TimestampMs::MIN, |age| {
                    now.saturating_sub(i64::try_from(age.as_millis()).unwrap_or(i64::MAX))
                }),
                unread: match retention.drop_unread {
                    true => u64::MAX,
                    false => unread_from(at.0, at.1).unwrap_or(u64::MAX),
                },
            };
            let before = self.current(appended, *at);
            if let Some(gone) = self.find_gone(*at, partition, before, &bounds)? {
                delete(writes, *at, before.start, &gone);
                appended.set(*at, gone.left);
                for place in gone.places {
                    self.segments.delete(&mut appended.segments, place)?;
                }
            }
        }
        Ok(())
    }

    fn find_gone(
        &self,
        at: (StreamId, PartitionId),
        partition: &Partition,
        before: LogRecord,
        bounds: &Bounds,
    ) -> Result<Option<Gone>, StateError> {
        let known = partition.first.get();
        let known = known.filter(|(base, _)| *base == before.start);
        // Nearly always nothing is due, and what was read of the oldest chunk says so.
        if before.start == partition.record.end
            || known.is_some_and(|(_, when)| !bounds.are_exceeded(before.bytes, when))
        {
            return Ok(None);
        }
        // What this very write appends is not in the database yet, and stays.
        let lower = keys::log_chunk(at.0, at.1, before.start);
        let upper = keys::log_chunk(at.0, at.1, partition.record.end);
        let mut walk = self.logs.db.walk(Family::Log, lower, upper, Order::Up);
        let mut gone = Gone {
            first: Vec::new(),
            chunks: 0,
            places: Vec::new(),
            left: before,
        };
        while let Some((key, stored)) = walk.entry()? {
            let stored = Stored::of(stored)?;
            let (when, count, bytes) = stored.peek()?;
            let base = keys::trailing_number(key).unwrap_or_default();
            let end = base + count;
            if base == before.start {
                partition.first.set(Some((base, when)));
            }
            let is_enough = gone.chunks == DELETED_AT_ONCE;
            if is_enough || !bounds.are_exceeded(gone.left.bytes, when) || end > bounds.unread {
                break;
            }
            gone.chunks += 1;
            gone.left.start = end;
            gone.left.bytes = gone.left.bytes.saturating_sub(bytes);
            if let Stored::There(placed) = stored {
                gone.places.push(placed.place);
            }
            if gone.first.len() <= DELETED_ONE_BY_ONE {
                gone.first.push(base);
            }
            walk.advance();
        }
        Ok((gone.left.start > before.start).then_some(gone))
    }
}

fn delete(writes: &mut WriteSet<'_>, at: (StreamId, PartitionId), start: Offset, gone: &Gone) {
    let key = |base| keys::log_chunk(at.0, at.1, base);
    if gone.first.len() <= DELETED_ONE_BY_ONE {
        for base in &gone.first {
            writes.delete(Family::Log, &key(*base));
        }
    } else {
        writes.delete_range(Family::Log, &key(start), &key(gone.left.start));
    }
}
