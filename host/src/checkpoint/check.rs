//! Whether what a directory holds fits together. Nothing is changed.

use std::path::Path;

use super::OpenError;
use crate::model::CommitKey;
use crate::records::{self, LogRecord, TaskRecord};
use crate::state::Db;

/// Whether tasks are where the directory's last checkpoint and its logs say that they can be.
///
/// # Errors
/// A record is ahead of what is there, or cannot be read.
pub fn check_tasks(path: &Path, db: &Db) -> Result<(), OpenError> {
    let state = |source| OpenError::State {
        path: path.to_owned(),
        source,
    };
    let refused = |why: String| OpenError::Refused {
        path: path.to_owned(),
        why: format!("{why}. It is damaged; restore a copy, or run `wasm-host reset`"),
    };
    let commit: Option<CommitKey> = records::get(db, &()).map_err(state)?;
    let commit = commit.unwrap_or_default();
    for (task, record) in records::list::<TaskRecord>(db).map_err(state)? {
        let at = record.stamp.container_epoch;
        if at > commit.epoch {
            return Err(refused(format!(
                "task {task:?} is at checkpoint {at}, but its last checkpoint is {}",
                commit.epoch
            )));
        }
        for (stream, position) in &record.positions {
            let log: Option<LogRecord> =
                records::get(db, &(*stream, task.partition)).map_err(state)?;
            if let Some(log) = log
                && position.next > log.end
            {
                return Err(refused(format!(
                    "task {task:?} has read up to offset {} of a log that ends at {}",
                    position.next, log.end
                )));
            }
        }
    }
    Ok(())
}
