//! What a task does after the process died with a batch of it in a call: it takes the messages of that batch one by one, and none at
//! which the process died again and again.

use super::failure::Cause;
use super::parked::Front;
use super::{Task, TaskOptions};
use crate::connectors::Fetched;
use crate::crumbs::{DEATHS, Suspects};
use crate::model::{Batch, Offset};
use crate::records::TaskRecord;

/// Messages of a task at one of which the process may have died. Those that are committed are innocent.
pub(super) fn suspects(options: &TaskOptions, record: &TaskRecord) -> Vec<Suspects> {
    let suspects = options.crumbs.of(options.info.id);
    let next = |suspects: &Suspects| {
        let position = record.positions.get(&suspects.stream);
        position.map_or(0, |position| position.next)
    };
    let (open, done): (Vec<_>, Vec<_>) = suspects
        .into_iter()
        .partition(|suspects| suspects.last >= next(suspects));
    done.iter().for_each(|done| options.crumbs.clear(done));
    open
}

impl Task {
    /// The first messages of what was fetched that may be taken together.
    pub(super) fn careful(&mut self, fetched: &Fetched, stream_at: usize) -> Option<Front> {
        if self.suspects.is_empty() {
            return None;
        }
        let stream = self.options.inputs[stream_at].1;
        let first = *fetched.offsets.first()?;
        let of_stream = |suspects: &&Suspects| suspects.stream == stream;
        let deaths = self
            .suspects
            .iter()
            .filter(of_stream)
            .find(|suspects| suspects.first == suspects.last && suspects.first == first)
            .map_or(0, |suspects| suspects.alone);
        if deaths >= DEATHS {
            return Some(Front::Died(deaths));
        }
        let mut suspects = self.suspects.iter().filter(of_stream);
        if suspects.any(|suspects| (suspects.first..=suspects.last).contains(&first)) {
            return Some(Front::Alone);
        }
        let firsts = self.suspects.iter().filter(of_stream);
        let next = firsts
            .map(|suspects| suspects.first)
            .filter(|next| *next > first);
        let before = |next: Offset| fetched.offsets.partition_point(|offset| *offset < next);
        next.min().map(|next| Front::Process(before(next)))
    }

    /// The messages of a batch were processed, or passed over.
    pub(super) fn clear_suspects(&mut self, batch: &Batch, done: usize) {
        if self.suspects.is_empty() {
            return;
        }
        let (stream, last) = (self.stream_of(batch.input).1, batch.offsets[done - 1]);
        let crumbs = &self.options.crumbs;
        self.suspects.retain(|suspects| {
            let is_through = suspects.stream == stream && suspects.last <= last;
            if is_through {
                crumbs.clear(suspects);
            }
            !is_through
        });
    }

    /// A crumb for a batch.
    pub(super) fn crumb(&self, batch: &Batch) -> Suspects {
        Suspects {
            task: self.options.info.id,
            stream: self.stream_of(batch.input).1,
            first: batch.offsets[0],
            last: batch.offsets[batch.len() - 1],
            alone: 0,
        }
    }

    /// The process died at a message again and again.
    pub(super) fn died(deaths: u32) -> Cause {
        // The first death named the batch.
        Cause::Crash { deaths: deaths + 1 }
    }
}
