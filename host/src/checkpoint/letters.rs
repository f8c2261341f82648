//! What is written of dead letters outside of epochs: what is to be processed again, and what is given up.

use std::collections::{BTreeMap, BTreeSet};

use super::CommitError;
use super::committer::Committer;
use super::logs::Part;
use crate::connectors::log::LogReader as _;
use crate::model::{Messages, Offset, PartitionId, StreamId, TimestampMs};
use crate::records::{self, LetterRecord};
use crate::state::StateError;

/// A dead letter: its stream, partition and offset.
pub type LetterKey = (StreamId, PartitionId, Offset);

/// A dead letter that is to be replayed.
#[derive(Debug, Clone)]
pub struct QueuedLetter {
    /// The letter in the log, if it is one.
    pub mark: Option<LetterKey>,
    /// The partition that it was read from first, which is that of its task.
    pub partition: PartitionId,
    /// The letter, as it is in the log.
    pub message: Messages,
    /// It is given up: its task only notes that.
    pub drops: bool,
}

impl Committer {
    /// Appends dead letters to the replay queue of their stage, in their order, and marks them as queued: all in one write. Letters
    /// that are marked already are left out. Returns how many were appended.
    ///
    /// # Errors
    /// What happened is unknown: the process must end.
    pub fn queue_letters(
        &mut self,
        queue: StreamId,
        letters: &[QueuedLetter],
        now: TimestampMs,
    ) -> Result<u64, CommitError> {
        let mut appended_letters = 0;
        let mut marked = BTreeSet::new();
        self.write_alone(|committer, writes, appended| {
            let logs = committer.appender.logs();
            let mut queued: BTreeMap<PartitionId, Messages> = BTreeMap::new();
            for letter in letters {
                let partition = letter.partition;
                if let Some(mark) = letter.mark {
                    let before: Option<LetterRecord> = records::get(&committer.db, &mark)?;
                    if before.is_some() || !marked.insert(mark) {
                        continue;
                    }
                    let ahead = queued.get(&partition).map_or(0, Messages::len) as u64;
                    let offset = logs.bounds(queue, partition).1 + ahead;
                    let record = match letter.drops {
                        true => LetterRecord::Dropped,
                        false => LetterRecord::Queued {
                            queue,
                            partition,
                            offset,
                        },
                    };
                    records::put(writes, &mark, &record);
                }
                let messages = queued.entry(partition).or_default();
                messages.push(letter.message.get(0));
                appended_letters += 1;
            }
            for (partition, messages) in &queued {
                let at = (queue, *partition);
                let range = 0..messages.len();
                let all = [Part { messages, range }];
                committer.appender.append(writes, appended, at, all, now)?;
            }
            Ok(())
        })?;
        self.appender.mark_letters(marked.iter());
        Ok(appended_letters)
    }

    /// Marks dead letters as dropped, in one write. Those that are marked already are left out. Returns how many were marked.
    ///
    /// # Errors
    /// What happened is unknown: the process must end.
    pub fn drop_letters(&mut self, letters: &[LetterKey]) -> Result<u64, CommitError> {
        let mut dropped = BTreeSet::new();
        self.write_alone(|committer, writes, _| {
            for letter in letters {
                let before: Option<LetterRecord> = records::get(&committer.db, letter)?;
                if before.is_none() && dropped.insert(*letter) {
                    records::put(writes, letter, &LetterRecord::Dropped);
                }
            }
            Ok(())
        })?;
        self.appender.mark_letters(dropped.iter());
        Ok(dropped.len() as u64)
    }

    /// Counts some dead letters that were marked in former runs.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn count_letters(&mut self) -> Result<(), StateError> {
        self.appender.count_letters()
    }

    /// Deletes the marks of letters that retention has deleted.
    ///
    /// # Errors
    /// What happened is unknown: the process must end.
    pub fn forget_letters(&mut self) -> Result<(), CommitError> {
        self.write_alone(|committer, writes, _| {
            for ((stream, partition), oldest) in committer.appender.logs().all_oldest() {
                let (first, end) = ((stream, partition, 0), (stream, partition, oldest));
                let gone: Option<(LetterKey, LetterRecord)> =
                    records::first(&committer.db, &first, &end)?;
                if gone.is_some() {
                    records::delete_range::<LetterRecord>(writes, &first, &end);
                }
            }
            Ok(())
        })
    }
}
