//! A look through the letters of streams.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use super::{Found, LetterFilter, LetterId, LetterState, Letters, LettersError, StageLetters};
use crate::checkpoint::catalog::Catalog;
use crate::coordinator::view::{Deleted, LogError, View};
use crate::model::letter::{self, Letter};
use crate::model::{MessageRef, Offset, PartitionId, StageId, StreamId, TaskId, TimestampMs};
use crate::records::{LetterRecord, StreamRecord};

/// A look through letters.
pub(super) struct Look<'a> {
    pub(super) letters: &'a Letters,
    pub(super) filter: &'a LetterFilter,
    pub(super) left: u64,
    /// The letters that were found of those that are named.
    pub(super) named: BTreeSet<LetterId>,
    pub(super) each: &'a mut dyn FnMut(Found<'_>) -> ControlFlow<()>,
}

impl Look<'_> {
    pub(super) fn stream(
        &mut self,
        name: &str,
        stages: &[&StageLetters],
    ) -> Result<ControlFlow<()>, LettersError> {
        let view = &self.letters.view;
        let catalog = view.catalog().map_err(LogError::from)?;
        let Some(stream) = catalog.streams.get(name) else {
            // Nothing has run yet.
            return Ok(ControlFlow::Continue(()));
        };
        let queues = QueuePositions::new(view, &catalog, stages)?;
        let after = self.filter.after.as_ref();
        let after = after.filter(|after| after.stream == name);
        let first = after.map_or(0, |after| after.partition.0);
        for partition in (first..stream.partitions).map(PartitionId) {
            let (oldest, end) = view.log_bounds(stream.id, partition);
            let after = after.filter(|after| after.partition == partition);
            let oldest = after.map_or(oldest, |after| oldest.max(after.offset.saturating_add(1)));
            let ids = self.filter.ids.iter();
            let ids = ids.filter(|id| id.stream == name && id.partition == partition);
            let ranges: Vec<_> = match self.filter.ids.is_empty() {
                true => vec![(oldest, end, Deleted::PassedOver)],
                false => ids
                    .map(|id| (id.offset, id.offset.saturating_add(1), Deleted::Refused))
                    .collect(),
            };
            for (first, end, deleted) in ranges {
                let part = LettersOf {
                    name,
                    stages,
                    stream: stream.id,
                    partition,
                    queues: &queues,
                };
                if self.range(&part, (first, end), deleted)?.is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn range(
        &mut self,
        of: &LettersOf<'_>,
        (first, end): (Offset, Offset),
        deleted: Deleted,
    ) -> Result<ControlFlow<()>, LettersError> {
        let view = &self.letters.view;
        let mut next = first;
        while next < end {
            if self.left == 0 {
                return Ok(ControlFlow::Break(()));
            }
            let read = view.log_read(of.name, of.partition, next, deleted)?;
            let count = read.messages.len() as u64;
            if count == 0 && deleted == Deleted::Refused {
                let why = format!("there is no letter {}/{}/{next}", of.name, of.partition);
                return Err(LettersError::Refused(why));
            }
            let marks = view
                .letter_marks(of.stream, of.partition, read.first..read.first + count)
                .map_err(LogError::from)?;
            for index in 0..read.messages.len() {
                let offset = read.first + index as u64;
                if offset >= end || self.left == 0 {
                    break;
                }
                let message = read.messages.get(index);
                if let Some(found) = self.found(of, offset, message, marks.get(&offset)) {
                    self.left -= 1;
                    if (self.each)(found).is_break() {
                        return Ok(ControlFlow::Break(()));
                    }
                }
            }
            next = read.first + count;
            if count == 0 {
                break;
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// The letter that a message is, if it is meant.
    fn found<'a>(
        &mut self,
        of: &LettersOf<'a>,
        offset: Offset,
        message: MessageRef<'a>,
        mark: Option<&LetterRecord>,
    ) -> Option<Found<'a>> {
        let letter = Letter::of(message)?;
        if letter.text(letter::JOB) != Some(&self.letters.job) {
            return None;
        }
        let name = letter.text(letter::STAGE)?;
        let stage = of.stages.iter().find(|stage| stage.stage == name)?;
        let filter = self.filter;
        let id = LetterId {
            stream: of.name.to_owned(),
            partition: of.partition,
            offset,
        };
        if !filter.ids.is_empty() {
            self.named.insert(id.clone());
        }
        let is = |wanted: &Option<String>, name| {
            let wanted = wanted.as_deref();
            wanted.is_none_or(|wanted| letter.text(name) == Some(wanted))
        };
        let time = || letter.text(letter::TIME)?.parse::<TimestampMs>().ok();
        let after = |since| time().is_some_and(|time| time >= since);
        let before = |until| time().is_some_and(|time| time < until);
        let component = |wanted: &String| {
            let component = letter.text(letter::COMPONENT);
            component.is_some_and(|component| component.starts_with(wanted))
        };
        let key = |key: &String| message.key == Some(key.as_bytes());
        let state = of.queues.state(mark);
        let is_meant = is(&filter.group, letter::GROUP)
            && is(&filter.kind, letter::KIND)
            && filter.component.as_ref().is_none_or(component)
            && filter.key.as_ref().is_none_or(key)
            && filter.since.is_none_or(after)
            && filter.until.is_none_or(before)
            && filter.state.is_none_or(|wanted| wanted == state);
        is_meant.then_some(Found {
            stage,
            id,
            key: (of.stream, of.partition, offset),
            state,
            message,
            letter,
        })
    }
}

/// A partition of a stream of letters.
struct LettersOf<'a> {
    name: &'a str,
    stages: &'a [&'a StageLetters],
    stream: StreamId,
    partition: PartitionId,
    queues: &'a QueuePositions,
}

/// How far tasks have come in the replay queues.
struct QueuePositions(BTreeMap<(StreamId, PartitionId), Offset>);

impl QueuePositions {
    fn new(
        view: &View,
        catalog: &Catalog,
        stages: &[&StageLetters],
    ) -> Result<QueuePositions, LettersError> {
        let mut positions = BTreeMap::new();
        for stage in stages {
            let queue = catalog
                .streams
                .get(&StreamRecord::replay_queue(&stage.stage));
            let known = catalog.stages.get(&stage.stage);
            let (Some(queue), Some(known)) = (queue, known) else {
                continue;
            };
            let id: StageId = known.id;
            for partition in (0..known.partitions).map(PartitionId) {
                let task = TaskId {
                    stage: id,
                    partition,
                };
                let record = view.task(task).map_err(LogError::from)?;
                let position = record.and_then(|record| record.positions.get(&queue.id).cloned());
                if let Some(position) = position {
                    positions.insert((queue.id, partition), position.next);
                }
            }
        }
        Ok(QueuePositions(positions))
    }

    fn state(&self, mark: Option<&LetterRecord>) -> LetterState {
        match mark {
            None => LetterState::Open,
            Some(LetterRecord::Dropped) => LetterState::Dropped,
            Some(LetterRecord::Queued {
                queue,
                partition,
                offset,
            }) => match self.0.get(&(*queue, *partition)) {
                Some(next) if next > offset => LetterState::Done,
                _ => LetterState::Queued,
            },
        }
    }
}
