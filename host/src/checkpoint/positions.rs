//! Positions that a person moves.

use super::{CommitError, Committer};
use crate::model::{Offset, Position, StreamId, TaskId};
use crate::records::{self, TaskRecord};

impl Committer {
    /// Tasks go on at other offsets of a stream, and are held at nothing of it any more.
    ///
    /// # Errors
    /// What happened is unknown: the process must end.
    pub fn move_positions(
        &mut self,
        stream: StreamId,
        moved: &[(TaskId, Offset)],
    ) -> Result<(), CommitError> {
        self.write_alone(|committer, writes, _| {
            for (task, next) in moved {
                let record: Option<TaskRecord> = records::get(&committer.db, task)?;
                let mut record = record.unwrap_or_default();
                let position = Position {
                    next: *next,
                    detail: None,
                };
                record.positions.insert(stream, position);
                record.ended = false;
                let held = record.held.as_ref().and_then(|held| held.place());
                if held.is_some_and(|(of, _)| of == stream) {
                    record.held = None;
                }
                records::put(writes, task, &record);
            }
            Ok(())
        })?;
        for (task, next) in moved {
            self.mirrors.note(*task, stream, *next);
        }
        Ok(())
    }
}
