//! `log`: the embedded durable log. Reading goes through [`LogReader`], which the checkpoint's side implements, so that
//! only what is published can be read; writing is part of the commit and is not here.

mod replay;

use std::sync::Arc;

use super::{
    FetchBounds, Fetched, Input, OpenAt, Polled, Progress, ProgressUnit, Ready, Source, SourceError,
};
use crate::model::{Messages, Offset, PartitionId, Position, StartAt, StreamId, TimestampMs};
pub use replay::ReplayInput;

/// Messages of a partition with their offsets, dense from `first`.
#[derive(Debug, Clone, Default)]
pub struct LogRead {
    /// The offset of the first message.
    pub first: Offset,
    /// The messages; none if `from` is the end.
    pub messages: Messages,
}

/// The published part of the embedded log.
pub trait LogReader: Send + Sync {
    /// Messages from `from` on: at least one, if there is any, and whole chunks up to about `bytes_max`.
    ///
    /// # Errors
    /// `from` was deleted by retention or is past the end, or a chunk is damaged.
    fn read(
        &self,
        stream: StreamId,
        partition: PartitionId,
        from: Offset,
        bytes_max: usize,
    ) -> Result<LogRead, SourceError>;

    /// The first offset that still exists, and the one after the last that readers may see.
    fn bounds(&self, stream: StreamId, partition: PartitionId) -> (Offset, Offset);

    /// The first offset whose message is not older than `time`, or the end.
    ///
    /// # Errors
    /// A chunk is damaged.
    fn offset_at(
        &self,
        stream: StreamId,
        partition: PartitionId,
        time: TimestampMs,
    ) -> Result<Offset, SourceError>;

    /// Completes when the end of the partition is past `end`.
    fn past(&self, stream: StreamId, partition: PartitionId, end: Offset) -> Ready<'_>;
}

/// A log stream as an input.
pub struct LogInput {
    reader: Arc<dyn LogReader>,
    stream: StreamId,
    partitions: u32,
    unread: Unread,
}

/// Whether the log keeps what the job has not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unread {
    /// It does: a deleted position is an error.
    Kept,
    /// It does not: reading goes on at the oldest message.
    Dropped,
}

impl LogInput {
    /// The stream of this id and number of partitions.
    pub fn new(
        reader: Arc<dyn LogReader>,
        stream: StreamId,
        partitions: u32,
        unread: Unread,
    ) -> LogInput {
        LogInput {
            reader,
            stream,
            partitions,
            unread,
        }
    }
}

/// Where a reader without a position begins.
///
/// # Errors
/// The log is damaged.
pub fn start_of(
    reader: &dyn LogReader,
    stream: StreamId,
    partition: PartitionId,
    start: StartAt,
) -> Result<Offset, SourceError> {
    let (oldest, end) = reader.bounds(stream, partition);
    match start {
        StartAt::Oldest => Ok(oldest),
        StartAt::Latest => Ok(end),
        StartAt::Offset(offset) => Ok(offset),
        StartAt::Time(time) => reader.offset_at(stream, partition, time),
        StartAt::Group => Err(SourceError::no_group()),
    }
}

impl Input for LogInput {
    fn partitions(&self) -> u32 {
        self.partitions
    }

    fn bounded(&self) -> bool {
        false
    }

    fn polls_may_block(&self) -> bool {
        false
    }

    fn rewindable(&self) -> bool {
        true
    }

    fn open(&self, partition: PartitionId, at: OpenAt) -> Result<Box<dyn Source>, SourceError> {
        let (oldest, end) = self.reader.bounds(self.stream, partition);
        let dropped = self.unread == Unread::Dropped && matches!(at, OpenAt::Position(_));
        let next = match at {
            OpenAt::Position(position) => position.next,
            OpenAt::Start(start) => start_of(&*self.reader, self.stream, partition, start)?,
        };
        if next < oldest && !dropped || next > end {
            return Err(SourceError::OffsetOutOfRange {
                place: None,
                offset: next,
                oldest,
                end,
            });
        }
        Ok(Box::new(LogSource {
            reader: Arc::clone(&self.reader),
            stream: self.stream,
            partition,
            unread: self.unread,
            begin: next,
            next,
            pending: LogRead::default(),
            taken: 0,
        }))
    }
}

struct LogSource {
    reader: Arc<dyn LogReader>,
    stream: StreamId,
    partition: PartitionId,
    unread: Unread,
    begin: Offset,
    next: Offset,
    /// The last read, of which the first `taken` messages have been given out.
    pending: LogRead,
    taken: usize,
}

impl Source for LogSource {
    fn poll(&mut self, bounds: FetchBounds) -> Result<Polled, SourceError> {
        if self.taken == self.pending.messages.len() {
            let (_, end) = self.reader.bounds(self.stream, self.partition);
            if self.next == end {
                return Ok(Polled::Idle);
            }
            let read = self
                .reader
                .read(self.stream, self.partition, self.next, bounds.bytes);
            match read {
                Err(SourceError::OffsetOutOfRange { oldest, .. })
                    if oldest > self.next && self.unread == Unread::Dropped =>
                {
                    let messages = oldest - std::mem::replace(&mut self.next, oldest);
                    let at = Position {
                        next: oldest,
                        detail: None,
                    };
                    return Ok(Polled::Skipped { at, messages });
                }
                read => self.pending = read?,
            }
            self.taken = 0;
        }
        let left = self.pending.messages.len() - self.taken;
        let count = left.min(bounds.messages.max(1));
        let first = self.pending.first + self.taken as u64;
        let messages = if count == self.pending.messages.len() {
            std::mem::take(&mut self.pending.messages)
        } else {
            let mut part = Messages::default();
            part.extend_from(&self.pending.messages, self.taken..self.taken + count);
            self.taken += count;
            part
        };
        self.next = first + count as u64;
        Ok(Polled::Messages(Fetched {
            offsets: (first..self.next).collect(),
            messages,
            ..Fetched::default()
        }))
    }

    fn ready(&mut self) -> Ready<'_> {
        self.reader.past(self.stream, self.partition, self.next)
    }

    fn progress(&self) -> Option<Progress> {
        let (_, end) = self.reader.bounds(self.stream, self.partition);
        Some(Progress {
            done: self.next,
            total: end,
            unit: ProgressUnit::Messages,
        })
    }

    fn begins_at(&self) -> Option<Position> {
        Some(Position {
            next: self.begin,
            detail: None,
        })
    }
}
