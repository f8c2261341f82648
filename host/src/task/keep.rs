//! What a task changes in its own books: when a batch is kept, when a position moves, when its inputs have ended.

use std::sync::atomic::Ordering;

use super::{Arrival, Recorded, Task};
use crate::connectors::Fetched;
use crate::model::{Batch, Detail, InputIndex, Offset, Position, TimestampMs};

impl Task {
    /// The next checkpoint must contain something that it did.
    pub(super) fn change(&mut self) {
        self.dirty = true;
        self.worked = true;
    }

    /// An input begins at a place. `chosen`: another start would choose another place; told when a checkpoint has recorded it.
    pub(super) fn keep_beginning(
        &mut self,
        input: InputIndex,
        position: Position,
        chosen: Option<Recorded>,
    ) {
        self.keep_position(input, position);
        if let Some(recorded) = chosen {
            self.change();
            self.begun.push((self.stream_of(input).1, recorded));
            self.begins = true;
        }
    }

    /// The next message of an input is at a position. That alone is no reason for a checkpoint.
    pub(super) fn keep_position(&mut self, input: InputIndex, position: Position) {
        self.figures.positions[input.index()].store(position.next, Ordering::Relaxed);
        let stream = self.stream_of(input).1;
        self.record.positions.insert(stream, position);
    }

    /// Keeps a batch, of which the first `done` messages were processed. The others go back to the inbox.
    pub(super) fn keep_batch(
        &mut self,
        batch: &Batch,
        done: usize,
        (start_detail, end_detail): (Option<Detail>, Option<Detail>),
    ) {
        self.guest.context_mut().keep_batch();
        let next = batch.offsets[done - 1] + 1;
        let all = done == batch.len();
        let detail = if all {
            end_detail.clone()
        } else {
            start_detail.clone()
        };
        if !all {
            let rest = batch.slice(done..batch.len());
            self.put_back(rest, (start_detail, end_detail));
        }
        self.keep_position(batch.input, Position { next, detail });
        self.clear_suspects(batch, done);
        // The rest may be of a later time, and is not processed.
        let latest = latest(&batch.messages.timestamps[..done]);
        // Before the first it is 0, and a first one may be older than the epoch of Unix.
        self.record.latest = match self.record.processed {
            0 => latest,
            _ => self.record.latest.max(latest),
        };
        if batch.origin.as_ref().is_none_or(|origin| !origin.drops) {
            self.record.processed += done as u64;
        }
        self.keep_counts(done);
        self.record.ended = false;
        self.change();
        let figures = &self.figures;
        figures
            .processed
            .store(self.record.processed, Ordering::Relaxed);
        figures
            .rejected
            .store(self.record.rejected, Ordering::Relaxed);
        figures.batches.fetch_add(1, Ordering::Relaxed);
    }

    /// Keeps what became of a record that is no message.
    pub(super) fn keep_passed(
        &mut self,
        input: InputIndex,
        offset: Offset,
        detail: Option<Detail>,
    ) {
        self.guest.context_mut().keep_batch();
        self.keep_counts(1);
        let next = offset + 1;
        self.keep_position(input, Position { next, detail });
        self.record.ended = false;
        self.change();
    }

    /// Messages come first again in the inbox, as they were read.
    pub(super) fn put_back(
        &mut self,
        batch: Batch,
        (start_detail, end_detail): (Option<Detail>, Option<Detail>),
    ) {
        let fetched = Fetched {
            offsets: batch.offsets,
            messages: batch.messages,
            origin: batch.origin,
            start_detail,
            end_detail,
        };
        self.inbox
            .push_front(batch.input, Arrival::Messages(fetched));
    }

    /// Keeps what a call of `on-end` did.
    pub(super) fn keep_end_call(&mut self) {
        self.guest.context_mut().keep_batch();
        self.change();
    }

    /// All inputs have ended, and the guest has nothing more to send.
    pub(super) fn keep_ended(&mut self) {
        if !self.record.ended {
            self.record.ended = true;
            self.change();
        }
        self.life.end();
    }
}

/// The latest of some timestamps; 0 if there are none.
pub(super) fn latest(timestamps: &[TimestampMs]) -> TimestampMs {
    timestamps.iter().copied().max().unwrap_or_default()
}
