//! Chunks of output that a stage holds: as those of the log, under other keys, until it is known whether they go out.

use super::append::{Appended, LogAppender, Parts};
use super::stored::Stored;
use crate::checkpoint::BuildError;
use crate::connectors::SourceError;
use crate::epoch::Sent;
use crate::model::{PartitionId, StageId, StreamId, TimestampMs};
use crate::records::HoldRecord;
use crate::state::{Family, Order, StateError, WriteSet, keys};

impl LogAppender {
    /// Holds what a stage has sent.
    pub(in crate::checkpoint) fn hold(
        &self,
        writes: &mut WriteSet<'_>,
        appended: &mut Appended,
        stage: StageId,
        hold: &mut HoldRecord,
        sent: Parts<'_>,
        now: TimestampMs,
    ) -> Result<(), BuildError> {
        for (at, parts) in sent {
            self.cut(writes, appended, parts, now, |_, len| {
                let key = keys::held_chunk(stage, hold.next, at);
                hold.next += 1;
                hold.output_bytes += len;
                hold.streams.insert(at.0);
                key
            })?;
        }
        Ok(())
    }

    /// Gives the oldest held chunks to the logs that they are for, so many bytes or one chunk, appended at this time; what is for other
    /// streams is returned.
    pub(in crate::checkpoint) fn release(
        &self,
        writes: &mut WriteSet<'_>,
        appended: &mut Appended,
        stage: StageId,
        hold: &mut HoldRecord,
        (most, now): (u64, TimestampMs),
    ) -> Result<Sent, BuildError> {
        let mut out = Sent::new();
        let mut released = 0;
        self.each_held(stage, hold, |hold, key, stored, at| {
            if released >= most {
                return Ok(false);
            }
            let held = Stored::of(stored)?;
            let (_, count, bytes) = held.peek()?;
            writes.delete(Family::Log, key);
            if self.holds(at) {
                let mut record = self.current(appended, at);
                let to = keys::log_chunk(at.0, at.1, record.end);
                writes.put(Family::Log, &to, &held.appended_at(now));
                record.end += count;
                record.bytes += bytes;
                appended.set(at, record);
            } else {
                let messages = self.logs.messages_of(&held).map_err(unreadable)?;
                out.entry(at)
                    .or_default()
                    .extend_from(&messages, 0..messages.len());
                if let Stored::There(placed) = held {
                    self.segments.delete(&mut appended.segments, placed.place)?;
                }
            }
            hold.first += 1;
            hold.output_bytes = hold.output_bytes.saturating_sub(bytes);
            released += bytes;
            Ok(true)
        })?;
        Ok(out)
    }

    /// Deletes all held chunks of a stage.
    pub(in crate::checkpoint) fn drop_held(
        &self,
        writes: &mut WriteSet<'_>,
        appended: &mut Appended,
        stage: StageId,
        hold: &mut HoldRecord,
    ) -> Result<(), BuildError> {
        let range = |number| keys::held_chunks_from(stage, number);
        writes.delete_range(Family::Log, &range(hold.first), &range(hold.next));
        self.each_held(stage, hold, |_, _, stored, _| {
            if let Stored::There(placed) = Stored::of(stored)? {
                self.segments.delete(&mut appended.segments, placed.place)?;
            }
            Ok(true)
        })?;
        hold.first = hold.next;
        hold.output_bytes = 0;
        Ok(())
    }

    /// Walks over the held chunks of a stage as long as `each` says `true`: its key, what is stored, and where it is to go.
    fn each_held(
        &self,
        stage: StageId,
        hold: &mut HoldRecord,
        mut each: impl FnMut(
            &mut HoldRecord,
            &[u8],
            &[u8],
            (StreamId, PartitionId),
        ) -> Result<bool, StateError>,
    ) -> Result<(), StateError> {
        let mut expected = hold.first;
        let lower = keys::held_chunks_from(stage, hold.first);
        let upper = keys::held_chunks_from(stage, hold.next);
        let mut walk = self.logs.db.walk(Family::Log, lower, upper, Order::Up);
        while let Some((key, stored)) = walk.entry()? {
            let (number, at) = keys::of_held_chunk(key).unwrap_or_default();
            if number != expected {
                break;
            }
            if !each(hold, key, stored, at)? {
                return Ok(());
            }
            expected += 1;
            walk.advance();
        }
        match expected == hold.next {
            true => Ok(()),
            false => Err(StateError::Damaged(format!(
                "chunk {expected} of what stage {stage} holds is missing"
            ))),
        }
    }
}

fn unreadable(error: SourceError) -> StateError {
    match error {
        SourceError::Damaged { what } => StateError::Damaged(what),
        other => StateError::Damaged(other.to_string()),
    }
}
